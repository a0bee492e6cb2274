//! BitTorrent tracker over HTTP and HTTPS (BEPs 3, 7, 21, 23, 24, 31, 48).
//!
//! # The path of a request
//!
//! ```text
//!           bytes                       requests, in batches
//!  client ────────▶ socket worker ─────────────────────────────▶ owner of the
//!         ◀────────      Hub +     ◀───────────────────────────── torrent's shard
//!           bytes    SocketWorker     the same batches, answered
//! ```
//!
//! 1. An event loop of [`aquatic_stream`] reads from connections; its hub decrypts, and hands plain
//!    bytes to the [`socket_worker::SocketWorker`].
//! 2. The connection's [`session::Session`] finds the request in them, one at a time.
//! 3. [`service::Service::receive`] decides about it: refuse, or pass on.
//! 4. The worker puts it into the batch for the shard that owns the torrent: its own one (*fused*),
//!    another socket worker's, or a swarm worker's (*split*).
//! 5. The shard's [`response_writer::ResponseWriter`] looks up the swarms, with the memory of a
//!    whole batch fetched at once, and writes whole HTTP responses.
//! 6. The worker hands them to their connections, if those are still there. The hub encrypts, and
//!    the loop writes.
//!
//! Steps 2 to 6 are pure: they know no socket, no clock and no randomness of their own. The tests
//! drive exactly this code in a simulation (`tests/simulation.rs`).
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what an operator can set |
//! | [`service`] | what is decided about a request: **read this first** |
//! | [`refusal`] | what clients are told that are not served |
//! | [`session`] | a connection, from bytes to requests |
//! | [`response_writer`], [`peer_split`], [`full_scrape`] | how requests are processed in a shard |
//! | [`messages`], [`response_target`] | what workers say to each other |
//! | [`workers`], [`socket_worker`], `waiting` | who does what |
//! | [`counters`], [`statistics`] | what is counted |
//! | `health` | where `--health` asks |

#![forbid(unsafe_code)]

pub mod config;
pub mod counters;
pub mod full_scrape;
pub mod guest;
mod health;
pub mod messages;
pub mod peer_split;
pub mod refusal;
pub mod response_target;
pub mod response_writer;
pub mod service;
pub mod session;
pub mod socket_worker;
mod start;
pub mod statistics;
mod waiting;
pub mod workers;

use aquatic_daemon::cli::App;
use aquatic_daemon::signals;

pub use start::run;

/// The program.
pub const APP: App = App {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "BitTorrent tracker over HTTP and HTTPS",
    after_help: signals::HELP,
};
