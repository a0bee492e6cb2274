//! What is counted about connections, and what is known of the certificate, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::counter::{Counts, Label};
use aquatic_daemon::kept_gauges;
use aquatic_daemon::load_metrics::LoadMetrics;
use aquatic_types::{IpFamily, PerFamily};
use metrics::{
    Counter, Gauge, Label as MetricLabel, Unit, counter, describe_counter, describe_gauge, gauge,
};

use crate::counters::{Closed, Handshake, Refused, StreamCounters};
use crate::tls::TlsConfig;

const ACTIVE: &str = "aquatic_active_connections";
const ACCEPTED: &str = "aquatic_connections_total";
const REFUSED: &str = "aquatic_connections_refused_total";
const CLOSED: &str = "aquatic_connections_closed_total";
const HANDSHAKES: &str = "aquatic_tls_handshakes_total";
const ACCEPT_FAILURES: &str = "aquatic_accept_failures_total";
const HELD_BYTES: &str = "aquatic_connection_memory_bytes";
/// When the certificate ends, of those that are loaded.
pub const CERTIFICATE_EXPIRY: &str = "aquatic_tls_certificate_expiry_timestamp_seconds";

/// Whether certificate and key could be loaded.
pub(crate) const TLS: LoadMetrics = LoadMetrics {
    what: "the TLS certificate with its key",
    successful: "aquatic_tls_last_reload_successful",
    timestamp_seconds: "aquatic_tls_last_reload_timestamp_seconds",
};

/// Certificate and key have been loaded: those of the front end that these labels name.
pub(crate) fn tls_loaded(tls: &TlsConfig, labels: &[MetricLabel]) {
    TLS.succeeded_of(labels);
    describe_gauge!(
        CERTIFICATE_EXPIRY,
        Unit::Seconds,
        "When the TLS certificate ends, in Unix time"
    );
    if let Some(seconds) = tls.not_after() {
        let end = Duration::from_secs(seconds.try_into().unwrap_or(0));
        kept_gauges::set(CERTIFICATE_EXPIRY, labels, end.as_secs_f64());
    }
}

/// The metrics of all workers.
pub struct StreamMetrics(Vec<(Arc<StreamCounters>, WorkerMetrics)>);

/// Metrics of one worker. The lists are in the order of the enums.
struct WorkerMetrics {
    active: PerFamily<Gauge>,
    accepted: PerFamily<Counter>,
    refused: Vec<Counter>,
    closed: Vec<Counter>,
    handshakes: Vec<Counter>,
    accept_failures: Counter,
    held_bytes: Gauge,
}

impl StreamMetrics {
    /// Registers all metrics, so that the first scrape finds them at 0. The order of `workers` is
    /// their `worker_index`, and all have the label `common`, if there is one. A Prometheus
    /// endpoint must be running already.
    #[must_use]
    pub fn new(workers: Vec<Arc<StreamCounters>>, common: Option<&MetricLabel>) -> Self {
        describe();
        let workers = workers.into_iter().enumerate();
        Self(
            workers
                .map(|(index, counters)| (counters, WorkerMetrics::new(index, common)))
                .collect(),
        )
    }

    /// Publishes the present state.
    pub fn update(&self) {
        for (counters, metrics) in &self.0 {
            metrics.update(counters);
        }
    }
}

impl WorkerMetrics {
    fn new(index: usize, common: Option<&MetricLabel>) -> Self {
        let worker = MetricLabel::new("worker_index", index.to_string());
        let worker: Vec<_> = common.cloned().into_iter().chain([worker]).collect();
        let labels = |family: IpFamily| {
            let mut labels = vec![MetricLabel::from_static_parts("ip_version", family.digit())];
            labels.extend_from_slice(&worker);
            labels
        };
        Self {
            active: PerFamily::new(|family| gauge!(ACTIVE, labels(family))),
            accepted: PerFamily::new(|family| counter!(ACCEPTED, labels(family))),
            refused: by_label::<Refused>(REFUSED, "reason", &worker),
            closed: by_label::<Closed>(CLOSED, "reason", &worker),
            handshakes: by_label::<Handshake>(HANDSHAKES, "type", &worker),
            accept_failures: counter!(ACCEPT_FAILURES, worker.iter()),
            held_bytes: gauge!(HELD_BYTES, worker.iter()),
        }
    }

    fn update(&self, counters: &StreamCounters) {
        for family in IpFamily::ALL {
            let active = u32::try_from(counters.active.get(family).get()).unwrap_or(u32::MAX);
            self.active.get(family).set(active);
            let accepted = counters.accepted.get(family).get();
            self.accepted.get(family).absolute(accepted);
        }
        publish(&self.refused, &counters.refused);
        publish(&self.closed, &counters.closed);
        publish(&self.handshakes, &counters.handshakes);
        self.accept_failures
            .absolute(counters.accept_failures.get());
        // Exact up to 2^53.
        #[allow(clippy::cast_precision_loss, reason = "no memory is as large")]
        self.held_bytes.set(counters.held_bytes.get() as f64);
    }
}

fn by_label<L: Label>(
    metric: &'static str,
    label: &'static str,
    worker: &[MetricLabel],
) -> Vec<Counter> {
    let of = |value: &L| {
        let mut labels = vec![MetricLabel::from_static_parts(label, value.label())];
        labels.extend_from_slice(worker);
        counter!(metric, labels)
    };
    L::ALL.iter().map(of).collect()
}

fn publish<L: Label>(metrics: &[Counter], counts: &Counts<L>) {
    for (metric, (_, count)) in metrics.iter().zip(counts.iter()) {
        metric.absolute(count);
    }
}

/// Tells the endpoint what each metric means.
fn describe() {
    describe_gauge!(ACTIVE, Unit::Count, "Connections that are open");
    describe_gauge!(
        HELD_BYTES,
        Unit::Bytes,
        "What connections are known to hold together: unfinished requests and messages, unread \
         output, and what the kernel keeps of that"
    );
    for (counter, help) in [
        (ACCEPTED, "Connections that were accepted"),
        (REFUSED, "Connections that were closed at once, by reason"),
        (
            CLOSED,
            "Connections that were accepted and have ended, by reason",
        ),
        (
            HANDSHAKES,
            "TLS handshakes, by how they ended: full, resumed (with a ticket) or failed",
        ),
        (
            ACCEPT_FAILURES,
            "Times that no connection could be accepted for want of files or memory",
        ),
    ] {
        describe_counter!(counter, Unit::Count, help);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn every_count_is_exported_by_worker() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let counters = [(); 2].map(|()| Arc::new(StreamCounters::default()));
        metrics::with_local_recorder(&recorder, || {
            let metrics = StreamMetrics::new(counters.to_vec(), None);
            let [_, second] = &counters;
            second.active.v6.set(3);
            second.accepted.v6.add(4);
            second.closed.of(Closed::IdleDeadline).add(5);
            second.handshakes.of(Handshake::Resumed).add(6);
            second.accept_failures.add(7);
            second.held_bytes.set(8);
            metrics.update();
        });
        let scraped = recorder.handle().render();
        for line in [
            "aquatic_active_connections{ip_version=\"6\",worker_index=\"1\"} 3",
            "aquatic_connections_total{ip_version=\"6\",worker_index=\"1\"} 4",
            "aquatic_connections_closed_total{reason=\"idle_deadline\",worker_index=\"1\"} 5",
            "aquatic_tls_handshakes_total{type=\"resumed\",worker_index=\"1\"} 6",
            "aquatic_accept_failures_total{worker_index=\"1\"} 7",
            "aquatic_connection_memory_bytes{worker_index=\"1\"} 8",
            "aquatic_active_connections{ip_version=\"4\",worker_index=\"0\"} 0",
            "aquatic_connections_refused_total{reason=\"max_connections\",worker_index=\"0\"} 0",
        ] {
            assert!(
                scraped.lines().any(|other| other == line),
                "{line}: {scraped}"
            );
        }
    }
}
