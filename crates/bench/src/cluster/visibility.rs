//! How soon a peer that has announced at one node is known at another.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;

use crate::cluster::udp::{Client, Swarm};
use crate::cluster::{Context, Table, load_all, millis};
use crate::trackers::Protocol;

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(1);

/// A peer that is not known after this has got lost.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// How often nodes publish (`cluster.flush_interval`).
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How long the load lasts before the first probe.
const WARM_UP: Duration = Duration::from_secs(3);

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
    #[arg(long, value_name = "RATE", default_value_t = 100_000)]
    pub visibility_rate: u32,
    /// visibility: peers that are waited for, over all pairs of nodes.
    #[arg(long, value_name = "PROBES", default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub visibility_probes: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let count = usize::from(self.visibility_nodes);
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = Some(server.url());
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let loads = load_all(
            &nodes,
            self.visibility_rate / u32::from(self.visibility_nodes),
        )?;
        thread::sleep(WARM_UP);

        let clients = nodes.iter().map(|node| Client::connect(FROM, node.address));
        let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
        let pairs = pairs(count);
        let mut times = Vec::new();
        let (clock, before) = (
            Clock::start(),
            loads.iter().map(super::Load::answered).sum::<u64>(),
        );
        for (probe, (from, to)) in (0..self.visibility_probes).zip(pairs.iter().cycle()) {
            context.interrupt.check()?;
            thread::sleep(rest_before(probe));
            times.push(probe_once(&mut clients, (*from, *to), probe)?);
        }
        let after = loads.iter().map(super::Load::answered).sum::<u64>();
        let rate = super::per_second(after - before, clock.elapsed());
        let mut lost = 0;
        for load in loads {
            lost += load.end()?.lost();
        }

        let mut table = Table::new("visibility");
        table.add_quantiles("known at another node after", "ms", times);
        table.add("answers per second beside it", "1/s", rate);
        table.add("of these lost", "answers", super::to_f64(lost));
        Ok(table)
    }
}

/// All pairs of different nodes, in both directions.
fn pairs(count: usize) -> Vec<(usize, usize)> {
    let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// A probe ends just after nodes have published: the next would always wait for the whole interval
/// if it began at once. These rests are spread evenly over the default interval.
fn rest_before(probe: u32) -> Duration {
    let [first, ..] = info_hash(SEED, probe).0;
    FLUSH_INTERVAL * u32::from(first) / 256
}

/// Milliseconds until a new peer is known at another node.
fn probe_once(
    clients: &mut [Client],
    (from, to): (usize, usize),
    probe: u32,
) -> anyhow::Result<f64> {
    let torrent = info_hash(SEED, probe);
    let clock = Clock::start();
    let Ok([at, asked]) = clients.get_disjoint_mut([from, to]) else {
        bail!("there are no two nodes");
    };
    at.announce(torrent, 6_881)?;
    while asked.scrape(torrent)? == Swarm(0) {
        if clock.elapsed() > KNOWN_MAX {
            bail!(
                "a peer is not known at another node after {} s",
                KNOWN_MAX.as_secs()
            );
        }
        thread::sleep(PAUSE);
    }
    Ok(millis(clock.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_begin_at_any_time_between_two_publications() {
        let rests = (0..1_000).map(|probe| rest_before(probe).as_secs_f64() * 1e3);
        let rests: Vec<f64> = rests.collect();
        let count = |from: f64| {
            let within = rests
                .iter()
                .filter(|rest| (from..from + 25.0).contains(*rest));
            within.count()
        };
        for from in [0.0, 25.0, 50.0, 75.0] {
            assert!((200..300).contains(&count(from)), "{from}: {}", count(from));
        }
    }

    #[test]
    fn each_node_is_asked_about_each_other() {
        assert_eq!(pairs(2), [(0, 1), (1, 0)]);
        assert_eq!(pairs(3).len(), 6);
    }
}
