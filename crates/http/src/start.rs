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
use aquatic_tracker::limits::settle_memory;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_tracker::torrents::BITTORRENT;

use crate::config::Config;
use crate::counters::Http;
use crate::socket_worker::SocketWorker;
use crate::statistics::{extend_figures, write_response_times};
use crate::workers::build_workers;

impl StreamTracker for Http {
    type Config = Config;
    type SocketWorker = SocketWorker;
    type Shard = AddressShard;

    const SWARMS: &'static str = BITTORRENT;

    const ALPN_PROTOCOLS: &'static [&'static [u8]] = &[b"http/1.1", b"http/1.0"];
    const SCHEMES: [&'static str; 2] = ["http", "https"];
    const PATH: &'static str = "/announce";
    const OUTPUT_ADVICE: Option<&'static str> = None;

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
    let common = config.common();
    let mut launch = Launch::prepare::<Http>(supervisor, common, reloader.file(), |addresses| {
        let listener = (Http::NAME, addresses.first().map_or(0, SocketAddr::port));
        let lives = config.peer_lives();
        cluster = Cluster::prepare(&config.cluster, lives, listener, config.lists())?;
        Ok(cluster.as_ref().map(Cluster::needs).unwrap_or_default())
    })?;
    let announces = cluster.as_ref().and_then(Cluster::announces);
    let wakers = launch.wakers();
    let (mut workers, response_times) = build_workers(
        config,
        launch.access_list(),
        &wakers,
        launch.persistence(),
        cluster.as_mut(),
        &mut OsEntropy,
    )?;
    extend_figures(launch.launch_mut(), &response_times);
    for worker in &mut workers.socket_workers {
        worker.require_keys(launch.keys());
        worker.tell_announces(announces.as_ref());
    }
    let cluster = cluster.map(|cluster| {
        let process = |now| workers.process_for_others(now);
        cluster.start(launch.launch_mut(), process)
    });
    let cluster = cluster.transpose()?;
    let Served { reload, follow } = launch.serve(workers, config.bounds(), move |text| {
        write_response_times(&response_times, None, text);
    })?;
    let follow = move |new: &Config| {
        follow(new);
        if let Some(cluster) = &cluster {
            cluster.set_lives(new.peer_lives());
        }
    };
    Ok(reloader.into_reload(follow, reload))
}
