//! Figures and a history that are as large as a tracker can make them, for tests of their size: all
//! protocols, each reason that `documents/metrics.md` has, five years of a busy tracker, more
//! clients than are shown, and a full hour.

use std::sync::Arc;
use std::time::Duration;

use super::collector::tests::figures_of;
use super::environment::{Loaded, Persistence, Thread};
use super::history::{History, SLOTS_MAX};
use super::part::{Connections, Distribution, FamilyFigures, Part, ResponseTimes};
use super::{ByLabel, Figures, Rates, Swarms};
use crate::metrics::approximate;

/// What operators read, which a test compares with what is exported.
const DOCUMENT: &str = include_str!("../../../../../documents/metrics.md");

const YEARS: u64 = 5 * 365 * 86_400;
/// What a busy machine serves per second, and a busy interface carries in bytes.
const REQUESTS_PER_SECOND: u64 = 7_654_321;
const BYTES_PER_SECOND: u64 = 1_234_567_891;
/// Workers of a large machine, and some threads that each tracker has.
const THREADS: usize = 64;

pub(crate) fn figures() -> Figures {
    let parts = ["udp", "http", "ws"].map(part);
    let mut figures = figures_of(YEARS, parts.to_vec(), &[Arc::new(clients())]);
    figures.time = 1_924_991_999.123;
    figures.uptime_seconds += 0.123;
    for family in [&mut figures.ipv4, &mut figures.ipv6] {
        family.peers_per_torrent = Some(distribution());
    }
    let environment = &mut figures.environment;
    environment.process.cpu_seconds = Some(9_876_543_210.123);
    environment.process.cpus_busy = Some(63.987);
    environment.process.resident_memory_bytes = Some(987_654_321_098);
    environment.process.open_files = Some(1_048_575);
    environment.process.open_files_max = Some(1_048_576);
    let threads = (0..THREADS).map(|number| Thread {
        name: format!("ws-swarm-{number}"),
        cpu_seconds: 154_320_987.654,
        load: Some(0.987),
    });
    environment.threads = threads.collect();
    let loaded = loaded();
    environment.access_list = Some(loaded);
    environment.denied_networks = Some(loaded);
    environment.keys = Some(loaded);
    environment.configuration = Some(loaded);
    environment.persistence = Some(persistence());
    figures
}

/// An hour of such figures, in which no value is a short one.
pub(crate) fn history() -> History {
    let mut history = History::default();
    let mut figures = figures();
    for slot in 1..=SLOTS_MAX as u64 {
        let wave = (slot * 7_919) % 3_333_331;
        figures.swarms.torrents = 12_345_678 + wave;
        figures.swarms.seeders = 123_456_789 + 10 * wave;
        figures.swarms.leechers = 123_456_789 + 7 * wave;
        figures.ipv4.connections = Some(1_000_000 + wave);
        let wave = approximate(wave) / 10.0;
        figures.environment.process.cpus_busy = Some(12.345 + wave / 7e3);
        for family in figures.protocols.iter_mut() {
            for rates in [&mut family.ipv4.rates, &mut family.ipv6.rates] {
                rates.requests = 1_234_567.8 + wave;
            }
            if let Some(times) = &mut family.response_time {
                times.p99_seconds = Some(0.012_345 + wave / 1e8);
            }
        }
        figures.rates.responses = 7_654_321.0 - wave;
        figures.rates.dropped = 123_456.7 + wave;
        figures.rates.refused = 654_321.0 + wave;
        figures.rates.received_bytes = 987_654_321.0 + wave;
        figures.rates.sent_bytes = 1_987_654_321.0 - wave;
        history.add(slot, &figures);
    }
    history
}

/// Twice as many as are shown, with the longest name that there is.
fn clients() -> crate::metrics::report::ShardReport {
    let report = crate::metrics::report::ShardReport::default();
    let versions = b"ABCDEFGHIJ";
    report.set_clients((0..100_usize).map(|number| {
        let digits = [versions[number / 10], versions[number % 10]];
        let prefix = [b'-', b'l', b't', digits[0], digits[1], b'H', b'I', b'-'];
        (prefix, 123_456_789 + number)
    }));
    report
}

fn part(name: &'static str) -> Part {
    let mut part = Part::of(&crate::launch::Counted::<
        crate::metrics::counters::test_protocol::Bees,
    >::of(Vec::new(), Vec::new()));
    let (is_http, has_connections) = (name == "http", name != "udp");
    part.name = name;
    part.is_one_of_several = true;
    part.ipv4 = family(name);
    part.ipv6 = family(name);
    part.rates = rates();
    part.queue_batches = 65_535;
    part.cleaning_seconds = Some(Duration::from_millis(98_765));
    part.connections = has_connections.then(|| Connections {
        open: 1_048_575,
        accepted: REQUESTS_PER_SECOND * YEARS,
        refused: numbers(listed("Reasons in `aquatic_connections_refused_total`")),
        closed: numbers(rows("### Connections", 0, |_| true)),
        tls_handshakes: numbers(vec!["full", "resumed", "failed"]),
        accept_failures: REQUESTS_PER_SECOND,
        memory_bytes: 98_765_432_109,
    });
    part.response_time = is_http.then(|| ResponseTimes {
        buckets: Vec::new(),
        count: REQUESTS_PER_SECOND * YEARS,
        sum: 98_765_432_109.123,
        p50_seconds: Some(0.012_345),
        p90_seconds: Some(0.123_456),
        p99_seconds: Some(1.234_567),
    });
    part.persistence = (name == "ws").then(persistence);
    part.tls = has_connections.then_some(loaded());
    part.certificate_expiry_time = has_connections.then_some(1_924_991_999.0);
    part
}

fn family(name: &'static str) -> FamilyFigures {
    let is_own = |trackers: &str| trackers == "all" || trackers.split(", ").any(|it| it == name);
    let types = |column: usize| {
        let row: Vec<&str> = rows_of("## Types")
            .find(|row| row[0] == format!("`aquatic_{name}`"))
            .unwrap();
        let same = row[column].replace("the same", row[1]);
        let quoted: Vec<_> = same.split('`').skip(1).step_by(2).collect();
        numbers(quoted.into_iter().map(leak).collect())
    };
    FamilyFigures {
        // That of HTTP are those of UDP.
        swarms: (name != "http").then_some(Swarms {
            torrents: 12_345_678,
            seeders: 123_456_789,
            leechers: 123_456_789,
            peers: 246_913_578,
            completed: REQUESTS_PER_SECOND * YEARS / 10,
            evicted: REQUESTS_PER_SECOND * YEARS / 10,
        }),
        requests: types(1),
        responses: types(2),
        dropped: numbers(rows("Reasons in `aquatic_dropped_total`", 1, is_own)),
        refused: numbers(rows("Reasons in `aquatic_refused_total`", 1, is_own)),
        received_bytes: BYTES_PER_SECOND * YEARS,
        sent_bytes: BYTES_PER_SECOND * YEARS,
        connections: (name != "udp").then_some(1_048_575),
        peers_per_torrent: Some(distribution()),
        rates: rates(),
    }
}

fn rates() -> Rates {
    Rates {
        requests: 7_654_321.5,
        responses: 7_654_321.5,
        dropped: 7_654_321.5,
        refused: 7_654_321.5,
        received_bytes: 1_234_567_891.5,
        sent_bytes: 1_234_567_891.5,
    }
}

fn distribution() -> Distribution {
    Distribution {
        min: 1,
        p50: 12,
        p90: 1_234,
        p99: 123_456,
        p999: 1_234_567,
        max: 16_777_216,
        mean: 1_234.5,
    }
}

fn loaded() -> Loaded {
    Loaded {
        entries: Some(12_345_678),
        last_reload_successful: false,
        last_reload_time: Some(1_924_991_999.123),
    }
}

fn persistence() -> Persistence {
    Persistence {
        last_write_successful: false,
        last_write_time: Some(1_924_991_999.123),
        file_bytes: Some(98_765_432_109),
    }
}

fn numbers(names: Vec<&'static str>) -> ByLabel {
    assert!(!names.is_empty());
    ByLabel::same(names, REQUESTS_PER_SECOND * YEARS / 10)
}

/// Names of the first column of a table, of those whose column `of` is wanted.
fn rows(heading: &str, of: usize, is_wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let wanted = rows_of(heading).filter(|row| is_wanted(row[of]));
    let cells = wanted.flat_map(|row| row[0].split('`').skip(1).step_by(2).collect::<Vec<_>>());
    cells.collect()
}

/// The table that comes first after some text.
fn rows_of(text: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, rest) = DOCUMENT.split_once(text).unwrap();
    let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
    let table = lines.take_while(|line| line.starts_with('|')).skip(2);
    table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What a sentence lists.
fn listed(text: &str) -> Vec<&'static str> {
    let (_, rest) = DOCUMENT.split_once(text).unwrap();
    let sentence = rest.split("\n\n").next().unwrap();
    sentence.split('`').skip(1).step_by(2).collect()
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}
