//! What is printed of idle connections; [`core`](crate::core) reports load.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use serde::Serialize;

use crate::core::connections::ConnectionCounts;
use crate::core::kind::RequestKind;
use crate::core::process::Usage;
use crate::core::report::{ErrorReport, mebibytes, ratio, to_f64};
use crate::core::tally::Tally;
use crate::stream::run::FAULTS;

/// The result of keeping connections idle.
#[derive(Clone, Debug, Serialize)]
pub struct IdleReport {
    /// The tracker's address.
    pub tracker: SocketAddr,
    /// Connections that were open at the end.
    pub open: usize,
    /// How long it took until all were answered.
    pub seconds: f64,
    /// Announces that were refused.
    pub refused: u64,
    /// Announces that were never answered.
    pub lost: u64,
    /// What went wrong.
    pub errors: ErrorReport,
    /// What became of them.
    pub connections: ConnectionCounts,
    /// Memory, if the tracker's process id was given.
    pub memory: Option<MemoryReport>,
}

/// How much of the tracker's memory idle connections take; what the kernel has for them is not
/// in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Before the first connection.
    pub resident_bytes_before: u64,
    /// With all of them.
    pub resident_bytes_after: u64,
    /// What was added, per connection that is open; their peers' places in swarms are in it.
    pub bytes_per_connection: f64,
}

impl IdleReport {
    /// Sums up a run of `open` connections that took so many seconds to be answered. `usages`: the
    /// tracker's before and after, if they are known.
    #[must_use]
    pub fn new(
        tracker: SocketAddr,
        (open, seconds): (usize, f64),
        tally: &Tally,
        usages: Option<(Usage, Usage)>,
    ) -> Self {
        let memory = |(before, after): (Usage, Usage)| {
            let added = to_f64(after.resident_bytes) - to_f64(before.resident_bytes);
            MemoryReport {
                resident_bytes_before: before.resident_bytes,
                resident_bytes_after: after.resident_bytes,
                bytes_per_connection: ratio(added, to_f64(u64::try_from(open).unwrap_or(0))),
            }
        };
        let announces = tally.kind(RequestKind::Announce);
        Self {
            tracker,
            open,
            seconds,
            refused: announces.refused,
            lost: announces.lost,
            errors: ErrorReport::new(FAULTS, tally),
            connections: tally.connections,
            memory: usages.map(memory),
        }
    }
}

impl Display for IdleReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tracker, open, seconds) = (self.tracker, self.open, self.seconds);
        writeln!(
            f,
            "Idle at {tracker}: {open} connections, answered in {seconds:.1} s"
        )?;
        let (refused, lost) = (self.refused, self.lost);
        writeln!(f, "announces refused: {refused}, lost: {lost}")?;
        write!(f, "{}{}", self.errors, self.connections)?;
        if let Some(memory) = &self.memory {
            writeln!(
                f,
                "memory: {:.1} MiB before, {:.1} after: {:.0} bytes per connection",
                mebibytes(memory.resident_bytes_before),
                mebibytes(memory.resident_bytes_after),
                memory.bytes_per_connection,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::core::tally::Asked;

    use super::*;

    #[test]
    fn idle_memory_is_what_was_added_per_open_connection() {
        let mut tally = Tally::new(0..1_000, 100);
        for number in 0..102 {
            let announce = Asked::new(RequestKind::Announce, number);
            tally.sent(&announce);
            match number {
                0..99 => tally.answered(&announce, 200),
                99..101 => tally.refused(&announce, 200, b"no"),
                _ => tally.lost(&announce),
            }
        }
        let usage = |resident_bytes| Usage {
            resident_bytes,
            ..Usage::default()
        };
        tally.connections = ConnectionCounts {
            opened: 102,
            full_handshakes: 100,
            resumed_handshakes: 2,
            closed_idle: 2,
        };
        let tracker = "127.0.0.1:3000".parse().unwrap();
        let usages = Some((usage(1 << 20), usage(2 << 20)));
        let report = IdleReport::new(tracker, (128, 0.5), &tally, usages);
        let text = report.to_string();
        for line in [
            "announces refused: 2, lost: 1\n",
            "  2 refused: no\n",
            "(TLS handshakes: 100 full, 2 resumed), 2 closed by the tracker while idle\n",
            "memory: 1.0 MiB before, 2.0 after: 8192 bytes per connection\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
