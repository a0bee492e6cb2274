//! What Prometheus is told about what outlives the process.

use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};

const WRITE_SUCCESSFUL: &str = "aquatic_persistence_last_write_successful";
const WRITE_TIMESTAMP: &str = "aquatic_persistence_last_write_timestamp_seconds";
const WRITE_SECONDS: &str = "aquatic_persistence_last_write_seconds";
const FILE_BYTES: &str = "aquatic_persistence_file_bytes";
const RESTORED_PEERS: &str = "aquatic_persistence_restored_peers";

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

/// A file was written.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of Prometheus is a floating-point number"
)]
pub(super) fn written(unix_millis: u64, duration: Duration, bytes: u64) {
    gauge!(WRITE_SUCCESSFUL).set(1.0);
    gauge!(WRITE_TIMESTAMP).set(unix_millis as f64 / 1_000.0);
    gauge!(WRITE_SECONDS).set(duration.as_secs_f64());
    gauge!(FILE_BYTES).set(bytes as f64);
}

/// A file could not be written.
pub(super) fn failed() {
    gauge!(WRITE_SUCCESSFUL).set(0.0);
}

/// What a file held is known again.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of Prometheus is a floating-point number"
)]
pub(super) fn restored(peers: u64) {
    gauge!(RESTORED_PEERS).set(peers as f64);
}
