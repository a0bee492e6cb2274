//! How the daemon starts.

use std::time::Duration;

use aquatic_channel::Bell;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, metrics_endpoint, privileges};
use aquatic_stream::{SocketWorkers, StreamSettings, load_tls, reload_tls};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::swarm_worker::{Pauses, SwarmWorkers};

use crate::arrangement::arrange;
use crate::config::Config;
use crate::statistics::{self, Sources};

/// What clients are told in TLS that is spoken here: a WebSocket begins with HTTP.
const ALPN_PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// How long a swarm worker sleeps before it looks after its timers.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Runs the tracker until it is told to stop.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(config: Config) -> anyhow::Result<()> {
    let clock = Clock::start();
    let supervisor = Supervisor::new()?;
    let stream = &config.network.stream;
    let sockets = SocketWorkers::bind(stream, config.layout().socket_workers)?;
    if config.metrics.run_prometheus_endpoint {
        metrics_endpoint::start(config.metrics.prometheus_endpoint_address)?;
    }
    privileges::drop(&config.privileges)?;
    let access_list = access_list::load(&config.access_list)?;
    let tls = load_tls(stream, ALPN_PROTOCOLS)?;

    let swarm_workers = SwarmWorkers::prepare(config.swarm_workers);
    let bells: Vec<Bell> = sockets.bells().chain(swarm_workers.bells()).collect();
    let workers = arrange(&config, &access_list, tls.as_ref(), &bells, &mut OsEntropy)?;
    let pauses = Pauses {
        timeout: SLEEP_MAX,
        batch_wait: Duration::from_micros(stream.batch_wait_us),
    };
    swarm_workers.start(&supervisor, clock, pauses, workers.swarm_workers)?;
    let settings = StreamSettings {
        bounds: config.bounds(),
        max_connections_per_ip: config.limits.max_connections_per_ip,
        tls: tls.clone(),
    };
    let handlers = workers.socket_workers;
    let connections = sockets.start(&supervisor, clock, stream, settings, handlers)?;
    let sources = Sources {
        workers: workers.counters,
        connections,
        reports: workers.reports,
    };
    let metrics = config.metrics.clone();
    supervisor.spawn("statistics", move || statistics::run(&metrics, &sources))?;

    let scheme = if stream.enable_tls { "wss" } else { "ws" };
    for address in stream.address.iter() {
        log::info!("serving at {scheme}://{address}");
    }
    supervisor.wait(|| {
        access_list::reload(&config.access_list, &access_list);
        reload_tls(tls.as_ref());
    })
}
