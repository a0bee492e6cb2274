//! Behind a proxy: who the client is, and whom to believe that.

use std::net::IpAddr;

use aquatic_test_support::program::{localhost, loopback};
use aquatic_test_support::{Place, metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Announced, Client, LEECHER, announce, get};
use super::connection::{Answer, Connection, tcp};
use super::setup::{Tracker, on_every_case, on_every_runtime};

const BEHIND: &str = "network.runs_behind_reverse_proxy = true\n";

/// Announces with more header lines: what the tracker answers.
#[track_caller]
fn ask_with(client: &mut Client, lines: &str) -> Answer {
    let request = get(&announce(torrent(1), 1, LEECHER));
    let end = "\r\n\r\n";
    let request = request.replace(end, &format!("\r\n{lines}{end}"));
    client.connection.send(request);
    client.connection.answer()
}

#[track_caller]
fn external_ip(answer: &Answer) -> String {
    let announced = Announced::read(&answer.value());
    announced.external_ip.unwrap().to_string()
}

#[test]
fn the_last_address_of_the_last_header_counts() {
    on_every_case(|case| {
        let tracker = case.start(BEHIND);
        let mut client = Client::new(&tracker, IpFamily::V4);
        for (lines, ip) in [
            ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("x-forwarded-for:192.0.2.1 ", "192.0.2.1"),
            ("X-FORWARDED-FOR: 192.0.2.1,192.0.2.2", "192.0.2.2"),
            ("X-Forwarded-For: rubbish , 192.0.2.3", "192.0.2.3"),
            ("X-Forwarded-For: 2001:db8::7", "2001:db8::7"),
            ("X-Forwarded-For: 192.0.2.1, 2001:DB8:0::7", "2001:db8::7"),
            ("X-Forwarded-For: ::ffff:192.0.2.4", "192.0.2.4"),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.2\r\nX-Forwarded-For: 192.0.2.5",
                "192.0.2.5",
            ),
            (
                "X-Forwarded-For: rubbish\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.6\r\nX: y",
                "192.0.2.6",
            ),
        ] {
            let answer = ask_with(&mut client, lines);
            assert_eq!(external_ip(&answer), ip, "{lines}");
        }
        // These are the peers; the proxy is none.
        let mut other = Client::new(&tracker, IpFamily::V6);
        let answer = ask_with(&mut other, "X-Forwarded-For: 192.0.2.9");
        let peers = Announced::read(&answer.value()).peers;
        let expected = [
            "192.0.2.1:1",
            "192.0.2.2:1",
            "192.0.2.3:1",
            "192.0.2.4:1",
            "192.0.2.5:1",
            "192.0.2.6:1",
            "[2001:db8::7]:1",
        ];
        assert_eq!(peers, expected.map(|peer| peer.parse().unwrap()));
    });
}

/// All connections are the proxy's. Its clients are charged for their requests, and it for nothing.
#[test]
fn the_proxy_is_not_charged_for_its_connections() {
    on_every_case(|case| {
        let settings = format!("{BEHIND}limits.requests_per_second_per_ip = 5");
        let tracker = case.start(&settings);
        for last in 1..=30 {
            let mut client = Client::new(&tracker, IpFamily::V4);
            let ip = format!("192.0.2.{last}");
            let answer = ask_with(&mut client, &format!("X-Forwarded-For: {ip}"));
            assert_eq!(external_ip(&answer), ip);
        }
    });
}

#[test]
fn a_proxy_that_does_not_tell_is_told() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics(BEHIND);
        let mut client = Client::new(&tracker, IpFamily::V4);
        let wrong = [
            "X: y",
            "X-Real-IP: 192.0.2.1",
            "X-Forwarded-For: ",
            "X-Forwarded-For: unknown",
            "X-Forwarded-For: 192.0.2.1,",
            "X-Forwarded-For: 192.0.2.256",
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: \u{e4}\u{f6}",
        ];
        for lines in wrong {
            let reason = ask_with(&mut client, lines).failure();
            assert!(reason.contains("address"), "{lines}: {reason}");
        }
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_refused_total{reason=proxy_header}", 7.0),
                ("aquatic_peers", 0.0),
            ],
        );
    });
}

#[test]
fn the_header_has_a_name() {
    on_every_case(|case| {
        let settings = "network.reverse_proxy_ip_header_name = 'CF-Connecting-IP'";
        let tracker = case.start(&format!("{BEHIND}{settings}"));
        let mut client = Client::new(&tracker, IpFamily::V4);
        let lines = "cf-connecting-ip: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2";
        assert_eq!(external_ip(&ask_with(&mut client, lines)), "192.0.2.1");
    });
}

#[test]
fn only_trusted_proxies_are_believed() {
    on_every_case(|case| {
        let settings = format!("{BEHIND}network.trusted_proxies = ['127.0.0.4/30', '::1']");
        let tracker = case.start_with_metrics(&settings);
        let address = tracker.address(IpFamily::V4);
        let lines = "X-Forwarded-For: 192.0.2.1";
        for (last, is_trusted) in [(1, false), (3, false), (4, true), (7, true), (8, false)] {
            let mut client = Client::between(loopback(last), address, tracker.transport);
            let answer = ask_with(&mut client, lines);
            if is_trusted {
                assert_eq!(external_ip(&answer), "192.0.2.1");
            } else {
                assert!(answer.failure().contains("proxy"), "{answer:?}");
            }
        }
        let mut client = Client::new(&tracker, IpFamily::V6);
        assert_eq!(external_ip(&ask_with(&mut client, lines)), "192.0.2.1");
        metrics::wait_for(
            &tracker,
            &[("aquatic_refused_total{reason=untrusted_proxy}", 3.0)],
        );
    });
}

#[test]
fn trusted_proxies_in_the_header_are_passed_over() {
    on_every_case(|case| {
        let networks = "network.trusted_proxies = ['127.0.0.1', '::1', '198.51.100.0/24']";
        let tracker = case.start(&format!("{BEHIND}{networks}"));
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            for (lines, ip) in [
                ("X-Forwarded-For: 203.0.113.9, 198.51.100.1", "203.0.113.9"),
                (
                    "X-Forwarded-For: 192.0.2.1, 203.0.113.9, 198.51.100.1",
                    "203.0.113.9",
                ),
                (
                    "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.1, 198.51.100.2",
                    "203.0.113.9",
                ),
                (
                    "X-Forwarded-For: 198.51.100.1, 198.51.100.2",
                    "198.51.100.1",
                ),
                ("X-Forwarded-For: 203.0.113.9", "203.0.113.9"),
            ] {
                assert_eq!(external_ip(&ask_with(&mut client, lines)), ip, "{lines}");
            }
            let lines = "X-Forwarded-For: unknown, 198.51.100.1";
            assert!(ask_with(&mut client, lines).failure().contains("address"));
        }
    });
}

#[test]
fn forwarded_is_understood() {
    on_every_case(|case| {
        let settings = "network.reverse_proxy_ip_header_name = 'Forwarded'\n\
                        network.trusted_proxies = ['127.0.0.1', '198.51.100.0/24']";
        let tracker = case.start(&format!("{BEHIND}{settings}"));
        let mut client = Client::new(&tracker, IpFamily::V4);
        for (lines, ip) in [
            ("Forwarded: for=203.0.113.9", "203.0.113.9"),
            (
                "forwarded: For=\"[2001:db8:cafe::17]:4711\";proto=https;host=\"a,b;c\"",
                "2001:db8:cafe::17",
            ),
            (
                "Forwarded: for=192.0.2.1, for=203.0.113.9\r\nForwarded: for=198.51.100.1",
                "203.0.113.9",
            ),
        ] {
            assert_eq!(external_ip(&ask_with(&mut client, lines)), ip, "{lines}");
        }
        for lines in [
            "Forwarded: for=unknown",
            "Forwarded: for=_gazonk",
            "Forwarded: 203.0.113.9",
            "X-Forwarded-For: 203.0.113.9",
        ] {
            let reason = ask_with(&mut client, lines).failure();
            assert!(reason.contains("address"), "{lines}: {reason}");
        }
    });
}

#[test]
fn without_a_proxy_headers_are_not_believed() {
    on_every_case(|case| {
        let tracker = case.start("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            let answer = ask_with(&mut client, "X-Forwarded-For: 192.0.2.1");
            assert_eq!(external_ip(&answer), client.ip().to_string());
        }
    });
}

const PROXY: &str = "network.proxy_protocol = true\n";

/// A connection that begins with a PROXY header.
fn connect_with(tracker: &Tracker, from: IpAddr, header: &[u8]) -> Client {
    let family = if from.is_ipv4() {
        IpFamily::V4
    } else {
        IpFamily::V6
    };
    let tcp = tcp(from, tracker.address(family)).unwrap();
    let mut raw = Connection::over(
        tcp.try_clone().unwrap(),
        super::connection::Transport::Plain,
    );
    raw.send(header);
    let connection = Connection::over(tcp, tracker.transport);
    Client { connection }
}

/// Version 2 of the header: a command, a family with its addresses, and what follows them.
fn v2(command: u8, family: u8, addresses: &[u8], more: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    let size = u16::try_from(addresses.len() + more.len()).unwrap();
    header.extend(size.to_be_bytes());
    header.extend(addresses);
    header.extend(more);
    header
}

#[test]
fn the_proxy_protocol_tells_who_the_client_is() {
    // 192.0.2.1 and 2001:db8::1, with ports.
    let v4 = [192, 0, 2, 1, 192, 0, 2, 99, 0x12, 0x34, 0, 80];
    let v6 = [
        &b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"[..],
        b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x63",
        b"\x12\x34\0\x50",
    ]
    .concat();
    let mapped = [
        &b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01"[..],
        b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x63",
        b"\x12\x34\0\x50",
    ]
    .concat();
    let headers = [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.99 4660 80\r\n".to_vec(),
            "192.0.2.1",
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::99 4660 80\r\n".to_vec(),
            "2001:db8::1",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), ""),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), ""),
        (v2(1, 0x11, &v4, b""), "192.0.2.1"),
        (v2(1, 0x11, &v4, b"\x04\0\x05hello"), "192.0.2.1"),
        (v2(1, 0x21, &v6, b""), "2001:db8::1"),
        (v2(1, 0x21, &mapped, b""), "192.0.2.1"),
        // A health check of the proxy, and one that does not know.
        (v2(0, 0x11, &v4, b""), ""),
        (v2(0, 0, b"", b""), ""),
        (v2(1, 0, b"", b""), ""),
    ];
    on_every_case(|case| {
        let tracker = case.start(PROXY);
        for family in IpFamily::ALL {
            for (header, ip) in &headers {
                let mut client = connect_with(&tracker, localhost(family), header);
                for port in [1, 2] {
                    let announced = client.join(torrent(1), port, LEECHER);
                    let found = announced.external_ip.unwrap();
                    let own = client.ip().to_string();
                    let expected = if ip.is_empty() { &own } else { *ip };
                    assert_eq!(found.to_string(), expected, "{}", header.escape_ascii());
                }
            }
        }
    });
}

#[test]
fn a_proxy_header_may_trickle_in() {
    on_every_runtime(|case| {
        let tracker = case.start(PROXY);
        let v4 = [192, 0, 2, 1, 192, 0, 2, 99, 0x12, 0x34, 0, 80];
        let headers = [
            b"PROXY TCP4 192.0.2.1 192.0.2.99 4660 80\r\n".to_vec(),
            v2(1, 0x11, &v4, b"\x04\0\x05hello"),
        ];
        for header in headers {
            let tcp = tcp(localhost(IpFamily::V4), tracker.address(IpFamily::V4)).unwrap();
            let plain = super::connection::Transport::Plain;
            let mut raw = Connection::over(tcp.try_clone().unwrap(), plain);
            for byte in header {
                raw.send([byte]);
            }
            let connection = Connection::over(tcp, tracker.transport);
            let mut client = Client { connection };
            let announced = client.join(torrent(1), 1, LEECHER);
            assert_eq!(announced.external_ip, Some("192.0.2.1".parse().unwrap()));
        }
    });
}

#[test]
fn without_a_proxy_header_nobody_is_served() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(PROXY);
        let wrong: [&[u8]; 5] = [
            b"GET /announce HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP5 192.0.2.1 192.0.2.99 4660 80\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\xff\xff\0\0",
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 a client hello",
        ];
        for header in wrong {
            let tcp = tcp(localhost(IpFamily::V4), tracker.address(IpFamily::V4)).unwrap();
            let mut raw = Connection::over(tcp, super::connection::Transport::Plain);
            raw.send(header);
            raw.assert_dropped();
        }
        let counter = "aquatic_connections_closed_total{reason=proxy_header}";
        metrics::wait_for(&tracker, &[(counter, 5.0)]);
    });
}

#[test]
fn only_trusted_proxies_may_connect() {
    on_every_runtime(|case| {
        let settings = format!("{PROXY}network.trusted_proxies = ['127.0.0.4/30']");
        let tracker = case.start_with_metrics(&settings);
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.99 4660 80\r\n";
        let mut client = connect_with(&tracker, loopback(5), header);
        let announced = client.join(torrent(1), 1, LEECHER);
        assert_eq!(announced.external_ip, Some("192.0.2.1".parse().unwrap()));
        let tcp = tcp(loopback(8), tracker.address(IpFamily::V4)).unwrap();
        let mut raw = Connection::over(tcp, super::connection::Transport::Plain);
        // It may be closed already.
        let _ = raw.try_send(header);
        raw.assert_dropped();
        let counter = "aquatic_connections_refused_total{reason=untrusted_proxy}";
        metrics::wait_for(&tracker, &[(counter, 1.0)]);
    });
}

/// The client is judged whom the proxy names, and the proxy is not.
#[test]
fn clients_of_denied_networks_are_refused_behind_a_proxy() {
    on_every_case(|case| {
        let place = Place::new();
        place.write("networks", "192.0.2.0/24\n2001:db8::/32\n127.0.0.0/8\n");
        let settings = format!("{BEHIND}access_list.networks_deny_path = 'networks'");
        let tracker = case.start_at(place, &settings);
        let mut client = Client::new(&tracker, IpFamily::V4);
        for denied in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"] {
            let answer = ask_with(&mut client, &format!("X-Forwarded-For: {denied}"));
            let value = answer.value();
            let reason = value.bytes("failure reason").unwrap();
            assert_eq!(reason, b"your network is not allowed here", "{denied}");
        }
        let answer = ask_with(&mut client, "X-Forwarded-For: 192.0.3.1");
        assert_eq!(external_ip(&answer), "192.0.3.1");
        tracker.place.write("networks", "192.0.3.0/24");
        tracker.reload();
        let answer = ask_with(&mut client, "X-Forwarded-For: 192.0.3.1");
        assert!(answer.value().get("failure reason").is_some());
        let answer = ask_with(&mut client, "X-Forwarded-For: 192.0.2.1");
        assert_eq!(external_ip(&answer), "192.0.2.1");
    });
}
