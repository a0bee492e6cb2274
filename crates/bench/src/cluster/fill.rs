//! A node that is filled with peers by our load tester, as fast as it takes them.

use std::fs;
use std::process::Command;

use crate::child::Child;
use crate::cluster::node::Node;
use crate::cluster::{Context, Place};
use crate::trackers::Protocol;

/// How long it may take, in seconds.
const FILL_MAX: u64 = 1_200;

/// Peers in each torrent.
const PEERS_PER_TORRENT: u32 = 10;

/// Full torrents only: so many peers are there of those that were asked for.
pub(crate) fn whole(peers: u32) -> u32 {
    peers / PEERS_PER_TORRENT * PEERS_PER_TORRENT
}

/// Fills a node, and waits until it has published all of them, if it is in a cluster.
pub(crate) fn fill(
    context: &Context<'_>,
    place: &Place,
    node: &Node,
    peers: u32,
) -> anyhow::Result<()> {
    let config = place.folder().join("fill.toml");
    let torrents = peers / PEERS_PER_TORRENT;
    let text = format!(
        "server_address = \"{}\"\ntracker_pid = {}\nprint_json = true\nshow_progress = false\n\
         [fill]\nenabled = true\nnumber_of_torrents = {torrents}\n\
         peers_per_torrent = {PEERS_PER_TORRENT}\n",
        node.address,
        node.pid()
    );
    fs::write(&config, text)?;
    let mut command = Command::new(context.folders.tester(Protocol::Udp)?);
    command.arg("-c").arg(&config);
    let report = place.folder().join("fill.json");
    let log = place.folder().join("fill.log");
    let mut tester = Child::start(command, context.tester_cpus(), Some(&report), &log)?;
    tester.wait(FILL_MAX, context.interrupt)?;
    if !node.is_in_cluster() {
        return Ok(());
    }
    node.wait_until("all peers are published", context.interrupt, |metrics| {
        let published = metrics.sum("aquatic_cluster_records_published_total");
        let waiting = metrics.sum("aquatic_cluster_buffered_bytes");
        published >= Some(whole(peers).into()) && waiting <= Some(0.0)
    })
}
