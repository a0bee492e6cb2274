//! A way to another worker, with the batch that is being filled for it.

use crate::Requester;

/// What travels on a [`Lane`].
pub trait Batch {
    /// Whether nothing should be added.
    fn is_full(&self) -> bool;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool;
}

/// A [`Requester`], and the batch that is being filled.
///
/// The last eighth of the batches is sent full only: otherwise requests that come one by one while
/// the other side does not run would use all batches up, and be dropped long before there are as
/// many as the batches have room for. What is held back goes when batches come back.
#[derive(Debug)]
pub struct Lane<B> {
    requester: Requester<B>,
    filling: Option<B>,
}

impl<B: Batch> Lane<B> {
    /// One on which nothing is on its way.
    #[must_use]
    pub fn new(requester: Requester<B>) -> Self {
        Self {
            requester,
            filling: None,
        }
    }

    /// The batch to add to. `None` if the other side does not keep up.
    pub fn batch(&mut self, make: impl FnOnce() -> B) -> Option<&mut B> {
        if self.filling.as_ref().is_some_and(Batch::is_full) {
            self.send();
        }
        if self.filling.is_none() {
            self.filling = self.requester.take_free(make);
        }
        self.filling.as_mut()
    }

    /// Whether half of the batches are on their way.
    #[must_use]
    pub fn is_half_used(&self) -> bool {
        // A full one is as good as on its way.
        let full = usize::from(self.filling.as_ref().is_some_and(Batch::is_full));
        self.requester.in_flight() + full >= self.requester.batches_max() / 2
    }

    /// Sends the batch that is being filled, and lets the other side know; unless there is room in
    /// that batch and few are left, so that one will come back.
    pub fn forward(&mut self) {
        let is_full = self.filling.as_ref().is_some_and(Batch::is_full);
        if is_full || !self.is_busy() {
            self.send();
        }
        self.requester.wake();
    }

    /// Gives every batch that has come back to `take`, which must empty it. Returns their number.
    pub fn collect(&mut self, mut take: impl FnMut(&mut B)) -> usize {
        let mut collected = 0;
        while let Some(mut batch) = self.requester.receive() {
            take(&mut batch);
            self.requester.recycle(batch);
            collected += 1;
        }
        if collected > 0 {
            self.forward();
        }
        collected
    }

    /// Whether there is something to [collect](Self::collect).
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.requester.has_answers()
    }

    /// Whether something is held back until batches come back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.filling.as_ref().is_some_and(|it| !it.is_empty())
    }

    /// Batches that are on their way, there or back.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requester.in_flight()
    }

    fn is_busy(&self) -> bool {
        let max = self.requester.batches_max();
        self.requester.in_flight() >= max - max.div_ceil(8)
    }

    /// Puts the batch on its way, if there is one.
    fn send(&mut self) {
        if let Some(batch) = self.filling.take_if(|batch| !batch.is_empty()) {
            // There is room for every batch that was free.
            let sent = self.requester.send(batch);
            debug_assert!(sent.is_ok(), "the batch came from this exchange");
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Responder, exchange, waker_pair};

    const BATCH_LEN_MAX: usize = 4;
    const BATCHES_MAX: usize = 16;

    impl Batch for Vec<usize> {
        fn is_full(&self) -> bool {
            self.len() >= BATCH_LEN_MAX
        }

        fn is_empty(&self) -> bool {
            self.is_empty()
        }
    }

    fn lane() -> (Lane<Vec<usize>>, Responder<Vec<usize>>) {
        let silent = || waker_pair(|| ()).1;
        let (requester, responder) = exchange(BATCHES_MAX, silent(), silent());
        (Lane::new(requester), responder)
    }

    fn add(lane: &mut Lane<Vec<usize>>, number: usize) -> bool {
        let batch = lane.batch(Vec::new);
        batch.map(|batch| batch.push(number)).is_some()
    }

    #[test]
    fn what_comes_one_by_one_fills_the_last_batches() {
        let (mut lane, mut responder) = lane();
        let mut taken = 0;
        while add(&mut lane, taken) {
            taken += 1;
            lane.forward();
        }
        assert_eq!(taken, 14 + 2 * BATCH_LEN_MAX);
        assert_eq!(lane.in_flight(), BATCHES_MAX);
        let mut numbers = Vec::new();
        while let Some(batch) = responder.receive() {
            numbers.extend(batch.iter().copied());
            responder.answer(batch).unwrap();
        }
        assert_eq!(numbers, (0..taken).collect::<Vec<_>>());
        assert!(lane.has_answers() && !lane.holds_back());
        assert_eq!(lane.collect(Vec::clear), BATCHES_MAX);
        assert_eq!(lane.in_flight(), 0);
    }

    #[test]
    fn what_is_held_back_goes_when_a_batch_comes_back() {
        let (mut lane, mut responder) = lane();
        for number in 0..15 {
            assert!(add(&mut lane, number));
            lane.forward();
        }
        assert_eq!((lane.in_flight(), lane.holds_back()), (14, true));
        let batch = responder.receive().unwrap();
        responder.answer(batch).unwrap();
        assert_eq!(lane.collect(Vec::clear), 1);
        assert_eq!((lane.in_flight(), lane.holds_back()), (14, false));
    }

    #[test]
    fn nothing_goes_before_it_is_forwarded() {
        let (mut lane, mut responder) = lane();
        assert!(add(&mut lane, 1));
        assert_eq!((lane.collect(Vec::clear), lane.has_answers()), (0, false));
        assert!(responder.receive().is_none());
        lane.forward();
        assert_eq!(responder.receive(), Some(vec![1]));
    }

    #[test]
    fn half_is_half() {
        let (mut lane, _responder) = lane();
        let mut taken = 0;
        while !lane.is_half_used() {
            assert!(add(&mut lane, taken));
            taken += 1;
        }
        assert_eq!(taken, BATCHES_MAX / 2 * BATCH_LEN_MAX);
    }
}
