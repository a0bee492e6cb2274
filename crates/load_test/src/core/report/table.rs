//! Reports for people.

use std::fmt::{self, Display, Formatter};

use crate::core::stalls::Stalls;

use super::{ErrorReport, KindReport, Latency, LoadReport, ProcessReport, to_f64};

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pace = match self.rate_per_second {
            0 => "as fast as it answers".to_owned(),
            rate => format!("{rate} requests per second"),
        };
        writeln!(
            f,
            "Load on {}: {:.1} s, {pace}\n",
            self.tracker, self.seconds
        )?;
        let kinds = self.kinds.iter().map(|(name, kind)| (*name, kind));
        let kinds = kinds.chain([("all", &self.all)]);

        write!(f, "{:<10}{:>12}{:>12}", "", "requests/s", "answers/s")?;
        writeln!(
            f,
            "{:>12}{:>12}{:>10}{:>10}{:>10}",
            "requests", "in time", "late", "refused", "lost"
        )?;
        for (name, kind) in kinds.clone() {
            let (requests, answers) = (kind.requests_per_second, kind.answers_per_second);
            write!(
                f,
                "{name:<10}{requests:>12.0}{answers:>12.0}{:>12}",
                kind.requests
            )?;
            let KindReport {
                answered,
                late,
                refused,
                lost,
                ..
            } = kind;
            writeln!(f, "{answered:>12}{late:>10}{refused:>10}{lost:>10}")?;
        }

        write!(f, "\n{:<10}{:>12}{:>12}", "latency", "mean (µs)", "p50")?;
        writeln!(f, "{:>12}{:>12}{:>10}{:>10}", "p90", "p99", "p99.9", "max")?;
        for (name, kind) in kinds {
            let Latency {
                mean,
                p50,
                p90,
                p99,
                p999,
                max,
            } = kind.latency_micros;
            writeln!(
                f,
                "{name:<10}{mean:>12.1}{p50:>12}{p90:>12}{p99:>12}{p999:>10}{max:>10}"
            )?;
        }

        writeln!(
            f,
            "\npeers per answered announce: {:.1}",
            self.peers_per_announce
        )?;
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
        Ok(())
    }
}

impl Display for ErrorReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "errors: {}", self.total)?;
        for (_, name, count) in self.counts.iter().filter(|(.., count)| *count > 0) {
            writeln!(f, "  {count} {name}")?;
        }
        for (message, count) in &self.messages {
            writeln!(f, "  {count} refused: {message}")?;
        }
        Ok(())
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
