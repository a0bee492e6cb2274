//! When to doze and when to sleep.

use std::time::Duration;

/// What a worker that has nothing to do should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Sleep for this short time, deaf to everything, and look again: work comes so fast that a
    /// batch of it will be there.
    Doze(Duration),
    /// Sleep until woken.
    Sleep,
}

/// Decides how a worker waits, from how fast work has been coming.
///
/// A wake-up costs the sleeper more than a request does, so at a moderate load a tracker that
/// wakes for each packet spends most of its time on waking. Dozing for a fixed short time costs
/// one timer, however many packets arrive meanwhile. It pays as soon as at least
/// [two](Self::WORTHWHILE) are to be expected; below that, and in an idle process, the worker
/// sleeps for real.
///
/// Pure: the time comes in as microseconds of any monotonic clock.
#[derive(Clone, Debug)]
pub struct Pacer {
    doze: Duration,
    doze_micros: u64,
    /// Smoothed time between two arrivals, in 1/16 µs.
    gap_sixteenths: u64,
    last_micros: u64,
}

impl Pacer {
    /// A doze must promise this many arrivals.
    pub const WORTHWHILE: u64 = 2;

    /// No gap is taken to be longer than this, so that a busy spell is noticed soon after a lull.
    const GAP_MICROS_MAX: u64 = 10_000;

    /// `doze` is the time that a worker may be deaf: it is added to the latency of a request.
    #[must_use]
    pub fn new(doze: Duration) -> Self {
        Self {
            doze,
            doze_micros: u64::try_from(doze.as_micros()).unwrap_or(u64::MAX),
            gap_sixteenths: Self::GAP_MICROS_MAX * 16,
            last_micros: 0,
        }
    }

    /// To be called when there is nothing left to do: how to wait, given that `arrivals` requests
    /// have come since the last call.
    pub fn wait(&mut self, now_micros: u64, arrivals: usize) -> Wait {
        let elapsed = now_micros.saturating_sub(self.last_micros);
        self.last_micros = now_micros;
        let arrivals = u64::try_from(arrivals).unwrap_or(u64::MAX);
        let sample = (elapsed.saturating_mul(16) / arrivals.max(1)).min(Self::GAP_MICROS_MAX * 16);
        // An empty doze is believed at once; otherwise the newest sample weighs a quarter.
        self.gap_sixteenths = if arrivals == 0 {
            self.gap_sixteenths.max(sample)
        } else {
            (self.gap_sixteenths * 3 + sample) / 4
        };
        if self.gap_sixteenths * Self::WORTHWHILE <= self.doze_micros * 16 && !self.doze.is_zero() {
            Wait::Doze(self.doze)
        } else {
            Wait::Sleep
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const DOZE: Duration = Duration::from_micros(200);

    /// Runs a worker against steady arrivals and returns the share of waits that were dozes.
    fn doze_share(gap_micros: u64) -> f64 {
        let mut pacer = Pacer::new(DOZE);
        let (mut now, mut served, mut dozes) = (0, 0, 0);
        for _ in 0..1_000 {
            let arrived = now / gap_micros;
            let new = usize::try_from(arrived - served).unwrap();
            served = arrived;
            match pacer.wait(now, new) {
                Wait::Doze(time) => {
                    dozes += 1;
                    now += u64::try_from(time.as_micros()).unwrap();
                }
                Wait::Sleep => now = (served + 1) * gap_micros,
            }
        }
        f64::from(dozes) / 1_000.0
    }

    #[test]
    fn dozes_under_load_and_sleeps_when_idle() {
        assert!(doze_share(5) > 0.95, "200,000 requests/s");
        assert!(doze_share(50) > 0.95, "20,000 requests/s");
        assert!(doze_share(1_000) < 0.05, "1,000 requests/s");
        assert!(doze_share(100_000) < 0.01, "10 requests/s");
    }

    #[test]
    fn wakes_up_to_a_busy_spell_within_a_few_arrivals() {
        let mut pacer = Pacer::new(DOZE);
        assert_eq!(pacer.wait(60_000_000, 1), Wait::Sleep);
        let mut now = 60_000_000;
        let calls = (1..100)
            .find(|_| {
                now += 20;
                pacer.wait(now, 1) != Wait::Sleep
            })
            .unwrap();
        assert!(calls <= 20, "{calls}");
    }

    #[test]
    fn one_empty_doze_is_enough_to_sleep() {
        let mut pacer = Pacer::new(DOZE);
        let mut now = 0;
        for _ in 0..100 {
            now += 200;
            pacer.wait(now, 50);
        }
        assert_eq!(pacer.wait(now + 200, 50), Wait::Doze(DOZE));
        assert_eq!(pacer.wait(now + 400, 0), Wait::Sleep);
    }

    #[test]
    fn no_doze_is_an_option() {
        let mut pacer = Pacer::new(Duration::ZERO);
        for now in 0..100 {
            assert_eq!(pacer.wait(now, 1_000), Wait::Sleep);
        }
    }
}
