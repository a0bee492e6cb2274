//! How the daemon starts.

use std::time::Duration;

use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream_tracker::{CommonConfig, Launch, Served, StreamTracker};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::Reload;
use aquatic_tracker::limits::{ClientLimits, settle_memory};
use aquatic_tracker::torrents::WEBTORRENT;

use crate::config::Config;
use crate::counters::WebTorrent;
use crate::signalling::SignallingShard;
use crate::socket_worker::SocketWorker;
use crate::workers::build_workers;

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
    let launch =
        Launch::prepare::<WebTorrent>(supervisor, config.common(), reloader.file(), |_| {
            Ok(Needs::default())
        })?;
    let (access_list, tls, wakers) = (launch.access_list(), launch.tls(), launch.wakers());
    let persistence = launch.persistence();
    let limits = &config.limits.connections.tracker;
    let limits = ClientLimits::from_config(limits, &mut OsEntropy)?;
    let mut workers = build_workers(
        config,
        access_list,
        tls,
        &wakers,
        limits,
        persistence,
        &mut OsEntropy,
    )?;
    for worker in &mut workers.socket_workers {
        worker.require_keys(launch.keys());
    }
    let Served { reload, follow } = launch.serve(workers, config.bounds(), |_| ())?;
    Ok(reloader.into_reload(follow, reload))
}
