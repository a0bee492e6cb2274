//! What other trackers are to be told of the swarms of a shard.
//!
//! A [`Journal`] hears of every announce. That of a tracker which shares its swarms with nobody is
//! [`Unread`], and costs nothing; else it is an [`Outbox`], which keeps what has to be told until
//! it is [fetched](Outbox::take).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aquatic_daemon::clock::Now;
use aquatic_daemon::counter::Label;
use aquatic_swarm::{Announce, PeerChange, Previous, RefreshInterval, TorrentKey};
use aquatic_swarm_log::{BatchBody, Kind, PeerRecord, RecordBuffer};
use aquatic_types::{PeerStatus, PerFamily, Seconds};

use super::{PeerAddr, PeerRecords};

/// A batch is put aside when its records have so many bytes.
const BATCH_BYTES: usize = 64 * 1_024;

/// So many of these wait at most: some 2 MiB.
const BATCHES_MAX: usize = 32;

/// Hears of what announces change in the swarms of a shard.
pub trait Journal: Send {
    /// What is kept of an announcer while its announce is processed.
    type Before: Copy + Default;

    /// An announcer was known like this until now.
    fn before(previous: Previous) -> Self::Before;

    /// An announce has been processed.
    fn note<K: PeerAddr, V>(
        &mut self,
        torrent: &TorrentKey,
        announce: &Announce<K>,
        deadline: Seconds,
        change: &PeerChange<V>,
        before: Self::Before,
    );

    /// The same, to write in it; `None` if nobody reads it.
    fn outbox(&mut self) -> Option<&mut Outbox>;
}

/// A journal that nobody reads: nothing is written into it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unread;

impl Journal for Unread {
    type Before = ();

    #[inline(always)]
    fn before(_: Previous) {}

    #[inline(always)]
    fn note<K: PeerAddr, V>(
        &mut self,
        _: &TorrentKey,
        _: &Announce<K>,
        _: Seconds,
        _: &PeerChange<V>,
        (): (),
    ) {
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        None
    }
}

/// When others are told again of peers that are still there: the same for all shards. It can be
/// changed while they work.
#[derive(Clone, Debug)]
pub struct SharedRefreshInterval(Arc<AtomicU32>);

impl SharedRefreshInterval {
    /// At first, it is this one.
    #[must_use]
    pub fn new(interval: RefreshInterval) -> Self {
        Self(Arc::new(AtomicU32::new(interval.seconds())))
    }

    /// Another one from now on.
    pub fn set(&self, interval: RefreshInterval) {
        self.0.store(interval.seconds(), Ordering::Relaxed);
    }

    /// The one that holds now.
    #[must_use]
    pub fn get(&self) -> RefreshInterval {
        let seconds = self.0.load(Ordering::Relaxed);
        RefreshInterval::new(seconds).unwrap_or(RefreshInterval::MIN)
    }
}

aquatic_daemon::labels! {
    /// Why something was told.
    pub enum TellReason {
        /// A peer has come.
        Added = "added",
        /// A peer has become a seeder or a leecher, or has completed its download.
        Changed = "changed",
        /// A peer is still there.
        Refreshed = "refreshed",
        /// A peer has left.
        Left = "left",
    }
}

/// How often something has happened in an [`Outbox`] since it was [fetched](Outbox::take) last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Records, by [`TellReason`].
    pub told: [usize; TellReason::ALL.len()],
    /// Records for which there was no room: the oldest went.
    pub dropped: usize,
}

/// Records for other trackers.
#[derive(Debug)]
pub struct Outbox {
    shared_interval: SharedRefreshInterval,
    interval: RefreshInterval,
    /// From when on lives in the records are counted: not after any of them was written.
    since: Now,
    /// Oldest first.
    full: VecDeque<(BatchBody, Now)>,
    records: PeerRecords,
    counts: OutboxCounts,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(interval: SharedRefreshInterval) -> Self {
        Self {
            interval: interval.get(),
            shared_interval: interval,
            since: Now::default(),
            full: VecDeque::new(),
            records: PerFamily {
                v4: RecordBuffer::new(Kind::PEERS_V4),
                v6: RecordBuffer::new(Kind::PEERS_V6),
            },
            counts: OutboxCounts::default(),
        }
    }

    /// Takes everything out, to be told to others: batches, oldest first, and from when on lives in
    /// each are counted.
    pub fn take(&mut self, now: Now, mut out: impl FnMut(BatchBody, Now)) -> OutboxCounts {
        for (body, since) in self.full.drain(..) {
            out(body, since);
        }
        if self.records.v4.bytes() > 0 {
            out(self.records.v4.take(), self.since);
        }
        if self.records.v6.bytes() > 0 {
            out(self.records.v6.take(), self.since);
        }
        self.since = now;
        self.interval = self.shared_interval.get();
        std::mem::take(&mut self.counts)
    }

    fn push<K: PeerAddr>(&mut self, why: TellReason, record: &PeerRecord<K>) {
        if let Some(count) = self.counts.told.get_mut(why.index()) {
            *count += 1;
        }
        let buffer = K::records(&mut self.records);
        let added = buffer.push(record);
        debug_assert!(added, "a batch of this size has room");
        if buffer.bytes() < BATCH_BYTES {
            return;
        }
        let body = buffer.take();
        if self.full.len() >= BATCHES_MAX
            && let Some((oldest, _)) = self.full.pop_front()
        {
            self.counts.dropped += oldest.records();
        }
        self.full.push_back((body, self.since));
    }
}

impl Journal for Outbox {
    type Before = Option<Previous>;

    fn before(previous: Previous) -> Self::Before {
        Some(previous)
    }

    fn note<K: PeerAddr, V>(
        &mut self,
        torrent: &TorrentKey,
        announce: &Announce<K>,
        deadline: Seconds,
        change: &PeerChange<V>,
        before: Self::Before,
    ) {
        let Announce { peer, status, .. } = announce;
        let was_finished = before.is_some_and(|before| before.is_finished());
        let has_completed = announce.completed && !was_finished;
        let is_seeder = *status == PeerStatus::Seeder;
        let why = match (change, before) {
            (PeerChange::Added, _) | (PeerChange::Updated, None) => TellReason::Added,
            (PeerChange::Removed(_), _) => TellReason::Left,
            (PeerChange::Updated, Some(before))
                if has_completed || before.is_seeder() != is_seeder =>
            {
                TellReason::Changed
            }
            (PeerChange::Updated, Some(before))
                if self.interval.is_due(torrent, peer, &before, deadline) =>
            {
                TellReason::Refreshed
            }
            (PeerChange::Updated | PeerChange::Absent | PeerChange::NotAdded, _) => return,
        };
        let seconds_left = deadline.0.saturating_sub(self.since.seconds.0);
        let record = PeerRecord {
            info_hash: torrent.info_hash(),
            peer: *peer,
            status: *status,
            has_completed: has_completed && why != TellReason::Left,
            is_finished: was_finished,
            seconds_left: u16::try_from(seconds_left).unwrap_or(u16::MAX),
        };
        self.push(why, &record);
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
