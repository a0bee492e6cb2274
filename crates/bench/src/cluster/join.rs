//! How soon a node knows everybody that joins late, or comes back.

use std::fs;
use std::process::Command;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::child::Child;
use crate::cluster::node::{Node, to_count};
use crate::cluster::{Context, Place, Table, to_f64};
use crate::trackers::Protocol;

/// What a node logs.
const CONNECTED: &str = "connected to the NATS server";
const COMPLETE: &str = "the swarms of all nodes of the cluster are known";

/// How long a node may take, in seconds, before it serves in any case.
const COMPLETE_MAX: u32 = 600;

/// Peers in each torrent.
const PEERS_PER_TORRENT: u32 = 10;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// join: peers that another node has. They are ten in each torrent.
    #[arg(long, value_name = "PEERS", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(10..))]
    pub join_peers: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = Some(server.url());
        let folder = place.folder();
        let full = setup.start(folder, "node-0", context.interrupt)?;
        self.fill(context, &place, &full)?;
        let peers = self.join_peers / PEERS_PER_TORRENT * PEERS_PER_TORRENT;
        wait_until_published(context, &full, peers)?;

        let mut table = Table::new("join");
        setup.complete_within = COMPLETE_MAX;
        let node = setup.start(folder, "node-1", context.interrupt)?;
        tell(&mut table, "joins", &node, context, peers)?;
        let node = node.restart(folder, context.interrupt)?;
        tell(&mut table, "is back after SIGKILL", &node, context, peers)?;
        Ok(table)
    }

    fn fill(&self, context: &Context<'_>, place: &Place, node: &Node) -> anyhow::Result<()> {
        let config = place.folder().join("fill.toml");
        let torrents = self.join_peers / PEERS_PER_TORRENT;
        let text = format!(
            "server_address = \"{}\"\ntracker_pid = {}\nprint_json = true\n\
             show_progress = false\n[fill]\nenabled = true\nnumber_of_torrents = {torrents}\n\
             peers_per_torrent = {PEERS_PER_TORRENT}\n",
            node.address,
            node.pid()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(context.folders.tester(Protocol::Udp)?);
        command.arg("-c").arg(&config);
        let report = place.folder().join("fill.json");
        let log = place.folder().join("fill.log");
        let cpus = context.tester_cpus();
        let mut tester = Child::start(command, cpus, Some(&report), &log)?;
        tester.wait(u64::from(COMPLETE_MAX), context.interrupt)
    }
}

fn wait_until_published(context: &Context<'_>, node: &Node, peers: u32) -> anyhow::Result<()> {
    node.wait_until("all peers are published", context.interrupt, |metrics| {
        let published = metrics.sum("aquatic_cluster_records_published_total");
        let waiting = metrics.sum("aquatic_cluster_buffered_bytes");
        published >= Some(peers.into()) && waiting <= Some(0.0)
    })
}

fn tell(
    table: &mut Table,
    what: &str,
    node: &Node,
    context: &Context<'_>,
    expected: u32,
) -> anyhow::Result<()> {
    let seconds = seconds_until_complete(&node.log()?)?;
    // Gauges follow after a moment.
    let expected = usize::try_from(expected)?;
    node.wait_until("its gauges are there", context.interrupt, |metrics| {
        metrics
            .sum("aquatic_peers")
            .is_some_and(|peers| to_count(peers) > 0)
    })?;
    let peers = node.metrics()?.require("aquatic_peers")?;
    table.add(
        format!("{what}: complete after its connection"),
        "s",
        seconds,
    );
    table.add(format!("{what}: peers that it has"), "peers", peers);
    let share = peers / to_f64(u64::try_from(expected)?) * 100.0;
    table.add(format!("{what}: of those that there are"), "%", share);
    Ok(())
}

/// From the first connection in a node's log until everybody is known.
fn seconds_until_complete(log: &str) -> anyhow::Result<f64> {
    let time = |what: &str| {
        let line = log.lines().find(|line| line.contains(what));
        let time = line.and_then(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
        time.with_context(|| format!("a node has not logged {what:?}"))
    };
    let (connected, complete) = (time(CONNECTED)?, time(COMPLETE)?);
    Ok(complete.duration_since(connected).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_how_long_it_took() {
        let log = "2026-11-29T07:43:55.000Z INFO  [main] x: starts\n\
                   2026-11-29T07:43:56.971Z INFO  [c] x: connected to the NATS server N at h:1\n\
                   2026-11-29T07:43:58.221Z INFO  [c] x: the swarms of all nodes of the cluster \
                   are known\n";
        let seconds = seconds_until_complete(log).unwrap();
        assert!((seconds - 1.25).abs() < 1e-9, "{seconds}");
        let error = seconds_until_complete("nothing").unwrap_err().to_string();
        assert!(error.contains(CONNECTED), "{error}");
    }
}
