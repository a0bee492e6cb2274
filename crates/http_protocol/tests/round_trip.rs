//! Properties that hold for all messages and for all bytes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aquatic_http_protocol::{
    AnnounceRequest, AnnounceResponse, BodySize, Connection, FailureResponse, Framing, Head,
    InfoHashes, PeerForm, Request, Response, ResponseHead, Retry, ScrapeFile, ScrapeRequest,
    ScrapeResponse, Target,
};
use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PerFamily};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn bytes(size_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=size_max)
}

/// Pieces of real messages in random order: these come much farther than random bytes.
fn shuffled(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => bytes(3),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

const HEAD_PIECES: &[&str] = &[
    "GET ",
    "HEAD ",
    "POST ",
    "/announce",
    "?",
    "a=b",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\r\n",
    "\n",
    "\r\n\r\n",
    "Host: x",
    "Connection: close",
    "Connection: keep-alive",
    "Content-Length: 0",
    "Content-Length: 7",
    ":",
    "\r",
    " ",
];

const QUERY_PIECES: &[&str] = &[
    "info_hash=",
    "peer_id=",
    "port=",
    "6881",
    "left=",
    "numwant=",
    "event=",
    "started",
    "&",
    "&",
    "&",
    ";",
    "?",
    "amp;",
    "info%5fhash=",
    "=",
    "%",
    "%41",
    "%4",
    "12345678901234567890",
    "compact=0",
    "+",
    "-1",
];

const BODY_PIECES: &[&str] = &[
    "d",
    "l",
    "e",
    "e",
    "e",
    "i1e",
    "i-7e",
    "5:peers",
    "6:peers6",
    "5:files",
    "8:interval",
    "14:failure reason",
    "8:retry in",
    "5:never",
    "6:abcdef",
    "20:12345678901234567890",
    "1:",
    "2:ip",
    "4:port",
    "9:192.0.2.7",
    "0:",
    "8:complete",
];

fn info_hash() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>().prop_map(InfoHash)
}

fn peer_form() -> impl Strategy<Value = PeerForm> {
    select(&[PeerForm::Compact, PeerForm::List][..])
}

fn framing() -> impl Strategy<Value = Framing> {
    let connections = [
        Connection::KeepAlive,
        Connection::KeepAliveSaid,
        Connection::Close,
    ];
    select(connections.to_vec()).prop_map(|connection| Framing {
        connection,
        omit_body: false,
    })
}

prop_compose! {
    fn announce_request()(
        info_hash in info_hash(),
        peer_id in any::<[u8; 20]>().prop_map(PeerId),
        port in 1..=u16::MAX,
        bytes_uploaded in any::<u64>(),
        bytes_downloaded in any::<u64>(),
        bytes_left in any::<Option<u64>>(),
        event in select(vec![
            AnnounceEvent::None,
            AnnounceEvent::Completed,
            AnnounceEvent::Started,
            AnnounceEvent::Stopped,
        ]),
        num_want in any::<Option<u32>>(),
        peer_form in peer_form(),
    ) -> AnnounceRequest {
        AnnounceRequest {
            info_hash,
            peer_id,
            port,
            bytes_uploaded,
            bytes_downloaded,
            bytes_left,
            event,
            num_want,
            peer_form,
        }
    }
}

prop_compose! {
    fn announce_response()(
        counts in any::<[u32; 3]>(),
        interval_seconds in any::<u32>(),
        min_interval_seconds in any::<Option<u32>>(),
        external_ip in any::<Option<IpAddr>>(),
        v4 in vec(any::<[u8; 6]>(), 0..60),
        v6 in vec(any::<[u8; 18]>(), 0..60),
        peer_form in peer_form(),
    ) -> AnnounceResponse<'static> {
        AnnounceResponse {
            seeders: counts[0],
            completed: counts[1],
            leechers: counts[2],
            interval_seconds,
            min_interval_seconds,
            external_ip,
            peers: PerFamily { v4: v4.concat().into(), v6: v6.concat().into() },
            peer_form,
        }
    }
}

prop_compose! {
    fn scrape_file()(info_hash in info_hash(), counts in any::<[u32; 4]>()) -> ScrapeFile {
        ScrapeFile {
            info_hash,
            seeders: counts[0],
            completed: counts[1],
            leechers: counts[2],
            downloaders: counts[3],
        }
    }
}

/// `request` is read back from its bytes, and from no fewer of them.
fn check_request(request: &Request<'_>, keep_alive: bool) -> Result<(), TestCaseError> {
    let target = Target {
        host: "tracker.example.org:6969",
        announce_path: "/announce",
        keep_alive,
    };
    let mut bytes = Vec::new();
    request.write(target, &mut bytes);
    for end in 0..bytes.len() {
        prop_assert_eq!(Head::parse(&bytes[..end]), Ok(None), "{} bytes", end);
    }
    let size = bytes.len();
    bytes.extend(b"GET /next");
    let head = Head::parse(&bytes).unwrap().unwrap();
    prop_assert_eq!(head.size, size);
    prop_assert_eq!(head.framing.connection.stays_open(), keep_alive);
    prop_assert_eq!(head.last_header("host"), Some(target.host.as_bytes()));
    prop_assert_eq!(&Request::parse(head.path, head.query).unwrap(), request);
    Ok(())
}

/// `response` is read back from its bytes, and from no fewer of them.
fn check_response(response: &Response<'_>, framing: Framing) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    response.write(framing, &mut bytes);
    let head = ResponseHead::parse(&bytes).unwrap().unwrap();
    let body = &bytes[head.size..];
    prop_assert_eq!(head.body, BodySize::Known(body.len()));
    prop_assert_eq!(head.stays_open, framing.connection.stays_open());
    prop_assert_eq!(&Response::parse(body).unwrap(), response);
    for end in 0..body.len().min(300) {
        prop_assert!(Response::parse(&body[..end]).is_err(), "{} bytes", end);
    }

    // Without its body, the head is the same.
    let mut without_body = Vec::new();
    response.write(
        Framing {
            omit_body: true,
            ..framing
        },
        &mut without_body,
    );
    prop_assert_eq!(&without_body, &bytes[..head.size]);
    Ok(())
}

proptest! {
    #[test]
    fn announce_request_round_trips(announce in announce_request(), keep_alive in any::<bool>()) {
        check_request(&Request::Announce(announce), keep_alive)?;
    }

    /// However people and programs have put an announce URL together, it says the same.
    #[test]
    fn separators_and_encoded_keys_make_no_difference(
        announce in announce_request(),
        separators in vec(select(&["&", "?", "&amp;", "&&", "&x=y&", "?x;y=?", "&amp;?"][..]), 10),
        escapes in vec(any::<bool>(), 10),
    ) {
        let mut bytes = Vec::new();
        let target = Target { host: "x", announce_path: "/announce", keep_alive: true };
        Request::Announce(announce).write(target, &mut bytes);
        let head = Head::parse(&bytes).unwrap().unwrap();
        let mut query = "passkey=a".to_owned();
        let parameters = str::from_utf8(head.query).unwrap().split('&');
        for ((parameter, separator), escape) in parameters.zip(separators).zip(escapes) {
            query += separator;
            if escape {
                query += &format!("%{:02x}{}", parameter.as_bytes()[0], &parameter[1..]);
            } else {
                query += parameter;
            }
        }
        let parsed = Request::parse(head.path, query.as_bytes());
        prop_assert_eq!(parsed, Ok(Request::Announce(announce)), "{}", query);
    }

    #[test]
    fn scrape_request_round_trips(
        hashes in vec(info_hash(), 0..20),
        keep_alive in any::<bool>(),
    ) {
        let info_hashes = InfoHashes::from(&hashes[..]);
        prop_assert!(info_hashes.iter().eq(hashes.iter().copied()));
        check_request(&Request::Scrape(ScrapeRequest { info_hashes }), keep_alive)?;
    }

    #[test]
    fn announce_response_round_trips(
        announce in announce_response(),
        framing in framing(),
    ) {
        check_response(&Response::Announce(announce), framing)?;
    }

    #[test]
    fn scrape_response_round_trips(
        mut files in vec(scrape_file(), 0..60),
        interval in any::<Option<u32>>(),
        framing in framing(),
    ) {
        let asked: BTreeSet<InfoHash> = files.iter().map(|file| file.info_hash).collect();
        let mut scrape = ScrapeResponse::new(&mut files);
        scrape.min_request_interval_seconds = interval;
        prop_assert!(scrape.files().iter().map(|file| file.info_hash).eq(asked));
        check_response(&Response::Scrape(scrape), framing)?;
    }

    #[test]
    fn failure_round_trips(
        reason in bytes(200),
        [interval_seconds, min_interval_seconds] in any::<[Option<u32>; 2]>(),
        retry in option::of(prop_oneof![
            Just(Retry::Never),
            any::<u32>().prop_map(Retry::AfterMinutes),
        ]),
        framing in framing(),
    ) {
        let failure = FailureResponse {
            reason: &reason,
            interval_seconds,
            min_interval_seconds,
            retry,
        };
        check_response(&Response::Failure(failure), framing)?;
    }

    /// Where bytes are cut decides when a head is read, never what is read.
    #[test]
    fn any_bytes_are_a_head_or_an_error(
        bytes in prop_oneof![bytes(200), shuffled(HEAD_PIECES)],
        seen in any::<prop::sample::Index>(),
    ) {
        let whole = Head::parse(&bytes);
        for end in 0..bytes.len() {
            match Head::parse(&bytes[..end]) {
                Ok(None) => {}
                early => prop_assert_eq!(early, whole, "{} bytes", end),
            }
        }
        if let Ok(Some(head)) = whole {
            prop_assert!(head.size <= bytes.len());
            let _ = Request::parse(head.path, head.query);
            let _ = head.last_header("connection");
            // Whoever asks before it parses does not miss the end.
            let seen = seen.index(head.size);
            prop_assert!(Head::may_end(&bytes[..head.size], seen));
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(
        query in prop_oneof![bytes(300), shuffled(QUERY_PIECES)],
        path in prop_oneof![bytes(20), Just(b"/announce".to_vec()), Just(b"/scrape".to_vec())],
    ) {
        match Request::parse(&path, &query) {
            Ok(Request::Announce(announce)) => prop_assert_ne!(announce.port, 0),
            Ok(Request::Scrape(scrape)) => {
                let hashes: Vec<InfoHash> = scrape.info_hashes.iter().collect();
                prop_assert_eq!(InfoHashes::from(&hashes[..]), scrape.info_hashes);
            }
            Err(error) => prop_assert_ne!(error.reason(), ""),
        }
    }

    #[test]
    fn any_bytes_are_a_response_or_an_error(
        bytes in prop_oneof![bytes(300), shuffled(HEAD_PIECES)],
        body in prop_oneof![
            bytes(300),
            shuffled(BODY_PIECES),
            shuffled(BODY_PIECES).prop_map(|body| [b"d5:peers", &body[..], b"ee"].concat()),
        ],
    ) {
        if let Ok(Some(head)) = ResponseHead::parse(&bytes) {
            prop_assert!(head.size <= bytes.len());
        }
        if let Ok(response) = Response::parse(&body) {
            // What was made of it is written and read like anything else, but for what has no
            // form on the wire: rows that are not whole.
            let is_whole = match &response {
                Response::Announce(announce) => {
                    announce.peers.v4.len() % 6 == 0 && announce.peers.v6.len() % 18 == 0
                }
                _ => true,
            };
            if is_whole {
                check_response(&response, Framing::CLOSE)?;
            }
        }
    }
}
