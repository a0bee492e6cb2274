//! How long answers take, for Prometheus and for people. All other metrics are common to several
//! trackers:
//! [`aquatic_tracker::metrics`], [`aquatic_stream::StreamMetrics`].

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_tracker::launch::Launch;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::metrics::{approximate, figures};

use crate::counters::{Http, ResponseTimes};

/// Writes a histogram for each worker. The order of `workers` is their `worker_index`, and all have
/// the label `common`, if there is one.
pub fn write_response_times(
    workers: &[Arc<ResponseTimes>],
    common: Option<(&str, &str)>,
    text: &mut Exposition,
) {
    let mut metric = text.family(
        "aquatic_response_time_seconds",
        Kind::Histogram,
        "Time from reading a request for swarms to handing its answer to the kernel",
    );
    for (index, times) in workers.iter().enumerate() {
        let index = index.to_string();
        let labels: Vec<_> = common
            .into_iter()
            .chain([("worker_index", &*index)])
            .collect();
        let (totals, count) = times.totals();
        let bounds = ResponseTimes::BOUNDS_MICROS.iter();
        let bounds = bounds.map(|micros| Duration::from_micros(*micros).as_secs_f64());
        metric.histogram(
            &labels,
            bounds.zip(totals),
            count,
            approximate(times.sum_micros.get()) / 1e6,
        );
    }
}

/// Has people see how long answers take.
pub fn extend_figures(launch: &mut Launch<'_>, workers: &[Arc<ResponseTimes>]) {
    let workers = workers.to_vec();
    launch.extend_figures(Http::NAME, move |part| {
        part.response_time = Some(all_times(&workers));
    });
}

/// Those of all workers together.
fn all_times(workers: &[Arc<ResponseTimes>]) -> figures::ResponseTimes {
    let mut all = figures::ResponseTimes {
        buckets: ResponseTimes::BOUNDS_MICROS
            .map(|bound| (bound, 0))
            .to_vec(),
        ..figures::ResponseTimes::default()
    };
    for times in workers {
        let (totals, count) = times.totals();
        for ((_, sum), total) in all.buckets.iter_mut().zip(totals) {
            *sum += total;
        }
        all.count += count;
        all.sum += approximate(times.sum_micros.get()) / 1e6;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_workers_are_added() {
        let workers = [
            Arc::new(ResponseTimes::default()),
            Arc::new(ResponseTimes::default()),
        ];
        workers[0].add(70);
        workers[1].add(900);
        workers[1].add(2_000_000);
        let all = all_times(&workers);
        assert_eq!((all.count, all.sum), (3, 2.000_97));
        assert_eq!(all.buckets[..2], [(50, 0), (100, 1)]);
        assert_eq!(all.buckets.last(), Some(&(1_000_000, 2)));
    }

    #[test]
    fn times_are_exported_as_a_histogram() {
        let times = Arc::new(ResponseTimes::default());
        for micros in [70, 900, 2_000_000] {
            times.add(micros);
        }
        let mut text = Exposition::default();
        write_response_times(&[times, Arc::default()], None, &mut text);
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
