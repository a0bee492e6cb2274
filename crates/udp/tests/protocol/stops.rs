//! What clients see of a stop.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::threads::Frozen;
use aquatic_test_support::{Setup, torrent};
use aquatic_types::IpFamily;
use aquatic_udp_protocol::Response;
use nix::sys::signal::Signal;

use super::client::{Client, announce_bytes};
use super::setup::{SIMPLE, backends};

/// A stop waits for answers for twice as long. If it took the test or the tracker longer than this
/// to get there, nothing is shown by an answer that has not come.
const IN_TIME: Duration = Duration::from_millis(300);

/// One that is with a swarm worker when the tracker is told to stop.
#[test]
fn an_announce_in_flight_is_answered() {
    for backend in backends() {
        let setup = Setup {
            runtime: backend,
            swarm_workers: 1,
            ..SIMPLE
        };
        let is_answered = (0..5).any(|_| stop_with_an_announce_in_flight(setup));
        assert!(is_answered, "{backend}: it has been tried again and again");
    }
}

/// Returns whether it has been answered. If not, somebody stood still.
fn stop_with_an_announce_in_flight(setup: Setup) -> bool {
    let mut daemon = setup.start("");
    let mut client = Client::new(&daemon, IpFamily::V4);
    client.join(torrent(1), 1, 1);
    let swarm_worker = Frozen::named(&daemon, "swarm-0");
    let request = client.peer(torrent(1), 2, 1);
    client.send(&announce_bytes(&request));
    // The socket worker has passed it on when it has answered what was sent later.
    client.connect();
    let clock = Clock::start();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for_log("stopping");
    swarm_worker.let_go();
    assert_eq!(daemon.wait_exit().code(), Some(0));
    let took = clock.elapsed();
    let answers = client.received();
    let Some(answer) = answers.first() else {
        assert!(took > IN_TIME, "no answer within {took:?}");
        return false;
    };
    let Response::Announce(answer) = client.parse(answer) else {
        panic!("{:?}", client.parse(answer));
    };
    assert_eq!(answer.header.leechers, 2);
    true
}
