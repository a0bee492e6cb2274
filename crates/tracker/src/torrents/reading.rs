//! Reading torrents from outside of the thread that owns them: a slice at a time, between batches.
//!
//! Whoever wants to know something posts a [`Reading`] to each shard that may know it. The shard's
//! owner takes it in, does a slice of it in each round, and drops it when it is over; the reading
//! brings along where its findings go. Several take turns, so that a short one does not wait for a
//! long one. While there is none, this costs a look at one number in each round.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aquatic_channel::Waker;
use aquatic_daemon::clock::Now;
use aquatic_types::{InfoHash, ShardKey};

use crate::dispatch::shard_set::ShardSet;
use crate::shard::{Shard, ShardSource};

/// Readings that a shard has at once, waiting or begun: an export, a list of the largest torrents,
/// and a few questions about single torrents.
pub const READINGS_MAX: usize = 8;

/// Somebody who looks at the torrents of a shard.
pub trait Reading<S>: Send {
    /// Does a slice: no more than a batch takes.
    fn slice(&mut self, now: Now, shard: &mut S) -> Progress;
}

/// How far a [`Reading`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do at once.
    More,
    /// There is more to do, but nothing can be done before somebody outside has gone on.
    Waits,
    /// It is over.
    Over,
}

/// Why a reading was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The shard has [`READINGS_MAX`] of them.
    TooMany,
    /// The shard is gone: its worker has ended.
    Gone,
}

impl Display for NotTaken {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "a worker still has earlier requests for its torrents to answer",
            Self::Gone => "a worker has ended",
        })
    }
}

/// Where readings are posted: all shards of a tracker. Clones post to the same.
pub struct ShardReaders<S> {
    key: ShardKey,
    inboxes: Vec<Inbox<S>>,
}

/// That of one shard.
struct Inbox<S> {
    shared: Arc<Shared<S>>,
    /// Wakes the shard's owner.
    waker: Waker,
}

struct Shared<S> {
    posted: Mutex<Posted<S>>,
    /// Something was posted since the owner looked for the last time.
    has_new: AtomicBool,
    /// Readings that were posted and are not over.
    open: AtomicUsize,
}

struct Posted<S> {
    readings: Vec<Box<dyn Reading<S>>>,
    /// The owner is gone.
    is_closed: bool,
}

impl<S> Shared<S> {
    fn posted(&self) -> MutexGuard<'_, Posted<S>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Shard> ShardReaders<S> {
    /// Connects with all shards.
    #[must_use]
    pub fn attach(shards: &mut ShardSet<S>) -> Self {
        let mut inboxes = Vec::new();
        shards.attach_with_waker(|waker| {
            let (inbox, source) = inbox(waker.clone());
            inboxes.push(inbox);
            Box::new(source)
        });
        let key = shards.key();
        Self { key, inboxes }
    }
}

impl<S> ShardReaders<S> {
    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// The shard that owns a torrent.
    #[must_use]
    pub fn shard_of(&self, info_hash: &InfoHash) -> usize {
        self.key.shard_of(info_hash, self.inboxes.len())
    }

    /// Has a shard take in a reading.
    ///
    /// # Errors
    /// If it cannot.
    pub fn post(&self, shard: usize, reading: Box<dyn Reading<S>>) -> Result<(), NotTaken> {
        let inbox = self.inboxes.get(shard).ok_or(NotTaken::Gone)?;
        let shared = &inbox.shared;
        {
            let mut posted = shared.posted();
            if posted.is_closed {
                return Err(NotTaken::Gone);
            }
            if shared.open.load(Ordering::Acquire) >= READINGS_MAX {
                return Err(NotTaken::TooMany);
            }
            shared.open.fetch_add(1, Ordering::AcqRel);
            posted.readings.push(reading);
            shared.has_new.store(true, Ordering::Release);
        }
        inbox.waker.wake();
        Ok(())
    }

    /// Has each shard take in a reading.
    ///
    /// # Errors
    /// If one of them cannot. Those before have taken theirs in.
    pub fn post_to_each(
        &self,
        mut reading: impl FnMut() -> Box<dyn Reading<S>>,
    ) -> Result<(), NotTaken> {
        (0..self.shards()).try_for_each(|shard| self.post(shard, reading()))
    }
}

impl<S> Clone for ShardReaders<S> {
    fn clone(&self) -> Self {
        let clone = |inbox: &Inbox<S>| Inbox {
            shared: Arc::clone(&inbox.shared),
            waker: inbox.waker.clone(),
        };
        Self {
            key: self.key,
            inboxes: self.inboxes.iter().map(clone).collect(),
        }
    }
}

fn inbox<S>(waker: Waker) -> (Inbox<S>, ReadingSource<S>) {
    let shared = Arc::new(Shared {
        posted: Mutex::new(Posted {
            readings: Vec::new(),
            is_closed: false,
        }),
        has_new: AtomicBool::new(false),
        open: AtomicUsize::new(0),
    });
    let source = ReadingSource {
        shared: Arc::clone(&shared),
        begun: VecDeque::new(),
        waiting: 0,
    };
    (Inbox { shared, waker }, source)
}

/// A shard's end.
struct ReadingSource<S> {
    shared: Arc<Shared<S>>,
    /// The first one is next.
    begun: VecDeque<Box<dyn Reading<S>>>,
    /// So many of the last ones wait.
    waiting: usize,
}

impl<S> ShardSource<S> for ReadingSource<S> {
    fn process(&mut self, _: Now, _: &mut S) -> usize {
        0
    }

    fn step(&mut self, now: Now, shard: &mut S) -> bool {
        if self.has_pending() {
            // Before the lock: what is posted after it is seen in the next round.
            self.shared.has_new.store(false, Ordering::Release);
            self.begun.extend(self.shared.posted().readings.drain(..));
        }
        let Some(mut reading) = self.begun.pop_front() else {
            return false;
        };
        match reading.slice(now, shard) {
            Progress::More => {
                self.waiting = 0;
                self.begun.push_back(reading);
            }
            Progress::Waits => {
                self.waiting += 1;
                self.begun.push_back(reading);
            }
            Progress::Over => {
                self.shared.open.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let has_more = self.waiting < self.begun.len();
        if !has_more {
            // They are tried again when the owner wakes next.
            self.waiting = 0;
        }
        has_more
    }

    fn has_pending(&self) -> bool {
        self.shared.has_new.load(Ordering::Acquire)
    }
}

impl<S> Drop for ReadingSource<S> {
    /// Else somebody would wait for findings that nobody is there to find.
    fn drop(&mut self) {
        let mut posted = self.shared.posted();
        posted.is_closed = true;
        posted.readings.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use aquatic_channel::waker_pair;

    use super::*;

    /// Counts rounds, and says which one it was.
    struct Counter {
        name: u8,
        plan: Vec<Progress>,
        told: Sender<u8>,
    }

    impl Reading<()> for Counter {
        fn slice(&mut self, _: Now, (): &mut ()) -> Progress {
            self.told.send(self.name).unwrap();
            self.plan.pop().unwrap_or(Progress::Over)
        }
    }

    struct Fixture {
        readers: ShardReaders<()>,
        source: ReadingSource<()>,
        told: (Sender<u8>, Receiver<u8>),
    }

    impl Fixture {
        fn new() -> Self {
            let (inbox, source) = inbox(waker_pair(|| ()).1);
            let inboxes = vec![inbox];
            let key = ShardKey::new([7; 52]);
            Self {
                readers: ShardReaders { key, inboxes },
                source,
                told: channel(),
            }
        }

        fn post(&self, name: u8, plan: &[Progress]) -> Result<(), NotTaken> {
            let (plan, told) = (plan.to_vec(), self.told.0.clone());
            self.readers.post(0, Box::new(Counter { name, plan, told }))
        }

        /// Rounds until there is nothing to do at once: who had a turn.
        fn rounds(&mut self) -> Vec<u8> {
            while self.source.step(Now::default(), &mut ()) {}
            self.told.1.try_iter().collect()
        }
    }

    #[test]
    fn readings_take_turns() {
        let mut fixture = Fixture::new();
        assert!(!fixture.source.has_pending());
        fixture.post(1, &[Progress::More; 3]).unwrap();
        fixture.post(2, &[Progress::More]).unwrap();
        assert!(fixture.source.has_pending());
        assert_eq!(fixture.rounds(), [1, 2, 1, 2, 1, 1]);
        assert!(!fixture.source.has_pending());
        assert!(fixture.rounds().is_empty());
    }

    #[test]
    fn one_that_waits_does_not_keep_the_owner_awake() {
        let mut fixture = Fixture::new();
        fixture.post(1, &[Progress::Waits; 2]).unwrap();
        assert_eq!(fixture.rounds(), [1]);
        fixture.post(2, &[]).unwrap();
        assert_eq!(fixture.rounds(), [1, 2], "and holds nobody up");
        assert_eq!(fixture.rounds(), [1], "over");
        assert!(fixture.rounds().is_empty());
    }

    #[test]
    fn there_is_a_bound_and_an_end() {
        let mut fixture = Fixture::new();
        for name in 0..READINGS_MAX {
            fixture.post(u8::try_from(name).unwrap(), &[]).unwrap();
        }
        assert_eq!(fixture.post(99, &[]), Err(NotTaken::TooMany));
        assert!(fixture.source.step(Now::default(), &mut ()));
        fixture.post(99, &[]).unwrap();
        assert_eq!(fixture.rounds().len(), READINGS_MAX + 1);

        fixture.post(1, &[]).unwrap();
        drop(std::mem::replace(
            &mut fixture.source,
            inbox(waker_pair(|| ()).1).1,
        ));
        assert_eq!(fixture.post(1, &[]), Err(NotTaken::Gone));
        assert!(fixture.told.1.try_recv().is_err());
    }
}
