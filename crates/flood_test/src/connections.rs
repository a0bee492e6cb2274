//! Floods of connections, and of what goes over them.
//!
//! One thread keeps as many connections as the flood wants to hold, opens new ones for those that
//! the tracker has closed, and gives each its turn to send.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::stream::config::ConnectConfig;
use aquatic_load_test::stream::tls::TlsClient;
use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Resource, getrlimit};
use socket2::Type;

use crate::content::Make;
use crate::link::{self, is_not_ready};
use crate::local;
use crate::pace::Pace;

/// What a peer that does not read leaves to the kernel.
const NON_READER_BUFFER_BYTES: usize = 4_096;

/// Files that are not for the flood: honest clients' connections, and what every program has.
const OTHER_FILES: u64 = 500;

const EVENTS_MAX: usize = 1_024;
const POLL_TIMEOUT: Duration = Duration::from_millis(1);

/// Connections that are held, and what goes over them.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFlood {
    /// Connections at a time, if files allow it.
    pub held: usize,
    /// At most so many are opened in a second.
    pub opened_per_second: u64,
    /// Addresses that they come from, in turn.
    pub sources: u32,
    /// What goes over each at first.
    pub opening: Opening,
    /// What goes over it then.
    pub then: Then,
    /// Whether answers are read.
    pub reads: bool,
}

/// What goes over a connection at first.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// Nothing.
    Nothing,
    /// The first message of TLS (RFC 8446, section 4.1.2).
    ClientHello,
    /// This.
    Made(Make),
}

/// What goes over it then.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing.
    Silence,
    /// The end, once something has come back.
    CloseWhenAnswered,
    /// Messages: so many per second on all connections together.
    Messages(Make, u64),
    /// A message, one byte at a time: so many per second on all connections together.
    Dribble(Make, u64),
    /// The same with the first message of TLS.
    DribbleClientHello(u64),
}

/// What a flood has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Connections that were begun.
    pub opened: u64,
    /// Those that the tracker has closed.
    pub closed: u64,
    /// Messages, or single bytes of them, beyond what went over connections at first.
    pub sent: u64,
    /// Connections at the end.
    pub held: u64,
}

struct Connection {
    stream: TcpStream,
    /// What the kernel has not taken yet.
    waiting: Vec<u8>,
    /// Bytes of what all attackers dribble that went over this connection.
    dribbled: usize,
}

/// Attackers at work.
struct Attackers<'a> {
    flood: &'a ConnectionFlood,
    tracker: SocketAddr,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    client_hello: Vec<u8>,
    /// What is sent a byte at a time.
    dribble: Vec<u8>,
    rng: Rng,
    done: Done,
    /// Whose turn it is.
    turn: usize,
}

impl ConnectionFlood {
    /// Attacks until it is told to stop. `rate`, if there is one, takes the place of the flood's
    /// own rate of messages, or of new connections if it sends none.
    ///
    /// # Errors
    /// If the kernel gives no event queue, or TLS cannot be set up.
    pub fn run(
        &self,
        tracker: SocketAddr,
        rate: Option<u64>,
        stop: &AtomicBool,
    ) -> anyhow::Result<Done> {
        let mut attackers = Attackers::new(self, tracker)?;
        let mut opening = match self.then.per_second() {
            None => Pace::new(rate.unwrap_or(self.opened_per_second)),
            Some(_) => Pace::new(self.opened_per_second),
        };
        let per_second = self.then.per_second();
        let mut talking = Pace::new(per_second.map_or(0, |own| rate.unwrap_or(own)));
        let clock = Clock::start();
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !stop.load(Ordering::Relaxed) {
            attackers.open(opening.due(clock.elapsed()));
            attackers.talk(talking.due(clock.elapsed()));
            attackers.look(&mut events)?;
        }
        let held = attackers.connections.iter().flatten().count();
        attackers.done.held = held as u64;
        Ok(attackers.done)
    }
}

impl Then {
    fn per_second(self) -> Option<u64> {
        match self {
            Self::Silence | Self::CloseWhenAnswered => None,
            Self::Messages(_, rate) | Self::Dribble(_, rate) | Self::DribbleClientHello(rate) => {
                Some(rate)
            }
        }
    }
}

fn client_hello() -> anyhow::Result<Vec<u8>> {
    let mut session = TlsClient::new(&ConnectConfig::default())?.start()?;
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes)?;
    Ok(bytes)
}

impl<'a> Attackers<'a> {
    fn new(flood: &'a ConnectionFlood, tracker: SocketAddr) -> anyhow::Result<Self> {
        let mut rng = Rng::with_seed(3);
        let (files_max, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let room = usize::try_from(files_max.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
        let held = flood.held.min(room);
        let client_hello = client_hello()?;
        let dribble = match flood.then {
            Then::Dribble(make, _) => make(&mut rng),
            Then::DribbleClientHello(_) => client_hello.clone(),
            Then::Silence | Then::CloseWhenAnswered | Then::Messages(..) => Vec::new(),
        };
        Ok(Self {
            flood,
            tracker,
            poll: Poll::new().context("cannot get an event queue")?,
            connections: std::iter::repeat_with(|| None).take(held).collect(),
            free: (0..held).rev().collect(),
            client_hello,
            dribble,
            rng,
            done: Done::default(),
            turn: 0,
        })
    }

    fn open(&mut self, due: u64) {
        for _ in 0..due {
            let Some(place) = self.free.pop() else {
                return;
            };
            match self.connect(place) {
                Ok(connection) => {
                    self.done.opened += 1;
                    if let Some(it) = self.connections.get_mut(place) {
                        *it = Some(connection);
                    }
                }
                // Files or ports have run out here, or nobody listens there.
                Err(_) => return self.free.push(place),
            }
        }
    }

    fn connect(&mut self, place: usize) -> io::Result<Connection> {
        let number = u32::try_from(self.done.opened).unwrap_or(0) % self.flood.sources;
        let socket = local::socket(local::attacker(number), Type::STREAM)?;
        if !self.flood.reads {
            socket.set_recv_buffer_size(NON_READER_BUFFER_BYTES)?;
        }
        let mut stream = link::connect(socket, self.tracker)?;
        let interest = match self.flood.reads {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::WRITABLE,
        };
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(place), interest)?;
        let waiting = match self.flood.opening {
            Opening::Nothing => Vec::new(),
            Opening::ClientHello => self.client_hello.clone(),
            Opening::Made(make) => make(&mut self.rng),
        };
        Ok(Connection {
            stream,
            waiting,
            dribbled: 0,
        })
    }

    /// Gives some connections their turn.
    fn talk(&mut self, due: u64) {
        for _ in 0..due {
            self.turn = (self.turn + 1) % self.connections.len();
            let (place, then) = (self.turn, self.flood.then);
            let Some(Some(connection)) = self.connections.get_mut(place) else {
                continue;
            };
            let is_sent = match then {
                Then::Silence | Then::CloseWhenAnswered => Ok(false),
                Then::Messages(..) if !connection.waiting.is_empty() => Ok(false),
                Then::Messages(make, _) => {
                    connection.waiting = make(&mut self.rng);
                    connection.flush().map(|()| true)
                }
                Then::Dribble(..) | Then::DribbleClientHello(_) => {
                    connection.write_byte_of(&self.dribble)
                }
            };
            match is_sent {
                Ok(is_sent) => self.done.sent += u64::from(is_sent),
                Err(_) => self.lose(place),
            }
        }
    }

    /// Looks at what has happened.
    fn look(&mut self, events: &mut Events) -> anyhow::Result<()> {
        match self.poll.poll(events, Some(POLL_TIMEOUT)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result.context("cannot wait for events")?,
        }
        for event in events.iter() {
            let place = event.token().0;
            let Some(Some(connection)) = self.connections.get_mut(place) else {
                continue;
            };
            let mut result = connection.flush().map(|()| 0);
            if event.is_readable() && self.flood.reads && result.is_ok() {
                result = connection.drain();
            }
            let is_answered = matches!(result, Ok(1..));
            if is_answered && matches!(self.flood.then, Then::CloseWhenAnswered) {
                self.take(place);
            } else if result.is_err() || event.is_error() {
                self.lose(place);
            }
        }
        Ok(())
    }

    /// The tracker has closed a connection, or refused it.
    fn lose(&mut self, place: usize) {
        self.done.closed += u64::from(self.take(place));
    }

    /// Closes a connection. False if there is none.
    fn take(&mut self, place: usize) -> bool {
        let connection = self.connections.get_mut(place).and_then(Option::take);
        if connection.is_some() {
            self.free.push(place);
        }
        connection.is_some()
    }
}

impl Connection {
    /// Writes what waits, as far as the kernel takes it.
    fn flush(&mut self) -> io::Result<()> {
        link::flush(&mut self.stream, &mut self.waiting)
    }

    /// Writes the next byte of `text`, if there is one and what goes first has gone.
    fn write_byte_of(&mut self, text: &[u8]) -> io::Result<bool> {
        let Some(byte) = text.get(self.dribbled) else {
            return Ok(false);
        };
        if !self.waiting.is_empty() {
            return Ok(false);
        }
        match self.stream.write(&[*byte]) {
            Ok(size) => {
                self.dribbled += size;
                Ok(true)
            }
            Err(error) if is_not_ready(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads all that is there. The end of it is an error.
    fn drain(&mut self) -> io::Result<usize> {
        let (mut buffer, mut total) = ([0; 16_384], 0);
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(size) => total += size,
                Err(error) if is_not_ready(&error) => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::content;

    const FLOOD: ConnectionFlood = ConnectionFlood {
        held: 3,
        opened_per_second: 1_000,
        sources: 3,
        opening: Opening::Nothing,
        then: Then::Silence,
        reads: true,
    };

    /// Runs a flood while `tracker` does something with its listener. What it returns is kept until
    /// the flood has ended: a connection that is dropped before is opened again.
    fn attack<T>(flood: &ConnectionFlood, tracker: impl FnOnce(&TcpListener) -> T) -> Done {
        let (listener, stop) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            AtomicBool::new(false),
        );
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            let attackers = scope.spawn(|| flood.run(address, None, &stop).unwrap());
            let _kept = tracker(&listener);
            stop.store(true, Ordering::Relaxed);
            attackers.join().unwrap()
        })
    }

    #[test]
    fn what_the_tracker_closes_is_opened_again() {
        let done = attack(&FLOOD, |tracker| {
            (0..10).for_each(|_| drop(tracker.accept().unwrap()));
        });
        assert!(done.opened >= 10 && done.closed >= 7, "{done:?}");
        assert!(done.held <= 3);
    }

    #[test]
    fn sources_take_turns() {
        let mut sources = Vec::new();
        let done = attack(&FLOOD, |tracker| {
            let connections: Vec<_> = (0..3).map(|_| tracker.accept().unwrap()).collect();
            sources.extend(connections.iter().map(|(_, address)| address.ip()));
            connections
        });
        sources.sort_unstable();
        assert_eq!(sources, [0, 1, 2].map(local::attacker));
        assert_eq!(done.opened, 3);
    }

    #[test]
    fn bytes_are_dribbled_behind_the_opening() {
        let flood = ConnectionFlood {
            opening: Opening::Made(content::ws_upgrade),
            then: Then::Dribble(content::ws_slow_frame, 300),
            ..FLOOD
        };
        let (mut rng, mut bytes) = (Rng::with_seed(3), vec![0; 300]);
        let done = attack(&flood, |tracker| {
            let (mut stream, _) = tracker.accept().unwrap();
            stream.read_exact(&mut bytes).unwrap();
        });
        let opening = content::ws_upgrade(&mut rng);
        let (first, dribbled) = bytes.split_at(opening.len());
        assert_eq!(first, opening);
        assert!(content::ws_slow_frame(&mut rng).starts_with(dribbled));
        assert!(done.sent >= dribbled.len() as u64, "a byte each: {done:?}");
    }

    #[test]
    fn who_does_not_read_is_sent_nothing_more_in_the_end() {
        let flood = ConnectionFlood {
            held: 1,
            reads: false,
            then: Then::Messages(content::http_scrape, 100),
            ..FLOOD
        };
        attack(&flood, |tracker| {
            let (mut stream, _) = tracker.accept().unwrap();
            stream
                .set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            let error = loop {
                if let Err(error) = stream.write_all(&[0; 65_536]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        });
    }
}
