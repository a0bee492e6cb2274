//! Signals: to reload, and to end at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pace::Pace;

const PAUSE: Duration = Duration::from_millis(1);

/// Sends SIGUSR1 until it is told to stop. Gives back how often.
pub fn reload(pid: u32, per_second: u64, stop: &AtomicBool) -> u64 {
    let (clock, mut pace) = (Clock::start(), Pace::new(per_second));
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pace.due(clock.elapsed()) {
            let is_sent = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGUSR1).is_ok();
            sent += u64::from(is_sent);
        }
        thread::sleep(PAUSE);
    }
    sent
}

/// Sends SIGKILL after `delay`. Gives back how often.
pub fn kill_after(pid: u32, delay: Duration, stop: &AtomicBool) -> u64 {
    let clock = Clock::start();
    while clock.elapsed() < delay {
        if stop.load(Ordering::Relaxed) {
            return 0;
        }
        thread::sleep(PAUSE);
    }
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)
        .is_ok()
        .into()
}
