//! What is asked about a request before the swarms are, whatever the protocol.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use aquatic_access_list::{
    AccessList, AccessListMode, AccessListReader, PeerIdRules, SharedAccessList,
};
use aquatic_config::AccessListConfig;
use aquatic_daemon::clock::Now;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_keys::{KeyReader, SharedKeys, key_in_url};
use aquatic_types::{CanonicalAddr, InfoHash, PeerId};

use crate::announces::{AnnounceTap, Announces};
use crate::metrics::counters::{Protocol, WorkerCounters};

/// What clients are told whose software is not served.
pub const PEER_ID_DENIED: &str = "client software not allowed here";

/// What clients are told whose network is denied, where they are told anything.
pub const NETWORK_DENIED: &str = "your network is not allowed here";

/// Knows, in a socket worker, which clients and which torrents are served, and where that is
/// counted.
///
/// A client's key is checked before its torrent and its software are, so that a stranger does not
/// learn which of those are served; an announcer becomes one of the key's peers last of all, when
/// everything else allows it. One that leaves does so before anything is checked: whatever the
/// answer is, it is no peer any more.
pub struct Admission<P: Protocol> {
    /// Which torrents are allowed, and which networks denied.
    pub access_list: AccessListReader,
    /// Which keys clients may have, if they need one.
    pub keys: KeyReader,
    /// Which software is served.
    pub peer_ids: PeerIdRules,
    /// Requests per client; shared by all workers.
    pub request_rate: Arc<RequestRate>,
    /// Torrents of a scrape that are answered.
    pub scrape_torrents_max: usize,
    /// Where this worker counts.
    pub counters: Arc<WorkerCounters<P>>,
    /// Hears of every announce that is served, if somebody wants that.
    pub announces: Option<AnnounceTap>,
}

/// What tells a peer from others, where peers are addresses: the same over UDP and HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressPeer {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the peer is.
    pub ip: IpAddr,
    /// At which port it can be reached.
    pub port: u16,
}

/// Which software is served, as configured.
#[must_use]
pub fn peer_id_rules(config: &AccessListConfig) -> PeerIdRules {
    PeerIdRules::new(
        &config.peer_id_prefixes_deny,
        &config.peer_id_prefixes_allow,
    )
}

impl<P: Protocol> Admission<P> {
    /// **For tests of services only**: its secrets are known. The access list denies torrents, and
    /// nothing is on it; it is returned.
    #[must_use]
    pub fn for_tests(
        requests_per_second: Option<u32>,
        scrape_torrents_max: usize,
    ) -> (Self, SharedAccessList) {
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let rate = requests_per_second.and_then(NonZeroU32::new);
        let admission = Self {
            access_list: access_list.reader(),
            keys: SharedKeys::off().reader(),
            peer_ids: PeerIdRules::default(),
            request_rate: Arc::new(RequestRate::new(rate, [1, 2])),
            scrape_torrents_max,
            counters: Arc::default(),
            announces: None,
        };
        (admission, access_list)
    }

    /// Whether a client may make one more request now. It is counted against its rate.
    #[must_use]
    pub fn allows_request(&self, now: Now, client: CanonicalAddr) -> bool {
        self.request_rate.allows(now.micros, client.ip())
    }

    /// Whether the access list allows a torrent.
    #[must_use]
    pub fn allows_torrent(&mut self, info_hash: &InfoHash) -> bool {
        self.access_list.is_allowed(info_hash)
    }

    /// The key in the path and query of a URL. Without keys, nobody looks for one.
    #[inline]
    #[must_use]
    pub fn key_in<'a>(&self, (path, query): (&'a [u8], &'a [u8])) -> Option<&'a [u8]> {
        match self.keys.is_required() {
            true => key_in_url(path, query),
            false => None,
        }
    }

    /// Whether a client of this address is not to be served.
    #[inline]
    #[must_use]
    pub fn denies_network(&mut self, client: CanonicalAddr) -> bool {
        self.access_list.denies(client.ip())
    }

    /// Whether peers with this id are served.
    #[inline]
    #[must_use]
    pub fn allows_peer_id(&self, peer_id: &PeerId) -> bool {
        self.peer_ids.allow(peer_id)
    }

    /// The torrents of a scrape that are answered, in order, and whether each is allowed.
    pub fn scraped<I: Iterator<Item = InfoHash>>(
        &mut self,
        info_hashes: I,
    ) -> impl Iterator<Item = (InfoHash, bool)> + use<'_, P, I> {
        let answered = info_hashes.take(self.scrape_torrents_max);
        answered.map(|info_hash| (info_hash, self.access_list.is_allowed(&info_hash)))
    }

    /// Takes reloaded lists. To be called in each round, also if nothing was received.
    pub fn refresh(&mut self) {
        self.access_list.refresh();
        self.keys.refresh();
        if let Some(tap) = &mut self.announces {
            tap.hand_over();
        }
    }

    /// Has every announce that is served be told of, if somebody wants that.
    pub fn tell_announces(&mut self, announces: Option<&Announces>) {
        self.announces = announces.map(|announces| announces.tap(P::NAME));
    }
}
