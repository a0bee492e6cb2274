//! A tracker without sockets, threads and clock. Nothing but tests needs it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_stream::{
    Admission, Bounds, ConnectionKey, Hub, HubOptions, IoAction, Refused, StreamCounters, TlsConfig,
};
use aquatic_swarm_log::SystemTime;
use aquatic_tracker::metrics::counters::WorkerCounters;
use aquatic_tracker::metrics::report::ShardReport;
use aquatic_tracker::persistence::simulation::SimulatedSnapshotter;
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::IpFamily;

use crate::{StreamTracker, Workers};

/// Over this time connections are closed at a stop.
const DRAIN: Duration = Duration::from_secs(1);

/// All workers of a tracker in one thread. Whoever drives it decides whose turn it is, what time it
/// is then, which bytes come in, and how many are taken out.
pub struct Simulation<T: StreamTracker> {
    /// The socket workers.
    pub hubs: Vec<Hub<T::SocketWorker>>,
    /// The swarm workers.
    pub swarm_workers: Vec<SwarmWorker<T::Shard>>,
    /// What the workers count: first the socket workers, then the swarm workers.
    pub counters: Vec<Arc<WorkerCounters<T>>>,
    /// What the hubs count.
    pub connections: Vec<Arc<StreamCounters>>,
    /// What the shards report.
    pub reports: Vec<Arc<ShardReport>>,
    /// Writes down what outlives the tracker, if anything does.
    pub snapshots: Option<SimulatedSnapshotter>,
}

impl<T: StreamTracker> Simulation<T> {
    /// A tracker without connections, and without a limit to them.
    #[must_use]
    pub fn new(workers: Workers<T>, bounds: Bounds) -> Self {
        Self::with_tls(workers, bounds, None)
    }

    /// As [`Self::new`], with connections that are encrypted if there is a certificate.
    #[must_use]
    pub fn with_tls(workers: Workers<T>, bounds: Bounds, tls: Option<&TlsConfig>) -> Self {
        // What they hold is counted all the same.
        Self::with(workers, bounds, usize::MAX, tls)
    }

    /// As [`Self::new`], with so many bytes that the connections of each hub may hold.
    #[must_use]
    pub fn with_memory(workers: Workers<T>, bounds: Bounds, memory_max: usize) -> Self {
        Self::with(workers, bounds, memory_max, None)
    }

    fn with(
        workers: Workers<T>,
        bounds: Bounds,
        memory_max: usize,
        tls: Option<&TlsConfig>,
    ) -> Self {
        let admission = Arc::new(Admission::new(0, 0));
        let mut connections = Vec::new();
        let hub = |worker| {
            let counters = Arc::<StreamCounters>::default();
            connections.push(Arc::clone(&counters));
            let options = HubOptions {
                bounds,
                memory_max,
                admission: Arc::clone(&admission),
                proxies: None,
                tls: tls.cloned(),
                drain: DRAIN,
                counters,
            };
            Hub::new(worker, options)
        };
        Self {
            hubs: workers.socket_workers.into_iter().map(hub).collect(),
            swarm_workers: workers.swarm_workers,
            counters: workers.counted.workers,
            connections,
            reports: workers.counted.reports,
            snapshots: workers.snapshotter.map(SimulatedSnapshotter::new),
        }
    }

    /// A client connects to a socket worker.
    ///
    /// # Errors
    /// If it is turned away at once.
    pub fn accept(
        &mut self,
        worker: usize,
        now: Now,
        peer: SocketAddr,
    ) -> Result<ConnectionKey, Refused> {
        let local = ([192, 0, 2, 255], 3_000).into();
        self.hubs[worker].accept(now, peer, local)
    }

    /// Takes as much of a connection's output as its client reads, and says what is to be done with
    /// the connection then.
    pub fn look_after(
        &mut self,
        worker: usize,
        now: Now,
        id: ConnectionKey,
        bytes_max: usize,
    ) -> (Vec<u8>, IoAction) {
        let hub = &mut self.hubs[worker];
        let output = hub.output(id);
        let sent = output[..output.len().min(bytes_max)].to_vec();
        if !output.is_empty() {
            hub.sent(now, id, sent.len());
        }
        // All that the client has sent has been received.
        let settled = hub.next_action(now, id, false);
        (sent, settled)
    }

    /// A swarm worker answers what it has been asked.
    pub fn answer(&mut self, swarm_worker: usize, now: Now) {
        self.swarm_workers[swarm_worker].process(now);
    }

    /// A slice of background work of a worker: first the socket workers, then the swarm workers.
    /// Returns whether there is more to do.
    pub fn maintain(&mut self, worker: usize, now: Now) -> bool {
        match worker.checked_sub(self.hubs.len()) {
            None => self.hubs[worker].maintain(now),
            Some(worker) => self.swarm_workers[worker].maintain(now),
        }
    }

    /// Whether a worker has put something into a queue that no other has taken out yet.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.hubs.iter().any(Hub::has_pending)
            || self.swarm_workers.iter().any(SwarmWorker::has_pending)
    }

    /// Writes down what outlives the tracker, while nothing else happens.
    ///
    /// # Panics
    /// If nothing does.
    pub fn snapshot(&mut self, now: Now, system: &SystemTime) -> Vec<u8> {
        let mut snapshots = self.snapshots.take().expect("persistence is on");
        snapshots.begin(now, system);
        let file = loop {
            for worker in 0..self.counters.len() {
                self.maintain(worker, now);
            }
            let file = snapshots.step(now, usize::MAX);
            if let Some(file) = file.expect("all workers are there") {
                break file;
            }
        };
        self.snapshots = Some(snapshots);
        file
    }

    /// Checks that what connections hold is known, without looking at each.
    ///
    /// # Panics
    /// If it is not.
    pub fn check_account(&self) {
        for hub in &self.hubs {
            let [kept, counted] = hub.accounts();
            assert_eq!(kept, counted, "bytes held");
        }
    }

    /// Torrents and peers that the tracker says it has.
    #[must_use]
    pub fn gauges(&self, family: IpFamily) -> (u64, u64) {
        let gauges = self.counters.iter().map(|counters| counters.swarms(family));
        gauges.fold((0, 0), |(torrents, peers), gauges| {
            (torrents + gauges.torrents.get(), peers + gauges.peers.get())
        })
    }
    /// Connections that the tracker says are open, by the addresses that they come from.
    #[must_use]
    pub fn active(&self, family: IpFamily) -> u64 {
        let active = |counters: &Arc<StreamCounters>| counters.active.get(family).get();
        self.connections.iter().map(active).sum()
    }
}
