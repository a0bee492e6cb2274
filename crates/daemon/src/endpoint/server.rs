//! The sockets of an endpoint, and the loop that serves them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use super::action_worker::{ActionWorker, Done, Todo};
use super::connection::{Connection, HEAD_BYTES_MAX, Phase};
use super::response::Response;
use super::routes::Routes;
use super::stream::Stream;
use super::unix_socket::UnixSocket;
use crate::bind;
use crate::clock::Clock;
use crate::heartbeat;

/// Connections that are held at once. A monitoring system has one or two.
const CONNECTIONS_MAX: usize = 16;

/// Of these, so many may be served for long: actions, and answers that clients take slowly. The
/// others are kept for those who ask for what is there always, `/health` before all.
const LONG_CONNECTIONS_MAX: usize = 12;

/// Connections that are accepted in one round.
const ACCEPTS_PER_ROUND: usize = 64;

/// How long the turns of those who are there may take, and how long the accepting of others. So
/// twice this, and what two pages take, is how long somebody waits who asks for `/health`.
const ROUND_MAX: Duration = Duration::from_millis(150);

/// Of that, so much is left for those whose pages wait for nobody.
const UNHURRIED_MIN: Duration = Duration::from_millis(50);

/// How often a body is read from in one turn.
const BODY_READS_PER_TURN: usize = 32;

/// How long nothing is accepted after that has failed, for want of files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sockets are named by their place in the list of connections, the others by what comes after.
const LISTENER: Token = Token(CONNECTIONS_MAX);
const UNIX_LISTENER: Token = Token(CONNECTIONS_MAX + 1);
const WAKER: Token = Token(CONNECTIONS_MAX + 2);

/// An endpoint: its sockets, and the connections to them.
#[derive(Debug)]
pub struct Server {
    tcp: Option<TcpListener>,
    unix: Option<UnixSocket>,
    poll: Poll,
    waker: Arc<Waker>,
    sockets: [Option<Socket>; CONNECTIONS_MAX],
    /// How many connections there have been.
    serial: u64,
    routes: Routes,
    todo: Option<Sender<Todo>>,
    done: Option<Receiver<Done>>,
    /// Whose turn it is first in a round.
    first_place: usize,
    /// Who is accepted next.
    is_turn_of_unix: bool,
    /// There may be somebody to accept.
    may_accept: bool,
    /// Nobody is accepted before.
    accept_after: Duration,
    /// The last attempt to accept somebody has failed, which has been told.
    has_failed: bool,
    clock: Clock,
}

impl Server {
    /// Files that an endpoint has open at most: its connections and one more that is turned away,
    /// the listeners and the folder of one of them, the poll and its waker.
    pub const FILES_MAX: usize = CONNECTIONS_MAX + 6;

    /// Binds the address, if there is one, with port 0 one that the system chooses; and serves at
    /// the socket, if there is one.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(address: Option<SocketAddr>, unix: Option<UnixSocket>) -> anyhow::Result<Self> {
        let mut tcp = address
            .map(|address| bind::with_retry(address, TcpListener::bind))
            .transpose()?;
        let mut unix = unix;
        let poll = Poll::new().context("cannot make a poll")?;
        let registry = poll.registry();
        let failure = "cannot watch a listener";
        if let Some(tcp) = &mut tcp {
            registry
                .register(tcp, LISTENER, Interest::READABLE)
                .context(failure)?;
        }
        if let Some(unix) = &mut unix {
            registry
                .register(unix.listener_mut(), UNIX_LISTENER, Interest::READABLE)
                .context(failure)?;
        }
        let waker = Waker::new(registry, WAKER).context("cannot make a waker")?;
        Ok(Self {
            tcp,
            unix,
            poll,
            waker: Arc::new(waker),
            sockets: [const { None }; CONNECTIONS_MAX],
            serial: 0,
            routes: Routes::default(),
            todo: None,
            done: None,
            first_place: 0,
            is_turn_of_unix: false,
            may_accept: true,
            accept_after: Duration::ZERO,
            has_failed: false,
            clock: Clock::start(),
        })
    }

    /// Where it listens, if it has an address.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<Option<SocketAddr>> {
        self.tcp.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// What ends a wait.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Answers by these routes from now on. Returns who does their actions: nobody gets an answer
    /// to one unless it [runs](ActionWorker::run).
    pub fn set_routes(&mut self, mut routes: Routes) -> ActionWorker {
        let (todo, todos) = channel();
        let (dones, done) = channel();
        let actions = routes.take_actions();
        self.routes = routes;
        self.todo = Some(todo);
        self.done = Some(done);
        ActionWorker::new(actions, todos, dones, self.waker())
    }

    /// Serves until it is over, which is looked at whenever the [waker](Self::waker) has been used,
    /// and at least once per [`heartbeat::INTERVAL`].
    ///
    /// # Errors
    /// If it cannot wait for connections. No client has this effect.
    pub fn serve_until(&mut self, is_over: &AtomicBool) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(CONNECTIONS_MAX + 3);
        while !is_over.load(Ordering::Acquire) {
            let now = self.clock.elapsed();
            self.take_in_answers(now);
            self.take_turns(now);
            // They have their own time: who keeps the others busy keeps nobody out.
            self.accept(self.clock.elapsed());
            self.give_up_late_ones(now);
            heartbeat::beat();
            let wait = self.wait(self.clock.elapsed()).min(heartbeat::INTERVAL);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot wait for connections");
                }
                _ => {}
            }
            // Also when it is over: nobody is told of the same event again.
            self.note(&events);
        }
        Ok(())
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// As [`Self::serve_until`].
    pub fn serve(mut self) -> anyhow::Result<()> {
        self.serve_until(&AtomicBool::new(false))
    }
}

#[derive(Debug)]
struct Socket {
    stream: Stream,
    /// Which of all connections it is.
    serial: u64,
    connection: Connection,
    /// There may be something to read, or room to write.
    is_ready: bool,
}

impl Server {
    /// Notes who has something to do. Events tell of changes only.
    fn note(&mut self, events: &Events) {
        for event in events {
            match self.sockets.get_mut(event.token().0) {
                Some(Some(socket)) => socket.is_ready = true,
                Some(None) => {}
                None => self.may_accept |= event.token() != WAKER,
            }
        }
    }

    /// Answers clients for whom something has been done.
    fn take_in_answers(&mut self, now: Duration) {
        let Some(done) = &self.done else { return };
        for Done {
            place,
            serial,
            response,
        } in done.try_iter()
        {
            if let Some(Some(socket)) = self.sockets.get_mut(place)
                && socket.serial == serial
            {
                socket.connection.complete(now, &response);
                socket.is_ready = true;
            }
        }
    }

    /// Lets each connection that has something to do go on; as soon as the round is too long, in
    /// the next round, where whoever has waited is the first.
    fn take_turns(&mut self, now: Duration) {
        for step in 0..CONNECTIONS_MAX {
            let place = (self.first_place + step) % CONNECTIONS_MAX;
            if self.time_left(now).is_zero() {
                self.first_place = place;
                return;
            }
            let socket = self.sockets.get_mut(place).and_then(Option::take);
            let Some(mut socket) = socket else { continue };
            if !socket.is_ready || self.take_turn(now, place, &mut socket) {
                self.keep(place, socket);
            }
        }
    }

    fn keep(&mut self, place: usize, socket: Socket) {
        if let Some(place) = self.sockets.get_mut(place) {
            *place = Some(socket);
        }
    }

    /// Lets one of them go on, and hands on what is to be done for it. Returns whether it lives.
    fn take_turn(&mut self, now: Duration, place: usize, socket: &mut Socket) -> bool {
        let others = self.sockets.iter().flatten();
        let long = others.filter(|it| it.connection.is_long(now)).count();
        let patience = self.time_left(now).saturating_sub(UNHURRIED_MIN);
        self.routes.allow(patience, long < LONG_CONNECTIONS_MAX);
        let lives = socket.take_turn(now, &mut self.routes);
        if let (Some(job), Some(todo)) = (socket.connection.take_job(), &self.todo) {
            let serial = socket.serial;
            // Without a worker, the process is about to end.
            let _ = todo.send(Todo { place, serial, job });
        }
        lives
    }

    fn accept(&mut self, now: Duration) {
        if !self.may_accept || now < self.accept_after {
            return;
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            if self.time_left(now).is_zero() {
                return;
            }
            match self.accept_one() {
                Ok(stream) => {
                    self.has_failed = false;
                    self.take_in(now, stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.may_accept = false;
                    return;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        if !std::mem::replace(&mut self.has_failed, true) {
                            log::warn!("cannot accept connections to the endpoint: {error}");
                        }
                        self.accept_after = now + ACCEPT_PAUSE;
                        return;
                    }
                },
            }
        }
    }

    /// How much of a round is left that began at `now`.
    fn time_left(&self, now: Duration) -> Duration {
        (now + ROUND_MAX).saturating_sub(self.clock.elapsed())
    }

    /// From either listener that has somebody; if both have, from the one and the other in turn.
    fn accept_one(&mut self) -> io::Result<Stream> {
        self.is_turn_of_unix = !self.is_turn_of_unix;
        let first = self.accept_from(self.is_turn_of_unix);
        match first {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.accept_from(!self.is_turn_of_unix)
            }
            first => first,
        }
    }

    fn accept_from(&self, unix: bool) -> io::Result<Stream> {
        if unix {
            let unix = self.unix.as_ref().ok_or(ErrorKind::WouldBlock)?;
            let (stream, _) = unix.listener().accept()?;
            return Ok(Stream::Unix(stream));
        }
        let tcp = self.tcp.as_ref().ok_or(ErrorKind::WouldBlock)?;
        let (stream, _) = tcp.accept()?;
        // An answer is written at once, so nothing is to be gathered.
        let _ = stream.set_nodelay(true);
        Ok(Stream::Tcp(stream))
    }

    /// Gives the connection a place, and its first turn: what it asks for has often come already.
    fn take_in(&mut self, now: Duration, mut stream: Stream) {
        let Some(place) = self.free_place(now) else {
            turn_away(now, stream);
            return;
        };
        if let Err(error) = stream.register(self.poll.registry(), Token(place)) {
            log::debug!("cannot watch a connection to the endpoint: {error}");
            return;
        }
        self.serial += 1;
        let mut socket = Socket {
            stream,
            serial: self.serial,
            connection: Connection::new(now),
            is_ready: true,
        };
        if self.take_turn(now, place, &mut socket) {
            self.keep(place, socket);
        }
    }

    /// A place that is free; or is made so, at the cost of the connection that does least with it
    /// for the longest time. One that is being served is left alone.
    fn free_place(&mut self, now: Duration) -> Option<usize> {
        if let Some(free) = self.sockets.iter().position(Option::is_none) {
            return Some(free);
        }
        let all = self.sockets.iter().enumerate();
        let idle = all.filter_map(|(place, socket)| {
            let connection = &socket.as_ref()?.connection;
            let phase = connection.phase();
            (!connection.is_busy(now)).then(|| (phase, connection.since(), place))
        });
        let (_, _, place) = idle.min()?;
        *self.sockets.get_mut(place)? = None;
        Some(place)
    }

    fn give_up_late_ones(&mut self, now: Duration) {
        for place in &mut self.sockets {
            let Some(socket) = place else { continue };
            if socket.connection.give_up_work(now) {
                socket.is_ready = true;
            } else if now >= socket.connection.deadline() {
                *place = None;
            }
        }
    }

    /// How long nothing needs to be done unless something happens.
    fn wait(&self, now: Duration) -> Duration {
        let sockets = self.sockets.iter().flatten();
        let next = sockets.map(|socket| match socket.is_ready {
            true => now,
            false => socket.connection.deadline(),
        });
        let accept = self.may_accept.then_some(self.accept_after);
        let at = next.chain(accept).min();
        at.map_or(Duration::MAX, |at| at.saturating_sub(now))
    }
}

impl Socket {
    /// Goes on until there is nothing to do, or an answer has been sent: then it is the others'
    /// turn. Returns whether the connection lives.
    fn take_turn(&mut self, now: Duration, routes: &mut Routes) -> bool {
        match self.try_turn(now, routes) {
            Ok(lives) => lives,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_ready = false;
                true
            }
            Err(error) => error.kind() == ErrorKind::Interrupted,
        }
    }

    fn try_turn(&mut self, now: Duration, routes: &mut Routes) -> io::Result<bool> {
        for _ in 0..BODY_READS_PER_TURN {
            if !self.try_step(now, routes)? {
                return Ok(false);
            }
            if self.connection.phase() != Phase::ReadingBody {
                break;
            }
        }
        Ok(true)
    }

    fn try_step(&mut self, now: Duration, routes: &mut Routes) -> io::Result<bool> {
        let Self {
            stream, connection, ..
        } = self;
        connection.answer(now, routes);
        if connection.phase() == Phase::Working && connection.output().is_empty() {
            // It goes on when its answer is there.
            self.is_ready = false;
            return Ok(true);
        }
        if connection.output().is_empty() {
            let mut bytes = [0; HEAD_BYTES_MAX];
            let size = stream.read(&mut bytes)?;
            if size == 0 {
                return Ok(false);
            }
            connection.receive(now, bytes.get(..size).unwrap_or_default());
            connection.answer(now, routes);
        }
        while !connection.output().is_empty() {
            let size = stream.write(connection.output())?;
            if size == 0 {
                return Ok(false);
            }
            connection.sent(now, size);
        }
        if connection.phase() == Phase::Lingering {
            stream.shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }
}

/// Says that there is no room. The client may not hear it: nobody waits for that.
fn turn_away(now: Duration, mut stream: Stream) {
    let mut connection = Connection::new(now);
    connection.refuse(&Response::error(503, "too many connections: try again"));
    let _ = stream.write(connection.output());
    let _ = stream.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests;
