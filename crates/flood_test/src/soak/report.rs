//! A row for the documents, and what was missed.

use std::fmt::{self, Display, Formatter};

use super::driver::Driven;
use super::operator::Operated;
use super::samples::Sample;
use super::trend::{self, Trend};
use crate::catalogue::Protocol;

/// Answers of WebTorrent that reach those who have made the offers, of all that are given. Who
/// offers may have gone meanwhile.
const FORWARDED_PERCENT_MIN: u64 = 90;

/// The first lines of the table.
pub const HEAD: &str = "\
| tracker | requests | peers, torrents | CPU | memory (MiB) | files beyond connections | \
p99 (ms) | sent again | connections | refused by the list, reloads | metrics | compared at the end |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Everything about one run.
#[derive(Debug)]
pub struct Report {
    pub(super) protocol: Protocol,
    pub(super) seconds: u32,
    pub(super) torrents: u32,
    pub(super) has_list: bool,
    pub(super) driven: Driven,
    pub(super) operated: Operated,
}

impl Report {
    /// What was missed, each in words.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let Driven {
            faults,
            denied,
            offers,
            answers,
            compared,
            ..
        } = &self.driven;
        let mut missed = faults.first.clone();
        let more = faults.count - missed.len() as u64;
        if more > 0 {
            missed.push(format!("{more} more faults"));
        }
        if *compared != u64::from(self.torrents) {
            missed.push(format!(
                "{compared} torrents were compared, of {}",
                self.torrents
            ));
        }
        if self.has_list && *denied == 0 {
            missed.push("the access list has denied nothing".to_owned());
        }
        let is_ws = self.protocol == Protocol::Ws;
        if is_ws && (*answers == 0 || answers * 100 < offers * FORWARDED_PERCENT_MIN) {
            missed.push(format!(
                "of {offers} answers to offers, {answers} were forwarded"
            ));
        }
        missed.extend(trend::missed(&self.operated.samples));
        missed
    }

    fn cpu_percent(&self) -> u64 {
        let samples = self.operated.samples.iter();
        let load = samples.filter(|sample| sample.interval.is_load);
        let cpu: Vec<u64> = load.map(|sample| sample.process.cpu_permille).collect();
        cpu.iter().sum::<u64>() / (cpu.len() as u64).max(1) / 10
    }

    /// The medians of the second and the last quarter.
    fn trend(&self, value: impl Fn(&Sample) -> u64, show: impl Fn(u64) -> String) -> String {
        match Trend::of(&self.operated.samples, value) {
            Some(trend) => format!("{} → {}", show(trend.before), show(trend.after)),
            None => "too short".to_owned(),
        }
    }
}

/// With a digit after the point, of a number of thousandths.
fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 1_000, thousandths % 1_000 / 100)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let driven = &self.driven;
        let protocol = self.protocol;
        let memory = self.trend(
            |sample| sample.process.resident_bytes,
            |bytes| tenths((bytes >> 10) * 1_000 / 1_024),
        );
        let files = self.trend(Sample::other_files, |files| files.to_string());
        let p99 = self.trend(|sample| sample.interval.p99_micros, tenths);
        let offers = match self.protocol {
            Protocol::Ws => format!(", {} of {} answers", driven.answers, driven.offers),
            Protocol::Udp | Protocol::Http => String::new(),
        };
        write!(
            f,
            "| {protocol} | {} in {} s{offers} | {}, {} | {} % | {memory} | {files} | {p99} | {} | \
             {} | {}, {} | {} | {} torrents, downloads of {}: {} |",
            driven.requests,
            self.seconds,
            driven.peers,
            self.torrents,
            self.cpu_percent(),
            driven.repeated,
            driven.opened,
            driven.denied,
            self.operated.reloads,
            self.operated.scrapes,
            driven.compared,
            driven.compared_downloads,
            match driven.faults.count {
                0 => "equal".to_owned(),
                faults => format!("{faults} faults"),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::driver::Faults;
    use crate::soak::samples::{Interval, Process};

    fn report(protocol: Protocol) -> Report {
        let sample = Sample {
            interval: Interval {
                is_load: true,
                p99_micros: 1_250,
                connections: 10,
                ..Interval::default()
            },
            process: Process {
                resident_bytes: 20 << 20,
                files: 21,
                cpu_permille: 187,
                ..Process::default()
            },
        };
        Report {
            protocol,
            seconds: 60,
            torrents: 50,
            has_list: true,
            driven: Driven {
                requests: 9_000,
                denied: 4,
                opened: 30,
                offers: 100,
                answers: 90,
                compared: 50,
                compared_downloads: 40,
                peers: 400,
                ..Driven::default()
            },
            operated: Operated {
                samples: vec![sample; 24],
                reloads: 6,
                scrapes: 12,
            },
        }
    }

    #[test]
    fn a_row_has_the_columns_of_the_head() {
        let row = report(Protocol::Ws).to_string();
        let expected = "| ws | 9000 in 60 s, 90 of 100 answers | 400, 50 | 18 % | 20.0 → 20.0 | \
                        11 → 11 | 1.2 → 1.2 | 0 | 30 | 4, 6 | 12 | \
                        50 torrents, downloads of 40: equal |";
        assert_eq!(row, expected);
        let columns = |line: &str| line.matches('|').count();
        assert!(HEAD.lines().all(|line| columns(line) == columns(&row)));
    }

    #[test]
    fn each_target_can_be_missed() {
        assert_eq!(report(Protocol::Ws).missed(), [""; 0]);
        type Harm = fn(&mut Report);
        let harms: [(&str, Harm); 5] = [
            ("a fault", |it| {
                it.driven.faults = Faults {
                    count: 1,
                    first: vec!["a fault".to_owned()],
                };
            }),
            ("49 torrents", |it| it.driven.compared -= 1),
            ("the access list", |it| it.driven.denied = 0),
            ("of 100 answers", |it| it.driven.answers = 89),
            ("bytes of memory", |it| {
                let last = it.operated.samples.iter_mut().skip(18);
                last.for_each(|sample| sample.process.resident_bytes += 2 << 20);
            }),
        ];
        for (name, harm) in harms {
            let mut report = report(Protocol::Ws);
            harm(&mut report);
            let missed = report.missed();
            assert_eq!(missed.len(), 1, "{name}: {missed:?}");
            assert!(missed[0].starts_with(name), "{missed:?}");
        }
        let mut udp = report(Protocol::Udp);
        udp.driven.answers = 0;
        assert_eq!(udp.missed(), [""; 0], "has no offers");
    }
}
