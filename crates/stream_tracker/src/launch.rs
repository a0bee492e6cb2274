//! How a tracker over TCP starts.

use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::exposition::Exposition;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::memory_at_hand::MemoryAtHand;
use aquatic_daemon::replace_file;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_stream::{
    Bounds, SocketWorkers, StreamSettings, TlsConfig, load_tls, reload_tls, tls_files,
};
use aquatic_tracker::config::SnapshotPlan;
use aquatic_tracker::launch::{self, LaunchConfig, Reload};
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::swarm_worker::WaitSettings;

use crate::statistics::{self, Sources};
use crate::{CommonConfig, StreamTracker, Workers};

/// How long a swarm worker sleeps before it looks after its timers.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A tracker over TCP that is about to start: it has all it needs of the system, but no workers.
pub struct Launch<'a> {
    launch: launch::Launch<'a>,
    config: CommonConfig<'a>,
    sockets: SocketWorkers,
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
        let settings = LaunchConfig {
            socket_workers: config.socket_workers,
            swarm_workers: config.swarm_workers,
            wait: WaitSettings {
                timeout: SLEEP_MAX,
                batch_wait: Duration::from_micros(config.stream.batch_wait_us),
            },
            metrics: config.metrics,
            privileges: config.privileges,
            access_list: config.access_list,
        };
        let bind = || {
            let workers = settings.topology().socket_workers();
            let sockets = SocketWorkers::bind(config.stream, workers)?;
            // The sandbox, or another root directory, would hide how much there is.
            Ok((sockets, MemoryAtHand::find()))
        };
        let (launch, (sockets, memory_at_hand)) =
            launch::Launch::prepare(supervisor, settings, bind)?;
        let tls = load_tls(config.stream, T::ALPN_PROTOCOLS)?;
        let output = config.persistence.map(SnapshotPlan::output);
        if let Some((key, path)) = output
            && let Err(error) = replace_file::check(path)
        {
            log::warn!("`{key}`: {error:#}");
        }
        let output = output.map(|(_, path)| path.to_owned());
        launch.enter_sandbox(Needs {
            reads: tls_files(config.stream)
                .into_iter()
                .chain(output.clone())
                .collect(),
            replaces: output.into_iter().collect(),
            io_uring: sockets.use_io_uring(),
        });
        Ok(Self {
            launch,
            config,
            sockets,
            tls,
            memory_at_hand,
        })
    }

    /// What wakes the workers: first the socket workers, then the swarm workers.
    #[must_use]
    pub fn wakers(&self) -> Vec<Waker> {
        self.launch.wakers(self.sockets.wakers())
    }

    /// Which torrents are allowed.
    #[must_use]
    pub fn access_list(&self) -> &SharedAccessList {
        self.launch.access_list()
    }

    /// What is to be done about what outlives the process.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.launch.persistence(self.config.persistence)
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
        workers: Workers<T>,
        bounds: Bounds,
        write_metrics: impl FnMut(&mut Exposition) + Send + 'static,
    ) -> anyhow::Result<Reload> {
        let Self {
            mut launch,
            config,
            sockets,
            tls,
            memory_at_hand,
        } = self;
        let supervisor = launch.supervisor();
        launch.start_swarm_workers(workers.swarm_workers)?;
        launch.start_snapshots(workers.snapshotter)?;
        let settings = StreamSettings {
            other_files: config.metrics.endpoint_files_max(),
            bounds,
            memory_max: config.connection_memory(memory_at_hand),
            max_connections_per_ip: config.max_connections_per_ip(),
            // Connections of a reverse proxy are for any client, and their clients pay by request.
            request_rate: workers
                .request_rate
                .filter(|_| !config.stream.runs_behind_reverse_proxy),
            tls: tls.clone(),
            output_advice: T::OUTPUT_ADVICE,
        };
        let addresses = sockets.addresses()?;
        let mut watch = LimitWatch::new();
        let connections = sockets.start(
            supervisor,
            launch.clock(),
            config.stream,
            settings,
            workers.socket_workers,
            &mut watch,
        )?;
        let counted = workers.counted;
        let mut reload = launch.serve(&counted, watch, write_metrics)?;
        let sources = Sources {
            counted,
            connections,
        };
        let metrics = config.metrics.clone();
        supervisor.spawn("statistics", move || statistics::run(&metrics, &sources))?;

        let scheme = T::SCHEMES[usize::from(tls.is_some())];
        for address in addresses {
            log::info!("serving at {scheme}://{address}{}", T::PATH);
        }
        Ok(Box::new(move || {
            reload();
            reload_tls(tls.as_ref());
        }))
    }
}
