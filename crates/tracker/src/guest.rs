//! Two front ends in one thread, so that both have the shard of that thread at hand.
//!
//! A request that goes to a shard in another thread costs two wake-ups when little is going on,
//! several times what the request itself takes. So where two front ends serve the same swarms, one
//! of them is the [`Guest`] of the other: the host waits for both, and lends the shard in each
//! round.

use std::os::fd::RawFd;
use std::time::Duration;

use aquatic_daemon::clock::Now;

use crate::shard::ShardOwner;

/// A front end's worker without a thread of its own.
pub trait Guest<S> {
    /// Becomes readable when there is something to do: for the host to wait at. It is open as long
    /// as the guest lives.
    fn wait_file(&self) -> RawFd;

    /// Does a round, if there is anything to do: if the file has become readable (`is_ready`), or
    /// for other reasons. `owner` is the host's shard.
    fn round(
        &mut self,
        now: Now,
        is_ready: bool,
        owner: &mut Option<Box<ShardOwner<S>>>,
    ) -> GuestRound;

    /// Whether somebody else has sent it something since the last round.
    fn has_pending(&self) -> bool;
}

/// What a round of a guest brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRound {
    /// How many requests, or the like, there were.
    pub arrivals: usize,
    /// The next round is due after this time at the latest; zero: at once.
    pub timeout: Duration,
}

/// Makes a guest, in the host's thread.
pub type MakeGuest<S> = Box<dyn FnOnce() -> anyhow::Result<Box<dyn Guest<S>>> + Send>;
