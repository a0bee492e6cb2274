//! Unix time, computed from the daemon's monotonic clock. Pure.
//!
//! Connection ids are stamped with Unix time, so that a restarted tracker, and another one behind
//! the same address, understand them. But the system's clock can be set at any moment, and reading
//! it for each datagram would cost time. So a worker computes Unix time from the time of its batch,
//! and compares it with the system's clock once a second ([`UnixClock::synchronise`]):
//!
//! - a small difference is drift, and is followed at once: ids tolerate more than that anyway;
//! - a large one means that somebody has set the clock. It is followed, too, because other trackers
//!   go by the new time. But the old time goes on beside it until the last id with a stamp of it
//!   has expired, so that a step, in whichever direction, invalidates no id.

use crate::Now;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A larger difference is no drift: somebody has set the clock.
const DRIFT_MICROS_MAX: u64 = MICROS_PER_SECOND;

/// Whole seconds of Unix time, modulo 2^32 (until 2106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixSeconds(pub u32);

/// Unix time on the daemon's time line.
#[derive(Clone, Copy, Debug)]
pub struct UnixClock {
    current: TimeLine,
    /// How time was counted before the system's clock was set, and the moment, in microseconds of
    /// the daemon's clock, from which that is of no interest any more.
    replaced: Option<(TimeLine, u64)>,
    /// For how many microseconds a replaced time line remains of interest.
    memory_micros: u64,
}

/// Microseconds of Unix time at the zero of the daemon's clock.
#[derive(Clone, Copy, Debug)]
struct TimeLine(u64);

impl TimeLine {
    fn seconds(self, now: Now) -> UnixSeconds {
        let micros = self.0.wrapping_add(now.micros);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "Unix seconds are counted modulo 2^32"
        )]
        UnixSeconds((micros / MICROS_PER_SECOND) as u32)
    }
}

impl UnixClock {
    /// At `now` it is `unix_micros` microseconds since 1970. After a step of the clock, the time
    /// from before is told for `memory_seconds` more.
    #[must_use]
    pub fn new(now: Now, unix_micros: u64, memory_seconds: u32) -> Self {
        Self {
            current: TimeLine(unix_micros.wrapping_sub(now.micros)),
            replaced: None,
            memory_micros: u64::from(memory_seconds) * MICROS_PER_SECOND,
        }
    }

    /// The time that ids are stamped with.
    #[must_use]
    pub fn seconds(&self, now: Now) -> UnixSeconds {
        self.current.seconds(now)
    }

    /// What would be the time if the system's clock had not been set a short time ago.
    #[must_use]
    pub fn seconds_before_step(&self, now: Now) -> Option<UnixSeconds> {
        let (line, until_micros) = self.replaced?;
        (now.micros < until_micros).then(|| line.seconds(now))
    }

    /// Microseconds of Unix time at the zero of the daemon's clock, modulo 2^64.
    #[must_use]
    pub fn unix_micros_at_zero(&self) -> u64 {
        self.current.0
    }

    /// The same for the time from before a step, and until when, in microseconds of the daemon's
    /// clock, that is of interest.
    #[must_use]
    pub fn replaced(&self) -> Option<(u64, u64)> {
        self.replaced
            .map(|(line, until_micros)| (line.0, until_micros))
    }

    /// Takes note of what the system's clock says at `now`. While the time from before a step is
    /// still told, a second step is not followed: ids would be lost.
    pub fn synchronise(&mut self, now: Now, unix_micros: u64) {
        let seen = TimeLine(unix_micros.wrapping_sub(now.micros));
        let difference = seen.0.wrapping_sub(self.current.0).cast_signed();
        if difference.unsigned_abs() <= DRIFT_MICROS_MAX {
            self.current = seen;
        } else if self.seconds_before_step(now).is_none() {
            let until_micros = now.micros.saturating_add(self.memory_micros);
            self.replaced = Some((self.current, until_micros));
            self.current = seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_SECONDS: u32 = 130;
    /// Some time in 2026, in the middle of a second.
    const UNIX_MICROS: u64 = 1_795_000_000_500_000;
    const UNIX_SECONDS: u32 = 1_795_000_000;

    fn at(seconds: u64) -> Now {
        Now::from_micros(seconds * MICROS_PER_SECOND)
    }

    fn clock() -> UnixClock {
        UnixClock::new(at(50), UNIX_MICROS, MEMORY_SECONDS)
    }

    #[test]
    fn goes_on_with_the_monotonic_clock() {
        let clock = clock();
        assert_eq!(clock.seconds(at(50)), UnixSeconds(UNIX_SECONDS));
        let now = Now::from_micros(50_500_000);
        assert_eq!(clock.seconds(now), UnixSeconds(UNIX_SECONDS + 1));
        assert_eq!(clock.seconds(at(0)), UnixSeconds(UNIX_SECONDS - 50));
        assert_eq!(clock.seconds_before_step(at(50)), None);
    }

    #[test]
    fn drift_is_followed() {
        let mut clock = clock();
        for second in 1..=10 {
            // Gains a tenth of a second in each second.
            clock.synchronise(at(50 + second), UNIX_MICROS + second * 1_100_000);
        }
        assert_eq!(clock.seconds(at(60)), UnixSeconds(UNIX_SECONDS + 11));
        assert_eq!(clock.seconds_before_step(at(60)), None);
    }

    #[test]
    fn after_a_step_both_times_are_told_for_a_while() {
        for step_micros in [3_600_000_000_i64, -3_600_000_000, 1_100_000, -1_100_000] {
            let mut clock = clock();
            let (before, set) = (clock, UNIX_MICROS.wrapping_add_signed(step_micros));
            clock.synchronise(at(50), set);
            assert_eq!(
                clock.seconds(at(60)).0,
                u32::try_from((set + 10_000_000) / MICROS_PER_SECOND).unwrap()
            );
            let last = at(50 + u64::from(MEMORY_SECONDS) - 1);
            assert_eq!(clock.seconds_before_step(last), Some(before.seconds(last)));
            let over = at(50 + u64::from(MEMORY_SECONDS));
            assert_eq!(clock.seconds_before_step(over), None);
        }
    }

    #[test]
    fn a_clock_that_jumps_to_and_fro_is_not_followed_each_time() {
        let mut clock = clock();
        let before = clock;
        for second in 50..100 {
            let wrong = [7_200_000_000, 0][usize::from(second % 2 == 0)];
            clock.synchronise(at(second), UNIX_MICROS + wrong + (second - 50) * 1_000_000);
            let told = [
                Some(clock.seconds(at(second))),
                clock.seconds_before_step(at(second)),
            ];
            assert!(told.contains(&Some(before.seconds(at(second)))), "{second}");
        }
    }

    #[test]
    fn any_reading_of_the_clock_is_harmless() {
        for unix_micros in [0, 1, u64::MAX, u64::MAX / 2] {
            let mut clock = UnixClock::new(at(50), unix_micros, u32::MAX);
            clock.synchronise(at(51), UNIX_MICROS);
            clock.synchronise(at(52), u64::MAX);
            let _ = clock.seconds(at(0));
            let _ = clock.seconds_before_step(Now::from_micros(u64::MAX));
        }
    }
}
