//! CPU time per answer of nodes in a cluster, and of the same nodes each by itself.

use crate::cluster::steady::{Run, Steady};
use crate::cluster::table::Column;
use crate::cluster::{Context, Table};
use crate::order::there_and_back;
use crate::trackers::Protocol;

/// For how long each rate is tried, in seconds.
const TRY_SECONDS: u32 = 10;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// cost: UDP nodes.
    #[arg(long, value_name = "NODES", default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(2..=32))]
    pub cost_nodes: u8,
    /// cost: announces per second at each node.
    #[arg(long, value_name = "RATE", default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub cost_rate: u32,
    /// cost: raise the rate by a quarter, for as long as all nodes of a cluster answer everything,
    /// and measure at the highest one.
    #[arg(long)]
    pub cost_highest: bool,
    /// cost: seconds after which each peer announces again.
    #[arg(long, value_name = "SECONDS", default_value_t = 14,
        value_parser = clap::value_parser!(u32).range(1..=1_800))]
    pub cost_interval: u32,
    /// cost: seconds within which each peer is published again, a power of two.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = parse_refresh)]
    pub cost_refresh: u32,
    /// cost: every announce is of a peer that was not there before.
    #[arg(long)]
    pub cost_new_peers: bool,
    /// cost: nodes by themselves know the peers of all nodes before it is measured, as those of a
    /// cluster do.
    #[arg(long, conflicts_with = "cost_new_peers")]
    pub cost_known: bool,
    /// cost: for how long each run is measured, at least one refresh interval.
    #[arg(long, value_name = "SECONDS", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub cost_seconds: u32,
    /// cost: pairs of runs.
    #[arg(long, value_name = "PAIRS", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub cost_pairs: u32,
}

pub(crate) fn parse_refresh(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds.is_power_of_two() && seconds <= 512 => Ok(seconds),
        _ => Err("must be a power of two, at most 512".to_owned()),
    }
}

/// What is told of the runs of either kind.
const FIGURES: [Column<Run>; 6] = [
    ("CPU time per answer", "µs", |run| run.micros_per_answer),
    ("peers per answer", "peers", |run| run.peers),
    ("peers known to each node", "peers", |run| run.known),
    ("sent to each node", "1/s", |run| run.sent),
    ("answered by each node", "1/s", |run| run.answered),
    ("answers lost", "answers", |run| run.lost),
];

/// Of nodes in a cluster.
const FIGURES_OF_CLUSTERS: [Column<Run>; 3] = [
    ("records published per answer", "records", |run| {
        run.published
    }),
    ("records received per answer", "records", |run| run.received),
    ("CPU time of the server per answer", "µs", |run| {
        run.server_micros
    }),
];

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        // So that a missing program is told before anything is measured.
        context.setup(Protocol::Udp)?;
        let mut steady = Steady {
            nodes: self.cost_nodes,
            rate: self.cost_rate,
            interval: self.cost_interval,
            refresh: self.cost_refresh,
            is_new: self.cost_new_peers,
            knows_all: self.cost_known,
            seconds: self.cost_seconds,
        };
        if self.cost_highest {
            steady.rate = highest(self.cost_rate, |rate| {
                let seconds = TRY_SECONDS.min(self.cost_seconds);
                let tried = Steady {
                    rate,
                    seconds,
                    ..steady
                };
                tried.is_answered(context)
            })?;
        }
        let mut runs: [Vec<Run>; 2] = Default::default();
        for turn in there_and_back(2, self.cost_pairs) {
            let run = steady.measure(context, turn.contender == 0)?;
            if let Some(runs) = runs.get_mut(turn.contender) {
                runs.push(run);
            }
        }
        let mut table = Table::new("cost");
        tell(&runs, &mut table);
        Ok(table)
    }
}

/// The last rate at which everything is answered, each a quarter more than the one before.
fn highest(
    first: u32,
    mut is_answered: impl FnMut(u32) -> anyhow::Result<bool>,
) -> anyhow::Result<u32> {
    let (mut found, mut next) = (None, first);
    while is_answered(next)? {
        found = Some(next);
        next = next.saturating_add(next.div_ceil(4));
    }
    found.ok_or_else(|| anyhow::anyhow!("{first} per second are not all answered: begin with less"))
}

fn tell([on, off]: &[Vec<Run>; 2], table: &mut Table) {
    for (kind, runs) in [("in a cluster", on), ("each by itself", off)] {
        for (what, unit, value) in FIGURES {
            table.add_spread(&format!("{kind}: {what}"), unit, runs.iter().map(value));
        }
    }
    for (what, unit, value) in FIGURES_OF_CLUSTERS {
        let name = format!("in a cluster: {what}");
        table.add_spread(&name, unit, on.iter().map(value));
    }
    let pairs = on.iter().zip(off);
    let ratios = pairs.map(|(on, off)| on.micros_per_answer / off.micros_per_answer);
    table.add_spread("ratio of neighbours in time", "", ratios);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_interval_is_a_power_of_two() {
        assert_eq!(parse_refresh("32"), Ok(32));
        for text in ["0", "30", "1024", "x"] {
            let error = parse_refresh(text).unwrap_err();
            assert!(error.contains("power of two"), "{text}: {error}");
        }
    }

    #[test]
    fn the_highest_rate_is_the_last_that_is_answered() {
        assert_eq!(highest(100, |rate| Ok(rate <= 160)).unwrap(), 157);
        assert_eq!(highest(1, |rate| Ok(rate <= 2)).unwrap(), 2);
        let error = highest(100, |_| Ok(false)).unwrap_err().to_string();
        assert!(error.contains("100"), "{error}");
        assert!(highest(100, |_| anyhow::bail!("no")).is_err());
    }
}
