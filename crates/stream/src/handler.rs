//! The contract between the connections of a worker and the protocol that is spoken over them.

use std::net::SocketAddr;

use aquatic_daemon::clock::Now;
use aquatic_types::CanonicalAddr;

use crate::bounds::Deadlines;
use crate::connections::Connections;
use crate::counters::Closed;
use crate::memory::SessionState;

/// A connection, within its worker.
///
/// A place in the worker's table and how often that place has been used before; so the name of a
/// connection that has gone never reaches a later one. The default is the first of all names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionKey {
    /// A worker never has more places for connections. So four bits of [each name](Self::to_bits)
    /// are always free: the upper ones of its lower half.
    pub const PLACES_MAX: u32 = 1 << 28;

    /// The place in the worker's table.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.slot).unwrap_or(usize::MAX)
    }

    /// As a number, for those who keep many in little space.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From [such a number](Self::to_bits).
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
        Self {
            slot: u32::from_be_bytes([e, f, g, h]),
            generation: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address: the one in the PROXY header if there is one, otherwise that of the
    /// socket.
    pub peer: CanonicalAddr,
    /// The address that the client connected to: the one in the PROXY header if there is one,
    /// otherwise the one that the worker listens on, which may be unspecified (`0.0.0.0`).
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// What a connection waits for, which decides how long it may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitingFor {
    /// The rest of a request. Runs from the moment it is first asked for, so that a client that
    /// sends a byte now and then gains nothing. A new connection begins with it.
    #[default]
    Request,
    /// The next request. Runs anew each time it is asked for.
    Idle,
    /// Ourselves: the client has done its part.
    Tracker,
}

/// What a session may do to its connection while it is called.
#[derive(Debug)]
pub struct Io<'a> {
    /// What is sent to the client, in plain. To be appended to: it may hold something already.
    pub out: &'a mut Vec<u8>,
    behind: &'a [u8],
    waiting_bytes: usize,
    memory_is_tight: bool,
    closes: bool,
    why_closes: Option<Closed>,
    waits_for: Option<WaitingFor>,
    waits_anew: bool,
}

impl<'a> Io<'a> {
    /// For a connection with this output. Also how the tests of a session make one.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self::of(&[], 0, false, out)
    }

    /// For a connection with so many bytes before this output, and with these that its session has
    /// not taken. `memory_is_tight`: all connections together hold almost as much as they may.
    pub(crate) fn of(
        behind: &'a [u8],
        waiting_bytes: usize,
        memory_is_tight: bool,
        out: &'a mut Vec<u8>,
    ) -> Self {
        Self {
            out,
            behind,
            waiting_bytes,
            memory_is_tight,
            closes: false,
            why_closes: None,
            waits_for: None,
            waits_anew: false,
        }
    }

    /// Whether all connections together hold almost as much as they may: whoever holds most is
    /// closed soon. So a client that does not read must not be sent what it has not asked for.
    #[must_use]
    pub fn memory_is_tight(&self) -> bool {
        self.memory_is_tight
    }

    /// Bytes that waited to be sent when the session was called, as they go over the wire.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What the client has sent that the session has not taken. Empty in [`Handler::receive`],
    /// which is given that.
    #[must_use]
    pub fn behind(&self) -> &'a [u8] {
        self.behind
    }

    /// Closes the connection when everything in [`out`](Self::out) has been sent. The session is
    /// not called again, except for [`Handler::closed`].
    pub fn close(&mut self) {
        self.closes = true;
    }

    /// The same, for this reason.
    pub fn close_because(&mut self, why: Closed) {
        self.closes = true;
        self.why_closes = Some(why);
    }

    /// Says what is being waited for from now on; until it is said again, that stays.
    ///
    /// The time of one that goes on since an earlier call begins anew only if another one was in
    /// between.
    pub fn wait_for(&mut self, deadline: WaitingFor) {
        self.waits_anew |= self.waits_for.is_some_and(|it| it != deadline);
        self.waits_for = Some(deadline);
    }

    /// Whether [`wait_for`](Self::wait_for) was called with different deadlines.
    pub(crate) fn waits_anew(&self) -> bool {
        self.waits_anew
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// What [`close_because`](Self::close_because) was last called with.
    pub(crate) fn why_closes(&self) -> Option<Closed> {
        self.why_closes
    }

    /// What [`wait_for`](Self::wait_for) was last called with.
    #[must_use]
    pub fn waits_for(&self) -> Option<WaitingFor> {
        self.waits_for
    }
}

/// The protocol's side of a worker: one value for all its connections.
pub trait Handler {
    /// What is kept per connection. Small: there are tens of thousands.
    type Session: SessionState;

    /// A connection is ready for the protocol: its PROXY header has been read, its TLS handshake is
    /// done.
    fn open(&mut self, now: Now, key: ConnectionKey, client: Client) -> Self::Session;

    /// Plain bytes have come. Returns how many of them were taken.
    ///
    /// The rest is kept and offered again, with what follows, when more has come or after
    /// [`Connections::resume`]. A session takes what it can use at once, and leaves an incomplete
    /// request. When [`Bounds::input_bytes_max`](crate::Bounds::input_bytes_max) are kept nothing
    /// more is read from the connection; so a session that still waits for the end of a request
    /// then must take or refuse it.
    fn receive(
        &mut self,
        now: Now,
        key: ConnectionKey,
        session: &mut Self::Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize;

    /// The client will send nothing more, but it may still read. Called once, when the session has
    /// been offered all that the client has sent before. The session [closes](Io::close) now; or
    /// later, if it is still busy with what the client has asked for, or has left bytes because of
    /// that, which are offered again after [`Connections::resume`].
    fn input_ended(
        &mut self,
        now: Now,
        key: ConnectionKey,
        session: &mut Self::Session,
        io: &mut Io<'_>,
    );

    /// A batch of events is over: the time to pass requests on, to answer, and to deliver answers
    /// to any [connection](Connections::with) of this worker. Returns how many batches of other
    /// workers were dealt with.
    fn finish(&mut self, now: Now, connections: &mut Connections<'_, Self::Session>) -> usize;

    /// The connection ends although its session has not [closed](Io::close) it: the client has
    /// gone, or does not read. `bytes` are those of the client that the session has not taken. What
    /// they ask for may be done, but can no longer be answered; [`closed`](Self::closed) follows.
    ///
    /// They are ignored by default.
    fn abandoned(
        &mut self,
        now: Now,
        key: ConnectionKey,
        session: &mut Self::Session,
        bytes: &[u8],
    ) {
        let _ = (now, key, session, bytes);
    }

    /// The client has not finished a request in time
    /// ([`RequestDeadline`](Closed::RequestDeadline)), or has not sent another one
    /// ([`IdleDeadline`](Closed::IdleDeadline)). What the session writes is still sent; then the
    /// connection is closed.
    ///
    /// Nothing is written by default.
    fn timed_out(
        &mut self,
        now: Now,
        key: ConnectionKey,
        session: &mut Self::Session,
        why: Closed,
        io: &mut Io<'_>,
    ) {
        let _ = (now, key, session, why, io);
    }

    /// The connection has gone, or is about to and cannot be reached any more.
    fn closed(&mut self, now: Now, key: ConnectionKey, session: Self::Session, why: Closed);

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    fn maintain(&mut self, now: Now) -> bool;

    /// Whether other workers have sent something since the last [`finish`](Self::finish). Asked
    /// before the worker sleeps.
    fn has_pending(&self) -> bool;

    /// Other deadlines for the connections, if there are any since this was asked last: about once
    /// a second.
    fn changed_deadlines(&mut self) -> Option<Deadlines> {
        None
    }

    /// The process is about to stop: whatever is answered from now on is the last answer on its
    /// connection.
    fn begin_stop(&mut self) {}

    /// The session is to [close](Io::close) its connection, because its turn has come in a stop:
    /// now, after its last words; or, if its client still waits for an answer, when it is called
    /// again a moment later.
    fn stop(&mut self, now: Now, key: ConnectionKey, session: &mut Self::Session, io: &mut Io<'_>) {
        let _ = (now, key, session);
        io.close();
    }
}
