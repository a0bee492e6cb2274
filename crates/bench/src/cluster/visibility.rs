//! How soon a peer that has announced at one node is known at another.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;

use crate::cluster::load::{Demand, Load};
use crate::cluster::node::Node;
use crate::cluster::udp::{Client, Swarm};
use crate::cluster::{Context, Table, millis, per_second, wait};
use crate::trackers::Protocol;

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(1);

/// A peer that is not known after this has got lost. That is then its time.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// How often nodes publish (`cluster.flush_interval`).
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two probes.
const SPACING: Duration = Duration::from_millis(50);

/// A probe opens its sockets so long before it is due.
const AHEAD: Duration = Duration::from_millis(200);

/// How long the load lasts before the first probe, in seconds.
const WARM_UP_SECONDS: u32 = 2;

/// Torrents of probes are those of another seed than those of the load.
const SEED: u64 = 0x70_726f_6265;

/// Where probes are.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// visibility: UDP nodes.
    #[arg(long, value_name = "NODES", default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(2..=32))]
    pub visibility_nodes: u8,
    /// visibility: announces per second of new peers beside the probes, at all nodes together.
    #[arg(long, value_name = "RATE", default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(32..))]
    pub visibility_rate: u32,
    /// visibility: peers that are looked for, over all pairs of nodes: twenty in a second.
    #[arg(long, value_name = "PROBES", default_value_t = 600,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub visibility_probes: u32,
}

/// A peer that is to announce at one node, and to be found at another.
#[derive(Clone, Copy, Debug)]
struct Probe {
    number: u32,
    announced_at: SocketAddr,
    asked: SocketAddr,
    /// The start of the schedule.
    clock: Clock,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let count = usize::from(self.visibility_nodes);
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = Some(server.url());
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let demand = Demand {
            rate: self.visibility_rate / u32::from(self.visibility_nodes),
            peers: 0..u32::MAX,
        };
        let load = Load::start(&nodes, demand)?;
        wait(WARM_UP_SECONDS, context)?;

        let begun = load.millis();
        let times = self.probe(&nodes, context)?;
        let within = begun..load.millis();
        let answers = load.end()?;
        let late = times.iter().filter(|time| **time >= millis(KNOWN_MAX));
        let late = u32::try_from(late.count())?;

        let mut table = Table::new("visibility");
        table.add_quantiles("known at another node after", "ms", times);
        let name = "not known at another node within 30 s";
        table.add(name, "values", late.into());
        let time = Duration::from_millis((within.end - within.start).into());
        let part = answers.part(within);
        let (sent, answered) = (part.sent, part.answered());
        table.add("announces beside it", "1/s", per_second(sent, time));
        table.add("answers beside it", "1/s", per_second(answered, time));
        part.tell("beside it", &mut table)?;
        Ok(table)
    }

    /// Milliseconds of all probes. Each begins when it is due, whatever has come of those before.
    fn probe(&self, nodes: &[Node], context: &Context<'_>) -> anyhow::Result<Vec<f64>> {
        let clock = Clock::start();
        let pairs = pairs(nodes);
        let mut probes = Vec::new();
        for (number, pair) in (0..self.visibility_probes).zip(pairs.iter().cycle()) {
            let probe = Probe {
                number,
                announced_at: pair.0,
                asked: pair.1,
                clock,
            };
            thread::sleep((due(number) - AHEAD).saturating_sub(clock.elapsed()));
            context.interrupt.check()?;
            probes.push(thread::spawn(move || probe.run()));
        }
        let times = probes.into_iter().map(|probe: JoinHandle<_>| {
            let time: anyhow::Result<Duration> = probe
                .join()
                .map_err(|_| anyhow::anyhow!("a probe has failed"))?;
            time.map(millis)
        });
        times.collect()
    }
}

/// All pairs of different nodes, in both directions.
fn pairs(nodes: &[Node]) -> Vec<(SocketAddr, SocketAddr)> {
    pairs_of(nodes.iter().map(|node| node.address).collect())
}

fn pairs_of<T: Copy + PartialEq>(nodes: Vec<T>) -> Vec<(T, T)> {
    let others = nodes.clone();
    let pairs = nodes
        .into_iter()
        .flat_map(|from| others.iter().map(move |to| (from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// When a probe begins, from the start of the schedule: not always as long before nodes publish,
/// but spread evenly over the default interval.
fn due(number: u32) -> Duration {
    let [first, ..] = info_hash(SEED, number).0;
    AHEAD + SPACING * number + FLUSH_INTERVAL * u32::from(first) / 256
}

impl Probe {
    /// From when it was due until the peer is known at the other node, or is given up.
    fn run(self) -> anyhow::Result<Duration> {
        let torrent = info_hash(SEED, self.number);
        let due = due(self.number);
        let waited = || self.clock.elapsed().saturating_sub(due);
        let mut at = Client::connect(FROM, self.announced_at)?;
        let mut asked = Client::connect(FROM, self.asked)?;
        thread::sleep(due.saturating_sub(self.clock.elapsed()));
        at.announce(torrent, 6_881).context("a probe")?;
        while asked.scrape(torrent)? == Swarm(0) {
            if waited() > KNOWN_MAX {
                return Ok(waited());
            }
            thread::sleep(PAUSE);
        }
        Ok(waited())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_begin_at_any_time_between_two_publications() {
        let phase = |number| due(number) - AHEAD - SPACING * number;
        let phases = (0..1_000).map(|number| phase(number).as_secs_f64() * 1e3);
        let phases: Vec<f64> = phases.collect();
        let count = |from: f64| {
            let within = phases
                .iter()
                .filter(|phase| (from..from + 25.0).contains(*phase));
            within.count()
        };
        for from in [0.0, 25.0, 50.0, 75.0] {
            assert!((200..300).contains(&count(from)), "{from}: {}", count(from));
        }
    }

    #[test]
    fn each_node_is_asked_about_each_other() {
        assert_eq!(pairs_of(vec![0, 1]), [(0, 1), (1, 0)]);
        assert_eq!(pairs_of(vec![0, 1, 2]).len(), 6);
    }
}
