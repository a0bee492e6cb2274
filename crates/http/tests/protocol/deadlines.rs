//! Clients that take their time are dropped, and nobody else.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::program::localhost;
use aquatic_test_support::{metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, announce, get};
use super::connection::{Connection, Transport, tcp};
use super::setup::{Tracker, on_every_runtime};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Longer than a machine stands still, so that clients that are quick stay below it.
const LIMIT: Duration = Duration::from_secs(5);

/// A setting that has this limit.
fn limited(key: &str) -> String {
    format!("{key} = {}", LIMIT.as_secs())
}

fn closed(reason: &str) -> String {
    format!("aquatic_connections_closed_total{{reason={reason}}}")
}

/// Keeps another connection busy until the tracker has dropped those that `open` opens: that one
/// lives.
#[track_caller]
fn assert_dropped_alone(tracker: &Tracker, open: impl FnOnce() -> Vec<Connection>) {
    let mut busy = Client::new(tracker, IpFamily::V6);
    busy.join(torrent(1), 1, LEECHER);
    let clock = Clock::start();
    let mut slow = open();
    let first = thread::scope(|scope| {
        let dropped = slow.iter_mut().map(|slow| {
            scope.spawn(move || {
                slow.assert_closed();
                clock.elapsed()
            })
        });
        let dropped: Vec<_> = dropped.collect();
        while !dropped.iter().all(thread::ScopedJoinHandle::is_finished) {
            busy.join(torrent(1), 1, LEECHER);
            // Others need the machine, too.
            thread::sleep(Duration::from_millis(5));
        }
        dropped.into_iter().map(|it| it.join().unwrap()).min()
    });
    busy.join(torrent(1), 1, LEECHER);
    assert!(first > Some(LIMIT / 2), "not at once: {first:?}");
}

#[test]
fn an_idle_connection_is_closed() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(&limited("cleaning.max_connection_idle"));
        assert_dropped_alone(&tracker, || {
            let mut client = Client::new(&tracker, IpFamily::V4);
            client.join(torrent(1), 1, LEECHER);
            vec![client.connection]
        });
        metrics::wait_for(&tracker, &[(&closed("idle_deadline"), 1.0)]);
    });
}

#[test]
fn a_request_that_does_not_end_is_dropped() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(&limited("network.request_timeout"));
        let open = |first_bytes: &str| {
            let mut connection = Client::new(&tracker, IpFamily::V4).connection;
            connection.send(first_bytes);
            connection
        };
        let beginnings = ["G", "GET /announce?info_hash=", "GET / HTTP/1.1\r\nHost: x"];
        let told = beginnings.map(open);
        assert_dropped_alone(&tracker, || vec![open("")]);
        for (mut connection, first_bytes) in told.into_iter().zip(beginnings) {
            let answer = connection.answer();
            assert_eq!(answer.status, 408, "{first_bytes}");
            assert_eq!(answer.header("connection"), Some("close"));
            connection.assert_closed();
        }
        metrics::wait_for(
            &tracker,
            &[
                (&closed("request_deadline"), 4.0),
                ("aquatic_refused_total{reason=timed_out}", 3.0),
                ("aquatic_refused_total{reason=malformed}", 0.0),
            ],
        );
    });
}

#[test]
fn a_trickle_of_bytes_does_not_help() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(&limited("network.request_timeout"));
        let mut connection = Client::new(&tracker, IpFamily::V4).connection;
        connection.send("GET /announce?");
        while connection.is_silent_for(Duration::from_millis(50)) {
            // It may have been closed just now.
            let _ = connection.try_send(b"x");
        }
        connection.assert_closed();
        metrics::wait_for(&tracker, &[(&closed("request_deadline"), 1.0)]);
    });
}

#[test]
fn a_handshake_that_does_not_end_is_dropped() {
    on_every_runtime(|case| {
        if !case.transport.is_tls() {
            return;
        }
        let tracker = case.start_with_metrics(&limited("network.handshake_timeout"));
        let address = tracker.address(IpFamily::V4);
        assert_dropped_alone(&tracker, || {
            let open = |first_bytes: &[u8]| {
                let mut raw = Connection::open(V4, address, Transport::Plain);
                raw.send(first_bytes);
                raw
            };
            vec![
                open(b""),
                open(b"\x16\x03\x01"),
                open(b"\x16\x03\x01\x02\x00\x01\x00"),
            ]
        });
        metrics::wait_for(&tracker, &[(&closed("handshake_deadline"), 3.0)]);
    });
}

#[test]
fn a_proxy_header_that_does_not_end_is_dropped() {
    on_every_runtime(|case| {
        let timeout = limited("network.handshake_timeout");
        let settings = format!("network.proxy_protocol = true\n{timeout}");
        let tracker = case.start_with_metrics(&settings);
        let header = "PROXY UNKNOWN\r\n";
        let mut raw = Connection::over(
            tcp(localhost(IpFamily::V4), tracker.address(IpFamily::V4)).unwrap(),
            Transport::Plain,
        );
        raw.send(&header[..5]);
        raw.assert_closed();
        metrics::wait_for(&tracker, &[(&closed("handshake_deadline"), 1.0)]);
        // In time, it is fine.
        let tcp = tcp(V4, tracker.address(IpFamily::V4)).unwrap();
        Connection::over(tcp.try_clone().unwrap(), Transport::Plain).send(header);
        let mut connection = Connection::over(tcp, tracker.transport);
        connection.send(get(&announce(torrent(1), 1, LEECHER)));
        assert_eq!(connection.answer().status, 200);
    });
}
