//! Figures as tables of words and figures, for people: on standard output, in a file of HTML, and
//! on the page of a browser without JavaScript.
//!
//! ```text
//! Figures (what changed since earlier ones) ──▶ tables ─┬─▶ text ──▶ standard output
//!                                                       └─▶ html ──▶ a file
//! ```
//!
//! Tables are pure; `publisher` writes them, every few seconds.

pub(crate) mod html;
mod publisher;
mod text;

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use aquatic_types::IpFamily;

use super::approximate;
use super::figures::{ByLabel, Distribution, FamilyFigures, Figures, Part, Swarms};

pub(crate) use publisher::Publisher;

/// Rows in the table of clients.
const CLIENTS_SHOWN: usize = 20;

/// A figure that is not known.
const UNKNOWN: &str = "-";

/// What the tables are about.
#[derive(Debug)]
pub(crate) struct Period {
    /// `aquatic_udp`.
    pub(super) program: String,
    /// Its end, for people: `2026-01-31 23:59:59 UTC`.
    pub(super) end: String,
    /// Since the start: `1 d 02:03:04`.
    pub(super) uptime: String,
    /// Its length, in seconds: `5.0`. Rates are averages over it.
    pub(super) seconds: String,
}

impl Period {
    pub(crate) fn between(earlier: &Figures, current: &Figures) -> Self {
        let end = Duration::try_from_secs_f64(current.time).unwrap_or_default();
        Self {
            program: current.program.clone(),
            end: calendar_time(SystemTime::UNIX_EPOCH + end),
            uptime: long_duration(current.uptime()),
            seconds: format!("{:.1}", elapsed(earlier, current).as_secs_f64()),
        }
    }
}

fn elapsed(earlier: &Figures, current: &Figures) -> Duration {
    current.awake.saturating_sub(earlier.awake)
}

/// Figures with the same columns.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) title: String,
    /// Headings of the columns, all but the first, which holds the names of the rows.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl Table {
    fn new(title: impl Into<String>, columns: Vec<String>) -> Self {
        Self {
            title: title.into(),
            columns,
            rows: Vec::new(),
        }
    }

    /// A table with a column for each family.
    fn by_family(title: impl Into<String>, families: &[Family]) -> Self {
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
        families: &[Family],
        figure: impl Fn(&Family) -> String,
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
pub(crate) struct Row {
    pub(super) name: String,
    pub(super) figures: Vec<String>,
}

/// Makes all tables that have something to say.
pub(crate) fn tables(earlier: &Figures, current: &Figures) -> Vec<Table> {
    let elapsed = elapsed(earlier, current);
    let mut all = Vec::new();
    let several = current.protocols.len() > 1;
    let title = |what: &str, part: &Part| match several {
        true => format!("{what}, {}", part.name.to_uppercase()),
        false => what.to_owned(),
    };
    let families = |part: &Part| {
        let mut before = earlier.protocols.iter();
        let before = before.find(|other| other.name == part.name);
        let of = |family| {
            let before = before.map(|part| part.family(family).clone());
            let before = before.unwrap_or_default();
            Family::new(family, part.family(family).clone(), before, elapsed)
        };
        used(IpFamily::ALL.map(of))
    };
    for part in &current.protocols {
        all.push(traffic(title("Traffic", part), &families(part)));
    }
    let of_all = [
        (IpFamily::V4, &current.ipv4, &earlier.ipv4),
        (IpFamily::V6, &current.ipv6, &earlier.ipv6),
    ];
    let of_all = of_all.map(|(family, current, earlier)| {
        Family::new(family, current.clone(), earlier.clone(), elapsed)
    });
    all.push(swarms(&used(of_all)));
    for part in &current.protocols {
        all.push(losses(title("Not served", part), &families(part)));
    }
    all.push(clients(current));
    all.push(workers(current));
    all.retain(|table| !table.rows.is_empty());
    all
}

/// One IP family at the end of the period, and at its beginning.
struct Family {
    name: &'static str,
    totals: FamilyFigures,
    before: FamilyFigures,
    elapsed: Duration,
}

impl Family {
    fn new(
        family: IpFamily,
        totals: FamilyFigures,
        before: FamilyFigures,
        elapsed: Duration,
    ) -> Self {
        Self {
            name: match family {
                IpFamily::V4 => "IPv4",
                IpFamily::V6 => "IPv6",
            },
            totals,
            before,
            elapsed,
        }
    }

    fn is_used(&self) -> bool {
        self.totals.received_bytes > 0 || self.swarms().torrents > 0
    }

    fn swarms(&self) -> Swarms {
        self.totals.swarms.unwrap_or_default()
    }

    /// What a number has grown by, per second.
    fn rate(&self, number: impl Fn(&FamilyFigures) -> u64) -> f64 {
        let added = number(&self.totals).saturating_sub(number(&self.before));
        let seconds = self.elapsed.as_secs_f64();
        match seconds > 0.0 {
            true => approximate(added) / seconds,
            false => 0.0,
        }
    }

    fn per_second(&self, number: impl Fn(&FamilyFigures) -> u64) -> String {
        grouped(format!("{:.1}", self.rate(number)))
    }

    fn megabits_per_second(&self, bytes: impl Fn(&FamilyFigures) -> u64) -> String {
        grouped(format!("{:.2}", self.rate(bytes) * 8.0 / 1e6))
    }
}

/// The families that have been used; IPv4 if none has been, so that there is something to see.
fn used([v4, v6]: [Family; 2]) -> Vec<Family> {
    match (v4.is_used(), v6.is_used()) {
        (true, true) => vec![v4, v6],
        (false, true) => vec![v6],
        (_, false) => vec![v4],
    }
}

fn traffic(title: String, families: &[Family]) -> Table {
    /// Where numbers of this kind are.
    type Kind = fn(&FamilyFigures) -> &ByLabel;
    let kinds: [(&str, Kind); 2] = [
        ("requests", |figures| &figures.requests),
        ("responses", |figures| &figures.responses),
    ];
    let mut table = Table::by_family(title, families);
    for (what, kind) in kinds {
        for label in labels(families, kind) {
            table.push(format!("{label} {what}/s"), families, |family| {
                family.per_second(|figures| kind(figures).get(label))
            });
        }
    }
    table.push("received Mbit/s", families, |family| {
        family.megabits_per_second(|figures| figures.received_bytes)
    });
    table.push("sent Mbit/s", families, |family| {
        family.megabits_per_second(|figures| figures.sent_bytes)
    });
    table
}

/// The names of numbers of a kind, which are the same in all families.
fn labels(
    families: &[Family],
    kind: impl Fn(&FamilyFigures) -> &ByLabel,
) -> impl Iterator<Item = &'static str> {
    let numbers = families.first().map(|family| kind(&family.totals).clone());
    let labels: Vec<_> = numbers
        .iter()
        .flat_map(ByLabel::iter)
        .map(|(label, _)| label)
        .collect();
    labels.into_iter()
}

fn swarms(families: &[Family]) -> Table {
    let mut table = Table::by_family("Swarms", families);
    type Number = fn(&Swarms) -> u64;
    let numbers: [(&str, Number); 4] = [
        ("torrents", |swarms| swarms.torrents),
        ("peers", |swarms| swarms.peers),
        ("seeders", |swarms| swarms.seeders),
        ("downloads completed", |swarms| swarms.completed),
    ];
    for (name, number) in numbers {
        table.push(name, families, |family| grouped(number(&family.swarms())));
    }
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
                Some(distribution) => figure(distribution),
                None => UNKNOWN.to_owned(),
            },
        );
    }
    table
}

/// A figure that tells something about a distribution.
type DistributionFigure = fn(&Distribution) -> String;

/// What is told about the distribution of peers over torrents.
const PEERS_PER_TORRENT: [(&str, DistributionFigure); 7] = [
    ("min", |peers| grouped(peers.min)),
    ("p50", |peers| grouped(peers.p50)),
    ("p90", |peers| grouped(peers.p90)),
    ("p99", |peers| grouped(peers.p99)),
    ("p99.9", |peers| grouped(peers.p999)),
    ("max", |peers| grouped(peers.max)),
    ("mean", |peers| grouped(format!("{:.1}", peers.mean))),
];

/// What went wrong since the start, and whether it still does.
fn losses(title: String, families: &[Family]) -> Table {
    /// Where numbers of this outcome are.
    type Outcome = fn(&FamilyFigures) -> &ByLabel;
    let outcomes: [(&str, Outcome); 2] = [
        ("dropped", |figures| &figures.dropped),
        ("refused", |figures| &figures.refused),
    ];
    let columns = families.iter().flat_map(|family| {
        [
            format!("{} total", family.name),
            format!("{} /s", family.name),
        ]
    });
    let mut table = Table::new(title, columns.collect());
    for (outcome, numbers) in outcomes {
        for reason in labels(families, numbers) {
            let total = |family: &Family| numbers(&family.totals).get(reason);
            if families.iter().all(|family| total(family) == 0) {
                continue;
            }
            let figures = families.iter().flat_map(|family| {
                [
                    grouped(total(family)),
                    family.per_second(|figures| numbers(figures).get(reason)),
                ]
            });
            table.rows.push(Row {
                name: format!("{outcome}: {}", reason.replace('_', " ")),
                figures: figures.collect(),
            });
        }
    }
    table
}

fn clients(current: &Figures) -> Table {
    let clients = &current.clients;
    let rows = clients.iter().take(CLIENTS_SHOWN).map(|client| {
        let percent = 100.0 * approximate(client.peers) / approximate(current.clients_peers);
        Row {
            name: client.client.clone(),
            figures: vec![grouped(client.peers), format!("{percent:.1} %")],
        }
    });
    let columns = vec!["peers".to_owned(), "share".to_owned()];
    Table {
        rows: rows.collect(),
        ..Table::new("Clients", columns)
    }
}

fn workers(current: &Figures) -> Table {
    let row = |name: &str, figure| Row {
        name: name.to_owned(),
        figures: vec![figure],
    };
    let parts = &current.protocols;
    let queue_batches: u64 = parts.iter().map(|part| part.queue_batches).sum();
    let cleaning = parts.iter().filter_map(|part| part.cleaning_seconds).max();
    let cleaning_ms = cleaning.unwrap_or_default().as_secs_f64() * 1e3;
    let mut table = Table::new("Workers", vec!["all".to_owned()]);
    table
        .rows
        .push(row("batches in queues", grouped(queue_batches)));
    table.rows.push(row(
        "last cleaning, ms",
        grouped(format!("{cleaning_ms:.1}")),
    ));
    table
}

/// A number that is not negative, with a comma between thousands.
pub(crate) fn grouped(number: impl Display) -> String {
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
pub(crate) fn long_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    format!(
        "{days} d {:02}:{:02}:{:02}",
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

pub(crate) fn calendar_time(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::launch::Counted;
    use crate::metrics::counters::WorkerCounters;
    use crate::metrics::counters::test_protocol::{Bees, Reason, RequestKind};
    use crate::metrics::figures::collector::tests::figures_of;
    use crate::metrics::report::{ShardReport, empty_histograms};

    fn row<'a>(tables: &'a [Table], title: &str, row: &str) -> Option<&'a [String]> {
        let table = tables.iter().find(|table| table.title == title)?;
        let row = table.rows.iter().find(|other| other.name == row)?;
        assert_eq!(row.figures.len(), table.columns.len());
        Some(&row.figures)
    }

    fn counted(reports: Vec<Arc<ShardReport>>) -> Counted<Bees> {
        Counted::of(vec![Arc::new(WorkerCounters::default())], reports)
    }

    #[test]
    fn a_machine_that_was_asleep_served_nobody_meanwhile() {
        let counted = counted(Vec::new());
        let take = |seconds| figures_of(seconds, vec![Part::of(&counted)], &[]);
        let (earlier, mut current) = (take(100), take(104));
        current.uptime_seconds += 3_600.0;
        let period = Period::between(&earlier, &current);
        assert_eq!(period.uptime, "0 d 01:01:44");
        assert_eq!(period.seconds, "4.0");
    }

    #[test]
    fn rates_are_over_the_time_that_has_passed() {
        let counted = counted(Vec::new());
        let take = |seconds| figures_of(seconds, vec![Part::of(&counted)], &[]);
        let [worker] = &*counted.workers else {
            unreachable!()
        };
        let v4 = worker.traffic(IpFamily::V4);
        v4.received_bytes.add(1);
        v4.requests(RequestKind::Announce).add(1_000_000);
        v4.reason(Reason::TooShort).add(4);
        let previous = take(10);
        v4.requests(RequestKind::Announce).add(4_936);
        v4.sent_bytes.add(1_000_000);
        v4.reason(Reason::PeerLimit).add(6);
        worker.swarms(IpFamily::V6).torrents.set(1_234_567);
        worker.swarms(IpFamily::V6).completed.set(12);
        let tables = tables(&previous, &take(14));

        let row = |title, name| row(&tables, title, name).map(|figures| figures.join(" "));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(row("Traffic", "announce requests/s"), some("1,234.0 0.0"));
        assert_eq!(row("Traffic", "error responses/s"), some("0.0 0.0"));
        assert_eq!(row("Traffic", "sent Mbit/s"), some("2.00 0.00"));
        assert_eq!(row("Swarms", "torrents"), some("0 1,234,567"));
        assert_eq!(row("Swarms", "downloads completed"), some("0 12"));
        assert_eq!(row("Swarms", "peers per torrent, max"), None);
        assert_eq!(row("Not served", "dropped: too short"), some("4 0.0 0 0.0"));
        assert_eq!(
            row("Not served", "refused: peer limit"),
            some("6 1.5 0 0.0")
        );
        assert!(tables.iter().all(|table| table.title != "Clients"));
    }

    #[test]
    fn each_protocol_has_tables_of_its_own() {
        let of = |name| Part {
            name,
            ..Part::of(&counted(Vec::new()))
        };
        let figures = figures_of(1, vec![of("ants"), of("bees")], &[]);
        let tables = tables(&figures, &figures);
        let titles: Vec<_> = tables.iter().map(|table| &*table.title).collect();
        assert_eq!(
            titles,
            ["Traffic, ANTS", "Traffic, BEES", "Swarms", "Workers"]
        );
    }

    #[test]
    fn families_without_use_are_left_out() {
        let counted = counted(Vec::new());
        let columns = || {
            let figures = figures_of(1, vec![Part::of(&counted)], &[]);
            tables(&figures, &figures)[0].columns.join(" ")
        };
        let worker = &counted.workers[0];
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
        let reports = [report];
        let part = Part::of(&counted(reports.to_vec()));
        let current = figures_of(1, vec![part], &reports);
        let tables = tables(&current, &current);

        for (name, expected) in [
            ("min", "1"),
            ("p50", "50"),
            ("p99.9", "100"),
            ("max", "100"),
            ("mean", "50.5"),
        ] {
            let name = format!("peers per torrent, {name}");
            assert_eq!(row(&tables, "Swarms", &name).unwrap(), [expected]);
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
