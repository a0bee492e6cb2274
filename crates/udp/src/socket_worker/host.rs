//! The other front end of a worker's thread, if there is one: see [`aquatic_tracker::guest`].

use std::os::fd::RawFd;
use std::time::Duration;

use aquatic_tracker::guest::{Guest, GuestRound};
use aquatic_tracker::shard::addresses::AddressShard;

use super::SocketWorker;
use crate::Now;

/// What a worker without a guest does for it.
const NOTHING: GuestRound = GuestRound {
    arrivals: 0,
    timeout: Duration::MAX,
};

/// A place for a guest.
#[derive(Default)]
pub struct Host(Option<Box<dyn Guest<AddressShard>>>);

impl Host {
    /// With a guest, or without one.
    #[must_use]
    pub fn of(guest: Option<Box<dyn Guest<AddressShard>>>) -> Self {
        Self(guest)
    }

    /// What to wait at besides sockets.
    pub(super) fn wait_file(&self) -> Option<RawFd> {
        self.0.as_ref().map(|guest| guest.wait_file())
    }

    /// Lets the guest do what there is to do for it, with the worker's shard.
    pub(super) fn round(
        &mut self,
        now: Now,
        is_ready: bool,
        worker: &mut SocketWorker,
    ) -> GuestRound {
        match &mut self.0 {
            Some(guest) => guest.round(now, is_ready, worker.owner_mut()),
            None => NOTHING,
        }
    }

    /// Whether somebody else has sent it something since the last round.
    pub(super) fn has_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|guest| guest.has_pending())
    }
}
