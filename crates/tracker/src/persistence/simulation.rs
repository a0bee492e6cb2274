//! Snapshots without a thread, a disk and a clock, for the simulations of trackers. Nothing but
//! tests needs it.
//!
//! Whoever drives the tracker decides when a snapshot is begun, when the thread that writes has a
//! turn, and what all clocks say. The shards write their slices as they always do, when they are
//! maintained.

use std::cell::Cell;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_swarm_log::{Contents, SystemTime};
use aquatic_types::ShardKey;

use super::persistent::Persistent;
use super::restore::{RestoreError, Summary, restore};
use super::snapshotter::{Snapshot, SnapshotSettings, Snapshotter};
use super::{Persistence, Plan};

/// What is there when a simulated tracker starts.
#[derive(Clone, Debug)]
pub struct SimulatedStart {
    /// The file that an earlier tracker has left behind; `None`: none has.
    pub file: Option<Vec<u8>>,
    /// The time of the tracker.
    pub now: Now,
    /// The time of the system.
    pub system: SystemTime,
}

/// What became of the file.
pub type Loaded = Result<Summary, RestoreError>;

impl Persistence {
    /// Of a simulated tracker. What becomes of the file is told to the receiver.
    #[must_use]
    pub fn simulated(contents: Contents, start: SimulatedStart) -> (Self, Receiver<Loaded>) {
        let (sender, loaded) = channel();
        let plan = Plan {
            settings: SnapshotSettings {
                contents,
                path: PathBuf::new(),
                interval: Duration::ZERO,
                gauges: super::metrics::Gauges::default(),
            },
            clock: Clock::start(),
            boot_id: start.system.boot_id,
            at_path: Cell::default(),
            counted_until: Cell::default(),
            simulated: Some(SimulatedFile { start, sender }),
        };
        (Self(Some(plan)), loaded)
    }
}

/// Stands for the file of a simulated tracker.
#[derive(Clone, Debug)]
pub(super) struct SimulatedFile {
    start: SimulatedStart,
    sender: Sender<Loaded>,
}

impl SimulatedFile {
    pub(super) fn load<S: Persistent>(
        &self,
        shards: &mut [S],
        key: &ShardKey,
        access_list: &SharedAccessList,
        peer_age_seconds_max: u32,
    ) {
        let SimulatedStart { file, now, system } = &self.start;
        let Some(file) = file else { return };
        let list = &mut access_list.reader();
        let file = Cursor::new(file.as_slice());
        let loaded = restore(file, shards, key, list, *now, system, peer_age_seconds_max);
        // Nobody is told who does not want to know.
        let _ = self.sender.send(loaded);
    }
}

/// Writes snapshots of a simulated tracker, one step after the other.
pub struct SimulatedSnapshotter {
    snapshotter: Snapshotter,
    /// The one that is going on, and its file so far.
    snapshot: Option<(Snapshot, Vec<u8>)>,
}

impl SimulatedSnapshotter {
    /// In place of the thread that would [run](Snapshotter::run).
    #[must_use]
    pub fn new(snapshotter: Snapshotter) -> Self {
        Self {
            snapshotter,
            snapshot: None,
        }
    }

    /// Whether a snapshot is going on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Begins a snapshot. One that is going on is given up.
    pub fn begin(&mut self, now: Now, system: &SystemTime) {
        let mut file = Vec::new();
        let snapshot = self.snapshotter.begin(system, now.micros, &mut file);
        self.snapshot = Some((snapshot, file));
    }

    /// Takes no more than `parts_max` of what shards have handed over. Returns the file when it is
    /// whole.
    ///
    /// # Errors
    /// If a shard is gone.
    pub fn step(&mut self, now: Now, parts_max: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let Some((snapshot, file)) = &mut self.snapshot else {
            return Ok(None);
        };
        for _ in 0..parts_max {
            let Some(part) = self.snapshotter.next_part() else {
                break;
            };
            snapshot.take(part, file)?;
        }
        let is_over = |(snapshot, _): &mut (Snapshot, Vec<u8>)| snapshot.is_over();
        let Some((snapshot, mut file)) = self.snapshot.take_if(is_over) else {
            return Ok(None);
        };
        snapshot.end(now.micros, &mut file);
        Ok(Some(file))
    }
}
