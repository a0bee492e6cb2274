//! How the daemon starts.

use std::time::Duration;

use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream_tracker::{CommonConfig, Launch, Served, StreamTracker};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::Reload;
use aquatic_tracker::limits::settle_memory;
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
    let mut launch = Launch::prepare::<Http>(supervisor, config.common(), reloader.file())?;
    let wakers = launch.wakers();
    let (mut workers, response_times) = build_workers(
        config,
        launch.access_list(),
        &wakers,
        launch.persistence(),
        &mut OsEntropy,
    )?;
    extend_figures(launch.launch_mut(), &response_times);
    for worker in &mut workers.socket_workers {
        worker.require_keys(launch.keys());
    }
    let Served { reload, follow } = launch.serve(workers, config.bounds(), move |text| {
        write_response_times(&response_times, None, text);
    })?;
    Ok(reloader.into_reload(follow, reload))
}
