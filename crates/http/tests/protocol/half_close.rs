//! Clients that send all their requests together, and then close their sending half.

use aquatic_test_support::{torrent, wait};
use aquatic_types::IpFamily;

use super::client::{Announced, Client, LEECHER, announce, get, row};
use super::setup::{Tracker, on_every_case_and_family};

/// Requests of one client: fewer than a batch takes up, and many more.
const BURSTS: [u16; 5] = [1, 17, 25, 100, 400];

#[test]
fn all_requests_before_the_end_are_answered() {
    on_every_case_and_family("", |tracker, family| {
        for (number, count) in (1..).zip(BURSTS) {
            let torrent = torrent(number + if family == IpFamily::V4 { 0 } else { 100 });
            let mut connection = Client::new(tracker, family).connection;
            connection.send(get(&announce(torrent, 1, LEECHER)).repeat(count.into()));
            connection.end();
            for _ in 0..count {
                let announced = Announced::read(&connection.answer().value());
                assert_eq!((announced.seeders, announced.leechers), (0, 1));
            }
            connection.assert_ends();
        }
    });
}

#[test]
fn a_hundred_peers_that_stop_together_are_gone() {
    let settings = "limits.max_peers_per_ip_and_torrent = 0";
    on_every_case_and_family(settings, |tracker, family| {
        let torrent = torrent(if family == IpFamily::V4 { 1 } else { 2 });
        let mut witness = Client::new(tracker, family);
        for event in ["started", "stopped"] {
            let mut connection = Client::new(tracker, family).connection;
            let requests = (1..=100).map(|port| {
                let target = announce(torrent, port, LEECHER);
                get(&format!("{target}&event={event}"))
            });
            connection.send(requests.collect::<String>());
            connection.end();
            for _ in 1..=100 {
                assert_eq!(connection.answer().status, 200);
            }
            connection.assert_ends();
            let leechers = if event == "started" { 100 } else { 0 };
            assert_eq!(witness.scrape(&[torrent]), [row(0, 0, leechers)], "{event}");
        }
    });
}

/// A client that is shut down, say, and does not wait for answers.
#[track_caller]
fn stop_and_reset(tracker: &Tracker, family: IpFamily, peers: u16) {
    let hash = torrent(if family == IpFamily::V4 { 1 } else { 2 });
    let mut witness = Client::new(tracker, family);
    for port in 1..=peers {
        witness.join(hash, port, LEECHER);
    }
    let mut connection = Client::new(tracker, family).connection;
    let stop = |port| get(&format!("{}&event=stopped", announce(hash, port, LEECHER)));
    connection.send((1..=peers).map(stop).collect::<String>());
    // The tracker, or its kernel, has all of them then.
    assert_eq!(connection.answer().status, 200);
    connection.reset();
    wait::until("all have left", || {
        (witness.scrape(&[hash]) == [row(0, 0, 0)]).then_some(())
    });
}

#[test]
fn peers_that_stop_are_gone_although_their_client_resets_the_connection() {
    on_every_case_and_family("", |tracker, family| stop_and_reset(tracker, family, 60));
}

/// These are more than the tracker reads before it has answered the first of them.
#[test]
fn peers_that_stop_are_gone_although_the_tracker_had_not_read_it() {
    on_every_case_and_family("", |tracker, family| stop_and_reset(tracker, family, 250));
}

#[test]
fn requests_before_half_a_request_are_answered() {
    on_every_case_and_family("", |tracker, family| {
        let mut connection = Client::new(tracker, family).connection;
        let request = get(&announce(torrent(1), 1, LEECHER));
        connection.send(request.repeat(100) + "GET /announce?info_hash=");
        connection.end();
        for _ in 0..100 {
            assert_eq!(connection.answer().status, 200);
        }
        assert_eq!(connection.answer().status, 400);
        connection.assert_ends();
    });
}
