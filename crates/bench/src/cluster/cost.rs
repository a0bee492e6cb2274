//! CPU time per answer of nodes in a cluster, and of the same nodes each by itself.

use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;

use crate::cluster::load::Load;
use crate::cluster::node::Node;
use crate::cluster::{Context, Table, loads, to_f64};
use crate::order;
use crate::statistics::Spread;
use crate::trackers::Protocol;

const PAUSE: Duration = Duration::from_millis(50);

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
    /// cost: seconds after which each peer announces again.
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=120))]
    pub cost_interval: u32,
    /// cost: seconds within which each peer is published again, a power of two. That is measured
    /// for so long, too.
    #[arg(long, value_name = "SECONDS", default_value_t = 32, value_parser = parse_refresh)]
    pub cost_refresh: u32,
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

/// A load that lasts, of peers that announce again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    pub(crate) nodes: u8,
    /// Announces per second at each node.
    pub(crate) rate: u32,
    /// Seconds after which each peer announces again, and within which it is published again.
    pub(crate) interval: u32,
    pub(crate) refresh: u32,
}

/// What one run has come to, all nodes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) micros_per_answer: f64,
    /// Records that were published, and received, per answer.
    pub(crate) published: f64,
    pub(crate) received: f64,
    /// Answers that did not come.
    pub(crate) lost: f64,
}

/// What nodes have counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cpu_micros: u64,
    answered: u64,
    published: f64,
    received: f64,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let mut table = Table::new("cost");
        let steady = Steady {
            nodes: self.cost_nodes,
            rate: self.cost_rate,
            interval: self.cost_interval,
            refresh: self.cost_refresh,
        };
        let mut runs: [Vec<Run>; 2] = Default::default();
        for turn in order::alternating(2, self.cost_pairs) {
            let run = steady.measure(context, turn.contender == 0)?;
            if let Some(runs) = runs.get_mut(turn.contender) {
                runs.push(run);
            }
        }
        let [on, off] = runs;
        let median = |runs: &[Run], value: fn(&Run) -> f64| Spread::of(runs.iter().map(value));
        for (name, runs) in [("in a cluster", &on), ("each by itself", &off)] {
            if let Some(micros) = median(runs, |run| run.micros_per_answer) {
                table.add(
                    format!("{name}: CPU time per answer, median"),
                    "µs",
                    micros.median,
                );
            }
            let lost = runs.iter().map(|run| run.lost).sum();
            table.add(format!("{name}: answers lost"), "answers", lost);
        }
        for (name, value) in [
            (
                "records published per answer",
                (|run| run.published) as fn(&Run) -> f64,
            ),
            ("records received per answer", |run| run.received),
        ] {
            if let Some(share) = median(&on, value) {
                table.add(format!("in a cluster: {name}"), "records", share.median);
            }
        }
        let pairs = on.iter().zip(&off);
        let ratios = pairs.map(|(on, off)| on.micros_per_answer / off.micros_per_answer);
        if let Some(ratio) = Spread::of(ratios) {
            table.add("ratio of neighbours in time, median", "", ratio.median);
            table.add("ratio of neighbours in time, smallest", "", ratio.min);
            table.add("ratio of neighbours in time, largest", "", ratio.max);
        }
        Ok(table)
    }
}

impl Steady {
    /// Measures for one refresh interval.
    pub(crate) fn measure(self, context: &Context<'_>, is_in_cluster: bool) -> anyhow::Result<Run> {
        let place = context.place()?;
        let server = is_in_cluster.then(|| place.server(context)).transpose()?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = server.as_ref().map(super::Server::url);
        setup.refresh_interval = self.refresh;
        let count = usize::from(self.nodes);
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let peers = self.rate.saturating_mul(self.interval);
        let loads = loads(&nodes, self.rate, 0..peers)?;
        // All peers are there when each has announced once.
        wait(self.interval + 2, context)?;
        let before = count_all(&nodes, &loads)?;
        wait(self.refresh, context)?;
        let after = count_all(&nodes, &loads)?;
        let mut lost = 0;
        for load in loads {
            lost += load.end()?.lost();
        }
        let answers = to_f64(after.answered - before.answered);
        anyhow::ensure!(answers > 0.0, "nobody was answered");
        Ok(Run {
            micros_per_answer: to_f64(after.cpu_micros - before.cpu_micros) / answers,
            published: (after.published - before.published) / answers,
            received: (after.received - before.received) / answers,
            lost: to_f64(lost),
        })
    }
}

fn wait(seconds: u32, context: &Context<'_>) -> anyhow::Result<()> {
    let clock = Clock::start();
    while clock.elapsed() < Duration::from_secs(seconds.into()) {
        context.interrupt.check()?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn count_all(nodes: &[Node], loads: &[Load]) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for (node, load) in nodes.iter().zip(loads) {
        let usage = node.usage()?;
        counts.cpu_micros += usage.user_micros + usage.system_micros;
        counts.answered += load.answered();
        // A node by itself has none of these.
        let metrics = node.metrics()?;
        let sum = |name| metrics.sum(name).unwrap_or(0.0);
        counts.published += sum("aquatic_cluster_records_published_total");
        counts.received += sum("aquatic_cluster_records_received_total");
    }
    Ok(counts)
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
}
