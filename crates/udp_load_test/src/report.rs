//! What the tester prints: a line of JSON for scripts, whose keys are the fields here, or a table
//! for people (`table`).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::plan::{RequestKind, to_f64};
use crate::process::Usage;
use crate::tally::{KindTally, StrangeAnswers, Tally};

mod table;

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
    /// Connect requests.
    pub connect: KindReport,
    /// Announces.
    pub announce: KindReport,
    /// Scrapes.
    pub scrape: KindReport,
    /// Peers per answered announce, on average.
    pub peers_per_announce: f64,
    /// What went wrong.
    pub errors: ErrorReport,
    /// The tracker's CPU time and memory, if its process id was given.
    pub tracker_process: Option<ProcessReport>,
    /// The tester's own, where the system tells.
    pub tester_process: Option<ProcessReport>,
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
    /// Answered with an error packet.
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
    /// Second answers to one request.
    pub duplicate: u64,
    /// Answers to requests that were never sent, or that had been given up.
    pub unknown_transaction: u64,
    /// Datagrams that are no answers.
    pub malformed: u64,
    /// Answers of another kind than the request.
    pub wrong_kind: u64,
    /// Answers with too many peers, or another number of torrents than asked for.
    pub wrong_count: u64,
    /// Requests that the tester's own system refused to send; they count as lost too.
    pub send_failures: u64,
    /// Error packets, by message.
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

/// The result of filling a tracker.
#[derive(Clone, Debug, Serialize)]
pub struct FillReport {
    /// The tracker's address.
    pub tracker: SocketAddr,
    /// Torrents that were announced.
    pub torrents: u64,
    /// Peers that were announced.
    pub peers: u64,
    /// How long it took.
    pub seconds: f64,
    /// Peers that were refused by an error packet.
    pub refused: u64,
    /// Announces that had to be repeated because no answer came.
    pub repeated: u64,
    /// What went wrong.
    pub errors: ErrorReport,
    /// CPU time, if the tracker's process id was given.
    pub tracker_process: Option<ProcessReport>,
    /// Memory, if the tracker's process id was given.
    pub memory: Option<MemoryReport>,
}

/// How much memory a population takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Before the first announce.
    pub resident_bytes_before: u64,
    /// A moment after the last one.
    pub resident_bytes_after: u64,
    /// What was added, per torrent.
    pub bytes_per_torrent: f64,
    /// What was added, per peer.
    pub bytes_per_peer: f64,
}

impl LoadReport {
    /// Sums up a run. Usages are those of the time measured: CPU times from its start to its end.
    #[must_use]
    pub fn new(
        (tracker, rate_per_second): (SocketAddr, u32),
        seconds: f64,
        tally: &Tally,
        tracker_usage: Option<Usage>,
        tester_usage: Option<Usage>,
    ) -> Self {
        let all = tally.all_kinds();
        let kind = |kind| KindReport::new(tally.kind(kind), seconds);
        let process = |usage: Usage| ProcessReport::new(&usage, all.received_in_window, seconds);
        let announces = tally.kind(RequestKind::Announce);
        Self {
            tracker,
            seconds,
            rate_per_second,
            connect: kind(RequestKind::Connect),
            announce: kind(RequestKind::Announce),
            scrape: kind(RequestKind::Scrape),
            peers_per_announce: ratio(
                to_f64(tally.peers),
                to_f64(announces.answered + announces.late),
            ),
            errors: ErrorReport::new(tally),
            tracker_process: tracker_usage.map(process),
            tester_process: tester_usage.map(process),
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
    fn new(tally: &Tally) -> Self {
        let StrangeAnswers {
            duplicate,
            unknown_transaction,
            malformed,
            wrong_kind,
            wrong_count,
        } = tally.strange;
        let strange = duplicate + unknown_transaction + malformed + wrong_kind + wrong_count;
        Self {
            total: strange + tally.send_failures + tally.messages.values().sum::<u64>(),
            duplicate,
            unknown_transaction,
            malformed,
            wrong_kind,
            wrong_count,
            send_failures: tally.send_failures,
            messages: tally.messages.clone(),
        }
    }
}

impl ProcessReport {
    fn new(usage: &Usage, answers: u64, seconds: f64) -> Self {
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

impl FillReport {
    /// Sums up a run. `usages`: the tracker's before and after, if they are known.
    #[must_use]
    pub fn new(
        tracker: SocketAddr,
        (torrents, peers): (u64, u64),
        seconds: f64,
        tally: &Tally,
        usages: Option<(Usage, Usage)>,
    ) -> Self {
        let announces = tally.kind(RequestKind::Announce);
        let memory = |(before, after): (Usage, Usage)| {
            let added = to_f64(after.resident_bytes) - to_f64(before.resident_bytes);
            MemoryReport {
                resident_bytes_before: before.resident_bytes,
                resident_bytes_after: after.resident_bytes,
                bytes_per_torrent: ratio(added, to_f64(torrents)),
                bytes_per_peer: ratio(added, to_f64(peers)),
            }
        };
        let answers = tally.all_kinds().received_in_window;
        Self {
            tracker,
            torrents,
            peers,
            seconds,
            refused: announces.refused,
            repeated: announces.sent.saturating_sub(peers),
            errors: ErrorReport::new(tally),
            tracker_process: usages
                .map(|(before, after)| ProcessReport::new(&after.since(&before), answers, seconds)),
            memory: usages.map(memory),
        }
    }
}

/// 0 where there is nothing to divide by.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 {
        dividend / divisor
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_flight::Asked;

    fn tracker() -> SocketAddr {
        "127.0.0.1:3000".parse().unwrap()
    }

    fn asked(kind: RequestKind, due_micros: u64) -> Asked {
        Asked {
            kind,
            item: 0,
            due_micros,
        }
    }

    /// Two seconds: 1,000 announces of which 900 are answered after 1 to 900 µs, 50 late, 20
    /// refused, 30 lost; and 100 connects.
    fn tally() -> Tally {
        let mut tally = Tally::new(0..2_000_000);
        for number in 1..=1_000 {
            let announce = asked(RequestKind::Announce, 1_000);
            tally.sent(&announce);
            match number {
                1..=900 => {
                    tally.answered(&announce, 1_000 + number, false);
                    tally.got_peers(&announce, 19);
                }
                901..=950 => tally.answered(&announce, 1_500_000, true),
                951..=970 => tally.refused(&announce, 1_900_000, b"no"),
                _ => tally.lost(&announce),
            }
        }
        for _ in 0..100 {
            let connect = asked(RequestKind::Connect, 5);
            tally.sent(&connect);
            tally.answered(&connect, 6, false);
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
        let tracker_usage = Some(usage(1_070, 4_280, 1 << 20));
        let report = LoadReport::new((tracker(), 0), 2.0, &tally(), tracker_usage, None);
        let KindReport {
            requests,
            answered,
            late,
            refused,
            lost,
            ..
        } = report.announce;
        assert_eq!(
            (requests, answered, late, refused, lost),
            (1_000, 900, 50, 20, 30)
        );
        near(report.announce.requests_per_second, 500.0);
        near(report.announce.answers_per_second, 485.0);
        near(report.connect.answers_per_second, 50.0);
        near(report.all.requests_per_second, 550.0);
        near(report.peers_per_announce, 18.0);
        assert_eq!(
            (report.errors.total, report.errors.messages["no"]),
            (20, 20)
        );

        // 970 announces and 100 connects were answered.
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
        let latency = LoadReport::new((tracker(), 0), 2.0, &tally(), None, None)
            .announce
            .latency_micros;
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
        let nothing = Tally::new(0..1);
        let report = LoadReport::new((tracker(), 7), 0.0, &nothing, Some(usage(1, 1, 1)), None);
        near(report.all.answers_per_second, 0.0);
        near(report.peers_per_announce, 0.0);
        near(report.tracker_process.unwrap().cpu_micros_per_answer, 0.0);
        assert!(report.to_string().contains("7 requests per second"));
    }

    #[test]
    fn memory_is_what_was_added() {
        let usages = Some((usage(0, 0, 1_000_000), usage(0, 0, 9_000_000)));
        let report = FillReport::new(tracker(), (100, 400), 1.0, &tally(), usages);
        let memory = report.memory.unwrap();
        near(memory.bytes_per_torrent, 80_000.0);
        near(memory.bytes_per_peer, 20_000.0);
        assert_eq!((report.repeated, report.refused), (600, 20));
    }

    #[test]
    fn both_forms_tell_the_same() {
        let report = LoadReport::new((tracker(), 0), 2.0, &tally(), None, None);
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(json["announce"]["lost"], 30);
        assert_eq!(json["tracker"], "127.0.0.1:3000");
        let text = report.to_string();
        let announce = text
            .lines()
            .find(|line| line.starts_with("announce"))
            .unwrap();
        let words: Vec<&str> = announce.split_whitespace().collect();
        assert_eq!(
            words,
            ["announce", "500", "485", "1000", "900", "50", "20", "30"]
        );
        assert!(text.contains("20 error packets: no"), "{text}");
    }
}
