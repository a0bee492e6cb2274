//! Whether memory, files, threads and latency stay as they are.
//!
//! The first quarter of a run is left out: swarms grow, and so do buffers. Then the medians of the
//! last quarter and of the second one are compared, so that a single slow interval does not count.

use super::samples::Sample;

/// Fewer intervals than this tell nothing.
const SAMPLES_MIN: usize = 12;

/// Memory may grow by so much: the larger of both.
const MEMORY_PERCENT: u64 = 2;
const MEMORY_BYTES: u64 = 1 << 20;

/// So may the latency that 99 % do not exceed.
const P99_PERCENT: u64 = 25;
const P99_MICROS: u64 = 1_000;

/// Files that are opened and closed while somebody counts.
const FILES: u64 = 2;

/// Medians of the second and the last quarter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    /// The second quarter.
    pub before: u64,
    /// The last one.
    pub after: u64,
}

impl Trend {
    /// Of the intervals in which peers came and went; `None` if there are too few.
    #[must_use]
    pub fn of(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Option<Self> {
        let load = samples.iter().filter(|sample| sample.interval.is_load);
        let values: Vec<u64> = load.map(value).collect();
        let count = values.len();
        if count < SAMPLES_MIN {
            return None;
        }
        Some(Self {
            before: median(values.get(count / 4..count / 2)?)?,
            after: median(values.get(count * 3 / 4..)?)?,
        })
    }

    fn grows_beyond(self, percent: u64, absolute: u64) -> bool {
        let allowed = (self.before * percent / 100).max(absolute);
        self.after > self.before + allowed
    }
}

fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// What does not stay as it is, each in words.
#[must_use]
pub fn missed(samples: &[Sample]) -> Vec<String> {
    let mut missed = Vec::new();
    let mut check = |name: &str, percent, absolute, value: fn(&Sample) -> u64| {
        if let Some(trend) = Trend::of(samples, value)
            && trend.grows_beyond(percent, absolute)
        {
            missed.push(format!(
                "{name} grow from {} to {}",
                trend.before, trend.after
            ));
        }
    };
    check("bytes of memory", MEMORY_PERCENT, MEMORY_BYTES, |sample| {
        sample.process.resident_bytes
    });
    check("files beyond connections", 0, FILES, Sample::other_files);
    check("threads", 0, 0, |sample| sample.process.threads);
    check("microseconds of 99 %", P99_PERCENT, P99_MICROS, |sample| {
        sample.interval.p99_micros
    });
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::samples::{Interval, Process};

    /// A hundred intervals, each with something in its own way.
    fn samples(change: impl Fn(u64, &mut Sample)) -> Vec<Sample> {
        let sample = |number| {
            let mut sample = Sample {
                interval: Interval {
                    is_load: true,
                    p99_micros: 2_000 + number % 7 * 100,
                    connections: 500 + number % 3,
                    ..Interval::default()
                },
                process: Process {
                    resident_bytes: (20 << 20) + number % 5 * 4_096,
                    files: 520 + number % 3,
                    threads: 4,
                    ..Process::default()
                },
            };
            change(number, &mut sample);
            sample
        };
        (0..100).map(sample).collect()
    }

    #[test]
    fn what_stays_is_no_trend() {
        assert_eq!(missed(&samples(|_, _| ())), [""; 0]);
        // A slow interval now and then, growth at the start, and what comes after the load.
        let noisy = samples(|number, sample| {
            sample.interval.p99_micros += u64::from(number % 10 == 0) * 500_000;
            sample.process.resident_bytes -= 25_u64.saturating_sub(number) << 18;
            sample.process.files += number * u64::from(number % 20 == 0);
        });
        assert_eq!(missed(&noisy), [""; 0]);
        assert_eq!(missed(&noisy[..11]), [""; 0], "too few to tell");
    }

    #[test]
    fn what_grows_is_a_trend() {
        type Leak = fn(u64, &mut Sample);
        let leaks: [(&str, Leak); 4] = [
            ("bytes of memory", |number, it| {
                it.process.resident_bytes += number << 15
            }),
            ("files", |number, it| it.process.files += number / 10),
            ("threads", |number, it| it.process.threads += number / 60),
            ("microseconds", |number, it| {
                it.interval.p99_micros += number * 30
            }),
        ];
        for (name, leak) in leaks {
            let missed = missed(&samples(leak));
            assert_eq!(missed.len(), 1, "{name}: {missed:?}");
            assert!(missed[0].starts_with(name), "{missed:?}");
        }
    }

    #[test]
    fn growth_of_connections_is_none_of_files() {
        let more = samples(|number, it| {
            it.interval.connections += number;
            it.process.files += number;
        });
        assert_eq!(missed(&more), [""; 0]);
    }

    #[test]
    fn targets_are_exact() {
        assert!(
            !Trend {
                before: 100 << 20,
                after: 102 << 20
            }
            .grows_beyond(2, 1 << 20)
        );
        assert!(
            Trend {
                before: 100 << 20,
                after: (102 << 20) + 1
            }
            .grows_beyond(2, 1 << 20)
        );
        assert!(
            !Trend {
                before: 9 << 20,
                after: 10 << 20
            }
            .grows_beyond(2, 1 << 20)
        );
        assert!(
            Trend {
                before: 9 << 20,
                after: (10 << 20) + 1
            }
            .grows_beyond(2, 1 << 20)
        );
    }
}
