//! The swarms of a process, as the cluster sees them.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{BatchBody, Body};

use crate::bus::{Channel, Destination};
use crate::nodes::NodeIndex;

/// Swarms of one kind, in all shards of this process: they tell what changes in them, and take in
/// what other nodes tell. Used by one thread, which is no owner of shards; so everything travels to
/// the owners and back.
pub trait Replica: Send {
    /// Whether it wants what is published on a channel.
    fn listens_to(&self, channel: Channel) -> bool;

    /// Whether it can [receive](Self::receive) one more batch. If not, some time after something
    /// was [pending](Self::has_pending).
    fn has_room(&self) -> bool;

    /// Takes in what another node has published.
    fn receive(&mut self, now: Now, batch: &Received<'_>);

    /// Takes note of what was received until now.
    fn mark(&mut self);

    /// Whether all that was received before the last [`Self::mark`] is in the shards.
    fn has_passed_mark(&self) -> bool;

    /// Does what is due from time to time. While the log is being read, what comes out of it may be
    /// older than what was heard.
    fn settle(&mut self, _now: Now, _is_reading_log: bool) {}

    /// Asks all shards what there is to publish.
    fn collect(&mut self);

    /// Sends what is for the shards, and takes what has come back from them: gives `publish` what
    /// they have to say. Returns how much is still on its way.
    fn finish(&mut self, now: Now, publish: &mut dyn FnMut(Outgoing)) -> usize;

    /// Whether something has come back since the last [`Self::finish`].
    fn has_pending(&self) -> bool;
}

/// The shards to which something may be on its way that was received before a
/// [mark](Replica::mark).
#[derive(Clone, Debug, Default)]
pub struct Mark(Vec<usize>);

impl Mark {
    /// So many shards have to take what they are sent.
    pub fn set(&mut self, shards: usize) {
        self.0.clear();
        self.0.extend(0..shards);
    }

    /// Forgets the shards to which nothing is on its way. To be called after these may have
    /// answered.
    pub fn look(&mut self, is_idle: impl Fn(usize) -> bool) {
        self.0.retain(|shard| !is_idle(*shard));
    }

    /// Whether there are no others.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is told to shards once more after some time: until then, something from before it may come
/// on another way, as an arrival out of the log after the departure that followed it.
#[derive(Clone, Debug)]
pub struct Echoes<T>(VecDeque<(u64, T)>);

/// Microseconds after which it is told once more.
const ECHO_MICROS: u64 = 5_000_000;

/// So much is remembered for that.
pub(crate) const ECHOES_MAX: usize = 100_000;

impl<T> Default for Echoes<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Echoes<T> {
    /// Notes what is to be told once more, if there is room for it.
    pub fn note(&mut self, now: Now, what: impl FnOnce() -> T) {
        if self.0.len() < ECHOES_MAX {
            self.0.push_back((now.micros, what()));
        }
    }

    /// How much that is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether that is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is due next.
    pub fn next(&mut self, now: Now) -> Option<T> {
        let (micros, _) = self.0.front()?;
        if now.micros.saturating_sub(*micros) < ECHO_MICROS {
            return None;
        }
        let (_, what) = self.0.pop_front()?;
        if self.0.is_empty() {
            // A node that was lost may have made it long.
            self.0.shrink_to(1_024);
        }
        Some(what)
    }
}

/// Downloads that an earlier process has counted and written down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    until_micros: Option<i64>,
}

impl Counted {
    /// All that were published until then, in microseconds of the daemon's clock; `None`: none.
    #[must_use]
    pub fn until(micros: Option<i64>) -> Self {
        Self {
            until_micros: micros,
        }
    }

    /// Whether downloads that a batch tells of were counted before.
    #[must_use]
    pub fn has(self, now: Now, batch: &Received<'_>) -> bool {
        let age_micros = batch.age_millis.saturating_mul(1_000);
        let written = now.micros.cast_signed().saturating_sub_unsigned(age_micros);
        let by_earlier = |until| batch.is_logged && written <= until;
        batch.is_repeated || self.until_micros.is_some_and(by_earlier)
    }
}

/// A batch that another node has published.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The process that wrote it.
    pub from: NodeIndex,
    /// What that is called, for [`Destination::Node`].
    pub name: &'a str,
    /// How long ago it was written, in milliseconds.
    pub age_millis: u64,
    /// It is not new: it was read in the log.
    pub is_logged: bool,
    /// It comes after what was published later: it was lost at first, or published again.
    pub is_late: bool,
    /// It was taken in before, as it was published: its downloads are counted.
    pub is_repeated: bool,
    /// What is in it.
    pub body: Body<'a>,
}

impl Received<'_> {
    /// Whether it is newer than all that was taken in of its process before.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        !self.is_logged && !self.is_late
    }
}

/// A batch that is to be published.
#[derive(Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: Destination,
    /// What is in it.
    pub body: BatchBody,
    /// From when on lives in it are counted: not after anything in it has happened.
    pub since: Now,
}

#[cfg(test)]
mod tests {
    use aquatic_swarm_log::{Alive, Body};

    use super::*;

    #[test]
    fn what_was_counted_before_is_not_counted_again() {
        let now = Now::from_micros(2_000_000);
        let batch = |age_millis, is_logged, is_repeated| Received {
            from: NodeIndex::UNKNOWN,
            name: "a",
            age_millis,
            is_logged,
            is_late: false,
            is_repeated,
            body: Body::Alive(Alive::default()),
        };
        let nothing = Counted::default();
        assert!(!nothing.has(now, &batch(60_000, true, false)));
        assert!(nothing.has(now, &batch(0, true, true)));
        // It has written down what it knew 5 s before this process began.
        let counted = Counted::until(Some(-5_000_000));
        let has = [0, 6_999, 7_000, 60_000].map(|age| counted.has(now, &batch(age, true, false)));
        assert_eq!(has, [false, false, true, true]);
        assert!(
            !counted.has(now, &batch(60_000, false, false)),
            "it is just told"
        );
    }
}
