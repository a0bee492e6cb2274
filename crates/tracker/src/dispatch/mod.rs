//! From a socket worker to all shards, and back.
//!
//! | module | contents |
//! |---|---|
//! | [`topology`] | which workers there are, and which of them own shards |
//! | [`shard_set`] | all shards, while they are connected with the workers |
//! | [`dispatcher`] | a socket worker's links to all shards |
//! | [`gather`] | scrapes that concern several shards |
//! | [`waiting_lines`] | who waits until the owner of a shard has room |

pub mod dispatcher;
pub mod gather;
pub mod shard_set;
pub mod topology;
pub mod waiting_lines;
