//! Reports for people.

use std::fmt::{self, Display, Formatter};

use super::{ErrorReport, FillReport, KindReport, Latency, LoadReport, ProcessReport};
use crate::plan::{RequestKind, to_f64};

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
        let kinds = [
            (RequestKind::Connect.name(), &self.connect),
            (RequestKind::Announce.name(), &self.announce),
            (RequestKind::Scrape.name(), &self.scrape),
            ("all", &self.all),
        ];

        write!(f, "{:<10}{:>12}{:>12}", "", "requests/s", "answers/s")?;
        writeln!(
            f,
            "{:>12}{:>12}{:>10}{:>10}{:>10}",
            "requests", "in time", "late", "refused", "lost"
        )?;
        for (name, kind) in kinds {
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
        Ok(())
    }
}

impl Display for ErrorReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counts = [
            ("duplicate answers", self.duplicate),
            ("answers to unknown requests", self.unknown_transaction),
            ("malformed datagrams", self.malformed),
            ("answers of the wrong kind", self.wrong_kind),
            ("answers with a wrong number of entries", self.wrong_count),
            ("requests that could not be sent", self.send_failures),
        ];
        writeln!(f, "errors: {}", self.total)?;
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  {count} {name}")?;
        }
        for (message, count) in &self.messages {
            writeln!(f, "  {count} error packets: {message}")?;
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

impl Display for FillReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            torrents,
            peers,
            seconds,
            ..
        } = self;
        writeln!(
            f,
            "Filled {}: {torrents} torrents, {peers} peers in {seconds:.1} s",
            self.tracker
        )?;
        writeln!(
            f,
            "announces repeated: {}, refused: {}",
            self.repeated, self.refused
        )?;
        write!(f, "{}", self.errors)?;
        if let Some(process) = &self.tracker_process {
            writeln!(f, "tracker: {process}")?;
        }
        if let Some(memory) = &self.memory {
            writeln!(
                f,
                "memory: {:.1} MiB before, {:.1} after: {:.1} bytes per torrent, {:.1} per peer",
                mebibytes(memory.resident_bytes_before),
                mebibytes(memory.resident_bytes_after),
                memory.bytes_per_torrent,
                memory.bytes_per_peer,
            )?;
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> f64 {
    to_f64(bytes) / f64::from(1 << 20)
}
