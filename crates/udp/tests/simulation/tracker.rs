//! The system under test: all workers of a tracker, without sockets, threads and clock.
//!
//! What comes out is recorded, packet by packet, as soon as it is in an outbox; from then on the
//! outbox must keep it unchanged and in order until it is sent.

use std::collections::BTreeMap;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::waker_pair;
use aquatic_keys::SharedKeys;
use aquatic_swarm_log::SystemTime;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::simulation::SimulatedSnapshotter;
use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp::Now;
use aquatic_udp::config::Config;
use aquatic_udp::counters::{Counter, Label as _, Reason, RequestKind, ResponseKind};
use aquatic_udp::messages::BATCHES_MAX;
use aquatic_udp::workers::{Dependencies, Workers, build_workers};
use aquatic_udp_socket::{ReturnPath, SendReport};

/// The socket of each IP family, in each worker.
pub(crate) const SOCKETS: [IpFamily; 2] = IpFamily::ALL;

/// Unix time at the start: in the middle of a period of 16 bits.
const UNIX_SECONDS: u64 = 1_795_000_000;

/// Bytes of the largest answer that is never fragmented on its way.
const ANSWER_BYTES_MAX: usize = 1_400;

/// A datagram that leaves, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) path: ReturnPath,
    pub(crate) bytes: Vec<u8>,
}

/// What the kernel does with an outbox.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sending {
    /// Packets that it takes.
    pub(crate) sent: usize,
    /// Packets, after those, that it refuses one by one.
    pub(crate) failed: usize,
    /// Packets that are kept for the next time if there was no room for more.
    pub(crate) resend_len_max: usize,
}

/// What became of an outbox.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) packets: Vec<Packet>,
    pub(crate) bytes: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

pub(crate) struct Tracker {
    pub(crate) workers: Workers,
    pub(crate) snapshots: SimulatedSnapshotter,
    /// What is in the outboxes, by socket worker and socket.
    outboxes: Vec<[Vec<Packet>; SOCKETS.len()]>,
}

/// Counts by IP version, metric and label; what is zero is left out.
pub(crate) type Counts = BTreeMap<(&'static str, &'static str, &'static str), u64>;

impl Tracker {
    pub(crate) fn new(
        config: &Config,
        access_list: SharedAccessList,
        keys: &SharedKeys,
        persistence: Persistence,
        seed: u64,
    ) -> Self {
        let workers = config.topology().workers();
        let dependencies = Dependencies {
            access_list,
            wakers: (0..workers).map(|_| waker_pair(|| ()).1).collect(),
            persistence,
            sockets: SOCKETS.len(),
            connection_secret: None,
            unix_micros: UNIX_SECONDS * 1_000_000,
        };
        let mut workers = build_workers(config, dependencies, &mut fastrand::Rng::with_seed(seed))
            .expect("this entropy never fails");
        for worker in &mut workers.socket_workers {
            worker.require_keys(keys);
        }
        let snapshotter = workers.snapshotter.take().expect("persistence is on");
        let outboxes = workers
            .socket_workers
            .iter()
            .map(|_| Default::default())
            .collect();
        Self {
            workers,
            snapshots: SimulatedSnapshotter::new(snapshotter),
            outboxes,
        }
    }

    /// Writes a snapshot while nothing else happens.
    pub(crate) fn snapshot(&mut self, now: Now, system: &SystemTime) -> Vec<u8> {
        self.snapshots.begin(now, system);
        loop {
            for shard in 0..self.shards() {
                self.maintain(shard, now);
            }
            let file = self.snapshots.step(now, usize::MAX);
            if let Some(file) = file.expect("all workers are there") {
                return file;
            }
        }
    }

    pub(crate) fn socket_workers(&self) -> usize {
        self.workers.socket_workers.len()
    }

    pub(crate) fn shards(&self) -> usize {
        self.workers.counted.reports.len()
    }

    pub(crate) fn swarm_workers(&self) -> usize {
        self.workers.swarm_workers.len()
    }

    /// The socket worker to which the kernel steers a datagram. `None`: any.
    pub(crate) fn steered_to(&self, bytes: &[u8]) -> Option<usize> {
        let info_hash = InfoHash(bytes.get(16..36)?.try_into().ok()?);
        let worker = self
            .workers
            .shard_key
            .shard_of(&info_hash, self.socket_workers());
        (self.swarm_workers() == 0).then_some(worker)
    }

    pub(crate) fn receive(
        &mut self,
        worker: usize,
        now: Now,
        socket: usize,
        path: ReturnPath,
        bytes: &[u8],
    ) -> Vec<(usize, Packet)> {
        let socket = u8::try_from(socket).unwrap();
        self.workers.socket_workers[worker].receive(now, socket, path, bytes);
        self.appeared(worker)
    }

    pub(crate) fn receive_too_long(&mut self, worker: usize, path: ReturnPath, bytes: &[u8]) {
        self.workers.socket_workers[worker].receive_too_long(path, bytes);
    }

    pub(crate) fn finish(&mut self, worker: usize, now: Now) -> Vec<(usize, Packet)> {
        self.workers.socket_workers[worker].finish(now);
        let exchanges = self.shards() as u64;
        let in_flight = self.workers.counted.workers[worker].batches_in_flight.get();
        assert!(
            in_flight <= BATCHES_MAX as u64 * exchanges,
            "{in_flight} batches on their way"
        );
        self.appeared(worker)
    }

    pub(crate) fn answer(&mut self, swarm_worker: usize, now: Now) {
        self.workers.swarm_workers[swarm_worker].process(now);
    }

    /// A slice of background work of the owner of a shard. Returns whether there is more to do.
    pub(crate) fn maintain(&mut self, shard: usize, now: Now) -> bool {
        match self.workers.swarm_workers.get_mut(shard) {
            Some(worker) => worker.maintain(now),
            None => self.workers.socket_workers[shard].maintain(now),
        }
    }

    /// Whether a worker has put something into a queue that no other has taken out yet.
    pub(crate) fn has_pending(&self) -> bool {
        let Workers {
            socket_workers,
            swarm_workers,
            ..
        } = &self.workers;
        socket_workers.iter().any(|worker| worker.has_pending())
            || swarm_workers.iter().any(|worker| worker.has_pending())
    }

    /// New packets in the outboxes of a socket worker, with the sockets that they leave through.
    fn appeared(&mut self, worker: usize) -> Vec<(usize, Packet)> {
        let mut appeared = Vec::new();
        let outboxes = self.workers.socket_workers[worker].outboxes().iter();
        for (socket, (outbox, known)) in outboxes.zip(&mut self.outboxes[worker]).enumerate() {
            assert_eq!(outbox.len(), outbox.iter().count());
            assert!(outbox.len() >= known.len(), "answers have vanished");
            for (place, (path, bytes)) in outbox.iter().enumerate() {
                if let Some(known) = known.get(place) {
                    assert!(
                        known.path == *path && known.bytes == bytes,
                        "an answer has changed"
                    );
                    continue;
                }
                assert!(bytes.len() <= ANSWER_BYTES_MAX, "{} bytes", bytes.len());
                let packet = Packet {
                    path: *path,
                    bytes: bytes.to_vec(),
                };
                known.push(packet.clone());
                appeared.push((socket, packet));
            }
        }
        appeared
    }

    pub(crate) fn unsent(&self, worker: usize, socket: usize) -> usize {
        self.outboxes[worker][socket].len()
    }

    /// Does what a backend does with an outbox, as far as the kernel lets it.
    pub(crate) fn send(&mut self, worker: usize, socket: usize, sending: Sending) -> Sent {
        let known = &mut self.outboxes[worker][socket];
        let all = known.len();
        let packets: Vec<_> = known.drain(..sending.sent.min(all)).collect();
        let failed = known.drain(..sending.failed.min(known.len())).len();
        let sent_bytes = packets.iter().map(|packet| packet.bytes.len()).sum();
        let would_block = !known.is_empty();
        let dropped = known.len().saturating_sub(sending.resend_len_max);
        known.truncate(sending.resend_len_max);

        let report = SendReport {
            sent: packets.len(),
            sent_bytes,
            failed,
            last_error: (failed > 0).then(|| std::io::ErrorKind::PermissionDenied.into()),
            would_block,
        };
        let worker = &mut self.workers.socket_workers[worker];
        worker.outboxes()[socket].remove_front(packets.len() + failed);
        worker.account(SOCKETS[socket], socket, &report, sending.resend_len_max);
        assert_eq!(worker.outboxes()[socket].len(), known.len());
        Sent {
            packets,
            bytes: sent_bytes as u64,
            failed: failed as u64,
            dropped: dropped as u64,
        }
    }

    /// What one worker has counted for a reason.
    pub(crate) fn count_of(&self, worker: usize, reason: Reason) -> u64 {
        let of = |family| {
            self.workers.counted.workers[worker]
                .traffic(family)
                .reason(reason)
                .get()
        };
        of(IpFamily::V4) + of(IpFamily::V6)
    }

    /// What all workers have counted together.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for counters in &self.workers.counted.workers {
            for family in IpFamily::ALL {
                let traffic = counters.traffic(family);
                let mut add = |metric, label, counter: &Counter| {
                    add(&mut counts, (family.digit(), metric, label), counter.get());
                };
                for kind in RequestKind::ALL {
                    add("requests", kind.label(), traffic.requests(*kind));
                }
                for kind in ResponseKind::ALL {
                    add("responses", kind.label(), traffic.responses(*kind));
                }
                for reason in Reason::ALL {
                    add("reason", reason.label(), traffic.reason(*reason));
                }
                add("received", "bytes", &traffic.received_bytes);
                add("sent", "bytes", &traffic.sent_bytes);
            }
        }
        counts
    }

    /// Torrents and peers that the tracker says it has.
    pub(crate) fn gauges(&self, family: IpFamily) -> (u32, u32) {
        let gauges = self
            .workers
            .counted
            .workers
            .iter()
            .map(|counters| counters.swarms(family));
        gauges.fold((0, 0), |(torrents, peers), gauges| {
            let number = |gauge: &Counter| u32::try_from(gauge.get()).unwrap();
            (
                torrents + number(&gauges.torrents),
                peers + number(&gauges.peers),
            )
        })
    }

    /// Torrents and peers, by the histograms of the last cleaning.
    pub(crate) fn histogram_sums(&self, family: IpFamily) -> (u32, u32) {
        let (mut torrents, mut peers) = (0, 0);
        for report in &self.workers.counted.reports {
            let histograms = report.histograms().expect("they are wanted");
            for bucket in histograms.get(family).iter_recorded() {
                torrents += bucket.count_at_value();
                let size = u32::try_from(bucket.value_iterated_to()).unwrap();
                peers += size * bucket.count_at_value();
            }
        }
        (torrents, peers)
    }

    /// Peers that the tracker says use this client software.
    pub(crate) fn clients(&self) -> BTreeMap<[u8; 8], u32> {
        let mut clients = BTreeMap::new();
        for (prefix, peers) in self
            .workers
            .counted
            .reports
            .iter()
            .flat_map(|report| report.clients())
        {
            *clients.entry(prefix).or_default() += u32::try_from(peers).unwrap();
        }
        clients
    }
}

/// Adds to a count, without making one of zero.
pub(crate) fn add(
    counts: &mut Counts,
    label: (&'static str, &'static str, &'static str),
    amount: u64,
) {
    if amount > 0 {
        *counts.entry(label).or_default() += amount;
    }
}
