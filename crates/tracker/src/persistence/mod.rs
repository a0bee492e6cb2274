//! Swarms that outlive the process: they are written to a file from time to time and at the end,
//! and read at the next start.
//!
//! ```text
//!   shards ── SnapshotSource: records, a slice at a time ──▶ Snapshotter (a thread) ──▶ file
//!   shards ◀── restore: before the workers have threads ◀──────────────────────────────── file
//! ```
//!
//! The file is that of [`aquatic_swarm_log`]. It is replaced as a whole, so a reader finds an old
//! one or a new one, never a part. Whatever else it finds there is reported, and set aside
//! or, if it may be of use to somebody, left alone; nothing about a file can keep a tracker from
//! starting.
//!
//! | module | contents |
//! |---|---|
//! | [`persistent`] | what a shard tells, and takes in |
//! | [`source`] | a shard's end of a snapshot |
//! | [`snapshotter`] | the thread that writes files |
//! | [`restore`] | reading a file |
//! | [`simulation`] | the same without a thread, a disk and a clock |
//! | [`file`](mod@file) | where it is, and what becomes of one that cannot be used |

use std::cell::Cell;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::clock::{BootId, Clock, Now};
use aquatic_types::ShardKey;

use self::file::AtPath;
use self::metrics::Gauges;
use self::persistent::Persistent;
use self::simulation::SimulatedFile;
use self::snapshotter::{SnapshotSettings, Snapshotter};
use crate::config::SnapshotPlan;
use crate::dispatch::shard_set::ShardSet;

pub mod file;
mod metrics;
pub mod persistent;
pub mod restore;
pub mod simulation;
pub mod snapshotter;
pub mod source;

/// What is to be done about swarms that outlive the process. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Persistence(Option<Plan>);

#[derive(Clone, Debug)]
struct Plan {
    settings: SnapshotSettings,
    clock: Clock,
    boot_id: BootId,
    /// What was at the path when it was looked at.
    at_path: Cell<AtPath>,
    /// See [`Persistence::counted_until`].
    counted_until: Cell<Option<i64>>,
    /// What is read in place of the file.
    simulated: Option<SimulatedFile>,
}

impl Persistence {
    /// What an operator has set.
    #[must_use]
    pub fn new(plan: Option<SnapshotPlan<'_>>, clock: Clock, boot_id: BootId) -> Self {
        Self(plan.map(|plan| Plan {
            settings: SnapshotSettings {
                contents: plan.contents,
                path: plan.path.to_owned(),
                interval: plan.interval,
                gauges: Gauges::default(),
            },
            clock,
            boot_id,
            at_path: Cell::default(),
            counted_until: Cell::default(),
            simulated: None,
        }))
    }

    /// The same in a process that writes several files: metrics say which protocol they are about.
    #[must_use]
    pub fn of_protocol(mut self, name: &'static str) -> Self {
        if let Some(plan) = &mut self.0 {
            plan.settings.gauges = Gauges::of_protocol(name);
        }
        self
    }

    /// Takes what was written down into shards that have no owners yet. Torrents that `access_list`
    /// does not allow are left out, and peers live on for no longer than `peer_age_seconds_max`.
    pub fn restore<S: Persistent>(
        &self,
        shards: &mut [S],
        key: &ShardKey,
        access_list: &SharedAccessList,
        peer_age_seconds_max: u32,
    ) {
        let Some(plan) = &self.0 else { return };
        if let Some(simulated) = &plan.simulated {
            simulated.load(shards, key, access_list, peer_age_seconds_max);
        } else {
            Gauges::describe();
            let clocks = (plan.clock, plan.boot_id);
            let path = &plan.settings.path;
            let access_list = &mut access_list.reader();
            let (at_path, restored) =
                file::load(path, shards, key, access_list, clocks, peer_age_seconds_max);
            plan.settings
                .gauges
                .restored(restored.map_or(0, |it| it.peers));
            plan.at_path.set(at_path);
            if let Some(restored) = restored {
                let now = Now::read(plan.clock).micros.cast_signed();
                let age_micros = restored.age_seconds.saturating_mul(1_000_000);
                plan.counted_until
                    .set(Some(now.saturating_sub_unsigned(age_micros)));
            }
        }
    }

    /// Downloads until then are in what was restored, if something was: microseconds of the
    /// daemon's clock, before its start.
    #[must_use]
    pub fn counted_until(&self) -> Option<i64> {
        self.0.as_ref()?.counted_until.get()
    }

    /// Sees to it that shards are written down from now on. `process` is a random number, and
    /// `wakers` wake the owners of the shards. What is returned needs a thread.
    #[must_use]
    pub fn attach<S: Persistent>(
        self,
        shards: &mut ShardSet<S>,
        process: u64,
        wakers: &[Waker],
    ) -> Option<Snapshotter> {
        let plan = self.0?;
        let clocks = (plan.clock, plan.boot_id);
        let (snapshotter, sources) =
            Snapshotter::new(plan.settings, clocks, process, wakers.to_vec());
        let snapshotter = snapshotter.in_place_of(plan.at_path.get());
        for (shard, source) in sources.into_iter().enumerate() {
            shards.attach(shard, Box::new(source));
        }
        Some(snapshotter)
    }
}

#[cfg(test)]
mod tests;
