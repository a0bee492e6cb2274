//! Metrics for Prometheus.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so that it does not delay an answer to a client.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_stream::{StreamCounters, StreamMetrics};
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::statistics::{PrometheusMetrics, Snapshot, approximate};
use aquatic_types::IpFamily;
use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::counters::{Http, ResponseTimes, WorkerCounters};

const RESPONSE_TIME_BUCKETS: &str = "aquatic_response_time_seconds_bucket";
const RESPONSE_TIME_COUNT: &str = "aquatic_response_time_seconds_count";
const RESPONSE_TIME_SUM: &str = "aquatic_response_time_seconds_sum";

/// Everything that is read. The order of workers is their `worker_index`; socket workers come
/// first.
pub struct Sources {
    /// Of all workers.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Of the socket workers.
    pub connections: Vec<Arc<StreamCounters>>,
    /// Of the socket workers.
    pub response_times: Vec<Arc<ResponseTimes>>,
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
    tracker: PrometheusMetrics<Http>,
    connections: StreamMetrics,
    response_times: Vec<ResponseTimeMetrics>,
}

impl Outputs {
    fn new(config: &MetricsConfig, sources: &Sources) -> Self {
        describe();
        let workers = 0..sources.response_times.len();
        Self {
            tracker: PrometheusMetrics::new(
                sources.workers.len(),
                config.prometheus_peer_id_prefixes,
            ),
            connections: StreamMetrics::new(sources.connections.clone()),
            response_times: workers.map(ResponseTimeMetrics::new).collect(),
        }
    }

    fn publish(&mut self, at: Duration, sources: &Sources) {
        for (worker, connections) in sources.workers.iter().zip(&sources.connections) {
            copy_bytes(worker, connections);
        }
        let snapshot = Snapshot::take(at, &sources.workers, &sources.reports);
        self.tracker.update(&sources.workers, &snapshot);
        self.connections.update();
        for (metrics, times) in self.response_times.iter().zip(&sources.response_times) {
            metrics.update(times);
        }
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

/// A histogram of one worker, in the form that Prometheus gives to histograms. The exporter's own
/// kind would have to be told of each request.
struct ResponseTimeMetrics {
    buckets: Vec<Counter>,
    count: Counter,
    sum_seconds: Gauge,
}

impl ResponseTimeMetrics {
    fn new(index: usize) -> Self {
        let worker = index.to_string();
        let bucket = |bound: String| {
            let index = worker.clone();
            counter!(RESPONSE_TIME_BUCKETS, "le" => bound, "worker_index" => index)
        };
        let bounds = ResponseTimes::BOUNDS_MICROS.iter();
        let bounds = bounds.map(|micros| Duration::from_micros(*micros).as_secs_f64().to_string());
        Self {
            buckets: bounds.chain(["+Inf".to_owned()]).map(bucket).collect(),
            count: counter!(RESPONSE_TIME_COUNT, "worker_index" => worker.clone()),
            sum_seconds: gauge!(RESPONSE_TIME_SUM, "worker_index" => worker.clone()),
        }
    }

    fn update(&self, times: &ResponseTimes) {
        let (totals, count) = times.totals();
        for (bucket, total) in self.buckets.iter().zip(totals.into_iter().chain([count])) {
            bucket.absolute(total);
        }
        self.count.absolute(count);
        self.sum_seconds
            .set(approximate(times.sum_micros.get()) / 1e6);
    }
}

fn describe() {
    describe_counter!(
        RESPONSE_TIME_BUCKETS,
        Unit::Count,
        "Requests for swarms that were answered in so many seconds or less, from being read to \
         being handed to the kernel"
    );
    describe_counter!(RESPONSE_TIME_COUNT, Unit::Count, "All of these requests");
    describe_gauge!(
        RESPONSE_TIME_SUM,
        Unit::Seconds,
        "The times of all of these requests together"
    );
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::counters::{Reason, ResponseKind};

    #[test]
    fn requests_and_connections_and_times_are_exported() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let sources = Sources {
            workers: vec![Arc::default(), Arc::default()],
            connections: vec![Arc::default()],
            response_times: vec![Arc::default()],
            reports: vec![Arc::default()],
        };
        metrics::with_local_recorder(&recorder, || {
            let mut outputs = Outputs::new(&MetricsConfig::default(), &sources);
            let traffic = sources.workers[0].traffic(IpFamily::V6);
            traffic.responses(ResponseKind::Scrape).add(3);
            traffic.reason(Reason::Path).add(4);
            sources.connections[0].sent_bytes.v6.add(5);
            sources.connections[0].active.v6.set(6);
            for micros in [70, 900, 2_000_000] {
                sources.response_times[0].add(micros);
            }
            outputs.publish(Duration::ZERO, &sources);
        });
        let scraped = recorder.handle().render();
        for line in [
            "aquatic_responses_total{ip_version=\"6\",worker_index=\"0\",type=\"scrape\"} 3",
            "aquatic_refused_total{ip_version=\"6\",worker_index=\"0\",reason=\"path\"} 4",
            "aquatic_tx_bytes{ip_version=\"6\",worker_index=\"0\"} 5",
            "aquatic_active_connections{ip_version=\"6\",worker_index=\"0\"} 6",
            "aquatic_response_time_seconds_bucket{le=\"0.00005\",worker_index=\"0\"} 0",
            "aquatic_response_time_seconds_bucket{le=\"0.0001\",worker_index=\"0\"} 1",
            "aquatic_response_time_seconds_bucket{le=\"1\",worker_index=\"0\"} 2",
            "aquatic_response_time_seconds_bucket{le=\"+Inf\",worker_index=\"0\"} 3",
            "aquatic_response_time_seconds_count{worker_index=\"0\"} 3",
            "aquatic_response_time_seconds_sum{worker_index=\"0\"} 2.00097",
        ] {
            assert!(
                scraped.lines().any(|other| other == line),
                "{line}: {scraped}"
            );
        }
    }
}
