//! What clients see of a stop.

use aquatic_test_support::threads::Frozen;
use aquatic_test_support::{Setup, torrent};
use aquatic_types::IpFamily;
use aquatic_udp_protocol::Response;
use nix::sys::signal::Signal;

use super::client::{Client, announce_bytes};
use super::setup::{SIMPLE, backends};

/// One that is with a swarm worker when the tracker is told to stop.
#[test]
fn an_announce_in_flight_is_answered() {
    for backend in backends() {
        let setup = Setup {
            runtime: backend,
            swarm_workers: 1,
            ..SIMPLE
        };
        let mut daemon = setup.start("");
        let mut client = Client::new(&daemon, IpFamily::V4);
        client.join(torrent(1), 1, 1);
        let swarm_worker = Frozen::named(&daemon, "swarm-0");
        let request = client.peer(torrent(1), 2, 1);
        client.send(&announce_bytes(&request));
        // The socket worker has passed it on when it has answered what was sent later.
        client.connect();
        daemon.signal(Signal::SIGTERM);
        daemon.wait_for_log("stopping");
        swarm_worker.let_go();
        let answer = client.receive();
        let Response::Announce(answer) = client.parse(&answer) else {
            panic!("{:?}", client.parse(&answer));
        };
        assert_eq!(answer.header.leechers, 2);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    }
}
