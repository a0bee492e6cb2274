//! What was published last, until the server is known to have it.
//!
//! A server that hangs, or one behind a connection that dies without a word, takes what it is sent
//! for some seconds and passes nothing on. It is published again when there is another connection:
//! who has heard it already learns nothing new from it.

use std::collections::VecDeque;

use crate::bus::Destination;

/// A connection that is dead is noticed within less than this. What is older has arrived.
const KEPT_MICROS: u64 = 15_000_000;

/// A batch, as it was published.
pub(crate) type Published = (Destination, Vec<u8>);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Sent {
    batches: VecDeque<Batch>,
    bytes: usize,
    bytes_max: usize,
    /// Of what is published now.
    mark: u64,
}

#[derive(Debug)]
struct Batch {
    micros: u64,
    mark: u64,
    published: Published,
}

impl Sent {
    /// Keeps no more than so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            mark: 1,
        }
    }

    pub(crate) fn note(&mut self, micros: u64, published: Published) {
        self.bytes += published.1.len();
        let mark = self.mark;
        self.batches.push_back(Batch {
            micros,
            mark,
            published,
        });
        while self.bytes > self.bytes_max {
            self.pop();
        }
        self.forget_old(micros);
    }

    /// The server is about to be asked for an answer: it has everything of before then. Returns
    /// the mark of that.
    pub(crate) fn next_mark(&mut self) -> u64 {
        let mark = self.mark;
        self.mark += 1;
        mark
    }

    /// The server has everything of this mark, and of before.
    pub(crate) fn confirm(&mut self, mark: u64) {
        while self.batches.front().is_some_and(|it| it.mark <= mark) {
            self.pop();
        }
        if self.batches.is_empty() {
            self.batches.shrink_to(64);
        }
    }

    /// The connection is lost. What is to be published again, oldest first.
    pub(crate) fn take(&mut self, micros: u64) -> impl Iterator<Item = Published> {
        self.forget_old(micros);
        self.bytes = 0;
        let batches = std::mem::take(&mut self.batches);
        batches.into_iter().map(|batch| batch.published)
    }

    fn forget_old(&mut self, micros: u64) {
        let is_old = |batch: &Batch| micros.saturating_sub(batch.micros) > KEPT_MICROS;
        while self.batches.front().is_some_and(is_old) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.bytes -= oldest.published.1.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Channel;

    const SECOND: u64 = 1_000_000;

    fn batch(number: u8) -> Published {
        (Destination::All(Channel::Peers), vec![number; 10])
    }

    fn taken(sent: &mut Sent, micros: u64) -> Vec<u8> {
        sent.take(micros).map(|(_, bytes)| bytes[0]).collect()
    }

    #[test]
    fn what_is_not_confirmed_is_taken_in_order_and_once() {
        let mut sent = Sent::new(1_000);
        sent.note(0, batch(1));
        sent.note(0, batch(2));
        let first = sent.next_mark();
        sent.note(1, batch(3));
        let second = sent.next_mark();
        sent.note(2, batch(4));
        sent.confirm(first);
        assert_eq!(taken(&mut sent, 3), [3, 4]);
        assert_eq!(taken(&mut sent, 3), [0; 0]);
        sent.note(4, batch(5));
        sent.confirm(second);
        assert_eq!(taken(&mut sent, 5), [5], "it was published later");
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let mut sent = Sent::new(35);
        for number in 1..=4 {
            sent.note(u64::from(number) * SECOND, batch(number));
        }
        assert_eq!(sent.bytes, 30);
        assert_eq!(taken(&mut sent, 18 * SECOND + 1), [4]);
        assert_eq!(sent.bytes, 0);
        sent.note(20 * SECOND, batch(5));
        sent.note(40 * SECOND, batch(6));
        assert_eq!((sent.bytes, sent.batches.len()), (10, 1));
    }
}
