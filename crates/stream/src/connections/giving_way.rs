//! Which connections are closed for the sake of others: for want of room for another one, and for
//! want of memory.

use std::cmp::Reverse;
use std::mem;

use aquatic_types::client_network;

use super::{Connections, find};
use crate::connection::Stage;
use crate::eviction::{CHOSEN_MIN, Candidate, LOOKED_MAX, LOOKED_PER_CHOSEN, Rank};
use crate::{Bounds, Closed, ConnectionId, Deadline, SessionMemory};

/// So few connections are looked at as often as need be.
const LOOKED_FREELY_MAX: usize = 1_024;

impl<S: SessionMemory> Connections<S> {
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
        let is_waiting = connection.input.is_empty() && connection.pending() == 0;
        let rank = match (&connection.stage, connection.waits_for) {
            _ if connection.ended.is_some() => return None,
            (Stage::Header(_) | Stage::Handshake(_), _) => {
                Rank::Unfinished(since(handshake_seconds))
            }
            (Stage::Lingering { .. }, _) => Rank::Unfinished(since(Bounds::LINGER_SECONDS)),
            _ if connection.is_blocked => Rank::Unfinished(since(idle_seconds)),
            (Stage::Open(_), Deadline::Request) => Rank::Unfinished(since(request_seconds)),
            (Stage::Open(_), Deadline::Idle) if is_waiting => Rank::Idle(since(idle_seconds)),
            (Stage::Open(_), Deadline::Idle | Deadline::None) => Rank::Busy,
        };
        Some(Candidate {
            client: client_network(connection.ip),
            rank,
            weight: 1,
            gives_way: rank != Rank::Busy,
            id: self.id(slot)?.to_bits(),
            deadline,
        })
    }

    fn id(&self, slot: usize) -> Option<ConnectionId> {
        Some(ConnectionId {
            slot: u32::try_from(slot).ok()?,
            generation: self.slots.get(slot)?.generation,
        })
    }

    /// Something has happened to a connection: counts what it holds now. If that is too much with
    /// all that others hold, those that hold most give way.
    pub(crate) fn recount(&mut self, id: ConnectionId) {
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        let bytes = connection.held_bytes(&self.bounds);
        self.memory.recount(&mut connection.counted_bytes, bytes);
        if self.memory.is_over() {
            self.make_room();
        }
    }

    #[cold]
    fn make_room(&mut self) {
        self.forget_buffers();
        let mut may_choose = self.may_look_for_holders();
        while self.memory.is_over() && self.dismiss(&mut may_choose) {}
    }

    /// Lets those that hold most give way, if others have been waiting for too long because of
    /// them. To be called once per second.
    pub(crate) fn relieve(&mut self) {
        if !self.memory.is_tight() {
            return;
        }
        self.forget_buffers();
        let mut held_back = mem::take(&mut self.held_back);
        held_back.retain(|id| self.get(*id).is_some_and(|it| it.ended.is_none()));
        self.held_back = held_back;
        if self.held_back.is_empty() {
            return;
        }
        let mut may_choose = self.may_look_for_holders();
        while self.memory.is_half_full() && self.dismiss(&mut may_choose) {}
    }

    /// Has those read from again that were held back, if there is room for what they send.
    pub(crate) fn read_on(&mut self) {
        if self.held_back.is_empty() || self.memory.is_tight() {
            return;
        }
        for id in mem::take(&mut self.held_back) {
            if let Some(connection) = self.get(id) {
                connection.is_held_back = false;
                self.mark_dirty(id);
            }
        }
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
            if connection.ended.is_some() || connection.counted_bytes < candidate.weight / 2 {
                continue;
            }
            connection.ended = Some(Closed::Memory);
            (connection.input, connection.output) = (Vec::new(), Vec::new());
            connection.sent = 0;
            self.memory.recount(&mut connection.counted_bytes, 0);
            self.mark_dirty(id);
            return true;
        }
    }

    fn may_look_for_holders(&self) -> bool {
        self.slots.len() <= LOOKED_FREELY_MAX || self.holders.may_choose(self.now)
    }

    fn holder(&self, slot: usize) -> Option<Candidate<Reverse<usize>>> {
        let connection = self.slots.get(slot)?.connection.as_ref()?;
        let bytes = connection.counted_bytes;
        (bytes > 0 && connection.ended.is_none()).then_some(Candidate {
            client: client_network(connection.ip),
            rank: Reverse(bytes),
            weight: bytes,
            gives_way: true,
            id: self.id(slot)?.to_bits(),
            deadline: 0,
        })
    }

    /// Bytes that all connections hold, buffers that are kept for the next one included.
    #[must_use]
    pub(crate) fn held_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The same, counted anew.
    #[must_use]
    pub(crate) fn count_held_bytes(&self) -> usize {
        let connections = self
            .slots
            .iter()
            .filter_map(|slot| slot.connection.as_ref());
        let held: usize = connections.map(|it| it.held_bytes(&self.bounds)).sum();
        held + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }
}
