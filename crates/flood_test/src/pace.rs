//! How many of something are due, at a rate.

use std::time::Duration;

/// A rate, and what has been done so far.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: u64,
    done: u64,
}

/// What a late attacker makes up for at once.
const ARREARS_MAX: Duration = Duration::from_millis(2);

impl Pace {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self {
            per_second,
            done: 0,
        }
    }

    /// How many are due now, `elapsed` after the start. They count as done.
    pub fn due(&mut self, elapsed: Duration) -> u64 {
        let total = self.after(elapsed);
        // What was missed for want of CPU time does not come as a burst.
        let missed = self.after(elapsed.saturating_sub(ARREARS_MAX));
        let due = total - self.done.max(missed).min(total);
        self.done = total;
        due
    }

    fn after(&self, elapsed: Duration) -> u64 {
        let micros = elapsed.as_micros() * u128::from(self.per_second);
        u64::try_from(micros / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_arrears_are_forgiven() {
        let mut pace = Pace::new(1_000);
        assert_eq!(pace.due(Duration::from_millis(2)), 2);
        assert_eq!(pace.due(Duration::from_millis(2)), 0);
        assert_eq!(pace.due(Duration::from_micros(2_999)), 0);
        assert_eq!(pace.due(Duration::from_millis(3)), 1);
        // A pause of a second is 2 ms of arrears.
        assert_eq!(pace.due(Duration::from_millis(1_003)), 2);
        assert_eq!(Pace::new(0).due(Duration::from_secs(9)), 0);
    }
}
