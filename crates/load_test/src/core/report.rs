//! What a tester prints: a line of JSON for scripts, whose keys are the fields here, or a table for
//! people (`table`).
//!
//! A tester that reports more than this flattens these types into its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::core::config::RunConfig;
use crate::core::connections::ConnectionCounts;
use crate::core::kind::{Fault, RequestKind};
use crate::core::process::Usage;
use crate::core::run::Used;
use crate::core::stalls::Stalls;
use crate::core::tally::{KindTally, Tally};

mod table;

pub use table::mebibytes;

/// The result of putting load on a tracker.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The tracker's address.
    pub tracker: SocketAddr,
    /// How long was measured.
    pub seconds: f64,
    /// The rate that was asked for; 0: as fast as the tracker answers.
    pub rate_per_second: u32,
    /// Requests of all kinds.
    pub all: KindReport,
    /// Each kind of request, by its key.
    #[serde(flatten, serialize_with = "as_map")]
    pub kinds: Vec<(&'static str, KindReport)>,
    /// Peers per answered announce, on average.
    pub peers_per_announce: f64,
    /// What went wrong.
    pub errors: ErrorReport,
    /// The tracker's CPU time and memory, if its process id was given.
    pub tracker_process: Option<ProcessReport>,
    /// The tester's own, where the system tells.
    pub tester_process: Option<ProcessReport>,
    /// For how long the tester was kept from running; what was due or came then has a longer
    /// latency by no fault of the tracker's. Only at a fixed rate: otherwise the tester sleeps.
    pub tester_stalls: Option<Stalls>,
    /// Connections, if the tester has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionCounts>,
}

/// Requests of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    /// Requests that were due in the time measured. Each is in one of the next four counts.
    pub requests: u64,
    /// Answered in time.
    pub answered: u64,
    /// Answered, but late.
    pub late: u64,
    /// Answered with the reason why not.
    pub refused: u64,
    /// Never answered.
    pub lost: u64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Answers per second that came within the time measured.
    pub answers_per_second: f64,
    /// From due time to answer.
    pub latency_micros: Latency,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The average.
    pub mean: f64,
    /// Half of the answers took no longer.
    pub p50: u64,
    /// 90 % of the answers took no longer.
    pub p90: u64,
    /// 99 % of the answers took no longer.
    pub p99: u64,
    /// 99.9 % of the answers took no longer.
    pub p999: u64,
    /// The slowest answer.
    pub max: u64,
}

/// What went wrong, but for late and lost answers.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorReport {
    /// All of them together.
    pub total: u64,
    /// How often each of the faults occurred that the tester knows.
    #[serde(flatten, serialize_with = "as_map")]
    pub counts: Vec<(Fault, u64)>,
    /// Refusals, by message.
    pub messages: BTreeMap<String, u64>,
}

/// What a process has used while it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessReport {
    /// CPU time per answer, in microseconds.
    pub cpu_micros_per_answer: f64,
    /// The part of it that was spent in the process' own code.
    pub user_micros_per_answer: f64,
    /// The part of it that was spent in the kernel.
    pub system_micros_per_answer: f64,
    /// CPU seconds per second: 1 is one core kept busy.
    pub cores: f64,
    /// Memory at the end.
    pub resident_bytes: u64,
}

impl LoadReport {
    /// Sums up a run of a tester that knows these kinds of requests and these faults.
    #[must_use]
    pub fn new(
        config: &RunConfig,
        (kinds, faults): (&[RequestKind], &[Fault]),
        tally: &Tally,
        used: &Used,
    ) -> Self {
        let all = tally.all_kinds();
        let seconds = f64::from(config.duration_seconds);
        let kind = |kind: &RequestKind| (kind.key(), KindReport::new(tally.kind(*kind), seconds));
        let process = |usage: Usage| ProcessReport::new(&usage, all.received_in_window, seconds);
        Self {
            tracker: config.server_address,
            seconds,
            rate_per_second: config.rate_per_second,
            kinds: kinds.iter().map(kind).collect(),
            peers_per_announce: ratio(to_f64(tally.peers), to_f64(tally.answers_with_peers)),
            errors: ErrorReport::new(faults, tally),
            tracker_process: used.tracker.map(process),
            tester_process: used.tester.map(process),
            tester_stalls: (config.rate_per_second > 0).then_some(tally.stalls.stalls),
            connections: None,
            all: KindReport::new(&all, seconds),
        }
    }
}

impl KindReport {
    fn new(tally: &KindTally, seconds: f64) -> Self {
        let latency = &tally.latency_micros;
        Self {
            requests: tally.sent,
            answered: tally.answered,
            late: tally.late,
            refused: tally.refused,
            lost: tally.lost,
            requests_per_second: ratio(to_f64(tally.sent), seconds),
            answers_per_second: ratio(to_f64(tally.received_in_window), seconds),
            latency_micros: Latency {
                mean: latency.mean(),
                p50: latency.value_at_quantile(0.5),
                p90: latency.value_at_quantile(0.9),
                p99: latency.value_at_quantile(0.99),
                p999: latency.value_at_quantile(0.999),
                max: latency.max(),
            },
        }
    }
}

impl ErrorReport {
    /// Sums up what went wrong.
    #[must_use]
    pub fn new(faults: &[Fault], tally: &Tally) -> Self {
        let count = |fault: &Fault| (*fault, tally.errors(*fault));
        let counts: Vec<_> = faults.iter().map(count).collect();
        let errors: u64 = counts.iter().map(|(_, count)| count).sum();
        Self {
            total: errors + tally.messages.values().sum::<u64>(),
            counts,
            messages: tally.messages.clone(),
        }
    }
}

impl ProcessReport {
    /// Divides what was used in a time by the answers that were given in it.
    #[must_use]
    pub fn new(usage: &Usage, answers: u64, seconds: f64) -> Self {
        let (user, system) = (to_f64(usage.user_micros), to_f64(usage.system_micros));
        let per_answer = |micros| ratio(micros, to_f64(answers));
        Self {
            cpu_micros_per_answer: per_answer(user + system),
            user_micros_per_answer: per_answer(user),
            system_micros_per_answer: per_answer(system),
            cores: ratio(user + system, seconds * 1e6),
            resident_bytes: usage.resident_bytes,
        }
    }
}

/// Writes entries as a map in this order.
pub(crate) fn as_map<S: Serializer>(
    entries: &[(impl Serialize, impl Serialize)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

/// 0 where there is nothing to divide by.
#[must_use]
pub fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 {
        dividend / divisor
    } else {
        0.0
    }
}

/// A time or a count, exact up to 2^53: 285 years of microseconds.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "our numbers are smaller than 2^53"
)]
pub fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tally::Asked;

    const KNOWN: (&[RequestKind], &[Fault]) = (
        &[RequestKind::Announce, RequestKind::Connect],
        &[Fault::Duplicate, Fault::Malformed],
    );

    fn config(rate_per_second: u32, duration_seconds: u32) -> RunConfig {
        RunConfig {
            rate_per_second,
            duration_seconds,
            ..RunConfig::default()
        }
    }

    fn kind<'a>(report: &'a LoadReport, key: &str) -> &'a KindReport {
        let mut kinds = report.kinds.iter();
        &kinds.find(|(name, _)| *name == key).unwrap().1
    }

    /// Two seconds: 1,000 announces of which 900 are answered after 1 to 900 µs, 50 late, 20
    /// refused, 30 lost; and 100 connect requests.
    fn tally() -> Tally {
        let mut tally = Tally::new(0..2_000_000, 1_000_000);
        for number in 1..=1_000 {
            let announce = Asked::new(RequestKind::Announce, 1_000);
            tally.sent(&announce);
            match number {
                1..=900 => {
                    tally.answered(&announce, 1_000 + number);
                    tally.got_peers(&announce, 19);
                }
                901..=950 => tally.answered(&announce, 1_500_000),
                951..=970 => tally.refused(&announce, 1_900_000, b"no"),
                _ => tally.lost(&announce),
            }
        }
        for _ in 0..100 {
            let connect = Asked::new(RequestKind::Connect, 5);
            tally.sent(&connect);
            tally.answered(&connect, 6);
        }
        tally
    }

    fn usage(user_micros: u64, system_micros: u64, resident_bytes: u64) -> Usage {
        Usage {
            user_micros,
            system_micros,
            resident_bytes,
        }
    }

    #[track_caller]
    fn near(value: f64, expected: f64) {
        assert!(
            (value - expected).abs() < 1e-9,
            "{value}, expected {expected}"
        );
    }

    #[test]
    fn load_is_summed_up() {
        let used = Used {
            tracker: Some(usage(1_070, 4_280, 1 << 20)),
            tester: None,
        };
        let report = LoadReport::new(&config(0, 2), KNOWN, &tally(), &used);
        let KindReport {
            requests,
            answered,
            late,
            refused,
            lost,
            ..
        } = *kind(&report, "announce");
        assert_eq!(
            (requests, answered, late, refused, lost),
            (1_000, 900, 50, 20, 30)
        );
        near(kind(&report, "announce").requests_per_second, 500.0);
        near(kind(&report, "announce").answers_per_second, 485.0);
        near(kind(&report, "connect").answers_per_second, 50.0);
        near(report.all.requests_per_second, 550.0);
        near(report.peers_per_announce, 19.0);
        assert_eq!(
            (report.errors.total, report.errors.messages["no"]),
            (20, 20)
        );

        // 970 announces and 100 connect requests were answered.
        let process = report.tracker_process.unwrap();
        near(process.cpu_micros_per_answer, 5.0);
        near(process.user_micros_per_answer, 1.0);
        near(process.system_micros_per_answer, 4.0);
        near(process.cores, 0.002_675);
        assert_eq!(process.resident_bytes, 1 << 20);
        assert_eq!(report.tester_process, None);
    }

    #[test]
    fn percentiles_are_within_one_percent() {
        let report = LoadReport::new(&config(0, 2), KNOWN, &tally(), &Used::default());
        let latency = kind(&report, "announce").latency_micros;
        for (value, expected) in [
            (latency.p50, 485),
            (latency.p90, 873),
            (latency.p99, 1_899_000),
            (latency.max, 1_899_000),
        ] {
            assert!(
                value.abs_diff(expected) <= expected / 100,
                "{value}, expected {expected}"
            );
        }
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        let nothing = Tally::new(0..1, 1);
        let used = Used {
            tracker: Some(usage(1, 1, 1)),
            tester: None,
        };
        let report = LoadReport::new(&config(7, 0), KNOWN, &nothing, &used);
        near(report.all.answers_per_second, 0.0);
        near(report.peers_per_announce, 0.0);
        near(report.tracker_process.unwrap().cpu_micros_per_answer, 0.0);
        assert!(report.to_string().contains("7 requests per second"));
    }

    #[test]
    fn at_a_fixed_rate_the_testers_own_lateness_is_told() {
        let mut tally = tally();
        for now_micros in [100, 200, 5_300, 5_400, 7_900] {
            tally.stalls.look(now_micros);
        }
        let report = LoadReport::new(&config(500, 2), KNOWN, &tally, &Used::default());
        let text = report.to_string();
        let line = "\ntester kept from running: 7.6 ms in all, at most 5.1 ms at a time\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn both_forms_tell_the_same() {
        let report = LoadReport::new(&config(0, 2), KNOWN, &tally(), &Used::default());
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(json["announce"]["lost"], 30);
        assert_eq!(json["errors"]["duplicate"], 0);
        assert_eq!(json["tracker"], "127.0.0.1:3000");
        let text = report.to_string();
        assert!(!text.contains("kept from running"), "it may sleep: {text}");
        let announce = text
            .lines()
            .find(|line| line.starts_with("announce"))
            .unwrap();
        let words: Vec<&str> = announce.split_whitespace().collect();
        assert_eq!(
            words,
            ["announce", "500", "485", "1000", "900", "50", "20", "30"]
        );
        assert!(text.contains("20 refused: no"), "{text}");
    }
}
