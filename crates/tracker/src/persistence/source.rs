//! A shard's end of a snapshot: writes records when one is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use aquatic_channel::Waker;
use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{BatchBody, Contents};
use aquatic_types::Seconds;

use super::persistent::{Persistent, Records};
use crate::shard::ShardSource;

/// Torrents and peers that one slice writes: some 10 microseconds.
const SLICE_RECORDS: usize = 256;

/// What a shard hands over, and the round that it is of.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) round: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Records that were true in this second of the daemon's clock.
    Batch(BatchBody, Seconds),
    /// There are no more in this round.
    End,
    /// The shard is gone: its worker has ended.
    Gone,
}

/// How a snapshot is asked for.
#[derive(Debug, Default)]
pub(super) struct Rounds(AtomicU64);

impl Rounds {
    /// Begins another round, in place of one that is not over. Returns its number.
    pub(super) fn begin(&self, wakers: &[Waker]) -> u64 {
        let round = self.0.fetch_add(1, Ordering::Release) + 1;
        wakers.iter().for_each(Waker::wake);
        round
    }

    fn begun(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// See the [module](self).
pub struct SnapshotSource {
    contents: Contents,
    rounds: Arc<Rounds>,
    /// The last round that was begun here.
    last: u64,
    sender: SyncSender<Part>,
    pass: Option<Pass>,
}

/// A round that this shard has begun and not finished.
struct Pass {
    /// The map whose turn it is.
    map: usize,
    /// That map has been gone through; the rest of its records is to be handed over.
    is_map_over: bool,
    records: Records,
    /// The second in which the first of the peers among them was looked at: the lives of all are
    /// counted from its beginning. So of two records of a peer the later one has the later
    /// deadline, in whichever batches they are, and however long these have waited for the disk.
    since: Option<Seconds>,
    /// What could not be handed over yet.
    waiting: Option<What>,
}

impl SnapshotSource {
    pub(super) fn new(contents: Contents, rounds: Arc<Rounds>, sender: SyncSender<Part>) -> Self {
        Self {
            contents,
            rounds,
            last: 0,
            sender,
            pass: None,
        }
    }

    /// The round to work on, if there is one.
    fn pass<S: Persistent>(&mut self, shard: &mut S) -> Option<&mut Pass> {
        let begun = self.rounds.begun();
        if begun > self.last {
            self.last = begun;
            shard.abandon_snapshot();
            self.pass = Some(Pass {
                map: 0,
                is_map_over: false,
                records: Records::new(self.contents),
                since: None,
                waiting: None,
            });
        }
        self.pass.as_mut()
    }
}

impl<S: Persistent> ShardSource<S> for SnapshotSource {
    fn process(&mut self, _: Now, _: &mut S) -> usize {
        0
    }

    fn step(&mut self, now: Now, shard: &mut S) -> bool {
        let Some(pass) = self.pass(shard) else {
            return false;
        };
        let what = pass.waiting.take().or_else(|| pass.slice(now, shard));
        let Some(what) = what else {
            return true;
        };
        let is_end = matches!(what, What::End);
        let round = self.last;
        match self.sender.try_send(Part { round, what }) {
            Ok(()) if is_end => {
                self.pass = None;
                false
            }
            Ok(()) => true,
            // The disk is slow. It is tried again in the next round.
            Err(TrySendError::Full(part)) => {
                if let Some(pass) = &mut self.pass {
                    pass.waiting = Some(part.what);
                }
                false
            }
            // The thread is gone: the daemon is ending.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    fn has_pending(&self) -> bool {
        self.rounds.begun() > self.last
    }
}

impl Drop for SnapshotSource {
    /// Else the thread would wait for this shard for ever.
    fn drop(&mut self) {
        let (round, what) = (u64::MAX, What::Gone);
        // Nobody is told if the thread is gone, too.
        let _ = self.sender.send(Part { round, what });
    }
}

impl Pass {
    /// Writes some records. Returns what is to be handed over.
    fn slice<S: Persistent>(&mut self, now: Now, shard: &mut S) -> Option<What> {
        if !self.is_map_over {
            let since = *self.since.get_or_insert(now.seconds);
            let records = &mut self.records;
            records.seconds_ago = now.seconds.0.saturating_sub(since.0);
            self.is_map_over = shard.snapshot(now, self.map, SLICE_RECORDS, records);
        }
        let batch = if self.is_map_over {
            self.records.take_rest()
        } else {
            self.records.take_full()
        };
        if let Some(batch) = batch {
            let since = self.since.unwrap_or(now.seconds);
            if batch.holds_peers() {
                self.since = None;
            }
            return Some(What::Batch(batch, since));
        }
        if self.is_map_over {
            self.is_map_over = false;
            self.map += 1;
            self.since = None;
        }
        (self.map >= S::MAPS).then_some(What::End)
    }
}
