//! WebTorrent tracker: BitTorrent peers in browsers, over WebSocket, plain or TLS.
//!
//! Browsers cannot accept connections. They meet through the tracker: it forwards a peer's WebRTC
//! offers to others of its swarm, and their answers back.
//!
//! # The path of a message
//!
//! ```text
//!           bytes                      requests, in batches
//!  client ────────▶ socket worker ─────────────────────────────▶ owner of the
//!         ◀────────      Hub +     ◀───────────────────────────── torrent's shard
//!                    SocketWorker     the same batches, decided
//!                        │  offers and answers
//!                        ▼
//!  other  ◀──────── socket worker
//!  client
//! ```
//!
//! 1. An event loop of [`aquatic_stream`] reads from connections; its hub decrypts, and hands plain
//!    bytes to the [`socket_worker::SocketWorker`].
//! 2. The connection's [`session::Session`] finds the message in them: first the HTTP request that
//!    becomes a WebSocket ([`upgrade`]), then [`frames`].
//! 3. [`service::Service::receive`] decides about it: refuse, or pass on.
//! 4. The worker copies it into the batch for the [`signalling::SignallingShard`] that owns the
//!    torrent: its own one (the *fused* topology), another socket worker's, or a swarm worker's
//!    (*split*).
//! 5. The shard notes what a peer says, and who gets which offer, or whose offer is answered. It
//!    writes no bytes: it only says where they go.
//! 6. Back at the worker, replies, offers and answers are written into their connections. What is
//!    for a connection of another socket worker travels there ([`forwarding`]).
//!
//! Steps 2 to 6 are pure: they know no socket, no clock and no randomness of their own. The tests
//! drive exactly this code in a simulation (`tests/simulation.rs`).
//!
//! There is one memory of who is in the swarms: the book of each connection
//! ([`membership::Membership`]), kept where the connection is. Peers leave when they say so, when
//! their connection ends or has been silent for too long, or when their torrent is forbidden; the
//! shards do as they are told, and a peer stays in the book until they have. So nothing outlives
//! its socket, and no limit counts what has gone.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what an operator can set |
//! | [`signalling`] | who is in which swarm, and who gets which offer and answer: **read this first** |
//! | [`service`] | what is decided about a message before |
//! | [`refusal`] | what clients are told that are not served |
//! | [`session`], [`membership`] | a connection, from bytes to messages, and its peers |
//! | [`upgrade`], [`url_key`], [`frames`] | HTTP, the key in its URL, and WebSocket |
//! | [`messages`], [`forwarding`], [`notices`] | what workers say to each other, and tell shards |
//! | [`liveness`], `sweep` | when connections are looked at: for silence, and for peers that are no longer served |
//! | [`cluster`] | members who are connected to other trackers |
//! | [`certificates`] | when clients have to come anew |
//! | [`workers`], [`socket_worker`] | who does what |
//! | [`request_handler`], [`response_writer`] | a worker's halves: messages to requests, and decisions to messages |
//! | `waiting` | messages whose torrent's owner does not keep up |
//! | `open_offers` | which offers a peer may answer |
//! | `origins` | what may be listed as an origin of pages |
//! | `offer_pace` | how many offers a client is handed in a time |
//! | `members`, `memory` | who is there, counted; how memory is divided |
//! | [`counters`] | what is counted |
//! | `health` | where `--health` asks |

#![forbid(unsafe_code)]

pub mod certificates;
pub mod cluster;
pub mod config;
mod connection_ref;
pub mod counters;
pub mod forwarding;
pub mod frames;
mod health;
pub mod liveness;
mod members;
pub mod membership;
mod memory;
pub mod messages;
pub mod notices;
mod offer_pace;
mod open_offers;
mod origins;
pub mod refusal;
pub mod request_handler;
pub mod response_writer;
pub mod service;
pub mod session;
pub mod signalling;
pub mod socket_worker;
mod start;
mod sweep;
pub mod upgrade;
pub mod url_key;
mod waiting;
pub mod workers;

use aquatic_daemon::cli::App;
use aquatic_daemon::signals;

pub use start::run;

/// The program.
pub const APP: App = App {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "WebTorrent tracker over WebSocket",
    after_help: signals::HELP,
};
