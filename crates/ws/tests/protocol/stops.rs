//! What clients see of a stop.

use aquatic_daemon::clock::Clock;
use aquatic_test_support::cases::on_every_runtime;
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;
use std::time::Duration;

use super::client::{CLOSE, Socket};
use super::setup::WS;

const SOCKETS: usize = 100;

/// A stop, and a new start, takes a moment: browsers shall not all come back in the same one.
#[test]
fn sockets_are_closed_with_a_code_one_after_the_other() {
    on_every_runtime(&WS, |case| {
        let mut tracker = case.start("");
        let open = |_| Socket::new(&tracker, IpFamily::V4);
        let mut sockets: Vec<_> = (0..SOCKETS).map(open).collect();
        tracker.daemon.signal(Signal::SIGTERM);
        let clock = Clock::start();
        let mut times = Vec::new();
        for socket in &mut sockets {
            assert_eq!(
                socket.receive_frame(),
                (CLOSE, 1_001_u16.to_be_bytes().into())
            );
            times.push(clock.elapsed());
        }
        // They are told in the order in which they came.
        let spread = times[SOCKETS - 1].saturating_sub(times[0]);
        assert!(spread > Duration::from_millis(200), "{spread:?}");
        assert_eq!(tracker.daemon.wait_exit().code(), Some(0));
    });
}
