//! How the daemon starts.

use std::time::Duration;

use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream_tracker::{Launch, StreamTracker};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::Reload;
use aquatic_tracker::limits::settle_memory;

use crate::config::Config;
use crate::counters::WebTorrent;
use crate::signalling::SignallingShard;
use crate::socket_worker::SocketWorker;
use crate::workers::build_workers;

impl StreamTracker for WebTorrent {
    type SocketWorker = SocketWorker;
    type Shard = SignallingShard;

    /// A WebSocket begins with HTTP.
    const ALPN_PROTOCOLS: &'static [&'static [u8]] = &[b"http/1.1"];
    const SCHEMES: [&'static str; 2] = ["ws", "wss"];
    const PATH: &'static str = "";
    const OUTPUT_ADVICE: Option<&'static str> = Some("see `network.websocket_write_buffer_size`");
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
    let launch = Launch::prepare::<WebTorrent>(supervisor, config.common())?;
    let (access_list, tls, wakers) = (launch.access_list(), launch.tls(), launch.wakers());
    let persistence = launch.persistence();
    let workers = build_workers(
        config,
        access_list,
        tls,
        &wakers,
        persistence,
        &mut OsEntropy,
    )?;
    launch.serve(workers, config.bounds(), |_| ())
}
