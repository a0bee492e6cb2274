//! What becomes of each datagram.

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
    let (admission, access_list) = Admission::for_tests(requests_per_second, scrape_torrents_max);
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
