//! How CPU time per answer grows with the number of nodes.
//!
//! A node answers its own clients, and takes in what the others tell. If nothing else grows, CPU
//! time per answer is a straight line over the records that come with each answer.

use crate::cluster::cost::parse_refresh;
use crate::cluster::steady::{Run, Steady};
use crate::cluster::table::Column;
use crate::cluster::{Context, Table};
use crate::order::there_and_back;
use crate::statistics::Spread;
use crate::trackers::Protocol;

/// Numbers of nodes: the first two make the line, the third is held against it.
const NODES: [u8; 3] = [1, 2, 4];

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// growth: announces per second at each node.
    #[arg(long, value_name = "RATE", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub growth_rate: u32,
    /// growth: seconds after which each peer announces again.
    #[arg(long, value_name = "SECONDS", default_value_t = 14,
        value_parser = clap::value_parser!(u32).range(1..=1_800))]
    pub growth_interval: u32,
    /// growth: seconds within which each peer is published again, a power of two.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = parse_refresh)]
    pub growth_refresh: u32,
    /// growth: for how long each run is measured, at least one refresh interval.
    #[arg(long, value_name = "SECONDS", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub growth_seconds: u32,
    /// growth: runs with each number of nodes.
    #[arg(long, value_name = "ROUNDS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub growth_rounds: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        // So that a missing program is told before anything is measured.
        context.setup(Protocol::Udp)?;
        let mut runs: [Vec<Run>; 3] = Default::default();
        for turn in there_and_back(NODES.len(), self.growth_rounds) {
            let Some((nodes, runs)) = NODES.iter().zip(&mut runs).nth(turn.contender) else {
                continue;
            };
            let steady = Steady {
                nodes: *nodes,
                rate: self.growth_rate,
                interval: self.growth_interval,
                refresh: self.growth_refresh,
                is_new: false,
                knows_all: false,
                seconds: self.growth_seconds,
            };
            runs.push(steady.measure(context, true)?);
        }
        let mut table = Table::new("growth");
        tell(&runs, &mut table);
        Ok(table)
    }
}

fn tell(runs: &[Vec<Run>; 3], table: &mut Table) {
    for (nodes, runs) in NODES.iter().zip(runs) {
        let figures: [Column<Run>; 5] = [
            ("CPU time per answer", "µs", |run| run.micros_per_answer),
            ("records received per answer", "records", |run| run.received),
            ("peers per answer", "peers", |run| run.peers),
            ("answered by each node", "1/s", |run| run.answered),
            ("answers lost", "answers", |run| run.lost),
        ];
        for (what, unit, value) in figures {
            let name = format!("nodes: {nodes}, {what}");
            table.add_spread(&name, unit, runs.iter().map(value));
        }
    }
    // Runs of one round are neighbours in time: each round has a line of its own.
    let [first, second, third] = runs;
    let rounds = first.iter().zip(second).zip(third);
    let expected = rounds.filter_map(|((first, second), third)| {
        let point = |run: &Run| (run.received, run.micros_per_answer);
        let expected = on_line(point(first), point(second), third.received)?;
        Some((expected, third.micros_per_answer))
    });
    let expected: Vec<_> = expected.collect();
    let line = Spread::of(expected.iter().map(|(expected, _)| *expected));
    if let Some(line) = line {
        let name = "most nodes, by a straight line through the others";
        table.add(name, "µs", line.median);
    }
    let ratios = expected.iter().map(|(expected, micros)| micros / expected);
    table.add_spread("most nodes, measured to that", "", ratios);
}

/// The straight line through two points, at another place; `None` if it is upright.
fn on_line(first: (f64, f64), second: (f64, f64), at: f64) -> Option<f64> {
    let width = second.0 - first.0;
    (width > 0.0).then(|| first.1 + (second.1 - first.1) / width * (at - first.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on() {
        let value = on_line((0.0, 2.0), (0.5, 2.5), 1.5).unwrap();
        assert!((value - 3.5).abs() < 1e-9, "{value}");
        assert_eq!(on_line((1.0, 2.0), (1.0, 3.0), 2.0), None);
    }
}
