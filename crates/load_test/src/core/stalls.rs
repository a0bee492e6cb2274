//! Whether a tester that hardly sleeps was kept from running.
//!
//! At a fixed rate, a worker looks at the clock all the time, or sleeps for some microseconds.
//! Where two looks are far apart, the system has let something else run in its place, and what was
//! due or came meanwhile was late by no fault of the tracker's. That cannot be taken out of the
//! latencies, but it can be told.

use std::ops::Range;

use serde::Serialize;

/// More than any work between two looks takes.
const STALL_MICROS_MIN: u64 = 1_000;

/// Watches one worker.
#[derive(Clone, Debug)]
pub struct StallMeter {
    window_micros: Range<u64>,
    looked_micros: Option<u64>,
    /// What was counted.
    pub stalls: Stalls,
}

/// For how long workers were kept from running, within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stalls {
    /// All workers together, in microseconds.
    pub total_micros: u64,
    /// At a time, in microseconds.
    pub longest_micros: u64,
}

impl StallMeter {
    /// Counts what lies within the window.
    #[must_use]
    pub fn new(window_micros: Range<u64>) -> Self {
        Self {
            window_micros,
            looked_micros: None,
            stalls: Stalls::default(),
        }
    }

    /// The worker has looked at the clock.
    pub fn look(&mut self, now_micros: u64) {
        let Range { start, end } = self.window_micros;
        let now_micros = now_micros.min(end);
        let since = self.looked_micros.replace(now_micros).unwrap_or(now_micros);
        let gap_micros = now_micros.saturating_sub(since.max(start));
        if gap_micros >= STALL_MICROS_MIN {
            self.stalls.add(Stalls {
                total_micros: gap_micros,
                longest_micros: gap_micros,
            });
        }
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        self.stalls.add(other.stalls);
    }
}

impl Stalls {
    fn add(&mut self, other: Self) {
        self.total_micros += other.total_micros;
        self.longest_micros = self.longest_micros.max(other.longest_micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gaps_within_the_window_are_stalls() {
        let mut meter = StallMeter::new(10_000..20_000);
        // A gap before the window, one that reaches into it by 2,000 µs, one within it of 3,000 µs,
        // and one that has 1,500 µs in it; between them, gaps that work may take.
        for now in [
            0, 5_000, 12_000, 12_999, 13_900, 16_900, 17_800, 18_500, 30_000, 40_000,
        ] {
            meter.look(now);
        }
        let stalls = Stalls {
            total_micros: 2_000 + 3_000 + 1_500,
            longest_micros: 3_000,
        };
        assert_eq!(meter.stalls, stalls);

        let mut other = StallMeter::new(10_000..20_000);
        other.look(11_000);
        other.look(18_000);
        meter.add(&other);
        assert_eq!(meter.stalls.total_micros, 6_500 + 7_000);
        assert_eq!(meter.stalls.longest_micros, 7_000);
    }
}
