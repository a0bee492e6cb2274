//! Whether there is a flood: datagrams that are no request, or have a wrong connection id, in such
//! numbers that it is worth to drop them earlier.
//!
//! ```text
//!              2,000 of them in a second
//!     calm ────────────────────────────────▶ flooded
//!          ◀────────────────────────────────
//!              ten seconds without so many
//! ```

use crate::Now;

/// What makes a flood, at one worker.
const FLOOD_PER_SECOND: u64 = 2_000;

/// It is over if so many seconds pass without one.
const CALM_SECONDS: u32 = 10;

/// Watches out for one.
#[derive(Debug, Default)]
pub(crate) struct FloodWatch {
    /// How many such datagrams there had been when this second began.
    wrong: u64,
    flood: Option<Flood>,
}

#[derive(Debug)]
struct Flood {
    calm_seconds: u32,
    /// When filters were attached that have to be attached anew after some time.
    attached_at: Now,
}

impl FloodWatch {
    pub(crate) fn is_flooded(&self) -> bool {
        self.flood.is_some()
    }

    /// Whether a flood has begun in this second. `wrong`: all datagrams of that kind so far.
    pub(crate) fn has_begun(&mut self, now: Now, wrong: u64) -> bool {
        if self.is_flooded() || wrong.saturating_sub(self.wrong) < FLOOD_PER_SECOND {
            return false;
        }
        self.flood = Some(Flood {
            calm_seconds: 0,
            attached_at: now,
        });
        true
    }

    /// Whether a flood is over. To be called once a second, with all such datagrams so far; if only
    /// a sample of them comes through to be counted, it is one of so many.
    pub(crate) fn is_over(&mut self, wrong: u64, one_of: u32) -> bool {
        let new = wrong.saturating_sub(std::mem::replace(&mut self.wrong, wrong));
        let Some(flood) = &mut self.flood else {
            return false;
        };
        let goes_on = new.saturating_mul(one_of.into()) >= FLOOD_PER_SECOND;
        flood.calm_seconds = if goes_on { 0 } else { flood.calm_seconds + 1 };
        let is_over = flood.calm_seconds >= CALM_SECONDS;
        if is_over {
            self.end();
        }
        is_over
    }

    /// There are no filters any more, for whatever reason.
    pub(crate) fn end(&mut self) {
        self.flood = None;
    }

    /// Whether filters have been there for so many seconds; they are counted anew then.
    pub(crate) fn has_lasted(&mut self, now: Now, seconds: u32) -> bool {
        let Some(flood) = &mut self.flood else {
            return false;
        };
        let age = now.seconds.0.saturating_sub(flood.attached_at.seconds.0);
        let has_lasted = age >= seconds;
        if has_lasted {
            flood.attached_at = now;
        }
        has_lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn it_begins_at_once_and_ends_when_it_is_calm() {
        let mut watch = FloodWatch::default();
        assert!(!watch.has_begun(at(1), 1_999));
        assert!(!watch.is_over(1_999, 1));
        assert!(!watch.has_begun(at(2), 3_998), "in another second");
        assert!(watch.has_begun(at(2), 3_999));
        assert!(!watch.has_begun(at(2), 9_999), "it has already");
        let mut wrong = 9_999;
        assert!(!watch.is_over(wrong, 1));
        for round in 0..3 {
            wrong += 2_000;
            assert!(!watch.is_over(wrong, 1));
            for second in 1..10 {
                wrong += 1_999;
                assert!(!watch.is_over(wrong, 1), "{round} {second}");
            }
            assert!(watch.is_flooded());
        }
        assert!(watch.is_over(wrong, 1));
        assert!(!watch.is_flooded());
        assert!(!watch.is_over(wrong + 5_000, 1));
    }

    #[test]
    fn a_sample_stands_for_all() {
        let mut watch = FloodWatch::default();
        assert!(watch.has_begun(at(1), 2_000));
        let mut wrong = 2_000;
        assert!(!watch.is_over(wrong, 100));
        for _ in 0..30 {
            wrong += 20;
            assert!(!watch.is_over(wrong, 100));
        }
        for second in 1..=10 {
            wrong += 19;
            assert_eq!(watch.is_over(wrong, 100), second == 10);
        }
    }

    #[test]
    fn it_is_known_how_long_filters_are_there() {
        let mut watch = FloodWatch::default();
        assert!(!watch.has_lasted(at(700), 600));
        assert!(watch.has_begun(at(1_000), 2_000));
        let lasted = [1_000, 1_599, 1_600, 1_601, 2_199, 2_200];
        let lasted = lasted.map(|second| watch.has_lasted(at(second), 600));
        assert_eq!(lasted, [false, false, true, false, false, true]);
    }
}
