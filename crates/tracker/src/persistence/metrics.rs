//! What Prometheus is told about what outlives the process.

use std::time::Duration;

use aquatic_daemon::kept_gauges;
use metrics::{Label, Unit, describe_gauge};

const WRITE_SUCCESSFUL: &str = "aquatic_persistence_last_write_successful";
const WRITE_TIMESTAMP: &str = "aquatic_persistence_last_write_timestamp_seconds";
const WRITE_SECONDS: &str = "aquatic_persistence_last_write_seconds";
const FILE_BYTES: &str = "aquatic_persistence_file_bytes";
const RESTORED_PEERS: &str = "aquatic_persistence_restored_peers";

/// The metrics of one file.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// `protocol`, if there are several files.
    labels: Vec<Label>,
}

impl Gauges {
    /// Of a process that writes several files.
    pub(super) fn of_protocol(name: &'static str) -> Self {
        Self {
            labels: vec![Label::from_static_parts("protocol", name)],
        }
    }

    /// Says what the metrics are.
    pub(super) fn describe() {
        describe_gauge!(
            WRITE_SUCCESSFUL,
            "1, or 0 if the last attempt to write the swarms to their file failed"
        );
        describe_gauge!(
            WRITE_TIMESTAMP,
            Unit::Seconds,
            "When the swarms were last written to their file; Unix time"
        );
        describe_gauge!(
            WRITE_SECONDS,
            Unit::Seconds,
            "For how long the swarms were written to their file the last time"
        );
        describe_gauge!(
            FILE_BYTES,
            Unit::Bytes,
            "Size of the file that the swarms were last written to"
        );
        describe_gauge!(
            RESTORED_PEERS,
            "Peers that were taken from the file at the start"
        );
    }

    fn set(&self, name: &'static str, value: f64) {
        kept_gauges::set(name, &self.labels, value);
    }

    /// A file was written.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge of Prometheus is a floating-point number"
    )]
    pub(super) fn written(&self, unix_millis: u64, duration: Duration, bytes: u64) {
        self.set(WRITE_SUCCESSFUL, 1.0);
        self.set(WRITE_TIMESTAMP, unix_millis as f64 / 1_000.0);
        self.set(WRITE_SECONDS, duration.as_secs_f64());
        self.set(FILE_BYTES, bytes as f64);
    }

    /// A file could not be written.
    pub(super) fn failed(&self) {
        self.set(WRITE_SUCCESSFUL, 0.0);
    }

    /// What a file held is known again.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge of Prometheus is a floating-point number"
    )]
    pub(super) fn restored(&self, peers: u64) {
        self.set(RESTORED_PEERS, peers as f64);
    }
}
