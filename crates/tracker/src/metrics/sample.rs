//! What workers have counted and shards have reported, at one moment, summed up. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use aquatic_peer_id::PeerClient;
use aquatic_types::{IpFamily, PeerId, PerFamily};
use hdrhistogram::Histogram;

use crate::metrics::counters::{Counts, Label, Protocol, TrafficCounters, WorkerCounters};
use crate::metrics::report::{ShardReport, empty_histogram};
use crate::shard::client_stats::ClientPrefix;

/// Totals over all workers and shards.
pub struct Sample<P: Protocol> {
    /// When it was taken, since statistics began.
    pub at: Duration,
    /// By IP family.
    pub families: PerFamily<FamilySample<P>>,
    /// Batches that are on their way between workers.
    pub queue_batches: u64,
    /// How long the last cleaning took where it took longest.
    pub cleaning_max: Duration,
    /// Peers by the beginning of their peer ids, most peers first.
    pub prefixes: Vec<(ClientPrefix, u64)>,
}

/// Totals of one IP family.
pub struct FamilySample<P: Protocol> {
    /// What has been received and sent.
    pub traffic: Traffic<P>,
    /// Torrents that have been announced.
    pub torrents: u64,
    /// Peers, over all torrents.
    pub peers: u64,
    /// How many torrents have how many peers, in the shards that have counted.
    pub peers_per_torrent: Option<Histogram<u32>>,
}

impl<P: Protocol> Sample<P> {
    /// Reads everything.
    #[must_use]
    pub fn take(
        at: Duration,
        workers: &[Arc<WorkerCounters<P>>],
        reports: &[Arc<ShardReport>],
    ) -> Self {
        let mut families = PerFamily::<FamilySample<P>>::default();
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
            prefixes: prefixes_of(reports),
        }
    }

    /// Peers by client, most peers first.
    #[must_use]
    pub fn clients(&self) -> Vec<(PeerClient, u64)> {
        clients_of(&self.prefixes)
    }
}

/// Peers by prefix of the peer id, most peers first.
pub(super) fn prefixes_of(reports: &[Arc<ShardReport>]) -> Vec<(ClientPrefix, u64)> {
    most_first(reports.iter().flat_map(|report| report.clients()))
}

/// Peers by client, most peers first.
pub(super) fn clients_of(prefixes: &[(ClientPrefix, u64)]) -> Vec<(PeerClient, u64)> {
    let prefixes = prefixes.iter();
    most_first(prefixes.map(|(prefix, peers)| (client(*prefix), *peers)))
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

/// The name of the client whose peer ids begin like this.
pub(crate) fn client_name(prefix: ClientPrefix) -> String {
    client(prefix).to_string()
}

/// The client whose peer ids begin like this.
fn client(prefix: ClientPrefix) -> PeerClient {
    // What follows name and version is random, or dashes where a custom wants them. Only aria2
    // needs more than 8 bytes for its version (A2-1-37-0-); since 1.20 all of them end in 0.
    let mut id = match prefix {
        [b'A', b'2', b'-', .., b'-'] => *b"________0-----------",
        _ => *b"________------------",
    };
    id.iter_mut().zip(prefix).for_each(|(to, from)| *to = from);
    PeerClient::from_peer_id(PeerId(id))
}

impl<P: Protocol> Default for FamilySample<P> {
    fn default() -> Self {
        Self {
            traffic: Traffic::default(),
            torrents: 0,
            peers: 0,
            peers_per_torrent: None,
        }
    }
}

/// Totals since the start, or between two moments.
pub struct Traffic<P: Protocol> {
    /// Requests that could be read.
    pub requests: Totals<P::Request>,
    /// Answers.
    pub responses: Totals<P::Response>,
    /// What was dropped or refused.
    pub reasons: Totals<P::Reason>,
    /// Bytes of payload received.
    pub received_bytes: u64,
    /// Bytes of payload sent.
    pub sent_bytes: u64,
}

impl<P: Protocol> Traffic<P> {
    fn add(&mut self, counters: &TrafficCounters<P>) {
        self.requests.add(&counters.requests);
        self.responses.add(&counters.responses);
        self.reasons.add(&counters.reasons);
        self.received_bytes += counters.received_bytes.get();
        self.sent_bytes += counters.sent_bytes.get();
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.since(&earlier.requests),
            responses: self.responses.since(&earlier.responses),
            reasons: self.reasons.since(&earlier.reasons),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
        }
    }
}

impl<P: Protocol> Default for Traffic<P> {
    fn default() -> Self {
        Self {
            requests: Totals::default(),
            responses: Totals::default(),
            reasons: Totals::default(),
            received_bytes: 0,
            sent_bytes: 0,
        }
    }
}

/// A number for each value of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals<L> {
    /// In the order of the values.
    numbers: Vec<u64>,
    label: PhantomData<L>,
}

impl<L: Label> Totals<L> {
    /// The number of a value.
    #[must_use]
    pub fn of(&self, label: L) -> u64 {
        self.numbers.get(label.index()).copied().unwrap_or(0)
    }

    fn add(&mut self, counts: &Counts<L>) {
        for (total, (_, count)) in self.numbers.iter_mut().zip(counts.iter()) {
            *total += count;
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let pairs = self.numbers.iter().zip(&earlier.numbers);
        Self {
            numbers: pairs
                .map(|(later, earlier)| later.saturating_sub(*earlier))
                .collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label> Default for Totals<L> {
    fn default() -> Self {
        Self {
            numbers: vec![0; L::ALL.len()],
            label: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::counters::test_protocol::{Bees, Reason, RequestKind, ResponseKind};
    use crate::metrics::report::empty_histograms;

    use super::*;

    type Worker = WorkerCounters<Bees>;

    fn take(workers: &[Arc<Worker>], reports: &[Arc<ShardReport>]) -> Sample<Bees> {
        Sample::take(Duration::ZERO, workers, reports)
    }

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
        let workers = [(); 2].map(|()| Arc::new(Worker::default()));
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
        let sample = take(&workers, &[]);
        let v6 = &sample.families.v6;
        assert_eq!(v6.traffic.requests.of(RequestKind::Announce), 0);
        assert_eq!(v6.traffic.requests.of(RequestKind::Scrape), 11);
        assert_eq!(v6.traffic.responses.of(ResponseKind::Error), 22);
        assert_eq!(v6.traffic.reasons.of(Reason::PeerLimit), 33);
        assert_eq!(v6.traffic.reasons.of(Reason::TooShort), 0);
        assert_eq!((v6.traffic.received_bytes, v6.traffic.sent_bytes), (44, 55));
        assert_eq!((v6.torrents, v6.peers), (66, 77));
        let v4 = &sample.families.v4.traffic;
        assert_eq!(v4.requests, Totals::default());
        assert_eq!(v4.received_bytes, 0);
        assert_eq!(sample.queue_batches, 88);
        assert_eq!(sample.cleaning_max, Duration::from_micros(90));
    }

    #[test]
    fn difference_is_what_was_added() {
        let worker = Arc::new(Worker::default());
        let traffic = worker.traffic(IpFamily::V4);
        let take = || take(&[Arc::clone(&worker)], &[]);
        traffic.requests(RequestKind::Announce).add(5);
        traffic.sent_bytes.add(100);
        let earlier = take();
        traffic.requests(RequestKind::Announce).add(7);
        traffic.reason(Reason::TooShort).add(1);
        traffic.sent_bytes.add(11);
        let later = take();

        let added = later
            .families
            .v4
            .traffic
            .since(&earlier.families.v4.traffic);
        assert_eq!(added.requests.of(RequestKind::Announce), 7);
        assert_eq!(added.requests.of(RequestKind::Scrape), 0);
        assert_eq!(added.responses, Totals::default());
        assert_eq!(added.reasons.of(Reason::TooShort), 1);
        assert_eq!((added.received_bytes, added.sent_bytes), (0, 11));
    }

    #[test]
    fn histograms_of_shards_are_merged() {
        let reports = [
            report(&[1, 1, 1], &[]),
            Arc::new(ShardReport::default()),
            report(&[2, 70], &[]),
        ];
        let sample = take(&[], &reports);
        let v4 = sample.families.v4.peers_per_torrent.unwrap();
        assert_eq!((v4.len(), v4.min(), v4.max()), (5, 1, 70));
        assert_eq!(v4.value_at_quantile(0.5), 1);
        assert!((v4.mean() - 15.0).abs() < 0.01);
        assert!(sample.families.v6.peers_per_torrent.unwrap().is_empty());
        let none = take(&[], &[Arc::new(ShardReport::default())]);
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
        let sample = take(&[], &reports);
        assert_eq!(
            sample.prefixes,
            [
                (*b"-TR4060-", 6),
                (*b"-qB4650-", 3),
                (*b"-qB465B-", 3),
                ([0; 8], 1)
            ]
        );
        let clients = sample.clients();
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
