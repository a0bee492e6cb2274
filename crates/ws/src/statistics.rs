//! Metrics for Prometheus.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so that it does not delay a message to a client.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_stream::{StreamCounters, StreamMetrics};
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::statistics::{PrometheusMetrics, Snapshot};
use aquatic_types::IpFamily;

use crate::counters::{WebTorrent, WorkerCounters};

/// Everything that is read. The order of workers is their `worker_index`; socket workers come
/// first.
pub struct Sources {
    /// Of all workers.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Of the socket workers.
    pub connections: Vec<Arc<StreamCounters>>,
    /// Of the shards.
    pub reports: Vec<Arc<ShardReport>>,
}

/// Publishes metrics for ever, every `interval`, if they are wanted. A Prometheus endpoint must be
/// running already then.
///
/// # Errors
/// None at present.
pub fn run(config: &MetricsConfig, sources: &Sources) -> anyhow::Result<()> {
    if !config.run_prometheus_endpoint {
        loop {
            thread::park();
        }
    }
    let clock = Clock::start();
    let mut outputs = Outputs::new(config, sources);
    loop {
        outputs.publish(clock.elapsed(), sources);
        thread::sleep(Duration::from_secs(config.interval));
    }
}

struct Outputs {
    tracker: PrometheusMetrics<WebTorrent>,
    connections: StreamMetrics,
}

impl Outputs {
    fn new(config: &MetricsConfig, sources: &Sources) -> Self {
        let workers = sources.workers.len();
        Self {
            tracker: PrometheusMetrics::new(workers, config.prometheus_peer_id_prefixes),
            connections: StreamMetrics::new(sources.connections.clone()),
        }
    }

    fn publish(&mut self, at: Duration, sources: &Sources) {
        for (worker, connections) in sources.workers.iter().zip(&sources.connections) {
            copy_bytes(worker, connections);
        }
        let snapshot = Snapshot::take(at, &sources.workers, &sources.reports);
        self.tracker.update(&sources.workers, &snapshot);
        self.connections.update();
    }
}

/// Bytes are counted where they are read and written, and by nobody else.
fn copy_bytes(worker: &WorkerCounters, connections: &StreamCounters) {
    for family in IpFamily::ALL {
        let traffic = worker.traffic(family);
        let number = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let received = connections.received_bytes.get(family).get();
        traffic.received_bytes.set(number(received));
        let sent = connections.sent_bytes.get(family).get();
        traffic.sent_bytes.set(number(sent));
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::counters::{Reason, RequestKind, ResponseKind};

    #[test]
    fn messages_and_connections_are_exported() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let sources = Sources {
            workers: vec![Arc::default(), Arc::default()],
            connections: vec![Arc::default()],
            reports: vec![Arc::default()],
        };
        metrics::with_local_recorder(&recorder, || {
            let mut outputs = Outputs::new(&MetricsConfig::default(), &sources);
            let traffic = sources.workers[0].traffic(IpFamily::V6);
            traffic.requests(RequestKind::Answer).add(2);
            traffic.responses(ResponseKind::Offer).add(3);
            traffic.reason(Reason::OfferUnknown).add(4);
            traffic.reason(Reason::DeliveryFull).add(7);
            sources.connections[0].sent_bytes.v6.add(5);
            sources.connections[0].active.v6.set(6);
            outputs.publish(Duration::ZERO, &sources);
        });
        let scraped = recorder.handle().render();
        for line in [
            "aquatic_requests_by_type_total{ip_version=\"6\",worker_index=\"0\",type=\"answer\"} 2",
            "aquatic_responses_total{ip_version=\"6\",worker_index=\"0\",type=\"offer\"} 3",
            "aquatic_refused_total{ip_version=\"6\",worker_index=\"0\",reason=\"offer_unknown\"} 4",
            "aquatic_dropped_total{ip_version=\"6\",worker_index=\"0\",reason=\"delivery_full\"} 7",
            "aquatic_tx_bytes{ip_version=\"6\",worker_index=\"0\"} 5",
            "aquatic_active_connections{ip_version=\"6\",worker_index=\"0\"} 6",
        ] {
            assert!(
                scraped.lines().any(|other| other == line),
                "{line}: {scraped}"
            );
        }
    }
}
