//! What a worker tells clients.

use super::stretch::{Bounds, Present};
use super::{IntervalConfig, Stretch};

/// The announce intervals that a worker tells, one after the other.
#[derive(Debug)]
pub struct AnnounceIntervals {
    protocol: &'static str,
    bounds: Bounds,
    stretch: Stretch,
    /// Those of the present batch, without their spread.
    present: Present,
    rng: fastrand::Rng,
}

impl AnnounceIntervals {
    /// Of a worker of this protocol. `base_seconds` is `peer_announce_interval`. Which interval is
    /// longer at random is no secret: `seed` may be the number of the worker.
    #[must_use]
    pub fn new(
        protocol: &'static str,
        base_seconds: u32,
        config: &IntervalConfig,
        stretch: &Stretch,
        seed: u64,
    ) -> Self {
        let bounds = stretch.follow(protocol, base_seconds, config);
        Self {
            protocol,
            bounds,
            stretch: stretch.clone(),
            present: stretch.apply(bounds),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Goes by other keys from now on.
    pub fn set(&mut self, base_seconds: u32, config: &IntervalConfig) {
        self.bounds = self.stretch.follow(self.protocol, base_seconds, config);
        self.refresh();
    }

    /// Takes note of the load. To be called once per batch.
    #[inline]
    pub fn refresh(&mut self) {
        self.present = self.stretch.apply(self.bounds);
    }

    /// The average interval without its spread, in seconds: for those who are not served.
    #[inline]
    #[must_use]
    pub fn present(&self) -> u32 {
        self.present.average_seconds
    }

    /// The interval that the next client is told, in seconds.
    #[inline]
    pub fn draw(&mut self) -> u32 {
        let Present {
            average_seconds,
            margin_seconds: margin,
        } = self.present;
        let mut seconds = average_seconds;
        if margin > 0 {
            let drawn = self.rng.u32(..=margin.saturating_mul(2));
            seconds = (average_seconds - margin).saturating_add(drawn);
        }
        let percent = self.bounds.spread_percent;
        if percent > 0 {
            let spread = u64::from(seconds) * u64::from(percent) / 100;
            let spread = u32::try_from(spread).unwrap_or(u32::MAX);
            seconds = seconds.saturating_add(self.rng.u32(..=spread));
        }
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spread: u32, max: u32) -> IntervalConfig {
        IntervalConfig {
            announce_interval_spread: spread,
            announce_interval_max: max,
        }
    }

    #[test]
    fn by_default_everybody_is_told_the_base_whatever_the_load() {
        let stretch = Stretch::default();
        let default = IntervalConfig::default();
        let mut intervals = AnnounceIntervals::new("udp", 900, &default, &stretch, 0);
        stretch.set(3.0);
        intervals.refresh();
        assert_eq!([intervals.present(), intervals.draw()], [900; 2]);
        assert_eq!(default.longest_seconds(900), 900);
    }

    #[test]
    fn a_spread_lengthens_intervals_evenly_up_to_what_was_set() {
        let stretch = Stretch::default();
        let told = |seed| {
            let config = config(10, 0);
            let mut intervals = AnnounceIntervals::new("udp", 900, &config, &stretch, seed);
            (0..100_000).map(move |_| intervals.draw())
        };
        let mut counts = [0_u32; 91];
        told(1).for_each(|seconds| counts[seconds as usize - 900] += 1);
        // Some 1,099 of each.
        assert!(
            counts.iter().all(|count| (900..1_300).contains(count)),
            "{counts:?}"
        );
        assert_eq!(config(10, 0).longest_seconds(900), 990);
        assert!(told(1).eq(told(1)), "the same from the same seed");
        assert!(told(1).ne(told(2)));
    }

    #[test]
    fn load_lengthens_intervals_up_to_the_longest_one() {
        let stretch = Stretch::default();
        let longer = config(50, 1_800);
        let mut intervals = AnnounceIntervals::new("udp", 900, &longer, &stretch, 0);
        // On average; and between which all are, without the spread.
        for (factor, seconds, range) in [
            (1.0, 900, 900..=900),
            (1.2, 1_080, 900..=1_260),
            (1.5, 1_350, 900..=1_800),
            (1.9, 1_710, 1_620..=1_800),
            (2.0, 1_800, 1_800..=1_800),
            (9.0, 1_800, 1_800..=1_800),
            (0.1, 900, 900..=900),
        ] {
            stretch.set(factor);
            intervals.refresh();
            assert_eq!(intervals.present(), seconds, "{factor}");
            let drawn: Vec<_> = (0..10_000).map(|_| intervals.draw()).collect();
            let (low, high) = (*range.start(), *range.end() * 3 / 2);
            assert!(drawn.iter().all(|it| (low..=high).contains(it)), "{factor}");
            let average = f64::from(drawn.iter().sum::<u32>()) / 10_000.0;
            let expected = f64::from(seconds) * 1.25;
            assert!(
                (average / expected - 1.0).abs() < 0.02,
                "{factor}: {average}"
            );
        }
        assert_eq!(longer.longest_seconds(900), 2_700);
        intervals.set(600, &config(0, 0));
        stretch.set(2.0);
        intervals.refresh();
        assert_eq!(intervals.draw(), 600);
    }
}
