//! Metrics for Prometheus.
//!
//! One thread reads, every few seconds, what the workers count and the shards report. It shares
//! nothing else with them, so that it does not delay an answer to a client. What people see is
//! [`aquatic_tracker::metrics`]'s.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_daemon::heartbeat;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::{PrometheusMetrics, Sample};

use crate::counters::Udp;

/// Starts what publishes metrics, at this interval, in a thread that is called `statistics` after
/// the `prefix`. A Prometheus endpoint must have been bound already, if there is to be one.
///
/// # Errors
/// If the system has no room for a thread.
pub fn start(
    supervisor: &Supervisor,
    prefix: &str,
    config: &MetricsConfig,
    interval: LiveSettings<Duration>,
    counted: Counted<Udp>,
) -> anyhow::Result<()> {
    let is_wanted = config.has_endpoint();
    supervisor.spawn(format!("{prefix}statistics"), move || {
        run(is_wanted, &interval, &counted)
    })
}

fn run(is_wanted: bool, interval: &LiveSettings<Duration>, counted: &Counted<Udp>) -> ! {
    if !is_wanted {
        loop {
            heartbeat::sleep(Duration::MAX);
        }
    }
    let (workers, reports) = (&counted.workers, &counted.reports);
    let clock = Clock::start();
    let mut prometheus = PrometheusMetrics::new(counted);
    loop {
        interval.sleep();
        prometheus.update(workers, &Sample::take(clock.elapsed(), workers, reports));
    }
}
