//! From the head of a request to what has to be done about it. Pure.
//!
//! [`Service::receive`] decides about each request: what is refused, and what goes to the swarms.
//! The time, the peer and the request come in; a [`Refusal`] or a message to the owner of a torrent
//! comes out. No socket, no clock.

use std::net::IpAddr;

use aquatic_daemon::clock::Now;
use aquatic_http_protocol::{AnnounceRequest, Connection, Framing, Head, Request, ScrapeRequest};
use aquatic_keys::Announcer;
use aquatic_keys::key_in_url;
use aquatic_stream::ReverseProxy;
use aquatic_tracker::admission::{AddressPeer, Admission, peer_id_rules};
use aquatic_tracker::announces::ServedAnnounce;
use aquatic_types::{
    AnnounceEvent, CanonicalAddr, CompactAddr, CompactV4, CompactV6, IpFamily, PeerStatus,
};

use crate::config::{Config, Intervals};
use crate::counters::{Http, RequestKind};
use crate::messages::Announce;
use crate::refusal::Refusal;
use crate::response_target::ResponseTarget;

/// What is said to people who open the tracker's address in a browser.
const ABOUT: &str = "BitTorrent tracker (aquatic_http): clients announce at /announce\n";

/// Decides about requests.
pub struct Service {
    /// Which clients and torrents are served, and where that is counted.
    pub admission: Admission<Http>,
    proxy: Option<ReverseProxy>,
    keep_alive: bool,
    answers_health_checks: bool,
    intervals: Intervals,
    response_peers_max: u16,
    /// Under its key, a peer counts for so long.
    peer_age_seconds_max: u32,
    /// 0: full scrapes are refused.
    full_scrape_torrents_max: usize,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The client's family, under which the request is counted.
    pub family: IpFamily,
    /// What is left to do, or why it is not served.
    pub dispatch: Result<Dispatch<'a>, Refusal>,
}

/// What is left to do about a request that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch<'a> {
    /// To be answered by the owner of the torrent.
    AnnounceV4(Announce<CompactV4>),
    /// To be answered by the owner of the torrent.
    AnnounceV6(Announce<CompactV6>),
    /// An announce that would be served, but was made with HEAD, which changes nothing (RFC 9110,
    /// 9.2.1): to be answered with a head.
    AnnounceHead,
    /// To be put together from what the owners of the torrents say.
    Scrape(ScrapeRequest<'a>),
    /// To be gathered from all shards, up to so many torrents.
    FullScrape(usize),
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, admission: Admission<Http>) -> Self {
        Self {
            admission,
            proxy: ReverseProxy::from_config(&config.network.stream),
            keep_alive: config.network.keep_alive,
            answers_health_checks: config.network.enable_http_health_checks,
            intervals: config.intervals(),
            response_peers_max: response_peers_max(config),
            peer_age_seconds_max: config.cleaning.max_peer_age,
            full_scrape_torrents_max: config.protocol.max_full_scrape_torrents,
        }
    }

    /// Goes by `config` from now on, as far as that can change while the tracker serves.
    pub fn follow(&mut self, config: &Config) {
        self.admission.scrape_torrents_max = config.protocol.max_scrape_torrents;
        self.admission.peer_ids = peer_id_rules(&config.access_list);
        self.keep_alive = config.network.keep_alive;
        self.answers_health_checks = config.network.enable_http_health_checks;
        self.intervals = config.intervals();
        self.response_peers_max = response_peers_max(config);
        self.peer_age_seconds_max = config.cleaning.max_peer_age;
        self.full_scrape_torrents_max = config.protocol.max_full_scrape_torrents;
    }

    /// How the answer must look as HTTP: as the client wishes, if it may.
    #[must_use]
    pub fn framing(&self, head: &Head<'_>) -> Framing {
        let mut framing = head.framing;
        if !self.keep_alive {
            framing.connection = Connection::Close;
        }
        framing
    }

    /// When clients are told to come again.
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        self.intervals
    }

    /// The text for those who look whether a tracker is there, if that is what is asked for. They
    /// need not be told apart: a load balancer asks for itself, and names no client. `/` with a
    /// query is rather an announce that has lost its way.
    #[must_use]
    pub fn text(&self, head: &Head<'_>) -> Option<&'static str> {
        match head.path {
            b"/health" if self.answers_health_checks => Some("ok\n"),
            b"/" if self.answers_health_checks && head.query.is_empty() => Some(ABOUT),
            _ => None,
        }
    }

    /// Takes a request that came over a connection with `peer`.
    pub fn receive<'a>(
        &mut self,
        now: Now,
        peer: CanonicalAddr,
        target: ResponseTarget,
        head: &Head<'a>,
    ) -> Received<'a> {
        let client = match &self.proxy {
            Some(proxy) => proxy.client(peer, head.headers()).map_err(Refusal::from),
            None => Ok(peer),
        };
        let client = client.and_then(|client| self.if_served(client));
        Received {
            family: client.map_or(peer.family(), CanonicalAddr::family),
            dispatch: client.and_then(|client| self.decide(now, client, target, head)),
        }
    }

    /// Who has connected has been looked at then; whom a reverse proxy names has not.
    fn if_served(&mut self, client: CanonicalAddr) -> Result<CanonicalAddr, Refusal> {
        match self.proxy.is_some() && self.admission.denies_network(client) {
            true => Err(Refusal::NETWORK_DENIED),
            false => Ok(client),
        }
    }

    fn decide<'a>(
        &mut self,
        now: Now,
        client: CanonicalAddr,
        target: ResponseTarget,
        head: &Head<'a>,
    ) -> Result<Dispatch<'a>, Refusal> {
        if !self.admission.allows_request(now, client) {
            return Err(Refusal::REQUEST_RATE);
        }
        let counters = self.admission.counters.traffic(client.family());
        match Request::parse(head.path, head.query)? {
            Request::Announce(announce) => {
                counters.requests(RequestKind::Announce).add(1);
                self.announce((now, client), target, head, &announce)
            }
            Request::Scrape(scrape) => {
                counters.requests(RequestKind::Scrape).add(1);
                let key = self.admission.key_in((head.path, head.query));
                self.admission.keys.check(key)?;
                match (scrape.info_hashes.is_empty(), self.full_scrape_torrents_max) {
                    (false, _) => Ok(Dispatch::Scrape(scrape)),
                    (true, 0) => Err(Refusal::FULL_SCRAPE),
                    (true, torrents_max) => Ok(Dispatch::FullScrape(torrents_max)),
                }
            }
        }
    }

    fn announce<'a>(
        &mut self,
        (now, client): (Now, CanonicalAddr),
        target: ResponseTarget,
        head: &Head<'_>,
        request: &AnnounceRequest,
    ) -> Result<Dispatch<'a>, Refusal> {
        let key = self.admission.key_in((head.path, head.query));
        let peer = AddressPeer {
            info_hash: request.info_hash,
            ip: client.ip(),
            port: request.port,
        };
        let (is_head, is_leaving) = (
            target.framing.omit_body,
            request.status() == PeerStatus::Stopped,
        );
        if is_leaving && !is_head {
            self.admission.keys.leave(key, peer);
        }
        self.admission.keys.check(key)?;
        if !self.admission.allows_torrent(&request.info_hash) {
            return Err(Refusal::INFO_HASH_DENIED);
        }
        if !self.admission.allows_peer_id(&request.peer_id) {
            return Err(Refusal::PEER_ID_DENIED);
        }
        if is_head {
            return Ok(Dispatch::AnnounceHead);
        }
        if !is_leaving {
            let announcer = Announcer {
                now: now.seconds,
                age_seconds_max: Some(self.peer_age_seconds_max),
                peer,
            };
            self.admission.keys.admit(key, announcer)?;
        }
        if let Some(tap) = &mut self.admission.announces {
            tap.note(
                now,
                &ServedAnnounce {
                    info_hash: request.info_hash,
                    peer_id: request.peer_id,
                    ip: client.ip(),
                    port: Some(request.port),
                    uploaded: Some(request.bytes_uploaded),
                    downloaded: Some(request.bytes_downloaded),
                    left: request.bytes_left,
                    event: request.event,
                    key: key_in_url(head.path, head.query),
                },
            );
        }
        Ok(match client.ip() {
            IpAddr::V4(ip) => {
                let peer = CompactV4::new(ip, request.port);
                Dispatch::AnnounceV4(self.message(target, peer, request))
            }
            IpAddr::V6(ip) => {
                let peer = CompactV6::new(ip, request.port);
                Dispatch::AnnounceV6(self.message(target, peer, request))
            }
        })
    }

    fn message<K>(
        &self,
        target: ResponseTarget,
        peer: K,
        request: &AnnounceRequest,
    ) -> Announce<K> {
        let wanted = request.num_want.unwrap_or(u32::MAX);
        Announce {
            target,
            peer_form: request.peer_form,
            info_hash: request.info_hash,
            client: request.peer_id.client_prefix(),
            announce: aquatic_swarm::Announce {
                peer,
                status: request.status(),
                completed: request.event == AnnounceEvent::Completed,
                num_want: u16::try_from(wanted)
                    .unwrap_or(u16::MAX)
                    .min(self.response_peers_max),
            },
        }
    }
}

fn response_peers_max(config: &Config) -> u16 {
    u16::try_from(config.protocol.max_peers).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aquatic_access_list::SharedAccessList;
    use aquatic_stream::ConnectionKey;

    use aquatic_types::InfoHash;

    use super::*;
    use crate::counters::WorkerCounters;

    const NOW: Now = Now {
        seconds: aquatic_types::Seconds(1_000),
        micros: 1_000_000_000,
    };

    const INFO_HASH: InfoHash = InfoHash([b'a'; 20]);

    const ANNOUNCE: &str =
        "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-XX0100-123456789012&port=6881";

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

        fn receive<'a>(&mut self, head: &Head<'a>) -> Result<Dispatch<'a>, Refusal> {
            let peer = CanonicalAddr::new("192.0.2.1:1".parse().unwrap());
            let target = ResponseTarget {
                connection: ConnectionKey::default(),
                framing: self.service.framing(head),
            };
            let received = self.service.receive(NOW, peer, target, head);
            assert_eq!(received.family, IpFamily::V4);
            received.dispatch
        }

        fn requests(&self, kind: RequestKind) -> u64 {
            self.counters.traffic(IpFamily::V4).requests(kind).get()
        }
    }

    fn head(method: &str, target: &str) -> Head<'static> {
        let text = format!("{method} {target} HTTP/1.1\r\n\r\n");
        Head::parse(text.leak().as_bytes()).unwrap().unwrap()
    }

    fn get(target: &str) -> Head<'static> {
        head("GET", target)
    }

    #[test]
    fn connections_stay_open_as_configured() {
        let mut config = Config::default();
        for (keep_alive, connection) in [(true, Connection::KeepAlive), (false, Connection::Close)]
        {
            config.network.keep_alive = keep_alive;
            let framing = Fixture::new(&config, None)
                .service
                .framing(&head("HEAD", "/"));
            assert_eq!(framing.connection, connection);
            assert!(framing.omit_body);
        }
    }

    #[test]
    fn intervals_are_those_of_the_configuration() {
        let mut config = Config::default();
        config.protocol.peer_announce_interval = 1_234;
        let fixture = Fixture::new(&config, None);
        assert_eq!(fixture.service.intervals(), config.intervals());
        assert_eq!(fixture.service.intervals().announce_seconds, 1_234);
    }

    #[test]
    fn people_and_load_balancers_are_answered_in_text_if_they_may_ask() {
        let mut config = Config::default();
        for answers in [true, false] {
            config.network.enable_http_health_checks = answers;
            let fixture = Fixture::new(&config, None);
            for (target, text) in [
                ("/health", Some("ok\n")),
                ("/health?x", Some("ok\n")),
                ("/", Some(ABOUT)),
                ("/?info_hash=x", None),
                ("/healthy", None),
                ("/announce", None),
            ] {
                let expected = text.filter(|_| answers);
                assert_eq!(fixture.service.text(&get(target)), expected, "{target}");
            }
        }
    }

    #[test]
    fn who_asks_too_often_is_refused() {
        let mut fixture = Fixture::new(&Config::default(), Some(2));
        for _ in 0..2 {
            assert!(fixture.receive(&get(ANNOUNCE)).is_ok());
        }
        assert_eq!(fixture.receive(&get(ANNOUNCE)), Err(Refusal::REQUEST_RATE));
        assert_eq!(fixture.requests(RequestKind::Announce), 2);
    }

    #[test]
    fn torrents_that_are_not_allowed_are_refused_from_the_next_round_on() {
        let mut fixture = Fixture::new(&Config::default(), None);
        assert!(matches!(
            fixture.receive(&get(ANNOUNCE)),
            Ok(Dispatch::AnnounceV4(_))
        ));
        let replaced = fixture
            .access_list
            .replace([INFO_HASH].into_iter().collect());
        fixture.service.admission.refresh();
        assert!(
            !replaced.is_in_use(),
            "it is not kept by a service that has nothing to do"
        );
        for method in ["GET", "HEAD"] {
            let refused = fixture.receive(&head(method, ANNOUNCE));
            assert_eq!(refused, Err(Refusal::INFO_HASH_DENIED));
        }
    }

    #[test]
    fn an_announce_says_who_is_where_and_what_it_wants() {
        let mut config = Config::default();
        config.protocol.max_peers = 30;
        let mut fixture = Fixture::new(&config, None);
        for (more, completed, num_want) in [
            ("", false, 30),
            ("&event=completed", true, 30),
            ("&event=started&numwant=7", false, 7),
            ("&numwant=70000", false, 30),
        ] {
            let dispatch = fixture.receive(&get(&format!("{ANNOUNCE}{more}")));
            let Ok(Dispatch::AnnounceV4(announce)) = dispatch else {
                panic!("{dispatch:?}");
            };
            assert_eq!(
                announce.announce.peer,
                CompactV4::new([192, 0, 2, 1].into(), 6_881)
            );
            assert_eq!(
                (announce.info_hash, announce.client),
                (INFO_HASH, *b"-XX0100-")
            );
            assert_eq!(
                (announce.announce.completed, announce.announce.num_want),
                (completed, num_want)
            );
        }
        assert_eq!(
            fixture.receive(&head("HEAD", ANNOUNCE)),
            Ok(Dispatch::AnnounceHead)
        );
    }

    #[test]
    fn scrapes_of_everything_are_served_only_where_that_is_configured() {
        let mut config = Config::default();
        config.protocol.max_scrape_torrents = 2;
        let mut fixture = Fixture::new(&config, None);
        assert_eq!(fixture.receive(&get("/scrape")), Err(Refusal::FULL_SCRAPE));
        fixture
            .access_list
            .replace([InfoHash([b'b'; 20])].into_iter().collect());
        let hashes = ["a", "b", "c"].map(|byte| format!("info_hash={}", byte.repeat(20)));
        let scrape = get(&format!("/scrape?{}", hashes.join("&")));
        let Ok(Dispatch::Scrape(scrape)) = fixture.receive(&scrape) else {
            panic!("not a scrape");
        };
        let expected = [(INFO_HASH, true), (InfoHash([b'b'; 20]), false)];
        assert!(
            fixture
                .service
                .admission
                .scraped(scrape.info_hashes.iter())
                .eq(expected)
        );
        assert_eq!(fixture.requests(RequestKind::Scrape), 2);

        config.protocol.max_full_scrape_torrents = 1_000;
        let dispatch = Fixture::new(&config, None).receive(&get("/scrape"));
        assert_eq!(dispatch, Ok(Dispatch::FullScrape(1_000)));
    }
}
