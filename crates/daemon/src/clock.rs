//! The only place where time is read.
//!
//! Code that decides gets the time as an argument, so that tests can choose it. The loops that
//! call that code read it here, once per batch.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use aquatic_types::Seconds;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// The daemon's own time line: monotonic, beginning when the daemon starts.
///
/// A copy is the same clock. Reading costs one `clock_gettime`, which needs no system call.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The same moment by [`boot_millis`].
    start_boot_millis: u64,
}

impl Clock {
    /// A time line that begins now. A daemon has one.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: instant_now(),
            start_boot_millis: boot_millis(),
        }
    }

    /// Time since the start. On Linux this does not go on while the machine is suspended.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        instant_now().duration_since(self.start)
    }

    /// When it began, in nanoseconds of the system's monotonic clock (`CLOCK_MONOTONIC`): the
    /// kernel, and programs in it, count by that one.
    #[must_use]
    pub fn zero_nanos(&self) -> u64 {
        let elapsed = self.elapsed();
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        let zero = now.unwrap_or_default().saturating_sub(elapsed);
        u64::try_from(zero.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The same, with the time for which the machine was suspended: for what people compare with
    /// a clock on the wall.
    #[must_use]
    pub fn elapsed_with_suspension(&self) -> Duration {
        Duration::from_millis(boot_millis().saturating_sub(self.start_boot_millis))
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn micros(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The time at which a batch of work was received. Read once per batch and passed down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For everything that lasts.
    pub seconds: Seconds,
    /// For everything that is measured. On the same time line.
    pub micros: u64,
}

impl Now {
    /// Reads the clock.
    #[must_use]
    pub fn read(clock: Clock) -> Self {
        Self::from_micros(clock.micros())
    }

    /// This many microseconds after the start.
    #[must_use]
    pub fn from_micros(micros: u64) -> Self {
        let seconds = u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX);
        Self {
            seconds: Seconds(seconds),
            micros,
        }
    }
}

/// A point in time of a clock that no one can set.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this module is what the lint points to"
)]
pub fn instant_now() -> Instant {
    Instant::now()
}

/// What the calendar and the clock on the wall say: for people to read, not for deciding.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this module is what the lint points to"
)]
pub fn wall_time() -> SystemTime {
    SystemTime::now()
}

/// Microseconds since 1970, as far as the system knows. Somebody may set this clock at any moment:
/// it is for what other hosts have to understand.
#[must_use]
pub fn unix_micros() -> u64 {
    u64::try_from(unix_time().as_micros()).unwrap_or(u64::MAX)
}

/// The same, for metrics.
pub(crate) fn unix_time() -> Duration {
    let since_1970 = wall_time().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default()
}

/// Names the time that the system has run: another one after each boot.
pub type BootId = [u8; 16];

/// The system's [`BootId`], where it has one (Linux). To be read before a sandbox or another root
/// directory hides it.
#[must_use]
pub fn boot_id() -> Option<BootId> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().split('-').collect();
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(u128::to_be_bytes)
}

/// Milliseconds since the system was booted, with those for which it has slept: nobody can set this
/// clock.
#[must_use]
pub fn boot_millis() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::CLOCK_MONOTONIC;
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.num_milliseconds()).unwrap_or(0)
    })
}

/// Microseconds of the system's monotonic clock, whose zero is common to all processes.
pub(crate) fn system_micros() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.num_microseconds()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_agree() {
        let clock = Clock {
            start: instant_now()
                .checked_sub(Duration::from_millis(90_500))
                .unwrap(),
            ..Clock::start()
        };
        assert_eq!(Now::read(clock).seconds, Seconds(90));
        assert!(
            (90_500_000..91_000_000).contains(&clock.micros()),
            "{}",
            clock.micros()
        );
        let copy = clock;
        assert!(copy.elapsed() >= Duration::from_millis(90_500));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_boot_has_a_name_and_lasts() {
        let boot_id = boot_id().unwrap();
        assert_eq!(Some(boot_id), super::boot_id());
        assert_ne!(boot_id, BootId::default());
        let before = boot_millis();
        assert!(before > 0 && before <= boot_millis());
    }

    /// As after a second of suspension, which the monotonic clock has not seen.
    #[test]
    fn a_suspension_is_a_part_of_the_time_since_the_start() {
        let mut clock = Clock::start();
        clock.start_boot_millis -= 1_000;
        let (awake, all) = (clock.elapsed(), clock.elapsed_with_suspension());
        assert!(awake < Duration::from_millis(900), "{awake:?}");
        assert!(all >= Duration::from_secs(1), "{all:?}");
    }

    #[test]
    fn a_new_clock_begins_at_zero_and_goes_forward() {
        let clock = Clock::start();
        let first = clock.micros();
        assert_eq!(Now::read(clock).seconds, Seconds(0));
        assert!(clock.micros() >= first);
    }
}
