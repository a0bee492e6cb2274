//! What is printed, beyond what all load testers report.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use aquatic_load::process::Usage;
use aquatic_load::report::{ErrorReport, LoadReport, mebibytes, ratio, to_f64};
use serde::Serialize;

use crate::kinds::{ConnectionCounts, RequestKind, Tally};

/// The result of putting load on a tracker.
#[derive(Clone, Debug, Serialize)]
pub struct HttpLoadReport {
    /// What all load testers report.
    #[serde(flatten)]
    pub load: LoadReport,
    /// Connections.
    pub connections: ConnectionReport,
}

/// What became of connections, from the beginning of the run, warm-up too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionReport {
    /// Connections that were opened; over TLS, those whose handshake was completed.
    pub opened: u64,
    /// Those with a TLS handshake in which the tracker proved who it is.
    pub full_handshakes: u64,
    /// Those whose TLS handshake took up an earlier session.
    pub resumed_handshakes: u64,
    /// Those that the tracker closed while nothing was asked, although they were to be kept.
    pub closed_idle: u64,
}

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
    pub connections: ConnectionReport,
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

impl From<ConnectionCounts> for ConnectionReport {
    fn from(counts: ConnectionCounts) -> Self {
        let ConnectionCounts {
            opened,
            full_handshakes,
            resumed_handshakes,
            closed_idle,
        } = counts;
        Self {
            opened,
            full_handshakes,
            resumed_handshakes,
            closed_idle,
        }
    }
}

impl IdleReport {
    /// Sums up a run. `usages`: the tracker's before and after, if they are known.
    #[must_use]
    pub fn new(
        tracker: SocketAddr,
        open: usize,
        seconds: f64,
        (tally, counts): (&Tally, ConnectionCounts),
        usages: Option<(Usage, Usage)>,
    ) -> Self {
        let announces = tally.kind(RequestKind::Announce);
        let memory = |(before, after): (Usage, Usage)| {
            let added = to_f64(after.resident_bytes) - to_f64(before.resident_bytes);
            MemoryReport {
                resident_bytes_before: before.resident_bytes,
                resident_bytes_after: after.resident_bytes,
                bytes_per_connection: ratio(added, to_f64(u64::try_from(open).unwrap_or(0))),
            }
        };
        Self {
            tracker,
            open,
            seconds,
            refused: announces.refused,
            lost: announces.lost,
            errors: ErrorReport::new(tally),
            connections: counts.into(),
            memory: usages.map(memory),
        }
    }
}

impl Display for HttpLoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.load, self.connections)
    }
}

impl Display for ConnectionReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            opened,
            full_handshakes,
            resumed_handshakes,
            closed_idle,
        } = self;
        write!(f, "connections: {opened} opened")?;
        if full_handshakes + resumed_handshakes > 0 {
            write!(
                f,
                " (TLS handshakes: {full_handshakes} full, {resumed_handshakes} resumed)"
            )?;
        }
        if *closed_idle > 0 {
            write!(f, ", {closed_idle} closed by the tracker while idle")?;
        }
        writeln!(f)
    }
}

impl Display for IdleReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            tracker,
            open,
            seconds,
            refused,
            lost,
            ..
        } = self;
        writeln!(
            f,
            "Idle at {tracker}: {open} connections, answered in {seconds:.1} s"
        )?;
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
