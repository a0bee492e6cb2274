//! Everything that happens to the connections of a worker, but for moving their bytes. Pure.

mod input;
mod stop;

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_types::{CanonicalAddr, IpFamily, PerFamily, Seconds, client_network};

use crate::admission::Admission;
use crate::bounds::{Bounds, READ_CHUNK_BYTES};
use crate::connection::{Connection, Ending, Phase};
use crate::connections::{Cx, Table};
use crate::counters::{Closed, Refused, StreamCounters};
use crate::denied::DeniedWatch;
use crate::handler::{Client, ConnectionKey, Handler, WaitingFor};
use crate::listener::is_shortage_of_files;
use crate::memory::KernelBytes;
use crate::tls::{TlsAcceptor, TlsConfig};
use crate::trusted::TrustedProxies;

pub(crate) use stop::DRAIN_GRACE;
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
    /// Over this time connections are closed when the process is about to [stop](Hub::stop).
    pub drain: Duration,
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
/// 3. flushes each [`Self::next_queued`] connection: writes the [`Self::output`], reports it as
///    [`Self::sent`], lets it [take the rest](Self::take_rest), and does what [`Self::next_action`]
///    says,
/// 4. waits, asking [`Self::has_pending`] before it really sleeps.
pub struct Hub<H: Handler> {
    table: Table<H::Session>,
    layers: Layers<H>,
    /// When deadlines were last looked through.
    swept: Seconds,
    /// When it may be logged again that nothing can be accepted.
    accept_quiet_until: Seconds,
    /// The process has been told to stop.
    stop: Option<Stop>,
    /// In microseconds.
    drain_micros: u64,
    /// What had to give way to the connection that was accepted last.
    evicted: Option<ConnectionKey>,
}

/// What is between the table of connections and the protocol, and the protocol. Apart from the
/// table, so that it can be called with a connection of that.
struct Layers<H: Handler> {
    handler: H,
    admission: Arc<Admission>,
    denied: Option<DeniedWatch>,
    proxies: Option<TrustedProxies>,
    tls: Option<TlsAcceptor>,
    counters: Arc<StreamCounters>,
    /// Decrypted bytes of the connection that is being read from.
    plain: Vec<u8>,
    /// Connections by the family of the client.
    active: PerFamily<usize>,
}

/// What is to be done about a connection whose output has been written as far as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoAction {
    /// Go on, and read from it.
    Read,
    /// Go on, but do not read until it is queued again: it has more than enough to do.
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
        let counters = Arc::clone(&options.counters);
        let denied = options.admission.denied().cloned();
        Self {
            table: Table::new(options.bounds, options.memory_max, counters),
            layers: Layers {
                handler,
                admission: options.admission,
                denied: denied.map(DeniedWatch::new),
                proxies: options.proxies,
                tls: options.tls.as_ref().map(TlsConfig::acceptor),
                counters: options.counters,
                plain: Vec::new(),
                active: PerFamily::default(),
            },
            swept: Seconds::default(),
            accept_quiet_until: Seconds::default(),
            stop: None,
            drain_micros: u64::try_from(options.drain.as_micros()).unwrap_or(u64::MAX),
            evicted: None,
        }
    }

    /// The protocol's side.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.layers.handler
    }

    /// The protocol's side, to change it.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.layers.handler
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
    ) -> Result<ConnectionKey, Refused> {
        self.evicted = None;
        let client = Client {
            peer: CanonicalAddr::new(peer),
            local,
            is_tls: self.layers.tls.is_some(),
        };
        let admitted = self.admit(now, client);
        if let Err(why) = admitted {
            self.layers.counters.refused.of(why).add(1);
        }
        self.check_all();
        admitted
    }

    fn admit(&mut self, now: Now, client: Client) -> Result<ConnectionKey, Refused> {
        let ip = client.peer.ip();
        let proxies = self.layers.proxies.as_ref();
        if proxies.is_some_and(|proxies| !proxies.trust(ip)) {
            return Err(Refused::UntrustedProxy);
        }
        let is_proxied = proxies.is_some();
        // Before anybody has to give way: who is turned away anyway costs nobody its connection.
        let is_counted = !is_proxied && self.layers.count_client(now, ip)?;
        let key = self.place(now, client);
        let Some((connection, mut cx)) = key.and_then(|key| self.table.enter(now, key)) else {
            if is_counted {
                self.layers.admission.leave_client(client_network(ip));
            }
            return Err(Refused::TooMany);
        };
        let family = client.peer.family();
        self.layers.count_active(family, true);
        self.layers.counters.accepted.get(family).add(1);
        let key = cx.key;
        if !is_proxied {
            self.layers.begin(connection, &mut cx, client, is_counted);
        }
        Ok(key)
    }

    /// A place for a connection. `None` if there is none, and nobody may give way.
    fn place(&mut self, now: Now, client: Client) -> Option<ConnectionKey> {
        let admission = &self.layers.admission;
        if !admission.enter() {
            self.evicted = self.table.evict(now);
            if self.evicted.is_none() {
                admission.leave();
                return None;
            }
        }
        let key = self.table.insert(now, client);
        if key.is_none() {
            admission.leave();
        }
        key
    }

    /// The connection that had to give way to the one that was accepted last, if any. The loop
    /// flushes it at once, because there is no room for both.
    pub fn evicted(&mut self) -> Option<ConnectionKey> {
        self.evicted.take()
    }

    /// Reading or writing has failed: there is nobody any more.
    pub fn failed(&mut self, now: Now, key: ConnectionKey) {
        self.end(now, key, Closed::ByClient);
        self.check(key);
    }

    fn end(&mut self, now: Now, key: ConnectionKey, why: Closed) {
        if let Some((connection, mut cx)) = self.table.enter(now, key) {
            connection.end(&mut cx, why);
        }
    }

    /// No connection can be accepted for the moment: the system has no more files or memory for
    /// us, or the listener has gone.
    pub fn accept_failed(&mut self, now: Now, error: &io::Error) {
        self.layers.counters.accept_failures.add(1);
        if is_shortage_of_files(error) {
            // Told by the watch over limits.
            self.layers.counters.accepts_without_files.add(1);
            return;
        }
        if now.seconds < self.accept_quiet_until {
            return;
        }
        self.accept_quiet_until = now.seconds + ACCEPT_LOG_SECONDS;
        log::error!(
            "cannot accept connections: {error}, with {} connections open",
            self.table.len()
        );
    }

    /// Whether the connection is to be read from.
    #[must_use]
    pub fn wants_input(&self, key: ConnectionKey) -> bool {
        self.table.wants_input(key)
    }

    /// Something has come that is not [wanted](Self::wants_input) and stays with the kernel, until
    /// the connection is queued again.
    pub fn leave_unread(&mut self, now: Now, key: ConnectionKey) {
        if let Some((connection, mut cx)) = self.table.enter(now, key) {
            connection.hold_back(&mut cx);
        }
        self.check(key);
    }

    /// A connection of which the loop is to tell what the kernel [holds](Self::kernel_holds) for
    /// it. `None`: that were all, as nearly always.
    pub fn next_unknown(&mut self, now: Now) -> Option<ConnectionKey> {
        self.table.next_unknown(now)
    }

    /// What the kernel says that it keeps for a connection.
    pub fn kernel_holds(&mut self, now: Now, key: ConnectionKey, kernel: KernelBytes) {
        self.table.kernel_holds(now, key, kernel);
        self.check(key);
    }

    /// A batch of events is over. Returns how many batches of other workers were dealt with.
    pub fn finish(&mut self, now: Now) -> usize {
        let Self { table, layers, .. } = self;
        table.look_for_plenty();
        table.read_on(now);
        let mut batches = layers.handler.finish(now, &mut table.at(now));
        for round in 0..RESUME_ROUNDS_MAX {
            let waiting = table.shared.resumed.len();
            if waiting == 0 || round > 0 && waiting > RESUMED_AGAIN_MAX {
                break;
            }
            for key in mem::take(&mut table.shared.resumed) {
                let Some((connection, mut cx)) = table.enter(now, key) else {
                    continue;
                };
                layers.offer(connection, &mut cx, &[]);
                layers.tell_end(connection, &mut cx);
                connection.recount(&mut cx);
                // There may be room for more now: the loop goes on reading when it flushes.
                connection.enqueue(&mut cx);
                table.keep_in_bounds(now);
            }
            batches += layers.handler.finish(now, &mut table.at(now));
        }
        table.begin_asking(now);
        let (held_bytes, _) = table.held_bytes();
        layers.counters.held_bytes.set(held_bytes);
        self.check_all();
        batches
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn maintain(&mut self, now: Now) -> bool {
        if mem::replace(&mut self.swept, now.seconds) != now.seconds {
            if let Some(deadlines) = self.layers.handler.changed_deadlines() {
                self.table.shared.bounds.set_deadlines(deadlines);
            }
            for (key, why) in self.table.expire(now) {
                self.time_out(now, key, why);
            }
            self.table.relieve(now);
        }
        let has_denied = self.close_denied(now);
        let has_more = self.layers.handler.maintain(now);
        self.check_all();
        has_more || has_denied || self.table.has_unknown() || !self.table.shared.resumed.is_empty()
    }

    /// Closes some of the connections that were accepted before their network was denied. Returns
    /// whether there are more to be looked at.
    fn close_denied(&mut self, now: Now) -> bool {
        let Self { table, layers, .. } = self;
        let Some(watch) = &mut layers.denied else {
            return false;
        };
        let Some(places) = watch.next_places(table.places()) else {
            return false;
        };
        for key in table.keys(places) {
            if let Some((connection, mut cx)) = table.enter(now, key)
                && watch.denies_present(connection)
            {
                connection.end(&mut cx, Closed::NetworkDenied);
            }
        }
        watch.has_more()
    }

    /// A client has not sent its request in time, and is told so if its session knows how.
    fn time_out(&mut self, now: Now, key: ConnectionKey, why: Closed) {
        let handler = &mut self.layers.handler;
        let is_told = self.table.with(now, key, why, |session, io| {
            let bytes_before = io.out.len();
            handler.timed_out(now, key, session, why, io);
            if io.out.len() > bytes_before {
                io.close();
            }
            io.closes()
        });
        if is_told != Some(true) {
            self.end(now, key, why);
        }
    }

    /// Whether other workers have sent something since the last [`finish`](Self::finish), or it has
    /// left something undone.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.layers.handler.has_pending() || !self.table.shared.resumed.is_empty()
    }

    /// A connection that has something to send, or is to be read from or to be closed. `None`: that
    /// were all.
    pub fn next_queued(&mut self) -> Option<ConnectionKey> {
        self.table.next_queued()
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self, key: ConnectionKey) -> &[u8] {
        let connection = self.table.get(key);
        connection.map_or(&[], |it| it.output.get(it.sent..).unwrap_or_default())
    }

    /// This many bytes of the [`output`](Self::output) have been sent. To be called after each try,
    /// also if none were.
    pub fn sent(&mut self, now: Now, key: ConnectionKey, bytes: usize) {
        self.table.set_flushed(Some(key));
        if let Some((connection, mut cx)) = self.table.enter(now, key) {
            connection.sent(&mut cx, bytes);
            self.table.keep_in_bounds(now);
        }
        self.check(key);
    }

    /// Reads what has come on a connection whose client has gone, or that is about to be closed
    /// otherwise than by its session: up to [`Bounds::REST_BYTES_MAX`] bytes, into `buffer`. It may
    /// matter to others. To be called before [`Self::next_action`]; does nothing with any other.
    pub fn take_rest(
        &mut self,
        now: Now,
        key: ConnectionKey,
        buffer: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) {
        let connection = self.table.enter(now, key);
        if !connection.is_some_and(|(connection, _)| connection.begin_rest()) {
            return;
        }
        for _ in 0..Bounds::REST_BYTES_MAX / READ_CHUNK_BYTES {
            let Ok(bytes @ 1..) = read(buffer) else {
                break;
            };
            self.receive(now, key, buffer.get_mut(..bytes).unwrap_or_default());
        }
    }

    /// What to do about a connection whose output has been written as far as possible.
    /// `has_unread`: there may be more to read than was read.
    pub fn next_action(&mut self, now: Now, key: ConnectionKey, has_unread: bool) -> IoAction {
        self.table.set_flushed(None);
        let Some((connection, mut cx)) = self.table.enter(now, key) else {
            return IoAction::Close;
        };
        let action = if connection.has_ended() {
            self.end_action(now, key, has_unread)
        } else if cx.shared.may_read(connection) {
            IoAction::Read
        } else {
            connection.hold_back(&mut cx);
            IoAction::DoNotRead
        };
        self.check(key);
        action
    }

    /// The same for one that has ended: not what happens with each answer, and so kept apart.
    #[inline(never)]
    fn end_action(&mut self, now: Now, key: ConnectionKey, has_unread: bool) -> IoAction {
        let Some((connection, mut cx)) = self.table.enter(now, key) else {
            return IoAction::Close;
        };
        let Phase::Ended {
            session,
            why,
            ending,
            has_unread: was_left_unread,
        } = mem::replace(&mut connection.phase, Phase::Gone)
        else {
            self.forget(key);
            return IoAction::Close;
        };
        let is_orderly = ending == Ending::Orderly;
        let does_not_read = why == Closed::Memory || !is_orderly && connection.is_blocked();
        // To close a socket with unread bytes in it is to reset it: the client might lose the
        // answer. At a stop, bytes may come that nobody expects to be the last: it does not close
        // what its client has asked to close.
        let may_be_unread = has_unread || was_left_unread || !connection.input.is_empty();
        let lingers =
            is_orderly && !connection.input_ended() && (may_be_unread || why == Closed::Restart);
        let input = connection.input.take();
        if lingers {
            connection.linger(&mut cx);
        }
        let handler = &mut self.layers.handler;
        if let Some(mut session) = session {
            if matches!(ending, Ending::Abandoned { .. }) && !input.is_empty() {
                handler.abandoned(now, key, &mut session, &input);
            }
            handler.closed(now, key, session, why);
        }
        self.layers.counters.closed.of(why).add(1);
        if lingers {
            return IoAction::CloseSendingHalf;
        }
        self.forget(key);
        if does_not_read {
            IoAction::Reset
        } else {
            IoAction::Close
        }
    }

    /// Bytes that all connections are known to hold, with what the kernel keeps for them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let (held_bytes, _) = self.table.held_bytes();
        held_bytes
    }

    /// The same, and the same with all that the kernel may keep besides; kept, with what is
    /// [knowingly left out](Self::uncounted_bytes), and counted anew by looking at each connection.
    /// For tests.
    #[must_use]
    pub fn accounts(&self) -> [(usize, usize); 2] {
        let Self { table, .. } = self;
        let (held_bytes, at_most) = table.held_bytes();
        let uncounted_bytes = table.uncounted_bytes();
        let kept = (held_bytes + uncounted_bytes, at_most + uncounted_bytes);
        [kept, table.count_held_bytes()]
    }

    /// Bytes that connections hold that are not counted because they are sent in this round. For
    /// tests.
    #[must_use]
    pub fn uncounted_bytes(&self) -> usize {
        self.table.uncounted_bytes()
    }

    fn forget(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.table.remove(key) {
            self.layers.leave(&connection);
        }
    }

    /// Something has been done about a connection, and is over.
    fn check(&self, key: ConnectionKey) {
        if cfg!(debug_assertions) {
            self.table.check_one(key);
        }
    }

    /// The same for any number of them.
    fn check_all(&self) {
        if cfg!(debug_assertions) {
            let active = &self.layers.active;
            let active = active.get(IpFamily::V4) + active.get(IpFamily::V6);
            assert_eq!(active, self.table.len());
            self.table.check_all();
        }
    }
}

impl<H: Handler> Layers<H> {
    /// Charges a client for a connection, and counts it, unless its network is denied. Returns
    /// whether that has to be taken back one day.
    fn count_client(&mut self, now: Now, ip: IpAddr) -> Result<bool, Refused> {
        if self.denied.as_mut().is_some_and(|it| it.denies(ip)) {
            return Err(Refused::NetworkDenied);
        }
        self.admission.charge(now, ip)?;
        self.admission.enter_client(ip)
    }

    /// The client is known: TLS or the protocol begins.
    fn begin(
        &mut self,
        connection: &mut Connection<H::Session>,
        cx: &mut Cx<'_>,
        client: Client,
        is_counted: bool,
    ) {
        connection.client = client_network(client.peer.ip());
        connection.is_counted = is_counted;
        if client.is_tls {
            connection.set_phase(cx, Phase::Handshake(client));
        } else {
            self.open(connection, cx, client);
        }
    }

    fn open(&mut self, connection: &mut Connection<H::Session>, cx: &mut Cx<'_>, client: Client) {
        let session = self.handler.open(cx.now, cx.key, client);
        let waits_for = WaitingFor::Request;
        connection.set_phase(cx, Phase::Open { session, waits_for });
    }

    /// A connection has gone.
    fn leave(&mut self, connection: &Connection<H::Session>) {
        self.admission.leave();
        if connection.is_counted {
            self.admission.leave_client(connection.client);
        }
        self.count_active(connection.family, false);
    }

    fn count_active(&mut self, family: IpFamily, comes: bool) {
        let active = self.active.get_mut(family);
        *active = if comes {
            *active + 1
        } else {
            active.saturating_sub(1)
        };
        self.counters.active.get(family).set(*active);
    }
}
