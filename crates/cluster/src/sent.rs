//! What was published last, until it is known to have arrived: at the server, and in the log.
//!
//! A server that hangs, or one behind a connection that dies without a word, takes what it is sent
//! for some seconds and passes nothing on. It is published again when there is another connection.
//!
//! A server that is cut off from most others passes on to whom it has, and nothing gets into the
//! log. It is published again as soon as something later does; and if there is nothing later, the
//! last of it is published again and again, to find that out.
//!
//! Who has heard it already learns nothing new from it.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, VecDeque};

use crate::bus::Destination;
use crate::numbers::{Numbered, OfEach};

/// A connection that is dead is noticed within less than this. What is older has arrived.
const DEAD_MICROS: u64 = 15_000_000;

/// The log has one batch after the other. If it has one and not another that was published so long
/// before, that one is lost.
const LATE_MICROS: u64 = 2_000_000;

/// For so long it is remembered what the log has. It has to have all of it in order: if something
/// before it is published again, it follows once more.
const RECENT_MICROS: u64 = 5_000_000;

/// If nothing follows, what the log does not have after this time is published again, for a trial.
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
    /// What the log has had last, in the order of that.
    recent: VecDeque<(Key, u64, Batch)>,
    /// What is to be published again, oldest first.
    again: VecDeque<Batch>,
    /// Of all.
    weight: usize,
    weight_max: usize,
    has_log: bool,
    /// Whether there has been a log: nothing is published again for one that there never was.
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
            recent: VecDeque::new(),
            again: VecDeque::new(),
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

    /// Whether something is to be published again.
    pub(crate) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Takes what is to be published again next.
    pub(crate) fn take_again(&mut self) -> Option<Batch> {
        let batch = self.again.pop_front()?;
        self.weight -= batch.weight();
        Some(batch)
    }

    /// It was not possible to publish it.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.weight += batch.weight();
        self.again.push_front(batch);
    }

    /// There is room for so much from now on. What the log has goes first, then what is to be
    /// published again, and then the oldest.
    pub(crate) fn set_room(&mut self, weight_max: usize) {
        self.weight_max = weight_max;
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.weight > self.weight_max {
            if self.forget_recent() {
                continue;
            }
            let dropped = match self.take_again() {
                Some(batch) => self.has_log.then_some(batch.records),
                None => match self.oldest() {
                    Some(key) => self.drop(key),
                    None => break,
                },
            };
            self.dropped += dropped.unwrap_or_default();
        }
    }

    /// Returns whether there was anything.
    fn forget_recent(&mut self) -> bool {
        let oldest = self.recent.pop_front();
        self.weight -= oldest.as_ref().map_or(0, |(_, _, batch)| batch.weight());
        oldest.is_some()
    }

    fn of_channel(&self, channel: Numbered) -> Range<'_, Key, (u64, Batch)> {
        self.batches.range((channel, 0)..=(channel, u64::MAX))
    }

    /// The first batch of all channels.
    fn oldest(&self) -> Option<Key> {
        let firsts = Numbered::ALL.map(|channel| self.of_channel(channel).next());
        let keys = firsts.into_iter().flatten().map(|(key, _)| *key);
        keys.min_by_key(|(_, mark)| *mark)
    }

    fn remove(&mut self, key: Key) -> Option<Batch> {
        let (_, batch) = self.batches.remove(&key)?;
        self.weight -= batch.weight();
        Some(batch)
    }

    /// Removes what is not published again for lack of room, or since that was in vain. Returns how
    /// many records are in no log therefore.
    fn drop(&mut self, key: Key) -> Option<usize> {
        let records = self.remove(key)?.records;
        (self.has_log && *self.was_logged.of(key.0)).then_some(records)
    }

    /// Records that were dropped since this was asked, and are not in the log.
    pub(crate) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    fn remove_all(&mut self, is_meant: impl Fn(&Key, &Batch) -> bool) {
        self.batches.retain(|key, (_, batch)| {
            let stays = !is_meant(key, batch);
            self.weight -= if stays { 0 } else { batch.weight() };
            stays
        });
    }

    /// What was written longer ago than this is of no use to anybody.
    pub(crate) fn forget_old(&mut self, micros: u64, life_micros: u64) {
        let is_old = |batch: &Batch| micros.saturating_sub(batch.micros) > life_micros;
        self.remove_all(|_, batch| is_old(batch));
        while self.again.front().is_some_and(is_old) {
            self.take_again();
        }
        self.forget_logged(micros);
    }

    fn forget_logged(&mut self, micros: u64) {
        let is_old = |recent: &(Key, u64, Batch)| micros.saturating_sub(recent.1) > RECENT_MICROS;
        while self.recent.front().is_some_and(is_old) {
            self.forget_recent();
        }
    }

    /// The server has everything up to this mark.
    pub(crate) fn arrived(&mut self, mark: u64) {
        self.arrived = self.arrived.max(mark);
        if !self.has_log {
            self.remove_all(|(_, batch), _| *batch <= mark);
        }
    }

    /// The log was read.
    pub(crate) fn log_is_there(&mut self) {
        for channel in Numbered::ALL {
            *self.was_logged.of_mut(channel) = true;
        }
    }

    /// The log has the batch of this mark. What it should have had before is published again.
    pub(crate) fn logged(&mut self, micros: u64, mark: u64) {
        let is_there = |it: &Numbered| self.batches.contains_key(&(*it, mark));
        let Some(channel) = Numbered::ALL.into_iter().find(is_there) else {
            return;
        };
        let key = (channel, mark);
        if let Some((_, batch)) = self.batches.remove(&key) {
            self.recent.push_back((key, micros, batch));
        }
        self.forget_logged(micros);
        *self.was_logged.of_mut(channel) = true;
        let before = self.batches.range((channel, 0)..(channel, mark));
        let is_lost = |published: u64| micros.saturating_sub(published) >= LATE_MICROS;
        let lost = before.filter(|(_, (published, _))| is_lost(*published));
        let lost: Vec<Key> = lost.map(|(key, _)| *key).collect();
        let Some(first) = lost.first().copied() else {
            return;
        };
        for key in lost {
            match self.batches.get(&key) {
                Some((_, batch)) if batch.losses < LOSSES_MAX => self.lose(key),
                _ => self.dropped += self.drop(key).unwrap_or_default(),
            }
        }
        if !self.again.is_empty() {
            self.repeat_after(first);
        }
    }

    /// What the log had of this channel after this batch is published again, too.
    fn repeat_after(&mut self, (channel, first): Key) {
        let is_meant = |(of, mark): &Key| *of == channel && *mark > first;
        let all = self.recent.drain(..);
        let (follows, recent): (Vec<_>, Vec<_>) = all.partition(|(key, _, _)| is_meant(key));
        self.recent = recent.into();
        let mut follows = follows;
        follows.sort_by_key(|((_, mark), _, _)| *mark);
        self.again
            .extend(follows.into_iter().map(|(_, _, batch)| batch));
    }

    fn lose(&mut self, key: Key) {
        if let Some((_, mut batch)) = self.batches.remove(&key) {
            batch.losses += 1;
            self.again.push_back(batch);
        }
    }

    /// The connection is lost. What may have gone with it is published again.
    pub(crate) fn disconnected(&mut self, micros: u64) {
        let is_in_doubt = |(_, mark): &Key, published: u64, batch: &Batch| {
            let is_new = micros.saturating_sub(published) <= DEAD_MICROS;
            *mark > self.arrived && is_new && batch.losses == 0
        };
        let in_doubt = self.batches.iter();
        let in_doubt = in_doubt.filter(|(key, (micros, batch))| is_in_doubt(key, *micros, batch));
        let mut keys: Vec<Key> = in_doubt.map(|(key, _)| *key).collect();
        keys.sort_by_key(|(_, mark)| *mark);
        keys.into_iter().for_each(|key| self.lose(key));
        if !self.has_log {
            self.remove_all(|_, _| true);
        }
    }

    /// The last batch of a channel is published again if the log does not have it, to find out
    /// whether it takes anything. It is the last one, as nothing of what it says is out of date.
    pub(crate) fn try_log(&mut self, micros: u64) {
        for channel in Numbered::ALL {
            let last = self.of_channel(channel).next_back();
            let is_due = |published: u64| micros.saturating_sub(published) >= TRIAL_MICROS;
            if let Some((key, (published, _))) = last
                && *self.was_logged.of(channel)
                && is_due(*published)
                && let Some((_, batch)) = self.batches.remove(&{ *key })
            {
                self.again.push_back(batch);
            }
        }
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

    /// Takes what is to be published again.
    fn again(sent: &mut Sent) -> Vec<Batch> {
        std::iter::from_fn(|| sent.take_again()).collect()
    }

    fn disconnected(sent: &mut Sent, micros: u64) -> Vec<u8> {
        sent.disconnected(micros);
        numbers(&again(sent))
    }

    fn logged(sent: &mut Sent, micros: u64, mark: u64) -> Vec<u8> {
        sent.logged(micros, mark);
        numbers(&again(sent))
    }

    fn nothing() -> Vec<u8> {
        Vec::new()
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
            assert_eq!(disconnected(&mut sent, 3), [3, 4]);
            assert_eq!(disconnected(&mut sent, 3), nothing());
            publish(&mut sent, 4, 5);
            sent.arrived(second);
            assert_eq!(disconnected(&mut sent, 5), [5], "it was published later");
            assert_eq!(sent.batches.len(), if has_log { 2 } else { 0 });
        }
    }

    #[test]
    fn what_is_published_again_and_lost_again_has_had_its_turn() {
        let mut sent = sent(false);
        publish(&mut sent, 0, 1);
        sent.disconnected(SECOND);
        for batch in again(&mut sent) {
            publish_batch(&mut sent, 2 * SECOND, batch);
        }
        assert_eq!(disconnected(&mut sent, 3 * SECOND), nothing());
    }

    #[test]
    fn what_could_not_be_published_again_is_the_next_one_still() {
        let mut sent = sent(false);
        publish(&mut sent, 0, 1);
        publish(&mut sent, 0, 2);
        sent.disconnected(SECOND);
        assert_eq!(sent.weight, 2 * WEIGHT);
        let batch = sent.take_again().unwrap();
        assert_eq!(sent.weight, WEIGHT);
        sent.put_back(batch);
        assert_eq!(sent.weight, 2 * WEIGHT);
        sent.forget_old(SECOND, SECOND);
        assert_eq!(numbers(&again(&mut sent)), [1, 2]);
        assert_eq!(sent.weight, 0);
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
        assert_eq!(disconnected(&mut sent, then), [4]);
        assert_eq!(sent.weight, 0);
        publish(&mut sent, 20 * SECOND, 5);
        publish_on(&mut sent, Channel::Members, 40 * SECOND, 6);
        sent.forget_old(41 * SECOND, 11 * SECOND);
        assert_eq!(sent.weight, WEIGHT);
        sent.disconnected(41 * SECOND);
        publish(&mut sent, 42 * SECOND, 7);
        assert_eq!(sent.weight, 2 * WEIGHT);
        sent.set_room(WEIGHT);
        assert!(!sent.has_again(), "that goes first");
        assert_eq!((sent.weight, sent.batches.len()), (WEIGHT, 1));
        sent.disconnected(43 * SECOND);
        sent.forget_old(60 * SECOND, SECOND);
        assert!(!sent.has_again());
        assert_eq!((sent.weight, sent.batches.len()), (0, 0));
        assert_eq!(
            sent.take_dropped(),
            0,
            "the servers have it, or nobody needs it"
        );
    }

    #[test]
    fn what_the_log_has_not_when_it_has_something_later_is_lost() {
        let mut sent = sent(true);
        let first = publish(&mut sent, 0, 1);
        assert_eq!(logged(&mut sent, SECOND, first), nothing());
        for second in 2..=9 {
            publish(&mut sent, u64::from(second) * SECOND, second);
        }
        publish_on(&mut sent, Channel::Members, 2 * SECOND, 10);
        sent.arrived(sent.mark);
        let last = publish(&mut sent, 10 * SECOND, 11);
        // The last one may be on its way still, and members have an order of their own. In the log
        // nobody is to arrive after he has left.
        assert_eq!(
            logged(&mut sent, 10 * SECOND, last),
            [2, 3, 4, 5, 6, 7, 8, 11]
        );
        assert_eq!(sent.batches.len(), 2);
        assert_eq!(
            logged(&mut sent, 20 * SECOND, last),
            nothing(),
            "it is known"
        );
        assert_eq!(sent.take_dropped(), 0);
    }

    #[test]
    fn what_follows_in_the_log_follows_again() {
        let mut sent = sent(true);
        let in_log = |sent: &mut Sent, micros, number| {
            let mark = publish(sent, micros, number);
            logged(sent, micros, mark)
        };
        for number in 1..=3 {
            assert_eq!(
                in_log(&mut sent, u64::from(number) * SECOND, number),
                nothing()
            );
        }
        publish(&mut sent, 10 * SECOND, 4);
        for number in 5..=6 {
            assert_eq!(in_log(&mut sent, 11 * SECOND, number), nothing());
        }
        assert_eq!(in_log(&mut sent, 12 * SECOND, 7), [4, 5, 6, 7]);
        publish(&mut sent, 20 * SECOND, 8);
        for number in 9..=20 {
            let after = u64::from(number - 9) * SECOND / 10;
            assert_eq!(in_log(&mut sent, 20 * SECOND + after, number), nothing());
        }
        sent.set_room(WEIGHT);
        assert_eq!(
            (sent.weight, sent.recent.len()),
            (WEIGHT, 0),
            "these go first"
        );
        assert_eq!(sent.take_dropped(), 0);
        sent.set_room(2 * WEIGHT);
        assert_eq!(in_log(&mut sent, 22 * SECOND, 21), [8, 21]);
        assert_eq!(sent.weight, 0);
    }

    #[test]
    fn what_never_gets_into_the_log_is_not_published_for_ever() {
        let mut sent = sent(true);
        let to = Destination::All(Channel::Peers);
        let mut lost = vec![Batch::new(to, vec![1; 10], 7, 0)];
        let mut published = 0;
        for second in (0..100).step_by(10) {
            for batch in lost.drain(..) {
                let is_later = batch.bytes[0] == 2;
                let mark = publish_batch(&mut sent, second * SECOND, batch);
                match is_later {
                    true => sent.logged(second * SECOND, mark),
                    false => published += 1,
                }
            }
            let later = publish(&mut sent, (second + 5) * SECOND, 2);
            sent.logged((second + 5) * SECOND, later);
            lost = again(&mut sent);
        }
        assert_eq!(published, 1 + LOSSES_MAX);
        assert_eq!((sent.batches.len(), sent.take_dropped()), (0, 7));
    }

    /// Whoever has left is in a later batch, and would be there again otherwise.
    #[test]
    fn if_nothing_follows_the_last_batch_is_tried() {
        let mut sent = sent(true);
        publish(&mut sent, 0, 1);
        let tried = |sent: &mut Sent, micros| {
            sent.try_log(micros);
            let tried = again(sent);
            let number = tried.first().map(|batch| batch.bytes[0]);
            assert!(tried.len() <= 1);
            for batch in tried {
                publish_batch(sent, micros, batch);
            }
            number
        };
        assert_eq!(
            tried(&mut sent, 9 * SECOND),
            None,
            "there may be no log at all"
        );
        let first = publish(&mut sent, SECOND, 2);
        assert_eq!(logged(&mut sent, SECOND, first), nothing());
        publish(&mut sent, 10 * SECOND, 3);
        assert_eq!(tried(&mut sent, 13 * SECOND - 1), None);
        for second in [13, 16, 19] {
            assert_eq!(tried(&mut sent, second * SECOND), Some(3));
            assert_eq!(tried(&mut sent, (second + 2) * SECOND), None);
        }
        publish(&mut sent, 20 * SECOND, 4);
        assert_eq!(tried(&mut sent, 22 * SECOND), None, "that is a trial, too");
        assert_eq!(tried(&mut sent, 23 * SECOND), Some(4));
        assert_eq!(tried(&mut sent, 26 * SECOND), Some(4));
        let last = sent.mark;
        assert_eq!(logged(&mut sent, 26 * SECOND, last), [1, 3, 4]);
    }

    #[test]
    fn what_has_no_room_and_is_in_no_log_is_counted() {
        let mut sent = sent(true);
        publish(&mut sent, 0, 1);
        sent.set_room(0);
        assert_eq!(sent.take_dropped(), 0, "there may be no log at all");
        sent.set_room(2 * WEIGHT);
        let first = publish(&mut sent, 0, 2);
        sent.logged(0, first);
        for number in 3..=5 {
            publish(&mut sent, 0, number);
        }
        assert_eq!(sent.take_dropped(), 7);
        sent.disconnected(1);
        sent.set_room(WEIGHT);
        assert_eq!(sent.take_dropped(), 7);
        sent.forget_old(1, 0);
        assert_eq!(sent.take_dropped(), 0, "it is of no use to anybody");
        assert_eq!(sent.weight, 0);
    }
}
