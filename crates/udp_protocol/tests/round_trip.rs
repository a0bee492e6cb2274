//! Properties that hold for all messages and for all bytes.

use std::net::SocketAddr;

use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp_protocol::{
    ANNOUNCE_REQUEST_SIZE, AnnounceHeader, AnnounceRequest, AnnounceResponse, CONNECT_REQUEST_SIZE,
    ConnectRequest, ConnectResponse, ConnectionId, ErrorResponse, InfoHashes, PeerRows, Request,
    RequestError, RequestErrorKind, Response, ResponseError, SCRAPE_REQUEST_SIZE_MIN,
    ScrapeRequest, ScrapeResponse, ScrapeRows, TransactionId, url_data, write_url_data,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(size_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=size_max)
}

/// Random bytes rarely have a known action; these often do, and often lack little of a message.
fn nearly_request() -> impl Strategy<Value = Vec<u8>> {
    let connection_id = prop_oneof![Just(0x0417_2710_1980_u64.to_be_bytes()), any::<[u8; 8]>()];
    (connection_id, 0..5_u32, bytes(300)).prop_map(|(connection_id, action, rest)| {
        [&connection_id[..], &action.to_be_bytes(), &rest].concat()
    })
}

fn nearly_response() -> impl Strategy<Value = Vec<u8>> {
    (0..5_u32, bytes(300)).prop_map(|(action, rest)| [&action.to_be_bytes()[..], &rest].concat())
}

fn event() -> impl Strategy<Value = AnnounceEvent> {
    prop_oneof![
        Just(AnnounceEvent::None),
        Just(AnnounceEvent::Completed),
        Just(AnnounceEvent::Started),
        Just(AnnounceEvent::Stopped),
    ]
}

fn family() -> impl Strategy<Value = IpFamily> {
    prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)]
}

prop_compose! {
    fn announce()(
        ids in any::<([u8; 8], [u8; 4], [u8; 20], [u8; 20])>(),
        amounts in any::<[u64; 3]>(),
        event in event(),
        key in any::<[u8; 4]>(),
        num_want in any::<i32>(),
        port in 1..=u16::MAX,
    ) -> AnnounceRequest<'static> {
        AnnounceRequest {
            connection_id: ConnectionId(ids.0),
            transaction_id: TransactionId(ids.1),
            info_hash: InfoHash(ids.2),
            peer_id: PeerId(ids.3),
            bytes_downloaded: amounts[0],
            bytes_left: amounts[1],
            bytes_uploaded: amounts[2],
            event,
            key,
            num_want,
            port,
            options: b"",
        }
    }
}

fn written(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.write(&mut out);
    out
}

/// `request` is read back from its bytes, which have the size `size`; a prefix of its bytes shorter
/// than `size_min` is no request.
fn check_request(request: &Request<'_>, size: usize, size_min: usize) -> Result<(), TestCaseError> {
    let packet = written(request);
    prop_assert_eq!(packet.len(), size);
    prop_assert_eq!(&Request::parse(&packet).unwrap(), request);
    for prefix in 0..packet.len() {
        let parsed = Request::parse(&packet[..prefix]);
        prop_assert_eq!(parsed.is_ok(), prefix >= size_min, "{} bytes", prefix);
    }

    // Writing appends: what was in the buffer stays.
    let mut appended = b"before".to_vec();
    request.write(&mut appended);
    prop_assert_eq!(appended, [b"before", &packet[..]].concat());
    Ok(())
}

fn check_response(response: Response<'_>, family: IpFamily) -> Result<(), TestCaseError> {
    let mut packet = b"before".to_vec();
    response.write(&mut packet);
    prop_assert!(packet.starts_with(b"before"));
    prop_assert_eq!(Response::parse(&packet[6..], family), Ok(response));
    Ok(())
}

proptest! {
    #[test]
    fn connect_request_round_trips(id in any::<[u8; 4]>()) {
        let request = Request::Connect(ConnectRequest { transaction_id: TransactionId(id) });
        check_request(&request, CONNECT_REQUEST_SIZE, CONNECT_REQUEST_SIZE)?;
    }

    #[test]
    fn announce_request_round_trips(announce in announce(), options in bytes(300)) {
        let size = ANNOUNCE_REQUEST_SIZE + options.len();
        let request = Request::Announce(AnnounceRequest { options: &options, ..announce });
        check_request(&request, size, ANNOUNCE_REQUEST_SIZE)?;
    }

    #[test]
    fn scrape_request_round_trips(
        ids in any::<([u8; 8], [u8; 4])>(),
        hashes in vec(any::<[u8; 20]>().prop_map(InfoHash), 1..80),
    ) {
        let request = Request::Scrape(ScrapeRequest {
            connection_id: ConnectionId(ids.0),
            transaction_id: TransactionId(ids.1),
            info_hashes: InfoHashes::from(&hashes[..]),
        });
        check_request(&request, 16 + 20 * hashes.len(), SCRAPE_REQUEST_SIZE_MIN)?;

        let packet = written(&request);
        let Ok(Request::Scrape(parsed)) = Request::parse(&packet) else {
            panic!("not read as a scrape");
        };
        prop_assert!(parsed.info_hashes.iter().eq(hashes));

        // What was read from a packet is written just like what was made from values.
        prop_assert_eq!(written(&Request::Scrape(parsed.clone())), packet);
    }

    #[test]
    fn connect_response_round_trips(ids in any::<([u8; 4], [u8; 8])>()) {
        let response = Response::Connect(ConnectResponse {
            transaction_id: TransactionId(ids.0),
            connection_id: ConnectionId(ids.1),
        });
        check_response(response, IpFamily::V4)?;
    }

    #[test]
    fn announce_response_round_trips(
        id in any::<[u8; 4]>(),
        numbers in any::<[u32; 3]>(),
        family in family(),
        rows in bytes(400),
    ) {
        let header = AnnounceHeader {
            transaction_id: TransactionId(id),
            interval_seconds: numbers[0],
            leechers: numbers[1],
            seeders: numbers[2],
        };
        let peers = PeerRows::new(&rows, family);
        check_response(Response::Announce(AnnounceResponse { header, peers }), family)?;

        let addrs: Vec<SocketAddr> = peers.iter().collect();
        prop_assert_eq!(addrs.len(), peers.len());
        prop_assert_eq!(peers.is_empty(), addrs.is_empty());
        prop_assert!(addrs.iter().all(|addr| IpFamily::of(addr) == family));
    }

    #[test]
    fn scrape_response_round_trips(id in any::<[u8; 4]>(), rows in bytes(400)) {
        let scrape = ScrapeResponse {
            transaction_id: TransactionId(id),
            rows: ScrapeRows::new(&rows),
        };
        prop_assert_eq!(scrape.rows.len(), rows.len() / 12);
        check_response(Response::Scrape(scrape), IpFamily::V4)?;

        // Row by row, as a tracker writes them.
        let mut rewritten = Vec::new();
        scrape.rows.iter().for_each(|row| row.write(&mut rewritten));
        prop_assert_eq!(&rewritten[..], scrape.rows.as_bytes());
    }

    #[test]
    fn error_response_round_trips(id in any::<[u8; 4]>(), message in bytes(200)) {
        let transaction_id = TransactionId(id);
        check_response(
            Response::Error(ErrorResponse { transaction_id, message: &message }),
            IpFamily::V6,
        )?;
    }

    #[test]
    fn url_data_round_trips(url in bytes(1000), after in bytes(20)) {
        let mut options = vec![1, 9, 2, 0, 0]; // padding and an unknown option
        write_url_data(&url, &mut options);
        options.push(0);
        options.extend(after);
        prop_assert_eq!(url_data(&options).collect::<Vec<_>>().concat(), url);
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(packet in prop_oneof![bytes(300), nearly_request()]) {
        match Request::parse(&packet) {
            Ok(Request::Connect(_)) => prop_assert!(packet.len() >= CONNECT_REQUEST_SIZE),
            Ok(Request::Announce(announce)) => {
                prop_assert_ne!(announce.port, 0);
                prop_assert_eq!(announce.options.len(), packet.len() - ANNOUNCE_REQUEST_SIZE);
                let _ = url_data(announce.options).count();
            }
            Ok(Request::Scrape(scrape)) => {
                prop_assert_eq!(scrape.info_hashes.len(), (packet.len() - 16) / 20);
                prop_assert!(!scrape.info_hashes.is_empty());
            }
            Err(error) => {
                let may_answer =
                    matches!(error.kind, RequestErrorKind::PortZero | RequestErrorKind::NoInfoHash);
                prop_assert_eq!(error.answerable.is_some(), may_answer);
                if let Some((connection_id, transaction_id)) = error.answerable {
                    prop_assert_eq!(&connection_id.0[..], &packet[..8]);
                    prop_assert_eq!(&transaction_id.0[..], &packet[12..16]);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_a_response_or_an_error(
        packet in prop_oneof![bytes(300), nearly_response()],
        family in family(),
    ) {
        match Response::parse(&packet, family) {
            Ok(response) => {
                prop_assert_eq!(&response.transaction_id().0[..], &packet[4..8]);
                if let Response::Announce(announce) = response {
                    prop_assert_eq!(announce.peers.iter().count(), announce.peers.len());
                }
            }
            Err(ResponseError::TooShort) => prop_assert!(packet.len() < 20),
            Err(ResponseError::UnknownAction(action)) => prop_assert!(action > 3),
        }
    }

    #[test]
    fn any_bytes_are_options(options in bytes(300)) {
        let size: usize = url_data(&options).map(<[u8]>::len).sum();
        prop_assert!(size <= options.len());
    }
}

#[test]
fn sizes_are_those_of_bep_15() {
    assert_eq!(
        [
            CONNECT_REQUEST_SIZE,
            ANNOUNCE_REQUEST_SIZE,
            SCRAPE_REQUEST_SIZE_MIN
        ],
        [16, 98, 36]
    );
}

#[test]
fn errors_say_what_is_wrong() {
    for (kind, text) in [
        (RequestErrorKind::TooShort, "too short"),
        (RequestErrorKind::UnknownAction, "unknown action"),
        (RequestErrorKind::NotConnect, "protocol id"),
        (RequestErrorKind::PortZero, "port is 0"),
        (RequestErrorKind::NoInfoHash, "info hash"),
    ] {
        assert!(kind.to_string().contains(text), "{kind}");
        let answerable = None;
        let error = RequestError { kind, answerable };
        assert_eq!(error.to_string(), kind.to_string());
    }
    let error = ResponseError::UnknownAction(4_711);
    assert_eq!(error.to_string(), "unknown action 4711");
}
