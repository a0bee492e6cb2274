//! How many offers a client is handed in a time. Pure.

use std::num::NonZeroU32;

use aquatic_daemon::clock::Now;

/// A client that was handed none for a while may be handed this long's worth at once: a browser
/// that is the first in a swarm meets all who come next.
const BURST_MICROS: u32 = 4_000_000;

/// The longest time for one offer, that is, at one per second.
const STEP_MICROS_MAX: u32 = 1_000_000;

/// The offers that one connection has been handed lately: when it will have had the time for all
/// of them (the generic cell rate algorithm), in microseconds, modulo 2^32.
///
/// As small as that because every connection has one. What is left of a time that is 71 minutes
/// ago looks like the present at worst; it is made up for within [`BURST_MICROS`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OfferPace(u32);

impl OfferPace {
    /// Whether one more offer may be handed to the client; if so it is counted.
    #[must_use]
    pub fn admits(&mut self, now: Now, per_second_max: Option<NonZeroU32>) -> bool {
        let Some(per_second_max) = per_second_max else {
            return true;
        };
        let step = STEP_MICROS_MAX / per_second_max;
        let now_micros = u32::try_from(now.micros & u64::from(u32::MAX)).unwrap_or_default();
        let ahead = match self.0.wrapping_sub(now_micros) {
            ahead if ahead <= BURST_MICROS + STEP_MICROS_MAX => ahead,
            _ => 0,
        };
        let admitted = ahead < BURST_MICROS;
        if admitted {
            self.0 = now_micros.wrapping_add(ahead + step);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the offers that come every `every` microseconds are admitted until `until`.
    fn admitted(pace: &mut OfferPace, from: u64, until: u64, every: usize) -> usize {
        let offers = (from..until).step_by(every);
        let admits = |micros: &u64| pace.admits(Now::from_micros(*micros), NonZeroU32::new(16));
        offers.filter(admits).count()
    }

    /// The same of many in one moment.
    fn admitted_at_once(pace: &mut OfferPace, micros: u64) -> usize {
        let admits = |_: &u32| pace.admits(Now::from_micros(micros), NonZeroU32::new(16));
        (0..200).filter(admits).count()
    }

    #[test]
    fn many_at_once_and_then_as_many_as_are_allowed() {
        // Also where the time that is kept starts again from 0.
        for start in [0, u64::from(u32::MAX) - 6_000_000, 1 << 40] {
            let mut pace = OfferPace::default();
            assert_eq!(admitted_at_once(&mut pace, start), 64);
            let next = start + 1_000_000;
            let in_ten_seconds = admitted(&mut pace, next, next + 10_000_000, 1_000);
            assert!((174..=178).contains(&in_ten_seconds), "{in_ten_seconds}");
            let silence = 3_600_000_000;
            let later = next + silence;
            assert_eq!(admitted_at_once(&mut pace, later), 64);
        }
    }

    #[test]
    fn below_the_rate_all_are_admitted() {
        let mut pace = OfferPace::default();
        assert_eq!(admitted(&mut pace, 7, 62_500_007, 62_500), 1_000);
    }

    #[test]
    fn what_is_kept_for_too_long_does_no_harm() {
        let mut pace = OfferPace::default();
        assert_eq!(admitted_at_once(&mut pace, 0), 64);
        let again = 1 << 32;
        let in_ten_seconds = admitted(&mut pace, again, again + 10_000_000, 1_000);
        assert!(in_ten_seconds >= 158, "{in_ten_seconds}");
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let mut pace = OfferPace::default();
        assert!((0..10_000).all(|_| pace.admits(Now::default(), None)));
    }
}
