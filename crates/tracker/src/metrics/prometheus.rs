//! All metrics: their names, labels and meaning.
//!
//! Names and labels are an interface: dashboards are built on them. Whatever is counted by worker
//! has `worker_index`, and `protocol` where a process serves several. Swarm sizes and clients do
//! not: percentiles of parts cannot be put together again, so they are of the whole tracker.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use aquatic_types::{IpFamily, PerFamily};
use hdrhistogram::Histogram;
use metrics::{Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::metrics::counters::{
    self, Counts, Label as _, Protocol, ReasonLabel as _, SwarmGauges, TrafficCounters,
    WorkerCounters,
};

use super::approximate;
use super::sample::Sample;
use crate::launch::Counted;

const REQUESTS: &str = "aquatic_requests_total";
const REQUESTS_BY_TYPE: &str = "aquatic_requests_by_type_total";
const RESPONSES: &str = "aquatic_responses_total";
const DROPPED: &str = "aquatic_dropped_total";
const REFUSED: &str = "aquatic_refused_total";
const RX_BYTES: &str = "aquatic_rx_bytes_total";
const TX_BYTES: &str = "aquatic_tx_bytes_total";
const IN_KERNEL: &str = "aquatic_handled_in_kernel_total";
const TORRENTS: &str = "aquatic_torrents";
const PEERS: &str = "aquatic_peers";
const SEEDERS: &str = "aquatic_seeders";
const LEECHERS: &str = "aquatic_leechers";
const COMPLETED: &str = "aquatic_completed_downloads_total";
const EVICTED: &str = "aquatic_evicted_peers_total";
const PEERS_PER_TORRENT: &str = "aquatic_peers_per_torrent";
const QUEUE_BATCHES: &str = "aquatic_queue_batches";
const CLEANING_SECONDS: &str = "aquatic_cleaning_seconds";

/// Values of `aquatic_peers_per_torrent{type}` besides `min`, `max` and `mean`.
const QUANTILES: [(&str, f64); 12] = [
    ("p10", 0.1),
    ("p20", 0.2),
    ("p30", 0.3),
    ("p40", 0.4),
    ("p50", 0.5),
    ("p60", 0.6),
    ("p70", 0.7),
    ("p80", 0.8),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p999", 0.999),
];

/// Everything that is exported.
pub struct PrometheusMetrics<P> {
    workers: Vec<WorkerMetrics>,
    /// `protocol`, if that has to be told.
    common: Option<Label>,
    protocol: PhantomData<P>,
}

impl<P: Protocol> PrometheusMetrics<P> {
    /// Registers all metrics whose labels are known, so that the first scrape finds them at 0.
    #[must_use]
    pub fn new(counted: &Counted<P>) -> Self {
        describe(match counted.is_one_of_several {
            true => "payload",
            false => P::PAYLOAD,
        });
        let common = counted.protocol_label();
        let workers = 0..counted.workers.len();
        let has_swarms = counted.has_swarms;
        Self {
            workers: workers
                .map(|index| WorkerMetrics::new::<P>(index, common.as_ref(), has_swarms))
                .collect(),
            common,
            protocol: PhantomData,
        }
    }

    /// Publishes the present state.
    pub fn update(&mut self, workers: &[Arc<WorkerCounters<P>>], sample: &Sample<P>) {
        for (metrics, counters) in self.workers.iter().zip(workers) {
            metrics.update(counters);
        }
        for family in IpFamily::ALL {
            if let Some(histogram) = &sample.families.get(family).peers_per_torrent {
                publish_distribution(family, self.common.as_ref(), histogram);
            }
        }
    }
}

/// Metrics of one worker.
struct WorkerMetrics {
    families: PerFamily<FamilyMetrics>,
    queue_batches: Gauge,
    cleaning_seconds: Option<Gauge>,
}

impl WorkerMetrics {
    fn new<P: Protocol>(index: usize, common: Option<&Label>, has_swarms: bool) -> Self {
        let worker = Label::new("worker_index", index.to_string());
        let labels: Vec<_> = common.cloned().into_iter().chain([worker]).collect();
        Self {
            families: PerFamily {
                v4: FamilyMetrics::new::<P>(IpFamily::V4, &labels, has_swarms),
                v6: FamilyMetrics::new::<P>(IpFamily::V6, &labels, has_swarms),
            },
            queue_batches: gauge!(QUEUE_BATCHES, labels.iter()),
            cleaning_seconds: has_swarms.then(|| gauge!(CLEANING_SECONDS, labels.iter())),
        }
    }

    fn update<P: Protocol>(&self, counters: &WorkerCounters<P>) {
        for family in IpFamily::ALL {
            let metrics = self.families.get(family);
            metrics.update(counters.traffic(family), counters.swarms(family));
        }
        self.queue_batches
            .set(approximate(counters.batches_in_flight.get()));
        if let Some(cleaning_seconds) = &self.cleaning_seconds {
            let cleaning = Duration::from_micros(counters.shard.cleaning_micros.get());
            cleaning_seconds.set(cleaning);
        }
    }
}

/// Metrics of one worker and IP family. The lists are in the order of the enums.
struct FamilyMetrics {
    requests: Counter,
    requests_by_type: Vec<Counter>,
    responses: Vec<Counter>,
    reasons: Vec<Counter>,
    rx_bytes: Counter,
    tx_bytes: Counter,
    in_kernel: Option<Counter>,
    swarms: Option<SwarmMetrics>,
}

/// What is in the swarms of one family, in one worker.
struct SwarmMetrics {
    torrents: Gauge,
    peers: Gauge,
    seeders: Gauge,
    leechers: Gauge,
    completed: Counter,
    evicted: Counter,
}

impl FamilyMetrics {
    fn new<P: Protocol>(family: IpFamily, of_worker: &[Label], has_swarms: bool) -> Self {
        let mut labels = vec![Label::from_static_parts("ip_version", family.digit())];
        labels.extend_from_slice(of_worker);
        let with = |name, value| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts(name, value));
            labels
        };
        let request = |kind: &P::Request| counter!(REQUESTS_BY_TYPE, with("type", kind.label()));
        let response = |kind: &P::Response| counter!(RESPONSES, with("type", kind.label()));
        let reason = |reason: &P::Reason| {
            let name = if reason.is_refusal() {
                REFUSED
            } else {
                DROPPED
            };
            counter!(name, with("reason", reason.label()))
        };
        Self {
            requests: counter!(REQUESTS, labels.clone()),
            requests_by_type: P::Request::ALL.iter().map(request).collect(),
            responses: P::Response::ALL.iter().map(response).collect(),
            reasons: P::Reason::ALL.iter().map(reason).collect(),
            rx_bytes: counter!(RX_BYTES, labels.clone()),
            tx_bytes: counter!(TX_BYTES, labels.clone()),
            in_kernel: P::IS_PARTLY_IN_KERNEL.then(|| counter!(IN_KERNEL, labels.clone())),
            swarms: has_swarms.then(|| SwarmMetrics::new(&labels)),
        }
    }

    fn update<P: Protocol>(&self, traffic: &TrafficCounters<P>, swarms: &SwarmGauges) {
        let requests = traffic.requests.iter().map(|(_, count)| count).sum();
        self.requests.absolute(requests);
        publish(&self.requests_by_type, &traffic.requests);
        publish(&self.responses, &traffic.responses);
        publish(&self.reasons, &traffic.reasons);
        self.rx_bytes.absolute(traffic.received_bytes.get());
        self.tx_bytes.absolute(traffic.sent_bytes.get());
        if let Some(in_kernel) = &self.in_kernel {
            in_kernel.absolute(traffic.in_kernel.get());
        }
        if let Some(metrics) = &self.swarms {
            metrics.update(swarms);
        }
    }
}

impl SwarmMetrics {
    fn new(labels: &[Label]) -> Self {
        Self {
            torrents: gauge!(TORRENTS, labels.iter()),
            peers: gauge!(PEERS, labels.iter()),
            seeders: gauge!(SEEDERS, labels.iter()),
            leechers: gauge!(LEECHERS, labels.iter()),
            completed: counter!(COMPLETED, labels.iter()),
            evicted: counter!(EVICTED, labels.iter()),
        }
    }

    fn update(&self, swarms: &SwarmGauges) {
        self.torrents.set(approximate(swarms.torrents.get()));
        let (peers, seeders) = (swarms.peers.get(), swarms.seeders.get());
        self.peers.set(approximate(peers));
        self.seeders.set(approximate(seeders));
        self.leechers
            .set(approximate(peers.saturating_sub(seeders)));
        self.completed.absolute(swarms.completed.get());
        self.evicted.absolute(swarms.evicted.get());
    }
}

fn publish<L: counters::Label>(metrics: &[Counter], counts: &Counts<L>) {
    for (metric, (_, count)) in metrics.iter().zip(counts.iter()) {
        metric.absolute(count);
    }
}

/// Sets the figures of how many peers torrents have.
fn publish_distribution(family: IpFamily, common: Option<&Label>, histogram: &Histogram<u32>) {
    let set = |figure: &'static str, value: f64| {
        let mut labels = vec![
            Label::from_static_parts("ip_version", family.digit()),
            Label::from_static_parts("type", figure),
        ];
        labels.extend(common.cloned());
        gauge!(PEERS_PER_TORRENT, labels).set(value);
    };
    set("min", approximate(histogram.min()));
    set("max", approximate(histogram.max()));
    set("mean", histogram.mean());
    for (figure, quantile) in QUANTILES {
        set(figure, approximate(histogram.value_at_quantile(quantile)));
    }
}

/// Tells the endpoint what each metric means.
fn describe(payload: &str) {
    describe_counter!(REQUESTS, Unit::Count, "Requests that could be read");
    describe_counter!(
        REQUESTS_BY_TYPE,
        Unit::Count,
        "Requests that could be read, by type"
    );
    describe_counter!(RESPONSES, Unit::Count, "Responses sent, by type");
    describe_counter!(
        DROPPED,
        Unit::Count,
        "Requests that got no response, or responses that could not be sent, by reason"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Requests that were answered with an error, by reason"
    );
    describe_counter!(
        RX_BYTES,
        Unit::Bytes,
        format!("Bytes of {payload} received")
    );
    describe_counter!(TX_BYTES, Unit::Bytes, format!("Bytes of {payload} sent"));
    describe_counter!(
        IN_KERNEL,
        Unit::Count,
        "Requests that the kernel has dropped or answered: part of what else is counted"
    );
    describe_gauge!(TORRENTS, Unit::Count, "Torrents");
    describe_gauge!(PEERS, Unit::Count, "Peers, over all torrents");
    describe_gauge!(SEEDERS, Unit::Count, "Peers that have everything");
    describe_gauge!(LEECHERS, Unit::Count, "Peers that still lack something");
    describe_counter!(
        COMPLETED,
        Unit::Count,
        "Downloads that peers have announced to be finished"
    );
    describe_counter!(
        EVICTED,
        Unit::Count,
        "Peers that had to give way to others, since memory was used up"
    );
    describe_gauge!(
        PEERS_PER_TORRENT,
        Unit::Count,
        "Peers of a torrent, as of the last cleaning: minimum, maximum, mean and percentiles"
    );
    describe_gauge!(
        QUEUE_BATCHES,
        Unit::Count,
        "Batches on their way between workers"
    );
    describe_gauge!(
        CLEANING_SECONDS,
        Unit::Seconds,
        "Duration of the last cleaning, from its first slice to its last"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use crate::metrics::counters::test_protocol::{Bees, Reason, RequestKind, ResponseKind};
    use crate::metrics::report::{ShardReport, empty_histograms};

    use super::*;

    /// Publishes what `fill` counts, and scrapes it.
    fn scrape(fill: impl FnOnce(&WorkerCounters<Bees>, &ShardReport)) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (workers, reports) = ([Arc::default(), Arc::default()], [Arc::default()]);
        let [_, worker]: &[Arc<WorkerCounters<Bees>>; 2] = &workers;
        fill(worker, &reports[0]);
        metrics::with_local_recorder(&recorder, || {
            let mut metrics = PrometheusMetrics::new(&Counted::of(workers.to_vec(), Vec::new()));
            let sample = Sample::take(Duration::ZERO, &workers, &reports);
            metrics.update(&workers, &sample);
        });
        recorder.handle().render()
    }

    fn assert_has(scraped: &str, line: &str) {
        assert!(
            scraped.lines().any(|other| other == line),
            "no line {line} in:\n{scraped}"
        );
    }

    /// The names of all metrics that have a value.
    fn names(scraped: &str) -> BTreeSet<&str> {
        let lines = scraped.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split(['{', ' ']).next())
            .filter(|name| !name.is_empty())
            .collect()
    }

    #[test]
    fn names_and_labels_are_those_of_the_dashboards() {
        let scraped = scrape(|worker, report| {
            let traffic = worker.traffic(IpFamily::V6);
            traffic.requests(RequestKind::Scrape).add(1);
            traffic.requests(RequestKind::Announce).add(2);
            traffic.responses(ResponseKind::Error).add(3);
            traffic.reason(Reason::TooShort).add(4);
            traffic.reason(Reason::PeerLimit).add(5);
            traffic.received_bytes.add(6);
            traffic.sent_bytes.add(7);
            worker.swarms(IpFamily::V6).torrents.set(8);
            worker.swarms(IpFamily::V6).peers.set(9);
            worker.swarms(IpFamily::V6).seeders.set(3);
            worker.swarms(IpFamily::V6).completed.set(13);
            worker.swarms(IpFamily::V6).evicted.set(14);
            worker.batches_in_flight.set(10);
            worker.shard.cleaning_micros.set(11_500_000);
            let mut histograms = empty_histograms();
            for peers in 1..=100 {
                histograms.v4.record(peers).unwrap();
            }
            report.set_histograms(histograms);
        });
        let v6 = "ip_version=\"6\",worker_index=\"1\"";
        let v4 = "ip_version=\"4\"";
        for line in [
            format!("aquatic_requests_total{{{v6}}} 3"),
            format!("aquatic_requests_by_type_total{{{v6},type=\"announce\"}} 2"),
            format!("aquatic_responses_total{{{v6},type=\"error\"}} 3"),
            format!("aquatic_dropped_total{{{v6},reason=\"too_short\"}} 4"),
            format!("aquatic_refused_total{{{v6},reason=\"peer_limit\"}} 5"),
            format!("aquatic_rx_bytes_total{{{v6}}} 6"),
            format!("aquatic_tx_bytes_total{{{v6}}} 7"),
            format!("aquatic_torrents{{{v6}}} 8"),
            format!("aquatic_peers{{{v6}}} 9"),
            format!("aquatic_seeders{{{v6}}} 3"),
            format!("aquatic_leechers{{{v6}}} 6"),
            format!("aquatic_completed_downloads_total{{{v6}}} 13"),
            format!("aquatic_evicted_peers_total{{{v6}}} 14"),
            "aquatic_queue_batches{worker_index=\"1\"} 10".to_owned(),
            "aquatic_cleaning_seconds{worker_index=\"1\"} 11.5".to_owned(),
            format!("aquatic_peers_per_torrent{{{v4},type=\"min\"}} 1"),
            format!("aquatic_peers_per_torrent{{{v4},type=\"p50\"}} 50"),
            format!("aquatic_peers_per_torrent{{{v4},type=\"p999\"}} 100"),
            format!("aquatic_peers_per_torrent{{{v4},type=\"max\"}} 100"),
            format!("aquatic_peers_per_torrent{{{v4},type=\"mean\"}} 50.5"),
        ] {
            assert_has(&scraped, &line);
        }
        assert!(!scraped.contains(
            "aquatic_dropped_total{ip_version=\"6\",worker_index=\"1\",reason=\"peer_limit\""
        ));
    }

    #[test]
    fn every_metric_is_explained_and_starts_at_zero() {
        let scraped = scrape(|_, report| {
            report.set_histograms(empty_histograms());
        });
        let names = names(&scraped);
        assert_eq!(names.len(), 16, "{names:?}");
        for name in names {
            assert!(scraped.contains(&format!("# HELP {name} ")), "{name}");
        }
        for line in scraped.lines().filter(|line| line.starts_with("aquatic")) {
            assert!(line.ends_with(" 0"), "{line}");
        }
    }

    #[test]
    fn torrents_that_are_not_counted_are_not_exported() {
        let scraped = scrape(|_, _| {});
        assert!(!scraped.contains("aquatic_peers_per_torrent{"), "{scraped}");
    }
}
