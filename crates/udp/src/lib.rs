//! BitTorrent tracker over UDP (BEP 15, BEP 41).
//!
//! # The path of a request
//!
//! ```text
//!           a datagram                                  requests, in batches
//!  client ────────────▶ socket worker ─────────────────────────────▶ owner of the
//!         ◀──────────── SocketWorker ◀───────────────────────────── torrent's shard
//!           an answer     + backend      the same batches, answered
//! ```
//!
//! 1. A backend ([`socket_worker::mio`], with [`socket_worker::frames`] or without,
//!    [`socket_worker::uring`]) receives a batch of datagrams and reads the time once.
//! 2. [`service::Service::receive`] decides about each: drop, refuse, answer at once, or pass on.
//! 3. [`socket_worker::SocketWorker`] dispatches what is left to the shard that owns the torrent:
//!    its own one (*fused*: the kernel delivers almost everything to the right worker), another
//!    socket worker's, or a swarm worker's (*split*), by way of [`aquatic_channel`].
//! 4. The shard's [`response_writer::ResponseWriter`] looks up the swarms, with the memory of a
//!    whole batch fetched at once, and writes the answers straight into the outboxes.
//! 5. The backend sends the outboxes, from the addresses that the requests were sent to.
//!
//! What is not UDP's own is [`aquatic_tracker`]'s: the ways between workers, the swarms and what
//! looks after them, limits, metrics.
//!
//! Steps 2 to 4 are pure: they know no socket, no clock and no randomness of their own. The tests
//! drive exactly this code in a simulation (`tests/simulation.rs`).
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what an operator can set |
//! | [`service`] | what is decided about a datagram: **read this first** |
//! | [`response_writer`] | how requests are processed in a shard, and responses written |
//! | [`connection_id`], [`unix_clock`] | who may ask |
//! | [`connection_secret`] | the file that lets trackers understand each other's ids |
//! | [`messages`] | what workers say to each other |
//! | [`workers`] | all workers, made from the configuration |
//! | [`live`] | settings that change while they work |
//! | [`socket_worker`] | the loops |
//! | [`front_end`] | sockets and socket workers, from the binding to the threads |
//! | [`counters`], [`statistics`] | what is counted, and who gets to see it |
//! | `backend` | epoll or io_uring: which one, and how it is agreed upon |
//! | `sockets` | how the sockets of all workers are bound, and steered by the kernel |
//! | `flood`, `shield` | when the kernel drops forged requests, and by which filter |
//! | `xdp` | the program in front of the network stack |
//! | `health` | where `--health` asks |
//! | `inspect` | what `--check-config` finds on this machine |

#![forbid(unsafe_code)]

mod backend;
pub mod config;
pub mod connection_id;
pub mod connection_secret;
pub mod counters;
mod flood;
pub mod front_end;
mod health;
mod inspect;
pub mod live;
pub mod messages;
pub mod response_writer;
pub mod service;
mod shield;
pub mod socket_worker;
mod sockets;
mod start;
pub mod statistics;
pub mod unix_clock;
pub mod workers;
#[cfg(target_os = "linux")]
mod xdp;
#[cfg(not(target_os = "linux"))]
#[path = "without_xdp.rs"]
mod xdp;

use aquatic_daemon::cli::App;
pub use aquatic_daemon::clock::Now;
use aquatic_daemon::signals;
pub use start::run;

/// The program.
pub const APP: App = App {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "BitTorrent tracker over UDP",
    after_help: signals::HELP,
};
