//! What trackers over TCP and TLS have in common, whatever the protocol.
//!
//! [`aquatic_stream`] holds connections and knows no swarms; [`aquatic_tracker`] holds swarms and
//! knows no connections. A daemon brings what lies between them: how bytes become requests, and how
//! swarms answer. What is left is here, since it is the same for all of them: how the two are
//! configured, started and measured together.
//!
//! ```text
//!   daemon                         this crate
//!   config.common() ────────────▶  Launch::prepare   sockets are bound, rights are given up
//!   build_workers(...)    ◀────────────  wakers, access list, certificate
//!        └── Workers ───────▶  Launch::serve     workers run
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `config` | what an operator can set for any of these trackers: [`CommonConfig`] |
//! | `workers` | a tracker, as a list of parts: [`StreamTracker`], [`Workers`] |
//! | `launch` | the start: [`Launch`] |
//! | `following` | settings of a socket worker that change: [`Following`] |
//! | `statistics` | what is counted, for Prometheus |
//! | [`simulation`] | all of a tracker in one thread, for tests |

#![forbid(unsafe_code)]

mod config;
mod following;
mod launch;
pub mod simulation;
mod statistics;
mod workers;

pub use config::{CommonClamps, CommonConfig, overlap};
pub use following::Following;
pub use launch::{Bound, Launch, Served, StartedFrontEnd};
pub use workers::{Follow, FrontEndWorkers, MayOwnShard, StreamTracker, Workers};
