//! Sockets of all protocols outlive the process.

use std::thread;

use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Place, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::setup::{BINARY, Client, Combination, Http, Udp};

/// Of each protocol and family; so many that each socket has some, probably.
const CLIENTS: u16 = 6;

fn start(place: &Place, combination: Combination) -> Daemon {
    place.write("config.toml", combination.settings(place, ""));
    let tracker = place.command_with(BINARY, &["serve", "-c", "config.toml"]);
    let mut command = place.with_sockets(&tracker, Vec::new());
    place.clone().start_by(&mut command)
}

/// All of them come to where `before` was, are served by the next one, and meet there.
fn succeed(before: &Daemon, next: Combination) -> Daemon {
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for family in IpFamily::ALL {
            for port in 1..=CLIENTS {
                clients.push(scope.spawn(move || {
                    Udp::new(before, family).join(torrent(port.into()), port, 1);
                }));
                clients.push(scope.spawn(move || {
                    Http::new(before, family).join(torrent(port.into()), 100 + port, 1);
                }));
            }
        }
        until("clients wait", || {
            let waits = |family| before.place.has_waiting(family);
            IpFamily::ALL.into_iter().all(waits).then_some(())
        });
        let next = start(&before.place, next);
        for client in clients {
            client.join().unwrap();
        }
        let mut late = Udp::new(&next, IpFamily::V4);
        assert_eq!(late.join(torrent(1), 200, 1).ports, [1, 101]);
        next
    })
}

/// One combination after the other, each with other numbers of workers.
#[test]
fn clients_of_both_protocols_who_come_during_a_restart_are_served() {
    let all = Combination::all();
    let same_runtimes =
        |a: &Combination, b: &Combination| a.backend == b.backend && a.runtime == b.runtime;
    thread::scope(|scope| {
        for chain in all.chunk_by(same_runtimes) {
            scope.spawn(|| {
                let place = Place::with_kept_sockets();
                let mut daemon = start(&place, chain[0]);
                for next in &chain[1..] {
                    daemon.signal(Signal::SIGTERM);
                    assert_eq!(daemon.wait_exit().code(), Some(0));
                    daemon = succeed(&daemon, *next);
                }
                // At most three workers of UDP, and two of HTTP, at two addresses each.
                assert_eq!(place.kept_sockets().len(), (3 + 2) * 2);
            });
        }
    });
}
