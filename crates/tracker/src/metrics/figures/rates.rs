//! What has been added per second, lately: differences of totals. Pure.

use std::time::Duration;

use aquatic_types::IpFamily;
use serde::Serialize;

use super::{FamilyFigures, Part, ResponseTimes};
use crate::metrics::approximate;

/// What has been added, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Requests that could be read.
    pub requests: f64,
    /// Answers.
    pub responses: f64,
    /// What got no answer.
    pub dropped: f64,
    /// What was answered with an error.
    pub refused: f64,
    /// Bytes of payload received.
    pub received_bytes: f64,
    /// Bytes of payload sent.
    pub sent_bytes: f64,
}

impl Rates {
    /// Between two moments.
    #[must_use]
    pub(crate) fn between(earlier: &FamilyFigures, later: &FamilyFigures, time: Duration) -> Self {
        let rate =
            |number: fn(&FamilyFigures) -> u64| per_second(number(earlier), number(later), time);
        Self {
            requests: rate(|figures| figures.requests.sum()),
            responses: rate(|figures| figures.responses.sum()),
            dropped: rate(|figures| figures.dropped.sum()),
            refused: rate(|figures| figures.refused.sum()),
            received_bytes: rate(|figures| figures.received_bytes),
            sent_bytes: rate(|figures| figures.sent_bytes),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
    }
}

/// The rate of a total, with one digit after the point.
pub(crate) fn per_second(earlier: u64, later: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    let rate = approximate(later.saturating_sub(earlier)) / seconds;
    (rate * 10.0).round() / 10.0
}

impl Part {
    /// Fills in what has changed since an earlier moment.
    pub(super) fn compare(&mut self, earlier: &Self, time: Duration) {
        self.rates = Rates::default();
        for family in IpFamily::ALL {
            let rates = Rates::between(earlier.family(family), self.family(family), time);
            self.family_mut(family).rates = rates;
            self.rates.add(&rates);
        }
        if let (Some(own), Some(earlier)) = (&mut self.response_time, &earlier.response_time) {
            own.compare(earlier);
        }
    }
}

impl ResponseTimes {
    /// Fills in the quantiles of what has been answered since an earlier moment.
    pub(super) fn compare(&mut self, earlier: &Self) {
        let answers = self.count.saturating_sub(earlier.count);
        let added = self.buckets.iter().enumerate().map(|(index, bucket)| {
            let before = earlier.buckets.get(index).map_or(0, |(_, count)| *count);
            (bucket.0, bucket.1.saturating_sub(before))
        });
        let added: Vec<_> = added.collect();
        let quantile = |share: f64| quantile(&added, answers, share);
        self.p50_seconds = quantile(0.5);
        self.p90_seconds = quantile(0.9);
        self.p99_seconds = quantile(0.99);
    }
}

/// The time that a share of so many answers did not exceed, in seconds, as Prometheus'
/// `histogram_quantile` has it: evenly distributed within a bucket; the largest bound for all that
/// is above it.
fn quantile(buckets: &[(u64, u64)], answers: u64, share: f64) -> Option<f64> {
    if answers == 0 {
        return None;
    }
    let rank = approximate(answers) * share;
    let (mut lower_bound, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        let (bound, count) = (approximate(*bound) / 1e6, approximate(*count));
        if count >= rank && count > below {
            let place = (rank - below) / (count - below);
            let time: f64 = lower_bound + (bound - lower_bound) * place;
            return Some((time * 1e6).round() / 1e6);
        }
        (lower_bound, below) = (bound, count);
    }
    Some(lower_bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_added_by_the_time_it_took() {
        assert_eq!(per_second(10, 35, Duration::from_secs(5)), 5.0);
        assert_eq!(per_second(0, 1, Duration::from_secs(3)), 0.3);
        assert_eq!(per_second(1, 2, Duration::ZERO), 0.0);
        assert_eq!(per_second(9, 2, Duration::from_secs(1)), 0.0, "never below");
    }

    #[test]
    fn quantiles_are_of_the_last_seconds() {
        let times = |fast, all| ResponseTimes {
            buckets: vec![(100, fast), (1_000, all)],
            count: all + 1,
            ..ResponseTimes::default()
        };
        let mut later = times(90, 199);
        later.compare(&times(0, 99));
        // 100 answers since: 90 of them within 0.1 ms, 10 within 1 ms.
        assert_eq!(later.p50_seconds, Some(0.000_056));
        assert_eq!(later.p90_seconds, Some(0.000_1));
        assert_eq!(later.p99_seconds, Some(0.000_91));
        let same = later.clone();
        later.compare(&same);
        assert_eq!(later.p99_seconds, None, "nobody was answered");
        let mut slow = times(0, 0);
        slow.count = 5;
        slow.compare(&times(0, 0));
        assert_eq!(slow.p50_seconds, Some(0.001), "above all bounds");
    }
}
