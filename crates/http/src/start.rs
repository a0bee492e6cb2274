//! How the daemon starts.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aquatic_channel::Bell;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, metrics_endpoint, privileges};
use aquatic_stream::{
    Admission, Hub, HubOptions, Post, StreamConfig, StreamCounters, TlsConfig, bind_listeners,
};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::swarm_worker::{Pauses, Rest};

use crate::arrangement::{Arrangement, arrange};
use crate::config::Config;
use crate::statistics::{self, Sources};

/// What clients are told in TLS that is spoken here. Who offers only others is turned away.
const ALPN_PROTOCOLS: &[&[u8]] = &[b"http/1.1", b"http/1.0"];

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
    let workers = config.layout().socket_workers;
    let runtime = stream.runtime.choose(workers)?;
    let listeners = bind_listeners(stream.address.iter(), workers, stream.tcp_backlog)?;
    if config.metrics.run_prometheus_endpoint {
        metrics_endpoint::start(config.metrics.prometheus_endpoint_address)?;
    }
    let posts = (0..workers)
        .map(|_| Post::new(runtime))
        .collect::<anyhow::Result<Vec<_>>>()?;
    privileges::drop(&config.privileges)?;
    let access_list = access_list::load(&config.access_list)?;
    let tls = load_tls(stream)?;

    let rests: Vec<_> = (0..config.swarm_workers).map(|_| Rest::new()).collect();
    let socket_bells = posts.iter().map(Post::bell);
    let bells: Vec<Bell> = socket_bells.chain(rests.iter().map(Rest::bell)).collect();
    let arrangement = arrange(&config, &access_list, &bells, &mut OsEntropy)?;
    let places = Places {
        posts,
        listeners,
        rests,
    };
    start_workers(
        &supervisor,
        &config,
        clock,
        arrangement,
        places,
        tls.as_ref(),
    )?;
    log::info!("runtime: {}", runtime.name());
    let scheme = if stream.enable_tls { "https" } else { "http" };
    for address in stream.address.iter() {
        log::info!("serving at {scheme}://{address}/announce");
    }
    supervisor.wait(|| {
        access_list::reload(&config.access_list, &access_list);
        reload_tls(tls.as_ref());
    })
}

/// Where the workers will be.
struct Places {
    posts: Vec<Post>,
    listeners: Vec<Vec<TcpListener>>,
    rests: Vec<Rest>,
}

fn start_workers(
    supervisor: &Supervisor,
    config: &Config,
    clock: Clock,
    arrangement: Arrangement,
    places: Places,
    tls: Option<&TlsConfig>,
) -> anyhow::Result<()> {
    let stream = &config.network.stream;
    let batch_wait = Duration::from_micros(stream.batch_wait_us);
    let pauses = Pauses {
        timeout: SLEEP_MAX,
        batch_wait,
    };
    let swarm_workers = arrangement.swarm_workers.into_iter().zip(places.rests);
    for (index, (worker, rest)) in swarm_workers.enumerate() {
        supervisor.spawn(format!("swarm-{index}"), move || {
            worker.run(&rest, clock, pauses)
        })?;
    }
    let admission = Arc::new(Admission::new(
        stream.connections_max(config.layout().socket_workers),
        config.limits.max_connections_per_ip,
    ));
    let mut connections = Vec::new();
    let workers = arrangement.socket_workers.into_iter();
    let workers = workers.zip(places.posts).zip(places.listeners);
    for (index, ((worker, post), listeners)) in workers.enumerate() {
        let counters = Arc::new(StreamCounters::default());
        connections.push(Arc::clone(&counters));
        let options = HubOptions {
            bounds: config.bounds(),
            admission: Arc::clone(&admission),
            proxies: stream
                .proxy_protocol
                .then(|| stream.trusted_proxies.clone()),
            tls: tls.cloned(),
            counters,
        };
        supervisor.spawn(format!("socket-{index}"), move || {
            post.run(Hub::new(worker, options), listeners, clock, batch_wait)
        })?;
    }
    let sources = Sources {
        workers: arrangement.counters,
        connections,
        response_times: arrangement.response_times,
        reports: arrangement.reports,
    };
    let metrics = config.metrics.clone();
    supervisor.spawn("statistics", move || statistics::run(&metrics, &sources))
}

fn load_tls(config: &StreamConfig) -> anyhow::Result<Option<TlsConfig>> {
    if !config.enable_tls {
        return Ok(None);
    }
    let (certificate, key) = (&config.tls_certificate_path, &config.tls_private_key_path);
    let tls = TlsConfig::load(certificate, key, ALPN_PROTOCOLS)
        .context("cannot encrypt connections (see network.enable_tls)")?;
    log::info!("TLS certificate {} loaded", certificate.display());
    Ok(Some(tls))
}

/// Files that cannot be used are logged as an error, and everything stays as it was.
fn reload_tls(tls: Option<&TlsConfig>) {
    match tls.map(TlsConfig::reload) {
        None => {}
        Some(Ok(())) => log::info!("TLS certificate loaded, for new connections"),
        Some(Err(error)) => log::error!("the TLS certificate stays as it was: {error}"),
    }
}
