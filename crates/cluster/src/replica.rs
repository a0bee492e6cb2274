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

/// Whether what is read in the log was heard before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearing {
    /// When something has come for the first time.
    first_micros: Option<i64>,
    /// When the oldest was written that has not come out of the log.
    since_micros: Option<i64>,
    /// What was published until then was heard by an earlier process.
    counted_until_micros: Option<i64>,
}

/// What is heard first may have been written so much earlier.
const FLUSH_MICROS: i64 = 1_000_000;

impl Hearing {
    /// For who knows the downloads that an earlier process has counted until then, in microseconds.
    #[must_use]
    pub fn counted_until(micros: Option<i64>) -> Self {
        Self {
            counted_until_micros: micros,
            ..Self::default()
        }
    }

    /// Whether a batch was heard before it was read in the log, as far as can be known. Downloads
    /// of those who have left since were counted then, and are not once more; those of who is known
    /// are, if they were not.
    pub fn is_repeated(&mut self, now: Now, batch: &Received<'_>) -> bool {
        let now = now.micros.cast_signed();
        let first = *self.first_micros.get_or_insert(now);
        let since = self.since_micros.get_or_insert(now);
        let age_micros = batch.age_millis.saturating_mul(1_000);
        let written = now.saturating_sub_unsigned(age_micros);
        if !batch.is_logged {
            *since = (*since).min(written.max(first - FLUSH_MICROS));
            return false;
        }
        let by_earlier = |until| written <= until;
        written >= *since || self.counted_until_micros.is_some_and(by_earlier)
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
    /// What is in it.
    pub body: Body<'a>,
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

    fn batch(age_millis: u64, is_logged: bool) -> Received<'static> {
        Received {
            from: NodeIndex::UNKNOWN,
            name: "a",
            age_millis,
            is_logged,
            body: Body::Alive(Alive::default()),
        }
    }

    #[test]
    fn what_was_published_while_this_process_or_one_before_it_listened_is_repeated() {
        let at = |seconds: u64| Now::from_micros(seconds * 1_000_000);
        let is_repeated = |hearing: &mut Hearing, seconds: u64, ages: &[u64]| -> Vec<bool> {
            let mut is_repeated = |age| hearing.is_repeated(at(seconds), &batch(age, true));
            ages.iter().map(|age| is_repeated(*age)).collect()
        };
        let mut hearing = Hearing::default();
        assert!(!hearing.is_repeated(at(100), &batch(1, true)));
        let repeated = is_repeated(&mut hearing, 110, &[9_999, 10_000, 10_001]);
        assert_eq!(repeated, [true, true, false]);
        // It was written before it came.
        assert!(!hearing.is_repeated(at(101), &batch(1_100, false)));
        let repeated = is_repeated(&mut hearing, 110, &[10_099, 10_100, 10_101]);
        assert_eq!(repeated, [true, true, false]);
        // Others may have written earlier, and were not heard.
        assert!(!hearing.is_repeated(at(102), &batch(60_000, false)));
        let repeated = is_repeated(&mut hearing, 110, &[11_000, 11_001]);
        assert_eq!(repeated, [true, false]);
        // It has written down what it knew 5 s before this one began.
        let mut hearing = Hearing::counted_until(Some(-5_000_000));
        let repeated = is_repeated(&mut hearing, 2, &[1, 1_999, 6_999, 7_000, 60_000]);
        assert_eq!(repeated, [false, false, false, true, true]);
    }
}
