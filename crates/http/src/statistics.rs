//! How long answers take, for Prometheus. All other metrics are common to several trackers:
//! [`aquatic_tracker::metrics`], [`aquatic_stream::StreamMetrics`].

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_tracker::metrics::approximate;

use crate::counters::ResponseTimes;

/// Writes a histogram for each worker. The order of `workers` is their `worker_index`.
pub fn write_response_times(workers: &[Arc<ResponseTimes>], text: &mut Exposition) {
    let mut metric = text.family(
        "aquatic_response_time_seconds",
        Kind::Histogram,
        "Time from reading a request for swarms to handing its answer to the kernel",
    );
    for (index, times) in workers.iter().enumerate() {
        let (totals, count) = times.totals();
        let bounds = ResponseTimes::BOUNDS_MICROS.iter();
        let bounds = bounds.map(|micros| Duration::from_micros(*micros).as_secs_f64());
        metric.histogram(
            &[("worker_index", &index.to_string())],
            bounds.zip(totals),
            count,
            approximate(times.sum_micros.get()) / 1e6,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exported_as_a_histogram() {
        let times = Arc::new(ResponseTimes::default());
        for micros in [70, 900, 2_000_000] {
            times.add(micros);
        }
        let mut text = Exposition::default();
        write_response_times(&[times, Arc::default()], &mut text);
        let text = text.into_text();
        for line in [
            "# TYPE aquatic_response_time_seconds histogram",
            "aquatic_response_time_seconds_bucket{worker_index=\"0\",le=\"0.00005\"} 0",
            "aquatic_response_time_seconds_bucket{worker_index=\"0\",le=\"0.0001\"} 1",
            "aquatic_response_time_seconds_bucket{worker_index=\"0\",le=\"1\"} 2",
            "aquatic_response_time_seconds_bucket{worker_index=\"0\",le=\"+Inf\"} 3",
            "aquatic_response_time_seconds_sum{worker_index=\"0\"} 2.00097",
            "aquatic_response_time_seconds_count{worker_index=\"0\"} 3",
            "aquatic_response_time_seconds_count{worker_index=\"1\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
