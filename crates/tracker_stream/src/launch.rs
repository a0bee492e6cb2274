//! How a tracker over TCP starts.

use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::exposition::Exposition;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::memory_at_hand::MemoryAtHand;
use aquatic_daemon::metrics_endpoint::MetricsEndpoint;
use aquatic_daemon::sandbox::{self, Needs};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, privileges};
use aquatic_stream::{
    Bounds, SocketWorkers, StreamSettings, TlsConfig, load_tls, reload_tls, tls_files,
};
use aquatic_tracker::config::too_many_workers;
use aquatic_tracker::limit_notes;
use aquatic_tracker::statistics::{write_old_names, write_peer_counts};
use aquatic_tracker::swarm_worker::{self, SwarmWait, WaitSettings};

use crate::statistics::{self, Sources};
use crate::{Arrangement, CommonConfig, StreamTracker};

/// How long a swarm worker sleeps before it looks after its timers.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What is done at a reload.
pub type Reload = Box<dyn FnMut()>;

/// A tracker that is about to start: it has all it needs of the system, but no workers.
pub struct Launch<'a> {
    config: CommonConfig<'a>,
    clock: Clock,
    supervisor: &'a Supervisor,
    sockets: SocketWorkers,
    endpoint: Option<MetricsEndpoint>,
    swarm_waits: Vec<SwarmWait>,
    access_list: SharedAccessList,
    tls: Option<TlsConfig>,
    memory_at_hand: Option<MemoryAtHand>,
}

impl<'a> Launch<'a> {
    /// Binds all sockets, gives up the rights of root, reads the files that will be read again
    /// later, as the user who will do that, and enters the sandbox.
    ///
    /// # Errors
    /// If the system, or a file, does not give what the configuration asks for.
    pub fn prepare<T: StreamTracker>(
        supervisor: &'a Supervisor,
        config: CommonConfig<'a>,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let sockets = SocketWorkers::bind(config.stream, config.topology().socket_workers())?;
        let endpoint = config.metrics.bind_endpoint()?;
        if let Some(reason) = too_many_workers(config.socket_workers, config.swarm_workers) {
            log::warn!("`socket_workers` {reason}");
        }
        // The sandbox, or another root directory, would hide it.
        let memory_at_hand = MemoryAtHand::find();
        privileges::drop(config.privileges)?;
        let access_list = access_list::load(config.access_list)?;
        let tls = load_tls(config.stream, T::ALPN_PROTOCOLS)?;
        let mut reads = access_list::files(config.access_list);
        reads.extend(tls_files(config.stream));
        let needs = Needs {
            reads,
            replaces: Vec::new(),
            io_uring: sockets.use_io_uring(),
        };
        sandbox::enter(config.privileges, &needs, supervisor);
        Ok(Self {
            config,
            clock,
            supervisor,
            sockets,
            endpoint,
            swarm_waits: swarm_worker::wait_handles(config.topology().swarm_workers()),
            access_list,
            tls,
            memory_at_hand,
        })
    }

    /// What wakes the workers: first the socket workers, then the swarm workers.
    #[must_use]
    pub fn wakers(&self) -> Vec<Waker> {
        let of_swarm_workers = self.swarm_waits.iter().map(|handle| handle.waker.clone());
        self.sockets.wakers().chain(of_swarm_workers).collect()
    }

    /// Which torrents are allowed.
    #[must_use]
    pub fn access_list(&self) -> &SharedAccessList {
        &self.access_list
    }

    /// The certificate, if connections are encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.tls.as_ref()
    }

    /// Starts the workers. `bounds` hold for each connection. `write_metrics` adds what only this
    /// daemon counts, whenever Prometheus asks.
    ///
    /// # Errors
    /// If a worker cannot be started.
    pub fn serve<T: StreamTracker>(
        self,
        arrangement: Arrangement<T>,
        bounds: Bounds,
        write_metrics: impl FnMut(&mut Exposition) + Send + 'static,
    ) -> anyhow::Result<Reload> {
        let Self {
            config,
            clock,
            supervisor,
            endpoint,
            access_list,
            tls,
            memory_at_hand,
            ..
        } = self;
        let settings = WaitSettings {
            timeout: SLEEP_MAX,
            batch_wait: Duration::from_micros(config.stream.batch_wait_us),
        };
        let swarm_workers = arrangement.swarm_workers;
        swarm_worker::start(supervisor, clock, settings, swarm_workers, self.swarm_waits)?;
        let mut watch = LimitWatch::new();
        limit_notes::watch(&mut watch, &arrangement.counters);
        let settings = StreamSettings {
            other_files: endpoint.as_ref().map_or(0, |_| MetricsEndpoint::FILES_MAX),
            bounds,
            memory_max: config.connection_memory(memory_at_hand),
            max_connections_per_ip: config.max_connections_per_ip(),
            // Connections of a reverse proxy are for any client, and their clients pay by request.
            request_rate: arrangement
                .request_rate
                .filter(|_| !config.stream.runs_behind_reverse_proxy),
            tls: tls.clone(),
            output_advice: T::OUTPUT_ADVICE,
        };
        let addresses = self.sockets.addresses()?;
        let handlers = arrangement.socket_workers;
        let connections = self.sockets.start(
            supervisor,
            clock,
            config.stream,
            settings,
            handlers,
            &mut watch,
        )?;
        supervisor.spawn("limits", move || watch.run())?;
        let sources = Sources {
            workers: arrangement.counters,
            connections,
            reports: arrangement.reports,
        };
        if let Some(mut endpoint) = endpoint {
            let (workers, reports) = (sources.workers.clone(), sources.reports.clone());
            let with_prefixes = config.metrics.prometheus_peer_id_prefixes;
            endpoint.also(move |text| write_peer_counts(&reports, with_prefixes, text));
            endpoint.also(move |text| write_old_names(&workers, text));
            endpoint.also(write_metrics);
            endpoint.start(supervisor)?;
        }
        let metrics = config.metrics.clone();
        supervisor.spawn("statistics", move || statistics::run(&metrics, &sources))?;

        let scheme = T::SCHEMES[usize::from(tls.is_some())];
        for address in addresses {
            log::info!("serving at {scheme}://{address}{}", T::PATH);
        }
        let access_list_config = config.access_list.clone();
        Ok(Box::new(move || {
            access_list::reload(&access_list_config, &access_list);
            reload_tls(tls.as_ref());
        }))
    }
}
