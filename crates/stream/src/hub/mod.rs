//! Everything that happens to the connections of a worker, but for moving their bytes. Pure.

mod input;
mod stop;

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_types::{CanonicalAddr, IpFamily, PerFamily, Seconds, client_network};

use crate::connection::{Connection, Stage};
use crate::listener::is_shortage_of_files;
use crate::tls::TlsAcceptor;
use crate::{
    Admission, Bounds, Client, Closed, ConnectionId, Connections, Handler, KernelBytes,
    READ_BYTES_MAX, Refused, StreamCounters, TlsConfig, TrustedProxies,
};

use stop::Stop;

/// How often requests that have been waiting behind others are taken up in one batch, before new
/// ones have their turn.
const RESUME_ROUNDS_MAX: usize = 16;

/// If more connections than this have been waiting, new ones have their turn after each round: many
/// who have sent much at once do not keep the others waiting for all of it.
const RESUMED_AGAIN_MAX: usize = 64;

/// That nothing can be accepted is logged once in this time.
const ACCEPT_LOG_SECONDS: u32 = 60;

/// What the connections of a worker have in common.
pub struct HubOptions {
    /// How much and how long a connection may keep us busy.
    pub bounds: Bounds,
    /// Bytes that all connections of this worker may hold, with what the kernel keeps for them;
    /// `usize::MAX`: any number.
    pub memory_max: usize,
    /// How many there may be; shared by all workers.
    pub admission: Arc<Admission>,
    /// Each connection begins with a PROXY header, which these may send.
    pub proxies: Option<TrustedProxies>,
    /// Connections are encrypted.
    pub tls: Option<TlsConfig>,
    /// This worker's own.
    pub counters: Arc<StreamCounters>,
}

/// The connections of a worker and the protocol that is spoken over them.
///
/// A loop [accepts](Self::accept), reads and writes; the hub does the rest. For each batch of
/// events the loop
///
/// 1. reads from connections that have something and hands it over: [`Self::receive`],
///    [`Self::read_ended`], [`Self::failed`],
/// 2. calls [`Self::finish`], asks the kernel about each [`Self::next_unknown`] connection, and
///    calls [`Self::maintain`],
/// 3. looks after each [`Self::next_dirty`] connection: writes the [`Self::output`], reports it as
///    [`Self::sent`], lets it [take the rest](Self::take_rest), and does what [`Self::settle`]
///    says,
/// 4. waits, asking [`Self::has_pending`] before it really sleeps.
pub struct Hub<H: Handler> {
    handler: H,
    connections: Connections<H::Session>,
    admission: Arc<Admission>,
    proxies: Option<TrustedProxies>,
    tls: Option<TlsAcceptor>,
    counters: Arc<StreamCounters>,
    /// Decrypted bytes of the connection that is being read from.
    plain: Vec<u8>,
    /// Connections by the family of the client.
    active: PerFamily<usize>,
    /// When deadlines were last looked through.
    swept: Seconds,
    /// When it may be logged again that nothing can be accepted.
    accept_quiet_until: Seconds,
    /// The process has been told to stop.
    stop: Option<Stop>,
    /// What had to give way to the connection that was accepted last.
    evicted: Option<ConnectionId>,
}

/// What is to be done about a connection whose output has been written as far as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Go on, and read from it.
    Read,
    /// Go on, but do not read until it is dirty again: it has more than enough to do.
    DoNotRead,
    /// Close the sending half, and go on reading until the client has closed the other half.
    CloseSendingHalf,
    /// Close it: its name means nothing any more.
    Close,
    /// Close it, and let the kernel forget what the client has not read.
    Reset,
}

impl<H: Handler> Hub<H> {
    /// A worker without connections.
    #[must_use]
    pub fn new(handler: H, options: HubOptions) -> Self {
        let HubOptions {
            bounds,
            memory_max,
            admission,
            proxies,
            tls,
            counters,
        } = options;
        Self {
            handler,
            connections: Connections::new(bounds, memory_max, Arc::clone(&counters)),
            admission,
            proxies,
            tls: tls.as_ref().map(TlsConfig::acceptor),
            counters,
            plain: Vec::new(),
            active: PerFamily::default(),
            swept: Seconds::default(),
            accept_quiet_until: Seconds::default(),
            stop: None,
            evicted: None,
        }
    }

    /// The protocol's side.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The protocol's side, to change it.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Takes a connection in. `local` is the address of the listener. One of another client may
    /// have to give way: see [`Self::evicted`].
    ///
    /// # Errors
    /// If it is to be closed at once, and why.
    pub fn accept(
        &mut self,
        now: Now,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<ConnectionId, Refused> {
        self.connections.now = now;
        self.evicted = None;
        let client = Client {
            peer: CanonicalAddr::new(peer),
            local,
            is_tls: self.tls.is_some(),
        };
        let admitted = self.admit(client);
        if let Err(why) = admitted {
            self.counters.refused.of(why).add(1);
        }
        admitted
    }

    fn admit(&mut self, client: Client) -> Result<ConnectionId, Refused> {
        let ip = client.peer.ip();
        if self
            .proxies
            .as_ref()
            .is_some_and(|proxies| !proxies.trust(ip))
        {
            return Err(Refused::UntrustedProxy);
        }
        // Before anybody has to give way: who is turned away anyway costs nobody its connection.
        let is_counted = match self.proxies {
            None => self.count_client(ip)?,
            Some(_) => false,
        };
        let Some(id) = self.place(client) else {
            if is_counted {
                self.admission.leave_client(client_network(ip));
            }
            return Err(Refused::TooMany);
        };
        self.count_active(client.peer.family(), true);
        if self.proxies.is_none() {
            self.begin(id, client, is_counted);
        }
        self.counters.accepted.get(client.peer.family()).add(1);
        Ok(id)
    }

    /// A place for a connection. `None` if there is none, and nobody may give way.
    fn place(&mut self, client: Client) -> Option<ConnectionId> {
        if !self.admission.enter() {
            self.evicted = self.connections.evict();
            if self.evicted.is_none() {
                self.admission.leave();
                return None;
            }
        }
        let id = self.connections.insert(client);
        if id.is_none() {
            self.admission.leave();
        }
        id
    }

    /// Charges a client for a connection, and counts it. Returns whether that has to be taken back
    /// one day.
    fn count_client(&self, ip: IpAddr) -> Result<bool, Refused> {
        self.admission.charge(self.connections.now, ip)?;
        self.admission.enter_client(ip)
    }

    /// The client is known: TLS or the protocol begins.
    fn begin(&mut self, id: ConnectionId, client: Client, is_counted: bool) {
        if let Some(connection) = self.connections.get(id) {
            connection.client = client_network(client.peer.ip());
            connection.is_counted = is_counted;
        }
        if client.is_tls {
            self.connections.set_stage(id, Stage::Handshake(client));
        } else {
            self.open(id, client);
        }
    }

    /// The connection that had to give way to the one that was accepted last, if any. The loop
    /// looks after it at once, because there is no room for both.
    pub fn evicted(&mut self) -> Option<ConnectionId> {
        self.evicted.take()
    }

    fn open(&mut self, id: ConnectionId, client: Client) {
        let session = self.handler.open(self.connections.now, id, client);
        self.connections.set_stage(id, Stage::Open(session));
    }

    /// Reading or writing has failed: there is nobody any more.
    pub fn failed(&mut self, now: Now, id: ConnectionId) {
        self.connections.now = now;
        self.connections.end(id, Closed::ByClient);
    }

    /// No connection can be accepted for the moment: the system has no more files or memory for
    /// us, or the listener has gone.
    pub fn accept_failed(&mut self, now: Now, error: &io::Error) {
        self.counters.accept_failures.add(1);
        if is_shortage_of_files(error) {
            // Told by the watch over limits.
            self.counters.accepts_without_files.add(1);
            return;
        }
        if now.seconds < self.accept_quiet_until {
            return;
        }
        self.accept_quiet_until = now.seconds + ACCEPT_LOG_SECONDS;
        log::error!(
            "cannot accept connections: {error}, with {} connections open",
            self.connections.len()
        );
    }

    /// Whether the connection is to be read from.
    #[must_use]
    pub fn wants_input(&self, id: ConnectionId) -> bool {
        self.connections.wants_input(id)
    }

    /// Something has come that is not [wanted](Self::wants_input) and stays with the kernel, until
    /// the connection is dirty again.
    pub fn leave_unread(&mut self, now: Now, id: ConnectionId) {
        self.connections.now = now;
        self.connections.hold_back(id);
    }

    /// A connection of which the loop is to tell what the kernel [holds](Self::kernel_holds) for
    /// it. `None`: that were all, as nearly always.
    pub fn next_unknown(&mut self) -> Option<ConnectionId> {
        self.connections.next_unknown()
    }

    /// What the kernel says that it keeps for a connection.
    pub fn kernel_holds(&mut self, id: ConnectionId, kernel: KernelBytes) {
        self.connections.kernel_holds(id, kernel);
    }

    /// A batch of events is over. Returns how many batches of other workers were dealt with.
    pub fn finish(&mut self, now: Now) -> usize {
        self.connections.now = now;
        self.connections.look_for_plenty();
        self.connections.read_on();
        let mut batches = self.handler.finish(now, &mut self.connections);
        for round in 0..RESUME_ROUNDS_MAX {
            let waiting = self.connections.resumed.len();
            if waiting == 0 || round > 0 && waiting > RESUMED_AGAIN_MAX {
                break;
            }
            let mut resumed = mem::take(&mut self.connections.resumed);
            for id in resumed.drain(..) {
                self.offer(id, &[]);
                self.tell_end(id);
                self.connections.recount(id);
                // There may be room for more now: the loop goes on reading when it settles.
                self.connections.mark_dirty(id);
            }
            batches += self.handler.finish(now, &mut self.connections);
        }
        self.connections.begin_asking();
        self.counters.held_bytes.set(self.held_bytes());
        batches
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn maintain(&mut self, now: Now) -> bool {
        self.connections.now = now;
        if mem::replace(&mut self.swept, now.seconds) != now.seconds {
            for (id, why) in self.connections.expire() {
                self.time_out(id, why);
            }
            self.connections.relieve();
        }
        let has_more = self.handler.maintain(now);
        has_more || self.connections.has_unknown() || !self.connections.resumed.is_empty()
    }

    /// A client has not sent its request in time, and is told so if its session knows how.
    fn time_out(&mut self, id: ConnectionId, why: Closed) {
        let (handler, now) = (&mut self.handler, self.connections.now);
        if let Some(connection) = self.connections.get(id) {
            connection.closes_for = why;
        }
        let is_told = self.connections.with(id, |session, io| {
            let bytes_before = io.out.len();
            handler.timed_out(now, id, session, why, io);
            let is_told = io.out.len() > bytes_before;
            if is_told {
                io.close();
            }
            is_told
        });
        if is_told != Some(true) {
            self.connections.end(id, why);
        }
    }

    /// Whether other workers have sent something since the last [`finish`](Self::finish), or it has
    /// left something undone.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.handler.has_pending() || !self.connections.resumed.is_empty()
    }

    /// A connection that has something to send, or is to be read from or to be closed. `None`: that
    /// were all.
    pub fn next_dirty(&mut self) -> Option<ConnectionId> {
        self.connections.next_dirty()
    }

    /// What is to be sent.
    pub fn output(&mut self, id: ConnectionId) -> &[u8] {
        let connection = self.connections.get(id);
        connection.map_or(&[], |it| it.output.get(it.sent..).unwrap_or_default())
    }

    /// This many bytes of the [`output`](Self::output) have been sent. To be called after each try,
    /// also if none were.
    pub fn sent(&mut self, now: Now, id: ConnectionId, bytes: usize) {
        self.connections.now = now;
        self.connections.sent(id, bytes);
    }

    /// Reads what has come on a connection whose client has gone, or that is about to be closed
    /// otherwise than by its session: up to [`Bounds::REST_BYTES_MAX`] bytes, into `buffer`. It may
    /// matter to others. To be called before [`Self::settle`]; does nothing with any other.
    pub fn take_rest(
        &mut self,
        now: Now,
        id: ConnectionId,
        buffer: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) {
        let is_abandoned = |it: &mut Connection<H::Session>| {
            matches!(it.stage, Stage::Open(_))
                && it.ended.is_some_and(|why| {
                    !it.is_orderly(why) && !matches!(why, Closed::Tls | Closed::Memory)
                })
                && !it.closes
                && !it.input_ended()
                && !mem::replace(&mut it.takes_rest, true)
        };
        if !self.connections.get(id).is_some_and(is_abandoned) {
            return;
        }
        for _ in 0..Bounds::REST_BYTES_MAX / READ_BYTES_MAX {
            let Ok(bytes @ 1..) = read(buffer) else {
                break;
            };
            self.receive(now, id, buffer.get_mut(..bytes).unwrap_or_default());
        }
    }

    /// What to do about a connection whose output has been written as far as possible.
    /// `has_unread`: there may be more to read than was read.
    pub fn settle(&mut self, now: Now, id: ConnectionId, has_unread: bool) -> Settled {
        self.connections.now = now;
        let Some(connection) = self.connections.get(id) else {
            return Settled::Close;
        };
        if let Some(why) = connection.ended {
            return self.settle_ended(id, why, has_unread);
        }
        if self.connections.wants_input(id) {
            return Settled::Read;
        }
        self.connections.hold_back(id);
        Settled::DoNotRead
    }

    /// The same for one that has ended: not what happens with each answer, and so kept apart.
    #[inline(never)]
    fn settle_ended(&mut self, id: ConnectionId, why: Closed, has_unread: bool) -> Settled {
        let now = self.connections.now;
        let Some(connection) = self.connections.get(id) else {
            return Settled::Close;
        };
        let is_orderly = connection.is_orderly(why);
        let stage = mem::replace(&mut connection.stage, Stage::Lingering { read_bytes: 0 });
        if let Stage::Lingering { .. } = stage {
            self.forget(id);
            return Settled::Close;
        }
        let does_not_read = why == Closed::Memory || !is_orderly && connection.is_blocked;
        // To close a socket with unread bytes in it is to reset it: the client might lose the
        // answer.
        let lingers = is_orderly
            && !connection.input_ended()
            && (has_unread || connection.has_unread || !connection.input.is_empty());
        let is_abandoned = !is_orderly && !connection.closes;
        let input = connection.input.take();
        if lingers {
            connection.ended = None;
            connection.tls = None;
            self.connections.empty_output(id);
        }
        self.counters.closed.of(why).add(1);
        if let Stage::Open(mut session) = stage {
            if is_abandoned && !input.is_empty() {
                self.handler.abandoned(now, id, &mut session, &input);
            }
            self.handler.closed(now, id, session, why);
        }
        if lingers {
            self.connections.restart_deadline(id);
            Settled::CloseSendingHalf
        } else {
            self.forget(id);
            match does_not_read {
                true => Settled::Reset,
                false => Settled::Close,
            }
        }
    }

    /// Bytes that all connections are known to hold, with what the kernel keeps for them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let (held_bytes, _) = self.connections.held_bytes();
        held_bytes
    }

    /// The same, and the same with all that the kernel may keep besides; kept, with what is
    /// [knowingly left out](Self::uncounted_bytes), and counted anew by looking at each connection.
    /// For tests.
    #[must_use]
    pub fn accounts(&self) -> [(usize, usize); 2] {
        let Self { connections, .. } = self;
        let (held_bytes, at_most) = connections.held_bytes();
        let uncounted_bytes = connections.uncounted_bytes();
        let kept = (held_bytes + uncounted_bytes, at_most + uncounted_bytes);
        [kept, connections.count_held_bytes()]
    }

    /// Bytes that connections hold that are not counted because they are sent in this round. For
    /// tests.
    #[must_use]
    pub fn uncounted_bytes(&self) -> usize {
        self.connections.uncounted_bytes()
    }

    fn forget(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(id) {
            self.admission.leave();
            if connection.is_counted {
                self.admission.leave_client(connection.client);
            }
            self.count_active(connection.family, false);
        }
    }

    fn count_active(&mut self, family: IpFamily, comes: bool) {
        let active = self.active.get_mut(family);
        *active = match comes {
            true => *active + 1,
            false => active.saturating_sub(1),
        };
        self.counters.active.get(family).set(*active);
    }
}
