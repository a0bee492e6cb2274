//! What workers have counted and shards have reported, at one moment, summed up. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquatic_peer_id::PeerClient;
use aquatic_types::{IpFamily, PeerId, PerFamily};
use hdrhistogram::Histogram;

use crate::counters::{
    Label as _, Reason, RequestKind, ResponseKind, TrafficCounters, WorkerCounters,
};
use aquatic_tracker::clients::Prefix;
use aquatic_tracker::report::{ShardReport, empty_histogram};

/// Totals over all workers and shards.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When it was taken, since statistics began.
    pub(super) at: Duration,
    pub(super) families: PerFamily<FamilySnapshot>,
    /// Batches that are on their way between workers.
    pub(super) queue_batches: u64,
    /// How long the last cleaning took where it took longest.
    pub(super) cleaning_max: Duration,
    /// Peers by the beginning of their peer ids, most peers first.
    pub(super) prefixes: Vec<(Prefix, u64)>,
}

/// Totals of one IP family.
#[derive(Debug, Default)]
pub(super) struct FamilySnapshot {
    pub(super) traffic: Traffic,
    pub(super) torrents: u64,
    pub(super) peers: u64,
    /// How many torrents have how many peers, in the shards that have counted.
    pub(super) peers_per_torrent: Option<Histogram<u32>>,
}

impl Snapshot {
    /// Reads everything.
    pub(super) fn take(
        at: Duration,
        workers: &[Arc<WorkerCounters>],
        reports: &[Arc<ShardReport>],
    ) -> Self {
        let mut families = PerFamily::<FamilySnapshot>::default();
        for worker in workers {
            for family in IpFamily::ALL {
                let totals = families.get_mut(family);
                totals.traffic.add(worker.traffic(family));
                totals.torrents += worker.swarms(family).torrents.get();
                totals.peers += worker.swarms(family).peers.get();
            }
        }
        for histograms in reports.iter().filter_map(|report| report.histograms()) {
            for family in IpFamily::ALL {
                let merged = &mut families.get_mut(family).peers_per_torrent;
                // Cannot fail: all of these histograms have the same bounds.
                *merged.get_or_insert_with(empty_histogram) += histograms.get(family);
            }
        }
        let cleanings = workers
            .iter()
            .map(|worker| worker.shard.cleaning_micros.get());
        Self {
            at,
            families,
            queue_batches: workers
                .iter()
                .map(|worker| worker.batches_in_flight.get())
                .sum(),
            cleaning_max: Duration::from_micros(cleanings.max().unwrap_or(0)),
            prefixes: most_first(reports.iter().flat_map(|report| report.clients())),
        }
    }

    /// Peers by client, most peers first.
    pub(super) fn clients(&self) -> Vec<(PeerClient, u64)> {
        most_first(
            self.prefixes
                .iter()
                .map(|(prefix, peers)| (client(*prefix), *peers)),
        )
    }
}

/// Adds up what is counted under the same key, and sorts by count, then by key.
fn most_first<K: Copy + Eq + Ord + std::hash::Hash, N: TryInto<u64>>(
    counts: impl Iterator<Item = (K, N)>,
) -> Vec<(K, u64)> {
    let mut sums = HashMap::<K, u64>::new();
    for (key, count) in counts {
        *sums.entry(key).or_default() += count.try_into().unwrap_or(u64::MAX);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(key, count)| (Reverse(*count), *key));
    sums
}

/// The client whose peer ids begin like this.
fn client(prefix: Prefix) -> PeerClient {
    // What follows name and version is random, or dashes where a custom wants them. Only aria2
    // needs more than 8 bytes for its version (A2-1-37-0-); since 1.20 all of them end in 0.
    let mut id = match prefix {
        [b'A', b'2', b'-', .., b'-'] => *b"________0-----------",
        _ => *b"________------------",
    };
    id.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
    PeerClient::from_peer_id(PeerId(id))
}

/// Totals since the start, or between two moments. The order is that of the enums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    requests: [u64; RequestKind::ALL.len()],
    responses: [u64; ResponseKind::ALL.len()],
    reasons: [u64; Reason::ALL.len()],
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

impl Traffic {
    fn add(&mut self, counters: &TrafficCounters) {
        for (total, kind) in self.requests.iter_mut().zip(RequestKind::ALL) {
            *total += counters.requests(*kind).get();
        }
        for (total, kind) in self.responses.iter_mut().zip(ResponseKind::ALL) {
            *total += counters.responses(*kind).get();
        }
        for (total, reason) in self.reasons.iter_mut().zip(Reason::ALL) {
            *total += counters.reason(*reason).get();
        }
        self.received_bytes += counters.received_bytes.get();
        self.sent_bytes += counters.sent_bytes.get();
    }

    /// What has been added since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: differences(self.requests, &earlier.requests),
            responses: differences(self.responses, &earlier.responses),
            reasons: differences(self.reasons, &earlier.reasons),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
        }
    }

    pub(super) fn requests(&self, kind: RequestKind) -> u64 {
        self.requests.get(kind as usize).copied().unwrap_or(0)
    }

    pub(super) fn responses(&self, kind: ResponseKind) -> u64 {
        self.responses.get(kind as usize).copied().unwrap_or(0)
    }

    pub(super) fn reason(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).copied().unwrap_or(0)
    }
}

fn differences<const N: usize>(mut later: [u64; N], earlier: &[u64; N]) -> [u64; N] {
    for (later, earlier) in later.iter_mut().zip(earlier) {
        *later = later.saturating_sub(*earlier);
    }
    later
}

#[cfg(test)]
mod tests {
    use aquatic_tracker::report::empty_histograms;

    use super::*;

    fn report(peers_v4: &[u64], clients: &[(&[u8; 8], usize)]) -> Arc<ShardReport> {
        let mut histograms = empty_histograms();
        for peers in peers_v4 {
            histograms.v4.record(*peers).unwrap();
        }
        let report = ShardReport::default();
        report.set_histograms(histograms);
        report.set_clients(clients.iter().map(|(prefix, peers)| (**prefix, *peers)));
        Arc::new(report)
    }

    #[test]
    fn workers_are_summed_by_family() {
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::default()));
        for (worker, amount) in workers.iter().zip([1, 10]) {
            let traffic = worker.traffic(IpFamily::V6);
            traffic.requests(RequestKind::Scrape).add(amount);
            traffic.responses(ResponseKind::Error).add(2 * amount);
            traffic.reason(Reason::PeerLimit).add(3 * amount);
            traffic.received_bytes.add(4 * amount);
            traffic.sent_bytes.add(5 * amount);
            worker.swarms(IpFamily::V6).torrents.set(6 * amount);
            worker.swarms(IpFamily::V6).peers.set(7 * amount);
            worker.batches_in_flight.set(8 * amount);
            worker.shard.cleaning_micros.set(9 * amount);
        }
        let snapshot = Snapshot::take(Duration::ZERO, &workers, &[]);
        let v6 = &snapshot.families.v6;
        assert_eq!(v6.traffic.requests, [0, 0, 11]);
        assert_eq!(v6.traffic.responses(ResponseKind::Error), 22);
        assert_eq!(v6.traffic.reason(Reason::PeerLimit), 33);
        assert_eq!(v6.traffic.reason(Reason::PeersPerIp), 0);
        assert_eq!((v6.traffic.received_bytes, v6.traffic.sent_bytes), (44, 55));
        assert_eq!((v6.torrents, v6.peers), (66, 77));
        assert_eq!(snapshot.families.v4.traffic, Traffic::default());
        assert_eq!(snapshot.queue_batches, 88);
        assert_eq!(snapshot.cleaning_max, Duration::from_micros(90));
    }

    #[test]
    fn difference_is_what_was_added() {
        let worker = Arc::new(WorkerCounters::default());
        let traffic = worker.traffic(IpFamily::V4);
        let take = || Snapshot::take(Duration::ZERO, &[Arc::clone(&worker)], &[]);
        traffic.requests(RequestKind::Announce).add(5);
        traffic.sent_bytes.add(100);
        let earlier = take();
        traffic.requests(RequestKind::Announce).add(7);
        traffic.reason(Reason::QueueFull).add(1);
        traffic.sent_bytes.add(11);
        let later = take();

        let added = later
            .families
            .v4
            .traffic
            .since(&earlier.families.v4.traffic);
        let mut expected = Traffic {
            sent_bytes: 11,
            ..Traffic::default()
        };
        expected.requests[RequestKind::Announce as usize] = 7;
        expected.reasons[Reason::QueueFull as usize] = 1;
        assert_eq!(added, expected);
    }

    #[test]
    fn histograms_of_shards_are_merged() {
        let reports = [
            report(&[1, 1, 1], &[]),
            Arc::new(ShardReport::default()),
            report(&[2, 70], &[]),
        ];
        let snapshot = Snapshot::take(Duration::ZERO, &[], &reports);
        let v4 = snapshot.families.v4.peers_per_torrent.unwrap();
        assert_eq!((v4.len(), v4.min(), v4.max()), (5, 1, 70));
        assert_eq!(v4.value_at_quantile(0.5), 1);
        assert!((v4.mean() - 15.0).abs() < 0.01);
        assert!(snapshot.families.v6.peers_per_torrent.unwrap().is_empty());
        let none = Snapshot::take(Duration::ZERO, &[], &[Arc::new(ShardReport::default())]);
        assert!(none.families.v4.peers_per_torrent.is_none());
    }

    #[test]
    fn clients_of_shards_are_merged_and_sorted() {
        let reports = [
            report(&[], &[(b"-TR4060-", 2), (b"-qB4650-", 3)]),
            report(
                &[],
                &[(b"-TR4060-", 4), (b"-qB465B-", 3), (b"\0\0\0\0\0\0\0\0", 1)],
            ),
        ];
        let snapshot = Snapshot::take(Duration::ZERO, &[], &reports);
        assert_eq!(
            snapshot.prefixes,
            [
                (*b"-TR4060-", 6),
                (*b"-qB4650-", 3),
                (*b"-qB465B-", 3),
                ([0; 8], 1)
            ]
        );
        let clients = snapshot.clients();
        let clients: Vec<_> = clients
            .iter()
            .map(|(client, peers)| (client.to_string(), *peers))
            .collect();
        let expected = [
            ("Transmission 4.0.6", 6),
            ("qBittorrent 4.6.5", 6),
            ("Other", 1),
        ];
        assert_eq!(
            clients,
            expected.map(|(client, peers)| (client.to_owned(), peers))
        );
    }

    #[test]
    fn eight_bytes_are_enough_to_tell_a_client() {
        for (prefix, expected) in [
            (b"-qB4650-", "qBittorrent 4.6.5"),
            (b"A2-1-37-", "aria2 1.37.0"),
            (b"A2-1-3-1", "aria2 1.3.1"),
            (b"M7-2-0--", "BitTorrent 7.2.0"),
            (b"M4-20-8-", "BitTorrent 4.20.8"),
            (b"S58B----", "Shadow's client 5.8.11"),
            (b"TIX0193-", "Tixati 1.93"),
            (b"????????", "Other"),
        ] {
            assert_eq!(client(*prefix).to_string(), expected);
        }
    }
}
