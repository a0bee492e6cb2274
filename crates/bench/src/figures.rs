//! What one run has come to.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The figures of one run. A run under load has no memory per something, and the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Figures {
    /// Answers per second that came within the time measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers_per_second: Option<f64>,
    /// CPU time of the tracker's process per answer, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_micros: Option<f64>,
    /// The part of it in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_micros: Option<f64>,
    /// Cores that the tracker has kept busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<f64>,
    /// Latencies from due time to answer, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_micros: Option<f64>,
    /// 99 of 100 answers were faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_micros: Option<f64>,
    /// 999 of 1,000 answers were faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_micros: Option<f64>,
    /// Requests that were due in the time measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    /// Requests that were never answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<f64>,
    /// Requests that were answered too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<f64>,
    /// What went wrong otherwise, refusals too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// Memory that was added by filling, per torrent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_torrent: Option<f64>,
    /// The same per peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_peer: Option<f64>,
    /// Memory that idle connections have added, per connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// Resident memory at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<f64>,
    /// The most resident memory that the process ever had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<f64>,
}

impl Figures {
    /// From the JSON that a load tester prints.
    ///
    /// # Errors
    /// If it is no report, or nobody was answered.
    pub fn parse(report: &str) -> anyhow::Result<Self> {
        let report: Value = serde_json::from_str(report).context("the load tester's report")?;
        let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
        let figures = Self {
            answers_per_second: number("/all/answers_per_second"),
            cpu_micros: number("/tracker_process/cpu_micros_per_answer"),
            kernel_micros: number("/tracker_process/system_micros_per_answer"),
            cores: number("/tracker_process/cores"),
            p50_micros: number("/all/latency_micros/p50"),
            p99_micros: number("/all/latency_micros/p99"),
            p999_micros: number("/all/latency_micros/p999"),
            requests: number("/all/requests"),
            lost: number("/all/lost").or(number("/lost")),
            late: number("/all/late"),
            errors: number("/errors/total"),
            bytes_per_torrent: number("/memory/bytes_per_torrent"),
            bytes_per_peer: number("/memory/bytes_per_peer"),
            bytes_per_connection: number("/memory/bytes_per_connection"),
            resident_bytes: number("/memory/resident_bytes_after")
                .or(number("/tracker_process/resident_bytes")),
            peak_bytes: None,
        };
        let is_memory = report.get("memory").is_some_and(Value::is_object);
        if !is_memory && figures.answers_per_second.is_none_or(|rate| rate <= 0.0) {
            bail!("nobody was answered: {}", messages(&report));
        }
        Ok(figures)
    }
}

/// The refusals of a report, for people.
fn messages(report: &Value) -> String {
    match report.pointer("/errors/messages") {
        Some(Value::Object(messages)) if !messages.is_empty() => {
            let messages = messages
                .iter()
                .map(|(text, count)| format!("{count} × {text:?}"));
            messages.collect::<Vec<_>>().join(", ")
        }
        _ => "no refusals either".to_owned(),
    }
}

/// The most resident memory that a process ever had (`VmHWM`, proc_pid_status(5)), in bytes.
#[must_use]
pub fn peak_bytes(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().strip_suffix(" kB")?.parse::<u32>().ok()?;
    Some(f64::from(kib) * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_load_is_read() {
        let figures = Figures::parse(
            r#"{"all": {"answers_per_second": 100.5, "requests": 210, "lost": 2, "late": 1,
                "latency_micros": {"p50": 40, "p99": 500, "p999": 900}},
                "errors": {"total": 3, "messages": {}},
                "tracker_process": {"cpu_micros_per_answer": 4.5, "system_micros_per_answer": 3.0,
                "cores": 0.5, "resident_bytes": 4096}}"#,
        );
        let figures = figures.unwrap();
        assert_eq!(figures.answers_per_second, Some(100.5));
        assert_eq!(figures.p999_micros, Some(900.0));
        assert_eq!(figures.resident_bytes, Some(4096.0));
        assert_eq!(figures.bytes_per_peer, None);
    }

    #[test]
    fn a_report_of_memory_is_read() {
        let figures = Figures::parse(
            r#"{"lost": 0, "errors": {"total": 0}, "memory": {"resident_bytes_after": 9000,
                "bytes_per_connection": 350.0}}"#,
        );
        let figures = figures.unwrap();
        assert_eq!(figures.bytes_per_connection, Some(350.0));
        assert_eq!(figures.resident_bytes, Some(9000.0));
    }

    #[test]
    fn a_tracker_that_refuses_all_has_not_been_measured() {
        let report = r#"{"all": {"answers_per_second": 0.0},
            "errors": {"total": 5, "messages": {"not allowed": 5}}}"#;
        let error = Figures::parse(report).unwrap_err().to_string();
        assert!(error.contains("5 × \"not allowed\""), "{error}");
        Figures::parse("nonsense").unwrap_err();
    }

    #[test]
    fn the_peak_is_found() {
        assert_eq!(
            peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(peak_bytes("Name:\tx\n"), None);
    }
}
