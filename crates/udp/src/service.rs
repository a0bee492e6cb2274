//! From the bytes of a datagram to what has to be done about it. Pure.
//!
//! [`Service::receive`] decides about each datagram: what is dropped, what is refused, what is
//! answered at once and what goes to the swarms. The time, the sender and the bytes come
//! in; an answer goes into the caller's outbox. No socket, no clock.

mod keys;

use std::net::SocketAddr;

use aquatic_access_list::{AccessListReader, PeerIdRules};
use aquatic_keys::KeyReader;
use aquatic_tracker::admission::{Admission, PEER_ID_DENIED, peer_id_rules};
use aquatic_tracker::announces::{AnnounceTap, ServedAnnounce};
use aquatic_types::{
    AnnounceEvent, CanonicalAddr, CompactAddr, CompactV4, CompactV6, IpFamily, PeerStatus,
};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectResponse, ConnectionId, ERROR_RESPONSE_HEADER_SIZE,
    ErrorResponse, Request, RequestError, RequestErrorKind, SCRAPE_REQUEST_SIZE_MIN, ScrapeRequest,
    TransactionId,
};
use aquatic_udp_socket::{Outbox, ReturnPath};

use crate::Now;
use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::{Reason, RequestKind, ResponseKind, TrafficCounters, Udp};
use crate::messages::Announce;

/// What a client with an unknown or expired connection id is told, so that it connects again. It
/// need not own the address it sends from, so the answer must not be larger than the
/// smallest request that gets it: a scrape of one torrent, 36 bytes.
const CONNECT_AGAIN: &str = "connection id expired";

/// A scrape over UDP has no options, so it cannot bring a key.
const SCRAPE_WITHOUT_KEY: &str = "scrapes need a key here, and have none over UDP";

const _: () = assert!(ERROR_RESPONSE_HEADER_SIZE + CONNECT_AGAIN.len() <= SCRAPE_REQUEST_SIZE_MIN);

/// Decides about datagrams.
pub struct Service {
    /// With the same secret in all workers, so that any of them can check an id.
    connection_ids: ConnectionIds,
    /// Which clients and torrents are served, and where that is counted.
    pub admission: Admission<Udp>,
    response_peers_max: u16,
    /// Requests with a connection id that nobody was given.
    forged: u64,
    /// Under its key, a peer counts for so long.
    peer_age_seconds_max: u32,
}

/// What is left to do about a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch<'a> {
    /// Nothing: it was answered, refused or dropped.
    Done,
    /// To be answered by the owner of the torrent.
    AnnounceV4(Announce<CompactV4>),
    /// To be answered by the owner of the torrent.
    AnnounceV6(Announce<CompactV6>),
    /// To be put together from what the owners of the torrents say.
    Scrape(IpFamily, ScrapeRequest<'a>),
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, connection_ids: ConnectionIds, admission: Admission<Udp>) -> Self {
        Self {
            connection_ids,
            admission,
            response_peers_max: response_peers_max(config),
            forged: 0,
            peer_age_seconds_max: config.cleaning.max_peer_age,
        }
    }

    /// Goes by `config` from now on, as far as that can change while the tracker serves.
    pub fn follow(&mut self, config: &Config) {
        self.admission.scrape_torrents_max = config.protocol.max_scrape_torrents;
        self.admission.peer_ids = peer_id_rules(&config.access_list);
        self.response_peers_max = response_peers_max(config);
        self.peer_age_seconds_max = config.cleaning.max_peer_age;
    }

    /// Takes a datagram that came to `socket`. What can be answered at once goes into `outbox`.
    pub fn receive<'a>(
        &mut self,
        now: Now,
        socket: u8,
        path: ReturnPath,
        bytes: &'a [u8],
        outbox: &mut Outbox,
    ) -> Dispatch<'a> {
        let from = CanonicalAddr::new(path.peer());
        let is_denied = self.admission.denies_network(from);
        let counters = self.admission.counters.traffic(from.family());
        counters.received_bytes.add(bytes.len());
        if is_denied {
            // Without an answer: whoever forges an address could have others answered with it.
            counters.reason(Reason::NetworkDenied).add(1);
            return Dispatch::Done;
        }
        if from.get().port() == 0 {
            counters.reason(Reason::SourcePortZero).add(1);
            return Dispatch::Done;
        }
        if !self.admission.allows_request(now, from) {
            counters.reason(Reason::RequestRate).add(1);
            return Dispatch::Done;
        }
        let Admission {
            access_list,
            keys,
            peer_ids,
            counters,
            announces,
            ..
        } = &mut self.admission;
        let mut context = RequestContext {
            now,
            path,
            from,
            connection_ids: &self.connection_ids,
            access_list,
            keys,
            peer_ids,
            announces: announces.as_mut(),
            counters: counters.traffic(from.family()),
            outbox,
            response_peers_max: self.response_peers_max,
            forged: &mut self.forged,
            peer_age_seconds_max: self.peer_age_seconds_max,
        };
        match Request::parse(bytes) {
            Ok(Request::Connect(connect)) => context.connect(connect),
            Ok(Request::Announce(announce)) => context.announce(socket, &announce),
            Ok(Request::Scrape(scrape)) => context.scrape(scrape),
            Err(error) => context.malformed(error),
        }
    }

    /// Takes note of what the system's clock says at `now`. To be called about once a second.
    pub fn synchronise(&mut self, now: Now, unix_micros: u64) {
        self.connection_ids.synchronise(now, unix_micros);
    }

    /// How many requests there have been with a connection id that nobody was given.
    pub(crate) fn forged(&self) -> u64 {
        self.forged
    }

    /// What ids it gives and takes.
    pub(crate) fn connection_ids(&self) -> &ConnectionIds {
        &self.connection_ids
    }

    /// Drops a datagram that is longer than any request, so that only its beginning was received.
    pub fn receive_too_long(&self, path: ReturnPath, bytes: &[u8]) {
        let family = CanonicalAddr::new(path.peer()).family();
        let counters = self.admission.counters.traffic(family);
        counters.received_bytes.add(bytes.len());
        counters.reason(Reason::TooLong).add(1);
    }
}

fn response_peers_max(config: &Config) -> u16 {
    u16::try_from(config.protocol.max_response_peers).unwrap_or(u16::MAX)
}

/// All that is at hand while one datagram is dealt with.
struct RequestContext<'s> {
    now: Now,
    path: ReturnPath,
    from: CanonicalAddr,
    connection_ids: &'s ConnectionIds,
    access_list: &'s mut AccessListReader,
    keys: &'s mut KeyReader,
    peer_ids: &'s PeerIdRules,
    announces: Option<&'s mut AnnounceTap>,
    counters: &'s TrafficCounters,
    outbox: &'s mut Outbox,
    response_peers_max: u16,
    forged: &'s mut u64,
    peer_age_seconds_max: u32,
}

impl RequestContext<'_> {
    fn connect<'a>(&mut self, connect: ConnectRequest) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Connect).add(1);
        self.counters.responses(ResponseKind::Connect).add(1);
        let answer = ConnectResponse {
            transaction_id: connect.transaction_id,
            connection_id: self.connection_ids.issue(self.now, self.from.ip()),
        };
        self.outbox
            .push_with(self.path, |bytes| answer.write(bytes));
        Dispatch::Done
    }

    fn announce<'a>(&mut self, socket: u8, request: &AnnounceRequest<'_>) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Announce).add(1);
        let transaction_id = request.transaction_id;
        if !self.is_connected(request.connection_id) {
            self.refuse_id(transaction_id, request.connection_id);
            return Dispatch::Done;
        }
        let url = self
            .keys
            .is_required()
            .then(|| keys::announce_url(request.options));
        let key = url.as_deref().and_then(keys::key_in);
        if let Err(refusal) = self.check_key(key, request) {
            self.refuse_key(transaction_id, refusal);
            return Dispatch::Done;
        }
        if !self.access_list.is_allowed(&request.info_hash) {
            self.refuse(
                transaction_id,
                Reason::InfoHashDenied,
                "torrent not allowed here",
            );
            return Dispatch::Done;
        }
        if !self.peer_ids.allow(&request.peer_id) {
            self.refuse(transaction_id, Reason::PeerIdDenied, PEER_ID_DENIED);
            return Dispatch::Done;
        }
        if let Err(refusal) = self.admit_by_key(key, request) {
            self.refuse_key(transaction_id, refusal);
            return Dispatch::Done;
        }
        if self.announces.is_some() {
            self.tell(request);
        }
        match self.from.get() {
            SocketAddr::V4(from) => {
                let peer = CompactV4::new(*from.ip(), request.port);
                Dispatch::AnnounceV4(self.message(socket, peer, request))
            }
            SocketAddr::V6(from) => {
                let peer = CompactV6::new(*from.ip(), request.port);
                Dispatch::AnnounceV6(self.message(socket, peer, request))
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self, request: &AnnounceRequest<'_>) {
        let url = keys::announce_url(request.options);
        let announce = ServedAnnounce {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            ip: self.from.ip(),
            port: Some(request.port),
            uploaded: Some(request.bytes_uploaded),
            downloaded: Some(request.bytes_downloaded),
            left: Some(request.bytes_left),
            event: request.event,
            key: keys::key_in(&url),
        };
        if let Some(tap) = &mut self.announces {
            tap.note(self.now, &announce);
        }
    }

    fn message<K>(&self, socket: u8, peer: K, request: &AnnounceRequest<'_>) -> Announce<K> {
        // A negative number, usually -1, asks for as many as there are.
        let wanted = u16::try_from(request.num_want.min(i32::from(u16::MAX)));
        Announce {
            socket,
            path: self.path,
            transaction_id: request.transaction_id,
            info_hash: request.info_hash,
            client: request.peer_id.client_prefix(),
            announce: aquatic_swarm::Announce {
                peer,
                status: PeerStatus::new(request.event, request.bytes_left),
                completed: request.event == AnnounceEvent::Completed,
                num_want: wanted.unwrap_or(u16::MAX).min(self.response_peers_max),
            },
        }
    }

    fn scrape<'a>(&mut self, request: ScrapeRequest<'a>) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Scrape).add(1);
        if !self.is_connected(request.connection_id) {
            self.refuse_id(request.transaction_id, request.connection_id);
            return Dispatch::Done;
        }
        if self.keys.is_required() {
            self.refuse(
                request.transaction_id,
                Reason::KeyMissing,
                SCRAPE_WITHOUT_KEY,
            );
            return Dispatch::Done;
        }
        Dispatch::Scrape(self.from.family(), request)
    }

    /// Only a client that owns its address is told what is wrong with its request.
    fn malformed<'a>(&mut self, error: RequestError) -> Dispatch<'a> {
        let reason = match error.kind {
            RequestErrorKind::TooShort => Reason::TooShort,
            RequestErrorKind::UnknownAction => Reason::UnknownAction,
            RequestErrorKind::NotConnect => Reason::NotConnect,
            RequestErrorKind::PortZero => Reason::PortZero,
            RequestErrorKind::NoInfoHash => Reason::NoInfoHash,
        };
        match error.answerable {
            Some((connection_id, transaction_id)) if self.is_connected(connection_id) => {
                self.refuse(transaction_id, reason, &error.kind.to_string());
            }
            Some(_) => self.counters.reason(Reason::Unconnected).add(1),
            None => self.counters.reason(reason).add(1),
        }
        Dispatch::Done
    }

    /// Whether the client has shown that it owns its address.
    fn is_connected(&self, connection_id: ConnectionId) -> bool {
        self.connection_ids
            .is_valid(self.now, self.from.ip(), connection_id)
    }

    fn refuse_id(&mut self, transaction_id: TransactionId, id: ConnectionId) {
        if !self.connection_ids.is_genuine(self.now, self.from.ip(), id) {
            *self.forged += 1;
        }
        self.refuse(transaction_id, Reason::ConnectionId, CONNECT_AGAIN);
    }

    fn refuse(&mut self, transaction_id: TransactionId, reason: Reason, message: &str) {
        self.counters.reason(reason).add(1);
        self.counters.responses(ResponseKind::Error).add(1);
        let error = ErrorResponse {
            transaction_id,
            message: message.as_bytes(),
        };
        self.outbox.push_with(self.path, |bytes| error.write(bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aquatic_access_list::SharedAccessList;
    use aquatic_udp_protocol::{ANNOUNCE_REQUEST_SIZE, PROTOCOL_ID, Response};
    use proptest::prelude::*;

    use aquatic_types::InfoHash;

    use super::*;
    use crate::counters::WorkerCounters;
    use crate::socket_worker::DATAGRAM_BYTES_MAX;

    const NOW: Now = Now {
        seconds: aquatic_types::Seconds(1_000),
        micros: 1_000_000_000,
    };

    fn connection_ids() -> ConnectionIds {
        ConnectionIds::new([1, 2], 120, 0)
    }

    fn service() -> Service {
        service_with(Config::default(), None).0
    }

    /// A service, what it counts and its access list, on which nothing is.
    fn service_with(
        config: Config,
        requests_per_second: Option<u32>,
    ) -> (Service, Arc<WorkerCounters>, SharedAccessList) {
        let scrape_torrents_max = config.protocol.max_scrape_torrents;
        let (admission, access_list) =
            Admission::for_tests(requests_per_second, scrape_torrents_max);
        let counters = Arc::clone(&admission.counters);
        let service = Service::new(&config, connection_ids(), admission);
        (service, counters, access_list)
    }

    fn client() -> SocketAddr {
        ([192, 0, 2, 1], 6_881).into()
    }

    /// Whether the request is passed on, and the answers to it.
    fn receive(bytes: &[u8]) -> (bool, Vec<Vec<u8>>) {
        let mut outbox = Outbox::new();
        let path = ReturnPath::to(client());
        let received = service().receive(NOW, 0, path, bytes, &mut outbox);
        assert!(outbox.iter().all(|(to, _)| *to == path));
        let answers = outbox.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        (received != Dispatch::Done, answers)
    }

    fn packet(connection_id: [u8; 8], action: u32, len: usize) -> Vec<u8> {
        let mut bytes = [&connection_id[..], &action.to_be_bytes(), b"abcd"].concat();
        bytes.resize(len, 1);
        bytes
    }

    fn valid_id() -> [u8; 8] {
        connection_ids().issue(NOW, client().ip()).0
    }

    /// Bytes that get into every corner: any bytes, and well-formed headers before any body.
    fn datagrams() -> impl Strategy<Value = Vec<u8>> {
        let id = prop_oneof![
            Just(PROTOCOL_ID),
            Just(valid_id()),
            any::<[u8; 8]>(),
            (0..64_u32).prop_map(|bit| (u64::from_be_bytes(valid_id()) ^ (1 << bit)).to_be_bytes()),
        ];
        let body = prop::collection::vec(any::<u8>(), 0..DATAGRAM_BYTES_MAX);
        let header = (id, 0..5_u32, any::<[u8; 4]>());
        let packets = (header, body).prop_map(|((id, action, transaction_id), body)| {
            [&id[..], &action.to_be_bytes(), &transaction_id, &body].concat()
        });
        prop_oneof![packets, prop::collection::vec(any::<u8>(), 0..200)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn strangers_get_no_more_than_they_send(bytes in datagrams()) {
            let (passed_on, answers) = receive(&bytes);
            prop_assert!(answers.len() <= usize::from(!passed_on), "answered more than once");
            for answer in &answers {
                prop_assert!(Response::parse(answer, IpFamily::V4).is_ok());
                prop_assert_eq!(answer.get(4..8), bytes.get(12..16), "another transaction");
            }
            if bytes.get(..8) != Some(&valid_id()[..]) {
                prop_assert!(!passed_on, "without a connection id");
                prop_assert!(answers.iter().all(|answer| answer.len() <= bytes.len()));
            }
        }
    }

    #[test]
    fn a_wrong_id_is_refused_in_no_more_bytes_than_it_took() {
        for (action, len) in [(1, ANNOUNCE_REQUEST_SIZE), (2, SCRAPE_REQUEST_SIZE_MIN)] {
            let (passed_on, answers) = receive(&packet([7; 8], action, len));
            assert!(!passed_on);
            let [answer] = answers.try_into().unwrap();
            assert!(answer.len() <= len);
            let Ok(Response::Error(error)) = Response::parse(&answer, IpFamily::V4) else {
                panic!("{answer:?}");
            };
            assert_eq!(error.transaction_id, TransactionId(*b"abcd"));
            assert_eq!(error.message, CONNECT_AGAIN.as_bytes());
            assert!(receive(&packet(valid_id(), action, len)).0);
        }
    }

    #[test]
    fn only_who_is_connected_is_told_what_is_wrong() {
        let mut port_zero = packet(valid_id(), 1, ANNOUNCE_REQUEST_SIZE);
        port_zero[96..].fill(0);
        let no_info_hash = packet(valid_id(), 2, SCRAPE_REQUEST_SIZE_MIN - 1);
        for mut bytes in [port_zero, no_info_hash] {
            assert_eq!(receive(&bytes).1.len(), 1);
            bytes[7] ^= 1;
            assert_eq!(receive(&bytes), (false, vec![]));
        }
    }

    #[test]
    fn any_number_of_peers_may_be_wanted() {
        let response_peers_max = u16::try_from(Config::default().protocol.max_response_peers);
        let max = response_peers_max.unwrap();
        for (wanted, expected) in [
            (-1, max),
            (i32::MIN, max),
            (0, 0),
            (1, 1),
            (i32::from(max) + 1, max),
            (65_536, max),
            (i32::MAX, max),
        ] {
            let mut bytes = packet(valid_id(), 1, ANNOUNCE_REQUEST_SIZE);
            bytes[92..96].copy_from_slice(&wanted.to_be_bytes());
            let mut outbox = Outbox::new();
            let path = ReturnPath::to(client());
            let received = service().receive(NOW, 0, path, &bytes, &mut outbox);
            let Dispatch::AnnounceV4(announce) = received else {
                panic!("{received:?}");
            };
            assert_eq!(announce.announce.num_want, expected, "{wanted}");
        }
    }

    /// What a service makes of one datagram: whether it is passed on, and how many bytes answer it.
    fn served(service: &mut Service, from: SocketAddr, bytes: &[u8]) -> (bool, usize) {
        let mut outbox = Outbox::new();
        let received = service.receive(NOW, 0, ReturnPath::to(from), bytes, &mut outbox);
        let answered = outbox.iter().map(|(_, bytes)| bytes.len()).sum();
        (received != Dispatch::Done, answered)
    }

    #[test]
    fn nothing_is_sent_to_port_0() {
        let (mut service, counters, _) = service_with(Config::default(), None);
        let from = ([192, 0, 2, 1], 0).into();
        assert_eq!(
            served(&mut service, from, &packet(PROTOCOL_ID, 0, 16)),
            (false, 0)
        );
        let traffic = counters.traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::SourcePortZero).get(), 1);
        assert_eq!(traffic.requests(RequestKind::Connect).get(), 0);
    }

    #[test]
    fn who_asks_too_often_is_not_answered() {
        let (mut service, counters, _) = service_with(Config::default(), Some(4));
        let connect = packet(PROTOCOL_ID, 0, 16);
        let answered = (0..10).filter(|_| served(&mut service, client(), &connect).1 == 16);
        assert_eq!(answered.count(), 4);
        let traffic = counters.traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::RequestRate).get(), 6);
        assert_eq!(traffic.requests(RequestKind::Connect).get(), 4);
        assert_eq!(traffic.responses(ResponseKind::Connect).get(), 4);
        let other = ([192, 0, 2, 2], 6_881).into();
        assert_eq!(served(&mut service, other, &connect), (false, 16));
    }

    #[test]
    fn torrents_that_are_not_allowed_are_refused_from_the_next_round_on() {
        let (mut service, counters, access_list) = service_with(Config::default(), None);
        let announce = packet(valid_id(), 1, ANNOUNCE_REQUEST_SIZE);
        assert_eq!(served(&mut service, client(), &announce), (true, 0));
        let replaced = access_list.replace([InfoHash([1; 20])].into_iter().collect());
        service.admission.refresh();
        assert!(
            !replaced.is_in_use(),
            "it is not kept by a service that has nothing to do"
        );
        let (passed_on, answered) = served(&mut service, client(), &announce);
        assert!(!passed_on && answered > ERROR_RESPONSE_HEADER_SIZE);
        let traffic = counters.traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::InfoHashDenied).get(), 1);
        assert_eq!(traffic.requests(RequestKind::Announce).get(), 2);
        assert_eq!(traffic.responses(ResponseKind::Error).get(), 1);
    }

    #[test]
    fn so_many_torrents_of_a_scrape_are_answered_each_as_it_is_allowed() {
        let mut config = Config::default();
        config.protocol.max_scrape_torrents = 2;
        let (mut service, counters, access_list) = service_with(config, None);
        access_list.replace([InfoHash([2; 20])].into_iter().collect());
        let mut bytes = packet(valid_id(), 2, 16);
        (1..=3).for_each(|torrent| bytes.extend([torrent; 20]));
        let path = ReturnPath::to(client());
        let received = service.receive(NOW, 0, path, &bytes, &mut Outbox::new());
        let Dispatch::Scrape(IpFamily::V4, scrape) = received else {
            panic!("{received:?}");
        };
        let expected = [(InfoHash([1; 20]), true), (InfoHash([2; 20]), false)];
        assert!(
            service
                .admission
                .scraped(scrape.info_hashes.iter())
                .eq(expected)
        );
        let requests = counters.traffic(IpFamily::V4).requests(RequestKind::Scrape);
        assert_eq!(requests.get(), 1);
    }

    #[test]
    fn ids_are_those_of_the_time_that_the_system_tells() {
        const UNIX_MICROS: u64 = 1_700_000_000_000_000;
        let mut ids = connection_ids();
        ids.synchronise(NOW, UNIX_MICROS);
        let id = ids.issue(NOW, client().ip()).0;
        let scrape = packet(id, 2, SCRAPE_REQUEST_SIZE_MIN);
        let (mut service, ..) = service_with(Config::default(), None);
        assert!(!served(&mut service, client(), &scrape).0);
        service.synchronise(NOW, UNIX_MICROS);
        assert!(served(&mut service, client(), &scrape).0);
    }

    #[test]
    fn what_is_too_long_is_counted() {
        let (service, counters, _) = service_with(Config::default(), None);
        service.receive_too_long(ReturnPath::to(client()), &[0; 100]);
        let traffic = counters.traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::TooLong).get(), 1);
        assert_eq!(traffic.received_bytes.get(), 100);
    }

    #[test]
    fn only_event_1_is_a_finished_download() {
        for (event, completed) in [(0, false), (1, true), (2, false), (3, false)] {
            let mut bytes = packet(valid_id(), 1, ANNOUNCE_REQUEST_SIZE);
            bytes[80..84].copy_from_slice(&u32::to_be_bytes(event));
            let path = ReturnPath::to(client());
            let received = service().receive(NOW, 0, path, &bytes, &mut Outbox::new());
            let Dispatch::AnnounceV4(announce) = received else {
                panic!("{received:?}");
            };
            assert_eq!(announce.announce.completed, completed, "event {event}");
        }
    }
}
