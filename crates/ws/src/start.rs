//! How the daemon starts.

use std::net::SocketAddr;
use std::time::Duration;

use aquatic_cluster::Cluster;
use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream_tracker::{CommonConfig, Launch, Served, StreamTracker};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::Reload;
use aquatic_tracker::limits::{ClientLimits, settle_memory};
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::torrents::WEBTORRENT;

use crate::config::Config;
use crate::counters::WebTorrent;
use crate::signalling::SignallingShard;
use crate::socket_worker::SocketWorker;
use crate::workers::Building;

impl StreamTracker for WebTorrent {
    type Config = Config;
    type SocketWorker = SocketWorker;
    type Shard = SignallingShard;

    const SWARMS: &'static str = WEBTORRENT;

    /// A WebSocket begins with HTTP.
    const ALPN_PROTOCOLS: &'static [&'static [u8]] = &[b"http/1.1"];
    const SCHEMES: [&'static str; 2] = ["ws", "wss"];
    const PATH: &'static str = "";
    const OUTPUT_ADVICE: Option<&'static str> = Some("see `network.websocket_write_buffer_size`");

    fn common(config: &Config) -> CommonConfig<'_> {
        config.common()
    }
}

/// Runs the tracker until it is told to stop. `file` is where the configuration came from.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(mut config: Config, file: ConfigFile) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| {
        let reloader = Reloader::new(file, config.clone(), &config.privileges);
        settle_memory(&mut config.limits.connections.tracker);
        start(supervisor, &config, reloader)
    })
}

/// Returns what is done at a reload.
fn start(
    supervisor: &Supervisor,
    config: &Config,
    reloader: Reloader<Config>,
) -> anyhow::Result<Reload> {
    let mut cluster = None;
    let (common, file) = (config.common(), reloader.file());
    let mut launch = Launch::prepare::<WebTorrent>(supervisor, common, file, |addresses| {
        let listener = (
            WebTorrent::NAME,
            addresses.first().map_or(0, SocketAddr::port),
        );
        cluster = Cluster::prepare(
            &config.cluster,
            config.member_lives(),
            listener,
            config.lists(),
        )?;
        Ok(cluster.as_ref().map(Cluster::needs).unwrap_or_default())
    })?;
    let announces = cluster.as_ref().and_then(Cluster::announces);
    let wakers = launch.wakers();
    let limits = &config.limits.connections.tracker;
    let building = Building {
        config,
        access_list: launch.access_list(),
        tls: launch.tls(),
        wakers: &wakers,
        limits: ClientLimits::from_config(limits, &mut OsEntropy)?,
        persistence: launch.persistence(),
    };
    let (mut workers, counters) = building.build_and_share(cluster.as_mut(), &mut OsEntropy)?;
    for worker in &mut workers.socket_workers {
        worker.require_keys(launch.keys());
        worker.tell_announces(announces.as_ref());
    }
    if let Some(counters) = counters {
        let launch = launch.launch_mut();
        launch.show_also(move |metrics| counters.write(metrics));
    }
    let cluster = cluster.map(|cluster| {
        let process = |now| workers.process_for_others(now);
        cluster.start(launch.launch_mut(), process)
    });
    let cluster = cluster.transpose()?;
    let Served { reload, follow } = launch.serve(workers, config.bounds(), |_| ())?;
    let follow = move |new: &Config| {
        follow(new);
        if let Some(cluster) = &cluster {
            cluster.set_lives(new.member_lives());
        }
    };
    Ok(reloader.into_reload(follow, reload))
}
