//! The connections of one worker.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use aquatic_daemon::clock::Now;

use crate::bounds::Bounds;
use crate::connection::{Connection, Phase};
use crate::counters::{Closed, StreamCounters};
use crate::eviction::{Eviction, Rank};
use crate::handler::{Client, ConnectionKey, Io};
use crate::memory::{Counted, SessionState};

mod asking;
mod giving_way;
mod invariants;
mod shared;

use asking::Asking;
use shared::{NEVER, Shared};

pub(crate) use shared::Cx;

/// The connections of one worker at one moment, seen by its
/// [`Handler`](crate::handler::Handler).
pub struct Connections<'a, S> {
    table: &'a mut Table<S>,
    now: Now,
}

/// The connections of one worker.
///
/// Whoever does something to one of them [looks it up](Self::enter) once. What it holds then is
/// counted by its own operations; whether that is too much with all others is
/// [looked at](Self::keep_in_bounds) afterwards, since another one may have to give way.
pub(crate) struct Table<S> {
    slots: Vec<Slot<S>>,
    /// When each slot's time is over, in seconds; [`NEVER`] for most that wait for us. Apart from
    /// the slots, because all of them are looked through once per second.
    deadlines: Vec<u32>,
    free: Vec<u32>,
    pub(crate) shared: Shared,
    /// Who gives way to another connection.
    eviction: Eviction<Rank>,
    /// Who gives way if all of them hold too much: those that hold most.
    holders: Eviction<Reverse<usize>>,
    /// Of which of them it is not known what the kernel keeps.
    asking: Asking,
    /// The one that the loop flushes now.
    flushed: Option<ConnectionKey>,
}

struct Slot<S> {
    generation: u32,
    connection: Option<Connection<S>>,
}

impl<S> Connections<'_, S> {
    /// Bytes that each connection takes, whatever it holds. For assertions: this is memory that
    /// idle clients cost.
    pub const BYTES_EACH: usize = size_of::<Slot<S>>();
}

impl<S: SessionState> Connections<'_, S> {
    /// Calls an open connection's session, which can send and close. `None` if the connection has
    /// gone or is closing.
    pub fn with<R>(
        &mut self,
        key: ConnectionKey,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        self.table.with(self.now, key, Closed::BySession, call)
    }

    /// Whether a connection is there whose session can be [called](Self::with).
    #[must_use]
    pub fn is_open(&self, key: ConnectionKey) -> bool {
        self.table.get(key).is_some_and(Connection::is_open)
    }

    /// Offers the session the bytes that it has not taken once more, when this batch has been
    /// [finished](crate::handler::Handler::finish). If there are none, the session is called (with
    /// nothing) only if the client has ended its side, so that it can close.
    pub fn resume(&mut self, key: ConnectionKey) {
        if let Some((connection, mut cx)) = self.table.enter(self.now, key)
            && (!connection.input.is_empty() || connection.input_ended())
        {
            connection.list(&mut cx);
        }
    }

    /// Closes what was encrypted with a certificate of before `generation` (see
    /// [`TlsConfig`](crate::tls::TlsConfig)), or is about to be.
    pub fn close_tls_before(&mut self, generation: u32) {
        for place in 0..self.places() {
            let key = self.table.key(place);
            let Some((connection, mut cx)) = key.and_then(|it| self.table.enter(self.now, it))
            else {
                continue;
            };
            let tls = connection.tls.as_ref();
            if tls.is_none_or(|tls| tls.generation >= generation) {
                continue;
            }
            if let Phase::Handshake(_) = connection.phase {
                // It would go on with the old one when the handshake is complete.
                connection.end(&mut cx, Closed::BySession);
            } else {
                connection.call(&mut cx, |_, io| io.close());
                connection.recount(&mut cx);
                self.table.keep_in_bounds(self.now);
            }
        }
    }

    /// Places in the table of connections: there are no more of these at once, and have not been.
    #[must_use]
    pub fn places(&self) -> usize {
        self.table.slots.len()
    }

    /// The names of connections at these places, for those who look at all of them a slice at a
    /// time.
    #[must_use]
    pub fn keys(&self, places: Range<usize>) -> Vec<ConnectionKey> {
        self.table.keys(places)
    }
}

impl<S: SessionState> Table<S> {
    pub(crate) fn new(bounds: Bounds, memory_max: usize, counters: Arc<StreamCounters>) -> Self {
        Self {
            slots: Vec::new(),
            deadlines: Vec::new(),
            free: Vec::new(),
            shared: Shared::new(bounds, memory_max, counters),
            eviction: Eviction::default(),
            holders: Eviction::default(),
            asking: Asking::default(),
            flushed: None,
        }
    }

    /// What a handler sees of it.
    pub(crate) fn at(&mut self, now: Now) -> Connections<'_, S> {
        Connections { table: self, now }
    }

    pub(crate) fn get(&self, key: ConnectionKey) -> Option<&Connection<S>> {
        let slot = self.slots.get(key.index())?;
        // Not as a filter of what is there: in the middle of everything, that is slower.
        if slot.generation != key.generation {
            return None;
        }
        slot.connection.as_ref()
    }

    /// A connection to do something to, and what that takes besides.
    pub(crate) fn enter(
        &mut self,
        now: Now,
        key: ConnectionKey,
    ) -> Option<(&mut Connection<S>, Cx<'_>)> {
        let index = key.index();
        let slot = self.slots.get_mut(index)?;
        if slot.generation != key.generation {
            return None;
        }
        let connection = slot.connection.as_mut()?;
        let cx = Cx {
            now,
            key,
            deadline: self.deadlines.get_mut(index)?,
            shared: &mut self.shared,
        };
        Some((connection, cx))
    }

    /// Calls an open connection's session. If that closes the connection, it is for this reason.
    pub(crate) fn with<R>(
        &mut self,
        now: Now,
        key: ConnectionKey,
        why: Closed,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        let (connection, mut cx) = self.enter(now, key)?;
        let result = connection.call_because(&mut cx, why, call)?;
        connection.recount(&mut cx);
        self.keep_in_bounds(now);
        Some(result)
    }

    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn keys(&self, places: Range<usize>) -> Vec<ConnectionKey> {
        let taken = |place: &usize| {
            let slot = self.slots.get(*place);
            slot.is_some_and(|slot| slot.connection.is_some())
        };
        let places = places.start..places.end.min(self.slots.len());
        places.filter(taken).filter_map(|it| self.key(it)).collect()
    }

    fn key(&self, place: usize) -> Option<ConnectionKey> {
        Some(ConnectionKey {
            slot: u32::try_from(place).ok()?,
            generation: self.slots.get(place)?.generation,
        })
    }

    /// Makes room for a connection. `None`: there are [too many](ConnectionKey::PLACES_MAX).
    pub(crate) fn insert(&mut self, now: Now, client: Client) -> Option<ConnectionKey> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.slots.len()).ok()?;
                if place >= ConnectionKey::PLACES_MAX {
                    return None;
                }
                self.slots.push(Slot {
                    generation: 0,
                    connection: None,
                });
                self.deadlines.push(NEVER);
                place
            }
        };
        let index = usize::try_from(place).ok()?;
        self.slots.get_mut(index)?.connection = Some(Connection::new(client));
        let key = self.key(index)?;
        let (connection, mut cx) = self.enter(now, key)?;
        connection.restart_deadline(&mut cx);
        Some(key)
    }

    /// Forgets a connection. Whoever still has its name reaches nobody.
    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<Connection<S>> {
        self.get(key)?;
        let index = key.index();
        let slot = self.slots.get_mut(index)?;
        slot.generation = slot.generation.wrapping_add(1);
        let mut connection = slot.connection.take()?;
        *self.deadlines.get_mut(index)? = NEVER;
        self.free.push(key.slot);
        let shared = &mut self.shared;
        let counted = &mut connection.counted;
        shared.memory.recount(counted, Counted::default());
        shared.keep_buffer(std::mem::take(&mut connection.output));
        Some(connection)
    }

    /// The next one that the loop is to flush.
    pub(crate) fn next_queued(&mut self) -> Option<ConnectionKey> {
        self.flushed = self.shared.queue.pop();
        let key = self.flushed?;
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation == key.generation
            && let Some(connection) = &mut slot.connection
        {
            connection.is_queued = false;
        }
        Some(key)
    }

    /// The loop flushes this one, whether it was told to or not. `None`: not any more.
    pub(crate) fn set_flushed(&mut self, key: Option<ConnectionKey>) {
        self.flushed = key;
    }

    /// Whether the loop is to read from it.
    pub(crate) fn wants_input(&self, key: ConnectionKey) -> bool {
        self.get(key).is_some_and(|it| self.shared.may_read(it))
    }

    /// Ends every connection whose time is over, but for those whose clients have not finished a
    /// request and can still be told: they are returned. To be called once per second.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<(ConnectionKey, Closed)> {
        let is_over = |deadline: &u32| *deadline <= now.seconds.0;
        let mut overdue = Vec::new();
        for index in 0..self.deadlines.len() {
            if !self.deadlines.get(index).is_some_and(is_over) {
                continue;
            }
            let key = self.key(index);
            let Some((connection, mut cx)) = key.and_then(|key| self.enter(now, key)) else {
                continue;
            };
            let why = connection.overdue();
            let can_be_told = matches!(why, Closed::RequestDeadline | Closed::IdleDeadline);
            if can_be_told && connection.is_open() {
                overdue.push((cx.key, why));
            } else {
                connection.end(&mut cx, why);
            }
        }
        overdue
    }
}
