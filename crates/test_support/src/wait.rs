//! Waiting for a condition, never for a time.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;

/// After this, something that should happen does not. Generous, because machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` gives a value.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    until_ok(|| condition().ok_or_else(|| what.to_owned()))
}

/// Waits until `condition` gives a value; what is missing last is told at the deadline.
#[track_caller]
pub fn until_ok<T>(mut condition: impl FnMut() -> Result<T, String>) -> T {
    let clock = Clock::start();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(missing) => {
                assert!(clock.elapsed() < DEADLINE, "not in {DEADLINE:?}: {missing}");
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits for the end of a program. One that does not end is killed.
pub fn until_end(child: &mut Child) -> ExitStatus {
    let clock = Clock::start();
    while clock.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        thread::sleep(POLL_INTERVAL);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("the tracker does not end");
}
