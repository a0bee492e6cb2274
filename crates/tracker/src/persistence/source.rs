//! A shard's end of a snapshot: writes records when one is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use aquatic_channel::Waker;
use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{BatchBody, Contents};

use super::persistent::{Persistent, Records};
use crate::shard::ShardSource;

/// Torrents and peers that one slice writes: some 10 microseconds.
const SLICE_RECORDS: usize = 256;

/// What a shard hands over.
#[derive(Debug)]
pub(super) enum Part {
    /// Records that were true at this time, in microseconds of the daemon's clock.
    Batch(BatchBody, u64),
    /// There are no more in this round.
    End,
}

/// How a snapshot is asked for.
#[derive(Debug, Default)]
pub(super) struct Rounds(AtomicU64);

impl Rounds {
    pub(super) fn begin(&self, wakers: &[Waker]) {
        self.0.fetch_add(1, Ordering::Release);
        wakers.iter().for_each(Waker::wake);
    }

    fn begun(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// See the [module](self).
pub struct SnapshotSource {
    contents: Contents,
    rounds: Arc<Rounds>,
    rounds_done: u64,
    sender: SyncSender<Part>,
    pass: Option<Pass>,
}

/// A round that this shard has begun.
struct Pass {
    /// The map whose turn it is.
    map: usize,
    /// That map has been gone through; the rest of its records is to be handed over.
    is_map_over: bool,
    records: Records,
    /// When the oldest of the peers among them was looked at, in microseconds.
    since: Option<u64>,
    /// What could not be handed over yet.
    waiting: Option<Part>,
}

impl SnapshotSource {
    pub(super) fn new(contents: Contents, rounds: Arc<Rounds>, sender: SyncSender<Part>) -> Self {
        Self {
            contents,
            rounds,
            rounds_done: 0,
            sender,
            pass: None,
        }
    }

    /// The round to work on, if there is one.
    fn pass<S: Persistent>(&mut self, shard: &mut S) -> Option<&mut Pass> {
        if self.pass.is_none() && self.rounds.begun() > self.rounds_done {
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
        let part = pass.waiting.take().or_else(|| pass.slice(now, shard));
        let Some(part) = part else {
            return true;
        };
        let is_end = matches!(part, Part::End);
        match self.sender.try_send(part) {
            Ok(()) if is_end => {
                self.pass = None;
                self.rounds_done += 1;
                false
            }
            Ok(()) => true,
            // The disk is slow. It is tried again in the next round.
            Err(TrySendError::Full(part)) => {
                if let Some(pass) = &mut self.pass {
                    pass.waiting = Some(part);
                }
                false
            }
            // The thread is gone: the daemon is ending.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    fn has_pending(&self) -> bool {
        self.pass.is_none() && self.rounds.begun() > self.rounds_done
    }
}

impl Pass {
    /// Writes some records. Returns what is to be handed over.
    fn slice<S: Persistent>(&mut self, now: Now, shard: &mut S) -> Option<Part> {
        if !self.is_map_over {
            self.since.get_or_insert(now.micros);
            let records = &mut self.records;
            self.is_map_over = shard.snapshot(now, self.map, SLICE_RECORDS, records);
        }
        let batch = if self.is_map_over {
            self.records.take_rest()
        } else {
            self.records.take_full()
        };
        if let Some(batch) = batch {
            let since = self.since.unwrap_or(now.micros);
            if batch.holds_peers() {
                self.since = None;
            }
            return Some(Part::Batch(batch, since));
        }
        if self.is_map_over {
            self.is_map_over = false;
            self.map += 1;
        }
        (self.map >= S::MAPS).then_some(Part::End)
    }
}
