//! What clients send, and what must be made of it: each tolerated and each refused form.

use aquatic_http_protocol::{
    AnnounceRequest, InfoHashes, PeerForm, Request, RequestError, ScrapeRequest, Target,
};
use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PeerStatus};

const INFO_HASH: &[u8; 20] = b"an info hash, really";
const PEER_ID: &[u8; 20] = b"-XX0100-123456789012";

/// What an announce cannot do without.
const NEEDED: &str = "info_hash=an+info%20hash%2C+really&peer_id=-XX0100-123456789012&port=6881";

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*INFO_HASH),
        peer_id: PeerId(*PEER_ID),
        port: 6881,
        bytes_uploaded: 0,
        bytes_downloaded: 0,
        bytes_left: None,
        event: AnnounceEvent::None,
        num_want: None,
        peer_form: PeerForm::Compact,
    }
}

fn parse(query: &str) -> Result<AnnounceRequest, RequestError> {
    match Request::parse(b"/announce", query.as_bytes())? {
        Request::Announce(announce) => Ok(announce),
        Request::Scrape(_) => panic!("read as a scrape"),
    }
}

/// What an announce with some parameters more is read as.
#[track_caller]
fn with(parameters: &str) -> AnnounceRequest {
    let before = parse(&format!("{parameters}&{NEEDED}")).unwrap();
    let after = parse(&format!("{NEEDED}&{parameters}")).unwrap();
    assert_eq!(before, after);
    after
}

#[test]
fn needed_parameters_are_enough() {
    assert_eq!(parse(NEEDED), Ok(announce()));
}

#[test]
fn all_parameters_are_read() {
    let parameters = "uploaded=1&downloaded=2&left=3&event=started&numwant=4&compact=0&key=5";
    let expected = AnnounceRequest {
        bytes_uploaded: 1,
        bytes_downloaded: 2,
        bytes_left: Some(3),
        event: AnnounceEvent::Started,
        num_want: Some(4),
        peer_form: PeerForm::List,
        ..announce()
    };
    assert_eq!(with(parameters), expected);
}

#[test]
fn events_that_are_not_known_are_none() {
    let events = [
        ("event=started", AnnounceEvent::Started),
        ("event=stopped", AnnounceEvent::Stopped),
        ("event=completed", AnnounceEvent::Completed),
        ("event=", AnnounceEvent::None),
        ("event", AnnounceEvent::None),
        ("event=empty", AnnounceEvent::None),
        ("event=none", AnnounceEvent::None),
        ("event=paused", AnnounceEvent::None),
        ("event=starte", AnnounceEvent::None),
        ("event=starteds", AnnounceEvent::None),
    ];
    for (parameter, event) in events {
        assert_eq!(
            with(parameter),
            AnnounceRequest {
                event,
                ..announce()
            },
            "{parameter}"
        );
    }
}

#[test]
fn numbers_that_are_none_count_as_not_said() {
    for value in ["-1", "", "x", "1x", "-", "1.5", "+1"] {
        let parameters = ["uploaded", "downloaded", "left", "numwant"]
            .map(|key| format!("{key}={value}"))
            .join("&");
        assert_eq!(with(&parameters), announce(), "{value}");
    }
    assert_eq!(with("left&numwant&uploaded&downloaded&compact"), announce());
}

#[test]
fn huge_numbers_are_as_large_as_can_be() {
    let huge = with("left=184467440737095516160&numwant=4294967296");
    assert_eq!(
        (huge.bytes_left, huge.num_want),
        (Some(u64::MAX), Some(u32::MAX))
    );
    let large = with("left=18446744073709551614&numwant=4294967294");
    assert_eq!(
        (large.bytes_left, large.num_want),
        (Some(u64::MAX - 1), Some(u32::MAX - 1))
    );
    assert_eq!(with("numwant=0").num_want, Some(0));
    assert_eq!(with("numwant=0050").num_want, Some(50));
}

#[test]
fn only_compact_0_is_a_list() {
    for parameter in [
        "",
        "compact",
        "compact=",
        "compact=1",
        "compact=00",
        "compact=true",
    ] {
        assert_eq!(with(parameter).peer_form, PeerForm::Compact, "{parameter}");
    }
    assert_eq!(with("compact=0").peer_form, PeerForm::List);
}

#[test]
fn strange_queries_are_read_past() {
    for parameters in [
        "&&",
        "=",
        "=x",
        "x",
        "x=y=z",
        "x=%",
        "ip=192.0.2.7&ipv4=192.0.2.7&ipv6=2001:db8::7",
        "xport=1&port2=2&xinfo_hash=3&info_hash2=4&info_hashes",
        "trackerid=%00%26&supportcrypto=1&no_peer_id=1&corrupt=0&redundant=0",
        "\u{e9}=\u{e9}",
    ] {
        assert_eq!(with(parameters), announce(), "{parameters}");
    }
}

/// Announce URLs with a query of their own, as clients put theirs behind it.
#[test]
fn whatever_the_announce_url_ends_with_is_read_past() {
    for start in [
        "passkey=a?",
        "passkey=a&?",
        "passkey=a%3fb?",
        "passkey?",
        "?",
        "??&",
        "&amp;",
        "amp;",
        "passkey=a&amp;",
        "passkey=a&amp;amp;amp;",
        "a=b?c=d&amp;e?f=&",
        "a;b=c;d&",
        "redirect=http://x/?a=b?",
    ] {
        assert_eq!(
            parse(&format!("{start}{NEEDED}")),
            Ok(announce()),
            "{start}"
        );
        let query = format!("{start}{}", NEEDED.replace('&', "&amp;"));
        assert_eq!(parse(&query), Ok(announce()), "{query}");
        let with_more = format!("left=1?{start}{NEEDED}?compact=0?event=started?");
        let read = parse(&with_more).unwrap();
        assert_eq!(
            (read.info_hash, read.peer_id),
            (announce().info_hash, announce().peer_id)
        );
        assert_eq!((read.bytes_left, read.peer_form), (Some(1), PeerForm::List));
        assert_eq!(read.event, AnnounceEvent::Started, "{with_more}");
    }
}

#[test]
fn a_semicolon_is_a_byte_of_the_value() {
    let ids = ";2345678901234567;9;";
    let query = format!("x=;port=1;&info_hash={ids}&peer_id={ids}&port=2&event=stopped;");
    let read = parse(&query).unwrap();
    assert_eq!(
        (&read.info_hash.0[..], &read.peer_id.0[..]),
        (ids.as_bytes(), ids.as_bytes())
    );
    assert_eq!((read.port, read.event), (2, AnnounceEvent::None));
    let joined = NEEDED.replace('&', ";");
    assert_eq!(parse(&joined), Err(RequestError::InfoHashSize));
    assert_eq!(parse(&format!("{NEEDED};")), Err(RequestError::PortInvalid));
    assert_eq!(with("left=1;2"), announce(), "not a number");
}

#[test]
fn keys_may_be_encoded() {
    let every = |key: &str| {
        key.bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    let rest = "uploaded=1&downloaded=2&left=3&numwant=4&compact=0&event=stopped";
    let plain = format!("{NEEDED}&{rest}");
    let whole: Vec<_> = plain
        .split('&')
        .map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap();
            format!("{}={value}", every(key))
        })
        .collect();
    assert_eq!(parse(&whole.join("&")), parse(&plain));
    assert_eq!(parse(&plain.replace('_', "%5f")), parse(&plain));
    assert_eq!(
        parse(&plain.replace('_', "%5F").replace('&', "&amp;")),
        parse(&plain)
    );
    for strange in [
        "%5f=1",
        "%=1",
        "%6=1",
        "port%=0",
        "%70ort",
        "port%3d=0",
        "por%74s=0",
        "%00=1",
    ] {
        assert_eq!(with(strange), announce(), "{strange}");
    }
}

#[test]
fn last_one_of_repeated_parameters_counts() {
    let first = "info_hash=x&peer_id=&port=0&left=1&numwant=1&compact=1&event=stopped&uploaded=1";
    let then = "left=2&numwant=2&compact=0&event=started&uploaded=2";
    let expected = AnnounceRequest {
        bytes_uploaded: 2,
        bytes_left: Some(2),
        event: AnnounceEvent::Started,
        num_want: Some(2),
        peer_form: PeerForm::List,
        ..announce()
    };
    assert_eq!(parse(&format!("{first}&{NEEDED}&{then}")), Ok(expected));
    let error = parse(&format!("{NEEDED}&port=0"));
    assert_eq!(error, Err(RequestError::PortInvalid));
}

#[test]
fn ids_are_read_however_they_are_escaped() {
    let id = *b"\x00\x7f\x80\xff %&;=+?/#AZaz098";
    let ways: [&[u8]; 4] = [
        b"%00%7f%80%ff%20%25%26%3b%3d%2b%3f%2f%23AZaz098",
        b"%00%7F%80%FF+%25%26%3B%3D%2B%3F%2F%23%41%5A%61%7A%30%39%38",
        // As few escapes as possible; the percent sign can be nothing but itself.
        b"\x00\x7f\x80\xff %%26;=%2b?/#AZaz098",
        b"%00\x7f%80\xff+%%26%3B=%2B?/%23AZ%61z098",
    ];
    for way in ways {
        let query = [b"port=1&info_hash=", way, b"&peer_id=", way].concat();
        let Ok(Request::Announce(announce)) = Request::parse(b"/announce", &query) else {
            panic!("{way:?} is not read");
        };
        assert_eq!((announce.info_hash.0, announce.peer_id.0), (id, id));
    }

    // What is no escape stands for itself.
    let strange = "%zz%%%f%g123456789ab";
    let announce = parse(&format!("info_hash={strange}&peer_id={strange}&port=1")).unwrap();
    assert_eq!(announce.info_hash.0, strange.as_bytes());
    assert_eq!(announce.peer_id.0, strange.as_bytes());

    let announce = parse("info_hash=12345+789012345+7890&peer_id=+234567890123456789+&port=1");
    let ids = announce.map(|announce| (announce.info_hash.0, announce.peer_id.0));
    assert_eq!(
        ids,
        Ok((*b"12345 789012345 7890", *b" 234567890123456789 "))
    );
}

/// Bytes that stand for themselves are looked at 20 at a time.
#[test]
fn ids_of_special_characters_alone_are_decoded() {
    let id = |id: &str| {
        let query = format!("info_hash={id}&peer_id=-XX0100-123456789012&port=1");
        parse(&query).map(|announce| announce.info_hash.0)
    };
    assert_eq!(id(&"+".repeat(20)), Ok([b' '; 20]));
    let percents = "%".repeat(20);
    assert_eq!(id(&percents), Ok([b'%'; 20]));
    let last_is_escape = id(&format!("{percents}41"));
    assert_eq!(last_is_escape, Ok(*b"%%%%%%%%%%%%%%%%%%%A"));
    assert!(id(&"&".repeat(20)).is_err(), "it is empty");
}

#[test]
fn what_an_announce_cannot_do_without_is_named() {
    let without = |key: &str| -> Vec<&str> {
        NEEDED
            .split('&')
            .filter(|parameter| !parameter.starts_with(key))
            .collect()
    };
    for (key, missing, invalid) in [
        (
            "info_hash",
            RequestError::InfoHashMissing,
            RequestError::InfoHashSize,
        ),
        (
            "peer_id",
            RequestError::PeerIdMissing,
            RequestError::PeerIdSize,
        ),
        ("port", RequestError::PortMissing, RequestError::PortInvalid),
    ] {
        let others = without(key).join("&");
        assert_eq!(parse(&others), Err(missing));
        assert_eq!(parse(&format!("{others}&{key}")), Err(missing), "without =");
        for value in [
            "",
            "0",
            "65536",
            "-1",
            "1234567890123456789",       // 19 bytes
            "123456789012345678901",     // 21 bytes
            "%31234567890123456789%301", // 21 bytes
            "1234567890123456789%3",     // 21 bytes
            "%3123456789012345678",      // 18 bytes
        ] {
            let last = format!("{others}&{key}={value}");
            let first = format!("{key}={value}&{others}");
            for query in [
                &last,
                &last.replace('&', "&amp;"),
                &first,
                &first.replace('&', "&amp;"),
            ] {
                assert_eq!(parse(query), Err(invalid), "{query}");
            }
        }
        for error in [missing, invalid] {
            assert!(error.reason().contains(key), "{error}");
            assert_eq!(error.to_string(), error.reason());
        }
    }
}

#[test]
fn status_follows_from_event_and_left() {
    for (parameters, status) in [
        ("left=0", PeerStatus::Seeder),
        ("left=1", PeerStatus::Leecher),
        ("left=-1", PeerStatus::Leecher),
        ("", PeerStatus::Leecher),
        ("event=completed", PeerStatus::Seeder),
        ("event=completed&left=0", PeerStatus::Seeder),
        ("event=completed&left=1", PeerStatus::Leecher),
        ("event=stopped&left=0", PeerStatus::Stopped),
        ("event=stopped", PeerStatus::Stopped),
    ] {
        assert_eq!(with(parameters).status(), status, "{parameters}");
    }
}

#[test]
fn last_segment_of_the_path_that_is_known_decides() {
    let scrape = Request::Scrape(ScrapeRequest {
        info_hashes: InfoHashes::from(&[][..]),
    });
    for path in [
        "/announce",
        "//announce",
        "/announce/",
        "/announce.php",
        "/x/announce",
        "//x//announce.php//",
        "/announce/PASSKEY",
        "/announce.php/PASSKEY/",
        "/x/announce/y/z",
        "/announce%20",
        "/announce ",
        "/announce%20 %20/",
        "/announce.php%20",
        "/x/announce%20/PASSKEY",
        "/%61nnounc%65",
        "/announce%2Ephp",
        "/announcer/announce/announcer",
    ] {
        let parsed = Request::parse(path.as_bytes(), NEEDED.as_bytes());
        assert_eq!(parsed, Ok(Request::Announce(announce())), "{path}");
        let path = path
            .replace("announce", "scrape")
            .replace("%61nnounc%65", "%73crap%65");
        assert_eq!(Request::parse(path.as_bytes(), b""), Ok(scrape), "{path}");
    }
    for (path, is_announce) in [("/scrape/announce", true), ("/announce/scrape", false)] {
        let parsed = Request::parse(path.as_bytes(), NEEDED.as_bytes());
        let is = matches!(parsed, Ok(Request::Announce(_)));
        assert_eq!(is, is_announce, "{path}");
    }
    for path in [
        "",
        "/",
        "//",
        "*",
        "announce",
        "announce/x",
        "/announce%",
        "/announce%2",
        "/announce%00",
        "/announce%2f",
        "/ announce",
        "/announce x",
        "/announces",
        "/xannounce",
        "/Announce",
        "/x",
        "/announc",
    ] {
        for path in [path, &path.replace("announce", "scrape")] {
            let parsed = Request::parse(path.as_bytes(), NEEDED.as_bytes());
            assert_eq!(parsed, Err(RequestError::UnknownPath), "{path}");
        }
    }
}

fn scraped(query: &str) -> Result<Vec<InfoHash>, RequestError> {
    match Request::parse(b"/scrape", query.as_bytes())? {
        Request::Announce(_) => panic!("read as an announce"),
        Request::Scrape(scrape) => {
            let hashes: Vec<_> = scrape.info_hashes.iter().collect();
            assert_eq!(scrape.info_hashes.is_empty(), hashes.is_empty());
            assert_eq!(format!("{:?}", scrape.info_hashes), format!("{hashes:?}"));
            Ok(hashes)
        }
    }
}

#[test]
fn scrape_names_torrents_in_order() {
    let hashes: Vec<_> = (0..100).rev().map(|byte| InfoHash([byte; 20])).collect();
    let parameters: Vec<_> = hashes
        .iter()
        .map(|hash| format!("info_hash={}", format!("%{:02x}", hash.0[0]).repeat(20)))
        .collect();
    assert_eq!(scraped(&parameters.join("&")), Ok(hashes.clone()));
    assert_eq!(scraped(&parameters.join("?x=y&amp;&")), Ok(hashes.clone()));
    assert_eq!(scraped(""), Ok(vec![]));
    assert_eq!(scraped("&x=y"), Ok(vec![]));
    let encoded = parameters.join("&").replace('_', "%5f");
    assert_eq!(scraped(&format!("passkey=a?{encoded}")), Ok(hashes));
    let whole = "info_hash=12345678901234567890";
    assert_eq!(
        scraped(&format!("{whole}&{whole}")).map(|hashes| hashes.len()),
        Ok(2)
    );
    for part in [
        "info_hash=",
        "info_hash=1",
        "info_hash=123456789012345678901",
    ] {
        let query = format!("{whole}&{part}&{whole}");
        assert_eq!(scraped(&query), Err(RequestError::InfoHashSize), "{part}");
    }
}

#[test]
fn requests_are_written_as_clients_write_them() {
    let target = Target {
        host: "tracker.example.org:6969",
        announce_path: "/x/announce.php?announce=1",
        keep_alive: true,
    };
    let request = Request::Announce(AnnounceRequest {
        bytes_left: Some(7),
        event: AnnounceEvent::Started,
        ..announce()
    });
    let mut written = Vec::new();
    request.write(target, &mut written);
    let expected = "GET /x/announce.php?announce=1&info_hash=an%20info%20hash%2c%20really\
        &peer_id=-XX0100-123456789012&port=6881&uploaded=0&downloaded=0&left=7&compact=1\
        &event=started HTTP/1.1\r\nHost: tracker.example.org:6969\r\n\r\n";
    assert_eq!(String::from_utf8(written).unwrap(), expected);

    let hashes = [InfoHash([b'x'; 20]), InfoHash([0xab; 20])];
    let request = Request::Scrape(ScrapeRequest {
        info_hashes: InfoHashes::from(&hashes[..]),
    });
    let mut written = Vec::new();
    request.write(
        Target {
            keep_alive: false,
            ..target
        },
        &mut written,
    );
    let expected = format!(
        "GET /x/scrape.php?announce=1&info_hash={}&info_hash={} HTTP/1.1\r\n\
        Host: tracker.example.org:6969\r\nConnection: close\r\n\r\n",
        "x".repeat(20),
        "%ab".repeat(20),
    );
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}
