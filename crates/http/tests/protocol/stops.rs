//! What clients see of a stop.

use aquatic_test_support::cases::on_every_runtime;
use aquatic_test_support::connection::Connection;
use aquatic_test_support::program::localhost;
use aquatic_test_support::torrent;
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::{announce, get};
use super::setup::HTTP;

/// One that has been sent in part when the tracker is told to stop, and one that waits behind it.
#[test]
fn a_request_in_flight_is_answered_as_the_last_one() {
    on_every_runtime(&HTTP, |case| {
        let mut tracker = case.start("");
        let open = || {
            let address = tracker.address(IpFamily::V4);
            Connection::open(localhost(IpFamily::V4), address, case.transport)
        };
        let request = get(&announce(torrent(1), 1, 1));
        let mut asking = open();
        asking.send(&request);
        assert_eq!(asking.answer().header("connection"), None);
        let mut idle = open();
        idle.send(&request);
        idle.answer();
        let (first, rest) = request.split_at(20);
        asking.send(first);
        // The tracker has read it when it has answered what was sent later.
        idle.send(&request);
        idle.answer();
        tracker.daemon.signal(Signal::SIGTERM);
        tracker.daemon.wait_for_log("stopping");
        asking.send(rest);
        let answer = asking.answer();
        assert_eq!(answer.header("connection"), Some("close"));
        asking.assert_ends();
        idle.assert_ends();
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
    });
}
