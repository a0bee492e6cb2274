//! How long answers take, for Prometheus. All other metrics are common to several trackers:
//! [`aquatic_tracker::statistics`], [`aquatic_stream::StreamMetrics`].

use std::sync::Arc;
use std::time::Duration;

use aquatic_tracker::statistics::approximate;
use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::counters::ResponseTimes;

const RESPONSE_TIME_BUCKETS: &str = "aquatic_response_time_seconds_bucket";
const RESPONSE_TIME_COUNT: &str = "aquatic_response_time_seconds_count";
const RESPONSE_TIME_SUM: &str = "aquatic_response_time_seconds_sum";

/// The metrics of all workers.
pub struct ResponseTimeMetrics(Vec<(Arc<ResponseTimes>, WorkerMetrics)>);

/// A histogram of one worker, in the form that Prometheus gives to histograms. The exporter's own
/// kind would have to be told of each request.
struct WorkerMetrics {
    buckets: Vec<Counter>,
    count: Counter,
    sum_seconds: Gauge,
}

impl ResponseTimeMetrics {
    /// Registers all metrics, so that the first scrape finds them at 0. The order of `workers` is
    /// their `worker_index`. A Prometheus endpoint must be running already.
    #[must_use]
    pub fn new(workers: Vec<Arc<ResponseTimes>>) -> Self {
        describe();
        let workers = workers.into_iter().enumerate();
        Self(
            workers
                .map(|(index, times)| (times, WorkerMetrics::new(index)))
                .collect(),
        )
    }

    /// Publishes the present state.
    pub fn update(&self) {
        for (times, metrics) in &self.0 {
            metrics.update(times);
        }
    }
}

impl WorkerMetrics {
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

    #[test]
    fn times_are_exported_as_a_histogram() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let times = Arc::new(ResponseTimes::default());
        metrics::with_local_recorder(&recorder, || {
            let metrics = ResponseTimeMetrics::new(vec![Arc::clone(&times)]);
            for micros in [70, 900, 2_000_000] {
                times.add(micros);
            }
            metrics.update();
        });
        let scraped = recorder.handle().render();
        for line in [
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
