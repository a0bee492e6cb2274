//! Start and stop, as an operator meets them.

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::{Client, torrent};
use super::daemon::{Daemon, Place, until_ok};
use super::setup::{Setup, on_every_setup};

#[test]
fn a_signal_to_stop_ends_it_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        on_every_setup(|setup| {
            let mut daemon = setup.start("");
            Client::new(&daemon, IpFamily::V4).join(torrent(1), 1, 1);
            daemon.signal(signal);
            assert_eq!(daemon.wait_exit().code(), Some(0));
            let log = daemon.place.log();
            assert!(log.contains("INFO"), "{log}");
            assert!(log.contains("stopping, as asked by a signal"), "{log}");
            assert!(!log.contains("ERROR"), "{log}");
        });
    }
}

#[test]
fn wrong_arguments_are_named() {
    let place = Place::new();
    for (arguments, name) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["config.toml"], "config.toml"),
        (&["-c"], "--config"),
        (&["--check-config"], "--config"),
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.log.contains(name), "{}", ended.log);
    }
}

#[test]
fn help_and_version_are_printed() {
    let place = Place::new();
    for flag in ["-h", "--help"] {
        let ended = place.run(&[flag]);
        assert_eq!(ended.code, Some(0));
        for text in [
            "BitTorrent tracker over UDP",
            "-c",
            "-p",
            "-P",
            "--check-config",
            "-v",
        ] {
            assert!(
                ended.stdout.contains(text),
                "no {text} in\n{}",
                ended.stdout
            );
        }
    }
    for flag in ["-v", "--version"] {
        let ended = place.run(&[flag]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(
            ended.stdout,
            format!("aquatic_udp {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn the_log_says_as_much_as_configured() {
    for (level, says) in [
        ("off", false),
        ("error", false),
        ("warn", false),
        ("info", true),
    ] {
        // A large buffer may not be granted, which is worth a warning.
        let daemon = Setup::SIMPLE.start(&format!(
            "log_level = '{level}'\nnetwork.socket_recv_buffer_size = 100_000"
        ));
        let log = daemon.place.log();
        assert_eq!(log.contains("ready"), says, "{level}:\n{log}");
        assert_eq!(!log.is_empty(), says, "{level}:\n{log}");
        let address = daemon.address(IpFamily::V4);
        assert_eq!(
            log.contains(&format!("serving at {address}")),
            says,
            "{level}:\n{log}"
        );
    }
    // The reason of the end is told even so.
    let ended = Place::new().fail(
        Setup::SIMPLE,
        "log_level = 'off'\nnetwork.address = '192.0.2.1:1'",
    );
    assert!(
        ended
            .log
            .contains("aquatic_udp ends: cannot bind 192.0.2.1:1"),
        "{}",
        ended.log
    );
}

/// Threads take their names when they have begun, which may be a moment after the start.
#[cfg(target_os = "linux")]
#[track_caller]
fn wait_for_threads(daemon: &Daemon, prefix: &str, count: usize) {
    until_ok(|| match daemon.count_threads(prefix) {
        found if found == count => Ok(()),
        found => Err(format!("{found} threads are called {prefix}, not {count}")),
    });
}

#[test]
#[cfg(target_os = "linux")]
fn workers_are_as_many_as_configured() {
    on_every_setup(|setup| {
        let daemon = setup.start("");
        wait_for_threads(&daemon, "socket-", setup.socket_workers);
        wait_for_threads(&daemon, "swarm-", setup.swarm_workers);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn no_socket_workers_means_one_per_cpu() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    for swarm_workers in [0, 1] {
        let setup = Setup {
            socket_workers: 0,
            swarm_workers,
            ..Setup::SIMPLE
        };
        let daemon = setup.start("");
        wait_for_threads(&daemon, "socket-", cpus);
        for family in IpFamily::ALL {
            Client::new(&daemon, family).join(torrent(1), 1, 1);
        }
    }
}
