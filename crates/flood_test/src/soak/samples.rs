//! What is seen of a tracker every few seconds, as a line of a table.

use std::fmt::{self, Display, Formatter};
use std::fs;

use anyhow::Context;
use aquatic_load_test::core::process::Usage;
use hdrhistogram::Histogram;

use crate::observer::TrackerProcess;

/// Latencies from one microsecond to one minute, within 1 %.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
const LATENCY_DIGITS: u8 = 2;

/// Requests and answers of some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// When it ends, in seconds from the start.
    pub seconds: u64,
    /// Whether peers come and go.
    pub is_load: bool,
    /// Requests that were sent.
    pub requests: u64,
    /// Answers that were not expected to be refusals, and were.
    pub refused: u64,
    /// Requests that got no answer.
    pub lost: u64,
    /// Datagrams that were sent again, because no answer came.
    pub repeated: u64,
    /// The time from when a request was due to its answer, in microseconds: median.
    pub p50_micros: u64,
    /// What 99 % did not exceed.
    pub p99_micros: u64,
    /// What none exceeded.
    pub max_micros: u64,
    /// Connections of clients.
    pub connections: u64,
}

/// What the kernel tells of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Memory that it occupies, in bytes.
    pub resident_bytes: u64,
    /// Memory that is no file's, in bytes.
    pub anonymous_bytes: u64,
    /// Open files and sockets.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time, in thousandths of a core.
    pub cpu_permille: u64,
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests and answers.
    pub interval: Interval,
    /// The process, at the end of that interval.
    pub process: Process,
}

/// Counts an interval.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) interval: Interval,
    latency_micros: Histogram<u64>,
}

impl Counting {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, LATENCY_DIGITS);
        Self {
            interval: Interval::default(),
            latency_micros: latency.expect("the bounds are constant and in order"),
        }
    }

    pub(super) fn took(&mut self, micros: u64) {
        self.latency_micros.saturating_record(micros);
    }

    /// What was counted; begins the next interval.
    pub(super) fn take(&mut self, seconds: u64, is_load: bool, connections: u64) -> Interval {
        let latency = &self.latency_micros;
        let interval = Interval {
            seconds,
            is_load,
            connections,
            p50_micros: latency.value_at_quantile(0.5),
            p99_micros: latency.value_at_quantile(0.99),
            max_micros: latency.max(),
            ..self.interval
        };
        self.latency_micros.reset();
        self.interval = Interval::default();
        interval
    }
}

impl Process {
    /// Looks at it. `used` is what it has used in `elapsed_micros`.
    pub(super) fn look(
        process: &TrackerProcess,
        used: &Usage,
        elapsed_micros: u64,
    ) -> anyhow::Result<Self> {
        let folder = format!("/proc/{}", process.pid()?);
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let files = fs::read_dir(format!("{folder}/fd")).context("cannot count its files")?;
        let cpu_micros = (used.user_micros + used.system_micros) * 1_000;
        Ok(Self {
            resident_bytes: used.resident_bytes,
            anonymous_bytes: field(&status, "RssAnon:") << 10,
            files: files.count() as u64,
            threads: field(&status, "Threads:"),
            cpu_permille: cpu_micros.checked_div(elapsed_micros).unwrap_or(0),
        })
    }
}

/// The number that follows a name.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

impl Sample {
    /// The first line of the table.
    pub const HEAD: &str = "seconds,is_load,requests,refused,lost,repeated,p50_us,p99_us,max_us,\
                            connections,rss_bytes,rss_anon_bytes,open_files,threads,cpu_permille";

    /// Open files beyond one for each connection.
    #[must_use]
    pub fn other_files(&self) -> u64 {
        self.process.files.saturating_sub(self.interval.connections)
    }

    /// Reads a line of the table.
    ///
    /// # Errors
    /// If it has other columns.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let numbers: Result<Vec<u64>, _> = line.trim().split(',').map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("no row of a soak test: {line:?}"))?;
        let numbers = <[u64; 15]>::try_from(numbers);
        let [
            seconds,
            is_load,
            requests,
            refused,
            lost,
            repeated,
            p50_micros,
            p99_micros,
            max_micros,
            connections,
            resident_bytes,
            anonymous_bytes,
            files,
            threads,
            cpu_permille,
        ] = numbers
            .ok()
            .with_context(|| format!("no row of a soak test: {line:?}"))?;
        Ok(Self {
            interval: Interval {
                seconds,
                is_load: is_load == 1,
                requests,
                refused,
                lost,
                repeated,
                p50_micros,
                p99_micros,
                max_micros,
                connections,
            },
            process: Process {
                resident_bytes,
                anonymous_bytes,
                files,
                threads,
                cpu_permille,
            },
        })
    }
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { interval, process } = self;
        let numbers = [
            interval.seconds,
            interval.is_load.into(),
            interval.requests,
            interval.refused,
            interval.lost,
            interval.repeated,
            interval.p50_micros,
            interval.p99_micros,
            interval.max_micros,
            interval.connections,
            process.resident_bytes,
            process.anonymous_bytes,
            process.files,
            process.threads,
            process.cpu_permille,
        ];
        f.write_str(&numbers.map(|number| number.to_string()).join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let mut counting = Counting::new();
        counting.interval.requests = 3;
        for micros in [100, 200, 9_000] {
            counting.took(micros);
        }
        let sample = Sample {
            interval: counting.take(10, true, 77),
            process: Process {
                resident_bytes: 1 << 25,
                files: 90,
                threads: 5,
                ..Process::default()
            },
        };
        assert!((198..=202).contains(&sample.interval.p50_micros));
        assert_eq!(sample.other_files(), 13);
        let line = sample.to_string();
        assert_eq!(Sample::parse(&line).unwrap(), sample);
        assert_eq!(line.split(',').count(), Sample::HEAD.split(',').count());
        assert_eq!(counting.take(20, true, 0).requests, 0);
        for line in ["", "1,2", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,x"] {
            Sample::parse(line).unwrap_err();
        }
    }

    #[test]
    fn fields_of_the_status_are_found_by_name() {
        let status = "Name:\tx\nVmRSS:\t 9 kB\nRssAnon:\t    2048 kB\nThreads:\t7\n";
        assert_eq!(field(status, "RssAnon:"), 2_048);
        assert_eq!((field(status, "Threads:"), field(status, "No:")), (7, 0));
    }
}
