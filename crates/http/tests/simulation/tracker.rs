//! The system under test: all workers of a tracker, without sockets and threads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::bell;
use aquatic_daemon::clock::Now;
use aquatic_daemon::counter::Label;
use aquatic_http::arrangement::{Arrangement, arrange};
use aquatic_http::config::Config;
use aquatic_http::counters::{Reason, RequestKind, ResponseKind, WorkerCounters};
use aquatic_http::shard::Shard;
use aquatic_http::worker::Worker;
use aquatic_stream::{Admission, ConnectionId, Hub, HubOptions, Settled, StreamCounters};
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::swarm_worker::SwarmWorker;
use aquatic_types::IpFamily;

/// Counts by IP version, metric and label; what is zero is left out.
pub(crate) type Counts = BTreeMap<(&'static str, &'static str, &'static str), u64>;

pub(crate) struct Tracker {
    hubs: Vec<Hub<Worker>>,
    swarm_workers: Vec<SwarmWorker<Shard>>,
    counters: Vec<Arc<WorkerCounters>>,
    connections: Vec<Arc<StreamCounters>>,
    pub(crate) reports: Vec<Arc<ShardReport>>,
}

impl Tracker {
    pub(crate) fn new(config: &Config, access_list: &SharedAccessList, seed: u64) -> Self {
        let workers = config.layout().workers();
        let bells: Vec<_> = (0..workers).map(|_| bell(|| ()).1).collect();
        let entropy = &mut Seeded(fastrand::Rng::with_seed(seed));
        let arranged = arrange(config, access_list, &bells, entropy);
        let (arrangement, _) = arranged.expect("this entropy never fails");
        let Arrangement {
            socket_workers,
            swarm_workers,
            counters,
            reports,
        } = arrangement;
        let admission = Arc::new(Admission::new(0, 0));
        let connections: Vec<Arc<StreamCounters>> =
            socket_workers.iter().map(|_| Arc::default()).collect();
        let hubs = socket_workers.into_iter().zip(&connections);
        let hubs = hubs.map(|(worker, counters)| {
            let options = HubOptions {
                bounds: config.bounds(),
                admission: Arc::clone(&admission),
                proxies: None,
                tls: None,
                counters: Arc::clone(counters),
            };
            Hub::new(worker, options)
        });
        Self {
            hubs: hubs.collect(),
            swarm_workers,
            counters,
            connections,
            reports,
        }
    }

    pub(crate) fn socket_workers(&self) -> usize {
        self.hubs.len()
    }

    pub(crate) fn swarm_workers(&self) -> usize {
        self.swarm_workers.len()
    }

    pub(crate) fn accept(&mut self, worker: usize, now: Now, peer: SocketAddr) -> ConnectionId {
        let local = ([192, 0, 2, 255], 3_000).into();
        let accepted = self.hubs[worker].accept(now, peer, local);
        accepted.expect("there is no limit")
    }

    pub(crate) fn hub(&mut self, worker: usize) -> &mut Hub<Worker> {
        &mut self.hubs[worker]
    }

    /// Sends as much of a connection's output as the client reads, and says what is to be done
    /// then.
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

    pub(crate) fn answer(&mut self, swarm_worker: usize, now: Now) {
        self.swarm_workers[swarm_worker].answer(now);
    }

    /// A slice of background work of a worker. Returns whether there is more to do.
    pub(crate) fn background(&mut self, worker: usize, now: Now) -> bool {
        match worker.checked_sub(self.hubs.len()) {
            None => self.hubs[worker].background(now),
            Some(worker) => self.swarm_workers[worker].background(now),
        }
    }

    /// Whether a worker has put something into a queue that no other has taken out yet.
    pub(crate) fn has_mail(&self) -> bool {
        self.hubs.iter().any(Hub::has_mail)
            || self.swarm_workers.iter().any(SwarmWorker::has_requests)
    }

    /// What all workers have counted together.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        let mut add = |family: IpFamily, metric, label, count: u64| {
            if count > 0 {
                *counts.entry((family.digit(), metric, label)).or_default() += count;
            }
        };
        for counters in &self.counters {
            for family in IpFamily::ALL {
                let traffic = counters.traffic(family);
                for kind in RequestKind::ALL {
                    let count = traffic.requests(*kind).get();
                    add(family, "requests", kind.label(), count);
                }
                for kind in ResponseKind::ALL {
                    let count = traffic.responses(*kind).get();
                    add(family, "responses", kind.label(), count);
                }
                for reason in Reason::ALL {
                    let count = traffic.reason(*reason).get();
                    add(family, "reason", reason.label(), count);
                }
            }
        }
        counts
    }

    /// Torrents and peers that the tracker says it has.
    pub(crate) fn gauges(&self, family: IpFamily) -> (u64, u64) {
        let gauges = self.counters.iter().map(|counters| counters.swarms(family));
        gauges.fold((0, 0), |(torrents, peers), gauges| {
            (torrents + gauges.torrents.get(), peers + gauges.peers.get())
        })
    }

    /// Connections that the tracker says are open, by the addresses that they come from.
    pub(crate) fn active(&self, family: IpFamily) -> u64 {
        let counters = self.connections.iter();
        counters
            .map(|counters| counters.active.get(family).get())
            .sum()
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
