//! How long a connection lasts, and what can be done to it meanwhile.

use aquatic_test_support::{metrics, torrent, torrents};
use aquatic_types::IpFamily;

use super::client::{Announced, Client, LEECHER, announce, get, row, rows, scrape};
use super::connection::Connection;
use super::setup::{Tracker, on_every_case, on_every_case_and_family, on_every_runtime};

fn connect(tracker: &Tracker, family: IpFamily) -> Connection {
    Client::new(tracker, family).connection
}

#[test]
fn http_1_1_keeps_the_connection() {
    let settings = "limits.max_peers_per_ip_and_torrent = 0";
    on_every_case_and_family(settings, |tracker, family| {
        let mut client = Client::new(tracker, family);
        let before = client.scrape(&[torrent(1)])[0].leechers;
        for port in 1..=100 {
            let announced = client.join(torrent(1), port, LEECHER);
            assert_eq!(announced.leechers, before + i64::from(port));
        }
    });
}

#[test]
fn the_connection_is_closed_when_the_client_says_so() {
    on_every_case_and_family("", |tracker, family| {
        let target = announce(torrent(1), 1, LEECHER);
        for (version, header, stays_open, said) in [
            ("1.1", "X: y", true, None),
            ("1.1", "Connection: keep-alive", true, None),
            ("1.1", "Connection: close", false, Some("close")),
            ("1.1", "connection:CLOSE", false, Some("close")),
            ("1.1", "CONNECTION: TE, Close", false, Some("close")),
            ("1.0", "X: y", false, Some("close")),
            ("1.0", "Connection: Keep-Alive", true, Some("keep-alive")),
            ("1.0", "Connection: close", false, Some("close")),
        ] {
            let mut connection = connect(tracker, family);
            let request = format!("GET {target} HTTP/{version}\r\n{header}\r\n\r\n");
            connection.send(&request);
            let answer = connection.answer();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("connection"), said, "{request}");
            if stays_open {
                connection.send(&request);
                assert_eq!(connection.answer().status, 200, "{request}");
            } else {
                connection.assert_ends();
            }
        }
    });
}

#[test]
fn keeping_connections_can_be_switched_off() {
    on_every_runtime(|case| {
        let tracker = case.start("network.keep_alive = false");
        let mut connection = connect(&tracker, IpFamily::V4);
        connection.send(get(&announce(torrent(1), 1, LEECHER)));
        assert_eq!(connection.answer().header("connection"), Some("close"));
        connection.assert_ends();
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_every_case_and_family("", |tracker, family| {
        let mut connection = connect(tracker, family);
        // Announces and scrapes, over all shards, and what can be answered at once.
        let all: Vec<_> = torrents().collect();
        let first_port = if family == IpFamily::V4 { 1 } else { 1_001 };
        let ports = first_port..first_port + 20;
        let mut requests = String::new();
        for port in ports.clone() {
            for info_hash in &all {
                requests += &get(&announce(*info_hash, port, LEECHER));
            }
            requests += &get("/nowhere");
            requests += &get(&scrape(&all));
        }
        connection.send(&requests);
        let before = if family == IpFamily::V4 { 0 } else { 20 };
        for (leechers, _) in (before + 1..).zip(ports) {
            for _ in &all {
                let announced = Announced::read(&connection.answer().value());
                assert_eq!(announced.leechers, leechers);
            }
            assert_eq!(connection.answer().status, 404);
            let found = rows(&connection.answer().value(), &all);
            assert_eq!(found, vec![row(0, 0, leechers); all.len()]);
        }
    });
}

#[test]
fn what_follows_the_last_request_is_not_answered() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut connection = connect(&tracker, IpFamily::V4);
        let request = get(&announce(torrent(1), 1, LEECHER));
        let last = request.replace("User-Agent: test", "Connection: close");
        connection.send([&*request, &*last, &*request, &*request].concat());
        assert_eq!(connection.answer().status, 200);
        assert_eq!(connection.answer().status, 200);
        connection.assert_ends();
    });
}

#[test]
fn bytes_may_trickle_in() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        for family in IpFamily::ALL {
            let mut connection = connect(&tracker, family);
            let requests = [announce(torrent(1), 1, LEECHER), scrape(&[torrent(1)])];
            for byte in requests.map(|target| get(&target)).concat().bytes() {
                connection.send([byte]);
            }
            assert_eq!(connection.answer().status, 200);
            assert_eq!(connection.answer().value().keys(), ["files"]);
        }
    });
}

#[test]
fn who_has_said_everything_is_still_answered() {
    on_every_case_and_family("", |tracker, family| {
        let mut connection = connect(tracker, family);
        let all: Vec<_> = torrents().collect();
        let first = get(&announce(torrent(1), 1, LEECHER));
        connection.send(first + &get(&scrape(&all)));
        connection.end();
        assert_eq!(connection.answer().status, 200);
        assert_eq!(connection.answer().value().keys(), ["files"]);
        connection.assert_ends();
    });
}

#[test]
fn half_a_request_is_no_request() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        for family in IpFamily::ALL {
            let mut connection = connect(&tracker, family);
            connection.send("GET /announce?info_hash=");
            connection.end();
            assert_eq!(connection.answer().status, 400);
            connection.assert_ends();

            let mut silent = connect(&tracker, family);
            silent.end();
            silent.assert_ends();
        }
    });
}

#[test]
fn connections_are_counted() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let mut open = IpFamily::ALL.map(|family| {
            let mut clients: Vec<_> = (0..5).map(|_| Client::new(&tracker, family)).collect();
            for client in &mut clients {
                client.join(torrent(1), 1, LEECHER);
            }
            clients
        });
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_active_connections{ip_version=4}", 5.0),
                ("aquatic_active_connections{ip_version=6}", 5.0),
            ],
        );
        open[0].truncate(3);
        open[1].clear();
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_active_connections{ip_version=4}", 3.0),
                ("aquatic_active_connections{ip_version=6}", 0.0),
            ],
        );
    });
}
