//! Swarms that outlive the process, of trackers whose peers are addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use aquatic_types::{InfoHash, IpFamily};
use nix::sys::signal::Signal;

#[cfg(target_os = "linux")]
use super::faults::{fake_clock, set_clock};
use super::torrent_of;
use crate::program::localhost;
use crate::setup::{on_each, on_every_setup};
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup};

const TORRENTS: u32 = 20;

pub(super) fn settings(file: &Path, more: &str) -> String {
    format!("persistence.swarms = true\npersistence.path = {file:?}\n{more}\n")
}

/// In each torrent as many peers as its number says, and a few more.
pub(super) fn fill(program: &Program, daemon: &Daemon) {
    for family in IpFamily::ALL {
        let mut client = program.client_of(daemon, family);
        for number in 0..TORRENTS {
            for port in 1..=3 + u16::try_from(number).unwrap() {
                client.join(torrent_of(family, number), port).unwrap();
            }
        }
    }
}

pub(super) fn leechers(program: &Program, daemon: &Daemon) -> Vec<Vec<u32>> {
    let scrape = |family| {
        let torrents: Vec<InfoHash> = (0..TORRENTS).map(|it| torrent_of(family, it)).collect();
        program.client_of(daemon, family).leechers(&torrents)
    };
    IpFamily::ALL.map(scrape).to_vec()
}

pub(super) fn stop(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success(), "{}", daemon.place.log());
}

pub(super) fn unusable(file: &Path) -> PathBuf {
    file.with_extension("aqs.unusable")
}

/// Each setup, and one with another number of shards that takes over from it.
#[derive(Clone, Copy)]
struct Succession(Setup, Setup);

impl std::fmt::Display for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} then {}", self.0, self.1)
    }
}

/// Everybody is there again, whoever serves then, and however the torrents are divided.
pub fn swarms_outlive_a_restart(program: &'static Program) {
    let setups = Setup::all(program);
    let next = setups.iter().cycle().skip(1);
    let successions = setups.iter().zip(next);
    let successions: Vec<_> = successions.map(|(a, b)| Succession(*a, *b)).collect();
    on_each(&successions, |Succession(first, second)| {
        // The other one can be started there as well.
        let place = if first.has_queues { first } else { second };
        place.in_its_network(|| outlives(program, first, second));
    });
}

fn outlives(program: &'static Program, first: Setup, second: Setup) {
    let place = Place::new();
    let file = place.path("swarms.aqs");
    let mut before = place.start(first, &settings(&file, "persistence.interval = 0"));
    before.wait_for_log("no swarms to restore");
    fill(program, &before);
    let expected = leechers(program, &before);
    assert!(!file.exists(), "it is written at the end only");
    stop(&mut before);

    let after = second.start(&settings(&file, ""));
    let peers: u32 = expected.iter().flatten().sum();
    after.wait_for_log(&format!("restored {peers} peers"));
    assert_eq!(leechers(program, &after), expected);
    // Whoever announces again is the same peer.
    fill(program, &after);
    assert_eq!(leechers(program, &after), expected);
}

/// Clients that announce ever new peers, as fast as they can, until the tracker is gone. Receives
/// the numbers of the torrents, one for each peer that was answered.
fn load(program: &'static Program, daemon: &Daemon) -> Receiver<u32> {
    let (sender, answered) = channel();
    let address = daemon.address(IpFamily::V4);
    for first in [1, 20_001, 40_001] {
        let sender = sender.clone();
        // It ends by a panic when the tracker does not answer any more.
        thread::spawn(move || {
            let mut client = (program.client)(localhost(IpFamily::V4), address);
            for port in first..first + 20_000 {
                for number in 0..TORRENTS {
                    client.join(torrent_of(IpFamily::V4, number), port).unwrap();
                    sender.send(number).unwrap();
                }
            }
        });
    }
    answered
}

fn count(torrents: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut counts = vec![0; TORRENTS as usize];
    torrents.for_each(|number| counts[number as usize] += 1);
    counts
}

/// A tracker is stopped while clients announce: who was answered before is there again, and so may
/// be who was answered meanwhile. Between its workers, if there are several, batches are on their
/// way then, and perhaps a snapshot is.
pub fn under_load_the_last_snapshot_is_whole(program: &'static Program) {
    on_every_setup(program, |setup| {
        let place = Place::new();
        let file = place.path("swarms.aqs");
        let settings = settings(
            &file,
            "persistence.interval = 1\nlimits.max_peers_per_ip_and_torrent = 0",
        );
        let mut before = place.start(setup, &settings);
        let answered = load(program, &before);
        // The second one was begun while clients announced.
        until("two snapshots", || {
            (before.place.log().matches("wrote ").count() >= 2).then_some(())
        });
        let least = count(answered.try_iter());
        stop(&mut before);
        let most = count(answered.try_iter());
        let after = setup.start(&settings);
        after.wait_for_log("restored ");
        let torrents: Vec<_> = (0..TORRENTS)
            .map(|number| torrent_of(IpFamily::V4, number))
            .collect();
        let found = program.client_of(&after, IpFamily::V4).leechers(&torrents);
        for number in 0..TORRENTS as usize {
            // The last announce of each client may have been processed, and not been told of.
            let most = least[number] + most[number] + 3;
            assert!(
                (least[number]..=most).contains(&found[number]),
                "torrent {number}: {} peers, expected {} to {most}",
                found[number],
                least[number]
            );
        }
    });
}

/// What was written from time to time survives what no program survives: only who came since the
/// last time is missing.
pub fn after_a_kill_what_was_written_is_there(program: &'static Program) {
    let setup = Setup::simple(program);
    let place = Place::new();
    let file = place.path("swarms.aqs");
    let mut before = place.start(setup, &settings(&file, "persistence.interval = 1"));
    let snapshots = |daemon: &Daemon| daemon.place.log().matches("wrote ").count();
    fill(program, &before);
    let expected = leechers(program, &before);
    // One may have been on its way already; the next one is due a second later.
    let due = snapshots(&before) + 2;
    until("two snapshots", || {
        (snapshots(&before) >= due).then_some(())
    });
    let late = torrent_of(IpFamily::V4, TORRENTS);
    let mut client = program.client_of(&before, IpFamily::V4);
    client.join(late, 1).unwrap();
    before.signal(Signal::SIGKILL);
    before.wait_exit();
    let after = setup.start(&settings(&file, ""));
    assert_eq!(leechers(program, &after), expected);
    let mut client = program.client_of(&after, IpFamily::V4);
    assert!(client.leechers(&[late])[0] <= 1);
}

/// Local time is another one, and the calendar a day fast, then a day slow: everybody is there,
/// with the life that is left. Only the time since boot tells for how long the tracker was away.
#[cfg(target_os = "linux")]
pub fn the_calendar_makes_no_difference(program: &'static Program) {
    let place = Place::new();
    let file = place.path("swarms.aqs");
    // The sandbox keeps the library that fakes the clock from its file.
    let settings = settings(&file, "privileges.sandbox = false");
    let mut expected = None;
    for (zone, offset) in [
        ("UTC", "+0"),
        ("Pacific/Auckland", "+0"),
        ("America/New_York", "+1d"),
        ("UTC", "-1d"),
        ("UTC", "+0"),
    ] {
        let place = Place::new();
        set_clock(&place, offset);
        let mut command = place.command(Setup::simple(program), &settings);
        if !fake_clock(&place, &mut command) {
            return;
        }
        let mut daemon = place.start_by(command.env("TZ", zone));
        if let Some(expected) = &expected {
            let line = daemon.wait_for_log("restored ");
            let age = line
                .split("written ")
                .nth(1)
                .and_then(|it| it.split(' ').next());
            let age: u64 = age.expect("an age").parse().unwrap();
            assert!(age < 600, "{zone} {offset}: {line}");
            assert_eq!(leechers(program, &daemon), *expected, "{zone} {offset}");
        } else {
            fill(program, &daemon);
            expected = Some(leechers(program, &daemon));
        }
        stop(&mut daemon);
    }
}

/// A file that cannot be used costs the swarms in it, and nothing else; it stays for whoever wants
/// to know why.
pub fn a_file_that_cannot_be_used_is_set_aside(program: &'static Program) {
    let setup = Setup::simple(program);
    let whole = {
        let place = Place::new();
        let file = place.path("swarms.aqs");
        let mut daemon = place.start(setup, &settings(&file, ""));
        fill(program, &daemon);
        stop(&mut daemon);
        fs::read(&file).unwrap()
    };
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    let mut newer = whole.clone();
    newer[2] = 2;
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "torn",
            &whole[..whole.len() - 1],
            "the bytes end in the middle of a batch",
        ),
        ("changed", &changed, "a checksum is wrong"),
        (
            "foreign",
            b"[network]\n",
            "this is not a batch of swarm records",
        ),
        (
            "newer",
            &newer,
            "version 2 of the format is not known here, only version 1",
        ),
        (
            "zeros",
            &[0; 1 << 20],
            "this is not a batch of swarm records",
        ),
        ("empty", b"", "the file does not begin as a snapshot does"),
    ];
    for (name, bytes, reason) in cases {
        let place = Place::new();
        let file = place.write("swarms.aqs", bytes);
        let mut daemon = place.start(setup, &settings(&file, ""));
        let line = daemon.wait_for_log("swarms are not restored from");
        assert!(line.contains(reason), "{name}: {line}");
        assert_eq!(fs::read(unusable(&file)).unwrap(), bytes, "{name}");
        fill(program, &daemon);
        stop(&mut daemon);
        assert_eq!(fs::read(&file).unwrap().len(), whole.len(), "{name}");
    }
}

/// Addresses of people are for nobody else to read.
pub fn nobody_else_can_read_the_file(program: &'static Program) {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let file = place.path("swarms.aqs");
    let settings = settings(&file, "persistence.interval = 1");
    let _daemon = place.start(Setup::simple(program), &settings);
    let metadata = until("the file", || fs::metadata(&file).ok());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}
