//! A row of the table, and whether the tracker has passed.

use std::fmt::{self, Display, Formatter};

use crate::catalogue::{Flood, Protocol};
use crate::honest::Served;
use crate::observer::Observed;

/// The least share of honest requests that must be served.
const SERVED_SHARE_MIN: f64 = 0.99;

/// The same where the tracker is killed in between: half a second of ten is nobody's fault.
const SERVED_SHARE_MIN_WITH_A_RESTART: f64 = 0.95;

/// A tracker that takes so much of its core, in thousandths, has no time for more.
const CPU_PERMILLE_BUSY: u64 = 900;

/// Memory may exceed its bound by a tenth.
const MEMORY_TOLERANCE_PERCENT: u64 = 110;

/// The first lines of the table.
pub const HEAD: &str = "\
| tracker | flood | what the flood did | honest requests served | p50, p99 (ms) | \
memory before, at most (MiB) | TCP buffers (MiB) | CPU | dropped by the kernel |
|---|---|---|---|---|---|---|---|---|";

/// Everything about one run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub flood: Flood,
    /// What the flood did, in words.
    pub done: String,
    /// What honest clients got.
    pub served: Served,
    /// What the tracker took.
    pub observed: Observed,
    /// The most memory that the tracker should take, in MiB; 0 = any.
    pub memory_mib_max: u64,
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

impl Report {
    /// What was missed, each in words.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if self.observed.is_gone || self.observed.restarts != self.flood.kills() {
            missed.push("the tracker has ended".to_owned());
        }
        let share_min = match self.flood.kills() {
            0 => SERVED_SHARE_MIN,
            _ => SERVED_SHARE_MIN_WITH_A_RESTART,
        };
        if self.served.share() < share_min && !self.is_beyond_the_core() {
            let reason = self.served.last_failure.as_deref().unwrap_or("in time");
            missed.push(format!(
                "{:.1} % of honest requests were served, not {:.0} %: {reason}",
                self.served.share() * 100.0,
                share_min * 100.0
            ));
        }
        let (before, most) = (
            mib(self.observed.resident_bytes_before),
            mib(self.observed.resident_bytes_max),
        );
        let bounds = [
            (most, self.memory_mib_max, "in all"),
            (
                most.saturating_sub(before),
                self.flood.memory_mib,
                "more than before",
            ),
        ];
        for (memory, bound, what) in bounds {
            if bound > 0 && memory > bound * MEMORY_TOLERANCE_PERCENT / 100 {
                missed.push(format!(
                    "{memory} MiB of memory {what}, for a bound of {bound}"
                ));
            }
        }
        missed
    }

    /// Whether a core that works all the time explains what was not served: over UDP, what it is
    /// late for is dropped by the kernel.
    fn is_beyond_the_core(&self) -> bool {
        let unserved = self.served.due - self.served.latencies_micros.len() as u64;
        self.flood.protocol == Protocol::Udp
            && self.observed.cpu_permille >= CPU_PERMILLE_BUSY
            && self.observed.dropped_by_kernel >= unserved
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            flood,
            done,
            served,
            observed,
            ..
        } = self;
        let protocol = flood.protocol;
        let lost = match served.lost_connections {
            0 => String::new(),
            lost => format!(", {lost} reconnects"),
        };
        write!(
            f,
            "| {protocol} | {} | {done} | {:.1} % of {}{lost} | {:.1}, {:.1} | {}, {} | {} | \
             {} % | {} |",
            flood.about,
            served.share() * 100.0,
            served.due,
            served.latency_ms(50),
            served.latency_ms(99),
            mib(observed.resident_bytes_before),
            mib(observed.resident_bytes_max),
            mib(observed.tcp_bytes_max),
            observed.cpu_permille / 10,
            observed.dropped_by_kernel,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn report(served: usize, dropped_by_kernel: u64) -> Report {
        Report {
            flood: catalogue::find(Protocol::Udp, "connects").unwrap(),
            done: "7 datagrams".to_owned(),
            served: Served {
                due: 1_000,
                latencies_micros: vec![1_500; served],
                last_failure: Some("no answer".to_owned()),
                ..Served::default()
            },
            observed: Observed {
                resident_bytes_before: 20 << 20,
                resident_bytes_max: 110 << 20,
                tcp_bytes_max: 9 << 20,
                cpu_permille: 437,
                dropped_by_kernel,
                restarts: 0,
                is_gone: false,
            },
            memory_mib_max: 100,
        }
    }

    #[test]
    fn targets_are_exact() {
        assert!(report(990, 0).missed().is_empty());
        let missed = report(989, 0).missed();
        assert!(
            missed[0].contains("98.9 %") && missed[0].ends_with("no answer"),
            "{missed:?}"
        );
        assert_eq!(report(900, 100).missed().len(), 1, "its core was not busy");
        let mut busy = report(900, 100);
        busy.observed.cpu_permille = 900;
        assert!(busy.missed().is_empty(), "is the kernel's doing");
        busy.observed.dropped_by_kernel = 99;
        assert_eq!(busy.missed().len(), 1, "what became of the other one?");
        busy.observed.dropped_by_kernel = 100;
        busy.flood = catalogue::find(Protocol::Http, "none").unwrap();
        assert_eq!(busy.missed().len(), 1, "over TCP it comes again");
        let mut large = report(1_000, 0);
        large.observed.resident_bytes_max = 111 << 20;
        assert_eq!(
            large.missed(),
            ["111 MiB of memory in all, for a bound of 100"]
        );
        large.flood.memory_mib = 82;
        large.memory_mib_max = 0;
        let missed = ["91 MiB of memory more than before, for a bound of 82"];
        assert_eq!(large.missed(), missed);
        large.flood.memory_mib = 83;
        large.memory_mib_max = 0;
        assert!(large.missed().is_empty());
        large.observed.is_gone = true;
        assert_eq!(large.missed(), ["the tracker has ended"]);
    }

    #[test]
    fn a_kill_is_expected_where_it_belongs_to_the_flood() {
        let mut killed = report(950, 0);
        killed.observed.restarts = 1;
        assert!(
            killed
                .missed()
                .contains(&"the tracker has ended".to_owned())
        );
        killed.flood = catalogue::find(Protocol::Udp, "restart").unwrap();
        assert!(killed.missed().is_empty(), "{:?}", killed.missed());
        killed.observed.restarts = 0;
        assert!(!killed.missed().is_empty(), "it was not restarted");
    }

    #[test]
    fn a_row_has_the_columns_of_the_head() {
        let row = report(1_000, 3).to_string();
        let expected = "| udp | connects | 7 datagrams | 100.0 % of 1000 | 1.5, 1.5 | 20, 110 | \
                        9 | 43 % | 3 |";
        assert_eq!(row, expected);
        let columns = |line: &str| line.matches('|').count();
        assert!(HEAD.lines().all(|line| columns(line) == columns(&row)));
    }
}
