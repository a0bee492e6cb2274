//! What clients notice while the server is gone, and how soon all is known after.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use aquatic_types::InfoHash;

use crate::cluster::load::{Answers, Load};
use crate::cluster::node::Node;
use crate::cluster::udp::{Client, Swarm};
use crate::cluster::{Context, MEBIBYTE, Server, Table, loads, to_f64};
use crate::statistics::quantile;
use crate::trackers::Protocol;

const NODES: usize = 2;

/// How often processes are looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// A node that has not caught up after this will not.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(120);

/// Torrents that show what has been caught up with are of another seed than the load.
const SEED: u64 = 0x6d_6172_6b73;

/// Where their peers are.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 98);

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// outage: announces per second of new peers at each of two nodes.
    #[arg(long, value_name = "RATE", default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub outage_rate: u32,
    /// outage: for how long the server is gone, and for how long answers are looked at without
    /// that.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    pub outage_seconds: u32,
}

/// The most of what was seen now and then.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident_max: u64,
    buffered_max: f64,
}

impl Memory {
    fn look(&mut self, nodes: &[Node]) -> anyhow::Result<()> {
        for node in nodes {
            self.resident_max = self.resident_max.max(node.usage()?.resident_bytes);
            let buffered = node.metrics()?.require("aquatic_cluster_buffered_bytes")?;
            self.buffered_max = self.buffered_max.max(buffered);
        }
        Ok(())
    }
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let place = context.place()?;
        let mut server = place.server(context)?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = Some(server.url());
        let nodes = setup.start_all(place.folder(), NODES, context.interrupt)?;
        let mut table = Table::new("outage");

        let before = most_resident(&nodes)?;
        let load = self.load(&nodes, 0)?;
        let mut memory = Memory::default();
        self.watch(&nodes, &mut memory, context)?;
        tell(&mut table, "without an outage", load)?;
        add_growth(&mut table, "without an outage", before, memory);

        let before = most_resident(&nodes)?;
        let load = self.load(&nodes, 1)?;
        let mut memory = Memory::default();
        server.kill();
        let marks = self.mark(&nodes, 0)?;
        self.watch(&nodes, &mut memory, context)?;
        let marks = [marks, self.mark(&nodes, 1)?].concat();
        let seconds = catch_up(&mut server, &nodes, &marks, context)?;
        memory.look(&nodes)?;
        tell(&mut table, "with an outage", load)?;
        add_growth(&mut table, "with an outage", before, memory);
        let buffered = memory.buffered_max / MEBIBYTE;
        table.add("most that waited to be published", "MiB", buffered);
        table.add(
            "all known at the other node after the server's return",
            "s",
            seconds,
        );
        Ok(table)
    }

    /// New peers in each of the two parts.
    fn load(&self, nodes: &[Node], part: u32) -> anyhow::Result<Vec<Load>> {
        let half = u32::MAX / 2;
        loads(nodes, self.outage_rate, part * half..(part + 1) * half)
    }

    fn watch(
        &self,
        nodes: &[Node],
        memory: &mut Memory,
        context: &Context<'_>,
    ) -> anyhow::Result<()> {
        let clock = Clock::start();
        while clock.elapsed() < Duration::from_secs(self.outage_seconds.into()) {
            context.interrupt.check()?;
            memory.look(nodes)?;
            thread::sleep(10 * PAUSE);
        }
        Ok(())
    }

    /// Announces one peer at each node, each in a torrent of its own.
    fn mark(&self, nodes: &[Node], time: u32) -> anyhow::Result<Vec<(usize, InfoHash)>> {
        let marks = nodes
            .iter()
            .enumerate()
            .zip(0u32..)
            .map(|((node, it), number)| {
                let torrent = info_hash(SEED, 2 * time + number);
                Client::connect(FROM, it.address)?.announce(torrent, 6_881)?;
                Ok((node, torrent))
            });
        marks.collect()
    }
}

/// Starts the server again. Seconds from then until every node knows what was announced at others.
fn catch_up(
    server: &mut Server,
    nodes: &[Node],
    marks: &[(usize, InfoHash)],
    context: &Context<'_>,
) -> anyhow::Result<f64> {
    let clients = nodes.iter().map(|node| Client::connect(FROM, node.address));
    let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let mut missing = Vec::new();
    for (node, client) in clients.iter_mut().enumerate() {
        for (at, torrent) in marks.iter().filter(|(at, _)| *at != node) {
            if client.scrape(*torrent)? != Swarm(0) {
                bail!("node {node} has heard of node {at} while there was no server");
            }
            missing.push((node, *torrent));
        }
    }
    let clock = Clock::start();
    server.go_on(context.interrupt)?;
    for (node, torrent) in missing {
        while let Some(client) = clients.get_mut(node)
            && client.scrape(torrent)? == Swarm(0)
        {
            context.interrupt.check()?;
            if clock.elapsed() > CAUGHT_UP_MAX {
                bail!(
                    "node {node} has not caught up in {} s",
                    CAUGHT_UP_MAX.as_secs()
                );
            }
            thread::sleep(PAUSE);
        }
    }
    // What was published last is behind all else; the log may still be read.
    for node in nodes {
        node.wait_until(
            "it has published and read everything",
            context.interrupt,
            |metrics| {
                metrics.sum("aquatic_cluster_reading_log") == Some(0.0)
                    && metrics.sum("aquatic_cluster_connected") == Some(1.0)
            },
        )?;
    }
    Ok(clock.elapsed().as_secs_f64())
}

fn most_resident(nodes: &[Node]) -> anyhow::Result<u64> {
    let mut most = 0;
    for node in nodes {
        most = most.max(node.usage()?.resident_bytes);
    }
    Ok(most)
}

fn tell(table: &mut Table, when: &str, load: Vec<Load>) -> anyhow::Result<()> {
    let answers = load.into_iter().map(Load::end);
    let answers = answers.collect::<anyhow::Result<Vec<Answers>>>()?;
    let lost = answers.iter().map(Answers::lost).sum();
    let refused = answers.iter().map(|answers| answers.refused).sum();
    let micros = answers.into_iter().flat_map(|answers| answers.micros);
    let mut micros: Vec<f64> = micros.collect();
    micros.sort_by(f64::total_cmp);
    let count = to_f64(u64::try_from(micros.len())?);
    table.add(format!("{when}: answers"), "answers", count);
    table.add(format!("{when}: lost"), "answers", to_f64(lost));
    table.add(format!("{when}: refused"), "answers", to_f64(refused));
    for (label, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        if let Some(value) = quantile(&micros, share) {
            table.add(
                format!("{when}: answered after, {label}"),
                "ms",
                value / 1e3,
            );
        }
    }
    Ok(())
}

fn add_growth(table: &mut Table, when: &str, before: u64, memory: Memory) {
    let growth = to_f64(memory.resident_max.saturating_sub(before)) / MEBIBYTE;
    table.add(format!("{when}: resident memory grew by"), "MiB", growth);
}
