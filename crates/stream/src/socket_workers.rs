//! How the threads that hold connections are made: bound early, started late.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::Label;
use anyhow::Context;
use aquatic_access_list::SharedDeniedNetworks;
use aquatic_channel::{WaitHandle, Waker};
use aquatic_config::Checks;
use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_daemon::kept_sockets::KeptSockets;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_daemon::special_file;
use aquatic_daemon::supervisor::{FINISH_MAX, Supervisor};

use crate::admission::Admission;
use crate::bounds::Bounds;
use crate::config::StreamConfig;
use crate::counters::StreamCounters;
use crate::denied::DeniedClients;
use crate::handler::Handler;
use crate::hub::{DRAIN_GRACE, Hub, HubOptions};
use crate::limit_notes;
use crate::listener::take_or_bind_listeners;
use crate::memory::held_bytes_max;
use crate::metrics;
use crate::mio::Guest;
use crate::runtime;
use crate::runtime::{ChosenRuntime, EventSource};
use crate::tls::TlsConfig;

/// Connections that there is memory for in any case.
const MEMORY_CONNECTIONS_MIN: usize = 2;

/// Sockets, and where the workers will wait that accept connections from them.
///
/// Made by the main thread, before it gives up the rights to do so.
pub struct SocketWorkers {
    runtime: ChosenRuntime,
    handles: Vec<WaitHandle<EventSource>>,
    listeners: Vec<Vec<TcpListener>>,
}

/// Workers that have been started.
pub struct Started<H: Handler> {
    /// What each of them counts.
    pub counters: Vec<Arc<StreamCounters>>,
    /// Those without a thread.
    pub guests: Vec<MakeGuest<H>>,
}

/// Makes a [`Guest`].
pub struct MakeGuest<H: Handler>(Box<dyn FnOnce() -> anyhow::Result<Guest<H>> + Send>);

impl<H: Handler> MakeGuest<H> {
    /// To be called in the thread where it will run.
    ///
    /// # Errors
    /// If a file descriptor cannot be allocated.
    pub fn make(self) -> anyhow::Result<Guest<H>> {
        (self.0)()
    }
}

/// What the connections of all workers have in common.
pub struct StreamSettings {
    /// Files that the daemon needs besides its workers and what every program has open.
    pub other_files: usize,
    /// Sets of such workers that the process has: each may have an equal share of the open files.
    pub front_ends: usize,
    /// How much and how long a connection may keep a worker busy.
    pub bounds: Bounds,
    /// Bytes that the connections of all workers may hold together, if that is bounded.
    pub memory_max: Option<u64>,
    /// Connections per client.
    pub connections_per_client: Arc<PerClientLimit>,
    /// Requests per client, if limited: connections and TLS handshakes are charged for, too.
    pub request_rate: Option<Arc<RequestRate>>,
    /// Networks whose clients are not served, if any can be.
    pub denied_networks: Option<SharedDeniedNetworks>,
    /// Connections are encrypted.
    pub tls: Option<TlsConfig>,
    /// Over this time connections are closed when the process is about to stop.
    pub drain: Duration,
    /// What an operator can do if clients do not read what is sent to them, if anything.
    pub output_advice: Option<&'static str>,
}

impl SocketWorkers {
    /// Binds all sockets, for so many workers.
    ///
    /// # Errors
    /// If an address or the runtime cannot be had.
    pub fn bind(kept: &KeptSockets, config: &StreamConfig, workers: usize) -> anyhow::Result<Self> {
        let runtime = config.runtime.choose(workers)?;
        let listeners = take_or_bind_listeners(kept, &config.address, workers, config.tcp_backlog)?;
        let handles = (0..workers).map(|_| runtime.wait_handle());
        Ok(Self {
            runtime,
            handles: handles.collect::<anyhow::Result<_>>()?,
            listeners,
        })
    }

    /// What wakes the workers, in order.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.handles.iter().map(|handle| handle.waker.clone())
    }

    /// Whether they wait with io_uring.
    #[must_use]
    pub fn use_io_uring(&self) -> bool {
        self.runtime != ChosenRuntime::Mio
    }

    /// Whether they can run in the threads of others.
    #[must_use]
    pub fn can_be_guests(&self) -> bool {
        self.runtime == ChosenRuntime::Mio
    }

    /// Where they listen, with the ports that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for listener in self.listeners.iter().flatten() {
            let address = listener.local_addr()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// Starts a thread for each of `handlers`, of which there must be one per worker. They are
    /// called `socket-0` and so on, after the `prefix`. Returns what they count. The first ones get
    /// no thread, but are guests of others, which `hosts` wake; they must be [able
    /// to](Self::can_be_guests). Limits on connections are looked after by `watch`.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub fn start<H: Handler + Send + 'static>(
        self,
        (supervisor, clock): (&Supervisor, Clock),
        (prefix, hosts): (&str, &[Waker]),
        config: &StreamConfig,
        settings: StreamSettings,
        handlers: Vec<H>,
        watch: &mut LimitWatch,
    ) -> anyhow::Result<Started<H>> {
        let batch_wait = Duration::from_micros(config.batch_wait_us);
        let room = config.connection_room(
            self.handles.len(),
            settings.other_files,
            settings.front_ends,
        );
        let denied = settings.denied_networks.map(|networks| DeniedClients {
            networks,
            peers_are_proxies: config.runs_behind_reverse_proxy,
        });
        let admission = Admission::new(room.connections, 0)
            .with_per_client(settings.connections_per_client)
            .with_rate(settings.request_rate)
            .with_denied(denied);
        let admission = Arc::new(admission);
        let memory_max =
            memory_per_worker(settings.memory_max, self.handles.len(), &settings.bounds);
        let stop_max = FINISH_MAX.max(settings.drain + DRAIN_GRACE);
        let (mut all_counters, mut guests) = (Vec::new(), Vec::new());
        let workers = handlers.into_iter().zip(self.handles).zip(self.listeners);
        for (index, ((handler, handle), listeners)) in workers.enumerate() {
            let counters = Arc::new(StreamCounters::default());
            all_counters.push(Arc::clone(&counters));
            let options = HubOptions {
                bounds: settings.bounds,
                memory_max,
                admission: Arc::clone(&admission),
                proxies: config
                    .proxy_protocol
                    .then(|| config.trusted_proxies.clone()),
                tls: settings.tls.clone(),
                drain: settings.drain,
                counters,
            };
            if let Some(waker) = hosts.get(index) {
                let waker = waker.clone();
                let finisher = supervisor.finisher_within(stop_max, move || waker.wake());
                guests.push(MakeGuest(Box::new(move || {
                    Guest::new(Hub::new(handler, options), listeners, clock, finisher)
                })));
                continue;
            }
            let waker = handle.waker.clone();
            let finisher = supervisor.finisher_within(stop_max, move || waker.wake());
            supervisor.spawn(format!("{prefix}socket-{index}"), move || {
                let hub = Hub::new(handler, options);
                runtime::run(hub, listeners, handle, clock, batch_wait, Some(finisher))
            })?;
        }
        limit_notes::watch(watch, &room, settings.output_advice, &all_counters);
        log::info!("runtime: {}", self.runtime.name());
        Ok(Started {
            counters: all_counters,
            guests,
        })
    }
}

/// Bytes that the connections of one of so many workers may hold. Enough for a few connections that
/// hold all that one may, even if that is more than was meant.
fn memory_per_worker(bytes: Option<u64>, workers: usize, bounds: &Bounds) -> usize {
    let Some(bytes) = bytes else {
        return usize::MAX;
    };
    let share = usize::try_from(bytes).unwrap_or(usize::MAX) / workers.max(1);
    let least = MEMORY_CONNECTIONS_MIN * held_bytes_max(bounds);
    if share < least {
        log::warn!(
            "`network.max_connection_memory` leaves {share} bytes to each socket worker, and a few \
             connections may need {least}: so many are allowed"
        );
    }
    share.max(least)
}

/// Loads certificate and key, if connections are to be encrypted. `alpn_protocols` is what clients
/// are told that can be spoken over them. `labels` tell its metrics from those of another front
/// end.
///
/// # Errors
/// If the files cannot be used.
pub fn load_tls(
    config: &StreamConfig,
    alpn_protocols: &[&[u8]],
    labels: &[Label],
) -> anyhow::Result<Option<TlsConfig>> {
    if !config.enable_tls {
        return Ok(None);
    }
    let (certificate, key) = (&config.tls_certificate_path, &config.tls_private_key_path);
    let tls = TlsConfig::load(certificate, key, alpn_protocols)
        .context("cannot encrypt connections (see network.enable_tls)")?;
    log::info!("TLS certificate {} loaded", certificate.display());
    warn_of_expiry(&tls);
    metrics::tls_loaded(&tls, labels);
    Ok(Some(tls))
}

/// The files that [`reload_tls`] reads.
#[must_use]
pub fn tls_files(config: &StreamConfig) -> Vec<PathBuf> {
    match config.enable_tls {
        true => vec![
            config.tls_certificate_path.clone(),
            config.tls_private_key_path.clone(),
        ],
        false => Vec::new(),
    }
}

/// Reads certificate and key as [`load_tls`] does, if connections are to be encrypted, and reports
/// everything for which they cannot be used.
pub fn check_tls(config: &StreamConfig, checks: &mut Checks) {
    const CERTIFICATE: &str = "network.tls_certificate_path";
    const KEY: &str = "network.tls_private_key_path";
    let (certificate, key) = (&config.tls_certificate_path, &config.tls_private_key_path);
    let is_named = |path: &Path| !path.as_os_str().is_empty();
    if !config.enable_tls || !is_named(certificate) || !is_named(key) {
        return;
    }
    let files = [(certificate, CERTIFICATE), (key, KEY)];
    // All of them, so that both are told; one alone cannot be judged.
    let passed_over = files.map(|(path, key)| special_file::is_passed_over(path, key, checks));
    if passed_over.contains(&true) {
        return;
    }
    for error in TlsConfig::check(certificate, key) {
        let is_about_key = error.path() == Some(key);
        let name = if is_about_key { KEY } else { CERTIFICATE };
        checks.require(false, name, error.to_string());
    }
    // Nothing new if it fails: the reason has just been told.
    if let Ok(tls) = TlsConfig::load(certificate, key, &[]) {
        checks.advise(!has_expired(&tls), CERTIFICATE, EXPIRED);
    }
}

const EXPIRED: &str = "has expired: clients refuse it";

fn warn_of_expiry(tls: &TlsConfig) {
    if has_expired(tls) {
        log::warn!("the TLS certificate {EXPIRED}");
    }
}

fn has_expired(tls: &TlsConfig) -> bool {
    let now = i64::try_from(unix_micros() / 1_000_000).unwrap_or(i64::MAX);
    tls.not_after().is_some_and(|not_after| not_after < now)
}

/// Loads certificate and key again. Files that cannot be used are logged as an error, and
/// the previous ones are kept.
pub fn reload_tls(tls: Option<&TlsConfig>, labels: &[Label]) {
    let Some(tls) = tls else {
        return;
    };
    match tls.reload() {
        Ok(()) => {
            log::info!("TLS certificate loaded, for new connections");
            warn_of_expiry(tls);
            metrics::tls_loaded(tls, labels);
        }
        Err(error) => {
            metrics::TLS.failed_of(labels);
            log::error!("reload failed, keeping the previous TLS certificate: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_among_workers_but_is_enough_for_each() {
        let bounds = Bounds {
            handshake_seconds: 1,
            request_seconds: 1,
            idle_seconds: 1,
            input_bytes_max: 1_000,
            output_bytes_max: 1_000,
        };
        assert_eq!(memory_per_worker(Some(400 << 20), 4, &bounds), 100 << 20);
        assert_eq!(memory_per_worker(None, 4, &bounds), usize::MAX);
        let least = MEMORY_CONNECTIONS_MIN * held_bytes_max(&bounds);
        assert_eq!(memory_per_worker(Some(1), 4, &bounds), least);
    }
}
