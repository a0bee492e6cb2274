//! What every aquatic tracker keeps in common behind its sockets, whatever the protocol.
//!
//! ```text
//!  socket worker ── Dispatcher ──▶ batches ──▶ owner of the torrent's shard ── Registry: swarms of
//!        ▲                                      (a SwarmWorker, or another        both families,
//!        └────────── the same batches, ◀──────── socket worker)                   maintenance
//!                    processed
//! ```
//!
//! A daemon brings the protocol: it turns bytes into requests, says what a batch of them looks like
//! ([`shard::Batch`]), and how a shard processes it ([`shard::BatchProcessor`]), mostly by asking
//! its [`registry::Registry`]. What it counts is named by its [`counters::Protocol`].
//!
//! Everything but [`launch`], [`swarm_worker::start`], which starts threads, and
//! [`entropy::OsEntropy`] is pure: time and randomness come in as arguments.
//!
//! | module | contents |
//! |---|---|
//! | [`topology`], [`shard_set`] | which workers there are, who owns which shard |
//! | [`dispatcher`] | a socket worker's ways to all shards |
//! | [`shard`] | a shard, its owner, and who works with it |
//! | [`scrape`] | scrapes that concern several shards |
//! | [`waiting_lines`] | who waits until the owner of a shard has room |
//! | [`swarm_worker`] | the loop of a worker that owns a shard and nothing else |
//! | [`registry`], [`maintenance`] | the swarms of a shard, and what looks after them |
//! | [`launch`] | how a tracker starts |
//! | [`admission`] | which clients and torrents are served |
//! | [`limits`], [`limit_notes`] | how much a client may ask, and a shard may hold |
//! | [`counters`], [`report`], [`clients`] | what is counted |
//! | [`statistics`] | all of that put together: Prometheus metrics |
//! | [`config`] | what an operator can set for any tracker |
//! | [`entropy`] | where secrets come from |

#![forbid(unsafe_code)]

pub mod admission;
mod cleaning;
pub mod clients;
pub mod config;
pub mod counters;
pub mod dispatcher;
pub mod entropy;
pub mod launch;
pub mod limit_notes;
pub mod limits;
pub mod maintenance;
pub mod registry;
pub mod report;
pub mod scrape;
pub mod shard;
pub mod shard_set;
pub mod statistics;
pub mod swarm_worker;
pub mod topology;
pub mod waiting_lines;
