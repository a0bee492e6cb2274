//! The sockets of an endpoint, and the loop that serves them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, HEAD_BYTES_MAX, Phase};
use super::routes::{Response, Routes};
use crate::bind;
use crate::clock::Clock;
use crate::heartbeat;

/// Connections that are held at once. A monitoring system has one or two.
const CONNECTIONS_MAX: usize = 16;

/// Connections that are accepted in one round.
const ACCEPTS_PER_ROUND: usize = 64;

/// How long nothing is accepted after that has failed, for want of files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sockets are named by their place in the list of connections, the listener by the one after.
const LISTENER: Token = Token(CONNECTIONS_MAX);

/// An address at which an endpoint is going to serve.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    poll: Poll,
}

impl Listener {
    /// Files that an endpoint has open at most: its connections and one more that is turned away,
    /// the listener and the poll.
    pub const FILES_MAX: usize = CONNECTIONS_MAX + 3;

    /// Binds the address. With port 0 the system chooses one.
    ///
    /// # Errors
    /// If that cannot be had.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let mut socket = bind::with_retry(address, TcpListener::bind)?;
        let poll = Poll::new().context("cannot make a poll")?;
        poll.registry()
            .register(&mut socket, LISTENER, Interest::READABLE)
            .context("cannot watch a listener")?;
        Ok(Self {
            address: socket.local_addr().context("cannot name the address")?,
            socket,
            poll,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// If it cannot wait for connections. No client has this effect.
    pub fn serve(self, routes: Routes) -> anyhow::Result<()> {
        let mut server = Server {
            listener: self.socket,
            poll: self.poll,
            sockets: [const { None }; CONNECTIONS_MAX],
            routes,
            may_accept: true,
            accept_after: Duration::ZERO,
            has_failed: false,
        };
        let clock = Clock::start();
        let mut events = Events::with_capacity(CONNECTIONS_MAX + 1);
        loop {
            let now = clock.elapsed();
            server.note(&events);
            server.take_turns(now);
            server.accept(now);
            server.give_up_late_ones(now);
            heartbeat::beat();
            let wait = server.wait(clock.elapsed()).min(heartbeat::INTERVAL);
            match server.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot wait for connections");
                }
                _ => {}
            }
        }
    }
}

struct Server {
    listener: TcpListener,
    poll: Poll,
    sockets: [Option<Socket>; CONNECTIONS_MAX],
    routes: Routes,
    /// There may be somebody to accept.
    may_accept: bool,
    /// Nobody is accepted before.
    accept_after: Duration,
    /// The last attempt to accept somebody has failed, which has been told.
    has_failed: bool,
}

struct Socket {
    stream: TcpStream,
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
                None => self.may_accept = true,
            }
        }
    }

    /// Lets each connection that has something to do go on.
    fn take_turns(&mut self, now: Duration) {
        for place in &mut self.sockets {
            if let Some(socket) = place
                && socket.is_ready
                && !socket.take_turn(now, &mut self.routes)
            {
                *place = None;
            }
        }
    }

    fn accept(&mut self, now: Duration) {
        if !self.may_accept || now < self.accept_after {
            return;
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            match self.listener.accept() {
                Ok((stream, _)) => {
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

    /// Gives the connection a place, and its first turn: what it asks for has often come already.
    fn take_in(&mut self, now: Duration, mut stream: TcpStream) {
        let Some(place) = self.free_place() else {
            turn_away(now, stream);
            return;
        };
        let token = Token(place);
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, both) {
            log::debug!("cannot watch a connection to the endpoint: {error}");
            return;
        }
        // An answer is written at once, so nothing is to be gathered.
        let _ = stream.set_nodelay(true);
        let mut socket = Socket {
            stream,
            connection: Connection::new(now),
            is_ready: true,
        };
        if socket.take_turn(now, &mut self.routes)
            && let Some(place) = self.sockets.get_mut(place)
        {
            *place = Some(socket);
        }
    }

    /// A place that is free; or is made so, at the cost of the connection that does least with it
    /// for the longest time. One that takes its answer is left alone.
    fn free_place(&mut self) -> Option<usize> {
        if let Some(free) = self.sockets.iter().position(Option::is_none) {
            return Some(free);
        }
        let all = self.sockets.iter().enumerate();
        let idle = all.filter_map(|(place, socket)| {
            let connection = &socket.as_ref()?.connection;
            let phase = connection.phase();
            (phase != Phase::Sending).then(|| (phase, connection.since(), place))
        });
        let (_, _, place) = idle.min()?;
        *self.sockets.get_mut(place)? = None;
        Some(place)
    }

    fn give_up_late_ones(&mut self, now: Duration) {
        for place in &mut self.sockets {
            let is_late = |socket: &Socket| now >= socket.connection.deadline();
            if place.as_ref().is_some_and(is_late) {
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
        let Self {
            stream, connection, ..
        } = self;
        connection.answer(now, routes);
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
fn turn_away(now: Duration, mut stream: TcpStream) {
    let mut connection = Connection::new(now);
    connection.refuse(&Response::error(503, "too many connections: try again"));
    let _ = stream.write(connection.output());
    let _ = stream.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    /// More than the kernel keeps for a client that does not read.
    const LARGE_BYTES: usize = 32 << 20;

    const WAIT_MAX: Duration = Duration::from_secs(60);

    /// An endpoint whose thread ends with the tests.
    fn serve() -> SocketAddr {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.address();
        let routes = Routes::default()
            .with("/page", || Response::ok("text/plain", "page"))
            .with("/large", || {
                Response::ok("text/plain", vec![b'x'; LARGE_BYTES])
            });
        thread::spawn(move || listener.serve(routes));
        address
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }

    /// The beginning of what comes, up to the end of the first page.
    fn answer(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\npage") {
            let mut bytes = [0; 512];
            let size = stream.read(&mut bytes).unwrap();
            assert!(size > 0, "{text}");
            text += str::from_utf8(&bytes[..size]).unwrap();
        }
        text
    }

    /// Everything up to the end, or to what an abrupt end leaves of it.
    fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        let is_late = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!end.is_err_and(is_late), "no end");
        bytes
    }

    #[test]
    fn a_connection_is_asked_again_and_again() {
        let mut stream = connect(serve());
        for _ in 0..3 {
            ask(&mut stream, "/page");
            assert!(answer(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
        }
        ask(&mut stream, "/page");
        ask(&mut stream, "/page");
        stream.shutdown(Shutdown::Write).unwrap();
        let both = String::from_utf8(rest(&mut stream)).unwrap();
        assert_eq!(both.matches("200 OK").count(), 2, "{both}");
    }

    #[test]
    fn the_oldest_idle_connection_gives_way() {
        let address = serve();
        let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
        for stream in &mut held {
            ask(stream, "/page");
            answer(stream);
        }
        // The first is no longer the one that has been idle for the longest time.
        ask(&mut held[0], "/page");
        answer(&mut held[0]);
        let mut new = connect(address);
        ask(&mut new, "/page");
        answer(&mut new);
        assert!(rest(&mut held[1]).is_empty());
        for place in [0, 2, CONNECTIONS_MAX - 1] {
            ask(&mut held[place], "/page");
            answer(&mut held[place]);
        }
    }

    #[test]
    fn who_takes_an_answer_is_left_alone() {
        let address = serve();
        let mut slow: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
        for stream in &mut slow {
            ask(stream, "/large");
            // The answer is on its way.
            stream.read_exact(&mut [0]).unwrap();
        }
        let turned_away = String::from_utf8(rest(&mut connect(address))).unwrap();
        assert!(turned_away.starts_with("HTTP/1.1 503 "), "{turned_away}");
        for stream in &mut slow {
            stream.shutdown(Shutdown::Write).unwrap();
            let bytes = rest(stream);
            assert!(bytes.len() > LARGE_BYTES && bytes.ends_with(b"xxx"));
        }
        let mut new = connect(address);
        ask(&mut new, "/page");
        answer(&mut new);
    }

    #[test]
    fn an_answer_to_rubbish_arrives() {
        let mut stream = connect(serve());
        stream.write_all(&[b'x'; 64 * 1_024]).unwrap();
        let answer = String::from_utf8(rest(&mut stream)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[test]
    fn who_asks_for_nothing_is_given_up() {
        let mut stream = connect(serve());
        stream.write_all(b"GET /pa").unwrap();
        assert!(rest(&mut stream).is_empty());
    }
}
