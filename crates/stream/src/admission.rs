//! How many connections there may be, over all workers.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use aquatic_daemon::per_client::PerClient;

use crate::Refused;

/// Counts the connections of the daemon as a whole. One value, shared by all workers.
#[derive(Debug)]
pub struct Admission {
    connections_max: usize,
    connections: AtomicUsize,
    per_client: Option<PerClient>,
}

impl Admission {
    /// At most this many connections, and this many per client. 0 = no limit.
    #[must_use]
    pub fn new(connections_max: usize, per_client_max: usize) -> Self {
        Self {
            connections_max: match connections_max {
                0 => usize::MAX,
                max => max,
            },
            connections: AtomicUsize::new(0),
            per_client: NonZeroUsize::new(per_client_max).map(PerClient::new),
        }
    }

    pub(crate) fn enter(&self) -> Result<(), Refused> {
        if self.connections.fetch_add(1, Ordering::Relaxed) < self.connections_max {
            return Ok(());
        }
        self.leave();
        Err(Refused::TooMany)
    }

    /// Takes back one [`enter`](Self::enter).
    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection of a client. Returns whether that has to be [taken
    /// back](Self::leave_client) one day.
    pub(crate) fn enter_client(&self, ip: IpAddr) -> Result<bool, Refused> {
        match &self.per_client {
            None => Ok(false),
            Some(per_client) if per_client.admit(ip) => Ok(true),
            Some(_) => Err(Refused::TooManyOfClient),
        }
    }

    pub(crate) fn leave_client(&self, ip: IpAddr) {
        if let Some(per_client) = &self.per_client {
            per_client.release(ip);
        }
    }
}
