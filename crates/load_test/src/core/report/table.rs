//! Reports for people.

use std::fmt::{self, Display, Formatter};

use crate::core::connections::ConnectionCounts;
use crate::core::stalls::Stalls;

use super::{ErrorReport, LoadReport, ProcessReport, to_f64};

/// Writes a row about a kind of requests: counts or latencies.
fn row(f: &mut Formatter<'_>, name: &str, cells: &[&dyn Display]) -> fmt::Result {
    write!(f, "{name:<10}")?;
    for (cell, width) in cells.iter().zip([12, 12, 12, 12, 10, 10, 10]) {
        write!(f, "{cell:>width$}")?;
    }
    writeln!(f)
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pace = match self.rate_per_second {
            0 => "as fast as it answers".to_owned(),
            rate => format!("{rate} requests per second"),
        };
        let (tracker, seconds) = (self.tracker, self.seconds);
        writeln!(f, "Load on {tracker}: {seconds:.1} s, {pace}\n")?;
        let kinds = self.kinds.iter().map(|(name, kind)| (*name, kind));
        let kinds = kinds.chain([("all", &self.all)]);

        write!(f, "{:<10}{:>12}{:>12}", "", "requests/s", "answers/s")?;
        writeln!(
            f,
            "{:>12}{:>12}{:>10}{:>10}{:>10}",
            "requests", "in time", "late", "refused", "lost"
        )?;
        for (name, kind) in kinds.clone() {
            let cells: [&dyn Display; 7] = [
                &format!("{:.0}", kind.requests_per_second),
                &format!("{:.0}", kind.answers_per_second),
                &kind.requests,
                &kind.answered,
                &kind.late,
                &kind.refused,
                &kind.lost,
            ];
            row(f, name, &cells)?;
        }

        write!(f, "\n{:<10}{:>12}{:>12}", "latency", "mean (µs)", "p50")?;
        writeln!(f, "{:>12}{:>12}{:>10}{:>10}", "p90", "p99", "p99.9", "max")?;
        for (name, kind) in kinds {
            let latency = &kind.latency_micros;
            let cells: [&dyn Display; 6] = [
                &format!("{:.1}", latency.mean),
                &latency.p50,
                &latency.p90,
                &latency.p99,
                &latency.p999,
                &latency.max,
            ];
            row(f, name, &cells)?;
        }

        let peers = self.peers_per_announce;
        writeln!(f, "\npeers per answered announce: {peers:.1}")?;
        write!(f, "{}", self.errors)?;
        for (name, process) in [
            ("tracker", &self.tracker_process),
            ("tester", &self.tester_process),
        ] {
            if let Some(process) = process {
                writeln!(f, "{name}: {process}")?;
            }
        }
        if let Some(stalls) = &self.tester_stalls {
            writeln!(f, "tester kept from running: {stalls}")?;
        }
        if let Some(connections) = &self.connections {
            write!(f, "{connections}")?;
        }
        Ok(())
    }
}

impl Display for ErrorReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "errors: {}", self.total)?;
        for (fault, count) in self.counts.iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  {count} {}", fault.name())?;
        }
        for (message, count) in &self.messages {
            writeln!(f, "  {count} refused: {message}")?;
        }
        Ok(())
    }
}

impl Display for ConnectionCounts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "connections: {} opened", self.opened)?;
        let (full, resumed) = (self.full_handshakes, self.resumed_handshakes);
        if full + resumed > 0 {
            write!(f, " (TLS handshakes: {full} full, {resumed} resumed)")?;
        }
        if self.closed_idle > 0 {
            write!(f, ", {} closed by the tracker while idle", self.closed_idle)?;
        }
        writeln!(f)
    }
}

impl Display for ProcessReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} µs CPU per answer (user {:.2}, system {:.2}), {:.2} cores, {:.1} MiB resident",
            self.cpu_micros_per_answer,
            self.user_micros_per_answer,
            self.system_micros_per_answer,
            self.cores,
            mebibytes(self.resident_bytes),
        )
    }
}

impl Display for Stalls {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} ms in all, at most {:.1} ms at a time",
            to_f64(self.total_micros) / 1e3,
            to_f64(self.longest_micros) / 1e3,
        )
    }
}

/// For people.
#[must_use]
pub fn mebibytes(bytes: u64) -> f64 {
    to_f64(bytes) / f64::from(1 << 20)
}
