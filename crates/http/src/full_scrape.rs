//! Full scrapes: those that name no torrent, and are answered with many. Pure.
//!
//! A [`FullScrape`] goes from shard to shard and gathers a row for each torrent that has one, until
//! it has as many as the configuration allows or has been everywhere. Each time it is sent to a
//! shard it looks at a slice of the torrents there, and comes back with its batch: so nobody stops
//! for long, however many torrents there are. Of each socket worker one is on its way at a time;
//! the others stand in [line](Line).

use std::collections::VecDeque;

use aquatic_swarm::{Counts, PeerKey, TorrentMap, WalkCursor};
use aquatic_tracker::shard::addresses::Swarms;
use aquatic_types::{InfoHash, IpFamily};

use crate::refusal::Refusal;
use crate::response_target::ResponseTarget;

/// Torrents that are looked at before it is somebody else's turn. Each takes a few accesses to
/// memory, so this takes a tenth of a millisecond or less.
const SLICE_TORRENTS: usize = 256;

/// Full scrapes that may stand in line: about a second's worth. More are refused.
const LINE_MAX: usize = 1_024;

/// A full scrape, with what it has gathered so far.
#[derive(Debug)]
pub struct FullScrape {
    target: ResponseTarget,
    family: IpFamily,
    /// Where it goes next.
    shard: usize,
    /// Which swarms it goes through. Those of IPv4 come first.
    family_in_turn: IpFamily,
    /// How far it has come there.
    cursor: WalkCursor,
    rows: Vec<(InfoHash, Counts)>,
    rows_max: usize,
    /// It could not be passed on, so it cannot be answered.
    given_up: bool,
}

impl FullScrape {
    /// A full scrape by a client of `family`, which gets up to `rows_max` torrents.
    #[must_use]
    pub fn new(target: ResponseTarget, family: IpFamily, rows_max: usize) -> Self {
        Self {
            target,
            family,
            shard: 0,
            family_in_turn: IpFamily::V4,
            cursor: WalkCursor::default(),
            rows: Vec::new(),
            rows_max,
            given_up: false,
        }
    }

    /// Where the answer goes.
    #[must_use]
    pub fn target(&self) -> ResponseTarget {
        self.target
    }

    /// The client's family.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The shard to send it to, of `shards`; `None` if it is to be answered.
    #[must_use]
    pub fn next_shard(&self, shards: usize) -> Option<usize> {
        let is_done = self.given_up || self.rows.len() >= self.rows_max;
        (!is_done && self.shard < shards).then_some(self.shard)
    }

    /// It will be refused.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// What it has gathered; `None` if it was given up. A torrent that a cleaning has moved
    /// meanwhile may be in it twice.
    #[must_use]
    pub fn into_rows(self) -> Option<Vec<(InfoHash, Counts)>> {
        (!self.given_up).then_some(self.rows)
    }

    /// Looks at some of the torrents of the shard that it was sent to. Those that are not allowed,
    /// or have neither peers nor completed downloads, get no row.
    pub fn visit<V>(&mut self, swarms: &Swarms<V>, is_allowed: impl FnMut(&InfoHash) -> bool) {
        let is_over = match self.family_in_turn {
            IpFamily::V4 => self.walk(&swarms.v4, is_allowed, |info_hash, counts| {
                Some(counts + counts_of(&swarms.v6, info_hash))
            }),
            // What was there was met among those of IPv4 already.
            IpFamily::V6 => self.walk(&swarms.v6, is_allowed, |info_hash, counts| {
                is_empty(&counts_of(&swarms.v4, info_hash)).then_some(counts)
            }),
        };
        match (is_over, self.family_in_turn) {
            (false, _) => {}
            (true, IpFamily::V4) => self.family_in_turn = IpFamily::V6,
            (true, IpFamily::V6) => {
                self.family_in_turn = IpFamily::V4;
                self.shard += 1;
            }
        }
    }

    fn walk<K: PeerKey, V>(
        &mut self,
        swarms: &TorrentMap<K, V>,
        mut is_allowed: impl FnMut(&InfoHash) -> bool,
        whole: impl Fn(&InfoHash, Counts) -> Option<Counts>,
    ) -> bool {
        let slice = SLICE_TORRENTS.min(self.rows_max.saturating_sub(self.rows.len()));
        swarms.walk(&mut self.cursor, slice, |info_hash, counts| {
            if !is_empty(&counts)
                && is_allowed(info_hash)
                && let Some(counts) = whole(info_hash, counts)
            {
                self.rows.push((*info_hash, counts));
            }
        })
    }
}

fn counts_of<K: PeerKey, V>(swarms: &TorrentMap<K, V>, info_hash: &InfoHash) -> Counts {
    swarms.scrape(&swarms.key(*info_hash))
}

fn is_empty(counts: &Counts) -> bool {
    *counts == Counts::default()
}

/// The full scrapes of a socket worker.
#[derive(Debug, Default)]
pub struct Line {
    waiting: VecDeque<FullScrape>,
    /// The first one has been sent to a shard.
    is_one_away: bool,
}

impl Line {
    /// A new one comes.
    ///
    /// # Errors
    /// If too many are waiting already.
    pub fn join(&mut self, scrape: FullScrape) -> Result<(), Refusal> {
        if self.waiting.len() >= LINE_MAX {
            return Err(Refusal::QUEUE_FULL);
        }
        self.waiting.push_back(scrape);
        Ok(())
    }

    /// Whether one can be sent to a shard.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.is_one_away && !self.waiting.is_empty()
    }

    /// Takes the first one out, to send it to a shard, if no other is away.
    pub fn leave(&mut self) -> Option<FullScrape> {
        let first = self.is_due().then(|| self.waiting.pop_front()).flatten();
        self.is_one_away |= first.is_some();
        first
    }

    /// The one that was away is back. Returns it if it is to be answered; if not, it is the first
    /// one again.
    pub fn come_back(&mut self, scrape: FullScrape, shards: usize) -> Option<FullScrape> {
        self.is_one_away = false;
        if scrape.next_shard(shards).is_none() {
            return Some(scrape);
        }
        self.waiting.push_front(scrape);
        None
    }
}
