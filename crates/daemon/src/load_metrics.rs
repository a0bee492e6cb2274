//! Whether files that are read again while the daemon runs could be read, for Prometheus.

use metrics::{Label, Unit, describe_gauge};

use crate::clock::unix_time;
use crate::kept_gauges;
use crate::reload_report;

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
        self.succeeded_of(&[]);
    }

    /// It could not be loaded again; the previous one is kept.
    pub fn failed(&self) {
        self.failed_of(&[]);
    }

    /// It has been loaded: the one that these labels tell from others of its kind.
    pub fn succeeded_of(&self, labels: &[Label]) {
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
        kept_gauges::set(self.successful, labels, 1.0);
        let now = unix_time().as_secs_f64();
        kept_gauges::set(self.timestamp_seconds, labels, now);
        reload_report::note(|report| report.loaded.push(self.what));
    }

    /// That one could not be loaded again; the previous one is kept.
    pub fn failed_of(&self, labels: &[Label]) {
        kept_gauges::set(self.successful, labels, 0.0);
        let reason = format!("{} could not be loaded: the log says why", self.what);
        reload_report::note_error(reason);
    }

    /// It could not, for a reason that the operator is told who has asked for it.
    pub fn failed_because(&self, reason: &anyhow::Error) {
        kept_gauges::set(self.successful, &[], 0.0);
        reload_report::note_error(format!("{}: {reason:#}", self.what));
    }
}
