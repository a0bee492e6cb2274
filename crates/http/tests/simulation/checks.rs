//! What must be true of answers, of counters, and of a tracker at rest.

use std::collections::{BTreeMap, BTreeSet};

use aquatic_daemon::counter::Label;
use aquatic_http::counters::{Reason, RequestKind, ResponseKind};
use aquatic_http_protocol::{
    AnnounceResponse, FailureResponse, PeerForm, Response, Retry, ScrapeFile,
};
use aquatic_stream::Handshake;
use aquatic_types::{CanonicalAddr, InfoHash, IpFamily};

use super::changes::contains;
use super::link::{Answer, Link};
use super::model::{Announce, Outcome, Size};
use super::requests::{Meaning, Readable, Request, TORRENTS, torrent};
use super::tracker::counts;
use super::world::World;

/// What is said to a full scrape, which does not wait for room.
const OVERLOADED: &[u8] = b"tracker is overloaded";

impl World {
    /// An answer is what its request deserves.
    pub(crate) fn check_answer(&mut self, answer: &Answer) {
        let Answer {
            request,
            since,
            head,
            body,
        } = answer;
        let family = CanonicalAddr::new((request.client, 0).into()).family();
        if let Meaning::Status(reason, status) = request.meaning {
            assert_eq!(head.status, status, "{request:?}");
            assert_eq!(head.stays_open, !request.is_last, "{request:?}");
            self.expect_refusal(family, reason);
            return;
        }
        assert_eq!(head.status, 200, "{request:?}");
        // What has no length may end with the connection, for all that the head tells.
        if request.is_head_of_announce() {
            self.expect_request(family, RequestKind::Announce);
            self.expect_response(family, ResponseKind::Announce);
            return;
        }
        assert_eq!(head.stays_open, !request.is_last, "{request:?}");
        match request.meaning {
            Meaning::Text => assert_eq!(body.is_empty(), request.omits_body),
            Meaning::FullScrape if self.is_overloaded && contains(body, OVERLOADED) => {
                self.tally.note("full scrapes refused at a full queue");
                self.expect_request(family, RequestKind::Scrape);
                self.expect_refusal(family, Reason::QueueFull);
            }
            _ => self.check_response(request, *since, family, body),
        }
    }

    /// An answer of a tracker, unless it is a head alone.
    fn check_response(&mut self, request: &Request, since: usize, family: IpFamily, body: &[u8]) {
        let response = (!request.omits_body).then(|| Response::parse(body).expect("an answer"));
        match &request.meaning {
            Meaning::Announce(announce, form) => {
                self.expect_request(family, RequestKind::Announce);
                self.expect_response(family, ResponseKind::Announce);
                let outcome = self.announce(announce);
                match response {
                    Some(Response::Announce(response)) => {
                        self.check_announce(announce, *form, &outcome, &response);
                    }
                    Some(response) => panic!("{response:?} to {request:?}"),
                    None => {}
                }
            }
            Meaning::Scrape(_) | Meaning::FullScrape => {
                self.expect_request(family, RequestKind::Scrape);
                self.expect_response(family, ResponseKind::Scrape);
                match response {
                    Some(Response::Scrape(response)) => {
                        self.check_files(&request.meaning, since, response.files());
                    }
                    Some(response) => panic!("{response:?} to {request:?}"),
                    None => {}
                }
            }
            Meaning::Failure(reason, words, readable) => {
                match readable {
                    Readable::Announce => self.expect_request(family, RequestKind::Announce),
                    Readable::Scrape => self.expect_request(family, RequestKind::Scrape),
                    Readable::No => {}
                }
                self.expect_refusal(family, *reason);
                match response {
                    Some(Response::Failure(failure)) => {
                        self.check_failure(*reason, words, &failure);
                    }
                    Some(response) => panic!("{response:?} to {request:?}"),
                    None => {}
                }
            }
            Meaning::Status(..) | Meaning::Text => unreachable!("dealt with above"),
        }
    }

    fn check_failure(&self, reason: Reason, words: &str, failure: &FailureResponse<'_>) {
        let text = String::from_utf8_lossy(failure.reason);
        assert!(text.contains(words), "{reason:?}: {text}");
        let is_final = matches!(reason, Reason::InfoHashDenied | Reason::FullScrape);
        assert_eq!(failure.retry, is_final.then_some(Retry::Never));
        let protocol = &self.config.protocol;
        assert_eq!(
            (
                failure.interval_seconds,
                failure.min_interval_seconds.unwrap_or(0)
            ),
            (
                Some(protocol.peer_announce_interval),
                protocol.min_announce_interval
            )
        );
    }

    fn check_announce(
        &self,
        announce: &Announce,
        form: PeerForm,
        outcome: &Outcome,
        response: &AnnounceResponse<'_>,
    ) {
        let size = Size {
            seeders: response.seeders,
            leechers: response.leechers,
            completed: response.completed,
        };
        assert_eq!(size, outcome.size, "{announce:?}");
        let protocol = &self.config.protocol;
        assert_eq!(response.interval_seconds, protocol.peer_announce_interval);
        assert_eq!(
            response.min_interval_seconds.unwrap_or(0),
            protocol.min_announce_interval
        );
        assert_eq!(response.external_ip, Some(announce.peer.ip()));
        assert_eq!(response.peer_form, form);
        let peers: Vec<_> = response.addresses().collect();
        let distinct: BTreeSet<_> = peers.iter().copied().collect();
        assert_eq!(peers.len(), outcome.count, "{announce:?} {outcome:?}");
        assert_eq!(distinct.len(), peers.len(), "a peer twice: {peers:?}");
        assert!(distinct.is_subset(&outcome.pool), "{announce:?}: {peers:?}");
    }

    fn check_files(&self, meaning: &Meaning, since: usize, files: &[ScrapeFile]) {
        match meaning {
            Meaning::Scrape(torrents) => self.check_scrape(torrents, since, files),
            _ => self.check_full_scrape(since, files),
        }
    }

    /// Nothing is known about torrents that somebody asks about meanwhile. Each shard looks at the
    /// list that is in force at its turn.
    fn check_full_scrape(&self, since: usize, files: &[ScrapeFile]) {
        let max = self.config.protocol.max_full_scrape_torrents;
        let torrents = (0..TORRENTS).map(torrent);
        let is_shown = |torrent: &InfoHash| {
            self.lists.allows(torrent) && self.model.size(*torrent) != Size::default()
        };
        let shown: BTreeSet<_> = torrents.filter(is_shown).collect();
        let answered: BTreeMap<_, _> = sizes(files);
        assert_eq!(answered.len(), files.len(), "a torrent twice");
        assert!(files.len() <= max);
        for (torrent, size) in &answered {
            self.lists.check(since, torrent, true);
            assert_ne!(*size, Size::default());
            if self.is_at_rest {
                assert_eq!(*size, self.model.size(*torrent));
            }
        }
        if self.is_at_rest {
            assert_eq!(answered.len(), shown.len().min(max), "{shown:?}");
        }
    }

    /// All torrents of a scrape are judged by the same list.
    fn check_scrape(&self, torrents: &[InfoHash], since: usize, files: &[ScrapeFile]) {
        let expected = |list| -> BTreeMap<_, _> {
            let size = |torrent: &InfoHash| match self.lists.allows_in(list, torrent) {
                true => self.model.size(*torrent),
                false => Size::default(),
            };
            torrents.iter().map(|it| (*it, size(it))).collect()
        };
        let answered = sizes(files);
        assert_eq!(answered.len(), files.len(), "a torrent twice");
        assert!(
            self.lists.since(since).any(|it| expected(it) == answered),
            "{answered:?} instead of {:?}",
            expected(since)
        );
    }

    /// A client has vanished while the tracker was about this request.
    pub(crate) fn expect_gone(&mut self, peer_family: IpFamily, request: &Request) {
        let family = CanonicalAddr::new((request.client, 0).into()).family();
        match &request.meaning {
            Meaning::Announce(..) => self.expect_request(family, RequestKind::Announce),
            Meaning::Scrape(_) | Meaning::FullScrape => {
                self.expect_request(family, RequestKind::Scrape);
            }
            // A head that is not whole.
            Meaning::Status(Reason::Malformed, _) => return,
            refused => panic!("{refused:?} is answered at once"),
        }
        let label = Reason::ConnectionGone.label();
        self.expect(peer_family, "reason", label);
    }

    /// A client has vanished, and this is to leave a swarm.
    pub(crate) fn expect_absent(&mut self, request: &Request) {
        let family = CanonicalAddr::new((request.client, 0).into()).family();
        match &request.meaning {
            Meaning::Announce(..) => self.expect_request(family, RequestKind::Announce),
            Meaning::Failure(reason, _, Readable::Announce) => {
                self.expect_request(family, RequestKind::Announce);
                self.expect(family, "reason", reason.label());
            }
            Meaning::Failure(reason @ Reason::ProxyHeader, ..) => {
                self.expect(family, "reason", reason.label());
            }
            _ => {}
        }
    }

    /// Its announce has been answered all the same.
    pub(crate) fn apply_ghost(&mut self, request: &Request) {
        if let Meaning::Announce(announce, _) = &request.meaning {
            self.announce(announce);
            let family = IpFamily::of(&announce.peer);
            self.expect_response(family, ResponseKind::Announce);
        }
    }

    /// Lets the model follow an announce that has taken effect.
    fn announce(&mut self, announce: &Announce) -> Outcome {
        let outcome = self.model.announce(announce, self.now().seconds.0);
        self.note_announce(announce);
        if outcome.is_kept_out {
            let family = IpFamily::of(&announce.peer);
            self.expect(family, "reason", Reason::PeersPerIpAndTorrent.label());
        }
        outcome
    }

    fn expect_request(&mut self, family: IpFamily, kind: RequestKind) {
        self.expect(family, "requests", kind.label());
    }

    fn expect_response(&mut self, family: IpFamily, kind: ResponseKind) {
        self.expect(family, "responses", kind.label());
    }

    fn expect_refusal(&mut self, family: IpFamily, reason: Reason) {
        self.expect_response(family, ResponseKind::Error);
        self.expect(family, "reason", reason.label());
    }

    fn expect(&mut self, family: IpFamily, metric: &'static str, label: &'static str) {
        let key = (family.digit(), metric, label);
        *self.expected.entry(key).or_default() += 1;
    }

    /// A connection has gone. Whatever was asked over it has been answered.
    pub(crate) fn check_closed(&self, link: &Link) {
        assert!(
            link.is_at_rest(),
            "closed with {} open requests",
            link.open()
        );
        if link.is_finished {
            return;
        }
        // By a deadline, then.
        let idle_seconds = self.now().seconds.0 - link.active_at;
        assert!(
            idle_seconds >= self.patience(link),
            "closed after {idle_seconds} seconds"
        );
    }

    /// Seconds that a client may be silent when it is its turn.
    fn patience(&self, link: &Link) -> u32 {
        if link.has_asked {
            self.config.cleaning.max_connection_idle
        } else {
            self.config.network.stream.request_timeout
        }
    }

    /// Everything that was asked has been answered, once, and counted.
    pub(crate) fn check_at_rest(&self) {
        assert_eq!(counts(&self.tracker), self.expected);
        for counters in &self.tracker.connections {
            let failed = counters.handshakes.of(Handshake::Failed).get();
            assert_eq!(failed, 0, "handshakes that failed");
        }
        for family in IpFamily::ALL {
            let links = self.links.values();
            let open = links.filter(|link| CanonicalAddr::new(link.peer).family() == family);
            assert_eq!(self.tracker.active(family), open.count() as u64);
        }
    }

    /// Cleaning and deadlines have done their work.
    pub(crate) fn check_after_time(&self) {
        self.check_at_rest();
        for family in IpFamily::ALL {
            assert_eq!(self.tracker.gauges(family), self.model.gauges(family));
        }
        for link in self.links.values() {
            let idle_seconds = self.now().seconds.0 - link.active_at;
            // The present second has begun already; it is looked at once per second.
            assert!(
                idle_seconds <= self.patience(link) + 2,
                "open after {idle_seconds} seconds"
            );
        }
        if self.config.metrics.peer_clients {
            let mut clients = BTreeMap::new();
            for (prefix, peers) in self.tracker.reports.iter().flat_map(|it| it.clients()) {
                *clients.entry(prefix).or_default() += peers;
            }
            assert_eq!(clients, self.model.clients());
        }
    }

    /// After all that time nothing is left.
    pub(crate) fn check_forgotten(&self) {
        assert_eq!(self.links.len(), 0);
        for family in IpFamily::ALL {
            assert_eq!(self.tracker.gauges(family), (0, 0));
            assert_eq!(self.tracker.active(family), 0);
        }
    }
}

fn sizes(files: &[ScrapeFile]) -> BTreeMap<InfoHash, Size> {
    let size = |file: &ScrapeFile| {
        assert_eq!(file.downloaders, file.leechers);
        let size = Size {
            seeders: file.seeders,
            leechers: file.leechers,
            completed: file.completed,
        };
        (file.info_hash, size)
    };
    files.iter().map(size).collect()
}
