//! The event loop on mio: epoll on Linux, kqueue elsewhere.
//!
//! Sockets are registered once, for both directions, and report changes only (edges). So an
//! ordinary request costs one read, which is short and thereby says that there is no more, and one
//! write; nothing else but its share of a wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use anyhow::Context;
use aquatic_channel::{IdleStrategy, SleepGate, WaitHandle};
use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::Finisher;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::bounds::READ_CHUNK_BYTES;
use crate::event_loop::{
    ACCEPT_PAUSE_MICROS, ACCEPTS_PER_TURN, BATCH_EVENTS, EVENTS_PER_ROUND, SLEEP_MAX, STOP_ROUND,
    Sockets,
};
use crate::handler::{ConnectionKey, Handler};
use crate::hub::{Hub, IoAction};
use crate::kernel::kernel_bytes;
use crate::listener::{concerns_one_connection, forget_unsent};

/// Reads from one connection in one round.
const READS_PER_ROUND: usize = 4;

/// Events that a guest takes at most before its host has a turn: a handshake of TLS can take a
/// millisecond, and the host's sockets overflow meanwhile.
const GUEST_EVENTS_PER_ROUND: usize = 16;

const WAKER: Token = Token(usize::MAX);

/// A place for a worker to wait.
///
/// # Errors
/// If a file descriptor cannot be allocated.
pub fn wait_handle() -> anyhow::Result<WaitHandle<Poll>> {
    let poll = Poll::new().context("cannot make a poll")?;
    let waker = mio::Waker::new(poll.registry(), WAKER).context("cannot make a waker")?;
    Ok(WaitHandle::new(poll, move || {
        if let Err(error) = waker.wake() {
            log::error!("cannot wake a worker: {error}");
        }
    }))
}

/// Runs the event loop of a worker; returns only on a fatal error. `batch_wait` is how long it may
/// wait for a batch while it is busy; `finisher` says when it is to end its connections, and waits
/// for that.
///
/// # Errors
/// If it cannot wait at all. No client has this effect.
pub fn run<H: Handler>(
    hub: Hub<H>,
    listeners: Vec<StdListener>,
    (mut poll, gate): (Poll, SleepGate),
    clock: Clock,
    batch_wait: Duration,
    finisher: Option<Finisher>,
) -> anyhow::Result<()> {
    let mut rounds = Rounds {
        worker: Worker::new(hub, listeners, poll.registry())?,
        idle: IdleStrategy::new(batch_wait),
        clock,
        finisher,
        is_stopping: false,
    };
    let mut events = Events::with_capacity(EVENTS_PER_ROUND);
    loop {
        heartbeat::beat();
        let timeout = rounds.step(poll.registry(), &events);
        let has_pending = || rounds.has_pending();
        let waited = gate.sleep(timeout, has_pending, |time| {
            poll.poll(&mut events, Some(time))
        });
        if let Err(error) = waited
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error).context("cannot wait for connections");
        }
    }
}

/// The event loop without its waits: so that somebody else can wait, for more than connections.
struct Rounds<H: Handler> {
    worker: Worker<H>,
    idle: IdleStrategy,
    clock: Clock,
    finisher: Option<Finisher>,
    /// As of the last round.
    is_stopping: bool,
}

impl<H: Handler> Rounds<H> {
    /// Does a round, with the events of the last wait. Returns how long the next wait may last.
    /// `registry` is where connections are waited for.
    fn step(&mut self, registry: &Registry, events: &Events) -> Duration {
        let round = self.round(registry, events);
        let (worker, idle) = (&self.worker, &mut self.idle);
        idle.note(round.arrivals);
        let mut timeout = Duration::ZERO;
        if !round.has_more && events.iter().count() < BATCH_EVENTS {
            let wait = idle.decide(round.now.micros);
            timeout = wait.coalesce(SLEEP_MAX, || worker.hub.has_pending());
        }
        if self.is_stopping {
            timeout = timeout.min(STOP_ROUND);
        }
        timeout
    }

    fn round(&mut self, registry: &Registry, events: &Events) -> Round {
        let worker = &mut self.worker;
        let now = Now::read(self.clock);
        let mut arrivals = worker.receive(now, events);
        let stops = self.finisher.as_mut().filter(|it| it.is_stopping());
        self.is_stopping = stops.is_some();
        match stops {
            None => arrivals += worker.accept(now, registry),
            Some(finisher) if worker.hub.stop(now) => finisher.finish(),
            Some(_) => {}
        }
        // Again, so that the time that requests take is seen.
        let now = Now::read(self.clock);
        arrivals += worker.hub.finish(now);
        let ask = |socket: &Socket| kernel_bytes(&socket.stream);
        worker.sockets.ask_kernel(now, &mut worker.hub, ask);
        let has_more = worker.hub.maintain(now);
        worker.send(now);

        Round {
            now,
            arrivals,
            has_more: has_more || worker.has_work(now, !self.is_stopping),
        }
    }

    /// Whether a round is due although no event tells of it.
    fn has_pending(&self) -> bool {
        let stops = self.finisher.as_ref().is_some_and(Finisher::is_stopping);
        self.worker.hub.has_pending() || stops != self.is_stopping
    }
}

/// What a round brought.
struct Round {
    /// When it ended, nearly.
    now: Now,
    /// Connections that had something, and answers of other workers.
    arrivals: usize,
    /// The next one is due at once.
    has_more: bool,
}

/// A worker without a thread: somebody else waits for what happens to its connections, besides
/// other things. To be made in the thread where it is used.
pub struct Guest<H: Handler> {
    poll: Poll,
    events: Events,
    rounds: Rounds<H>,
    /// Not all events have been taken, or there is something to do without any.
    is_due: bool,
    /// When the next round is due at the latest.
    next_micros: u64,
}

impl<H: Handler> Guest<H> {
    /// A worker that accepts connections from `listeners`. `finisher` says when it is to end its
    /// connections, and waits for that.
    ///
    /// # Errors
    /// If a file descriptor cannot be allocated.
    pub fn new(
        hub: Hub<H>,
        listeners: Vec<StdListener>,
        clock: Clock,
        finisher: Finisher,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot make a poll")?;
        let rounds = Rounds {
            worker: Worker::new(hub, listeners, poll.registry())?,
            idle: IdleStrategy::new(Duration::ZERO),
            clock,
            finisher: Some(finisher),
            is_stopping: false,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(GUEST_EVENTS_PER_ROUND),
            rounds,
            is_due: true,
            next_micros: 0,
        })
    }

    /// Becomes readable when something happens to a connection.
    #[must_use]
    pub fn wait_file(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// What it does with its connections.
    pub fn handler_mut(&mut self) -> &mut H {
        self.rounds.worker.hub.handler_mut()
    }

    /// Whether a round is due: `is_ready` says that something has happened to a connection.
    #[must_use]
    pub fn is_due(&self, now: Now, is_ready: bool) -> bool {
        is_ready || self.is_due || now.micros >= self.next_micros || self.has_pending()
    }

    /// Whether a round is due for what others have sent.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.rounds.has_pending()
    }

    /// Does a round. Returns how many requests, or the like, there were.
    pub fn round(&mut self) -> usize {
        // It fails only if a signal comes just now: then nothing has happened.
        if self
            .poll
            .poll(&mut self.events, Some(Duration::ZERO))
            .is_err()
        {
            self.events.clear();
        }
        let round = self.rounds.round(self.poll.registry(), &self.events);
        self.is_due = round.has_more || self.events.iter().count() == GUEST_EVENTS_PER_ROUND;
        let sleep = match self.rounds.is_stopping {
            true => STOP_ROUND,
            false => SLEEP_MAX,
        };
        self.next_micros = round.now.micros + u64::try_from(sleep.as_micros()).unwrap_or(0);
        round.arrivals
    }

    /// How long the next round can wait if nothing happens.
    #[must_use]
    pub fn timeout(&self, now: Now) -> Duration {
        match self.is_due {
            true => Duration::ZERO,
            false => Duration::from_micros(self.next_micros.saturating_sub(now.micros)),
        }
    }
}

struct Worker<H: Handler> {
    hub: Hub<H>,
    listeners: Vec<Listener>,
    sockets: Sockets<Socket>,
    /// Connections that may have more to read, each once.
    unread: Vec<ConnectionKey>,
    /// The other list, for taking turns.
    turn: Vec<ConnectionKey>,
    buffer: Box<[u8]>,
    /// Nothing is accepted before.
    accept_after_micros: u64,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    is_ready: bool,
}

struct Socket {
    stream: TcpStream,
    /// There may be something to read.
    is_readable: bool,
    /// The end of the input has been announced: a short read is not the last.
    is_ending: bool,
    is_writable: bool,
    /// It is on the list of those that may have more to read.
    is_listed: bool,
}

impl<H: Handler> Worker<H> {
    fn new(hub: Hub<H>, listeners: Vec<StdListener>, registry: &Registry) -> anyhow::Result<Self> {
        let listeners = listeners
            .into_iter()
            .enumerate()
            .map(|(index, socket)| {
                let address = socket.local_addr().context("cannot watch a listener")?;
                let mut socket = TcpListener::from_std(socket);
                registry
                    .register(&mut socket, listener_token(index), Interest::READABLE)
                    .context("cannot watch a listener")?;
                Ok(Listener {
                    socket,
                    address,
                    is_ready: true,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            hub,
            listeners,
            sockets: Sockets::new(),
            unread: Vec::new(),
            turn: Vec::new(),
            buffer: vec![0; READ_CHUNK_BYTES].into_boxed_slice(),
            accept_after_micros: 0,
        })
    }

    /// Whether there is something to do that no event will tell of.
    fn has_work(&self, now: Now, accepts: bool) -> bool {
        let may_accept = accepts && now.micros >= self.accept_after_micros;
        !self.unread.is_empty() || may_accept && self.listeners.iter().any(|it| it.is_ready)
    }

    /// Reads from every connection that has something. Returns how many those were.
    fn receive(&mut self, now: Now, events: &Events) -> usize {
        let mut readers = 0;
        std::mem::swap(&mut self.turn, &mut self.unread);
        while let Some(key) = self.turn.pop() {
            if let Some(socket) = self.sockets.get(key) {
                socket.is_listed = false;
                self.read(now, key);
                readers += 1;
            }
        }
        for event in events {
            let Token(token) = event.token();
            let Some((key, socket)) = self.sockets.at(token) else {
                self.listener_event(token);
                continue;
            };
            let key = *key;
            socket.is_ending |= event.is_read_closed() || event.is_error();
            socket.is_readable |= event.is_readable() || socket.is_ending;
            if event.is_writable() && !socket.is_writable {
                socket.is_writable = true;
                self.flush(now, key);
            }
            // One that is listed has had its turn.
            if event.is_readable() || event.is_read_closed() {
                self.read(now, key);
                readers += 1;
            }
        }
        readers
    }

    fn listener_event(&mut self, token: usize) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.is_ready |= listener_token(index) == Token(token);
        }
    }

    fn read(&mut self, now: Now, key: ConnectionKey) {
        for _ in 0..READS_PER_ROUND {
            let Some(socket) = self.sockets.get(key) else {
                return;
            };
            if !socket.is_readable {
                return;
            }
            if !self.hub.wants_input(key) {
                self.hub.leave_unread(now, key);
                return;
            }
            match socket.stream.read(&mut self.buffer) {
                Ok(0) => {
                    socket.is_readable = false;
                    self.hub.read_ended(now, key);
                }
                Ok(bytes) => {
                    // A short read has emptied the socket; what comes later is another event.
                    socket.is_readable = bytes == self.buffer.len() || socket.is_ending;
                    if let Some(bytes) = self.buffer.get_mut(..bytes) {
                        self.hub.receive(now, key, bytes);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => socket.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    socket.is_readable = false;
                    self.hub.failed(now, key);
                }
            }
        }
        self.list_if_readable(key);
    }

    /// Gives a connection that may have more to read another turn.
    fn list_if_readable(&mut self, key: ConnectionKey) {
        if let Some(socket) = self.sockets.get(key)
            && socket.is_readable
            && !socket.is_listed
        {
            socket.is_listed = true;
            self.unread.push(key);
        }
    }

    /// Flushes all connections about which something has been decided.
    fn send(&mut self, now: Now) {
        while let Some(key) = self.hub.next_queued() {
            self.flush(now, key);
        }
    }

    fn flush(&mut self, now: Now, key: ConnectionKey) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        while socket.is_writable {
            let output = self.hub.output(key);
            if output.is_empty() {
                break;
            }
            let sent = match socket.stream.write(output) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => {
                    self.hub.failed(now, key);
                    break;
                }
            };
            socket.is_writable = sent == output.len();
            self.hub.sent(now, key, sent);
        }
        let Self { hub, buffer, .. } = self;
        hub.take_rest(now, key, buffer, |buffer| socket.stream.read(buffer));
        let action = hub.next_action(now, key, socket.is_readable);
        match action {
            IoAction::Read => self.list_if_readable(key),
            IoAction::DoNotRead => {}
            IoAction::CloseSendingHalf => {
                // If that fails, so does the next read.
                let _ = socket.stream.shutdown(Shutdown::Write);
                self.list_if_readable(key);
            }
            IoAction::Close | IoAction::Reset => {
                if action == IoAction::Reset {
                    forget_unsent(&socket.stream);
                }
                self.sockets.remove(key);
            }
        }
    }

    /// Accepts connections. Returns how many.
    fn accept(&mut self, now: Now, registry: &Registry) -> usize {
        if now.micros < self.accept_after_micros {
            return 0;
        }
        let mut accepted = 0;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(listener) = self.listeners.get_mut(index).filter(|it| it.is_ready) else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        accepted += 1;
                        let local = listener.address;
                        self.admit(now, registry, stream, (peer, local));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        listener.is_ready = false;
                    }
                    Err(error) if concerns_one_connection(&error) => {}
                    Err(error) => {
                        self.hub.accept_failed(now, &error);
                        self.accept_after_micros = now.micros + ACCEPT_PAUSE_MICROS;
                        return accepted;
                    }
                }
            }
        }
        accepted
    }

    fn admit(
        &mut self,
        now: Now,
        registry: &Registry,
        mut stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
    ) {
        let Ok(key) = self.hub.accept(now, peer, local) else {
            return;
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = registry.register(&mut stream, Token(key.index()), interest);
        let socket = Socket {
            stream,
            is_readable: false,
            is_ending: false,
            is_writable: true,
            is_listed: false,
        };
        self.sockets.insert(key, socket);
        if let Err(error) = registered {
            self.hub.accept_failed(now, &error);
            self.hub.failed(now, key);
        }
        if let Some(evicted) = self.hub.evicted() {
            self.flush(now, evicted);
        }
    }
}

/// Below the waker's.
fn listener_token(index: usize) -> Token {
    Token(WAKER.0 - 1 - index)
}
