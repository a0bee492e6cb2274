//! Whether files that are read again while the daemon runs could be read, for Prometheus.

use metrics::{Unit, describe_gauge, gauge};

use crate::clock::unix_time;

/// The metrics of something that is loaded from files. Whoever loads it says how that went; without
/// a metrics endpoint nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct LoadMetrics {
    /// What is loaded, for people.
    pub what: &'static str,
    /// The name of the metric that says whether the last attempt has succeeded.
    pub successful: &'static str,
    /// The name of the metric that says when an attempt has succeeded last.
    pub timestamp_seconds: &'static str,
}

impl LoadMetrics {
    /// It has been loaded, at the start or later.
    pub fn succeeded(&self) {
        describe_gauge!(
            self.successful,
            Unit::Count,
            format!("Whether {} could be loaded at the last attempt", self.what)
        );
        describe_gauge!(
            self.timestamp_seconds,
            Unit::Seconds,
            format!("When {} was loaded, in Unix time", self.what)
        );
        gauge!(self.successful).set(1);
        gauge!(self.timestamp_seconds).set(unix_time().as_secs_f64());
    }

    /// It could not be loaded again; the previous one is kept.
    pub fn failed(&self) {
        gauge!(self.successful).set(0);
    }
}
