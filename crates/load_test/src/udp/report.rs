//! What is printed after a tracker was filled; [`core`](crate::core) reports load.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use serde::Serialize;

use crate::core::kind::RequestKind;
use crate::core::process::Usage;
use crate::core::report::{ErrorReport, ProcessReport, mebibytes, ratio, to_f64};
use crate::core::tally::Tally;
use crate::udp::FAULTS;

/// The result of filling a tracker.
#[derive(Clone, Debug, Serialize)]
pub struct FillReport {
    /// The tracker's address.
    pub tracker: SocketAddr,
    /// Torrents that were announced.
    pub torrents: u64,
    /// Peers that were announced.
    pub peers: u64,
    /// How long it took.
    pub seconds: f64,
    /// Peers that were refused by an error packet.
    pub refused: u64,
    /// Announces that had to be repeated because no answer came.
    pub repeated: u64,
    /// What went wrong.
    pub errors: ErrorReport,
    /// CPU time, if the tracker's process id was given.
    pub tracker_process: Option<ProcessReport>,
    /// Memory, if the tracker's process id was given.
    pub memory: Option<MemoryReport>,
}

/// How much memory a population takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Before the first announce.
    pub resident_bytes_before: u64,
    /// A moment after the last one.
    pub resident_bytes_after: u64,
    /// What was added, per torrent.
    pub bytes_per_torrent: f64,
    /// What was added, per peer.
    pub bytes_per_peer: f64,
}

impl FillReport {
    /// Sums up a run. `usages`: the tracker's before and after, if they are known.
    #[must_use]
    pub fn new(
        tracker: SocketAddr,
        (torrents, peers): (u64, u64),
        seconds: f64,
        tally: &Tally,
        usages: Option<(Usage, Usage)>,
    ) -> Self {
        let announces = tally.kind(RequestKind::Announce);
        let memory = |(before, after): (Usage, Usage)| {
            let added = to_f64(after.resident_bytes) - to_f64(before.resident_bytes);
            MemoryReport {
                resident_bytes_before: before.resident_bytes,
                resident_bytes_after: after.resident_bytes,
                bytes_per_torrent: ratio(added, to_f64(torrents)),
                bytes_per_peer: ratio(added, to_f64(peers)),
            }
        };
        let answers = tally.all_kinds().received_in_window;
        Self {
            tracker,
            torrents,
            peers,
            seconds,
            refused: announces.refused,
            repeated: announces.sent.saturating_sub(peers),
            errors: ErrorReport::new(FAULTS, tally),
            tracker_process: usages
                .map(|(before, after)| ProcessReport::new(&after.since(&before), answers, seconds)),
            memory: usages.map(memory),
        }
    }
}

impl Display for FillReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tracker, seconds) = (self.tracker, self.seconds);
        let (torrents, peers) = (self.torrents, self.peers);
        writeln!(
            f,
            "Filled {tracker}: {torrents} torrents, {peers} peers in {seconds:.1} s"
        )?;
        let (repeated, refused) = (self.repeated, self.refused);
        writeln!(f, "announces repeated: {repeated}, refused: {refused}")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tally::Asked;

    #[test]
    fn memory_is_what_was_added() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        for number in 0..500 {
            let announce = Asked::new(RequestKind::Announce, 1);
            tally.sent(&announce);
            match number {
                0..380 => tally.answered(&announce, 5),
                380..400 => tally.refused(&announce, 5, b"no"),
                _ => tally.lost(&announce),
            }
        }
        let usage = |resident_bytes| Usage {
            resident_bytes,
            ..Usage::default()
        };
        let usages = Some((usage(1_000_000), usage(9_000_000)));
        let tracker = "127.0.0.1:3000".parse().unwrap();
        let report = FillReport::new(tracker, (100, 400), 1.0, &tally, usages);
        let memory = report.memory.unwrap();
        assert_eq!(memory.bytes_per_torrent.to_string(), "80000");
        assert_eq!(memory.bytes_per_peer.to_string(), "20000");
        assert_eq!((report.repeated, report.refused), (100, 20));
        assert!(report.to_string().contains("100 torrents, 400 peers"));
    }
}
