//! How many connections there may be, over all workers, and how many new ones per second.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_daemon::request_rate::RequestRate;

use crate::counters::Refused;
use crate::denied::DeniedClients;

/// Counts the connections of the daemon as a whole. One value, shared by all workers.
#[derive(Debug)]
pub struct Admission {
    connections_max: usize,
    connections: AtomicUsize,
    per_client: Arc<PerClientLimit>,
    rate: Option<Arc<RequestRate>>,
    denied: Option<DeniedClients>,
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
            per_client: Arc::new(PerClientLimit::with_max(NonZeroUsize::new(per_client_max))),
            rate: None,
            denied: None,
        }
    }

    /// With a limit on connections per client that others can change.
    #[must_use]
    pub fn with_per_client(mut self, limit: Arc<PerClientLimit>) -> Self {
        self.per_client = limit;
        self
    }

    /// Connections and TLS handshakes count as requests of their clients.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Arc<RequestRate>>) -> Self {
        self.rate = rate;
        self
    }

    /// Clients of these networks are not served.
    #[must_use]
    pub fn with_denied(mut self, denied: Option<DeniedClients>) -> Self {
        self.denied = denied;
        self
    }

    /// The networks whose clients are not served.
    pub(crate) fn denied(&self) -> Option<&DeniedClients> {
        self.denied.as_ref()
    }

    /// Counts a connection. Returns whether there is room for it: otherwise another has to give
    /// way, or this one has to [leave](Self::leave).
    pub(crate) fn enter(&self) -> bool {
        self.connections.fetch_add(1, Ordering::Relaxed) < self.connections_max
    }

    /// Charges a client for a new connection, or for a TLS handshake.
    pub(crate) fn charge(&self, now: Now, ip: IpAddr) -> Result<(), Refused> {
        match &self.rate {
            Some(rate) if !rate.allows(now.micros, ip) => Err(Refused::RequestRate),
            _ => Ok(()),
        }
    }

    /// Takes back one [`enter`](Self::enter).
    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection of a client. Returns whether that has to be [taken
    /// back](Self::leave_client) one day.
    pub(crate) fn enter_client(&self, ip: IpAddr) -> Result<bool, Refused> {
        if !self.per_client.is_bounded() {
            return Ok(false);
        }
        match self.per_client.admit(ip) {
            true => Ok(true),
            false => Err(Refused::TooManyOfClient),
        }
    }

    /// `client` is its [`client_network`](aquatic_types::client_network).
    pub(crate) fn leave_client(&self, client: u64) {
        self.per_client.release_client(client);
    }
}
