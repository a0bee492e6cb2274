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
//!   arrange(...)    ◀────────────  wakers, access list, certificate
//!        └── Arrangement ───────▶  Launch::serve     workers run
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `config` | what an operator can set for any of these trackers: [`CommonConfig`] |
//! | `arrangement` | a tracker, as a list of parts: [`StreamTracker`], [`Arrangement`] |
//! | `launch` | the start: [`Launch`] |
//! | `statistics` | what is counted, for Prometheus |
//! | [`simulation`] | all of a tracker in one thread, for tests |

#![forbid(unsafe_code)]

mod arrangement;
mod config;
mod launch;
pub mod simulation;
mod statistics;

pub use arrangement::{Arrangement, StreamTracker};
pub use config::{CommonClamps, CommonConfig};
pub use launch::Launch;
