//! A socket worker in the thread of another protocol's, whose shard it borrows.

use std::os::fd::RawFd;

use aquatic_daemon::clock::Now;
use aquatic_stream::MakeGuest;
use aquatic_stream::mio::Guest;
use aquatic_tracker::guest::{self, GuestRound};
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::addresses::AddressShard;

use crate::socket_worker::SocketWorker;

/// See the [module](self).
struct HttpGuest(Guest<SocketWorker>);

/// What a host makes its guest with.
#[must_use]
pub fn make_guest(make: MakeGuest<SocketWorker>) -> guest::MakeGuest<AddressShard> {
    Box::new(move || Ok(Box::new(HttpGuest(make.make()?))))
}

impl guest::Guest<AddressShard> for HttpGuest {
    fn wait_file(&self) -> RawFd {
        self.0.wait_file()
    }

    fn round(
        &mut self,
        now: Now,
        is_ready: bool,
        owner: &mut Option<Box<ShardOwner<AddressShard>>>,
    ) -> GuestRound {
        let mut arrivals = 0;
        if self.0.is_due(now, is_ready) {
            self.0.handler_mut().own(owner.take());
            arrivals = self.0.round();
            *owner = self.0.handler_mut().disown();
        }
        GuestRound {
            arrivals,
            timeout: self.0.timeout(now),
        }
    }

    fn has_pending(&self) -> bool {
        self.0.has_pending()
    }
}
