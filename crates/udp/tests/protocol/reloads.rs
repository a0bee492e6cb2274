//! What clients notice when the configuration file is read again.

use std::fs;

use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Setup, metrics, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::{Client, announce_bytes};
use super::setup::{SIMPLE, on_every_setup};
pub(super) fn change(daemon: &Daemon, setup: Setup, settings: &str) {
    let text = daemon.place.config_text(setup, settings);
    daemon.place.write("config.toml", text);
    daemon.reload_by(Signal::SIGHUP);
}

#[test]
fn intervals_and_sizes_of_answers_change() {
    on_every_setup(|setup| {
        let daemon = setup.start("protocol.max_response_peers_per_ip = 0");
        for (family, round) in IpFamily::ALL.into_iter().zip([1_u16, 2]) {
            let mut client = Client::new(&daemon, family);
            for port in 1..=40 {
                client.join(torrent(1), port, 1);
            }
            let (peers, interval, torrents) = (10 * round, 1_000 + round, 20 * round);
            let settings = format!(
                "protocol.max_response_peers_per_ip = 0\n\
                 protocol.max_response_peers = {peers}\n\
                 protocol.peer_announce_interval = {interval}\n\
                 protocol.max_scrape_torrents = {torrents}"
            );
            change(&daemon, setup, &settings);
            let hashes: Vec<_> = (0..70).map(torrent).collect();
            until("the new settings are in force", || {
                let answer = client.join(torrent(1), 1, 1);
                let rows = client.scrape(&hashes).len();
                let is_new = answer.interval_seconds == u32::from(interval)
                    && answer.ports.len() == usize::from(peers)
                    && rows == usize::from(torrents);
                is_new.then_some(())
            });
            // In all shards.
            for number in 1..12 {
                let answer = client.join(torrent(number), 1, 1);
                assert_eq!(answer.interval_seconds, u32::from(interval));
            }
        }
    });
}

/// How many peers of one address are in an answer, where there are others.
#[test]
fn peers_of_one_address_in_an_answer_change() {
    let setup = SIMPLE;
    let daemon = setup.start("protocol.max_response_peers = 30");
    let tracker = daemon.address(IpFamily::V4);
    let announce = |client: &mut Client, port| {
        let request = announce_bytes(&client.peer(torrent(1), port, 1));
        client.ask(&request);
    };
    for last in 1..=30 {
        let mut other = Client::connected([127, 0, 1, last].into(), tracker);
        announce(&mut other, 1_000);
    }
    let mut crowd = Client::connected([127, 0, 0, 2].into(), tracker);
    for port in 1..=30 {
        announce(&mut crowd, port);
    }
    let mut client = Client::connected([127, 0, 0, 3].into(), tracker);
    let mut of_crowd = |answers: usize| {
        let counts = (0..answers).map(|_| {
            let request = announce_bytes(&client.peer(torrent(1), 2_000, 1));
            let answer = client.ask(&request);
            let peers = answer[20..].chunks(6);
            peers.filter(|peer| peer[..4] == [127, 0, 0, 2]).count()
        });
        counts.max().unwrap()
    };
    assert_eq!(of_crowd(50), 3);
    let settings = "protocol.max_response_peers = 30\nprotocol.max_response_peers_per_ip = 1";
    change(&daemon, setup, settings);
    until("one of the crowd at most", || {
        (of_crowd(50) == 1).then_some(())
    });
}

#[test]
fn the_rate_of_requests_begins_and_ends() {
    const SENT: u16 = 100;
    const DROPPED: &str = "aquatic_dropped_total{reason=request_rate,ip_version=4}";
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        let served = daemon.place.metrics_settings(setup.program);
        let rate = |rate: u32| format!("{served}limits.requests_per_second_per_ip = {rate}");
        let client = Client::stranger(&daemon, IpFamily::V4);
        let send = || (0..SENT).for_each(|_| client.send(&client.connect_request()));
        let dropped = || metrics::sum(&metrics::scrape(&daemon), DROPPED);
        let answered = || {
            let counter = "aquatic_responses_total{type=connect,ip_version=4}";
            metrics::sum(&metrics::scrape(&daemon), counter)
        };
        send();
        metrics::wait_for(
            &daemon,
            &[("aquatic_responses_total{type=connect,ip_version=4}", 100.0)],
        );
        assert_eq!(dropped(), 0.0);
        change(&daemon, setup, &rate(2));
        send();
        let total = f64::from(2 * SENT);
        until("all are counted", || {
            (dropped() + answered() >= total).then_some(())
        });
        assert!(dropped() > 50.0, "{}", dropped());
        change(&daemon, setup, &rate(0));
        let before = dropped();
        send();
        let total = f64::from(3 * SENT);
        until("all are answered", || {
            (dropped() + answered() >= total).then_some(())
        });
        assert_eq!(dropped(), before);
    });
}

/// Answers that may be larger than any before cannot be allowed to a socket that is open.
#[test]
fn a_scrape_that_might_be_fragmented_needs_a_restart() {
    let daemon = SIMPLE.start("");
    change(&daemon, SIMPLE, "protocol.max_scrape_torrents = 102");
    daemon.wait_for_log("`protocol.max_scrape_torrents`: 74 -> 102, applied");
    change(&daemon, SIMPLE, "protocol.max_scrape_torrents = 116");
    daemon.wait_for_log("`protocol.max_scrape_torrents` has changed: it needs a restart");
}

/// An hour that has begun ends when the interval is shortened.
#[test]
fn the_interval_of_exports_changes() {
    let settings = |seconds: u32| {
        format!(
            "scrape_exports.enable_scrape_exports = true\nscrape_exports.path = 'export'\n\
             scrape_exports.frequency = {seconds}"
        )
    };
    let daemon = SIMPLE.start(&settings(3_600));
    Client::new(&daemon, IpFamily::V4).join(torrent(1), 1, 1);
    change(&daemon, SIMPLE, &settings(1));
    let export = daemon.place.path("export");
    let text = until("an export", || fs::read_to_string(&export).ok());
    assert!(text.contains(&torrent(1).to_string()), "{text}");
}

/// `protocol.announce_interval_spread`: told intervals differ, and are never shorter than the base.
#[test]
fn intervals_spread_as_the_file_says() {
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        let told = |seconds| [("aquatic_announce_interval_seconds", seconds)];
        metrics::wait_for(&daemon, &told(900.0));
        let served = daemon.place.metrics_settings(setup.program);
        let mut client = Client::new(&daemon, IpFamily::V4);
        let settings = "protocol.announce_interval_spread = 20\n\
                        protocol.peer_announce_interval = 800\n\
                        protocol.announce_interval_max = 900";
        change(&daemon, setup, &format!("{served}{settings}"));
        let mut intervals = std::collections::BTreeSet::new();
        until("intervals differ", || {
            let number = u32::try_from(intervals.len()).unwrap();
            let interval = client.join(torrent(number), 1, 1).interval_seconds;
            // The others were told before the reload.
            (interval != 900).then(|| intervals.insert(interval));
            (intervals.len() > 10).then_some(())
        });
        assert!(
            intervals.iter().all(|it| (800..=960).contains(it)),
            "{intervals:?}"
        );
        metrics::wait_for(&daemon, &told(800.0));
    });
}

/// Peers would be forgotten between two announces.
#[test]
fn a_reload_to_intervals_that_peers_do_not_outlive_changes_nothing() {
    let daemon = SIMPLE.start("");
    change(&daemon, SIMPLE, "protocol.announce_interval_max = 1171");
    daemon.wait_for_log("is 1200, must be at least 1201");
    let mut client = Client::new(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1, 1).interval_seconds, 900);
}
