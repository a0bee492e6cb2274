//! How the daemon starts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::unix_micros;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::replace_file;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::{Launch, LaunchConfig, Reload};
use aquatic_tracker::limits;
use aquatic_tracker::shard::swarm_worker::WaitSettings;
use aquatic_udp_socket::UdpSocket;

use crate::backend::{self, Chosen, SocketWait};
use crate::config::{Config, ScrapeExportsConfig};
use crate::connection_secret;
use crate::export::{Exporter, exports};
use crate::socket_worker::SocketWorker;
use crate::socket_worker::last_rounds::LastRounds;
use crate::workers::{Dependencies, build_workers};
use crate::{sockets, statistics};

/// Runs the tracker until it is told to stop.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(mut config: Config) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| {
        limits::settle_memory(&mut config.limits.tracker);
        start(supervisor, &Arc::new(config))
    })
}

/// What is bound before the rights of root are given up.
struct Bound {
    /// By socket worker.
    sockets: Vec<Vec<UdpSocket>>,
    /// By socket worker.
    waits: Vec<SocketWait>,
    connection_secret: Option<[u64; 2]>,
}

/// Returns what is done at a reload.
fn start(supervisor: &Supervisor, config: &Arc<Config>) -> anyhow::Result<Reload> {
    let backend = Chosen::new(config)?;
    let (mut launch, bound) =
        Launch::prepare(supervisor, launch_config(config), || bind(config, &backend))?;
    for (key, path) in config.outputs() {
        if let Err(error) = replace_file::check(path) {
            log::warn!("`{key}`: {error:#}");
        }
    }
    let of_one_worker = bound.sockets.first().into_iter().flatten();
    let addresses: Vec<_> = of_one_worker.map(UdpSocket::local_addr).collect();
    let export = config
        .scrape_exports
        .enable_scrape_exports
        .then(|| exports(config.topology().shards()));
    let (exporter, export_writers) = export.unzip();
    let dependencies = Dependencies {
        access_list: launch.access_list().clone(),
        wakers: launch.wakers(bound.waits.iter().map(|wait| wait.waker.clone())),
        persistence: launch.persistence(config.persistence.plan()),
        export_writers: export_writers.unwrap_or_default(),
        sockets: addresses.len(),
        connection_secret: bound.connection_secret,
        unix_micros: unix_micros().wrapping_sub(launch.clock().micros()),
    };
    let workers = build_workers(config, dependencies, &mut OsEntropy)?;
    sockets::steer(config.topology(), &bound.sockets, &workers.shard_key);
    launch.enter_sandbox(Needs {
        reads: Vec::new(),
        replaces: config.outputs().map(|(_, path)| path.to_owned()).collect(),
        io_uring: backend.may_use_io_uring(),
    });

    launch.start_swarm_workers(workers.swarm_workers)?;
    start_socket_workers(&launch, config, workers.socket_workers, bound)?;
    launch.start_snapshots(workers.snapshotter)?;
    let counted = workers.counted;
    let reload = launch.serve(&counted, LimitWatch::new(), |_| ())?;
    statistics::start(supervisor, config.statistics.clone(), counted)?;
    if let Some(exporter) = exporter {
        start_export(supervisor, &config.scrape_exports, exporter)?;
    }
    // Before it is logged: what a log level hides is not even computed, and the workers wait for
    // it.
    let backend = backend.settle();
    log::info!("backend: {backend}");
    for address in addresses {
        log::info!("serving at {address}");
    }
    Ok(reload)
}

fn launch_config(config: &Config) -> LaunchConfig<'_> {
    LaunchConfig {
        socket_workers: config.socket_workers,
        swarm_workers: config.swarm_workers,
        wait: WaitSettings {
            timeout: Duration::from_millis(config.network.poll_timeout_ms),
            batch_wait: Duration::from_micros(config.network.batch_wait_us),
        },
        metrics: &config.statistics.metrics,
        privileges: &config.privileges,
        access_list: &config.access_list,
    }
}

fn bind(config: &Config, backend: &Chosen) -> anyhow::Result<Bound> {
    let sockets = sockets::bind(config)?;
    let waits = sockets.iter().map(|_| backend::wait_handle(backend));
    Ok(Bound {
        waits: waits.collect::<anyhow::Result<_>>()?,
        connection_secret: connection_secret(&config.network.connection_secret_file)?,
        sockets,
    })
}

fn connection_secret(path: &Path) -> anyhow::Result<Option<[u64; 2]>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    connection_secret::load_or_make(path, &mut OsEntropy).map(Some)
}

fn start_socket_workers(
    launch: &Launch<'_>,
    config: &Arc<Config>,
    socket_workers: Vec<SocketWorker>,
    bound: Bound,
) -> anyhow::Result<()> {
    let (supervisor, clock) = (launch.supervisor(), launch.clock());
    let workers = socket_workers
        .into_iter()
        .zip(bound.waits)
        .zip(bound.sockets);
    for (index, ((worker, handle), sockets)) in workers.enumerate() {
        let config = Arc::clone(config);
        let waker = handle.waker.clone();
        let last_rounds = LastRounds::new(supervisor.finisher(move || waker.wake()));
        supervisor.spawn(format!("socket-{index}"), move || {
            backend::run(
                handle,
                worker,
                &sockets,
                clock,
                &config.network,
                last_rounds,
            )
        })?;
    }
    Ok(())
}

fn start_export(
    supervisor: &Supervisor,
    config: &ScrapeExportsConfig,
    exporter: Exporter,
) -> anyhow::Result<()> {
    let (path, frequency) = (config.path.clone(), Duration::from_secs(config.frequency));
    supervisor.spawn("export", move || {
        exporter.run(&path, frequency);
        Ok(())
    })
}
