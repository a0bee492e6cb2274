//! Torrents that an operator allows or denies.

use aquatic_types::{InfoHash, IpFamily};

use super::{DENY_LIST, torrent_of};
use crate::setup::{on_each, on_every_setup};
use crate::{Client, Daemon, Place, Program, Setup, metrics, torrent};

/// A list with these torrents of both families.
fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    let lines =
        |number| IpFamily::ALL.map(|family: IpFamily| format!("{}\n", torrent_of(family, number)));
    numbers.into_iter().flat_map(lines).collect()
}

/// Starts a tracker with these torrents on its list.
fn start(setup: Setup, mode: &str, numbers: impl IntoIterator<Item = u32>) -> Daemon {
    let place = Place::new();
    place.write("list", lines(numbers));
    let settings = format!(
        "{}cleaning.torrent_cleaning_interval = 1\naccess_list.mode = '{mode}'\n\
         access_list.path = 'list'",
        place.metrics_settings(setup.program)
    );
    place.start(setup, &settings)
}

/// Announces and scrapes: the torrent must be served, or refused and unknown.
#[track_caller]
fn assert_served(client: &mut dyn Client, info_hash: InfoHash, expected: bool) {
    let answer = client.join(info_hash, 1);
    if expected {
        assert_eq!(answer, Ok(1));
    } else {
        assert_eq!(answer, Err("torrent not allowed here".to_owned()));
    }
    assert_eq!(client.leechers(&[info_hash]), [u32::from(expected)]);
}

/// `allow`: the others are refused, and have rows of zeros in a scrape.
pub fn only_allowed_torrents_are_served(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = start(setup, "allow", [1, 3, 5]);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            for number in 0..8 {
                let expected = [1, 3, 5].contains(&number);
                assert_served(&mut *client, torrent_of(family, number), expected);
            }
            let all: Vec<_> = (0..8).map(|number| torrent_of(family, number)).collect();
            assert_eq!(client.leechers(&all), [0, 1, 0, 1, 0, 1, 0, 0]);
        }
        let refused = |ip_version| {
            format!("aquatic_refused_total{{reason=info_hash_denied,ip_version={ip_version}}}")
        };
        metrics::wait_for(&daemon, &[(&refused(4), 5.0), (&refused(6), 5.0)]);
    });
}

/// `deny`: the others are served.
pub fn denied_torrents_are_not_served(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = start(setup, "deny", [1, 3, 5]);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            for number in 0..8 {
                let expected = ![1, 3, 5].contains(&number);
                assert_served(&mut *client, torrent_of(family, number), expected);
            }
        }
    });
}

/// `off`: what the file says does not matter.
pub fn a_list_that_is_not_used_is_not_read(program: &'static Program) {
    let place = Place::new();
    place.write("list", "rubbish");
    let daemon = place.start(Setup::simple(program), "access_list.path = 'list'");
    daemon.reload();
    let log = daemon.place.log();
    assert!(!log.contains("ERROR"), "{log}");
    let mut client = program.client_of(&daemon, IpFamily::V4);
    assert_served(&mut *client, torrent(1), true);
}

/// SIGUSR1: for announces at once, for what is held with the next cleaning.
pub fn a_reloaded_list_counts_at_once_and_forbidden_torrents_are_forgotten(
    program: &'static Program,
) {
    on_every_setup(program, |setup| {
        let daemon = start(setup, "allow", 0..8);
        let mut clients = IpFamily::ALL.map(|family| (family, program.client_of(&daemon, family)));
        for (family, client) in &mut clients {
            (0..8).for_each(|number| {
                assert_served(&mut **client, torrent_of(*family, number), true);
            });
        }
        metrics::wait_for(&daemon, &[("aquatic_torrents", 16.0)]);

        daemon.place.write("list", lines(4..10));
        daemon.reload();
        let log = daemon.place.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("access list list loaded"))
            .unwrap();
        assert!(line.contains("INFO"), "{line}");
        assert!(line.contains("12 info hashes"), "{line}");
        for (family, client) in &mut clients {
            (0..10).for_each(|number| {
                assert_served(&mut **client, torrent_of(*family, number), number >= 4);
            });
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_torrents", 12.0),
                ("aquatic_peers{ip_version=4}", 6.0),
                ("aquatic_peers{ip_version=6}", 6.0),
            ],
        );

        // What was forgotten does not come back with the permission.
        daemon.place.write("list", lines(0..10));
        daemon.reload();
        for (family, client) in &mut clients {
            let hashes = [torrent_of(*family, 0), torrent_of(*family, 4)];
            assert_eq!(client.leechers(&hashes), [0, 1]);
        }
    });
}

/// An error in the log, and no harm.
pub fn a_list_that_cannot_be_reloaded_stays_as_it_was(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = start(setup, "allow", [1]);
        let mut client = program.client_of(&daemon, IpFamily::V4);
        daemon
            .place
            .write("list", format!("{}\nrubbish\n", torrent(2)));
        daemon.reload();
        let log = daemon.place.log();
        let line = log.lines().find(|line| line.contains("ERROR")).unwrap();
        assert!(line.contains("keeping the previous access list"), "{line}");
        assert!(line.contains("list: line 2"), "{line}");
        assert_served(&mut *client, torrent(1), true);
        assert_served(&mut *client, torrent(2), false);

        std::fs::remove_file(daemon.place.path("list")).unwrap();
        daemon.reload();
        let log = daemon.place.log();
        let reason = "cannot open the access list list: No such file";
        assert!(log.contains(reason), "{log}");
        assert_served(&mut *client, torrent(1), true);
    });
}

/// By all workers, although nobody asks them for anything, and long before the next cleaning.
pub fn a_replaced_list_is_freed_at_once(program: &'static Program) {
    // 44 MiB. (Of less than 32 MiB, the C library may keep some to use it again.)
    const ENTRIES: u32 = 930_000;
    let split = Setup {
        socket_workers: 2,
        swarm_workers: 2,
        ..Setup::simple(program)
    };
    on_each(&[Setup::simple(program), split], |setup| {
        let place = Place::new();
        let mut list = String::new();
        (0..ENTRIES).for_each(|number| list += &format!("{}\n", torrent(number)));
        place.write("list", list);
        let settings = "cleaning.torrent_cleaning_interval = 20000\n\
                        access_list.mode = 'deny'\naccess_list.path = 'list'";
        let daemon = place.start(setup, settings);
        let before = daemon.resident_kib();
        daemon.reload();
        let after = daemon.resident_kib();
        assert!(
            after < before + before / 4,
            "{before} KiB became {after} KiB"
        );
    });
}

/// Nobody starts with a list that was not meant so.
pub fn at_start_a_bad_list_is_named_with_its_line(program: &'static Program) {
    let place = Place::new();
    let setup = Setup::simple(program);
    place.write(
        "list",
        format!("# a comment\n\n{}\nnot an info hash\n", torrent(1)),
    );
    let ended = place.fail(setup, DENY_LIST);
    assert_eq!(ended.code, Some(1));
    let reason = format!(
        "{} ends: cannot use the access list list: line 4: ",
        program.name
    );
    assert!(ended.log.contains(&reason), "{}", ended.log);

    std::fs::remove_file(place.path("list")).unwrap();
    let ended = place.fail(setup, DENY_LIST);
    assert_eq!(ended.code, Some(1));
    let reason = "cannot open the access list list: No such file";
    assert!(ended.log.contains(reason), "{}", ended.log);
}
