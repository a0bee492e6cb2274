//! How the daemon starts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::sandbox::{self, Needs};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, bind, privileges, replace_file};
use aquatic_tracker::config::too_many_workers;
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::statistics::{write_old_names, write_peer_counts};
use aquatic_tracker::swarm_worker::{self, SwarmWait, WaitSettings};
use aquatic_tracker::{limit_notes, limits};
use aquatic_types::ShardKey;
use aquatic_udp_socket::steering;
use aquatic_udp_socket::{SocketOptions, UNFRAGMENTED_BYTES_MAX, UdpSocket};

use crate::arrangement::{Arrangement, Surroundings, arrange};
use crate::backend::{self, Chosen, SocketWait};
use crate::config::{Config, ScrapeExportsConfig};
use crate::connection_secret;
use crate::export::{Exporter, exports};
use crate::socket_worker::last_rounds::LastRounds;
use crate::statistics;

/// Runs the tracker until it is told to stop.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(config: Config) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| start(supervisor, config))
}

/// Returns what is done at a reload.
fn start(supervisor: &Supervisor, mut config: Config) -> anyhow::Result<impl FnMut() + use<>> {
    let clock = Clock::start();
    limits::settle_memory(&mut config.limits.tracker);
    let backend = Chosen::new(&config)?;
    let sockets = bind_sockets(&config)?;
    let of_one_worker = sockets.first().into_iter().flatten();
    let addresses: Vec<_> = of_one_worker.map(UdpSocket::local_addr).collect();
    let endpoint = config.statistics.metrics.bind_endpoint()?;
    let socket_waits = (0..config.topology().socket_workers())
        .map(|_| backend::wait_handle(&backend))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let connection_secret = connection_secret(&config)?;
    privileges::drop(&config.privileges)?;
    warn_of_surroundings(&config);
    let access_list = access_list::load(&config.access_list)?;

    let swarm_waits = swarm_worker::wait_handles(config.topology().swarm_workers());
    let (exporter, export_writers) = exports(config.topology().shards());
    let arrangement = arrange(
        &config,
        Surroundings {
            access_list: access_list.clone(),
            wakers: {
                let of_socket_workers = socket_waits.iter().map(|it| it.waker.clone());
                let of_swarm_workers = swarm_waits.iter().map(|it| it.waker.clone());
                of_socket_workers.chain(of_swarm_workers).collect()
            },
            export_writers: if config.scrape_exports.enable_scrape_exports {
                export_writers
            } else {
                Vec::new()
            },
            sockets: addresses.len(),
            connection_secret,
            unix_micros: unix_micros().wrapping_sub(clock.micros()),
        },
        &mut OsEntropy,
    )?;
    steer(&config, &sockets, &arrangement.shard_key);
    sandbox::enter(&config.privileges, &needs(&config, &backend), supervisor);
    let counters = arrangement.counters.clone();
    let reports = arrangement.reports.clone();
    let with_prefixes = config.statistics.metrics.prometheus_peer_id_prefixes;
    let config = Arc::new(config);
    start_workers(
        supervisor,
        &config,
        clock,
        arrangement,
        Waits {
            socket_waits,
            sockets,
            swarm_waits,
        },
    )?;
    if let Some(mut endpoint) = endpoint {
        endpoint.also(move |text| write_old_names(&counters, text));
        endpoint.also(move |text| write_peer_counts(&reports, with_prefixes, text));
        endpoint.start(supervisor)?;
    }
    start_exports(supervisor, &config.scrape_exports, exporter)?;
    // Before it is logged: what a log level hides is not even computed, and the workers wait for
    // it.
    let backend = backend.settle();
    log::info!("backend: {backend}");
    for address in addresses {
        log::info!("serving at {address}");
    }
    Ok(move || access_list::reload(&config.access_list, &access_list))
}

fn start_exports(
    supervisor: &Supervisor,
    config: &ScrapeExportsConfig,
    exporter: Exporter,
) -> anyhow::Result<()> {
    if !config.enable_scrape_exports {
        return Ok(());
    }
    let exports = config.clone();
    supervisor.spawn("export", move || {
        exporter.run(&exports.path, Duration::from_secs(exports.frequency));
        Ok(())
    })
}

/// Tells what this machine makes of the configuration that is no reason not to start.
fn warn_of_surroundings(config: &Config) {
    if let Some(reason) = too_many_workers(config.socket_workers, config.swarm_workers) {
        log::warn!("`socket_workers` {reason}");
    }
    for (key, path) in config.outputs() {
        if let Err(error) = replace_file::check(path) {
            log::warn!("`{key}`: {error:#}");
        }
    }
}

/// What is needed of the system from now on.
fn needs(config: &Config, backend: &Chosen) -> Needs {
    Needs {
        reads: access_list::files(&config.access_list),
        replaces: config.outputs().map(|(_, path)| path.to_owned()).collect(),
        io_uring: backend.may_use_io_uring(),
    }
}

fn connection_secret(config: &Config) -> anyhow::Result<Option<[u64; 2]>> {
    let path = &config.network.connection_secret_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    connection_secret::load_or_make(path, &mut OsEntropy).map(Some)
}

/// The sockets of each socket worker, in the order of the addresses. All are bound by this one
/// thread, worker by worker, because the kernel numbers the sockets of an address in that order.
fn bind_sockets(config: &Config) -> anyhow::Result<Vec<Vec<UdpSocket>>> {
    let workers = config.topology().socket_workers();
    let options = SocketOptions {
        recv_buffer_bytes: config.network.socket_recv_buffer_size,
        send_buffer_bytes: config.network.socket_send_buffer_size,
        reuse_port: workers > 1,
        never_fragmented: config.answer_bytes_max_v4() <= UNFRAGMENTED_BYTES_MAX,
    };
    let alone = SocketOptions {
        reuse_port: false,
        ..SocketOptions::default()
    };
    // Several sockets per address would let a second instance in. And all workers shall have the
    // same port, also if any will do (0).
    let addresses = bind::claim(&config.network.address, |address| {
        UdpSocket::bind(address, &alone).map(|socket| socket.local_addr())
    })?;
    let bind =
        |address| UdpSocket::bind(address, &options).map_err(|error| bind::error(address, &error));
    let sockets: Vec<Vec<_>> = (0..workers)
        .map(|_| addresses.iter().copied().map(bind).collect())
        .collect::<anyhow::Result<_>>()?;
    if let Some(socket) = sockets.first().and_then(|sockets| sockets.first())
        && let Err(error) = warn_of_small_buffers(socket, &options)
    {
        log::warn!("the system does not tell how large socket buffers are: {error}");
    }
    Ok(sockets)
}

/// Tells which buffers of a socket are smaller than wanted.
fn warn_of_small_buffers(socket: &UdpSocket, wanted: &SocketOptions) -> io::Result<()> {
    let recv = (socket.recv_buffer_bytes()?, wanted.recv_buffer_bytes);
    let send = (socket.send_buffer_bytes()?, wanted.send_buffer_bytes);
    for (key, sysctl, (granted, wanted)) in [
        ("socket_recv_buffer_size", "rmem_max", recv),
        ("socket_send_buffer_size", "wmem_max", send),
    ] {
        if granted < wanted {
            log::warn!(
                "`network.{key}` is {wanted}, but the system grants only {granted} bytes (on \
                 Linux, raise it with: sysctl -w net.core.{sysctl}={wanted})"
            );
        }
    }
    Ok(())
}

/// Lets the kernel deliver requests to the worker that owns the torrent, in the fused arrangement.
fn steer(config: &Config, sockets: &[Vec<UdpSocket>], key: &ShardKey) {
    let workers = sockets.len();
    if workers < 2 || config.swarm_workers > 0 {
        return;
    }
    let steered = sockets
        .first()
        .into_iter()
        .flatten()
        .try_for_each(|socket| {
            steering::attach(socket, key, u32::try_from(workers).unwrap_or(u32::MAX))
        });
    if let Err(error) = steered {
        log::warn!(
            "the kernel does not steer requests to the owners of their torrents, so they are \
             passed between workers; consider setting `swarm_workers`: {error}"
        );
    }
}

/// What the workers need to leave the main thread.
struct Waits {
    socket_waits: Vec<SocketWait>,
    sockets: Vec<Vec<UdpSocket>>,
    swarm_waits: Vec<SwarmWait>,
}

fn start_workers(
    supervisor: &Supervisor,
    config: &Arc<Config>,
    clock: Clock,
    arrangement: Arrangement,
    waits: Waits,
) -> anyhow::Result<()> {
    let Arrangement {
        cores,
        counters,
        reports,
        ..
    } = arrangement;
    let settings = WaitSettings {
        timeout: Duration::from_millis(config.network.poll_timeout_ms),
        batch_wait: Duration::from_micros(config.network.batch_wait_us),
    };
    let swarm_workers = arrangement.swarm_workers;
    swarm_worker::start(
        supervisor,
        clock,
        settings,
        swarm_workers,
        waits.swarm_waits,
    )?;
    let workers = cores.into_iter().zip(waits.socket_waits).zip(waits.sockets);
    for (index, ((core, handle), sockets)) in workers.enumerate() {
        let config = Arc::clone(config);
        let waker = handle.waker.clone();
        let last_rounds = LastRounds::new(supervisor.finisher(move || waker.wake()));
        supervisor.spawn(format!("socket-{index}"), move || {
            backend::run(handle, core, &sockets, clock, &config.network, last_rounds)
        })?;
    }
    let mut watch = LimitWatch::new();
    limit_notes::watch(&mut watch, &counters);
    supervisor.spawn("limits", move || watch.run())?;
    statistics::start(supervisor, config.statistics.clone(), counters, reports)
}
