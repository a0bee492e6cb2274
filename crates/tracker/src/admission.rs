//! What is asked about a request before the swarms are, whatever the protocol.

use std::num::NonZeroU32;
use std::sync::Arc;

use aquatic_access_list::{AccessList, AccessListMode, AccessListReader, SharedAccessList};
use aquatic_daemon::clock::Now;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_types::{CanonicalAddr, InfoHash};

use crate::metrics::counters::{Protocol, WorkerCounters};

/// Knows, in a socket worker, which clients and which torrents are served, and where that is
/// counted.
pub struct Admission<P: Protocol> {
    /// Which torrents are allowed.
    pub access_list: AccessListReader,
    /// Requests per client, if limited; shared by all workers.
    pub request_rate: Option<Arc<RequestRate>>,
    /// Torrents of a scrape that are answered.
    pub scrape_torrents_max: usize,
    /// Where this worker counts.
    pub counters: Arc<WorkerCounters<P>>,
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
            request_rate: rate.map(|rate| Arc::new(RequestRate::new(rate, [1, 2]))),
            scrape_torrents_max,
            counters: Arc::default(),
        };
        (admission, access_list)
    }

    /// Whether a client may make one more request now. It is counted against its rate.
    #[must_use]
    pub fn allows_request(&self, now: Now, client: CanonicalAddr) -> bool {
        let rate = self.request_rate.as_ref();
        rate.is_none_or(|rate| rate.allows(now.micros, client.ip()))
    }

    /// Whether the access list allows a torrent.
    #[must_use]
    pub fn allows_torrent(&mut self, info_hash: &InfoHash) -> bool {
        self.access_list.is_allowed(info_hash)
    }

    /// The torrents of a scrape that are answered, in order, and whether each is allowed.
    pub fn scraped<I: Iterator<Item = InfoHash>>(
        &mut self,
        info_hashes: I,
    ) -> impl Iterator<Item = (InfoHash, bool)> + use<'_, P, I> {
        let answered = info_hashes.take(self.scrape_torrents_max);
        answered.map(|info_hash| (info_hash, self.access_list.is_allowed(&info_hash)))
    }

    /// Takes a reloaded access list. To be called in each round, also if nothing was received.
    pub fn refresh(&mut self) {
        self.access_list.refresh();
    }
}
