//! The HTTP request: who gets a WebSocket, and what others are told.

use aquatic_test_support::cases::Tracker;
use aquatic_test_support::connection::{Answer, Connection, Transport, tcp};
use aquatic_test_support::program::localhost;
use aquatic_test_support::{Place, torrent};
use aquatic_types::IpFamily;

use super::client::{Peer, Socket, assert_accepted, request};
use super::setup::on_every_runtime;

const FAMILY: IpFamily = IpFamily::V4;

fn connect(tracker: &Tracker) -> Connection {
    let address = tracker.address(FAMILY);
    Connection::open(localhost(FAMILY), address, tracker.transport)
}

/// What is answered to a request of a connection's own, and how it ends if it is no WebSocket.
#[track_caller]
fn ask(tracker: &Tracker, request: &str) -> Answer {
    let mut connection = connect(tracker);
    connection.send(request);
    let answer = connection.answer();
    if answer.status != 101 {
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        connection.assert_closed();
    }
    answer
}

#[test]
fn compression_is_declined() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let extension = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        // Also checks that the answer names no extension.
        let socket = Socket::over(connect(&tracker), extension);
        assert_eq!(Peer::new(socket).join(torrent(1), 1), (0, 1));
    });
}

#[test]
fn lists_may_be_spread_over_several_lines() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let whole = request("");
        let connection = "Connection: keep-alive, Upgrade\r\n";
        let upgrade = "Upgrade: websocket\r\n";
        for (line, lines) in [
            (
                connection,
                "Connection: Upgrade\r\nConnection: keep-alive\r\n",
            ),
            (
                connection,
                "Connection: keep-alive\r\nConnection: Upgrade\r\n",
            ),
            (upgrade, "Upgrade: websocket\r\nUpgrade: h2c\r\n"),
        ] {
            assert_accepted(&ask(&tracker, &whole.replace(line, lines)));
        }
    });
}

#[test]
fn the_first_subprotocol_that_is_offered_is_chosen() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let offered = "Sec-WebSocket-Protocol: webtorrent, other\r\nSec-WebSocket-Protocol: x\r\n";
        let answer = ask(&tracker, &request(offered));
        assert_accepted(&answer);
        let chosen = answer.header("sec-websocket-protocol");
        assert_eq!(chosen, Some("webtorrent"));
        let answer = ask(&tracker, &request(""));
        assert_eq!(answer.header("sec-websocket-protocol"), None);
    });
}

#[test]
fn a_request_that_trickles_is_read() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut connection = connect(&tracker);
        for byte in request("").bytes() {
            connection.send([byte]);
        }
        assert_accepted(&connection.answer());
    });
}

#[test]
fn health_is_told_unless_disabled() {
    const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: tracker\r\n\r\n";
    on_every_runtime(|case| {
        let tracker = case.start("");
        assert_eq!(ask(&tracker, HEALTH).status, 200);
        // To HEAD, all but the body is sent.
        let mut connection = connect(&tracker);
        connection.send(HEALTH.replace("GET", "HEAD"));
        let head = connection.take(|bytes| {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
            Some((bytes[..end].to_vec(), end))
        });
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("Content-Length: 3\r\n"), "{head}");
        connection.assert_closed();
        let tracker = case.start("network.enable_http_health_checks = false");
        assert_eq!(ask(&tracker, HEALTH).status, 404);
    });
}

#[test]
fn what_is_no_websocket_gets_a_short_clear_refusal() {
    on_every_runtime(|case| {
        let tracker = case.start("network.enable_http_health_checks = true");
        let whole = request("");
        let without = |line: &str| whole.replace(line, "X-Nothing: here\r\n");
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: tracker\r\n\r\n".to_owned(), 404),
            (without("Upgrade: websocket\r\n"), 404),
            (without("Connection: keep-alive, Upgrade\r\n"), 404),
            (without("Sec-WebSocket-Version: 13\r\n"), 426),
            (whole.replace("Version: 13", "Version: 8"), 426),
            (whole.replace("Key: dGhl", "Key: "), 400),
            (whole.replace("GET", "POST"), 405),
            ("how do you do\r\n\r\n".to_owned(), 400),
        ] {
            let answer = ask(&tracker, &request);
            assert_eq!(answer.status, status, "{request}");
            assert!((1..200).contains(&answer.body.len()), "{answer:?}");
        }
        let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
        let mut connection = connect(&tracker);
        // The tracker may have closed before all of it was sent.
        drop(connection.try_send(endless.as_bytes()));
        assert_eq!(connection.answer().status, 431);
    });
}

#[test]
fn only_pages_of_allowed_origins_are_let_in() {
    on_every_runtime(|case| {
        let tracker =
            case.start("network.allowed_origins = ['https://a.example', 'https://b.example:8443']");
        for (lines, status) in [
            ("Origin: https://a.example\r\n", 101),
            ("Origin: https://b.example:8443\r\n", 101),
            ("Origin: https://b.example\r\n", 403),
            ("Origin: http://a.example\r\n", 403),
            ("Origin: https://a.example.c.example\r\n", 403),
            ("Origin: null\r\n", 403),
            ("", 403),
        ] {
            assert_eq!(ask(&tracker, &request(lines)).status, status, "{lines}");
        }
        tracker.wait_for_warning(
            "pages of other sites turned away: ",
            "`network.allowed_origins`",
        );
        let tracker = case.start("");
        let anyone = request("Origin: https://anywhere.example\r\n");
        assert_eq!(ask(&tracker, &anyone).status, 101);
    });
}

#[test]
fn behind_a_proxy_the_header_tells_whose_peers_are_counted() {
    on_every_runtime(|case| {
        let tracker = case.start(
            "network.runs_behind_reverse_proxy = true\n\
             network.trusted_proxies = ['127.0.0.1']\n\
             limits.max_peers_per_ip = 1",
        );
        let peer = |ip: &str| {
            let lines = format!("X-Forwarded-For: 192.0.2.99, {ip}\r\n");
            Peer::new(Socket::over(connect(&tracker), &lines))
        };
        let (mut first, mut second, mut third) =
            (peer("192.0.2.1"), peer("192.0.2.2"), peer("192.0.2.1"));
        assert_eq!(first.join(torrent(1), 1), (0, 1));
        assert_eq!(second.join(torrent(1), 1), (0, 2));
        let refused = third.announce(torrent(1), 1);
        assert_eq!(third.refusal(&refused), "too many peers from your address");

        assert_eq!(ask(&tracker, &request("")).status, 400);
        let v6 = (localhost(IpFamily::V6), tracker.address(IpFamily::V6));
        let mut stranger = Connection::open(v6.0, v6.1, tracker.transport);
        stranger.send(request("X-Forwarded-For: 192.0.2.1\r\n"));
        assert_eq!(stranger.answer().status, 403);
    });
}

#[test]
fn a_proxy_header_tells_whose_peers_are_counted() {
    on_every_runtime(|case| {
        let settings = "network.proxy_protocol = true\nlimits.max_peers_per_ip = 1";
        let tracker = case.start(settings);
        let peer = |ip: &str| {
            let tcp = tcp(localhost(FAMILY), tracker.address(FAMILY)).unwrap();
            let header = format!("PROXY TCP4 {ip} 192.0.2.99 1 2\r\n");
            Connection::over(tcp.try_clone().unwrap(), Transport::Plain).send(header);
            Peer::new(Socket::over(Connection::over(tcp, tracker.transport), ""))
        };
        let (mut first, mut second, mut third) =
            (peer("192.0.2.1"), peer("192.0.2.2"), peer("192.0.2.1"));
        assert_eq!(first.join(torrent(1), 1), (0, 1));
        assert_eq!(second.join(torrent(1), 1), (0, 2));
        let refused = third.announce(torrent(1), 1);
        assert_eq!(third.refusal(&refused), "too many peers from your address");
    });
}

/// The client is judged whom the proxy names, when it comes and when the list is replaced; the
/// proxy is not.
#[test]
fn clients_of_denied_networks_are_turned_away_behind_a_proxy() {
    on_every_runtime(|case| {
        let place = Place::new();
        place.write("networks", "192.0.2.0/24\n127.0.0.0/8\n");
        let settings = "network.runs_behind_reverse_proxy = true\n\
                        network.trusted_proxies = ['127.0.0.1']\n\
                        access_list.networks_deny_path = 'networks'";
        let tracker = case.start_at(place, settings);
        let lines = |ip: &str| format!("X-Forwarded-For: {ip}\r\n");
        assert_eq!(ask(&tracker, &request(&lines("192.0.2.1"))).status, 403);
        let peer = |ip: &str| Peer::new(Socket::over(connect(&tracker), &lines(ip)));
        let (mut stays, mut goes) = (peer("198.51.100.1"), peer("203.0.113.1"));
        assert_eq!(goes.join(torrent(1), 1), (0, 1));
        assert_eq!(stays.join(torrent(1), 1), (0, 2));

        tracker
            .place
            .write("networks", "203.0.113.0/24\n127.0.0.0/8\n");
        tracker.reload();
        aquatic_test_support::wait::until("the denied peer has left", || {
            (stays.join(torrent(1), 1) == (0, 1)).then_some(())
        });
        assert_eq!(ask(&tracker, &request(&lines("203.0.113.2"))).status, 403);
        assert_eq!(ask(&tracker, &request(&lines("192.0.2.1"))).status, 101);
    });
}
