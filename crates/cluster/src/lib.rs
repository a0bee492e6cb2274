//! One swarm over several trackers.
//!
//! Each node has all peers of all nodes. What changes in its own swarms it publishes on a [`Bus`],
//! and what the others publish it takes into its swarms. There is no state to be handed over, no
//! membership to agree upon and no leader: peers announce again and again, and so whatever was lost
//! on the way comes once more.
//!
//! | module | contents |
//! |---|---|
//! | [`engine`] | what a node does |
//! | [`bus`] | what nodes reach each other by |
//! | [`nats`] | NATS servers as such a thing (feature `nats`) |
//! | [`config`], [`server_url`] | what an operator can set |
//! | [`addresses`] | the swarms whose peers are addresses (UDP, HTTP), as the cluster sees them |
//! | [`replica`] | the swarms of a process, as the cluster sees them |
//! | [`announces`] | announces for a back end, until the servers have them (feature `nats`) |
//! | [`lists`] | access lists and keys that are kept in the servers (feature `nats`) |
//! | [`simulation`] | a bus without servers |
//! | [`nodes`] | which other processes there are |
//!
//! [`Bus`]: bus::Bus

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod addresses;
#[cfg(feature = "nats")]
pub mod announces;
mod buffer;
pub mod bus;
#[cfg(feature = "nats")]
mod cluster;
pub mod config;
pub mod counters;
pub mod engine;
#[cfg(feature = "nats")]
pub mod lists;
#[cfg(feature = "nats")]
pub mod nats;
pub mod nodes;
mod numbers;
pub mod replica;
mod sent;
pub mod server_url;
pub mod simulation;
mod table;
#[cfg(feature = "nats")]
mod thread;
pub mod times;

#[cfg(not(feature = "nats"))]
mod without_nats;

#[cfg(feature = "nats")]
pub use self::cluster::{Cluster, StartedCluster};
#[cfg(not(feature = "nats"))]
pub use self::without_nats::{Cluster, StartedCluster};
