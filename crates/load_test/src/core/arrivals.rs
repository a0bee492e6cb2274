//! When requests are due at a fixed rate.

use fastrand::Rng;

use crate::core::report::to_f64;

/// When requests are due that come independently of each other, as those of strangers do: a Poisson
/// process.
///
/// The times do not depend on when answers come. A request that is sent behind its time keeps it,
/// so a tracker that stalls is charged with the wait of everybody who would have come meanwhile
/// ("no coordinated omission").
#[derive(Clone, Debug)]
pub struct Arrivals {
    next_micros: f64,
    gap_micros_mean: f64,
}

impl Arrivals {
    /// The first one follows `start_micros`.
    #[must_use]
    pub fn new(rate_per_second: f64, start_micros: u64, rng: &mut Rng) -> Self {
        let mut arrivals = Self {
            next_micros: to_f64(start_micros),
            gap_micros_mean: 1e6 / rate_per_second,
        };
        arrivals.step(rng);
        arrivals
    }

    /// The time of the next request if that has come, in microseconds.
    pub fn due(&mut self, now_micros: u64, rng: &mut Rng) -> Option<u64> {
        if self.next_micros > to_f64(now_micros) {
            return None;
        }
        let due = to_u64(self.next_micros);
        self.step(rng);
        Some(due)
    }

    fn step(&mut self, rng: &mut Rng) {
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        self.next_micros -= (1.0 - rng.f64()).ln() * self.gap_micros_mean;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive, and whole microseconds are enough"
)]
fn to_u64(micros: f64) -> u64 {
    micros as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate_and_are_irregular() {
        let mut rng = Rng::with_seed(1);
        let mut arrivals = Arrivals::new(100_000.0, 5_000_000, &mut rng);
        let mut times = Vec::new();
        while let Some(due) = arrivals.due(6_000_000, &mut rng) {
            times.push(due);
        }
        assert!((99_000..101_000).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        assert!(times[0] >= 5_000_000);
        // e^-2 (13.5 %) of the gaps are longer than twice the mean; the times are cut to whole
        // microseconds.
        let long = times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 20)
            .count();
        assert!((11_500..14_500).contains(&long), "{long}");
    }

    #[test]
    fn a_late_sender_gets_the_times_that_have_passed() {
        let mut rng = Rng::with_seed(1);
        let mut arrivals = Arrivals::new(1000.0, 0, &mut rng);
        let mut late = arrivals.clone();
        let mut rng_late = rng.clone();
        let mut prompt = Vec::new();
        for now in 0..50_000 {
            prompt.extend(arrivals.due(now, &mut rng));
        }
        let catch_up: Vec<u64> = std::iter::from_fn(|| late.due(49_999, &mut rng_late)).collect();
        assert_eq!(prompt, catch_up);
        assert!(prompt.len() > 20);
    }
}
