//! How the daemon starts.

use std::time::Duration;

use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream_tracker::{Launch, StreamTracker};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::Reload;
use aquatic_tracker::limits::settle_memory;
use aquatic_tracker::shard::addresses::AddressShard;

use crate::config::Config;
use crate::counters::Http;
use crate::socket_worker::SocketWorker;
use crate::statistics::write_response_times;
use crate::workers::build_workers;

impl StreamTracker for Http {
    type SocketWorker = SocketWorker;
    type Shard = AddressShard;

    const ALPN_PROTOCOLS: &'static [&'static [u8]] = &[b"http/1.1", b"http/1.0"];
    const SCHEMES: [&'static str; 2] = ["http", "https"];
    const PATH: &'static str = "/announce";
    const OUTPUT_ADVICE: Option<&'static str> = None;
}

/// Runs the tracker until it is told to stop.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(mut config: Config) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| {
        settle_memory(&mut config.limits.connections.tracker);
        start(supervisor, &config)
    })
}

/// Returns what is done at a reload.
fn start(supervisor: &Supervisor, config: &Config) -> anyhow::Result<Reload> {
    let launch = Launch::prepare::<Http>(supervisor, config.common())?;
    let wakers = launch.wakers();
    let (workers, response_times) = build_workers(
        config,
        launch.access_list(),
        &wakers,
        launch.persistence(),
        &mut OsEntropy,
    )?;
    launch.serve(workers, config.bounds(), move |text| {
        write_response_times(&response_times, text);
    })
}
