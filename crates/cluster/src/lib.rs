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
//! | [`addresses`] | the swarms whose peers are addresses (UDP, HTTP), as the cluster sees them |
//! | [`replica`] | the swarms of a process, as the cluster sees them |
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
mod buffer;
pub mod bus;
pub mod counters;
pub mod engine;
pub mod nodes;
pub mod replica;
pub mod simulation;
mod table;
