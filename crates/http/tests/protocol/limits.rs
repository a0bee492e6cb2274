//! Bounds on what strangers can make the tracker do.

use std::io::Write;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::bencode::Value;
use aquatic_test_support::program::loopback;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Setup, metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, announce, get, scrape};
use super::connection::{Transport, tcp};
use super::setup::{Case, Tracker, on_every_case, on_every_runtime};

/// Whether a new connection is served.
pub(crate) fn is_served(tracker: &Tracker, last: u8) -> Option<Client> {
    let address = tracker.address(IpFamily::V4);
    let tcp = tcp(loopback(last), address).unwrap();
    let config = match tracker.transport {
        Transport::Plain => return ask(super::connection::Connection::over(tcp, Transport::Plain)),
        _ => &super::identity::TRUSTING[1],
    };
    ask(super::connection::Connection::with_tls(tcp, config).ok()?)
}

/// Whether a connection is served.
pub(crate) fn ask(mut connection: super::connection::Connection) -> Option<Client> {
    let request = get(&scrape(&[torrent(1)]));
    connection.try_send(request.as_bytes()).ok()?;
    if connection.has_ended() {
        return None;
    }
    assert_eq!(connection.answer().status, 200);
    Some(Client { connection })
}

/// As long as the tracker has not noticed that others are gone, there is no room.
pub(crate) fn wait_for_room(tracker: &Tracker, last: u8) -> Client {
    until("there is room", || is_served(tracker, last))
}

/// Whoever has all connections loses some of them to those who have none.
#[test]
fn one_address_does_not_take_all_connections() {
    const GREEDY: usize = 120;
    const HONEST: u8 = 40;
    on_every_case(|case| {
        let tracker = case.start_with_metrics(&format!("network.max_connections = {GREEDY}"));
        let address = tracker.address(IpFamily::V4);
        let silent: Vec<_> = (0..GREEDY).map(|_| tcp(loopback(1), address)).collect();
        let mut honest: Vec<_> = (2..2 + HONEST)
            .map(|last| is_served(&tracker, last).unwrap())
            .collect();
        for client in &mut honest {
            client.join(torrent(1), 1, LEECHER);
        }
        let closed = "aquatic_connections_closed_total{reason=evicted}";
        let refused = "aquatic_connections_refused_total{reason=max_connections}";
        let active = "aquatic_active_connections";
        let expected = [(closed, 40.0), (refused, 0.0), (active, 120.0)];
        metrics::wait_for(&tracker, &expected);
        drop(silent);
    });
}

/// Connections and handshakes that are begun again and again are counted as requests are.
#[test]
fn connections_per_second_of_an_address_are_limited() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("limits.requests_per_second_per_ip = 50");
        let address = tracker.address(IpFamily::V4);
        let clock = Clock::start();
        for _ in 0..300 {
            let mut tcp = tcp(loopback(1), address).unwrap();
            // Of a TLS handshake. The connection may have been closed already.
            let _ = tcp.write_all(b"\x16\x03\x01\x02\x00\x01\x00");
        }
        let refused = "aquatic_connections_refused_total{reason=requests_per_second_per_ip}";
        let per_connection = 1.0 + f64::from(u8::from(case.transport.is_tls()));
        until("most are refused", || {
            let served_max = 51.0 + 50.0 * clock.elapsed().as_secs_f64();
            let refused = metrics::sum(&metrics::scrape(&tracker), refused);
            (refused >= 300.0 - served_max / per_connection - 1.0).then_some(())
        });
        assert!(is_served(&tracker, 2).is_some(), "another address");
    });
}

/// An operator who has configured nothing has room for others, whoever comes.
#[test]
fn connections_of_an_address_are_limited_by_default() {
    const DEFAULT: usize = 2_048;
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics("");
        let address = tracker.address(IpFamily::V4);
        let open: Vec<_> = (0..DEFAULT + 50)
            .map(|_| tcp(loopback(1), address).unwrap())
            .collect();
        let refused = "aquatic_connections_refused_total{reason=max_connections_per_ip}";
        metrics::wait_for(&tracker, &[(refused, 50.0)]);
        assert!(is_served(&tracker, 2).is_some(), "another address");
        drop(open);
    });
}

#[test]
fn connections_of_an_address_are_limited() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("limits.max_connections_per_ip = 2");
        let mut open: Vec<_> = [1, 1, 2, 2, 3]
            .map(|last| is_served(&tracker, last).unwrap())
            .into();
        assert!(is_served(&tracker, 1).is_none());
        assert!(is_served(&tracker, 2).is_none());
        let counter = "aquatic_connections_refused_total{reason=max_connections_per_ip}";
        metrics::wait_for(
            &tracker,
            &[(counter, 2.0), ("aquatic_active_connections", 5.0)],
        );
        open.remove(0);
        open.push(wait_for_room(&tracker, 1));
        for client in &mut open {
            client.join(torrent(1), 1, LEECHER);
        }
    });
}

#[test]
fn connections_of_an_address_behind_a_proxy_are_limited() {
    on_every_runtime(|case| {
        let settings = "limits.max_connections_per_ip = 2\nnetwork.proxy_protocol = true";
        let tracker = case.start_with_metrics(settings);
        let connect = |ip: &str| {
            let tcp = tcp(loopback(1), tracker.address(IpFamily::V4)).unwrap();
            let header = format!("PROXY TCP4 {ip} 192.0.2.99 1 2\r\n");
            super::connection::Connection::over(tcp.try_clone().unwrap(), Transport::Plain)
                .send(header);
            match tracker.transport {
                Transport::Plain => ask(super::connection::Connection::over(tcp, Transport::Plain)),
                _ => ask(super::connection::Connection::with_tls(
                    tcp,
                    &super::identity::TRUSTING[1],
                )
                .ok()?),
            }
        };
        let open = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|ip| connect(ip).unwrap());
        assert!(connect("192.0.2.1").is_none());
        assert!(connect("192.0.2.2").is_some());
        let counter = "aquatic_connections_refused_total{reason=max_connections_per_ip}";
        metrics::wait_for(&tracker, &[(counter, 1.0)]);
        drop(open);
    });
}

#[test]
fn requests_of_an_address_are_limited() {
    const SENT: u16 = 300;
    on_every_case(|case| {
        let clock = Clock::start();
        let tracker = case.start_with_metrics("limits.requests_per_second_per_ip = 20");
        for (family, ip_version) in IpFamily::ALL.into_iter().zip([4, 6]) {
            let mut client = Client::new(&tracker, family);
            let mut refused = 0;
            for _ in 0..SENT {
                let answer = client.get(&announce(torrent(1), 1, LEECHER)).value();
                if let Some(reason) = answer.bytes("failure reason") {
                    assert_eq!(reason, b"too many requests from your address");
                    assert_eq!(intervals_of_refusal(&answer), (60, 60, Some(1)));
                    refused += 1;
                }
            }
            // A second's worth at once, then the rate; less what the client has been charged for
            // its connection and its handshake.
            let charged = 1.0 + f64::from(u8::from(case.transport.is_tls()));
            let served_max = 21.0 - charged + 20.0 * clock.elapsed().as_secs_f64();
            let served = f64::from(SENT - refused);
            assert!(
                (20.0 - charged..=served_max).contains(&served),
                "{served} served"
            );
            let counter =
                format!("aquatic_refused_total{{reason=request_rate,ip_version={ip_version}}}");
            metrics::wait_for(&tracker, &[(&counter, f64::from(refused))]);
        }
        let neighbour = loopback(2);
        let address = tracker.address(IpFamily::V4);
        Client::between(neighbour, address, tracker.transport).join(torrent(2), 1, LEECHER);
    });
}

#[test]
fn a_full_tracker_says_when_to_come_back() {
    on_every_case(|case: Case| {
        let Case { setup, .. } = case;
        let max = Setup::shards(setup);
        let tracker = case.start(&format!("limits.max_peers = {max}"));
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            client.join(torrent(1), 1, LEECHER);
            let answer = client.get(&announce(torrent(1), 2, LEECHER));
            assert!(answer.failure().contains("full"));
            assert_eq!(intervals_of_refusal(&answer.value()), (60, 60, Some(1)));
        }
    });
}

/// When a refused client is told to come back, in seconds and minutes, for clients of all kinds.
/// `None`: never.
#[track_caller]
fn intervals_of_refusal(answer: &Value) -> (i64, i64, Option<i64>) {
    assert_eq!(
        answer.keys(),
        ["failure reason", "interval", "min interval", "retry in"]
    );
    let retry = match answer.get("retry in") {
        Some(Value::Integer(minutes)) => Some(*minutes),
        retry => {
            assert_eq!(retry, Some(&Value::Bytes(b"never".to_vec())));
            None
        }
    };
    let (interval, min) = (answer.integer("interval"), answer.integer("min interval"));
    (interval, min, retry)
}

#[test]
fn refusals_say_the_interval_that_is_set() {
    on_every_case(|case| {
        for (settings, interval, min) in [
            ("", 900, Some(300)),
            ("protocol.peer_announce_interval = 120", 120, Some(120)),
            ("protocol.min_announce_interval = 0", 900, None),
        ] {
            let tracker = case.start(settings);
            let mut client = Client::new(&tracker, IpFamily::V4);
            for target in ["/announce", "/scrape"] {
                let answer = client.get(target).value();
                assert_eq!(answer.integer("interval"), interval, "{settings}");
                let told_min = answer
                    .get("min interval")
                    .map(|_| answer.integer("min interval"));
                assert_eq!(told_min, min, "{settings}");
            }
            let announced = client.join(torrent(1), 1, LEECHER);
            assert_eq!(announced.interval_seconds, interval);
            assert_eq!(announced.min_interval_seconds, min);
        }
    });
}

#[test]
fn a_forbidden_torrent_is_not_to_be_asked_for_again() {
    on_every_case(|case| {
        let place = aquatic_test_support::Place::new();
        place.write("list", torrent(1).to_string());
        let settings = "access_list.mode = 'deny'\naccess_list.path = 'list'";
        let tracker = case.start_at(place, settings);
        let mut client = Client::new(&tracker, IpFamily::V4);
        let answer = client.get(&announce(torrent(1), 1, LEECHER)).value();
        assert_eq!(intervals_of_refusal(&answer), (900, 300, None));
    });
}
