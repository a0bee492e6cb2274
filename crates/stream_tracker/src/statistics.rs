//! Metrics for Prometheus.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so that it does not delay an answer to a client.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_daemon::heartbeat;
use aquatic_stream::{StreamCounters, StreamMetrics};
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::counters::{Protocol, WorkerCounters};
use aquatic_tracker::metrics::{PrometheusMetrics, Sample};
use aquatic_types::IpFamily;

/// Everything that is read. The order of workers is their `worker_index`; socket workers come
/// first.
pub(crate) struct Sources<P: Protocol> {
    /// Of all workers and shards.
    pub(crate) counted: Counted<P>,
    /// Of the socket workers.
    pub(crate) connections: Vec<Arc<StreamCounters>>,
}

/// Publishes metrics for ever, every `interval`, if they are wanted. A Prometheus endpoint must
/// have been bound already then.
pub(crate) fn run<P: Protocol>(config: &MetricsConfig, sources: &Sources<P>) -> ! {
    if !config.run_prometheus_endpoint {
        loop {
            heartbeat::sleep(Duration::MAX);
        }
    }
    let clock = Clock::start();
    let mut outputs = Outputs::new(sources);
    loop {
        outputs.publish(clock.elapsed(), sources);
        heartbeat::sleep(Duration::from_secs(config.interval));
    }
}

struct Outputs<P> {
    tracker: PrometheusMetrics<P>,
    connections: StreamMetrics,
}

impl<P: Protocol> Outputs<P> {
    fn new(sources: &Sources<P>) -> Self {
        let workers = sources.counted.workers.len();
        Self {
            tracker: PrometheusMetrics::new(workers),
            connections: StreamMetrics::new(sources.connections.clone()),
        }
    }

    fn publish(&mut self, at: Duration, sources: &Sources<P>) {
        let Counted { workers, reports } = &sources.counted;
        for (worker, connections) in workers.iter().zip(&sources.connections) {
            copy_bytes(worker, connections);
        }
        let sample = Sample::take(at, workers, reports);
        self.tracker.update(workers, &sample);
        self.connections.update();
    }
}

/// Bytes are counted where they are read and written, and by nobody else.
fn copy_bytes<P: Protocol>(worker: &WorkerCounters<P>, connections: &StreamCounters) {
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
    use aquatic_daemon::labels;
    use aquatic_tracker::metrics::counters::{LimitNote, ReasonLabel};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// BitTorrent over pigeons.
    enum Pigeons {}

    impl Protocol for Pigeons {
        type Request = Message;
        type Response = Message;
        type Reason = Message;
        const PAYLOAD: &'static str = "paper";
    }

    labels! {
        /// What pigeons carry.
        enum Message {
            /// All of it.
            Letter = "letter",
        }
    }

    impl ReasonLabel for Message {
        fn is_refusal(self) -> bool {
            true
        }

        fn limit(self) -> Option<LimitNote> {
            None
        }
    }

    #[test]
    fn requests_and_connections_are_exported() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let sources = Sources::<Pigeons> {
            // One of them has no connections: a swarm worker.
            counted: Counted {
                workers: vec![Arc::default(), Arc::default()],
                reports: vec![Arc::default()],
            },
            connections: vec![Arc::default()],
        };
        metrics::with_local_recorder(&recorder, || {
            let mut outputs = Outputs::new(&sources);
            let traffic = sources.counted.workers[0].traffic(IpFamily::V6);
            traffic.reason(Message::Letter).add(4);
            sources.counted.workers[1].swarms(IpFamily::V6).peers.set(7);
            sources.connections[0].received_bytes.v4.add(8);
            sources.connections[0].sent_bytes.v6.add(5);
            sources.connections[0].active.v6.set(6);
            outputs.publish(Duration::ZERO, &sources);
        });
        let scraped = recorder.handle().render();
        for line in [
            "aquatic_refused_total{ip_version=\"6\",worker_index=\"0\",reason=\"letter\"} 4",
            "aquatic_peers{ip_version=\"6\",worker_index=\"1\"} 7",
            "aquatic_rx_bytes_total{ip_version=\"4\",worker_index=\"0\"} 8",
            "aquatic_tx_bytes_total{ip_version=\"6\",worker_index=\"0\"} 5",
            "aquatic_active_connections{ip_version=\"6\",worker_index=\"0\"} 6",
        ] {
            assert!(
                scraped.lines().any(|other| other == line),
                "{line}: {scraped}"
            );
        }
    }
}
