//! From the bytes of a message to what has to be done about it. Pure.
//!
//! [`Service::receive`] is what a socket worker decides alone: the time, the client and the message
//! come in; a request that may be served or a [`Failure`] comes out. What needs the swarms is
//! decided by their [`signalling`](crate::signalling).

use aquatic_daemon::clock::Now;
use aquatic_tracker::admission::Admission;
use aquatic_types::CanonicalAddr;
use aquatic_ws_protocol::Request;

use crate::config::Config;
use crate::counters::{Reason, RequestKind, WebTorrent};
use crate::refusal::{Failure, Refusal};

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
        self.if_allowed(request)
    }

    /// Takes a message that has been [received](Self::receive) and counted before, and had to wait.
    ///
    /// # Errors
    /// If it is not served any more.
    pub fn receive_again<'a>(&mut self, message: &'a [u8]) -> Result<Request<'a>, Failure> {
        let request = Request::parse_within(message, self.offer_bytes_max)?;
        self.if_allowed(request)
    }

    fn if_allowed<'a>(&mut self, request: Request<'a>) -> Result<Request<'a>, Failure> {
        let info_hash = match &request {
            Request::Announce(announce) => announce.info_hash,
            Request::Answer(answer) => answer.info_hash,
            Request::Scrape(_) => return Ok(request),
        };
        if !self.admission.allows_torrent(&info_hash) {
            return Err(Refusal::INFO_HASH_DENIED.about_request(&request));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aquatic_access_list::SharedAccessList;
    use aquatic_types::IpFamily;
    use aquatic_ws_protocol::{Action, ScrapeRequest};

    use aquatic_types::InfoHash;

    use super::*;
    use crate::counters::WorkerCounters;

    const NOW: Now = Now {
        seconds: aquatic_types::Seconds(1_000),
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
            self.service.receive(NOW, client, message.as_bytes())
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
        assert_eq!(fixture.service.receive_again(announce.as_bytes()), denied);
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
        let again = fixture.service.receive_again(message.as_bytes());
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
