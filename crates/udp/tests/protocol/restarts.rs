//! A restart that no client notices: sockets, connection ids and swarms outlive the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_test_support::program::localhost;
use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Daemon, Place, Setup, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::Client;
use super::setup::{SIMPLE, UDP};

const SETTINGS: &str = "network.connection_secret_file = 'secret'\n\
    persistence.swarms = true\n\
    persistence.path = 'swarms.aqs'\n";

/// Of each family.
const CLIENTS: u16 = 8;

fn start(place: &Place, setup: Setup, socket_workers: usize) -> Daemon {
    let setup = Setup {
        socket_workers,
        ..setup
    };
    place
        .clone()
        .start_with_sockets(setup, SETTINGS, Vec::new())
}

/// Announces without a pause, with the connection id of the first process. Nothing is sent twice:
/// a datagram that is lost fails the test. Returns how many were answered.
fn announce_all_the_time(mut client: Client, port: u16, is_over: &AtomicBool) -> u32 {
    let mut answered = 0;
    while !is_over.load(Ordering::Relaxed) {
        for number in 0..4 {
            let swarm = client.join(torrent(number), port, 1);
            // It was there before all the others had gone.
            assert!(swarm.leechers >= 1);
            answered += 1;
        }
    }
    answered
}

#[test]
fn no_datagram_is_lost_in_restarts() {
    let fused_and_split = Setup::of_each_runtime(&UDP).into_iter().flat_map(|setup| {
        [0, 2].map(|swarm_workers| Setup {
            swarm_workers,
            ..setup
        })
    });
    let setups: Vec<Setup> = fused_and_split.collect();
    on_each(&setups, |setup| {
        let place = Place::with_kept_sockets();
        let mut daemon = start(&place, setup, 1);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let mut clients = Vec::new();
            for family in IpFamily::ALL {
                for port in 1..=CLIENTS {
                    let tracker = daemon.address(family);
                    let client = Client::connected(localhost(family), tracker);
                    let is_over = &is_over;
                    clients.push(scope.spawn(move || announce_all_the_time(client, port, is_over)));
                }
            }
            for socket_workers in [2, 1, 3, 2] {
                daemon.signal(Signal::SIGTERM);
                assert_eq!(daemon.wait_exit().code(), Some(0));
                daemon = start(&place, setup, socket_workers);
                // What was announced to the last process is in the snapshot of it.
                daemon.wait_for_log("restored ");
            }
            is_over.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().unwrap() > 0);
            }
        });
        let mut late = Client::new(&daemon, IpFamily::V4);
        let swarm = late.join(torrent(0), 1_000, 1);
        assert_eq!(swarm.leechers, u32::from(CLIENTS) + 1, "none is missing");
    });
}

/// What is not kept is told, since it makes each client ask once more.
#[test]
fn connection_ids_that_end_with_the_process_are_told() {
    let told = "connection ids do not: clients have to connect again";
    let place = Place::with_kept_sockets();
    let mut daemon = place.clone().start_with_sockets(SIMPLE, "", Vec::new());
    daemon.wait_for_log(told);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    let daemon = start(&place, SIMPLE, 1);
    assert!(!daemon.place.log().contains(told));
    assert!(!SIMPLE.start("").place.log().contains(told));
}
