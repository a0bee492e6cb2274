//! Metrics for Prometheus, and figures for people.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so that it does not delay an answer to a client.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::{heartbeat, kept_gauges};
use aquatic_stream::{CERTIFICATE_EXPIRY, StreamCounters, StreamMetrics};
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::counters::{Protocol, WorkerCounters};
use aquatic_tracker::metrics::figures::{self, ByLabel, Loaded, Part};
use aquatic_tracker::metrics::{PrometheusMetrics, Sample};
use aquatic_types::{IpFamily, PerFamily};
use metrics::Label;

/// Everything that is read. The order of workers is their `worker_index`; socket workers come
/// first.
pub(crate) struct Sources<P: Protocol> {
    /// Of all workers and shards.
    pub(crate) counted: Counted<P>,
    /// Of the socket workers.
    pub(crate) connections: Vec<Arc<StreamCounters>>,
}

/// Publishes metrics for ever, at this interval, if they are wanted. A Prometheus endpoint must
/// have been bound already then.
pub(crate) fn run<P: Protocol>(
    config: &MetricsConfig,
    interval: &LiveSettings<Duration>,
    sources: &Sources<P>,
) -> ! {
    if !config.has_endpoint() {
        loop {
            heartbeat::sleep(Duration::MAX);
        }
    }
    let clock = Clock::start();
    let mut outputs = Outputs::new(sources);
    loop {
        outputs.publish(clock.elapsed(), sources);
        interval.sleep();
    }
}

struct Outputs<P> {
    tracker: PrometheusMetrics<P>,
    connections: StreamMetrics,
}

impl<P: Protocol> Outputs<P> {
    fn new(sources: &Sources<P>) -> Self {
        let label = sources.counted.protocol_label();
        Self {
            tracker: PrometheusMetrics::new(&sources.counted),
            connections: StreamMetrics::new(sources.connections.clone(), label.as_ref()),
        }
    }

    fn publish(&mut self, at: Duration, sources: &Sources<P>) {
        let Counted {
            workers, reports, ..
        } = &sources.counted;
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

/// Fills in what these workers count about connections, for people. The certificate is that of
/// the front end with these labels.
pub(crate) fn extend(part: &mut Part, workers: &[Arc<StreamCounters>], labels: &[Label]) {
    let mut all = figures::Connections::default();
    let (mut open, mut received, mut sent) = (
        PerFamily::<u64>::default(),
        PerFamily::<u64>::default(),
        PerFamily::<u64>::default(),
    );
    for counters in workers {
        for family in IpFamily::ALL {
            *open.get_mut(family) += counters.active.get(family).get();
            *received.get_mut(family) += counters.received_bytes.get(family).get();
            *sent.get_mut(family) += counters.sent_bytes.get(family).get();
            all.accepted += counters.accepted.get(family).get();
        }
        all.refused.add(&ByLabel::of(&counters.refused, |_| true));
        all.closed.add(&ByLabel::of(&counters.closed, |_| true));
        let handshakes = ByLabel::of(&counters.handshakes, |_| true);
        all.tls_handshakes.add(&handshakes);
        all.accept_failures += counters.accept_failures.get();
        all.memory_bytes += counters.held_bytes.get();
    }
    all.open = open.v4 + open.v6;
    let families = [
        (&mut part.ipv4, IpFamily::V4),
        (&mut part.ipv6, IpFamily::V6),
    ];
    for (figures, family) in families {
        figures.connections = Some(*open.get(family));
        // Without a Prometheus endpoint nobody copies them to the other counters.
        figures.received_bytes = *received.get(family);
        figures.sent_bytes = *sent.get(family);
    }
    part.connections = Some(all);
    part.tls = Loaded::read("aquatic_tls", labels);
    part.certificate_expiry_time = kept_gauges::get(CERTIFICATE_EXPIRY, labels);
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
        const NAME: &'static str = "pigeons";
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
    fn connections_of_workers_are_added() {
        let workers = [Arc::new(StreamCounters::default()), Arc::default()];
        workers[0].active.v4.set(2);
        workers[1].active.v6.set(3);
        workers[0].accepted.v4.add(4);
        workers[1].accepted.v4.add(5);
        workers[1].held_bytes.set(6);
        workers[0].received_bytes.v4.add(8);
        workers[1].sent_bytes.v6.add(9);
        kept_gauges::set(CERTIFICATE_EXPIRY, &[], 7.5);
        let mut part = Part::of(&Counted::<Pigeons>::of(Vec::new(), Vec::new()));
        extend(&mut part, &workers, &[]);
        assert_eq!(part.ipv4.connections, Some(2));
        assert_eq!((part.ipv4.received_bytes, part.ipv6.sent_bytes), (8, 9));
        assert_eq!(part.ipv6.connections, Some(3));
        assert_eq!(part.certificate_expiry_time, Some(7.5));
        let all = part.connections.unwrap();
        assert_eq!((all.open, all.accepted, all.memory_bytes), (5, 9, 6));
    }

    #[test]
    fn requests_and_connections_are_exported() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let sources = Sources::<Pigeons> {
            // One of them has no connections: a swarm worker.
            counted: Counted::of(vec![Arc::default(), Arc::default()], vec![Arc::default()]),
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
