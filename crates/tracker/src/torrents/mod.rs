//! Torrents, for the operator: in a file, and at the operator's endpoint.
//!
//! ```text
//!   export (a thread) ──┐                            ┌──▶ ReadingSource ── shard 0
//!                       ├── ShardReaders: readings ──┤
//!   endpoint's thread ──┘   by info hash, or to all  └──▶ ReadingSource ── shard 1
//!          ▲                                                    │
//!          └───────────── lines, lists, counts, peers ◀─────────┘  a slice per round
//! ```
//!
//! No reader touches a shard from another thread, and no shard waits for a reader. What is written
//! down for the next process ([`persistence`](crate::persistence)) has a way of its own: its walk
//! must not miss a peer that moves meanwhile, and keeps book of that in the swarms. And what
//! clients ask over HTTP goes the way of all requests.
//!
//! | module | contents |
//! |---|---|
//! | [`reading`] | from somebody who wants to know something to the shards |
//! | [`readable`] | what a shard shows |
//! | [`export`] | all torrents, in a file |
//! | [`top`] | the largest torrents |
//! | [`single`] | one torrent, and some of its peers |
//! | [`pages`] | the last two, at the operator's endpoint |

pub mod export;
mod kinds;
mod lists;
pub mod pages;
mod parameters;
pub mod readable;
pub mod reading;
pub mod single;
#[cfg(test)]
mod test_tracker;
pub mod top;

/// What swarms are called whose peers are addresses, whether they announce over UDP or HTTP.
pub const BITTORRENT: &str = "bittorrent";

/// What swarms are called whose peers are introduced to each other over WebSockets.
pub const WEBTORRENT: &str = "webtorrent";
