//! The largest torrents. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;

use aquatic_daemon::clock::Now;
use aquatic_swarm::{Counts, WalkCursor};
use aquatic_types::InfoHash;

use super::readable::{Readable, TorrentCounts};
use super::reading::{Progress, Reading};

/// Torrents that a list names at most. A shard keeps as many while it is gone through.
pub const TOP_MAX: usize = 1_000;

/// Torrents that one slice looks at: some 10 microseconds, and a tenth of a millisecond at the
/// beginning, when each of them is added.
const SLICE_TORRENTS: usize = 256;

/// What makes a torrent large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// Seeders and leechers together.
    Peers,
    /// Peers that have everything.
    Seeders,
    /// Peers that still lack something.
    Leechers,
    /// Downloads finished since the torrent became known.
    Completed,
}

impl SortBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Peers, Self::Seeders, Self::Leechers, Self::Completed];

    /// As operators write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Seeders => "seeders",
            Self::Leechers => "leechers",
            Self::Completed => "completed",
        }
    }

    /// What is compared.
    #[must_use]
    pub fn of(self, counts: Counts) -> u32 {
        match self {
            Self::Peers => counts.seeders.saturating_add(counts.leechers),
            Self::Seeders => counts.seeders,
            Self::Leechers => counts.leechers,
            Self::Completed => counts.completed,
        }
    }
}

/// The largest torrents of those that it was offered.
#[derive(Clone, Debug)]
pub struct Top {
    sort_by: SortBy,
    torrents_max: usize,
    /// The largest one first; of equals that with the lower info hash, so that the same torrents
    /// make the same list.
    ranks: BTreeMap<(Reverse<u32>, InfoHash), TorrentCounts>,
    /// By info hash: what it has been compared by. A walk may show a torrent twice.
    values: BTreeMap<InfoHash, u32>,
}

impl Top {
    /// An empty list.
    #[must_use]
    pub fn new(sort_by: SortBy, torrents_max: usize) -> Self {
        Self {
            sort_by,
            torrents_max,
            ranks: BTreeMap::new(),
            values: BTreeMap::new(),
        }
    }

    /// The list, the largest torrent first. Those that have nothing of what is compared are none
    /// of them.
    pub fn iter(&self) -> impl Iterator<Item = (&InfoHash, &TorrentCounts)> {
        self.ranks
            .iter()
            .map(|((_, info_hash), counts)| (info_hash, counts))
    }

    /// Takes a torrent in, if it is one of the largest; in place of what was said of it before,
    /// unless it has become too small meanwhile.
    pub fn offer(&mut self, info_hash: &InfoHash, counts: TorrentCounts) {
        let value = self.sort_by.of(counts.total());
        if !self.may_enter(value.into(), info_hash) {
            return;
        }
        if let Some(value) = self.values.remove(info_hash) {
            self.ranks.remove(&(Reverse(value), *info_hash));
        }
        self.ranks.insert((Reverse(value), *info_hash), counts);
        self.values.insert(*info_hash, value);
        if self.ranks.len() > self.torrents_max
            && let Some(((_, last), _)) = self.ranks.pop_last()
        {
            self.values.remove(&last);
        }
    }

    /// Takes in all of another list.
    pub fn merge(&mut self, other: &Self) {
        for (info_hash, counts) in other.iter() {
            self.offer(info_hash, *counts);
        }
    }

    /// Whether there is a place for a torrent of this value.
    fn may_enter(&self, value: u64, info_hash: &InfoHash) -> bool {
        if self.ranks.len() < self.torrents_max {
            return value > 0;
        }
        let last = self.ranks.last_key_value();
        last.is_some_and(|((Reverse(least), last), _)| {
            (Reverse(value), info_hash) < (Reverse(u64::from(*least)), last)
        })
    }
}

/// What a shard has found.
pub struct Found {
    /// Which kind of swarms it has, in the words of whoever has asked.
    pub kind: usize,
    /// Its largest torrents.
    pub top: Top,
    /// When it was through with all of them, by the daemon's clock.
    pub ended_micros: u64,
}

/// Finds the largest torrents of a shard.
pub struct TopReading {
    top: Top,
    map: usize,
    cursor: WalkCursor,
    kind: usize,
    /// Has room for what each shard finds.
    found: SyncSender<Found>,
}

impl TopReading {
    /// Sends to `found` once, and names the `kind` there.
    #[must_use]
    pub fn new(
        sort_by: SortBy,
        torrents_max: usize,
        kind: usize,
        found: SyncSender<Found>,
    ) -> Self {
        Self {
            top: Top::new(sort_by, torrents_max),
            map: 0,
            cursor: WalkCursor::default(),
            kind,
            found,
        }
    }

    /// Looks at some torrents. Returns whether it has seen all.
    ///
    /// A torrent that is in several maps is met in each of them, and is taken in where it has most.
    /// There it has at least a share of all that it has: so most torrents need not be looked up in
    /// the other maps, which takes ten times as long as to see them in passing.
    fn walk<S: Readable>(&mut self, shard: &S) -> bool {
        let Self {
            top, map, cursor, ..
        } = self;
        let (sort_by, at) = (top.sort_by, *map);
        let is_over = shard.walk(at, cursor, SLICE_TORRENTS, |info_hash, counts| {
            let value_max = u64::from(sort_by.of(counts)) * S::MAPS as u64;
            if !top.may_enter(value_max, info_hash) {
                return;
            }
            let whole = shard.counts_besides(at, info_hash, counts);
            if whole.main_map(|counts| sort_by.of(counts)) == at {
                top.offer(info_hash, whole);
            }
        });
        if is_over {
            *map += 1;
            *cursor = WalkCursor::default();
        }
        *map >= S::MAPS
    }
}

impl<S: Readable> Reading<S> for TopReading {
    fn slice(&mut self, now: Now, shard: &mut S) -> Progress {
        if !self.walk(shard) {
            return Progress::More;
        }
        let empty = Top::new(self.top.sort_by, 0);
        let found = Found {
            kind: self.kind,
            top: std::mem::replace(&mut self.top, empty),
            ended_micros: now.micros,
        };
        // Whoever has asked may have given up.
        let _ = self.found.try_send(found);
        Progress::Over
    }
}

#[cfg(test)]
mod tests;
