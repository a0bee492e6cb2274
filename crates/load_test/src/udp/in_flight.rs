//! Requests that wait for their answers.
//!
//! A ring that is allocated once: a request's place follows from its transaction id, so noting and
//! finding one costs a few instructions. Requests are noted in the order of their times, so those
//! whose time is over are found at the ring's tail.
//!
//! An answer that takes longer than `late_after` is late. A request without an answer for
//! `lost_after` is lost, and so is one whose place is needed by a new one.

use aquatic_udp_protocol::TransactionId;

use crate::core::kind::RequestKind;
use crate::core::tally::Asked;

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The first answer to this request.
    First(Asked),
    /// The request had been answered already.
    Duplicate,
    /// No such request: never sent, or given up as lost.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Neither waiting nor overdue: free, or answered.
    Settled,
    /// Sent, and there is still time.
    Waiting,
    /// Not answered in time. An answer may still come.
    Overdue,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    due_micros: u64,
    item: u32,
    kind: RequestKind,
    state: State,
}

/// The requests of one socket that wait for their answers.
#[derive(Debug)]
pub struct InFlight {
    slots: Box<[Slot]>,
    /// Sequence number of the next request.
    head: u32,
    /// Everything before it has been looked at for being overdue.
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
        let free = Slot {
            due_micros: 0,
            item: 0,
            kind: RequestKind::Connect,
            state: State::Settled,
        };
        Self {
            slots: (0..capacity).map(|_| free).collect(),
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
        *self.slot(sequence) = Slot {
            due_micros: asked.due_micros,
            item: asked.item,
            kind: asked.kind,
            state: State::Waiting,
        };
        (
            TransactionId((sequence ^ self.salt).to_be_bytes()),
            displaced,
        )
    }

    /// Finds the request that an answer belongs to, and ends its wait.
    pub fn settle(&mut self, transaction_id: TransactionId) -> Settled {
        let sequence = u32::from_be_bytes(transaction_id.0) ^ self.salt;
        if !self.remembers(sequence) {
            return Settled::Unknown;
        }
        match self.give_up(sequence) {
            Some(asked) => Settled::First(asked),
            None => Settled::Duplicate,
        }
    }

    /// Whether an answer that comes now to a request of `due_micros` is late.
    fn is_late(&self, due_micros: u64, now_micros: u64) -> bool {
        now_micros.saturating_sub(due_micros) > self.late_after_micros
    }

    /// The next request that has become overdue: no answer within `late_after`. It no longer counts
    /// as [`waiting`](Self::waiting), though its answer may still come.
    pub fn next_overdue(&mut self, now_micros: u64) -> Option<Asked> {
        while self.overdue != self.head {
            let slot = *self.slot(self.overdue);
            let is_waiting = slot.state == State::Waiting;
            if is_waiting && !self.is_late(slot.due_micros, now_micros) {
                return None;
            }
            if is_waiting {
                self.slot(self.overdue).state = State::Overdue;
                self.waiting -= 1;
            }
            self.overdue = self.overdue.wrapping_add(1);
            if is_waiting {
                return Some(slot.asked());
            }
        }
        None
    }

    /// The next request that has to be given up as lost: no answer within `lost_after`.
    pub fn next_lost(&mut self, now_micros: u64) -> Option<Asked> {
        while self.tail != self.overdue {
            let slot = *self.slot(self.tail);
            let is_open = slot.state != State::Settled;
            if is_open && now_micros.saturating_sub(slot.due_micros) <= self.lost_after_micros {
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

    /// Whether a sequence number lies between tail and head.
    fn remembers(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.tail) < self.head.wrapping_sub(self.tail)
    }

    /// Ends a request's wait. `None` if it had ended before.
    fn give_up(&mut self, sequence: u32) -> Option<Asked> {
        let slot = self.slot(sequence);
        let state = std::mem::replace(&mut slot.state, State::Settled);
        let asked = slot.asked();
        if state == State::Waiting {
            self.waiting -= 1;
        }
        (state != State::Settled).then_some(asked)
    }

    fn slot(&mut self, sequence: u32) -> &mut Slot {
        let mask = self.slots.len() - 1;
        &mut self.slots[usize::try_from(sequence).unwrap_or(0) & mask]
    }
}

impl Slot {
    fn asked(&self) -> Asked {
        Asked {
            kind: self.kind,
            item: self.item,
            due_micros: self.due_micros,
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(ring.settle(id), Settled::First(announce(item, 0)));
            assert_eq!(ring.settle(id), Settled::Duplicate);
        }
        assert_eq!(ring.waiting(), 0);
        assert_eq!(ring.next_overdue(0), None);
        assert_eq!(ring.next_lost(0), None);
        assert!(ring.is_settled());
        assert_eq!(ring.settle(ids[0]), Settled::Unknown);
    }

    #[test]
    fn strange_answers_change_nothing() {
        let mut ring = in_flight(4);
        begin(&mut ring, announce(1, 0));
        assert_eq!(ring.settle(TransactionId([0; 4])), Settled::Unknown);
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
        assert_eq!(ring.settle(id), Settled::First(announce(1, 0)));
        assert_eq!(ring.settle(id), Settled::Duplicate);
        assert_eq!(ring.waiting(), 1);
    }

    #[test]
    fn what_is_never_answered_is_lost_once() {
        let mut ring = in_flight(8);
        let ids: Vec<_> = (0..4)
            .map(|item| begin(&mut ring, announce(item, 0)))
            .collect();
        ring.settle(ids[1]);
        assert_eq!(all(|| ring.next_overdue(LOST + 1)), [0, 2, 3]);
        assert_eq!(all(|| ring.next_lost(LOST)), [0; 0]);
        assert_eq!(all(|| ring.next_lost(LOST + 1)), [0, 2, 3]);
        assert!(ring.is_settled());
        assert_eq!(ring.waiting(), 0);
        assert_eq!(ring.settle(ids[0]), Settled::Unknown);
    }

    #[test]
    fn a_full_ring_gives_up_the_oldest() {
        let mut ring = in_flight(2);
        let first = begin(&mut ring, announce(0, 0));
        let second = begin(&mut ring, announce(1, 0));
        let (_, displaced) = ring.begin(announce(2, 0));
        assert_eq!(displaced, Some(announce(0, 0)));
        assert_eq!(ring.settle(first), Settled::Unknown);
        assert_eq!(ring.waiting(), 2);

        // An answered one makes room without a loss.
        ring.settle(second);
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
        assert_eq!(size_of::<Slot>(), 16);
    }
}
