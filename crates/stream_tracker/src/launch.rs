//! How a tracker over TCP starts.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::exposition::Exposition;
use aquatic_daemon::kept_sockets::KeptSockets;
use aquatic_daemon::memory_at_hand::MemoryAtHand;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_daemon::replace_file;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_keys::SharedKeys;
use aquatic_stream::{
    Bounds, MakeGuest, SocketWorkers, StreamSettings, TlsConfig, load_tls, reload_tls, tls_files,
};
use aquatic_tracker::config::SnapshotPlan;
use aquatic_tracker::launch::{self, LaunchConfig, Reload};
use aquatic_tracker::live::LiveTracker;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::swarm_worker::{SwarmWait, WaitSettings, wait_handles};

use metrics::Label;

use crate::statistics::{self, Sources};
use crate::{CommonConfig, Follow, FrontEndWorkers, StreamTracker, Workers};

/// How long a swarm worker sleeps before it looks after its timers.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A tracker over TCP that is about to start, alone in its process: it has all it needs of the
/// system, but no workers.
pub struct Launch<'a> {
    launch: launch::Launch<'a>,
    bound: Bound<'a>,
    swarm_waits: Vec<SwarmWait>,
}

/// What can be done about a tracker that serves.
pub struct Served<C> {
    /// Reads the lists and certificates again.
    pub reload: Reload,
    /// Has it go by another configuration.
    pub follow: Follow<C>,
}

impl<'a> Launch<'a> {
    /// Binds all sockets, gives up the rights of root, reads the files that will be read again
    /// later, as the user who will do that, and enters the sandbox. `file` is where the
    /// configuration came from. `load` reads whatever else only root may read, and is
    /// told where the tracker listens; it returns what that needs later.
    ///
    /// # Errors
    /// If the system, or a file, does not give what the configuration asks for.
    pub fn prepare<T: StreamTracker>(
        supervisor: &'a Supervisor,
        config: CommonConfig<'a>,
        file: &ConfigFile,
        load: impl FnOnce(&[SocketAddr]) -> anyhow::Result<Needs>,
    ) -> anyhow::Result<Self> {
        let settings = LaunchConfig {
            metrics: config.metrics,
            privileges: config.privileges,
            access_list: config.access_list,
            keys: config.keys,
        };
        let bind = || {
            let bound = Bound::bind(config, supervisor.kept_sockets())?;
            let more_needs = load(&bound.addresses()?)?;
            Ok((bound, more_needs))
        };
        let (launch, (mut bound, more_needs)) =
            launch::Launch::prepare(supervisor, settings, bind, |_| Ok(()))?;
        launch::advise_workers(config.socket_workers, config.swarm_workers);
        bound.load_tls::<T>()?;
        let swarms = config.persistence.map(SnapshotPlan::output);
        let outputs = swarms.into_iter().chain(config.page());
        let outputs: Vec<_> = outputs.chain(config.exports.output()).collect();
        for (key, path) in &outputs {
            if let Err(error) = replace_file::check(path) {
                log::warn!("`{key}`: {error:#}");
            }
        }
        let of_file = file.needs(config.privileges);
        let mut needs = bound.needs().and(of_file).and(more_needs);
        // It is read at the start, too.
        needs.reads.extend(swarms.map(|(_, path)| path.to_owned()));
        let replaces = outputs.iter().map(|(_, path)| (*path).to_owned());
        needs.replaces.extend(replaces);
        launch.enter_sandbox(needs);
        Ok(Self {
            launch,
            bound,
            swarm_waits: wait_handles(config.topology().swarm_workers()),
        })
    }

    /// What wakes the workers: first the socket workers, then the swarm workers.
    #[must_use]
    pub fn wakers(&self) -> Vec<Waker> {
        launch::wakers(self.bound.wakers(), &self.swarm_waits)
    }

    /// What all trackers have of it.
    pub fn launch_mut(&mut self) -> &mut launch::Launch<'a> {
        &mut self.launch
    }

    /// Which torrents are allowed.
    #[must_use]
    pub fn access_list(&self) -> &SharedAccessList {
        self.launch.access_list()
    }

    /// Who is served, where clients need a key.
    #[must_use]
    pub fn keys(&self) -> &SharedKeys {
        self.launch.keys()
    }

    /// What is to be done about what outlives the process.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.launch.persistence(self.bound.config.persistence)
    }

    /// The certificate, if connections are encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.bound.tls()
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
    ) -> anyhow::Result<Served<T::Config>> {
        let Self {
            mut launch,
            bound,
            swarm_waits,
        } = self;
        let config = bound.config;
        let snapshotter = workers.snapshotter.as_ref();
        let live = LiveTracker::new(workers.limits.clone(), config.metrics, snapshotter);
        let (wait, stretch) = (bound.wait(), workers.limits.stretch.clone());
        launch.start_swarm_workers("", wait, workers.swarm_workers, swarm_waits)?;
        launch.start_snapshots("", workers.snapshotter)?;
        launch.show_torrents(("", T::SWARMS), workers.readers, config.exports)?;
        let export_interval = launch.export_interval();
        launch.show_also(write_metrics);
        let front_end = FrontEndWorkers {
            socket_workers: workers.socket_workers,
            request_rate: workers.limits.request_rate,
            counted: workers.counted,
            bounds,
            settings: workers.settings,
            metrics_interval: live.metrics_interval(),
        };
        let mut started = bound.start(&mut launch, ("", &[]), front_end)?;
        launch.control_intervals(&stretch, config.topology().workers(), false);
        let mut reload = launch.serve(live.metrics_interval())?;
        Ok(Served {
            reload: Box::new(move || {
                reload();
                (started.reload)();
            }),
            follow: Box::new(move |config| {
                (started.follow)(config);
                (workers.follow)(config);
                let config = T::common(config);
                export_interval.set(config.exports.interval());
                live.set(&config.limits.tracker, config.metrics, config.persistence);
            }),
        })
    }
}

/// A front end over TCP that serves.
pub struct StartedFrontEnd<T: StreamTracker> {
    /// Socket workers without a thread.
    pub guests: Vec<MakeGuest<T::SocketWorker>>,
    /// Reloads the certificate.
    pub reload: Reload,
    /// Has it go by another configuration.
    pub follow: Follow<T::Config>,
}

/// What a front end over TCP has bound before the rights of root are given up.
pub struct Bound<'a> {
    config: CommonConfig<'a>,
    sockets: SocketWorkers,
    tls: Option<TlsConfig>,
    memory_at_hand: Option<MemoryAtHand>,
}

impl<'a> Bound<'a> {
    /// Binds all sockets that an earlier process has not left among `kept_sockets`.
    ///
    /// # Errors
    /// If the system does not give what the configuration asks for.
    pub fn bind(config: CommonConfig<'a>, kept_sockets: &KeptSockets) -> anyhow::Result<Self> {
        let workers = config.topology().socket_workers();
        Ok(Self {
            config,
            sockets: SocketWorkers::bind(kept_sockets, config.stream, workers)?,
            tls: None,
            // The sandbox, or another root directory, would hide how much there is.
            memory_at_hand: MemoryAtHand::find(),
        })
    }

    /// Reads certificate and key, if connections are to be encrypted: as the user who will read
    /// them again at a reload.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn load_tls<T: StreamTracker>(&mut self) -> anyhow::Result<()> {
        let labels = self.labels::<T>();
        self.tls = load_tls(self.config.stream, T::ALPN_PROTOCOLS, &labels)?;
        Ok(())
    }

    /// What tells the metrics of its certificate from those of another front end.
    fn labels<T: StreamTracker>(&self) -> Vec<Label> {
        let label = Label::from_static_parts("protocol", T::NAME);
        let label = self.config.is_one_of_several.then_some(label);
        label.into_iter().collect()
    }

    /// The certificate, if connections are encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.tls.as_ref()
    }

    /// Where they listen.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(self.sockets.addresses()?)
    }

    /// What wakes the socket workers.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.sockets.wakers()
    }

    /// How long swarm workers wait.
    #[must_use]
    pub fn wait(&self) -> WaitSettings {
        WaitSettings {
            timeout: SLEEP_MAX,
            batch_wait: Duration::from_micros(self.config.stream.batch_wait_us),
        }
    }

    /// What it needs of the sandbox.
    #[must_use]
    pub fn needs(&self) -> Needs {
        Needs {
            reads: tls_files(self.config.stream),
            io_uring: self.sockets.use_io_uring(),
            ..Needs::default()
        }
    }

    /// Whether socket workers can run in the threads of others.
    #[must_use]
    pub fn can_be_guests(&self) -> bool {
        self.sockets.can_be_guests()
    }

    /// Starts the socket workers, whose threads are called `socket-0` and so on, after the
    /// `prefix`. The first ones get no thread, but are guests of those that `hosts` wake.
    ///
    /// # Errors
    /// If a worker cannot be started.
    pub fn start<T: StreamTracker>(
        self,
        launch: &mut launch::Launch<'_>,
        (prefix, hosts): (&str, &[Waker]),
        workers: FrontEndWorkers<T>,
    ) -> anyhow::Result<StartedFrontEnd<T>> {
        let labels = self.labels::<T>();
        let labels_of_figures = labels.clone();
        let Self {
            config,
            sockets,
            tls,
            memory_at_hand,
        } = self;
        let (supervisor, clock) = (launch.supervisor(), launch.clock());
        let per_client = NonZeroUsize::new(config.max_connections_per_ip());
        let per_client = Arc::new(PerClientLimit::with_max(per_client));
        let settings = StreamSettings {
            other_files: config.other_files(),
            front_ends: config.stream_front_ends,
            bounds: workers.bounds,
            memory_max: config.connection_memory(memory_at_hand),
            connections_per_client: Arc::clone(&per_client),
            // Connections of a reverse proxy are for any client, and their clients pay by request.
            request_rate: Some(workers.request_rate)
                .filter(|_| !config.stream.runs_behind_reverse_proxy),
            denied_networks: launch.access_list().denied_networks().cloned(),
            tls: tls.clone(),
            drain: config.drain,
            output_advice: T::OUTPUT_ADVICE,
        };
        let addresses = sockets.addresses()?;
        let started = sockets.start(
            (supervisor, clock),
            (prefix, hosts),
            config.stream,
            settings,
            workers.socket_workers,
            launch.watch_mut(),
        )?;
        launch.show(&workers.counted);
        let of_figures = started.counters.clone();
        launch.extend_figures(T::NAME, move |part| {
            statistics::extend(part, &of_figures, &labels_of_figures);
        });
        let sources = Sources {
            counted: workers.counted,
            connections: started.counters,
        };
        let (metrics, interval) = (config.metrics.clone(), workers.metrics_interval);
        supervisor.spawn(format!("{prefix}statistics"), move || {
            statistics::run(&metrics, &interval, &sources)
        })?;
        let scheme = T::SCHEMES[usize::from(tls.is_some())];
        for address in addresses {
            log::info!("serving at {scheme}://{address}{}", T::PATH);
        }
        let settings = workers.settings;
        Ok(StartedFrontEnd {
            guests: started.guests,
            reload: Box::new(move || reload_tls(tls.as_ref(), &labels)),
            follow: Box::new(move |config| {
                settings.set(Arc::new(config.clone()));
                let per_client_max = T::common(config).max_connections_per_ip();
                per_client.set_max(NonZeroUsize::new(per_client_max));
            }),
        })
    }
}
