//! Lists of the largest torrents, of all shards together.
//!
//! To go through all torrents may take longer than somebody wants to wait for, and costs what the
//! tracker's clients may need. So a list is kept for a while, one walk is under way at a time, and
//! walks take a small part of the time, however often somebody asks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use aquatic_daemon::clock::Clock;

use super::kinds::Kind;
use super::reading::NotTaken;
use super::top::{Found, SortBy, TOP_MAX, Top};

/// For so long a list is good enough for everybody, at least.
const FRESH_MIN: Duration = Duration::from_secs(5);

/// A list is good enough for so many times as long as it took, and those of other sorts that are
/// kept, if that is longer: so walks take a twentieth of the time at most, all sorts together, as
/// long as they take less than half a minute ([`KEPT_MAX`]).
const FRESH_PER_WALK: u32 = 20;

/// When a shard could not be asked, nobody is asked again before that: others have begun to look
/// through their torrents, for nothing.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// For so long a list is shown at most while there is no other one.
const KEPT_MAX: Duration = Duration::from_secs(600);

/// The largest torrents of each kind, and when they were that.
#[derive(Debug)]
pub(super) struct List {
    /// By kind.
    pub(super) tops: Vec<Top>,
    /// How long the walk took.
    pub(super) took: Duration,
    /// When it was over, by the daemon's clock.
    ended: Duration,
}

impl List {
    /// How long ago it was made.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.ended)
    }

    /// `walks` is how long a walk for each of the kept lists takes, together.
    fn is_fresh(&self, now: Duration, walks: Duration) -> bool {
        let fresh = walks.saturating_mul(FRESH_PER_WALK).max(FRESH_MIN);
        self.age(now) <= fresh.min(KEPT_MAX)
    }
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoList {
    /// There will be one.
    NotYet,
    /// Nobody could be asked.
    NotTaken(NotTaken),
}

/// See the [module](self).
pub(super) struct Lists {
    kinds: Arc<[Box<dyn Kind>]>,
    /// One at most, whatever it is sorted by.
    walk: Option<Walk>,
    /// The last one of each sort.
    kept: [Option<List>; SortBy::ALL.len()],
    /// Why the last walk could not begin, and when that was.
    failed: Option<(NotTaken, Duration)>,
}

/// A list that is not complete.
struct Walk {
    sort_by: SortBy,
    begun: Duration,
    found: Receiver<Found>,
    shards_left: usize,
    list: List,
}

impl Lists {
    pub(super) fn new(kinds: Arc<[Box<dyn Kind>]>) -> Self {
        Self {
            kinds,
            walk: None,
            kept: Default::default(),
            failed: None,
        }
    }

    /// A list: one that is fresh, or comes within `wait_max`, or is not too old. `now` is the time
    /// of the daemon's clock.
    pub(super) fn list(
        &mut self,
        sort_by: SortBy,
        now: Duration,
        wait_max: Duration,
    ) -> Result<&List, NoList> {
        self.collect(Duration::ZERO);
        let mut reason = NoList::NotYet;
        let walks = self.walks(now);
        let is_fresh = |list: &List| list.is_fresh(now, walks);
        if !self.kept(sort_by).as_ref().is_some_and(is_fresh) {
            if self.walk.is_none()
                && let Err(not_taken) = self.try_begin(sort_by, now)
            {
                reason = NoList::NotTaken(not_taken);
            }
            self.collect(wait_max);
        }
        let kept = self.kept(sort_by).as_ref();
        kept.filter(|list| list.age(now) <= KEPT_MAX).ok_or(reason)
    }

    fn kept(&mut self, sort_by: SortBy) -> &mut Option<List> {
        let [peers, seeders, leechers, completed] = &mut self.kept;
        match sort_by {
            SortBy::Peers => peers,
            SortBy::Seeders => seeders,
            SortBy::Leechers => leechers,
            SortBy::Completed => completed,
        }
    }

    /// How long the walks took for the lists that are kept and may be shown.
    fn walks(&self, now: Duration) -> Duration {
        let kept = self.kept.iter().flatten();
        let kept = kept.filter(|list| list.age(now) <= KEPT_MAX);
        kept.map(|list| list.took).sum()
    }

    fn try_begin(&mut self, sort_by: SortBy, now: Duration) -> Result<(), NotTaken> {
        if let Some((reason, at)) = self.failed
            && now < at + FAILED_PAUSE
        {
            return Err(reason);
        }
        let begun = self.begin(sort_by, now);
        self.failed = begun.err().map(|reason| (reason, now));
        begun
    }

    fn begin(&mut self, sort_by: SortBy, now: Duration) -> Result<(), NotTaken> {
        let shards_left = self.kinds.iter().map(|kind| kind.shards()).sum();
        let (sender, found) = sync_channel(shards_left);
        for (index, kind) in self.kinds.iter().enumerate() {
            kind.find_top(sort_by, index, &sender)?;
        }
        let empty = |_| Top::new(sort_by, TOP_MAX);
        self.walk = Some(Walk {
            sort_by,
            begun: now,
            found,
            shards_left,
            list: List {
                tops: self.kinds.iter().map(empty).collect(),
                took: Duration::ZERO,
                ended: now,
            },
        });
        Ok(())
    }

    /// Takes what shards have found, and waits for it, but no longer than this. A list that is
    /// complete then takes the place of the one before.
    fn collect(&mut self, wait_max: Duration) {
        let Some(mut walk) = self.walk.take() else {
            return;
        };
        let clock = Clock::start();
        while walk.shards_left > 0 {
            let wait = wait_max.saturating_sub(clock.elapsed());
            match walk.found.recv_timeout(wait) {
                Ok(found) => walk.take(&found),
                Err(RecvTimeoutError::Timeout) => {
                    self.walk = Some(walk);
                    return;
                }
                // A worker has ended.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        *self.kept(walk.sort_by) = Some(walk.list);
    }
}

impl Walk {
    fn take(&mut self, found: &Found) {
        self.shards_left -= 1;
        let list = &mut self.list;
        if let Some(top) = list.tops.get_mut(found.kind) {
            top.merge(&found.top);
        }
        list.ended = list.ended.max(Duration::from_micros(found.ended_micros));
        list.took = list.ended.saturating_sub(self.begun);
    }
}

#[cfg(test)]
mod tests;
