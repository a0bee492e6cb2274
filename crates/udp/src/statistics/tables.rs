//! What people get to see: tables of words and figures, not yet laid out. Pure.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use aquatic_tracker::metrics::{FamilySample, Traffic, approximate};
use aquatic_types::IpFamily;
use hdrhistogram::Histogram;

use crate::counters::{Label as _, Reason, ReasonLabel as _, RequestKind, ResponseKind, Udp};

use super::Sample;

/// Rows in the table of clients.
const CLIENTS_SHOWN: usize = 20;

/// A figure that is not known.
const UNKNOWN: &str = "-";

/// What the tables are about.
#[derive(Debug)]
pub(super) struct Period {
    /// Its end, for people: `2026-01-31 23:59:59 UTC`.
    pub(super) end: String,
    /// Since the beginning of statistics, which is that of the daemon: `1 d 02:03:04`.
    pub(super) uptime: String,
    /// Its length, in seconds: `5.0`. Rates are averages over it.
    pub(super) seconds: String,
}

impl Period {
    pub(super) fn between(previous: &Sample, current: &Sample, end: SystemTime) -> Self {
        Self {
            end: calendar_time(end),
            uptime: long_duration(current.at),
            seconds: format!("{:.1}", elapsed(previous, current).as_secs_f64()),
        }
    }
}

/// Figures with the same columns.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: &'static str,
    /// Headings of the columns, all but the first, which holds the names of the rows.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl Table {
    fn new(title: &'static str, columns: Vec<String>) -> Self {
        Self {
            title,
            columns,
            rows: Vec::new(),
        }
    }

    /// A table with a column for each family.
    fn by_family(title: &'static str, families: &[Family<'_>]) -> Self {
        Self::new(
            title,
            families
                .iter()
                .map(|family| family.name.to_owned())
                .collect(),
        )
    }

    /// Adds a row with a figure of each family.
    fn push(
        &mut self,
        name: impl Into<String>,
        families: &[Family<'_>],
        figure: impl Fn(&Family<'_>) -> String,
    ) {
        let figures = families.iter().map(figure).collect();
        self.rows.push(Row {
            name: name.into(),
            figures,
        });
    }
}

/// A name and a figure for each column.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) figures: Vec<String>,
}

/// Makes all tables that have something to say.
pub(super) fn tables(previous: &Sample, current: &Sample) -> Vec<Table> {
    let families = families(previous, current);
    let all = [
        traffic(&families),
        swarms(&families),
        losses(&families),
        clients(current),
        workers(current),
    ];
    all.into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

/// One IP family at the end of the period, and what happened in it.
struct Family<'a> {
    name: &'static str,
    totals: &'a FamilySample<Udp>,
    added: Traffic<Udp>,
    elapsed: Duration,
}

impl Family<'_> {
    fn is_used(&self) -> bool {
        self.totals.traffic.received_bytes > 0 || self.totals.torrents > 0
    }

    fn per_second(&self, count: u64) -> String {
        grouped(format!("{:.1}", self.rate(approximate(count))))
    }

    fn megabits_per_second(&self, bytes: u64) -> String {
        let megabits = approximate(bytes) * 8.0 / 1e6;
        grouped(format!("{:.2}", self.rate(megabits)))
    }

    fn rate(&self, amount: f64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { amount / seconds } else { 0.0 }
    }
}

/// The families that have been used; IPv4 if none has been, so that there is something to see.
fn families<'a>(previous: &Sample, current: &'a Sample) -> Vec<Family<'a>> {
    let family = |family| {
        let totals = current.families.get(family);
        Family {
            name: match family {
                IpFamily::V4 => "IPv4",
                IpFamily::V6 => "IPv6",
            },
            totals,
            added: totals.traffic.since(&previous.families.get(family).traffic),
            elapsed: elapsed(previous, current),
        }
    };
    let [v4, v6] = IpFamily::ALL.map(family);
    match (v4.is_used(), v6.is_used()) {
        (true, true) => vec![v4, v6],
        (false, true) => vec![v6],
        (_, false) => vec![v4],
    }
}

fn elapsed(previous: &Sample, current: &Sample) -> Duration {
    current.at.saturating_sub(previous.at)
}

fn traffic(families: &[Family<'_>]) -> Table {
    let mut table = Table::by_family("Traffic", families);
    for kind in RequestKind::ALL {
        table.push(format!("{} requests/s", kind.label()), families, |family| {
            family.per_second(family.added.requests.of(*kind))
        });
    }
    for kind in ResponseKind::ALL {
        table.push(
            format!("{} responses/s", kind.label()),
            families,
            |family| family.per_second(family.added.responses.of(*kind)),
        );
    }
    table.push("received Mbit/s", families, |family| {
        family.megabits_per_second(family.added.received_bytes)
    });
    table.push("sent Mbit/s", families, |family| {
        family.megabits_per_second(family.added.sent_bytes)
    });
    table
}

fn swarms(families: &[Family<'_>]) -> Table {
    let mut table = Table::by_family("Swarms", families);
    table.push("torrents", families, |family| {
        grouped(family.totals.torrents)
    });
    table.push("peers", families, |family| grouped(family.totals.peers));
    if families
        .iter()
        .all(|family| family.totals.peers_per_torrent.is_none())
    {
        return table;
    }
    for (name, figure) in PEERS_PER_TORRENT {
        table.push(
            format!("peers per torrent, {name}"),
            families,
            |family| match &family.totals.peers_per_torrent {
                Some(histogram) if !histogram.is_empty() => figure(histogram),
                _ => UNKNOWN.to_owned(),
            },
        );
    }
    table
}

/// A figure that tells something about a distribution.
type DistributionFigure = fn(&Histogram<u32>) -> String;

/// What is told about the distribution of peers over torrents.
const PEERS_PER_TORRENT: [(&str, DistributionFigure); 7] = [
    ("min", |histogram| grouped(histogram.min())),
    ("p50", |histogram| grouped(histogram.value_at_quantile(0.5))),
    ("p90", |histogram| grouped(histogram.value_at_quantile(0.9))),
    ("p99", |histogram| {
        grouped(histogram.value_at_quantile(0.99))
    }),
    ("p99.9", |histogram| {
        grouped(histogram.value_at_quantile(0.999))
    }),
    ("max", |histogram| grouped(histogram.max())),
    ("mean", |histogram| {
        grouped(format!("{:.1}", histogram.mean()))
    }),
];

/// What went wrong since the start, and whether it still does.
fn losses(families: &[Family<'_>]) -> Table {
    let columns = families.iter().flat_map(|family| {
        [
            format!("{} total", family.name),
            format!("{} /s", family.name),
        ]
    });
    let mut table = Table::new("Not served", columns.collect());
    for reason in Reason::ALL {
        if families
            .iter()
            .all(|family| family.totals.traffic.reasons.of(*reason) == 0)
        {
            continue;
        }
        let outcome = if reason.is_refusal() {
            "refused"
        } else {
            "dropped"
        };
        let figures = families.iter().flat_map(|family| {
            let total = family.totals.traffic.reasons.of(*reason);
            [
                grouped(total),
                family.per_second(family.added.reasons.of(*reason)),
            ]
        });
        table.rows.push(Row {
            name: format!("{outcome}: {}", reason.label().replace('_', " ")),
            figures: figures.collect(),
        });
    }
    table
}

fn clients(current: &Sample) -> Table {
    let clients = current.clients();
    let peers: u64 = clients.iter().map(|(_, peers)| peers).sum();
    let rows = clients.iter().take(CLIENTS_SHOWN).map(|(client, count)| {
        let percent = 100.0 * approximate(*count) / approximate(peers);
        Row {
            name: client.to_string(),
            figures: vec![grouped(count), format!("{percent:.1} %")],
        }
    });
    let columns = vec!["peers".to_owned(), "share".to_owned()];
    Table {
        rows: rows.collect(),
        ..Table::new("Clients", columns)
    }
}

fn workers(current: &Sample) -> Table {
    let row = |name: &str, figure| Row {
        name: name.to_owned(),
        figures: vec![figure],
    };
    let cleaning_ms = current.cleaning_max.as_secs_f64() * 1e3;
    let mut table = Table::new("Workers", vec!["all".to_owned()]);
    table
        .rows
        .push(row("batches in queues", grouped(current.queue_batches)));
    table.rows.push(row(
        "last cleaning, ms",
        grouped(format!("{cleaning_ms:.1}")),
    ));
    table
}

/// A number that is not negative, with a comma between thousands.
fn grouped(number: impl Display) -> String {
    let number = number.to_string();
    let integer_digits = number.find('.').unwrap_or(number.len());
    let mut grouped = String::with_capacity(number.len() + integer_digits / 3);
    for (place, character) in number.chars().enumerate() {
        if place > 0 && place < integer_digits && (integer_digits - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}

/// Days, hours, minutes and seconds.
fn long_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    format!(
        "{days} d {:02}:{:02}:{:02}",
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

fn calendar_time(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::counters::WorkerCounters;
    use aquatic_tracker::metrics::report::{ShardReport, empty_histograms};

    use super::*;

    fn figures<'a>(tables: &'a [Table], title: &str, row: &str) -> Option<&'a [String]> {
        let table = tables.iter().find(|table| table.title == title)?;
        let row = table.rows.iter().find(|other| other.name == row)?;
        assert_eq!(row.figures.len(), table.columns.len());
        Some(&row.figures)
    }

    #[test]
    fn rates_are_over_the_time_that_has_passed() {
        let worker = Arc::new(WorkerCounters::default());
        let take =
            |seconds| Sample::take(Duration::from_secs(seconds), &[Arc::clone(&worker)], &[]);
        let v4 = worker.traffic(IpFamily::V4);
        v4.received_bytes.add(1);
        v4.requests(RequestKind::Announce).add(1_000_000);
        v4.reason(Reason::QueueFull).add(4);
        let previous = take(10);
        v4.requests(RequestKind::Announce).add(4_936);
        v4.sent_bytes.add(1_000_000);
        v4.reason(Reason::ConnectionId).add(6);
        worker.swarms(IpFamily::V6).torrents.set(1_234_567);
        let current = take(14);
        let tables = tables(&previous, &current);

        let row = |title, name| figures(&tables, title, name).map(|figures| figures.join(" "));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(row("Traffic", "announce requests/s"), some("1,234.0 0.0"));
        assert_eq!(row("Traffic", "connect responses/s"), some("0.0 0.0"));
        assert_eq!(row("Traffic", "sent Mbit/s"), some("2.00 0.00"));
        assert_eq!(row("Swarms", "torrents"), some("0 1,234,567"));
        assert_eq!(row("Swarms", "peers per torrent, max"), None);
        assert_eq!(
            row("Not served", "dropped: queue full"),
            some("4 0.0 0 0.0")
        );
        assert_eq!(
            row("Not served", "refused: connection id"),
            some("6 1.5 0 0.0")
        );
        assert_eq!(row("Not served", "refused: peer limit"), None);
        assert!(tables.iter().all(|table| table.title != "Clients"));
    }

    #[test]
    fn families_without_use_are_left_out() {
        let worker = Arc::new(WorkerCounters::default());
        let take = || Sample::take(Duration::ZERO, &[Arc::clone(&worker)], &[]);
        let columns = || {
            let (previous, current) = (take(), take());
            tables(&previous, &current)[0].columns.join(" ")
        };
        assert_eq!(columns(), "IPv4");
        worker.traffic(IpFamily::V6).received_bytes.add(1);
        assert_eq!(columns(), "IPv6");
        worker.traffic(IpFamily::V4).received_bytes.add(1);
        assert_eq!(columns(), "IPv4 IPv6");
    }

    #[test]
    fn peers_per_torrent_and_clients_are_shown_if_they_are_counted() {
        let report = Arc::new(ShardReport::default());
        let mut histograms = empty_histograms();
        for peers in 1..=100 {
            histograms.v4.record(peers).unwrap();
        }
        report.set_histograms(histograms);
        let clients = (10..40).map(|version: usize| {
            let prefix = format!("-qB4{version}0-").into_bytes();
            (prefix.try_into().unwrap(), version)
        });
        report.set_clients(clients);
        let current = Sample::take(Duration::ZERO, &[], &[report]);
        let tables = tables(&current, &current);

        for (name, expected) in [
            ("min", "1"),
            ("p50", "50"),
            ("p99.9", "100"),
            ("max", "100"),
            ("mean", "50.5"),
        ] {
            let name = format!("peers per torrent, {name}");
            assert_eq!(figures(&tables, "Swarms", &name).unwrap(), [expected]);
        }
        let clients = tables
            .iter()
            .find(|table| table.title == "Clients")
            .unwrap();
        assert_eq!(clients.rows.len(), CLIENTS_SHOWN);
        assert_eq!(clients.rows[0].name, "qBittorrent 4.3.9");
        assert_eq!(clients.rows[0].figures, ["39", "5.3 %"]);
    }

    #[test]
    fn thousands_are_told_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(grouped("1234567.891"), "1,234,567.891");
        assert_eq!(grouped("123.4"), "123.4");
    }

    #[test]
    fn times_are_readable() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_322_984);
        assert_eq!(calendar_time(end), "2026-01-02 03:03:04 UTC");
        assert_eq!(
            long_duration(Duration::from_secs(2 * 86_400 + 3_723)),
            "2 d 01:02:03"
        );
    }
}
