//! How a tracker starts, whatever the protocol.
//!
//! The order is the same for all of them, and it matters:
//!
//! 1. [`Launch::prepare`]: every socket of the process is bound, which may want the rights of root;
//!    then these are given up, and only then is the access list read, by the user who will read it
//!    again at a reload.
//! 2. The tracker reads what files it has besides, and makes its workers, which are woken by
//!    [`Launch::wakers`].
//! 3. [`Launch::enter_sandbox`], before or after the workers are made, but before they have
//!    threads.
//! 4. [`Launch::start_swarm_workers`], and the tracker's own socket workers.
//! 5. [`Launch::serve`] starts what looks on.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_config::{AccessListConfig, PrivilegeConfig};
use aquatic_daemon::clock::{BootId, Clock, boot_id};
use aquatic_daemon::exposition::Exposition;
use aquatic_daemon::limit_watch::LimitWatch;
use aquatic_daemon::metrics_endpoint::MetricsEndpoint;
use aquatic_daemon::sandbox::{self, Needs};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, privileges};
use crossbeam_utils::sync::Parker;

use crate::config::{MetricsConfig, SnapshotPlan, too_many_workers};
use crate::dispatch::topology::Topology;
use crate::limit_notes;
use crate::metrics::counters::{Protocol, WorkerCounters};
use crate::metrics::report::ShardReport;
use crate::metrics::{write_old_names, write_peer_counts};
use crate::persistence::Persistence;
use crate::persistence::snapshotter::Snapshotter;
use crate::shard::Shard;
use crate::shard::swarm_worker::{self, SwarmWait, SwarmWorker, WaitSettings};

/// What an operator has set about the start of any tracker.
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig<'a> {
    /// `socket_workers`.
    pub socket_workers: usize,
    /// `swarm_workers`.
    pub swarm_workers: usize,
    /// How long swarm workers wait.
    pub wait: WaitSettings,
    /// The section `metrics`.
    pub metrics: &'a MetricsConfig,
    /// The section `privileges`.
    pub privileges: &'a PrivilegeConfig,
    /// The section `access_list`.
    pub access_list: &'a AccessListConfig,
}

impl LaunchConfig<'_> {
    /// How many workers of each kind there are.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology::from_config(self.socket_workers, self.swarm_workers)
    }
}

/// What is done at a reload.
pub type Reload = Box<dyn FnMut()>;

/// What the workers of a tracker count, and its shards report.
pub struct Counted<P: Protocol> {
    /// First of the socket workers, then of the swarm workers: the order is their `worker_index`.
    pub workers: Vec<Arc<WorkerCounters<P>>>,
    /// Of each shard.
    pub reports: Vec<Arc<ShardReport>>,
}

impl<P: Protocol> Clone for Counted<P> {
    fn clone(&self) -> Self {
        Self {
            workers: self.workers.clone(),
            reports: self.reports.clone(),
        }
    }
}

/// A tracker that is about to start: it has all it needs of the system, but no workers.
pub struct Launch<'a> {
    config: LaunchConfig<'a>,
    supervisor: &'a Supervisor,
    clock: Clock,
    boot_id: BootId,
    endpoint: Option<MetricsEndpoint>,
    swarm_waits: Vec<SwarmWait>,
    access_list: SharedAccessList,
}

impl<'a> Launch<'a> {
    /// Binds all sockets, gives up the rights of root and reads the access list. `bind` binds those
    /// of the tracker, and does whatever else is for root or outside a new root directory.
    ///
    /// # Errors
    /// If the system, or the access list, does not give what the configuration asks for.
    pub fn prepare<B>(
        supervisor: &'a Supervisor,
        config: LaunchConfig<'a>,
        bind: impl FnOnce() -> anyhow::Result<B>,
    ) -> anyhow::Result<(Self, B)> {
        let clock = Clock::start();
        // Another root directory, or the sandbox, would hide it.
        let boot_id = boot_id().unwrap_or_default();
        let bound = bind()?;
        let endpoint = config.metrics.bind_endpoint()?;
        if let Some(reason) = too_many_workers(config.socket_workers, config.swarm_workers) {
            log::warn!("`socket_workers` {reason}");
        }
        privileges::drop_privileges(config.privileges)?;
        let launch = Self {
            config,
            supervisor,
            clock,
            boot_id,
            endpoint,
            swarm_waits: swarm_worker::wait_handles(config.topology().swarm_workers()),
            access_list: access_list::load(config.access_list)?,
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
        &self.access_list
    }

    /// What wakes the workers: first the socket workers, then the swarm workers.
    #[must_use]
    pub fn wakers(&self, of_socket_workers: impl Iterator<Item = Waker>) -> Vec<Waker> {
        let of_swarm_workers = self.swarm_waits.iter().map(|handle| handle.waker.clone());
        of_socket_workers.chain(of_swarm_workers).collect()
    }

    /// Enters the sandbox, if there is to be one: from now on the process has what it `needs`, and
    /// the files of the access list.
    pub fn enter_sandbox(&self, mut needs: Needs) {
        needs
            .reads
            .extend(access_list::files(self.config.access_list));
        sandbox::enter(self.config.privileges, &needs, self.supervisor);
    }

    /// Starts the workers that own shards and nothing else.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start_swarm_workers<S: Shard>(
        &mut self,
        workers: Vec<SwarmWorker<S>>,
    ) -> anyhow::Result<()> {
        let handles = std::mem::take(&mut self.swarm_waits);
        let wait = self.config.wait;
        swarm_worker::start(self.supervisor, self.clock, wait, workers, handles)
    }

    /// Starts the thread that writes swarms down, if they are.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_snapshots(&self, snapshotter: Option<Snapshotter>) -> anyhow::Result<()> {
        let Some(snapshotter) = snapshotter else {
            return Ok(());
        };
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let finisher = self.supervisor.last_finisher(move || unparker.unpark());
        self.supervisor
            .spawn("snapshot", move || snapshotter.run(finisher, &parker))
    }

    /// Starts what looks on while the workers work: what tells of limits, in the log, those of
    /// `watch` and of all workers, and the endpoint of Prometheus, where `write_metrics` adds what
    /// only this tracker counts. Returns what reloads the access list.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn serve<P: Protocol>(
        self,
        counted: &Counted<P>,
        mut watch: LimitWatch,
        write_metrics: impl FnMut(&mut Exposition) + Send + 'static,
    ) -> anyhow::Result<Reload> {
        limit_notes::watch(&mut watch, &counted.workers);
        self.supervisor.spawn("limits", move || watch.run())?;
        if let Some(mut endpoint) = self.endpoint {
            let Counted { workers, reports } = counted.clone();
            let with_prefixes = self.config.metrics.prometheus_peer_id_prefixes;
            endpoint.also(move |text| write_peer_counts(&reports, with_prefixes, text));
            endpoint.also(move |text| write_old_names(&workers, text));
            endpoint.also(write_metrics);
            endpoint.start(self.supervisor)?;
        }
        let (config, access_list) = (self.config.access_list.clone(), self.access_list);
        Ok(Box::new(move || access_list::reload(&config, &access_list)))
    }
}
