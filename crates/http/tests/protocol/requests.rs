//! What is read although it is odd, and what is refused in words.

use aquatic_test_support::{metrics, torrent};
use aquatic_types::{InfoHash, IpFamily};

use super::client::{Announced, Client, LEECHER, SEEDER, announce, percent, row, rows, scrape};
use super::setup::{on_every_case, on_every_case_and_family};

/// An announce with nothing in it but what must be there.
fn bare(port: u16) -> String {
    let info_hash = percent(&torrent(1).0);
    format!("/announce?info_hash={info_hash}&peer_id=-TR4060-abcdefghijkl&port={port}")
}

/// What may follow, and changes nothing.
const TOLERATED: [&str; 30] = [
    "",
    "&",
    "&&",
    "&compact",
    "&compact=",
    "&event",
    "&event=",
    "&event=empty",
    "&event=none",
    "&event=paused",
    "&event=started",
    "&event=whatever",
    "&left",
    "&left=",
    "&left=-1",
    "&left=x",
    "&left=99999999999999999999999999",
    "&uploaded=-1&downloaded=many",
    "&numwant",
    "&numwant=",
    "&numwant=-1",
    "&numwant=99999999999999999999999999",
    "&key=a=b=c",
    "&a&&b=&=c&=",
    "&;a=1;left=5;&",
    "&x=%&y=%z&z=%4",
    "&ip=192.0.2.1&ipv4=192.0.2.1:1&ipv6=2001:db8::1&ipv6=%5b2001:db8::1%5d:1",
    "&supportcrypto=1&requirecrypto=0&no_peer_id=1&trackerid=%00%ff",
    "&passkey=0123456789abcdef",
    "&\x01\x7f\"<>",
];

#[test]
fn odd_parameters_are_tolerated() {
    on_every_case_and_family("protocol.max_peers = 100", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let ip = client.ip();
        for (port, more) in (1..).zip(TOLERATED) {
            let answer = client.get(&(bare(port) + more));
            let announced = Announced::read(&answer.value());
            let others = usize::from(port - 1) + extra(family);
            assert_eq!(announced.peers.len(), others, "{more}");
            assert_eq!(announced.leechers, i64::try_from(others).unwrap() + 1);
            // Whatever it claims, a peer is where it comes from.
            assert!(announced.peers.iter().any(|peer| peer.ip() == ip) || port == 1);
        }
    });
    /// Both families are in one swarm, and IPv4 comes first.
    fn extra(family: IpFamily) -> usize {
        match family {
            IpFamily::V4 => 0,
            IpFamily::V6 => TOLERATED.len(),
        }
    }
}

#[test]
fn a_hash_may_be_written_in_any_way() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let first_port = if family == IpFamily::V4 { 1 } else { 101 };
        let hash = InfoHash(*b"az-_.~*!'()\xaf\xfa\0/:@, z");
        let lower = percent(&hash.0);
        // There are clients whose library writes spaces as in a form.
        let mixed = "az-_.~*!'()%aF%Fa%00/:@,+z".to_owned();
        let rest = "&peer_id=-TR4060-abcdefghijkl&port";
        for (port, way) in (first_port..).zip([lower.to_uppercase(), lower, mixed]) {
            let target = format!("/announce?info_hash={way}{rest}={port}");
            Announced::read(&client.get(&target).value());
        }
        // As it is: no text, but there are clients that send it so.
        let port = first_port + 3;
        let mut request = b"GET /announce?info_hash=az-_.~*!'()\xaf\xfa%00/:@,%20z".to_vec();
        request.extend(format!("{rest}={port} HTTP/1.1\r\n\r\n").into_bytes());
        client.connection.send(request);
        Announced::read(&client.connection.answer().value());
        let leechers = if family == IpFamily::V4 { 4 } else { 8 };
        assert_eq!(client.scrape(&[hash]), [row(0, 0, leechers)]);
    });
}

#[test]
fn the_last_of_repeated_parameters_counts() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let hash = torrent(1);
        client.announce((hash, 1, LEECHER), "&port=7&left=0&event=started&event=");
        let announced = client.join(hash, 8, LEECHER);
        assert!(announced.ports().contains(&7) && !announced.ports().contains(&1));
        assert_eq!(
            announced.seeders,
            if family == IpFamily::V4 { 1 } else { 2 }
        );
    });
}

#[test]
fn trackers_have_many_paths() {
    const PATHS: [&str; 8] = [
        "/announce",
        "/announce/",
        "/announce.php",
        "/x/announce",
        "//announce",
        "/0123456789abcdef/announce.php/",
        "//x//announce",
        "http://tracker.example:3000/announce",
    ];
    on_every_case(|case| {
        let tracker = case.start("");
        let mut client = Client::new(&tracker, IpFamily::V4);
        for (port, path) in (1..).zip(PATHS) {
            let (_, query) = announce(torrent(1), port, SEEDER)
                .split_once('?')
                .map(|(path, query)| (path.to_owned(), query.to_owned()))
                .unwrap();
            let answer = client.get(&format!("{path}?{query}"));
            assert_eq!(
                answer.value().integer("complete"),
                i64::from(port),
                "{path}"
            );

            let at = path.rfind("announce").unwrap();
            let path = [&path[..at], "scrape", &path[at + "announce".len()..]].concat();
            let target = scrape(&[torrent(1)]).replace("/scrape", &path);
            let found = rows(&client.get(&target).value(), &[torrent(1)]);
            assert_eq!(found, [row(i64::from(port), 0, 0)], "{path}");
        }
    });
}

/// Announce URLs as they occur, with what clients put behind them.
#[test]
fn announce_urls_are_tolerated() {
    const URLS: [(&str, &str); 16] = [
        ("/announce?passkey=a?", ""),
        ("/announce?passkey=a&?", ""),
        ("/announce??", ""),
        ("/announce?&amp;", ""),
        ("/announce?passkey=a&amp;", ""),
        ("/announce?a;b=c;d&", "&e=;f"),
        ("/announce%20?", ""),
        ("/announce ?", ""),
        ("/announce.php%20?", ""),
        ("/announce/PASSKEY?", ""),
        ("/announce/PASSKEY/?", ""),
        ("/x/announce.php/PASSKEY?a=b?", ""),
        ("/announce/PASSKEY%20?", ""),
        ("/%61nnounce?", ""),
        ("http://tracker.example/announce ?", ""),
        ("/announce?", "?x=y"),
    ];
    on_every_case(|case| {
        let tracker = case.start("limits.max_peers_per_ip_and_torrent = 0");
        let mut client = Client::new(&tracker, IpFamily::V4);
        let mut leechers = 0;
        for (start, end) in URLS {
            for (from, to) in [
                ("", ""),
                ("_", "%5f"),
                ("_", "%5F"),
                ("&", "&amp;"),
                ("&", "?"),
            ] {
                for version in ["1.0\r\nConnection: keep-alive", "1.1"] {
                    leechers += 1;
                    let announce = announce(torrent(1), leechers, LEECHER);
                    let (_, query) = announce.split_once('?').unwrap();
                    let query = if from.is_empty() {
                        query.to_owned()
                    } else {
                        query.replace(from, to)
                    };
                    let target = format!("{start}{query}{end}");
                    client
                        .connection
                        .send(format!("GET {target} HTTP/{version}\r\n\r\n"));
                    let announced = Announced::read(&client.connection.answer().value());
                    assert_eq!(announced.leechers, i64::from(leechers), "{target}");
                }
            }
            let scrape = scrape(&[torrent(1)]);
            let (_, query) = scrape.split_once('?').unwrap();
            let target = start.replace("announce", "scrape") + query + end;
            let target = target.replace("/%61nnounce", "/%73crape");
            let found = rows(&client.get(&target).value(), &[torrent(1)]);
            assert_eq!(found, [row(0, 0, leechers.into())], "{target}");
        }
    });
}

#[test]
fn a_semicolon_is_part_of_a_value() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let hash = InfoHash(*b";a;port=2;left=0;;;b");
        let target = "/announce?info_hash=;a;port=2;left=0;;;b&peer_id=-TR4060-;bcdefghijk;&port=";
        Announced::read(&client.get(&format!("{target}1")).value());
        assert!(client.refusal(&format!("{target};1")).starts_with("port"));
        let leechers = if family == IpFamily::V4 { 1 } else { 2 };
        assert_eq!(client.scrape(&[hash]), [row(0, 0, leechers)]);
    });
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let hash = format!("info_hash={}", percent(&torrent(1).0));
    let id = "peer_id=-TR4060-abcdefghijkl";
    let refused = [
        (format!("{id}&port=1"), "info_hash"),
        (format!("info_hash&{id}&port=1"), "info_hash"),
        (format!("info_hash=&{id}&port=1"), "info_hash"),
        (format!("info_hash=%5a%5a&{id}&port=1"), "info_hash"),
        (format!("{hash}%00&{id}&port=1"), "info_hash"),
        (format!("{hash}&port=1"), "peer_id"),
        (format!("{hash}&peer_id=-TR4060-&port=1"), "peer_id"),
        (format!("{hash}&{id}m&port=1"), "peer_id"),
        (format!("{hash}&{id}"), "port"),
        (format!("{hash}&{id}&port"), "port"),
        (format!("{hash}&{id}&port=0"), "port"),
        (format!("{hash}&{id}&port=65536"), "port"),
        (format!("{hash}&{id}&port=-1"), "port"),
        (format!("{hash}&{id}&port=http"), "port"),
    ];
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            for (query, parameter) in &refused {
                let reason = client.refusal(&format!("/announce?{query}"));
                assert!(reason.starts_with(parameter), "{query}: {reason}");
            }
            let reason = client.refusal("/scrape?info_hash=short");
            assert!(reason.starts_with("info_hash"), "{reason}");
            assert_eq!(client.scrape(&[torrent(1)]), [row(0, 0, 0)]);
        }
        for (reason, count) in [("info_hash", 6.0), ("peer_id", 3.0), ("port", 6.0)] {
            let counters = [4, 6].map(|ip_version| {
                format!("aquatic_refused_total{{reason={reason},ip_version={ip_version}}}")
            });
            metrics::wait_for(
                &tracker,
                &counters.each_ref().map(|counter| (counter.as_str(), count)),
            );
        }
        metrics::wait_for(&tracker, &[("aquatic_responses_total{type=error}", 30.0)]);
    });
}

#[test]
fn a_scrape_of_nothing_is_refused_for_good() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        for target in ["/scrape", "/scrape?", "/scrape?passkey=1"] {
            let answer = client.get(target);
            assert!(answer.failure().contains("info_hash"), "{answer:?}");
            assert_eq!(answer.value().bytes("retry in"), Some(&b"never"[..]));
        }
    });
}
