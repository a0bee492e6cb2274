//! Bad days of a host: a killed process, a clock that is set, an interface that goes, a full disk,
//! files that run out.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aquatic_types::IpFamily;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;

use super::DENY_LIST;
use crate::faults::{set_limit, spawn_denied};
use crate::network::{alone, set_loopback};
use crate::setup::on_every_runtime;
use crate::skipping::skip;
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup, torrent};

/// What is waited for where no answer can come.
const NO_WAY: Duration = Duration::from_millis(50);

/// The library of the program `faketime`, for programs with threads.
const FAKE_TIME: &str = "faketime/libfaketimeMT.so.1";

/// Where Debian and its kin keep libraries.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
];

/// A kernel that no longer lets a worker wait for clients or hear them.
#[cfg(target_arch = "x86_64")]
pub fn a_worker_that_cannot_go_on_ends_it_with_its_name(program: &'static Program) {
    let place = Place::new();
    let command = place.command(Setup::simple(program), "");
    let denied = [(libc::SYS_recvmmsg, &[][..]), (libc::SYS_epoll_wait, &[])];
    let child = spawn_denied(&denied, libc::EBADF, command);
    let ended = place.end(child);
    assert_eq!(ended.code, Some(1));
    let reason = format!("{} ends: worker socket-0 has ended: ", program.name);
    assert!(ended.log.contains(&reason), "{}", ended.log);
}

/// With connections open, nobody says goodbye: what is left of them is the kernel's.
pub fn after_a_kill_it_serves_again_at_once(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let mut first = setup.start("");
        let mut clients: Vec<_> = IpFamily::ALL
            .into_iter()
            .flat_map(|family| (0..20).map(move |_| family))
            .map(|family| program.client_of(&first, family))
            .collect();
        for (port, client) in (1..).zip(&mut clients) {
            client.join(torrent(1), port).unwrap();
        }
        first.signal(Signal::SIGKILL);
        assert_eq!(first.wait_exit().code(), None, "it has no last words");
        let second = Place::new();
        let addresses = IpFamily::ALL.map(|family| first.address(family).to_string());
        let settings = format!("network.address = {addresses:?}");
        let mut command = second.command(setup, &settings);
        let _second = second.start_by(&mut command);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&first, family);
            let leechers = client.join(torrent(1), 1).unwrap();
            assert!(leechers <= 2, "swarms begin anew: {leechers}");
        }
    });
}

/// Sets the clock that the tracker sees.
pub(super) fn set_clock(place: &Place, offset: &str) {
    // Replaced as a whole, since it is read all the time.
    let path = place.write("clock.new", format!("{offset}\n"));
    std::fs::rename(path, place.path("clock")).unwrap();
}

/// Waits until the log shows the day, by asking for a line.
fn wait_for_day(daemon: &Daemon, is_day: impl Fn(&str) -> bool) {
    until("a line of that day", || {
        daemon.signal(Signal::SIGUSR2);
        let log = daemon.place.log();
        log.lines().last().is_some_and(&is_day).then_some(())
    });
}

/// Lets a program see a clock that [`set_clock`] sets. Returns `false` where that cannot be done.
pub(super) fn fake_clock(place: &Place, command: &mut Command) -> bool {
    let libraries = LIBRARIES.map(|folder| Path::new(folder).join(FAKE_TIME));
    let Some(library) = libraries.iter().find(|library| library.exists()) else {
        skip("there is no libfaketime (package faketime)");
        return false;
    };
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", place.path("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        // Nobody can set that one.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    true
}

/// Forth by a century, back by two, and to where it was.
pub fn steps_of_the_clock_change_nothing(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let place = Place::new();
        set_clock(&place, "+0");
        // The sandbox keeps the library from its file.
        let mut command = place.command(setup, "privileges.sandbox = false");
        if !fake_clock(&place, &mut command) {
            return;
        }
        let mut daemon = place.start_by(&mut command);
        let today = daemon.place.log();
        let year: i32 = year_of(today.lines().last().unwrap()).unwrap();
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1), Ok(1));
        for (port, offset, years) in [(2, "+100y", 100), (3, "-30y", -30), (4, "+0", 0)] {
            set_clock(&daemon.place, offset);
            wait_for_day(&daemon, |line| {
                year_of(line).is_some_and(|it| (it - year - years).abs() <= 1)
            });
            // Nobody is forgotten, and whoever was let in stays.
            assert_eq!(client.join(torrent(1), port), Ok(port.into()), "{offset}");
            let mut newcomer = program.client_of(&daemon, IpFamily::V4);
            assert_eq!(newcomer.join(torrent(port.into()), port), Ok(1), "{offset}");
        }
        daemon.assert_running();
    });
}

/// The year at the start of a line of the log.
fn year_of(line: &str) -> Option<i32> {
    let digits = line.trim_start_matches(|it: char| !it.is_ascii_digit());
    digits.get(..4)?.parse().ok()
}

/// Whoever was connected goes on, and whoever comes is served.
pub fn an_interface_may_go_down_and_up(program: &'static Program) {
    alone(|| {
        for setup in Setup::of_each_runtime(program) {
            let mut daemon = setup.start("");
            let mut client = program.client_of(&daemon, IpFamily::V4);
            assert_eq!(client.join(torrent(1), 1), Ok(1));
            set_loopback("down");
            let address = daemon.address(IpFamily::V4);
            let error = TcpStream::connect_timeout(&address, NO_WAY).unwrap_err();
            assert_ne!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "nobody says that"
            );
            set_loopback("up");
            assert_eq!(client.join(torrent(1), 2), Ok(2));
            for family in IpFamily::ALL {
                let mut newcomer = program.client_of(&daemon, family);
                assert_eq!(newcomer.join(torrent(2), 1).map(|it| it > 0), Ok(true));
            }
            daemon.assert_running();
        }
    });
}

/// `/dev/full` is a disk on which there is no room.
pub fn a_log_on_a_full_disk_delays_nothing(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let place = Place::new();
        place.write("list", "");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.command(setup, DENY_LIST);
        let mut daemon = place.start_by(command.stderr(full));
        daemon.place.write("list", torrent(1).to_string());
        daemon.reload();
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert!(client.join(torrent(1), 1).is_err(), "it has reloaded");
        assert_eq!(client.join(torrent(2), 1), Ok(1));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    });
}

/// A list that cannot be opened is the one from before, until there are files again.
pub fn without_files_it_keeps_its_list(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let place = Place::new();
        place.write("list", torrent(1).to_string());
        let daemon = place.start(setup, DENY_LIST);
        let mut client = program.client_of(&daemon, IpFamily::V4);
        let refusal = Err("torrent not allowed here".to_owned());
        assert_eq!(client.join(torrent(1), 1), refusal);
        set_limit(&daemon, "--nofile=3:");
        daemon.place.write("list", torrent(2).to_string());
        daemon.signal(Signal::SIGUSR1);
        let reason = "keeping the previous access list: cannot open the access list list: Too many \
                      open files";
        daemon.wait_for_log(reason);
        assert_eq!(client.join(torrent(1), 1), refusal);
        assert_eq!(client.join(torrent(2), 1), Ok(1));
        let (files_max, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        set_limit(&daemon, &format!("--nofile={files_max}:"));
        daemon.signal(Signal::SIGUSR1);
        until("the new list", || client.join(torrent(2), 1).err());
    });
}
