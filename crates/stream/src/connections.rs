//! The connections of one worker, and what becomes of what their sessions say.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_types::IpFamily;

use crate::{Bounds, Client, Closed, ConnectionId, Deadline, Io, StreamCounters};

/// The connections of one worker, seen by its [`Handler`](crate::Handler).
#[derive(Debug)]
pub struct Connections<S> {
    slots: Vec<Slot<S>>,
    /// When each slot's time is over, in seconds: apart from the slots, because all of them are
    /// looked through once per second.
    deadlines: Vec<u32>,
    free: Vec<u32>,
    /// Connections that the loop has to look after, each once.
    dirty: Vec<ConnectionId>,
    /// Connections whose kept bytes are to be offered again.
    resumed: Vec<ConnectionId>,
    /// Buffers without a connection: one that has nothing to send keeps none.
    buffers: Vec<Vec<u8>>,
    now: Now,
    bounds: Bounds,
    counters: Arc<StreamCounters>,
}

#[derive(Debug)]
struct Slot<S> {
    generation: u32,
    connection: Option<Connection<S>>,
}

#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) stage: Stage<S>,
    /// Plain bytes that the session has not taken.
    pub(crate) input: Vec<u8>,
    /// What is to be sent, as it goes over the wire.
    output: Vec<u8>,
    /// How much of the output has been sent.
    sent: usize,
    expects: Deadline,
    family: IpFamily,
    /// The loop has been told to look after it.
    is_dirty: bool,
    /// The session has closed it: it ends when the output has been sent.
    closes: bool,
    pub(crate) input_ended: bool,
    ended: Option<Closed>,
}

#[derive(Debug)]
pub(crate) enum Stage<S> {
    /// PROXY header or TLS handshake are not complete.
    Opening(Client),
    Open(S),
    /// We have ended, and wait for the client to do the same, so that it can read everything.
    Lingering,
}

impl<S> Connections<S> {
    /// Calls an open connection's session, with which it can send and close. `None` if the
    /// connection has gone, or is closing.
    pub fn with<R>(
        &mut self,
        id: ConnectionId,
        call: impl FnOnce(&mut S, &mut Io<'_>) -> R,
    ) -> Option<R> {
        let slot = usize::try_from(id.slot).ok()?;
        let connection = open(&mut self.slots, id)?;
        let Stage::Open(session) = &mut connection.stage else {
            return None;
        };
        if connection.output.capacity() == 0 {
            connection.output = self.buffers.pop().unwrap_or_default();
        }
        let mut io = Io::new(&mut connection.output);
        let result = call(session, &mut io);
        let (closes, expects) = (io.closes(), io.expects());
        let _ = (slot, closes, expects);
        Some(result)
    }

    /// Offers the session the bytes that it has not taken, once more, when the present batch has
    /// been [finished](crate::Handler::finish). If there are none, the session is called (with
    /// nothing) only if the client has ended its side, so that it can close.
    pub fn resume(&mut self, id: ConnectionId) {
        if open(&mut self.slots, id).is_some_and(|it| !it.input.is_empty() || it.input_ended) {
            self.resumed.push(id);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A connection whose session may be called.
fn open<S>(slots: &mut [Slot<S>], id: ConnectionId) -> Option<&mut Connection<S>> {
    let slot = slots.get_mut(usize::try_from(id.slot).ok()?)?;
    let connection = slot.connection.as_mut()?;
    let is_open = slot.generation == id.generation
        && !connection.closes
        && connection.ended.is_none()
        && matches!(connection.stage, Stage::Open(_));
    is_open.then_some(connection)
}
