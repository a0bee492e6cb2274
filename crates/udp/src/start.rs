//! How the daemon starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aquatic_cluster::Cluster;
use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::{self, Launch, LaunchConfig, Reload};
use aquatic_tracker::limits::{self, ClientLimits};
use aquatic_tracker::live::LiveTracker;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::shard::addresses::{AddressShardParts, FinishedShards};
use aquatic_tracker::shard::swarm_worker::wait_handles;
use aquatic_tracker::torrents::BITTORRENT;

use crate::config::Config;
use crate::counters::Udp;
use crate::front_end::{Bound, wait};
use crate::statistics;

/// Runs the tracker until it is told to stop. `file` is where the configuration came from.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(mut config: Config, file: ConfigFile) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| {
        let reloader = Reloader::new(file, config.clone(), &config.privileges);
        limits::settle_memory(&mut config.limits.tracker);
        start(supervisor, &Arc::new(config), reloader)
    })
}

/// Returns what is done at a reload.
fn start(
    supervisor: &Supervisor,
    config: &Arc<Config>,
    reloader: Reloader<Config>,
) -> anyhow::Result<Reload> {
    let bind = || {
        let bound = Bound::bind(config, supervisor.kept_sockets())?;
        let cluster = prepare_cluster(config, &bound)?;
        Ok((bound, cluster))
    };
    let settings = launch_config(config);
    let (mut launch, (bound, mut cluster)) =
        Launch::prepare(supervisor, settings, bind, |(bound, _)| bound.attach())?;
    launch.tell_announces(cluster.as_ref().and_then(Cluster::announces));
    let topology = config.topology();
    launch::advise_workers(config.socket_workers, config.swarm_workers);
    let swarm_waits = wait_handles(topology.swarm_workers());
    let wakers = launch::wakers(bound.wakers(), &swarm_waits);
    let limits = ClientLimits::from_config(&config.limits.tracker, &mut OsEntropy)?;
    let parts = AddressShardParts {
        topology,
        wakers: &wakers,
        access_list: launch.access_list(),
        peers_per_ip: limits.peers_per_ip.clone(),
        persistence: launch.persistence(config.persistence.plan()),
        sharing: cluster.as_ref().map(Cluster::refresh),
    };
    let shard_config = config.address_shards();
    let mut shards = shard_config.build(parts, &mut OsEntropy)?;
    let live_shards = shards.follow(&shard_config);
    let front_end = FrontEnd {
        wakers: topology.of_socket_workers(&wakers),
        is_at_home: true,
    };
    if let Some(cluster) = &mut cluster {
        cluster.share_addresses(&mut shards);
    }
    let mut workers = bound.connect(&launch, &mut shards, front_end, &limits, &mut OsEntropy)?;
    let FinishedShards {
        mut owners,
        snapshotter,
        readers,
    } = shards.finish();
    let needs = workers
        .needs()
        .and(reloader.file().needs(&config.privileges));
    launch.enter_sandbox(cluster.iter().map(Cluster::needs).fold(needs, Needs::and));
    let cluster = cluster
        .map(|cluster| cluster.start(&mut launch, |now| owners.process(now)))
        .transpose()?;
    workers.own(owners.socket_workers);

    launch.start_swarm_workers("", wait(config), owners.swarm_workers, swarm_waits)?;
    let front_end = workers.live().clone();
    let counted = workers.start(&mut launch, "", Vec::new())?;
    let metrics = &config.statistics.metrics;
    launch.control_intervals(&limits.stretch, topology.workers(), false);
    let live = LiveTracker::new(limits, metrics, snapshotter.as_ref());
    launch.start_snapshots("", snapshotter)?;
    launch.show_torrents(("", BITTORRENT), readers, &config.scrape_exports)?;
    let export_interval = launch.export_interval();
    let interval = live.metrics_interval();
    statistics::start(supervisor, "", metrics, interval.clone(), counted)?;
    let reload = launch.serve(interval)?;
    let follow = move |config: &Config| {
        front_end.set(config);
        live_shards.set(&config.address_shards());
        export_interval.set(config.scrape_exports.interval());
        if let Some(cluster) = &cluster {
            cluster.set_lives(config.peer_lives());
        }
        let (limits, metrics) = (&config.limits.tracker, &config.statistics.metrics);
        live.set(limits, metrics, config.persistence.plan());
    };
    Ok(reloader.into_reload(follow, reload))
}

fn launch_config(config: &Config) -> LaunchConfig<'_> {
    LaunchConfig {
        metrics: &config.statistics.metrics,
        privileges: &config.privileges,
        access_list: &config.access_list,
        keys: &config.keys,
    }
}

fn prepare_cluster(config: &Config, bound: &Bound) -> anyhow::Result<Option<Cluster>> {
    let port = bound.addresses().first().map_or(0, SocketAddr::port);
    let listener = (Udp::NAME, port);
    Cluster::prepare(
        &config.cluster,
        config.peer_lives(),
        listener,
        config.lists(),
    )
}
