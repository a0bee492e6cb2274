//! How a tracker starts, whatever the protocol.
//!
//! The order is the same for all of them, and it matters:
//!
//! 1. [`Launch::prepare`]: every socket of the process is bound, which may want the rights of root;
//!    then these are given up, and only then is the access list read, by the user who will read it
//!    again at a reload.
//! 2. The tracker reads what files it has besides, and makes its workers.
//! 3. [`Launch::enter_sandbox`], before or after the workers are made, but before they have
//!    threads.
//! 4. [`Launch::start_swarm_workers`], and the tracker's own socket workers.
//! 5. [`Launch::serve`] starts what looks on: at what [`Launch::show`] was told of.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_channel::Waker;
use aquatic_config::{AccessListConfig, KeysConfig, PrivilegeConfig};
use aquatic_daemon::access_list::AccessListEditor;
use aquatic_daemon::clock::{BootId, Clock, boot_id};
use aquatic_daemon::endpoint::{Post, Request, Response};
use aquatic_daemon::exposition::Exposition;
use aquatic_daemon::keys::KeysEditor;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::metrics_endpoint::MetricsEndpoint;
use aquatic_daemon::process::Process;
use aquatic_daemon::sandbox::{self, Needs};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, keys, privileges};
use aquatic_keys::SharedKeys;
use crossbeam_utils::sync::Parker;
use metrics::Label;

use crate::announces::Announces;
use crate::config::{MetricsConfig, SnapshotPlan, too_many_workers};
use crate::interval::{self, LoadSource, Stretch};
use crate::limit_notes;
use crate::metrics::counters::{Protocol, WorkerCounters};
use crate::metrics::figures::Part;
use crate::metrics::figures::collector::{SharedCollector, Sources};
use crate::metrics::report::ShardReport;
use crate::metrics::tables::Publisher;
use crate::metrics::{pages, write_old_names, write_peer_counts};
use crate::persistence::Persistence;
use crate::persistence::snapshotter::Snapshotter;
use crate::shard::Shard;
use crate::shard::swarm_worker::{self, SwarmWait, SwarmWorker, WaitSettings};
use crate::torrents::export::{Exporter, ScrapeExportsConfig};
use crate::torrents::pages::TorrentPages;
use crate::torrents::readable::Readable;
use crate::torrents::reading::ShardReaders;

/// What an operator has set about the start of any tracker.
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig<'a> {
    /// The section `metrics`.
    pub metrics: &'a MetricsConfig,
    /// The section `privileges`.
    pub privileges: &'a PrivilegeConfig,
    /// The section `access_list`.
    pub access_list: &'a AccessListConfig,
    /// The section `keys`.
    pub keys: &'a KeysConfig,
}

/// What is done at a reload.
pub type Reload = Box<dyn FnMut()>;

/// What the workers of a tracker count, and its shards report.
pub struct Counted<P: Protocol> {
    /// First of the socket workers, then of the swarm workers: the order is their `worker_index`.
    pub workers: Vec<Arc<WorkerCounters<P>>>,
    /// Of each shard.
    pub reports: Vec<Arc<ShardReport>>,
    /// Whether it is these workers that show how large the swarms are.
    pub has_swarms: bool,
    /// The process serves other protocols, too: metrics say which one they are about.
    pub is_one_of_several: bool,
}

impl<P: Protocol> Counted<P> {
    /// Of a process that serves nothing else.
    #[must_use]
    pub fn of(workers: Vec<Arc<WorkerCounters<P>>>, reports: Vec<Arc<ShardReport>>) -> Self {
        Self {
            workers,
            reports,
            has_swarms: true,
            is_one_of_several: false,
        }
    }

    /// The label that says which protocol metrics are about, if that has to be told.
    #[must_use]
    pub fn protocol_label(&self) -> Option<Label> {
        let label = Label::from_static_parts("protocol", P::NAME);
        self.is_one_of_several.then_some(label)
    }
}

impl<P: Protocol> Clone for Counted<P> {
    fn clone(&self) -> Self {
        Self {
            workers: self.workers.clone(),
            reports: self.reports.clone(),
            has_swarms: self.has_swarms,
            is_one_of_several: self.is_one_of_several,
        }
    }
}

/// What is read from files, as the user that the process stays.
struct Lists {
    access_list: AccessListEditor,
    keys: KeysEditor,
}

impl Lists {
    fn load(config: &LaunchConfig<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            access_list: AccessListEditor::load(config.access_list)?,
            keys: KeysEditor::load(config.keys)?,
        })
    }
}

/// A tracker that is about to start: it has all it needs of the system, but no workers.
pub struct Launch<'a> {
    config: LaunchConfig<'a>,
    supervisor: &'a Supervisor,
    clock: Clock,
    boot_id: BootId,
    endpoint: Option<MetricsEndpoint>,
    access_list: Arc<AccessListEditor>,
    keys: Arc<KeysEditor>,
    announces: Option<Announces>,
    watch: LimitWatch,
    /// Of what people are shown.
    sources: Sources,
    process: Process,
    torrents: TorrentPages,
    export_interval: LiveSettings<Duration>,
    /// What tells of the load.
    load: Vec<LoadSource>,
}

impl<'a> Launch<'a> {
    /// Binds all sockets, gives up the rights of root and reads the access list. `bind` binds those
    /// of the tracker, and does whatever else is for root or outside a new root directory.
    ///
    /// `attach` does what others on this machine notice each time: last of all, so that a start
    /// that fails, and is tried again for ever, does not do it. (Only who changes the user reads
    /// lists later.)
    ///
    /// # Errors
    /// If the system, or the access list, does not give what the configuration asks for.
    pub fn prepare<B>(
        supervisor: &'a Supervisor,
        config: LaunchConfig<'a>,
        bind: impl FnOnce() -> anyhow::Result<B>,
        attach: impl FnOnce(&mut B) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Self, B)> {
        let clock = Clock::start();
        // Another root directory, or the sandbox, would hide it.
        let boot_id = boot_id().unwrap_or_default();
        let process = Process::open();
        privileges::owner(config.privileges)?;
        let mut bound = bind()?;
        // What an earlier process has left and nobody wants may be in the way of the endpoint.
        supervisor.kept_sockets().settle();
        let endpoint = config
            .metrics
            .bind_endpoint(config.privileges, supervisor)?;
        let lists = match config.privileges.drop_privileges {
            false => Some(Lists::load(&config)?),
            true => None,
        };
        attach(&mut bound)?;
        privileges::drop_privileges(config.privileges)?;
        let lists = lists.map_or_else(|| Lists::load(&config), Ok)?;
        let launch = Self {
            config,
            supervisor,
            clock,
            boot_id,
            endpoint,
            access_list: Arc::new(lists.access_list),
            keys: Arc::new(lists.keys),
            announces: None,
            watch: LimitWatch::new(),
            sources: Sources::default(),
            process,
            torrents: TorrentPages::default(),
            export_interval: LiveSettings::new(Duration::ZERO),
            load: Vec::new(),
        };
        Ok((launch, bound))
    }

    /// What watches over the workers.
    #[must_use]
    pub fn supervisor(&self) -> &'a Supervisor {
        self.supervisor
    }

    /// The clock of all workers.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What is to be done about swarms that outlive the process.
    #[must_use]
    pub fn persistence(&self, plan: Option<SnapshotPlan<'_>>) -> Persistence {
        Persistence::new(plan, self.clock, self.boot_id)
    }

    /// Which torrents are allowed.
    #[must_use]
    pub fn access_list(&self) -> &SharedAccessList {
        self.access_list.shared()
    }

    /// What changes the access list.
    #[must_use]
    pub fn access_list_editor(&self) -> Arc<AccessListEditor> {
        Arc::clone(&self.access_list)
    }

    /// What changes the keys.
    #[must_use]
    pub fn keys_editor(&self) -> Arc<KeysEditor> {
        Arc::clone(&self.keys)
    }

    /// Has workers tell of announces from now on, if somebody wants to hear of them. To be called
    /// before there are workers.
    pub fn tell_announces(&mut self, announces: Option<Announces>) {
        self.announces = announces;
    }

    /// Where workers tell of announces, if somebody wants to hear of them.
    #[must_use]
    pub fn announces(&self) -> Option<&Announces> {
        self.announces.as_ref()
    }

    /// Who is served, where clients need a key.
    #[must_use]
    pub fn keys(&self) -> &SharedKeys {
        self.keys.shared()
    }

    /// Enters the sandbox, if there is to be one: from now on the process has what it `needs`, and
    /// the files of the access list and of the keys.
    pub fn enter_sandbox(&self, mut needs: Needs) {
        let lists = access_list::files(self.config.access_list);
        needs.reads.extend(lists);
        needs.reads.extend(keys::files(self.config.keys));
        let LaunchConfig {
            access_list,
            privileges,
            ..
        } = self.config;
        let endpoint = self.endpoint.as_ref();
        if let Some(endpoint) = endpoint {
            needs = needs.and(endpoint.needs(privileges));
            // The operator may have changes to the list written.
            if endpoint.has_token() && access_list.mode != AccessListMode::Off {
                needs.replaces.push(access_list.path.clone());
            }
            if endpoint.has_token() {
                needs.replaces.extend(keys::files(self.config.keys));
            }
        }
        MetricsEndpoint::apart_from(endpoint, || {
            sandbox::enter(privileges, &needs, self.supervisor);
        });
    }

    /// Starts the workers that own shards and nothing else. Their threads are called `swarm-0` and
    /// so on, after the `prefix`.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start_swarm_workers<S: Shard>(
        &self,
        prefix: &str,
        wait: WaitSettings,
        workers: Vec<SwarmWorker<S>>,
        handles: Vec<SwarmWait>,
    ) -> anyhow::Result<()> {
        let supervisor = self.supervisor;
        swarm_worker::start(supervisor, self.clock, prefix, wait, workers, handles)
    }

    /// Starts the thread that writes swarms down, if they are. It is called `snapshot`, after the
    /// `prefix`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_snapshots(
        &self,
        prefix: &str,
        snapshotter: Option<Snapshotter>,
    ) -> anyhow::Result<()> {
        let Some(snapshotter) = snapshotter else {
            return Ok(());
        };
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let finisher = self.supervisor.last_finisher(move || unparker.unpark());
        self.supervisor.spawn(format!("{prefix}snapshot"), move || {
            snapshotter.run(finisher, &parker)
        })
    }

    /// Has the operator's endpoint show these torrents, as those of `protocol`, and starts the
    /// thread that lists them in a file, if that is wanted. It is called `export`, after the
    /// `prefix`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn show_torrents<S: Readable>(
        &mut self,
        (prefix, protocol): (&str, &'static str),
        readers: ShardReaders<S>,
        exports: &ScrapeExportsConfig,
    ) -> anyhow::Result<()> {
        self.torrents.add(protocol, readers.clone());
        let Some((_, path)) = exports.output() else {
            return Ok(());
        };
        self.export_interval.set(exports.interval());
        let (path, interval) = (path.to_owned(), self.export_interval());
        let exporter = Exporter::new(readers);
        self.supervisor.spawn(format!("{prefix}export"), move || {
            exporter.run(&path, &interval);
            Ok(())
        })
    }

    /// How often torrents are listed in a file, which can be changed.
    #[must_use]
    pub fn export_interval(&self) -> LiveSettings<Duration> {
        self.export_interval.clone()
    }

    /// The limits that the log tells of.
    pub fn watch_mut(&mut self) -> &mut LimitWatch {
        &mut self.watch
    }

    /// Has the log tell of the limits of these workers, and Prometheus of what they count; numbers
    /// that change in every moment are published by [`PrometheusMetrics`] besides.
    ///
    /// [`PrometheusMetrics`]: crate::metrics::PrometheusMetrics
    pub fn show<P: Protocol>(&mut self, counted: &Counted<P>) {
        limit_notes::watch(&mut self.watch, counted);
        self.sources.reports.extend_from_slice(&counted.reports);
        self.load.push(LoadSource::of(counted));
        let figures = counted.clone();
        let part = move || Part::of(&figures);
        self.sources.parts.push(Box::new(part));
        // Those of one protocol could not be told from those of another.
        if !counted.is_one_of_several {
            let workers = counted.workers.clone();
            self.show_also(move |text| write_old_names(&workers, text));
        }
    }

    /// Has `extend` fill in, whenever figures are shown, what this protocol has besides.
    pub fn extend_figures(
        &mut self,
        protocol: &'static str,
        extend: impl Fn(&mut Part) + Send + 'static,
    ) {
        let extend = Box::new(extend);
        self.sources.extensions.push((protocol, extend));
    }

    /// Has the load of all workers that have been [shown](Self::show) control when clients are told
    /// to announce again. They have so many `threads`. `is_one_of_several`: the process may serve
    /// several protocols.
    pub fn control_intervals(
        &mut self,
        stretch: &Stretch,
        threads: usize,
        is_one_of_several: bool,
    ) {
        let load = mem::take(&mut self.load);
        let control = interval::control(stretch.clone(), threads, load);
        self.watch.also(control);
        let stretch = stretch.clone();
        self.show_also(move |text| stretch.write(is_one_of_several, text));
    }

    /// Has Prometheus told what `write` adds, if there is an endpoint.
    pub fn show_also(&mut self, write: impl FnMut(&mut Exposition) + Send + 'static) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.also(write);
        }
    }

    /// Has `page` answer for `path` at the operator's endpoint, if there is one: see
    /// [`MetricsEndpoint::serve_page`].
    pub fn serve_page(
        &mut self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.serve_page(path, page);
        }
    }

    /// Has `page` answer for `path` to clients that show the operator's token: see
    /// [`MetricsEndpoint::serve_private_page`].
    pub fn serve_private_page(
        &mut self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.serve_private_page(path, page);
        }
    }

    /// Has `action` done for clients that show the operator's token: see
    /// [`MetricsEndpoint::serve_action`].
    pub fn serve_action(
        &mut self,
        path: &'static str,
        body_bytes_max: usize,
        action: impl FnMut(Post) -> Response + Send + 'static,
    ) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.serve_action(path, body_bytes_max, action);
        }
    }

    /// Starts what looks on while the workers work. Tables are written at this interval, if they
    /// are. Returns what reloads the access list and the keys.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn serve(mut self, interval: LiveSettings<Duration>) -> anyhow::Result<Reload> {
        let reports = self.sources.reports.clone();
        let with_prefixes = self.config.metrics.prometheus_peer_id_prefixes;
        self.show_also(move |text| write_peer_counts(&reports, with_prefixes, text));
        self.show_figures(interval)?;
        let torrents = mem::take(&mut self.torrents);
        let (list, single) = torrents.into_pages(self.clock, self.access_list().clone());
        self.serve_page("/torrents", list);
        self.serve_page("/torrents/", single);
        let Self {
            supervisor,
            endpoint,
            access_list,
            keys,
            watch,
            clock,
            ..
        } = self;
        supervisor.spawn("limits", move || watch.run())?;
        let mut reload_token = None;
        if let Some(mut endpoint) = endpoint {
            access_list::serve(&mut endpoint, &access_list);
            keys::serve(&mut endpoint, &keys, clock);
            reload_token = Some(endpoint.start(supervisor)?);
        }
        keys::start_calendar(supervisor, keys.shared(), clock)?;
        Ok(Box::new(move || {
            if let Some(reload_token) = &mut reload_token {
                reload_token();
            }
            access_list.reload();
            keys.reload();
        }))
    }

    /// Has people see figures: at the endpoint, and as tables, where these are wanted.
    fn show_figures(&mut self, interval: LiveSettings<Duration>) -> anyhow::Result<()> {
        let tables = &self.config.metrics.tables;
        if self.endpoint.is_none() && !tables.are_wanted() {
            return Ok(());
        }
        let (sources, process) = (mem::take(&mut self.sources), mem::take(&mut self.process));
        let collector = SharedCollector::new(sources, process, self.clock);
        if self.endpoint.is_some() {
            pages::serve(self, &collector);
            let collector = collector.clone();
            self.supervisor.spawn("figures", move || collector.run())?;
        }
        if tables.are_wanted() {
            let publisher = Publisher::start(self.supervisor, tables)?;
            self.supervisor
                .spawn("tables", move || publisher.run(&collector, &interval))?;
        }
        Ok(())
    }
}

/// What wakes the workers of a tracker: first the socket workers, then the swarm workers, which
/// will wait at `swarm_waits`.
#[must_use]
pub fn wakers(
    of_socket_workers: impl Iterator<Item = Waker>,
    swarm_waits: &[SwarmWait],
) -> Vec<Waker> {
    let of_swarm_workers = swarm_waits.iter().map(|handle| handle.waker.clone());
    of_socket_workers.chain(of_swarm_workers).collect()
}

/// Warns if there are more workers than CPUs.
pub fn advise_workers(socket_workers: usize, swarm_workers: usize) {
    if let Some(reason) = too_many_workers(socket_workers, swarm_workers) {
        log::warn!("`socket_workers` {reason}");
    }
}
