//! Batches that travel to another worker and come back answered.

use std::fmt::{self, Debug, Formatter};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::Waker;

/// Makes both ends of an exchange of at most `batches_max` batches of type `T`.
///
/// `responder_waker` wakes the worker that will hold the [`Responder`], `requester_waker` the one
/// that will hold the [`Requester`].
pub fn exchange<T>(
    batches_max: usize,
    responder_waker: Waker,
    requester_waker: Waker,
) -> (Requester<T>, Responder<T>) {
    let (requests, requests_in) = RingBuffer::new(batches_max);
    let (answers, answers_in) = RingBuffer::new(batches_max);
    (
        Requester {
            requests,
            answers: answers_in,
            free: Vec::with_capacity(batches_max),
            unallocated: batches_max,
            in_flight: 0,
            waker: responder_waker,
            wake_pending: false,
        },
        Responder {
            requests: requests_in,
            answers,
            waker: requester_waker,
            wake_pending: false,
        },
    )
}

/// The end that asks.
pub struct Requester<T> {
    requests: Producer<T>,
    answers: Consumer<T>,
    /// Batches that have come back.
    free: Vec<T>,
    /// Batches that were never needed so far.
    unallocated: usize,
    /// Batches on their way, there or back.
    in_flight: usize,
    waker: Waker,
    wake_pending: bool,
}

impl<T> Requester<T> {
    /// A batch to fill: one that has come back, else a new one made by `make`.
    ///
    /// `None` means that all batches are on their way, because the other side does not keep up.
    /// Every batch that is taken must be given to [`Self::send`] or to [`Self::recycle`].
    pub fn take_free(&mut self, make: impl FnOnce() -> T) -> Option<T> {
        if let Some(batch) = self.free.pop() {
            return Some(batch);
        }
        self.unallocated = self.unallocated.checked_sub(1)?;
        Some(make())
    }

    /// Puts a batch on its way. The other side hears of it at the next [`Self::wake`].
    ///
    /// Gives the batch back if it was never [`Self::take_free`]'s, so that there is no room for it.
    pub fn send(&mut self, batch: T) -> Result<(), T> {
        let sent = self.requests.push(batch);
        sent.map_err(|PushError::Full(batch)| batch)?;
        self.in_flight += 1;
        debug_assert!(self.in_flight <= self.batches_max());
        self.wake_pending = true;
        Ok(())
    }

    /// Wakes the other side if something was sent since the last call and it sleeps.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.wake_pending) {
            self.waker.wake();
        }
    }

    /// A batch that has been answered, if there is one.
    pub fn receive(&mut self) -> Option<T> {
        let batch = self.answers.pop().ok()?;
        self.in_flight -= 1;
        Some(batch)
    }

    /// Takes a batch back, emptied by the caller, to be filled again.
    pub fn recycle(&mut self, batch: T) {
        self.free.push(batch);
    }

    /// Whether [`Self::receive`] would give something.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Batches that there can be.
    #[must_use]
    pub fn batches_max(&self) -> usize {
        self.requests.buffer().capacity()
    }

    /// Batches that are on their way: the depth of this queue.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl<T> Debug for Requester<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// The end that answers.
pub struct Responder<T> {
    requests: Consumer<T>,
    answers: Producer<T>,
    waker: Waker,
    wake_pending: bool,
}

impl<T> Responder<T> {
    /// A batch to answer, if there is one.
    pub fn receive(&mut self) -> Option<T> {
        self.requests.pop().ok()
    }

    /// Sends an answered batch back. The other side hears of it at the next [`Self::wake`].
    ///
    /// Gives the batch back if it never came from [`Self::receive`], so that there is no room.
    pub fn answer(&mut self, batch: T) -> Result<(), T> {
        let sent = self.answers.push(batch);
        sent.map_err(|PushError::Full(batch)| batch)?;
        self.wake_pending = true;
        Ok(())
    }

    /// Wakes the other side if something was answered since the last call and it sleeps.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.wake_pending) {
            self.waker.wake();
        }
    }

    /// Whether [`Self::receive`] would give something.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }
}

impl<T> Debug for Responder<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::waker_pair;

    fn silent() -> Waker {
        waker_pair(|| ()).1
    }

    #[test]
    fn batches_come_back_in_order_and_are_reused() {
        let (mut requester, mut responder) = exchange::<Vec<u32>>(2, silent(), silent());
        for round in 0..5 {
            for number in 0..2 {
                let mut batch = requester.take_free(Vec::new).unwrap();
                assert!(batch.is_empty());
                batch.push(round * 10 + number);
                requester.send(batch).unwrap();
            }
            assert_eq!(requester.in_flight(), 2);
            assert!(
                requester.take_free(Vec::new).is_none(),
                "the exchange has two batches"
            );
            while let Some(mut batch) = responder.receive() {
                batch[0] += 1;
                responder.answer(batch).unwrap();
            }
            for number in 0..2 {
                let mut batch = requester.receive().unwrap();
                assert_eq!(batch, [round * 10 + number + 1]);
                batch.clear();
                requester.recycle(batch);
            }
            assert_eq!(requester.in_flight(), 0);
        }
    }

    #[test]
    fn a_foreign_batch_is_given_back() {
        let (mut requester, mut responder) = exchange(1, silent(), silent());
        requester.send("own").unwrap();
        assert_eq!(requester.send("foreign"), Err("foreign"));
        responder.answer("own").unwrap();
        assert_eq!(responder.answer("foreign"), Err("foreign"));
    }

    #[test]
    fn each_side_sees_what_waits_for_it() {
        let (mut requester, mut responder) = exchange(3, silent(), silent());
        assert_eq!(requester.batches_max(), 3);
        assert!(!responder.has_requests());
        requester.send(7).unwrap();
        assert!(responder.has_requests());
        responder.receive().unwrap();
        assert!(!responder.has_requests());

        assert!(!requester.has_answers());
        responder.answer(8).unwrap();
        assert!(requester.has_answers());
        requester.receive().unwrap();
        assert!(!requester.has_answers());
    }

    #[test]
    fn a_side_is_woken_once_for_all_that_was_sent_to_it() {
        let counting = || {
            let wakes = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&wakes);
            let (gate, waker) = waker_pair(move || {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            (wakes, gate, waker)
        };
        let (responder_wakes, responder_gate, responder_waker) = counting();
        let (requester_wakes, requester_gate, requester_waker) = counting();
        let (mut requester, mut responder) = exchange(2, responder_waker, requester_waker);

        let asleep = responder_gate.prepare_to_sleep();
        requester.wake();
        assert_eq!(responder_wakes.load(Ordering::Relaxed), 0, "for nothing");
        requester.send(1).unwrap();
        requester.send(2).unwrap();
        requester.wake();
        drop(asleep);
        let _asleep = responder_gate.prepare_to_sleep();
        requester.wake();
        assert_eq!(responder_wakes.load(Ordering::Relaxed), 1);

        let asleep = requester_gate.prepare_to_sleep();
        responder.wake();
        assert_eq!(requester_wakes.load(Ordering::Relaxed), 0, "for nothing");
        responder.answer(1).unwrap();
        responder.answer(2).unwrap();
        responder.wake();
        drop(asleep);
        let _asleep = requester_gate.prepare_to_sleep();
        responder.wake();
        assert_eq!(requester_wakes.load(Ordering::Relaxed), 1);
    }

    /// Both sides really sleep, 200,000 messages pass, and none gets stuck: a lost wake-up
    /// would end in the sleep's long time-out, and the test would take minutes.
    #[test]
    fn two_sleepy_threads_lose_nothing() {
        const MESSAGES: u64 = 200_000;
        const LONG: Duration = Duration::from_secs(60);
        let requester_thread = thread::current();
        let (requester_gate, requester_waker) = waker_pair(move || requester_thread.unpark());
        let (ends, ends_in) = std::sync::mpsc::channel();
        let responder_thread = thread::spawn(move || {
            let (gate, mut responder): (crate::SleepGate, Responder<u64>) = ends_in.recv().unwrap();
            let mut answered = 0;
            while answered < MESSAGES {
                while let Some(message) = responder.receive() {
                    responder.answer(message + 1).unwrap();
                    answered += 1;
                }
                responder.wake();
                if answered < MESSAGES {
                    let _guard = gate.prepare_to_sleep();
                    if !responder.has_requests() {
                        thread::park_timeout(LONG);
                    }
                }
            }
        });
        let thread_to_wake = responder_thread.thread().clone();
        let (responder_gate, responder_waker) = waker_pair(move || thread_to_wake.unpark());
        let (mut requester, responder) = exchange::<u64>(3, responder_waker, requester_waker);
        ends.send((responder_gate, responder)).unwrap();

        let (mut sent, mut sum, mut received) = (0, 0, 0);
        while received < MESSAGES {
            while sent < MESSAGES {
                let Some(message) = requester.take_free(|| 0) else {
                    break;
                };
                requester.send(message).unwrap();
                sent += 1;
            }
            requester.wake();
            while let Some(message) = requester.receive() {
                sum += message;
                received += 1;
                requester.recycle(0);
            }
            if requester.in_flight() > 0 {
                let _guard = requester_gate.prepare_to_sleep();
                if !requester.has_answers() {
                    thread::park_timeout(LONG);
                }
            }
        }
        responder_thread.join().unwrap();
        assert_eq!(sum, MESSAGES);
    }
}
