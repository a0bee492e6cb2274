//! What was published last, until it is known to have arrived: at the server, and in the log.
//!
//! A server that hangs, or one behind a connection that dies without a word, takes what it is sent
//! for some seconds and passes nothing on. It is published again when there is another connection.
//!
//! A server that is cut off from most others passes on to whom it has, and nothing gets into the
//! log. It is published again as soon as something later does; and to find that out, one batch of
//! it each second.
//!
//! Who has heard it already learns nothing new from it.

use std::collections::BTreeMap;

use crate::bus::Destination;
use crate::numbers::{Numbered, OfEach};

/// A connection that is dead is noticed within less than this. What is older has arrived.
const DEAD_MICROS: u64 = 15_000_000;

/// The log has one batch after the other. If it has one and not another that was published so long
/// before, that one is lost.
const LATE_MICROS: u64 = 2_000_000;

/// What the log does not have after this time is published again, for a trial.
const TRIAL_MICROS: u64 = 3_000_000;

/// What was lost so often is not published again.
const LOSSES_MAX: u8 = 3;

/// Memory that a batch takes besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// A batch to be published, or that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) to: Destination,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: usize,
    /// When it was written.
    pub(crate) micros: u64,
    losses: u8,
}

impl Batch {
    pub(crate) fn new(to: Destination, bytes: Vec<u8>, records: usize, micros: u64) -> Self {
        Self {
            to,
            bytes,
            records,
            micros,
            losses: 0,
        }
    }

    /// What it takes of the room there is.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

/// A channel, and a mark: the number of a batch in the order in which they were published last.
type Key = (Numbered, u64);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Sent {
    /// And when they were published.
    batches: BTreeMap<Key, (u64, Batch)>,
    weight: usize,
    weight_max: usize,
    has_log: bool,
    /// Whether the log has had anything.
    was_logged: OfEach<bool>,
    mark: u64,
    /// The server has everything up to this mark.
    arrived: u64,
    /// Records that were dropped, and are not in the log.
    dropped: usize,
}

impl Sent {
    pub(crate) fn new(has_log: bool) -> Self {
        Self {
            batches: BTreeMap::new(),
            weight: 0,
            weight_max: 0,
            has_log,
            was_logged: OfEach::default(),
            mark: 0,
            arrived: 0,
            dropped: 0,
        }
    }

    /// The mark of what is published next, or of a question whether everything before has arrived.
    pub(crate) fn next_mark(&mut self) -> u64 {
        self.mark += 1;
        self.mark
    }

    /// A batch was published with this mark.
    pub(crate) fn note(&mut self, micros: u64, key: Key, batch: Batch) {
        self.weight += batch.weight();
        self.batches.insert(key, (micros, batch));
        self.make_room();
    }

    /// There is room for so much from now on. The oldest go first.
    pub(crate) fn set_room(&mut self, weight_max: usize) {
        self.weight_max = weight_max;
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.weight > self.weight_max
            && let Some(key) = self.oldest(|_| true)
        {
            self.drop(key);
        }
    }

    /// The first batch of all channels for which this holds.
    fn oldest(&self, is_meant: impl Fn(Numbered) -> bool) -> Option<Key> {
        let channels = Numbered::ALL.into_iter().filter(|it| is_meant(*it));
        let first = |channel| {
            self.batches
                .range((channel, 0)..=(channel, u64::MAX))
                .next()
        };
        let firsts = channels.filter_map(first).map(|(key, _)| *key);
        firsts.min_by_key(|(_, mark)| *mark)
    }

    fn remove(&mut self, key: Key) -> Option<Batch> {
        let (_, batch) = self.batches.remove(&key)?;
        self.weight -= batch.weight();
        Some(batch)
    }

    /// Removes what nobody is to have again, though the log may not have it.
    fn drop(&mut self, key: Key) {
        let is_lost = self.has_log && *self.was_logged.of(key.0);
        let records = self.remove(key).map_or(0, |batch| batch.records);
        self.dropped += if is_lost { records } else { 0 };
    }

    /// Records that were dropped since this was asked, and are not in the log.
    pub(crate) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    fn drop_all(&mut self, is_meant: impl Fn(&Key, u64, &Batch) -> bool) {
        let meant = self.batches.iter();
        let meant = meant.filter(|(key, (micros, batch))| is_meant(key, *micros, batch));
        let keys: Vec<Key> = meant.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.drop(key));
    }

    /// What was written before then is of no use to anybody.
    pub(crate) fn forget_before(&mut self, micros: u64) {
        self.drop_all(|_, _, batch| batch.micros < micros);
    }

    /// The server has everything up to this mark.
    pub(crate) fn arrived(&mut self, mark: u64) {
        self.arrived = self.arrived.max(mark);
        if !self.has_log {
            self.drop_all(|(_, batch), _, _| *batch <= mark);
        }
    }

    /// The log has the batch of this mark. What is lost, and to be published again.
    pub(crate) fn logged(&mut self, micros: u64, mark: u64) -> Vec<Batch> {
        let is_there = |it: &Numbered| self.batches.contains_key(&(*it, mark));
        let Some(channel) = Numbered::ALL.into_iter().find(is_there) else {
            return Vec::new();
        };
        self.remove((channel, mark));
        *self.was_logged.of_mut(channel) = true;
        let before = self.batches.range((channel, 0)..(channel, mark));
        let is_lost = |published: u64| micros.saturating_sub(published) >= LATE_MICROS;
        let lost = before.filter(|(_, (published, _))| is_lost(*published));
        let lost: Vec<Key> = lost.map(|(key, _)| *key).collect();
        let mut again = Vec::new();
        for key in lost {
            match self.batches.get(&key) {
                Some((_, batch)) if batch.losses < LOSSES_MAX => again.extend(self.lose(key)),
                _ => self.drop(key),
            }
        }
        again
    }

    fn lose(&mut self, key: Key) -> Option<Batch> {
        let mut batch = self.remove(key)?;
        batch.losses += 1;
        Some(batch)
    }

    /// The connection is lost. What is to be published again, oldest first.
    pub(crate) fn disconnected(&mut self, micros: u64) -> Vec<Batch> {
        let arrived = self.arrived;
        let is_in_doubt = |(_, mark): &Key, published: u64, batch: &Batch| {
            let is_new = micros.saturating_sub(published) <= DEAD_MICROS;
            *mark > arrived && is_new && batch.losses == 0
        };
        let in_doubt = self.batches.iter();
        let in_doubt =
            in_doubt.filter(|(key, (published, batch))| is_in_doubt(key, *published, batch));
        let mut keys: Vec<Key> = in_doubt.map(|(key, _)| *key).collect();
        keys.sort_by_key(|(_, mark)| *mark);
        let again = keys.into_iter().filter_map(|key| self.lose(key)).collect();
        if !self.has_log {
            self.drop_all(|_, _, _| true);
        }
        again
    }

    /// What is to be published again to find out whether the log takes anything.
    pub(crate) fn trial(&mut self, micros: u64) -> Option<Batch> {
        let key = self.oldest(|channel| *self.was_logged.of(channel))?;
        let (published, _) = self.batches.get(&key)?;
        let is_due = micros.saturating_sub(*published) >= TRIAL_MICROS;
        is_due.then(|| self.remove(key)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Channel;

    const SECOND: u64 = 1_000_000;

    /// What a batch of 10 bytes takes.
    const WEIGHT: usize = 10 + OVERHEAD_BYTES;

    fn sent(has_log: bool) -> Sent {
        let mut sent = Sent::new(has_log);
        sent.set_room(1_000_000);
        sent
    }

    fn publish(sent: &mut Sent, micros: u64, number: u8) -> u64 {
        publish_on(sent, Channel::Peers, micros, number)
    }

    fn publish_on(sent: &mut Sent, channel: Channel, micros: u64, number: u8) -> u64 {
        let batch = Batch::new(Destination::All(channel), vec![number; 10], 7, micros);
        publish_batch(sent, micros, batch)
    }

    fn publish_batch(sent: &mut Sent, micros: u64, batch: Batch) -> u64 {
        let channel = match batch.to {
            Destination::All(Channel::Members) => Numbered::Members,
            _ => Numbered::Peers,
        };
        let mark = sent.next_mark();
        sent.note(micros, (channel, mark), batch);
        mark
    }

    fn numbers(batches: &[Batch]) -> Vec<u8> {
        batches.iter().map(|batch| batch.bytes[0]).collect()
    }

    #[test]
    fn what_is_not_confirmed_is_taken_in_order_and_once() {
        for has_log in [false, true] {
            let mut sent = sent(has_log);
            publish(&mut sent, 0, 1);
            publish(&mut sent, 0, 2);
            let first = sent.next_mark();
            publish_on(&mut sent, Channel::Members, 1, 3);
            let second = sent.next_mark();
            publish(&mut sent, 2, 4);
            sent.arrived(first);
            assert_eq!(numbers(&sent.disconnected(3)), [3, 4]);
            assert!(sent.disconnected(3).is_empty());
            publish(&mut sent, 4, 5);
            sent.arrived(second);
            assert_eq!(
                numbers(&sent.disconnected(5)),
                [5],
                "it was published later"
            );
            assert_eq!(sent.batches.len(), if has_log { 2 } else { 0 });
        }
    }

    #[test]
    fn what_is_published_again_and_lost_again_has_had_its_turn() {
        let mut sent = sent(false);
        publish(&mut sent, 0, 1);
        for batch in sent.disconnected(SECOND) {
            publish_batch(&mut sent, 2 * SECOND, batch);
        }
        assert!(sent.disconnected(3 * SECOND).is_empty());
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let mut sent = sent(false);
        sent.set_room(3 * WEIGHT + 1);
        for number in 1..=4 {
            publish(&mut sent, u64::from(number) * SECOND, number);
        }
        assert_eq!(sent.weight, 3 * WEIGHT);
        let then = 4 * SECOND + DEAD_MICROS;
        assert_eq!(numbers(&sent.disconnected(then)), [4]);
        assert_eq!(sent.weight, 0);
        publish(&mut sent, 20 * SECOND, 5);
        publish_on(&mut sent, Channel::Members, 40 * SECOND, 6);
        sent.forget_before(30 * SECOND);
        assert_eq!(sent.weight, WEIGHT);
        sent.set_room(WEIGHT - 1);
        assert_eq!((sent.weight, sent.batches.len()), (0, 0));
        assert_eq!(sent.take_dropped(), 0, "the servers have it");
    }

    #[test]
    fn what_the_log_has_not_when_it_has_something_later_is_lost() {
        let mut sent = sent(true);
        let first = publish(&mut sent, 0, 1);
        assert!(sent.logged(SECOND, first).is_empty());
        for second in 2..=9 {
            publish(&mut sent, u64::from(second) * SECOND, second);
        }
        publish_on(&mut sent, Channel::Members, 2 * SECOND, 10);
        sent.arrived(sent.mark);
        let last = publish(&mut sent, 10 * SECOND, 11);
        let again = sent.logged(10 * SECOND, last);
        // The last one may be on its way still, and members have an order of their own.
        assert_eq!(numbers(&again), [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(sent.batches.len(), 2);
        assert!(sent.logged(20 * SECOND, last).is_empty(), "it is known");
        assert_eq!(sent.take_dropped(), 0);
    }

    #[test]
    fn what_never_gets_into_the_log_is_not_published_for_ever() {
        let mut sent = sent(true);
        let mut lost = vec![Batch::new(
            Destination::All(Channel::Peers),
            vec![1; 10],
            7,
            0,
        )];
        let mut published = 0;
        for second in (0..100).step_by(10) {
            for batch in lost.drain(..) {
                publish_batch(&mut sent, second * SECOND, batch);
                published += 1;
            }
            let later = publish(&mut sent, (second + 5) * SECOND, 2);
            lost = sent.logged((second + 5) * SECOND, later);
        }
        assert_eq!(published, 1 + LOSSES_MAX);
        assert_eq!((sent.batches.len(), sent.take_dropped()), (0, 7));
    }

    #[test]
    fn one_batch_after_the_other_is_tried() {
        let mut sent = sent(true);
        publish(&mut sent, 0, 1);
        assert_eq!(sent.trial(9 * SECOND), None, "there may be no log at all");
        let logged = publish(&mut sent, SECOND, 2);
        assert!(sent.logged(SECOND, logged).is_empty());
        publish(&mut sent, 2 * SECOND, 3);
        assert_eq!(sent.trial(TRIAL_MICROS - 1), None);
        for (second, number) in [(9, 1), (10, 3), (12, 1), (13, 3)] {
            let batch = sent.trial(second * SECOND).unwrap();
            assert_eq!(batch.bytes[0], number);
            publish_batch(&mut sent, second * SECOND, batch);
        }
        assert_eq!(sent.trial(14 * SECOND), None, "both are new again");
        let last = sent.mark;
        assert_eq!(numbers(&sent.logged(14 * SECOND, last)), [1]);
    }

    #[test]
    fn what_has_no_room_and_is_in_no_log_is_counted() {
        let mut sent = sent(true);
        publish(&mut sent, 0, 1);
        sent.set_room(0);
        assert_eq!(sent.take_dropped(), 0, "there may be no log at all");
        sent.set_room(2 * WEIGHT);
        let logged = publish(&mut sent, 0, 2);
        sent.logged(0, logged);
        for number in 3..=5 {
            publish(&mut sent, 0, number);
        }
        assert_eq!(sent.take_dropped(), 7);
        sent.forget_before(1);
        assert_eq!(sent.take_dropped(), 14);
        assert_eq!(sent.take_dropped(), 0);
    }
}
