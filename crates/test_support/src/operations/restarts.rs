//! Swarms that outlive the process, of trackers whose peers are addresses.

use std::fs;
use std::path::{Path, PathBuf};

use aquatic_types::{InfoHash, IpFamily};
use nix::sys::signal::Signal;

use super::torrent_of;
use crate::setup::on_each;
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup};

const TORRENTS: u32 = 20;

fn settings(file: &Path, more: &str) -> String {
    format!("persistence.swarms = true\npersistence.path = {file:?}\n{more}\n")
}

/// In each torrent as many peers as its number says, and a few more.
fn fill(program: &Program, daemon: &Daemon) {
    for family in IpFamily::ALL {
        let mut client = program.client_of(daemon, family);
        for number in 0..TORRENTS {
            for port in 1..=3 + u16::try_from(number).unwrap() {
                client.join(torrent_of(family, number), port).unwrap();
            }
        }
    }
}

fn leechers(program: &Program, daemon: &Daemon) -> Vec<Vec<u32>> {
    let scrape = |family| {
        let torrents: Vec<InfoHash> = (0..TORRENTS).map(|it| torrent_of(family, it)).collect();
        program.client_of(daemon, family).leechers(&torrents)
    };
    IpFamily::ALL.map(scrape).to_vec()
}

fn stop(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success(), "{}", daemon.place.log());
}

fn unusable(file: &Path) -> PathBuf {
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
    });
}

/// What was written from time to time survives what no program survives.
pub fn after_a_kill_what_was_written_is_there(program: &'static Program) {
    let setup = Setup::simple(program);
    let place = Place::new();
    let file = place.path("swarms.aqs");
    let mut before = place.start(setup, &settings(&file, "persistence.interval = 1"));
    fill(program, &before);
    let expected = leechers(program, &before);
    let peers: u32 = expected.iter().flatten().sum();
    before.wait_for_log(&format!("wrote {peers} peers"));
    before.signal(Signal::SIGKILL);
    before.wait_exit();
    let after = setup.start(&settings(&file, ""));
    assert_eq!(leechers(program, &after), expected);
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
    let cases: [(&str, &[u8], &str); 5] = [
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
