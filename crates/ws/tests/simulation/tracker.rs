//! The system under test: all workers of a tracker, without sockets and threads.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::bell;
use aquatic_daemon::clock::Now;
use aquatic_daemon::counter::Label;
use aquatic_stream::{Admission, ConnectionId, Hub, HubOptions, Settled};
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::swarm_worker::SwarmWorker;
use aquatic_types::IpFamily;
use aquatic_ws::arrangement::{Arrangement, arrange};
use aquatic_ws::config::Config;
use aquatic_ws::counters::{Reason, WorkerCounters};
use aquatic_ws::relay::Relay;
use aquatic_ws::worker::Worker;

pub(crate) struct Tracker {
    hubs: Vec<Hub<Worker>>,
    swarm_workers: Vec<SwarmWorker<Relay>>,
    counters: Vec<Arc<WorkerCounters>>,
}

impl Tracker {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let workers = config.layout().workers();
        let bells: Vec<_> = (0..workers).map(|_| bell(|| ()).1).collect();
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let entropy = &mut Seeded(fastrand::Rng::with_seed(seed));
        let arranged = arrange(config, &access_list, None, &bells, entropy);
        let Arrangement {
            socket_workers,
            swarm_workers,
            counters,
            ..
        } = arranged.expect("this entropy never fails");
        let admission = Arc::new(Admission::new(0, 0));
        let hubs = socket_workers.into_iter().map(|worker| {
            let options = HubOptions {
                bounds: config.bounds(),
                admission: Arc::clone(&admission),
                proxies: None,
                tls: None,
                counters: Arc::default(),
            };
            Hub::new(worker, options)
        });
        Self {
            hubs: hubs.collect(),
            swarm_workers,
            counters,
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.hubs.len()
    }

    pub(crate) fn accept(&mut self, worker: usize, now: Now, peer: SocketAddr) -> ConnectionId {
        let local = ([192, 0, 2, 255], 3_000).into();
        let accepted = self.hubs[worker].accept(now, peer, local);
        accepted.expect("there is no limit")
    }

    pub(crate) fn hub(&mut self, worker: usize) -> &mut Hub<Worker> {
        &mut self.hubs[worker]
    }

    /// Sends as much of a connection's output as the client reads, and says what is to be done.
    pub(crate) fn look_after(
        &mut self,
        worker: usize,
        now: Now,
        id: ConnectionId,
        bytes_max: usize,
    ) -> (Vec<u8>, Settled) {
        let hub = &mut self.hubs[worker];
        let output = hub.output(id);
        let sent = output[..output.len().min(bytes_max)].to_vec();
        if !output.is_empty() {
            hub.sent(now, id, sent.len());
        }
        (sent, hub.settle(now, id, false))
    }

    pub(crate) fn answer(&mut self, now: Now) {
        for worker in &mut self.swarm_workers {
            worker.answer(now);
        }
    }

    /// All background work of all workers.
    pub(crate) fn background(&mut self, now: Now) {
        for hub in &mut self.hubs {
            while hub.background(now) {}
        }
        for worker in &mut self.swarm_workers {
            while worker.background(now) {}
        }
    }

    /// Whether a worker has put something into a queue that no other has taken out yet.
    pub(crate) fn has_mail(&self) -> bool {
        self.hubs.iter().any(Hub::has_mail)
            || self.swarm_workers.iter().any(SwarmWorker::has_requests)
    }

    /// Torrents, and peers by family, that the tracker says it has.
    pub(crate) fn gauges(&self) -> (u64, [u64; 2]) {
        let sum = |gauge: &dyn Fn(&WorkerCounters) -> u64| {
            self.counters.iter().map(|counters| gauge(counters)).sum()
        };
        let torrents = |family: IpFamily| sum(&|it| it.swarms(family).torrents.get());
        let peers = |family: IpFamily| sum(&|it| it.swarms(family).peers.get());
        let [v4, v6] = IpFamily::ALL;
        (torrents(v4) + torrents(v6), [peers(v4), peers(v6)])
    }

    /// Why messages were refused or dropped.
    pub(crate) fn reasons(&self) -> BTreeSet<&'static str> {
        let mut reasons = BTreeSet::new();
        for counters in &self.counters {
            for family in IpFamily::ALL {
                for reason in Reason::ALL {
                    if counters.traffic(family).reason(*reason).get() > 0 {
                        reasons.insert(reason.label());
                    }
                }
            }
        }
        reasons
    }
}

/// Random numbers that are the same each time.
struct Seeded(fastrand::Rng);

impl Entropy for Seeded {
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        Ok(bytes)
    }
}
