//! What clients see of a stop.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::cases::{Case, on_every_runtime};
use aquatic_test_support::connection::Connection;
use aquatic_test_support::program::localhost;
use aquatic_test_support::torrent;
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::client::{announce, get};
use super::setup::HTTP;

/// A stop waits for requests for twice as long. If it took the test or the tracker longer than this
/// to get there, nothing is shown by an answer that has not come.
const IN_TIME: Duration = Duration::from_millis(300);

/// One that has been sent in part when the tracker is told to stop, and one that waits behind it.
#[test]
fn a_request_in_flight_is_answered_as_the_last_one() {
    on_every_runtime(&HTTP, |case| {
        let is_answered = (0..5).any(|_| stop_with_a_request_in_flight(case));
        assert!(is_answered, "it has been tried again and again");
    });
}

/// Returns whether it has been answered. If not, somebody stood still.
fn stop_with_a_request_in_flight(case: Case) -> bool {
    let mut tracker = case.start("");
    let address = tracker.address(IpFamily::V4);
    let open = || Connection::open(localhost(IpFamily::V4), address, case.transport);
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
    let clock = Clock::start();
    tracker.daemon.signal(Signal::SIGTERM);
    tracker.daemon.wait_for_log("stopping");
    if asking.try_send(rest.as_bytes()).is_err() || asking.has_ended() {
        let took = clock.elapsed();
        assert!(took > IN_TIME, "no answer within {took:?}");
        return false;
    }
    let answer = asking.answer();
    assert_eq!(answer.header("connection"), Some("close"));
    asking.assert_ends();
    idle.assert_ends();
    assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
    true
}
