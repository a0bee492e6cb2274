//! Torrents that an operator allows or denies.

use aquatic_types::{InfoHash, IpFamily};

use super::client::{Client, announce_bytes, row, torrent};
use super::daemon::{Daemon, Place};
use super::metrics;
use super::setup::{Setup, on_every_setup};

const LEECHER: u64 = 1;

fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    numbers
        .into_iter()
        .map(|number| format!("{}\n", torrent(number)))
        .collect()
}

/// Starts a tracker with these torrents on its list.
fn start(setup: Setup, mode: &str, numbers: impl IntoIterator<Item = u32>) -> Daemon {
    let place = Place::new();
    place.write("list", &lines(numbers));
    let settings = format!(
        "{}cleaning.torrent_cleaning_interval = 1\naccess_list.mode = '{mode}'\n\
         access_list.path = 'list'",
        place.metrics_settings()
    );
    place.start(setup, &settings)
}

/// Announces and scrapes: the torrent must be served, or refused and unknown.
#[track_caller]
fn assert_served(client: &mut Client, info_hash: InfoHash, expected: bool) {
    if expected {
        assert_eq!(client.join(info_hash, 1, LEECHER).leechers, 1);
    } else {
        let request = announce_bytes(&client.peer(info_hash, 1, LEECHER));
        assert_eq!(client.refusal(&request), "torrent not allowed here");
    }
    assert_eq!(
        client.scrape(&[info_hash]),
        [row(0, 0, u32::from(expected))]
    );
}

#[test]
fn only_allowed_torrents_are_served() {
    on_every_setup(|setup| {
        let daemon = start(setup, "allow", [1, 3, 5]);
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            for number in 0..8 {
                assert_served(&mut client, torrent(number), [1, 3, 5].contains(&number));
            }
            let all: Vec<_> = (0..8).map(torrent).collect();
            let rows = [0, 1, 0, 1, 0, 1, 0, 0].map(|leechers| row(0, 0, leechers));
            assert_eq!(
                client.scrape(&all),
                rows,
                "forbidden torrents have rows of zeros"
            );
        }
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_refused_total{reason=info_hash_denied,ip_version=4}",
                    5.0,
                ),
                (
                    "aquatic_refused_total{reason=info_hash_denied,ip_version=6}",
                    5.0,
                ),
            ],
        );
    });
}

#[test]
fn denied_torrents_are_not_served() {
    on_every_setup(|setup| {
        let daemon = start(setup, "deny", [1, 3, 5]);
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            for number in 0..8 {
                assert_served(&mut client, torrent(number), ![1, 3, 5].contains(&number));
            }
        }
    });
}

#[test]
fn a_list_that_is_not_used_is_not_read() {
    let place = Place::new();
    place.write("list", "rubbish");
    let daemon = place.start(Setup::SIMPLE, "access_list.path = 'list'");
    daemon.reload();
    assert!(
        !daemon.place.log().contains("ERROR"),
        "{}",
        daemon.place.log()
    );
    assert_served(&mut Client::new(&daemon, IpFamily::V4), torrent(1), true);
}

#[test]
fn a_reloaded_list_counts_at_once_and_forbidden_torrents_are_forgotten() {
    on_every_setup(|setup| {
        let daemon = start(setup, "allow", 0..8);
        let mut clients = IpFamily::ALL.map(|family| Client::new(&daemon, family));
        for client in &mut clients {
            (0..8).for_each(|number| assert_served(client, torrent(number), true));
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_torrents{ip_version=4}", 8.0),
                ("aquatic_torrents{ip_version=6}", 8.0),
            ],
        );

        daemon.place.write("list", &lines(4..10));
        daemon.reload();
        let log = daemon.place.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("access list list loaded"))
            .unwrap();
        assert!(line.contains("INFO"), "{line}");
        assert!(line.contains("6 info hashes"), "{line}");
        for client in &mut clients {
            (0..10).for_each(|number| assert_served(client, torrent(number), number >= 4));
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_torrents{ip_version=4}", 6.0),
                ("aquatic_peers{ip_version=4}", 6.0),
                ("aquatic_torrents{ip_version=6}", 6.0),
                ("aquatic_peers{ip_version=6}", 6.0),
            ],
        );

        // What was forgotten does not come back with the permission.
        daemon.place.write("list", &lines(0..10));
        daemon.reload();
        for client in &mut clients {
            assert_eq!(
                client.scrape(&[torrent(0), torrent(4)]),
                [row(0, 0, 0), row(0, 0, 1)]
            );
        }
    });
}

#[test]
fn a_list_that_cannot_be_reloaded_stays_as_it_was() {
    on_every_setup(|setup| {
        let daemon = start(setup, "allow", [1]);
        let mut client = Client::new(&daemon, IpFamily::V4);
        daemon
            .place
            .write("list", &format!("{}\nrubbish\n", torrent(2)));
        daemon.reload();
        let log = daemon.place.log();
        let line = log.lines().find(|line| line.contains("ERROR")).unwrap();
        assert!(line.contains("the access list stays as it was"), "{line}");
        assert!(line.contains("list: line 2"), "{line}");
        assert_served(&mut client, torrent(1), true);
        assert_served(&mut client, torrent(2), false);

        std::fs::remove_file(daemon.place.path("list")).unwrap();
        daemon.reload();
        assert!(
            daemon
                .place
                .log()
                .contains("cannot open the access list list: No such file")
        );
        assert_served(&mut client, torrent(1), true);
    });
}

#[test]
fn at_start_a_bad_list_is_named_with_its_line() {
    let place = Place::new();
    let settings = "access_list.mode = 'deny'\naccess_list.path = 'list'";
    place.write(
        "list",
        &format!("# a comment\n\n{}\nnot an info hash\n", torrent(1)),
    );
    let ended = place.fail(Setup::SIMPLE, settings);
    assert_eq!(ended.code, Some(1));
    let reason = "aquatic_udp ends: cannot use the access list list: line 4: ";
    assert!(ended.log.contains(reason), "{}", ended.log);

    std::fs::remove_file(place.path("list")).unwrap();
    let ended = place.fail(Setup::SIMPLE, settings);
    assert_eq!(ended.code, Some(1));
    let reason = "cannot open the access list list: No such file";
    assert!(ended.log.contains(reason), "{}", ended.log);
}
