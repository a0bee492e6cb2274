//! What every aquatic tracker keeps in common behind its sockets, whatever the protocol.
//!
//! ```text
//!  socket worker ── Dispatcher ──▶ batches ──▶ owner of the torrent's shard ── AddressSwarms:
//!        ▲                                      (a SwarmWorker, or another      both families,
//!        └────────── the same batches, ◀──────── socket worker)                 maintenance
//!                    processed
//! ```
//!
//! A daemon brings the protocol: it turns bytes into requests, says what a batch of them looks like
//! ([`shard::Batch`]), and how a shard processes it ([`shard::BatchProcessor`]), mostly by asking
//! its [`shard::addresses::AddressSwarms`]. What it counts is named by its
//! [`metrics::counters::Protocol`].
//!
//! Everything but [`launch`], [`shard::swarm_worker::start`], which starts threads, and
//! [`entropy::OsEntropy`] is pure: time and randomness come in as arguments.
//!
//! | module | contents |
//! |---|---|
//! | [`launch`] | how a tracker starts |
//! | [`admission`] | which clients and torrents are served |
//! | [`announces`] | announces as they come, for a back end |
//! | [`dispatch`] | from a socket worker to all shards, and back |
//! | [`shard`] | a shard, its owner, and who works with it |
//! | [`guest`] | two front ends in one thread |
//! | [`metrics`] | what is counted, and how Prometheus is told |
//! | [`limits`], [`limit_notes`] | how much a client may ask, and a shard may hold |
//! | [`interval`] | when clients are told to announce again |
//! | [`live`] | settings that change while the tracker serves |
//! | [`persistence`] | swarms that outlive the process |
//! | [`torrents`] | torrents, for the operator: lists in files and at the endpoint |
//! | [`config`] | what an operator can set for any tracker |
//! | [`entropy`] | where secrets come from |

#![forbid(unsafe_code)]

pub mod admission;
pub mod announces;
pub mod config;
pub mod dispatch;
pub mod entropy;
pub mod guest;
pub mod interval;
pub mod launch;
pub mod limit_notes;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod persistence;
pub mod shard;
pub mod torrents;
