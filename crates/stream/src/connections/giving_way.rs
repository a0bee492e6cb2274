//! Which connections are closed for the sake of others: for want of room for another one, and for
//! want of memory.

use std::cmp::Reverse;
use std::mem;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

use super::Table;
use crate::bounds::Bounds;
use crate::connection::Phase;
use crate::counters::Closed;
use crate::eviction::{
    CHOSEN_MIN, Candidate, FIRST_REQUEST_SECONDS, LOOKED_MAX, LOOKED_PER_CHOSEN, Rank,
};
use crate::handler::{ConnectionKey, WaitingFor};
use crate::memory::{Counted, Memory, SessionState};

/// So few connections are looked at as often as need be.
const LOOKED_FREELY_MAX: usize = 1_024;

/// So long those with much to send wait for others that hold more and do nothing with it.
const HELD_BACK_SECONDS: u32 = 1;

impl<S: SessionState> Table<S> {
    /// Ends a connection to make room for another. `None` if there is none that may give way.
    pub(crate) fn evict(&mut self, now: Now) -> Option<ConnectionKey> {
        let mut may_choose = self.eviction.may_choose(now);
        loop {
            let Some(candidate) = self.eviction.next(now) else {
                if !mem::take(&mut may_choose) {
                    return None;
                }
                let places = self.sample(self.eviction.offset);
                let mut looked: Vec<_> = places.filter_map(|it| self.candidate(now, it)).collect();
                let wanted = (looked.len() / LOOKED_PER_CHOSEN).max(CHOSEN_MIN);
                self.eviction.choose(now, &mut looked, wanted);
                continue;
            };
            let key = ConnectionKey::from_bits(candidate.key);
            let is_as_it_was = self.candidate(now, key.index()) == Some(candidate);
            if is_as_it_was && let Some((connection, mut cx)) = self.enter(now, key) {
                connection.end(&mut cx, Closed::Evicted);
                return Some(key);
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

    fn candidate(&self, now: Now, slot: usize) -> Option<Candidate<Rank>> {
        let (place, deadline) = (self.slots.get(slot)?, *self.deadlines.get(slot)?);
        let connection = place.connection.as_ref()?;
        let Bounds {
            handshake_seconds,
            request_seconds,
            idle_seconds,
            ..
        } = self.shared.bounds;
        // The time begins in the second after.
        let since = |seconds: u32| deadline.saturating_sub(seconds.saturating_add(1));
        let is_stalled =
            |since: u32| connection.is_new && since + FIRST_REQUEST_SECONDS <= now.seconds.0;
        let unfinished = |since: u32| match is_stalled(since) {
            true => Rank::Stalled(since),
            false => Rank::Unfinished(since),
        };
        let is_waiting = connection.input.is_empty() && connection.pending() == 0;
        let rank = match &connection.phase {
            Phase::Ended { .. } | Phase::Gone => return None,
            Phase::ProxyHeader(_) | Phase::Handshake(_) => unfinished(since(handshake_seconds)),
            Phase::Lingering { .. } => Rank::Unfinished(since(Bounds::LINGER_SECONDS)),
            Phase::Open { session, waits_for }
            | Phase::Draining {
                session, waits_for, ..
            } => match waits_for {
                _ if connection.is_blocked() => Rank::Unfinished(since(idle_seconds)),
                _ if session.awaits_response() => Rank::Busy,
                WaitingFor::Request => unfinished(since(request_seconds)),
                WaitingFor::Idle if is_waiting => Rank::Idle(since(idle_seconds)),
                WaitingFor::Idle | WaitingFor::Tracker => Rank::Busy,
            },
        };
        Some(Candidate {
            client: connection.client,
            rank,
            weight: 1,
            gives_way: rank != Rank::Busy,
            key: self.key(slot)?.to_bits(),
            deadline,
        })
    }

    /// Something has happened to a connection. If all of them hold too much now, those that hold
    /// most give way.
    pub(crate) fn keep_in_bounds(&mut self, now: Now) {
        if self.shared.memory.is_over() {
            self.make_room(now);
        }
    }

    #[cold]
    fn make_room(&mut self, now: Now) {
        self.shared.forget_buffers();
        let mut may_choose = self.may_look_for_holders(now);
        while self.shared.memory.is_over() && self.dismiss(now, &mut may_choose) {}
    }

    /// A round has come to its answers.
    pub(crate) fn look_for_plenty(&mut self) {
        self.shared.has_plenty = self.shared.memory.has_plenty(self.len());
    }

    /// Lets those that hold most give way, if others have been waiting for too long because of
    /// them. To be called once per second.
    pub(crate) fn relieve(&mut self, now: Now) {
        if !self.shared.memory.is_tight() {
            return;
        }
        self.shared.forget_buffers();
        self.let_go(now, self.shared.memory.share());
        let is_waiting = |(key, since): &(ConnectionKey, Seconds)| {
            *since + HELD_BACK_SECONDS < now.seconds
                && self
                    .get(*key)
                    .is_some_and(|it| it.counted.unread_bytes > 0 && !it.has_ended())
        };
        if !self.shared.held_back.iter().any(is_waiting) {
            return;
        }
        let mut may_choose = self.may_look_for_holders(now);
        while self.shared.memory.is_half_full() && self.dismiss(now, &mut may_choose) {}
    }

    /// Has those read from again that were held back, if there is room for what they send.
    pub(crate) fn read_on(&mut self, now: Now) {
        if !self.shared.held_back.is_empty() && !self.shared.memory.is_tight() {
            self.let_go(now, usize::MAX);
        }
    }

    /// Has those read from again that hold no more than their share.
    fn let_go(&mut self, now: Now, share: usize) {
        let mut held_back = mem::take(&mut self.shared.held_back);
        held_back.retain(|(key, _)| {
            let Some((connection, mut cx)) = self.enter(now, *key) else {
                return false;
            };
            if connection.is_over(share) {
                return true;
            }
            connection.is_held_back = false;
            connection.recount_always(&mut cx);
            connection.enqueue(&mut cx);
            false
        });
        self.shared.held_back = held_back;
    }

    /// Ends one of the connections that hold most. Returns whether there was any.
    fn dismiss(&mut self, now: Now, may_choose: &mut bool) -> bool {
        loop {
            let Some(candidate) = self.holders.next(now) else {
                if !mem::take(may_choose) {
                    return false;
                }
                let places = self.sample(self.holders.offset);
                let mut looked: Vec<_> = places.filter_map(|slot| self.holder(slot)).collect();
                let wanted = self.shared.memory.wanted() / self.sample_step();
                self.holders.choose(now, &mut looked, wanted);
                *may_choose = !looked.is_empty() && self.may_look_for_holders(now);
                continue;
            };
            let key = ConnectionKey::from_bits(candidate.key);
            // It may have got rid of the most meanwhile.
            if let Some((connection, mut cx)) = self.enter(now, key)
                && !connection.has_ended()
                && connection.counted.held_bytes() >= candidate.weight / 2
            {
                connection.end(&mut cx, Closed::Memory);
                return true;
            }
        }
    }

    fn may_look_for_holders(&self, now: Now) -> bool {
        self.slots.len() <= LOOKED_FREELY_MAX || self.holders.may_choose(now)
    }

    fn holder(&self, slot: usize) -> Option<Candidate<Reverse<usize>>> {
        let connection = self.slots.get(slot)?.connection.as_ref()?;
        // Buffers go round: an answer of a few bytes may be in a large one for a moment.
        let unused = connection.output.capacity() - connection.pending();
        let bytes = connection.counted.held_bytes().saturating_sub(unused);
        (bytes > 0 && !connection.has_ended()).then_some(Candidate {
            client: connection.client,
            rank: Reverse(bytes),
            weight: bytes,
            gives_way: true,
            key: self.key(slot)?.to_bits(),
            deadline: 0,
        })
    }

    /// Bytes that all connections are known to hold, buffers that are kept for the next one
    /// included; and the same with all that the kernel may keep besides.
    #[must_use]
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        let memory = &self.shared.memory;
        (memory.bytes(), memory.bytes_at_most())
    }

    /// Bytes of those that are [left out](crate::connection::Connection::recount) until they have
    /// been sent.
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
        memory.pooled_bytes = self.shared.pool.bytes();
        let connections = self.slots.iter().filter_map(|it| it.connection.as_ref());
        for connection in connections {
            memory.recount(
                &mut Counted::default(),
                connection.count(&self.shared.bounds),
            );
        }
        (memory.bytes(), memory.bytes_at_most())
    }
}
