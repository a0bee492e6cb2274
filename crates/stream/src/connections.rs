//! The connections of one worker, and what becomes of what their sessions say.

use std::cmp::Reverse;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

use crate::connection::{Connection, Stage, Turn};
use crate::eviction::{Eviction, Rank};
use crate::memory::{Counted, Memory};
use crate::{Bounds, Client, Closed, ConnectionId, Deadline, Io, SessionState, StreamCounters};

mod asking;
mod giving_way;

use asking::Asking;

/// Buffers larger than this are given back to the system when they are empty.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

/// Buffers that are kept for those who have something to send next.
const BUFFERS_KEPT: usize = 256;

/// The connections of one worker, seen by its [`Handler`](crate::Handler).
pub struct Connections<S> {
    slots: Vec<Slot<S>>,
    /// When each slot's time is over, in seconds; [`NEVER`] for most that wait for us. Apart from
    /// the slots, because all of them are looked through once per second.
    deadlines: Vec<u32>,
    free: Vec<u32>,
    /// Connections that the loop has to look after, each once.
    dirty: Vec<ConnectionId>,
    /// Connections whose kept bytes are to be offered again.
    pub(crate) resumed: Vec<ConnectionId>,
    /// Buffers without a connection: one that has nothing to send keeps none.
    buffers: Vec<Vec<u8>>,
    eviction: Eviction<Rank>,
    /// What all of them hold.
    memory: Memory,
    /// In this round, those that hold little need not be counted before their answers are sent.
    has_plenty: bool,
    /// Which of them give way if that is too much: those that hold most.
    holders: Eviction<Reverse<usize>>,
    /// Connections that are not read from, because they hold more than their share of too much;
    /// and since when.
    held_back: Vec<(ConnectionId, Seconds)>,
    /// Of which of them it is not known what the kernel keeps.
    asking: Asking,
    /// What sessions say, before it is encrypted.
    plain: Vec<u8>,
    pub(crate) now: Now,
    pub(crate) bounds: Bounds,
    pub(crate) counters: Arc<StreamCounters>,
}

struct Slot<S> {
    generation: u32,
    connection: Option<Connection<S>>,
}

/// Not within 136 years.
const NEVER: u32 = u32::MAX;

/// What a session asked for while it was called.
struct Asked {
    closes: bool,
    waits_for: Option<Deadline>,
    waits_anew: bool,
}

impl<S: SessionState> Connections<S> {
    pub(crate) fn new(bounds: Bounds, memory_max: usize, counters: Arc<StreamCounters>) -> Self {
        Self {
            slots: Vec::new(),
            deadlines: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            buffers: Vec::new(),
            eviction: Eviction::default(),
            memory: Memory::new(memory_max),
            has_plenty: false,
            holders: Eviction::default(),
            held_back: Vec::new(),
            asking: Asking::default(),
            plain: Vec::new(),
            now: Now::default(),
            bounds,
            counters,
        }
    }

    /// Calls an open connection's session, which can send and close. `None` if the connection has
    /// gone or is closing.
    pub fn with<R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        let result = self.call(id, call)?;
        self.recount(id);
        Some(result)
    }

    /// The same, for those who [recount](Self::recount) when they have done more.
    pub(crate) fn call<R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        let connection = find(&mut self.slots, id).filter(|connection| connection.is_open())?;
        let Stage::Open(session) = &mut connection.stage else {
            return None;
        };
        let waiting_bytes = connection.output.len() - connection.sent;
        // Plain output is written where it is sent from; what is to be encrypted, is encrypted
        // from one buffer for all.
        let out = match connection.tls {
            None => &mut connection.output,
            Some(_) => &mut self.plain,
        };
        if out.capacity() == 0 {
            *out = lend(&mut self.buffers, &mut self.memory);
        }
        let mut io = Io::behind(waiting_bytes, out).in_memory(self.memory.is_tight());
        let result = call(session, &mut io);
        let asked = Asked {
            closes: io.closes(),
            waits_for: io.waits_for(),
            waits_anew: io.waits_anew(),
        };
        self.after_call(id, &asked);
        Some(result)
    }

    /// Whether a connection is there whose session can be [called](Self::with).
    #[must_use]
    pub fn is_open(&self, id: ConnectionId) -> bool {
        look(&self.slots, id).is_some_and(Connection::is_open)
    }

    /// Offers the session the bytes that it has not taken once more, when this batch has been
    /// [finished](crate::Handler::finish). If there are none, the session is called (with nothing)
    /// only if the client has ended its side, so that it can close.
    pub fn resume(&mut self, id: ConnectionId) {
        let connection = self.get(id);
        if connection.is_some_and(|it| !it.input.is_empty() || it.input_ended()) {
            self.list(id);
        }
    }

    /// Puts a connection on the list of those whose kept bytes are offered again.
    fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = find(&mut self.slots, id) {
            connection.turn = Turn::Listed;
            self.resumed.push(id);
        }
    }

    /// Closes what was encrypted with a certificate of before `generation` (see
    /// [`TlsConfig`](crate::TlsConfig)), or is about to be.
    pub fn close_tls_before(&mut self, generation: u32) {
        let mut old = Vec::new();
        for (index, slot) in (0..).zip(&self.slots) {
            let tls = slot.connection.as_ref().and_then(|it| it.tls.as_ref());
            if tls.is_some_and(|tls| tls.generation < generation) {
                old.push(ConnectionId {
                    slot: index,
                    generation: slot.generation,
                });
            }
        }
        for id in old {
            let is_told = self.with(id, |_, io| io.close()).is_some();
            let connection = find(&mut self.slots, id);
            let is_beginning = connection.is_some_and(|it| matches!(it.stage, Stage::Handshake(_)));
            // It would go on with the old one when the handshake is complete.
            if !is_told && is_beginning {
                self.end(id, Closed::BySession);
            }
        }
    }

    /// Places in the table of connections: there are no more of these at once, and have not been.
    #[must_use]
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The names of connections at these places, for those who look at all of them a slice at a
    /// time.
    #[must_use]
    pub fn ids(&self, places: Range<usize>) -> Vec<ConnectionId> {
        let end = places.end.min(self.slots.len());
        let slots = self.slots.get(places.start..end).unwrap_or_default();
        let taken = (places.start..).zip(slots);
        let id = |(place, it): (usize, &Slot<S>)| {
            it.connection.as_ref()?;
            Some(ConnectionId {
                slot: u32::try_from(place).ok()?,
                generation: it.generation,
            })
        };
        taken.filter_map(id).collect()
    }

    /// How many there are, including those that are being opened or closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        find(&mut self.slots, id)
    }

    /// Makes room for a connection. `None`: 2^32 are too many.
    pub(crate) fn insert(&mut self, client: Client) -> Option<ConnectionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot {
                    generation: 0,
                    connection: None,
                });
                self.deadlines.push(NEVER);
                slot
            }
        };
        let place = self.slots.get_mut(usize::try_from(slot).ok()?)?;
        place.connection = Some(Connection::new(client));
        let generation = place.generation;
        let id = ConnectionId { slot, generation };
        self.restart_deadline(id);
        Some(id)
    }

    /// Begins another stage, with the time for it.
    pub(crate) fn set_stage(&mut self, id: ConnectionId, stage: Stage<S>) {
        if let Some(connection) = find(&mut self.slots, id) {
            connection.stage = stage;
            self.restart_deadline(id);
        }
    }

    /// Forgets a connection. Whoever still has its name reaches nobody.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection<S>> {
        find(&mut self.slots, id)?;
        let index = usize::try_from(id.slot).ok()?;
        let slot = self.slots.get_mut(index)?;
        slot.generation = slot.generation.wrapping_add(1);
        let mut connection = slot.connection.take()?;
        self.memory
            .recount(&mut connection.counted, Counted::default());
        self.free.push(id.slot);
        self.set_deadline(id, None);
        self.keep_buffer(mem::take(&mut connection.output));
        Some(connection)
    }

    /// Does what the session has asked for.
    fn after_call(&mut self, id: ConnectionId, asked: &Asked) {
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        connection.closes = asked.closes;
        connection.is_deadline_due |= asked.waits_anew;
        if let Some(tls) = &mut connection.tls
            && (asked.closes || !self.plain.is_empty())
        {
            let out = &mut connection.output;
            if out.capacity() == 0 {
                *out = lend(&mut self.buffers, &mut self.memory);
            }
            let sent = tls.send(&self.plain, asked.closes, out);
            self.plain.clear();
            if sent.is_err() {
                self.end(id, Closed::Tls);
                return;
            }
        }
        self.after_output(id, asked.waits_for);
    }

    /// Sees to it that output is sent, and to the deadline. What the connection holds is not
    /// [counted](Self::recount).
    pub(crate) fn after_output(&mut self, id: ConnectionId, waits_for: Option<Deadline>) {
        let output_bytes_max = self.bounds.output_bytes_max;
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        let goes_on =
            waits_for == Some(Deadline::Request) && connection.waits_for == Deadline::Request;
        connection.waits_for = waits_for.unwrap_or(connection.waits_for);
        connection.is_deadline_due |= waits_for.is_some() && !goes_on;
        connection.is_new &= connection.waits_for == Deadline::Request;
        let (pending, closes) = (connection.pending(), connection.closes);
        if pending > output_bytes_max {
            self.end(id, Closed::OutputFull);
        } else if pending > 0 {
            self.mark_dirty(id);
        } else {
            self.after_sending(id);
            if closes {
                self.mark_dirty(id);
            }
        }
    }

    /// There is nothing to send, or nothing any more.
    fn after_sending(&mut self, id: ConnectionId) {
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        let was_blocked = connection.unblock();
        if connection.closes {
            connection.ended.get_or_insert(connection.closes_for);
            return;
        }
        connection.sent = 0;
        let output = mem::take(&mut connection.output);
        let is_deadline_due = mem::take(&mut connection.is_deadline_due) || was_blocked;
        let was_held = connection.turn == Turn::AfterOutput;
        let seconds = is_deadline_due.then(|| connection.deadline_seconds(&self.bounds));
        self.keep_buffer(output);
        if let Some(seconds) = seconds {
            self.set_deadline(id, seconds);
        }
        if was_held {
            self.list(id);
        }
    }

    /// Everything has been sent, and nothing more will be.
    pub(crate) fn empty_output(&mut self, id: ConnectionId) {
        if let Some(connection) = find(&mut self.slots, id) {
            connection.sent = 0;
            let output = mem::take(&mut connection.output);
            self.keep_buffer(output);
            self.recount(id);
        }
    }

    /// The loop, which settles next, has sent this much of the output; less than there is if the
    /// client does not read.
    pub(crate) fn sent(&mut self, id: ConnectionId, bytes: usize) {
        let Some(connection) = find(&mut self.slots, id) else {
            return;
        };
        self.counters.sent_bytes.get(connection.family).add(bytes);
        connection.sent = (connection.sent + bytes).min(connection.output.len());
        connection.write(bytes);
        let written = connection.counted_written();
        self.memory
            .recount_written(&mut connection.counted, written);
        if connection.pending() > 0 {
            let has_begun = !connection.is_blocked;
            connection.block();
            connection.forget_sent(BUFFER_BYTES_KEPT);
            // Whoever sends to a slow reader must not keep it from being heard.
            let is_heard = connection.turn == Turn::AfterOutput
                && connection.pending() <= self.bounds.output_bytes_reading_max();
            if has_begun || bytes > 0 {
                let seconds = self.bounds.idle_seconds;
                self.set_deadline(id, Some(seconds));
            }
            if is_heard {
                self.list(id);
            }
        } else {
            self.after_sending(id);
        }
        self.recount(id);
    }

    /// Ends a connection at once: its session is not called again.
    pub(crate) fn end(&mut self, id: ConnectionId, why: Closed) {
        if let Some(connection) = find(&mut self.slots, id) {
            connection.ended.get_or_insert(why);
            self.mark_dirty(id);
        }
    }

    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = find(&mut self.slots, id)
            && !mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(id);
        }
    }

    pub(crate) fn next_dirty(&mut self) -> Option<ConnectionId> {
        let id = self.dirty.pop()?;
        if let Some(connection) = find(&mut self.slots, id) {
            connection.is_dirty = false;
        }
        Some(id)
    }

    /// Whether the loop is to read from it.
    pub(crate) fn wants_input(&self, id: ConnectionId) -> bool {
        look(&self.slots, id).is_some_and(|it| {
            it.may_be_read(&self.bounds)
                && !(self.memory.is_tight() && it.is_over(self.memory.share()))
        })
    }

    /// Lets the time of the present stage begin.
    pub(crate) fn restart_deadline(&mut self, id: ConnectionId) {
        if let Some(connection) = look(&self.slots, id) {
            let seconds = connection.deadline_seconds(&self.bounds);
            self.set_deadline(id, seconds);
        }
    }

    fn set_deadline(&mut self, id: ConnectionId, seconds: Option<u32>) {
        let index = usize::try_from(id.slot).unwrap_or(usize::MAX);
        if let Some(deadline) = self.deadlines.get_mut(index) {
            // The present second has begun already.
            *deadline = seconds.map_or(NEVER, |seconds| (self.now.seconds + seconds + 1).0);
        }
    }

    /// Ends every connection whose time is over, but for those whose clients have not finished a
    /// request and can still be told: they are returned. To be called once per second.
    pub(crate) fn expire(&mut self) -> Vec<(ConnectionId, Closed)> {
        let mut overdue = Vec::new();
        for index in 0..self.deadlines.len() {
            let is_over = |deadline: &u32| *deadline <= self.now.seconds.0;
            if !self.deadlines.get(index).is_some_and(is_over) {
                continue;
            }
            let (Ok(number), Some(slot)) = (u32::try_from(index), self.slots.get(index)) else {
                continue;
            };
            let Some(connection) = &slot.connection else {
                continue;
            };
            let why = match (&connection.stage, connection.waits_for) {
                (Stage::Header(_) | Stage::Handshake(_), _) => Closed::HandshakeDeadline,
                _ if connection.is_blocked => Closed::SendDeadline,
                (_, Deadline::Request) => Closed::RequestDeadline,
                _ => Closed::IdleDeadline,
            };
            let id = ConnectionId {
                slot: number,
                generation: slot.generation,
            };
            let can_be_told = matches!(why, Closed::RequestDeadline | Closed::IdleDeadline);
            if can_be_told && connection.is_open() {
                overdue.push((id, why));
            } else {
                self.end(id, why);
            }
        }
        overdue
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        let is_worth_it = (1..=BUFFER_BYTES_KEPT).contains(&buffer.capacity());
        if is_worth_it && self.buffers.len() < BUFFERS_KEPT && !self.memory.is_tight() {
            buffer.clear();
            self.memory.pooled_bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

/// A buffer of those that are kept, or a new one.
fn lend(buffers: &mut Vec<Vec<u8>>, memory: &mut Memory) -> Vec<u8> {
    let buffer = buffers.pop().unwrap_or_default();
    memory.pooled_bytes = memory.pooled_bytes.saturating_sub(buffer.capacity());
    buffer
}

fn look<S>(slots: &[Slot<S>], id: ConnectionId) -> Option<&Connection<S>> {
    let slot = slots.get(usize::try_from(id.slot).ok()?)?;
    // Not as a filter of what is there: in the middle of everything, that is slower.
    if slot.generation != id.generation {
        return None;
    }
    slot.connection.as_ref()
}

fn find<S>(slots: &mut [Slot<S>], id: ConnectionId) -> Option<&mut Connection<S>> {
    let slot = slots.get_mut(usize::try_from(id.slot).ok()?)?;
    if slot.generation != id.generation {
        return None;
    }
    slot.connection.as_mut()
}
