//! Which connections are closed for the sake of others: for want of room for another one, and for
//! want of memory.

use std::cmp::Reverse;
use std::mem;

use aquatic_types::Seconds;

use super::{Connections, find, look};
use crate::connection::{Connection, Stage};
use crate::eviction::{
    CHOSEN_MIN, Candidate, FIRST_REQUEST_SECONDS, LOOKED_MAX, LOOKED_PER_CHOSEN, Rank,
};
use crate::kept::Kept;
use crate::memory::{Counted, Memory};
use crate::{Bounds, Closed, ConnectionId, Deadline, SessionState};

/// So few connections are looked at as often as need be.
const LOOKED_FREELY_MAX: usize = 1_024;

/// So long those with much to send wait for others that hold more and do nothing with it.
const HELD_BACK_SECONDS: u32 = 1;

impl<S: SessionState> Connections<S> {
    /// Ends a connection to make room for another. `None` if there is none that may give way.
    pub(crate) fn evict(&mut self) -> Option<ConnectionId> {
        let mut may_choose = self.eviction.may_choose(self.now);
        loop {
            let Some(candidate) = self.eviction.next(self.now) else {
                if !mem::take(&mut may_choose) {
                    return None;
                }
                let places = self.sample(self.eviction.offset);
                let mut looked: Vec<_> = places.filter_map(|slot| self.candidate(slot)).collect();
                let wanted = (looked.len() / LOOKED_PER_CHOSEN).max(CHOSEN_MIN);
                self.eviction.choose(self.now, &mut looked, wanted);
                continue;
            };
            let id = ConnectionId::from_bits(candidate.id);
            let is_as_it_was =
                usize::try_from(id.slot).is_ok_and(|slot| self.candidate(slot) == Some(candidate));
            if is_as_it_was {
                self.end(id, Closed::Evicted);
                return Some(id);
            }
        }
    }

    /// The places of all connections, or of a sample: another one for each `offset`.
    fn sample(&self, offset: usize) -> impl Iterator<Item = usize> + use<S> {
        let step = self.sample_step();
        (offset % step..self.slots.len()).step_by(step)
    }

    fn sample_step(&self) -> usize {
        self.slots.len().div_ceil(LOOKED_MAX).max(1)
    }

    fn candidate(&self, slot: usize) -> Option<Candidate<Rank>> {
        let (place, deadline) = (self.slots.get(slot)?, *self.deadlines.get(slot)?);
        let connection = place.connection.as_ref()?;
        let Bounds {
            handshake_seconds,
            request_seconds,
            idle_seconds,
            ..
        } = self.bounds;
        // The time begins in the second after.
        let since = |seconds: u32| deadline.saturating_sub(seconds.saturating_add(1));
        let is_stalled =
            |since: u32| connection.is_new && since + FIRST_REQUEST_SECONDS <= self.now.seconds.0;
        let unfinished = |since: u32| match is_stalled(since) {
            true => Rank::Stalled(since),
            false => Rank::Unfinished(since),
        };
        let is_waiting = connection.input.is_empty() && connection.pending() == 0;
        let rank = match (&connection.stage, connection.waits_for) {
            _ if connection.ended.is_some() => return None,
            (Stage::Header(_) | Stage::Handshake(_), _) => unfinished(since(handshake_seconds)),
            (Stage::Lingering { .. }, _) => Rank::Unfinished(since(Bounds::LINGER_SECONDS)),
            _ if connection.is_blocked => Rank::Unfinished(since(idle_seconds)),
            (Stage::Open(session), _) if session.is_asked() => Rank::Busy,
            (Stage::Open(_), Deadline::Request) => unfinished(since(request_seconds)),
            (Stage::Open(_), Deadline::Idle) if is_waiting => Rank::Idle(since(idle_seconds)),
            (Stage::Open(_), Deadline::Idle | Deadline::None) => Rank::Busy,
        };
        Some(Candidate {
            client: connection.client,
            rank,
            weight: 1,
            gives_way: rank != Rank::Busy,
            id: self.id(slot)?.to_bits(),
            deadline,
        })
    }

    pub(super) fn id(&self, slot: usize) -> Option<ConnectionId> {
        Some(ConnectionId {
            slot: u32::try_from(slot).ok()?,
            generation: self.slots.get(slot)?.generation,
        })
    }

    /// Something has happened to a connection: counts what it holds now. If that is too much with
    /// all that others hold, those that hold most give way.
    ///
    /// One that holds next to nothing is left out as long as there is plenty of room. It has no
    /// output when the round is over: or it has, and is blocked, and then it is counted.
    pub(crate) fn recount(&mut self, id: ConnectionId) {
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        if self.has_plenty && connection.is_light() {
            return;
        }
        self.count(id);
        if self.memory.is_over() {
            self.make_room();
        }
    }

    /// A round has come to its answers.
    pub(crate) fn look_for_plenty(&mut self) {
        self.has_plenty = self.memory.has_plenty(self.len());
    }

    /// Counts what a connection holds now.
    pub(super) fn count(&mut self, id: ConnectionId) {
        if let Some(connection) = find(&mut self.slots, id) {
            let now = connection.count(&self.bounds);
            self.memory.recount(&mut connection.counted, now);
        }
    }

    #[cold]
    pub(super) fn make_room(&mut self) {
        self.forget_buffers();
        let mut may_choose = self.may_look_for_holders();
        while self.memory.is_over() && self.dismiss(&mut may_choose) {}
    }

    /// Leaves the input of a connection with the kernel if it holds more than its share of too
    /// much. It is [read from again](Self::read_on) when it does not any more.
    pub(crate) fn hold_back(&mut self, id: ConnectionId) {
        let now = self.now.seconds;
        if let Some(connection) = find(&mut self.slots, id)
            && connection.may_be_read(&self.bounds)
            && connection.is_over(self.memory.share())
            && !connection.is_held_back
        {
            connection.is_held_back = true;
            self.held_back.push((id, now));
            self.count(id);
        }
    }

    /// Lets those that hold most give way, if others have been waiting for too long because of
    /// them. To be called once per second.
    pub(crate) fn relieve(&mut self) {
        if !self.memory.is_tight() {
            return;
        }
        self.forget_buffers();
        self.let_go(self.memory.share());
        let now = self.now.seconds;
        let is_waiting = |(id, since): &(ConnectionId, Seconds)| {
            let has_unread = |it: &Connection<S>| it.counted.unread_bytes > 0 && it.ended.is_none();
            *since + HELD_BACK_SECONDS < now && look(&self.slots, *id).is_some_and(has_unread)
        };
        if !self.held_back.iter().any(is_waiting) {
            return;
        }
        let mut may_choose = self.may_look_for_holders();
        while self.memory.is_half_full() && self.dismiss(&mut may_choose) {}
    }

    /// Has those read from again that were held back, if there is room for what they send.
    pub(crate) fn read_on(&mut self) {
        if !self.held_back.is_empty() && !self.memory.is_tight() {
            self.let_go(usize::MAX);
        }
    }

    /// Has those read from again that hold no more than their share.
    fn let_go(&mut self, share: usize) {
        let mut held_back = mem::take(&mut self.held_back);
        held_back.retain(|(id, _)| {
            let Some(connection) = find(&mut self.slots, *id) else {
                return false;
            };
            if connection.is_over(share) {
                return true;
            }
            connection.is_held_back = false;
            self.count(*id);
            self.mark_dirty(*id);
            false
        });
        self.held_back = held_back;
    }

    fn forget_buffers(&mut self) {
        self.buffers = Vec::new();
        self.memory.pooled_bytes = 0;
    }

    /// Ends one of the connections that hold most. Returns whether there was any.
    fn dismiss(&mut self, may_choose: &mut bool) -> bool {
        loop {
            let Some(candidate) = self.holders.next(self.now) else {
                if !mem::take(may_choose) {
                    return false;
                }
                let places = self.sample(self.holders.offset);
                let mut looked: Vec<_> = places.filter_map(|slot| self.holder(slot)).collect();
                let wanted = self.memory.wanted() / self.sample_step();
                self.holders.choose(self.now, &mut looked, wanted);
                *may_choose = !looked.is_empty() && self.may_look_for_holders();
                continue;
            };
            let id = ConnectionId::from_bits(candidate.id);
            let Some(connection) = find(&mut self.slots, id) else {
                continue;
            };
            // It may have got rid of the most meanwhile.
            if connection.ended.is_some() || connection.counted.held_bytes() < candidate.weight / 2
            {
                continue;
            }
            connection.ended = Some(Closed::Memory);
            connection.input = Kept::default();
            (connection.output, connection.sent) = (Vec::new(), 0);
            self.memory
                .recount(&mut connection.counted, Counted::default());
            self.mark_dirty(id);
            return true;
        }
    }

    fn may_look_for_holders(&self) -> bool {
        self.slots.len() <= LOOKED_FREELY_MAX || self.holders.may_choose(self.now)
    }

    fn holder(&self, slot: usize) -> Option<Candidate<Reverse<usize>>> {
        let connection = self.slots.get(slot)?.connection.as_ref()?;
        // Buffers go round: an answer of a few bytes may be in a large one for a moment.
        let unused = connection.output.capacity() - connection.pending();
        let bytes = connection.counted.held_bytes().saturating_sub(unused);
        (bytes > 0 && connection.ended.is_none()).then_some(Candidate {
            client: connection.client,
            rank: Reverse(bytes),
            weight: bytes,
            gives_way: true,
            id: self.id(slot)?.to_bits(),
            deadline: 0,
        })
    }

    /// Bytes that all connections are known to hold, buffers that are kept for the next one
    /// included; and the same with all that the kernel may keep besides.
    #[must_use]
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        (self.memory.bytes(), self.memory.bytes_at_most())
    }

    /// Bytes of those that are [left out](Self::recount) until they have been sent.
    #[must_use]
    pub(crate) fn uncounted_bytes(&self) -> usize {
        let connections = self.slots.iter().filter_map(|it| it.connection.as_ref());
        let light = connections.filter(|it| it.is_light());
        light.map(|it| it.output.capacity()).sum()
    }

    /// The same as [`Self::held_bytes`], counted anew.
    #[must_use]
    pub(crate) fn count_held_bytes(&self) -> (usize, usize) {
        let mut memory = Memory::new(usize::MAX);
        memory.pooled_bytes = self.buffers.iter().map(Vec::capacity).sum();
        let connections = self.slots.iter().filter_map(|it| it.connection.as_ref());
        for connection in connections {
            memory.recount(&mut Counted::default(), connection.count(&self.bounds));
        }
        (memory.bytes(), memory.bytes_at_most())
    }
}
