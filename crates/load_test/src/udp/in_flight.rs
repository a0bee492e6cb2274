//! Requests that wait for their answers.
//!
//! A ring that is allocated once: a request's place follows from its transaction id, so noting and
//! finding one costs a few instructions. Requests are noted in the order of their times, so those
//! whose time is over are found at the ring's tail.
//!
//! An answer that takes longer than `late_after` is late. A request without an answer for
//! `lost_after` is lost, and so is one whose place is needed by a new one.

use aquatic_udp_protocol::TransactionId;

use crate::core::kind::Fault;
use crate::core::tally::Asked;

/// The requests of one socket that wait for their answers.
#[derive(Debug)]
pub struct InFlight {
    /// `None`: answered, given up, or never used.
    slots: Box<[Option<Asked>]>,
    /// Sequence number of the next request.
    head: u32,
    /// Whatever waits before it is overdue: not answered in time, though an answer may still come.
    overdue: u32,
    /// Everything before it is settled or lost.
    tail: u32,
    /// Makes the answers to an earlier run's requests unlikely to fit.
    salt: u32,
    waiting: u32,
    late_after_micros: u64,
    lost_after_micros: u64,
}

impl InFlight {
    /// Holds up to `capacity` (rounded up to a power of two, 2^24 at most) requests.
    #[must_use]
    pub fn new(capacity: u32, late_after_micros: u64, lost_after_micros: u64, salt: u32) -> Self {
        let capacity = capacity.clamp(1, 1 << 24).next_power_of_two();
        Self {
            slots: (0..capacity).map(|_| None).collect(),
            head: 0,
            overdue: 0,
            tail: 0,
            salt,
            waiting: 0,
            late_after_micros,
            lost_after_micros,
        }
    }

    /// Notes a request that is being sent; its time must not be before that of the last one.
    ///
    /// Gives back its transaction id and, if the ring is full, the unanswered request that had to
    /// make room: that one is lost.
    pub fn begin(&mut self, asked: Asked) -> (TransactionId, Option<Asked>) {
        let mut displaced = None;
        if self.len() == self.slots.len() {
            displaced = self.give_up(self.tail);
            let tail = self.tail.wrapping_add(1);
            if self.overdue == self.tail {
                self.overdue = tail;
            }
            self.tail = tail;
        }
        let sequence = self.head;
        self.head = sequence.wrapping_add(1);
        self.waiting += 1;
        *self.slot(sequence) = Some(asked);
        (
            TransactionId((sequence ^ self.salt).to_be_bytes()),
            displaced,
        )
    }

    /// Finds the request that an answer belongs to, and ends its wait.
    ///
    /// # Errors
    /// If the request had been answered already, or is not known: never sent, or given up as lost.
    pub fn settle(&mut self, transaction_id: TransactionId) -> Result<Asked, Fault> {
        let sequence = u32::from_be_bytes(transaction_id.0) ^ self.salt;
        if !self.is_before(sequence, self.head) {
            return Err(Fault::UnknownTransaction);
        }
        self.give_up(sequence).ok_or(Fault::Duplicate)
    }

    /// Whether an answer that comes now to a request of `due_micros` is late.
    fn is_late(&self, due_micros: u64, now_micros: u64) -> bool {
        now_micros.saturating_sub(due_micros) > self.late_after_micros
    }

    /// The next request that has become overdue: no answer within `late_after`. It no longer counts
    /// as [`waiting`](Self::waiting), though its answer may still come.
    pub fn next_overdue(&mut self, now_micros: u64) -> Option<Asked> {
        while self.overdue != self.head {
            let asked = *self.slot(self.overdue);
            if asked.is_some_and(|asked| !self.is_late(asked.due_micros, now_micros)) {
                return None;
            }
            self.overdue = self.overdue.wrapping_add(1);
            if asked.is_some() {
                self.waiting -= 1;
                return asked;
            }
        }
        None
    }

    /// The next request that has to be given up as lost: no answer within `lost_after`.
    pub fn next_lost(&mut self, now_micros: u64) -> Option<Asked> {
        while self.tail != self.overdue {
            let asked = *self.slot(self.tail);
            let waited_micros = asked.map(|asked| now_micros.saturating_sub(asked.due_micros));
            if waited_micros.is_some_and(|waited| waited <= self.lost_after_micros) {
                return None;
            }
            let lost = self.give_up(self.tail);
            self.tail = self.tail.wrapping_add(1);
            if lost.is_some() {
                return lost;
            }
        }
        None
    }

    /// How many requests wait and are not overdue.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether every request has been answered or given up, as of the last
    /// [`next_lost`](Self::next_lost).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.tail == self.head
    }

    fn len(&self) -> usize {
        usize::try_from(self.head.wrapping_sub(self.tail)).unwrap_or(usize::MAX)
    }

    /// Whether a sequence number lies between the tail and another one.
    fn is_before(&self, sequence: u32, end: u32) -> bool {
        sequence.wrapping_sub(self.tail) < end.wrapping_sub(self.tail)
    }

    /// Ends a request's wait. `None` if it had ended before.
    fn give_up(&mut self, sequence: u32) -> Option<Asked> {
        let asked = self.slot(sequence).take();
        if asked.is_some() && !self.is_before(sequence, self.overdue) {
            self.waiting -= 1;
        }
        asked
    }

    fn slot(&mut self, sequence: u32) -> &mut Option<Asked> {
        let mask = self.slots.len() - 1;
        &mut self.slots[usize::try_from(sequence).unwrap_or(0) & mask]
    }
}

#[cfg(test)]
mod tests {
    use crate::core::kind::RequestKind;

    use super::*;

    const LATE: u64 = 1_000;
    const LOST: u64 = 3_000;

    fn in_flight(capacity: u32) -> InFlight {
        // Sequence numbers wrap within the first steps of each test.
        let mut in_flight = InFlight::new(capacity, LATE, LOST, 0x1234_5678);
        in_flight.head = u32::MAX - 1;
        in_flight.overdue = in_flight.head;
        in_flight.tail = in_flight.head;
        in_flight
    }

    fn announce(item: u32, due_micros: u64) -> Asked {
        Asked {
            kind: RequestKind::Announce,
            item,
            due_micros,
        }
    }

    fn begin(in_flight: &mut InFlight, asked: Asked) -> TransactionId {
        let (id, displaced) = in_flight.begin(asked);
        assert_eq!(displaced, None);
        id
    }

    fn all(next: impl FnMut() -> Option<Asked>) -> Vec<u32> {
        std::iter::from_fn(next).map(|asked| asked.item).collect()
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut ring = in_flight(4);
        let ids: Vec<_> = (0..4)
            .map(|item| begin(&mut ring, announce(item, 0)))
            .collect();
        assert_eq!(ring.waiting(), 4);
        for item in [2, 0, 3, 1] {
            let id = ids[usize::try_from(item).unwrap()];
            assert_eq!(ring.settle(id), Ok(announce(item, 0)));
            assert_eq!(ring.settle(id), Err(Fault::Duplicate));
        }
        assert_eq!(ring.waiting(), 0);
        assert_eq!(ring.next_overdue(0), None);
        assert_eq!(ring.next_lost(0), None);
        assert!(ring.is_settled());
        assert_eq!(ring.settle(ids[0]), Err(Fault::UnknownTransaction));
    }

    #[test]
    fn strange_answers_change_nothing() {
        let mut ring = in_flight(4);
        begin(&mut ring, announce(1, 0));
        assert_eq!(
            ring.settle(TransactionId([0; 4])),
            Err(Fault::UnknownTransaction)
        );
        assert_eq!(ring.waiting(), 1);
    }

    #[test]
    fn an_overdue_answer_still_counts() {
        let mut ring = in_flight(4);
        let id = begin(&mut ring, announce(1, 0));
        begin(&mut ring, announce(2, 500));
        assert_eq!(ring.next_overdue(LATE), None);
        assert_eq!(all(|| ring.next_overdue(LATE + 1)), [1]);
        assert_eq!(ring.waiting(), 1);
        assert_eq!(ring.next_lost(LOST), None);
        assert!(ring.is_late(0, LATE + 1) && !ring.is_late(0, LATE));
        assert_eq!(ring.settle(id), Ok(announce(1, 0)));
        assert_eq!(ring.settle(id), Err(Fault::Duplicate));
        assert_eq!(ring.waiting(), 1);
    }

    #[test]
    fn what_is_never_answered_is_lost_once() {
        let mut ring = in_flight(8);
        let ids: Vec<_> = (0..4)
            .map(|item| begin(&mut ring, announce(item, 0)))
            .collect();
        assert!(ring.settle(ids[1]).is_ok());
        assert_eq!(all(|| ring.next_overdue(LOST + 1)), [0, 2, 3]);
        assert_eq!(all(|| ring.next_lost(LOST)), [0; 0]);
        assert_eq!(all(|| ring.next_lost(LOST + 1)), [0, 2, 3]);
        assert!(ring.is_settled());
        assert_eq!(ring.waiting(), 0);
        assert_eq!(ring.settle(ids[0]), Err(Fault::UnknownTransaction));
    }

    #[test]
    fn a_full_ring_gives_up_the_oldest() {
        let mut ring = in_flight(2);
        let first = begin(&mut ring, announce(0, 0));
        let second = begin(&mut ring, announce(1, 0));
        let (_, displaced) = ring.begin(announce(2, 0));
        assert_eq!(displaced, Some(announce(0, 0)));
        assert_eq!(ring.settle(first), Err(Fault::UnknownTransaction));
        assert_eq!(ring.waiting(), 2);

        // An answered one makes room without a loss.
        assert!(ring.settle(second).is_ok());
        let (_, displaced) = ring.begin(announce(3, 0));
        assert_eq!(displaced, None);
        assert_eq!(all(|| ring.next_overdue(LATE + 1)), [2, 3]);
        assert_eq!(all(|| ring.next_lost(LOST + 1)), [2, 3]);
    }

    #[test]
    fn a_full_ring_displaces_an_overdue_one() {
        let mut ring = in_flight(2);
        begin(&mut ring, announce(0, 0));
        begin(&mut ring, announce(1, 0));
        assert_eq!(all(|| ring.next_overdue(LATE + 1)), [0, 1]);
        assert_eq!(ring.waiting(), 0);
        let (_, displaced) = ring.begin(announce(2, LATE));
        assert_eq!(displaced, Some(announce(0, 0)));
        assert_eq!(ring.waiting(), 1);
        assert_eq!(all(|| ring.next_lost(LOST + 1)), [1]);
    }

    #[test]
    fn a_slot_takes_sixteen_bytes() {
        assert_eq!(size_of::<Option<Asked>>(), 16);
    }
}
