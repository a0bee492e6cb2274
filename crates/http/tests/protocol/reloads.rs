//! What clients notice when the configuration file is read again.

use std::time::Duration;

use aquatic_test_support::cases::Tracker;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Setup, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::{Client, LEECHER, announce, get};
use super::limits::ask;
use super::setup::{Case, SIMPLE, on_every_case};

pub(super) fn change(tracker: &Tracker, setup: Setup, settings: &str) {
    let text = tracker.place.config_text(setup, settings);
    tracker.place.write("config.toml", text);
    tracker.reload_by(Signal::SIGHUP);
}

#[test]
fn intervals_and_sizes_of_answers_change() {
    on_every_case(|case| {
        if case.transport.is_tls() {
            return;
        }
        let tracker = case.start("protocol.max_response_peers_per_ip = 0");
        let mut client = Client::new(&tracker, IpFamily::V4);
        for port in 1..=40 {
            client.join(torrent(1), port, LEECHER);
        }
        let settings = "protocol.max_response_peers_per_ip = 0\nprotocol.max_peers = 10\n\
                        protocol.peer_announce_interval = 1001\n\
                        protocol.min_announce_interval = 101\n\
                        protocol.max_scrape_torrents = 20";
        change(&tracker, case.setup, settings);
        let hashes: Vec<_> = (0..20).map(torrent).collect();
        until("the new settings are in force", || {
            let answer = client.join(torrent(1), 1, LEECHER);
            let is_new = answer.interval_seconds == 1_001
                && answer.min_interval_seconds == Some(101)
                && answer.peers.len() == 10;
            is_new.then_some(())
        });
        assert_eq!(client.scrape(&hashes).len(), 20);
        for number in 1..12 {
            let answer = client.join(torrent(number), 1, LEECHER);
            assert_eq!(answer.interval_seconds, 1_001);
        }
    });
}

/// `network.keep_alive`, `network.enable_http_health_checks`, `protocol.max_full_scrape_torrents`.
#[test]
fn what_is_answered_changes() {
    let case = Case::plain(SIMPLE);
    let tracker = case.start("");
    let mut client = Client::new(&tracker, IpFamily::V4);
    client.join(torrent(1), 1, LEECHER);
    assert_eq!(client.get("/health").status, 200);
    assert!(client.refusal("/scrape").contains("scrape"));
    let settings = "network.enable_http_health_checks = false\n\
                    protocol.max_full_scrape_torrents = 10";
    change(&tracker, SIMPLE, settings);
    until("a full scrape", || {
        let answer = client.get("/scrape").value();
        answer.get("files").is_some().then_some(())
    });
    assert_ne!(client.get("/health").status, 200);
    change(&tracker, SIMPLE, "network.keep_alive = false");
    until("an answer that is the last", || {
        let mut client = Client::new(&tracker, IpFamily::V4);
        client
            .connection
            .send(get(&announce(torrent(1), 1, LEECHER)));
        let answer = client.connection.answer();
        (answer.header("connection") == Some("close")).then_some(())
    });
}

/// `cleaning.max_connection_idle`, which connections go by that wait afterwards.
#[test]
fn deadlines_change() {
    let case = Case::plain(SIMPLE);
    let tracker = case.start("cleaning.max_connection_idle = 3600");
    change(&tracker, SIMPLE, "cleaning.max_connection_idle = 1");
    until("an idle connection is closed", || {
        let mut client = Client::new(&tracker, IpFamily::V4);
        client.join(torrent(1), 1, LEECHER);
        let stays_open = client.connection.is_silent_for(Duration::from_secs(4));
        (!stays_open).then_some(())
    });
}

/// `limits.max_connections_per_ip` and `limits.requests_per_second_per_ip`, from and to 0.
#[test]
fn limits_per_address_begin_and_end() {
    let case = Case::plain(SIMPLE);
    let tracker = case.start("limits.max_connections_per_ip = 0");
    let address = tracker.address(IpFamily::V4);
    let opens = |count: usize| {
        let ip = [127, 0, 0, 9].into();
        let clients = (0..count).map(|_| Client::between(ip, address, tracker.transport));
        let clients: Vec<_> = clients.collect();
        // Whoever is too many is closed; the others stay until all have asked.
        let served = clients.into_iter().map(|client| ask(client.connection));
        served.collect::<Vec<_>>().iter().flatten().count()
    };
    assert_eq!(opens(8), 8);
    change(&tracker, SIMPLE, "limits.max_connections_per_ip = 3");
    until("those from before have gone", || {
        let open = opens(8);
        assert!(open <= 3, "{open}");
        (open == 3).then_some(())
    });
    change(&tracker, SIMPLE, "limits.max_connections_per_ip = 0");
    assert_eq!(opens(8), 8);

    let settings = "limits.max_connections_per_ip = 0\nlimits.requests_per_second_per_ip = 5";
    change(&tracker, SIMPLE, settings);
    let mut client = Client::new(&tracker, IpFamily::V4);
    let mut refused = || {
        let answers = (0..50).map(|_| client.get(&announce(torrent(1), 1, LEECHER)).value());
        answers
            .filter(|it| it.get("failure reason").is_some())
            .count()
    };
    assert!(refused() > 20);
    change(&tracker, SIMPLE, "limits.max_connections_per_ip = 0");
    assert_eq!(refused(), 0);
}

/// `protocol.announce_interval_spread`: told intervals differ, and are never shorter than the base.
#[test]
fn intervals_spread_as_the_file_says() {
    on_every_case(|case| {
        if case.transport.is_tls() {
            return;
        }
        let tracker = case.start("");
        let mut client = Client::new(&tracker, IpFamily::V4);
        change(
            &tracker,
            case.setup,
            "protocol.announce_interval_spread = 20",
        );
        let mut intervals = std::collections::BTreeSet::new();
        until("intervals differ", || {
            let number = u32::try_from(intervals.len()).unwrap();
            intervals.insert(client.join(torrent(number), 1, LEECHER).interval_seconds);
            (intervals.len() > 10).then_some(())
        });
        assert!(
            intervals.iter().all(|it| (900..=1_080).contains(it)),
            "{intervals:?}"
        );
    });
}
