//! Clients of networks that are not served.
//!
//! They are turned away when they connect, or when their PROXY header has come. When the list of
//! networks has been replaced, connections are looked at that were accepted before: some of them in
//! each round, so that many of them delay nobody.

use std::net::IpAddr;
use std::ops::Range;

use aquatic_access_list::{DeniedNetworksReader, SharedDeniedNetworks};

use crate::connection::{Connection, Phase};
use crate::memory::SessionState;

/// Places in the table of connections that are looked at in a round: some 50 microseconds.
const PLACES_PER_ROUND: usize = 1_024;

/// Networks whose clients are not served.
#[derive(Clone, Debug)]
pub struct DeniedClients {
    /// The networks.
    pub networks: SharedDeniedNetworks,
    /// Whoever connects is a reverse proxy, which names clients by request: so it is not turned
    /// away itself.
    pub peers_are_proxies: bool,
}

/// What a worker knows of them.
pub(crate) struct DeniedWatch {
    denied: DeniedClients,
    reader: DeniedNetworksReader,
    /// The version of the networks that connections are held against, or have been.
    version: u64,
    /// Where to go on with that.
    next: Option<usize>,
}

impl DeniedWatch {
    pub(crate) fn new(denied: DeniedClients) -> Self {
        let reader = denied.networks.reader();
        Self {
            version: denied.networks.version(),
            denied,
            reader,
            next: None,
        }
    }

    /// Whether this client is turned away.
    pub(crate) fn denies(&mut self, client: IpAddr) -> bool {
        !self.denied.peers_are_proxies && self.reader.contain(client)
    }

    /// The places to be looked at in this round, of so many.
    pub(crate) fn next_places(&mut self, places: usize) -> Option<Range<usize>> {
        let version = self.denied.networks.version();
        if version != self.version {
            self.version = version;
            self.reader.refresh();
            self.next = Some(0);
        }
        let first = self.next?;
        let end = first.saturating_add(PLACES_PER_ROUND);
        self.next = (end < places).then_some(end);
        Some(first..end)
    }

    /// Whether there are more to be looked at.
    pub(crate) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Whether a connection that was accepted before is of a client that is not served now.
    pub(crate) fn denies_present<S: SessionState>(&mut self, connection: &Connection<S>) -> bool {
        let (client, is_named) = match &connection.phase {
            Phase::Handshake(client) => (Some(client.peer.ip()), false),
            Phase::Open { session, .. } => (session.client(), session.is_client_named()),
            _ => return false,
        };
        // A proxy that has not named anybody yet, or does not do so for the connection as a whole.
        let is_proxy = self.denied.peers_are_proxies && !is_named;
        client.is_some_and(|client| !is_proxy && self.reader.contain(client))
    }
}
