//! What fuzz targets share: trackers without sockets, and the lives that are made up for them.
//!
//! Targets for codecs take the bytes as they come. Those for whole trackers take a list of steps,
//! so that what is tried is seldom refused in the first byte: see [`network::Step`] and
//! [`datagrams::Step`].
//!
//! Time, keys and random numbers are the same in each run, so that what was found can be replayed.

#![forbid(unsafe_code)]

pub mod datagrams;
pub mod network;

/// Random numbers that are the same each time, for keys and choices.
#[must_use]
pub fn entropy() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}
