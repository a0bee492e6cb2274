//! What happens where the kernel says no, and when it is time to go.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::faults::{spawn_with_limit, spawn_without};
use aquatic_test_support::{Place, Setup, torrent};
use aquatic_types::IpFamily;
use libc::{ENOSYS, EPERM, SYS_io_uring_setup};
use nix::sys::signal::Signal;

use super::client::{Client, LEECHER};
use super::connection::Transport;
use super::limits::{is_served, wait_for_room};
use super::setup::{Case, SIMPLE, Tracker, on_every_case, on_every_runtime, runtimes};

fn with_runtime(runtime: &'static str) -> Setup {
    Setup { runtime, ..SIMPLE }
}

#[test]
fn auto_needs_no_io_uring() {
    for errno in [EPERM, ENOSYS] {
        let place = Place::new();
        let child = spawn_without(&place, SYS_io_uring_setup, errno, with_runtime("auto"), "");
        let tracker = Tracker {
            daemon: place.wait_for(child),
            transport: Transport::Plain,
        };
        for family in IpFamily::ALL {
            Client::new(&tracker, family).join(torrent(1), 1, LEECHER);
        }
    }
}

#[test]
fn auto_takes_mio() {
    let tracker = Case::plain(with_runtime("auto")).start("");
    assert!(!tracker.has_io_uring());
    let log = tracker.place.log();
    assert!(log.contains("runtime: mio"), "{log}");
}

#[test]
fn a_runtime_that_is_asked_for_is_taken() {
    for runtime in runtimes() {
        let tracker = Case::plain(with_runtime(runtime)).start("");
        // When it answers, it has what it works with.
        Client::new(&tracker, IpFamily::V4).join(torrent(1), 1, LEECHER);
        assert_eq!(tracker.has_io_uring(), runtime == "glommio");
    }
}

#[test]
fn without_io_uring_who_insists_on_glommio_is_told() {
    for errno in [EPERM, ENOSYS] {
        let place = Place::new();
        let setup = with_runtime("glommio");
        let child = spawn_without(&place, SYS_io_uring_setup, errno, setup, "");
        let ended = place.end(child);
        assert_eq!(ended.code, Some(1));
        let line = ended
            .log
            .lines()
            .find(|line| line.contains("aquatic_http ends: "));
        let line = line.unwrap();
        let reason = match cfg!(feature = "glommio") {
            true => "io_uring",
            false => "this program was built without it (cargo feature `glommio`)",
        };
        assert!(
            line.contains("network.runtime") && line.contains(reason),
            "{line}"
        );
    }
}

#[test]
fn without_locked_memory_who_insists_on_glommio_is_told() {
    if !runtimes().contains(&"glommio") {
        return;
    }
    let place = Place::new();
    let limit = "--memlock=65536:65536";
    let child = spawn_with_limit(&place, limit, with_runtime("glommio"), "");
    let ended = {
        let mut child = child;
        aquatic_test_support::wait::until_end(&mut child)
    };
    assert_eq!(ended.code(), Some(1));
    let log = place.log();
    for hint in ["LimitMEMLOCK=", "/etc/security/limits.conf", "--ulimit"] {
        assert!(log.contains(hint), "no {hint} in {log}");
    }
}

/// No more connections are held than there is room for, and the operator is told.
#[test]
fn too_few_files_are_survived() {
    const CLIENTS: u8 = 60;
    on_every_runtime(|case| {
        let place = Place::new();
        let settings = "network.max_connections = 1000";
        let setup = case.setup;
        let child = spawn_with_limit(&place, "--nofile=40:40", setup, settings);
        let tracker = Tracker {
            daemon: place.wait_for(child),
            transport: Transport::Plain,
        };
        assert!(tracker.place.log().contains("leaves room for"));
        let clients = (1..=CLIENTS).filter_map(|last| is_served(&tracker, last));
        // Those who are idle give way to those who come.
        let served: Vec<_> = clients.collect();
        let is_open =
            |client: &mut Client| client.connection.is_silent_for(Duration::from_millis(1));
        let clients: Vec<_> = served
            .into_iter()
            .filter_map(|mut it| is_open(&mut it).then_some(it))
            .collect();
        assert!((1..usize::from(CLIENTS)).contains(&clients.len()));
        // When they go, others are served.
        drop(clients);
        wait_for_room(&tracker, 1).join(torrent(1), 1, LEECHER);
        // Connections were closed before the kernel had to say no.
        let log = tracker.place.log();
        assert!(!log.contains("cannot accept"), "{log}");
    });
}

#[test]
fn open_connections_do_not_delay_the_end() {
    on_every_case(|case| {
        let mut tracker = case.start("");
        let mut clients: Vec<_> = (0..20)
            .map(|_| Client::new(&tracker, IpFamily::V4))
            .collect();
        clients[0].join(torrent(1), 1, LEECHER);
        clients[1].connection.send("GET /announce");
        let clock = Clock::start();
        tracker.daemon.signal(Signal::SIGTERM);
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
        // Half a request has 15 seconds, but not then.
        let took = clock.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        clients[0].connection.assert_closed();
    });
}
