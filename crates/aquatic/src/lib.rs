//! Trackers over UDP, HTTP and WebSocket in one process.
//!
//! ```text
//!              aquatic_udp         aquatic_http         aquatic_ws
//!              socket workers      socket workers       socket workers
//!                    │                   │                    │
//!                    └──────┐   ┌────────┘                    │
//!                           ▼   ▼                             ▼
//!               AddressShards: one swarm             SignallingShards
//!               for both, by IP family               (browsers have no address)
//! ```
//!
//! What a client announces over UDP is handed out over HTTP, and the other way round. Each protocol
//! is served by the front end of its own crate; here is only what they share: the [configuration
//! file](config), the process, and the shards that front ends are connected with.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what an operator can set: a section for each protocol, and those for all |
//! | `parts` | what that is in the words of each protocol's crate |
//! | `commands` | the command line |
//! | `serve` | the start |
//! | `addresses` | UDP and HTTP, and the shards that they have in common |
//! | `signalling` | WebTorrent |
//! | `outputs` | files that are written |
//! | `health` | where `--health` asks |

#![forbid(unsafe_code)]

mod addresses;
mod commands;
pub mod config;
mod health;
mod outputs;
mod parts;
mod serve;
mod signalling;

pub use commands::{APP, commands};
pub use serve::run;
