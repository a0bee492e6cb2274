//! Black-box tests of a daemon: the real binary as a child process, and what all of the family
//! have to do alike. Those of load testers have a module of their own ([`load_test`]).
//!
//! A daemon's own tests describe it once, as a [`Program`]: where its binary is, how it is set up,
//! and how a client asks it. With that they get
//!
//! - the stage: a folder, ports and a service manager for each test ([`place`], [`daemon`]), and a
//!   matrix of runtimes and topologies on which a scenario is run ([`setup`]);
//! - the plays that are the same for all ([`operations`](mod@operations)): command line, signals,
//!   files that are read again, privileges, limits, forgetting, metrics. [`operations!`] makes them
//!   tests of the daemon's crate.
//!
//! ```text
//!   tests/protocol.rs of a daemon              this crate
//!   Program { binary, client, ... } ────────▶  operations!   one #[test] for each common line
//!   its own tests ──────────────────────────▶  Setup ─▶ Place::start ─▶ Daemon, metrics::wait_for
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`program`] | what is tested, and the least that a client of it can do |
//! | [`setup`] | runtimes and topologies on which the same has to happen |
//! | [`cases`], [`connection`], [`identity`] | the same with TLS and without, for daemons over TCP |
//! | [`place`] | a folder, ports, a configuration file, a log |
//! | [`service_manager`] | what systemd is for it |
//! | [`daemon`] | the tracker that runs there |
//! | [`memory`] | clients that make connections hold much |
//! | [`metrics`] | what Prometheus would see |
//! | [`bencode`] | what HTTP trackers answer |
//! | [`nats`] | servers by which trackers share their swarms |
//! | [`cluster_document`] | what these are configured with: what our document says |
//! | [`browser`], [`web_socket`] | what WebTorrent clients are for a tracker |
//! | [`faults`] | a kernel that says no |
//! | [`network`] | a network that no one else is in |
//! | [`skipping`] | tests that a machine lacks something for |
//! | [`seeds`] | which simulations are run, and how one is run again |
//! | [`swarm_file`] | what is in a file of swarms, and what may be |
//! | [`tally`], [`lists`], [`certificates`], [`wire`] | what simulations have in common |
//! | [`threads`] | single threads of a tracker, as a debugger sees them |
//! | [`wait`] | waiting for a condition, never for a time |
//! | [`operations`](mod@operations) | the common tests |
//! | [`load_test`] | a load tester's program, and fake trackers |
//!
//! Only tests and benchmarks use it. It panics where tests would.

#![forbid(unsafe_code)]

pub mod bencode;
pub mod browser;
pub mod cases;
pub mod certificates;
pub mod cluster_document;
pub mod connection;
pub mod daemon;
#[cfg(target_os = "linux")]
pub mod faults;
pub mod identity;
pub mod lists;
pub mod load_test;
pub mod memory;
pub mod metrics;
pub mod nats;
#[cfg(target_os = "linux")]
pub mod network;
pub mod operations;
pub mod place;
pub mod program;
pub mod seeds;
pub mod service_manager;
pub mod setup;
pub mod skipping;
pub mod swarm_file;
pub mod tally;
#[cfg(target_os = "linux")]
pub mod threads;
pub mod wait;
pub mod web_socket;
pub mod wire;

pub use daemon::Daemon;
pub use place::{Ended, Place};
pub use program::{Client, Program};
pub use setup::Setup;

use aquatic_types::InfoHash;

/// One of many torrents.
#[must_use]
pub fn torrent(number: u32) -> InfoHash {
    let mut bytes = [0x5a; 20];
    bytes[7..11].copy_from_slice(&number.to_be_bytes());
    InfoHash(bytes)
}

/// Enough torrents that each shard has one, very probably.
pub fn torrents() -> impl Iterator<Item = InfoHash> {
    (0..12).map(torrent)
}
