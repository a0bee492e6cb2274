//! How CPU time per answer grows with the number of nodes.
//!
//! A node answers its own clients, and takes in what the others tell. If nothing else grows, CPU
//! time per answer is a straight line over the records that come with each answer.

use crate::cluster::cost::{Run, Steady, parse_refresh};
use crate::cluster::{Context, Table};
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
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=120))]
    pub growth_interval: u32,
    /// growth: seconds within which each peer is published again, a power of two. That is measured
    /// for so long, too.
    #[arg(long, value_name = "SECONDS", default_value_t = 32, value_parser = parse_refresh)]
    pub growth_refresh: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        // So that a missing program is told before anything is measured.
        context.setup(Protocol::Udp)?;
        let mut table = Table::new("growth");
        let mut points = Vec::new();
        for nodes in NODES {
            let steady = Steady {
                nodes,
                rate: self.growth_rate,
                interval: self.growth_interval,
                refresh: self.growth_refresh,
            };
            let Run {
                micros_per_answer,
                received,
                lost,
                ..
            } = steady.measure(context, true)?;
            let name = format!("nodes: {nodes}");
            table.add(
                format!("{name}, CPU time per answer"),
                "µs",
                micros_per_answer,
            );
            table.add(
                format!("{name}, records received per answer"),
                "records",
                received,
            );
            table.add(format!("{name}, answers lost"), "answers", lost);
            points.push((received, micros_per_answer));
        }
        if let [first, second, (received, micros)] = *points
            && let Some(expected) = on_line(first, second, received)
        {
            table.add(
                "most nodes, by a straight line through the others",
                "µs",
                expected,
            );
            table.add("most nodes, measured to that", "", micros / expected);
        }
        Ok(table)
    }
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
