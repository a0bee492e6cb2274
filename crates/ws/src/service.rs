//! From the bytes of a message to what has to be done about it. Pure.
//!
//! [`Service::receive`] is what a socket worker decides alone: the time, the client and the message
//! come in; a request that may be served or a [`Failure`] comes out. What needs the swarms is
//! decided by their [`signalling`](crate::signalling).

use aquatic_daemon::clock::Now;
use aquatic_keys::{Announcer, KeyRefusal};
use aquatic_tracker::admission::{Admission, peer_id_rules};
use aquatic_tracker::announces::ServedAnnounce;
use aquatic_types::CanonicalAddr;
use aquatic_ws_protocol::{AnnounceRequest, Request};

use crate::config::Config;
use crate::counters::{Reason, RequestKind, WebTorrent};
use crate::refusal::{Failure, Refusal};
use crate::session::Session;
use crate::url_key::{PeerOfKey, UrlKey};

/// Decides about messages.
pub struct Service {
    /// Which clients and torrents are served, and where that is counted.
    pub admission: Admission<WebTorrent>,
    offer_bytes_max: usize,
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, admission: Admission<WebTorrent>) -> Self {
        Self {
            admission,
            offer_bytes_max: config.protocol.max_offer_size,
        }
    }

    /// Goes by `config` from now on, as far as that can change while the tracker serves. Returns
    /// whether other software is served than before.
    pub fn follow(&mut self, config: &Config) -> bool {
        let rules = peer_id_rules(&config.access_list);
        let is_other = rules != self.admission.peer_ids;
        self.admission.scrape_torrents_max = config.protocol.max_scrape_torrents;
        self.admission.peer_ids = rules;
        self.offer_bytes_max = config.protocol.max_offer_size;
        is_other
    }

    /// Takes a message of a client.
    ///
    /// # Errors
    /// If it is not served.
    pub fn receive<'a>(
        &mut self,
        now: Now,
        client: CanonicalAddr,
        message: &'a [u8],
    ) -> Result<Request<'a>, Failure> {
        let request = Request::parse_within(message, self.offer_bytes_max);
        if !self.admission.allows_request(now, client) {
            return Err(match &request {
                Ok(request) => Refusal::REQUEST_RATE.about_request(request),
                Err(error) => Refusal::REQUEST_RATE.about(error.action, error.info_hash),
            });
        }
        let request = request?;
        let kind = match request {
            Request::Announce(_) => RequestKind::Announce,
            Request::Answer(_) => RequestKind::Answer,
            Request::Scrape(_) => RequestKind::Scrape,
        };
        let traffic = self.admission.counters.traffic(client.family());
        traffic.requests(kind).add(1);
        if let Request::Announce(announce) = &request
            && let Some(skipped) = &announce.skipped
        {
            let too_large = usize::try_from(skipped.too_large).unwrap_or(usize::MAX);
            traffic.reason(Reason::OfferSize).add(too_large);
        }
        Ok(request)
    }

    /// Takes a message that has been [received](Self::receive) and counted before, and had to wait.
    ///
    /// # Errors
    /// If it is not to be read. It was, so that is not to be expected.
    pub fn receive_again<'a>(&self, message: &'a [u8]) -> Result<Request<'a>, Failure> {
        Ok(Request::parse_within(message, self.offer_bytes_max)?)
    }

    /// Whether a request that was received is served, as far as the key of its connection, its
    /// torrent and its software say. The key comes first, so that a stranger does not learn which
    /// of the others are served.
    ///
    /// # Errors
    /// If it is not.
    pub fn judge(&mut self, key: Option<&UrlKey>, request: &Request<'_>) -> Result<(), Refusal> {
        self.admission.keys.check(key.map(UrlKey::bytes))?;
        let (info_hash, peer_id) = match request {
            Request::Announce(announce) => (announce.info_hash, announce.peer_id),
            Request::Answer(answer) => (answer.info_hash, answer.peer_id),
            Request::Scrape(_) => return Ok(()),
        };
        if !self.admission.allows_torrent(&info_hash) {
            return Err(Refusal::INFO_HASH_DENIED);
        }
        if !self.admission.allows_peer_id(&peer_id) {
            return Err(Refusal::PEER_ID_DENIED);
        }
        Ok(())
    }

    /// Tells of an announce that is served, if somebody wants that.
    pub fn tell(&mut self, now: Now, session: &Session, announce: &AnnounceRequest<'_>) {
        let Some(tap) = &mut self.admission.announces else {
            return;
        };
        let served = ServedAnnounce {
            info_hash: announce.info_hash,
            peer_id: announce.peer_id,
            ip: session.client.ip(),
            port: None,
            uploaded: announce.bytes_uploaded,
            downloaded: announce.bytes_downloaded,
            left: announce.bytes_left,
            event: announce.event,
            key: session.url_key().map(UrlKey::bytes),
        };
        tap.note(now, &served);
    }

    /// Whether a key has room for a peer, which counts from now on until it
    /// [leaves](aquatic_keys::SharedKeys::leave): its connection is watched.
    ///
    /// # Errors
    /// If it has none.
    pub fn admit_by_key(
        &mut self,
        now: Now,
        key: Option<&UrlKey>,
        peer: PeerOfKey,
    ) -> Result<(), KeyRefusal> {
        let key = key.map(UrlKey::bytes);
        self.admission.keys.admit(key, announcer(now, peer))
    }

    /// A peer that is in its swarm already counts among those of its key, whether there is room for
    /// it or not.
    pub fn keep_by_key(&mut self, now: Now, key: Option<&UrlKey>, peer: PeerOfKey) {
        let key = key.map(UrlKey::bytes);
        self.admission.keys.keep(key, announcer(now, peer));
    }

    /// A peer is none of the peers of its key any more.
    pub fn leave(&mut self, key: Option<&UrlKey>, peer: PeerOfKey) {
        self.admission.keys.leave(key.map(UrlKey::bytes), peer);
    }
}

fn announcer(now: Now, peer: PeerOfKey) -> Announcer<PeerOfKey> {
    Announcer {
        now: now.seconds,
        age_seconds_max: None,
        peer,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aquatic_access_list::SharedAccessList;
    use aquatic_types::{IpFamily, Seconds};
    use aquatic_ws_protocol::{Action, ScrapeRequest};

    use aquatic_types::InfoHash;

    use super::*;
    use crate::counters::WorkerCounters;

    const NOW: Now = Now {
        seconds: Seconds(1_000),
        micros: 1_000_000_000,
    };

    const INFO_HASH: InfoHash = InfoHash([b'a'; 20]);

    const IDS: &str = r#""info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"pppppppppppppppppppp""#;

    const ANSWER: &str = concat!(
        r#","to_peer_id":"qqqqqqqqqqqqqqqqqqqq","#,
        r#""offer_id":"oooooooooooooooooooo","answer":{}"#
    );

    struct Fixture {
        service: Service,
        counters: Arc<WorkerCounters>,
        access_list: SharedAccessList,
    }

    impl Fixture {
        /// With an access list on which nothing is.
        fn new(config: &Config, requests_per_second: Option<u32>) -> Self {
            let scrape_torrents_max = config.protocol.max_scrape_torrents;
            let (admission, access_list) =
                Admission::for_tests(requests_per_second, scrape_torrents_max);
            let counters = Arc::clone(&admission.counters);
            Self {
                service: Service::new(config, admission),
                counters,
                access_list,
            }
        }

        fn receive<'a>(&mut self, message: &'a str) -> Result<Request<'a>, Failure> {
            let client = CanonicalAddr::new("192.0.2.1:1".parse().unwrap());
            let request = self.service.receive(NOW, client, message.as_bytes())?;
            self.judged(request)
        }

        fn receive_again<'a>(&mut self, message: &'a str) -> Result<Request<'a>, Failure> {
            let request = self.service.receive_again(message.as_bytes())?;
            self.judged(request)
        }

        fn judged<'a>(&mut self, request: Request<'a>) -> Result<Request<'a>, Failure> {
            let judged = self.service.judge(None, &request);
            judged.map_err(|refusal| refusal.about_request(&request))?;
            Ok(request)
        }

        fn requests(&self, kind: RequestKind) -> u64 {
            self.counters.traffic(IpFamily::V4).requests(kind).get()
        }
    }

    fn announce(more: &str) -> String {
        format!(r#"{{"action":"announce",{IDS}{more}}}"#)
    }

    #[test]
    fn who_sends_too_much_is_told_what_is_not_served() {
        let mut fixture = Fixture::new(&Config::default(), Some(2));
        for _ in 0..2 {
            assert!(fixture.receive(&announce("")).is_ok());
        }
        let refused = |action, info_hash| Err(Refusal::REQUEST_RATE.about(action, info_hash));
        let about_announce = refused(Action::Announce, Some(INFO_HASH));
        assert_eq!(fixture.receive(&announce("")), about_announce);
        assert_eq!(fixture.receive(&announce(r#","left""#)), about_announce);
        let scrape = r#"{"action":"scrape"}"#;
        assert_eq!(fixture.receive(scrape), refused(Action::Scrape, None));
        assert_eq!(fixture.requests(RequestKind::Announce), 2);
        assert_eq!(fixture.requests(RequestKind::Scrape), 0);
    }

    #[test]
    fn torrents_that_are_not_allowed_are_refused_from_the_next_round_on() {
        let mut fixture = Fixture::new(&Config::default(), None);
        let (announce, answer) = (announce(""), announce(ANSWER));
        assert!(fixture.receive(&announce).is_ok());
        assert!(fixture.receive(&answer).is_ok());
        assert!(fixture.service.admission.allows_torrent(&INFO_HASH));
        let replaced = fixture
            .access_list
            .replace([INFO_HASH].into_iter().collect());
        fixture.service.admission.refresh();
        assert!(
            !replaced.is_in_use(),
            "it is not kept by a service that has nothing to do"
        );
        assert!(!fixture.service.admission.allows_torrent(&INFO_HASH));
        let denied = Err(Refusal::INFO_HASH_DENIED.about(Action::Announce, Some(INFO_HASH)));
        assert_eq!(fixture.receive(&announce), denied);
        assert_eq!(fixture.receive(&answer), denied);
        assert_eq!(fixture.receive_again(&announce), denied);
        // Its numbers are zeros then.
        let scrape = r#"{"action":"scrape","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#;
        assert!(matches!(fixture.receive(scrape), Ok(Request::Scrape(_))));
        assert_eq!(fixture.requests(RequestKind::Announce), 2);
        assert_eq!(fixture.requests(RequestKind::Answer), 2);
        assert_eq!(fixture.requests(RequestKind::Scrape), 1);
    }

    #[test]
    fn a_message_that_had_to_wait_is_not_counted_twice() {
        let mut fixture = Fixture::new(&Config::default(), None);
        let message = announce("");
        assert!(fixture.receive(&message).is_ok());
        let again = fixture.receive_again(&message);
        assert!(matches!(again, Ok(Request::Announce(_))));
        assert_eq!(fixture.requests(RequestKind::Announce), 1);
    }

    #[test]
    fn offers_that_are_too_large_are_counted() {
        let mut config = Config::default();
        config.protocol.max_offer_size = 10;
        let mut fixture = Fixture::new(&config, None);
        let offer = r#"{"offer_id":"oooooooooooooooooooo","offer":"xxxxxxxxxxx"}"#;
        let message = announce(&format!(r#","offers":[{offer},7,{offer}]"#));
        assert!(fixture.receive(&message).is_ok());
        let traffic = fixture.counters.traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::OfferSize).get(), 2);
    }

    #[test]
    fn so_many_torrents_of_a_scrape_are_answered() {
        let mut config = Config::default();
        config.protocol.max_scrape_torrents = 2;
        let mut fixture = Fixture::new(&config, None);
        let info_hashes = [1, 2, 3].map(|byte| InfoHash([byte; 20])).to_vec();
        let scrape = ScrapeRequest { info_hashes };
        let scraped = fixture
            .service
            .admission
            .scraped(scrape.info_hashes.iter().copied());
        let answered = scraped.map(|(info_hash, _)| info_hash);
        assert!(answered.eq(scrape.info_hashes[..2].iter().copied()));
    }
}
