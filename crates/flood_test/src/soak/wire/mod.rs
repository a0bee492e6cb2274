//! How requests go to the tracker, and answers come back: one way for each protocol.

mod http;
mod udp;
mod ws;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use aquatic_types::{AnnounceEvent, InfoHash};
use aquatic_udp_protocol::ScrapeRow;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::Type;

use crate::catalogue::Protocol;
use crate::{link, local};

/// Events that one system call tells of at most.
const EVENTS_MAX: usize = 1_024;

/// The id of no request: a connection has failed over which nothing was asked.
pub(super) const NOBODY: u32 = u32::MAX;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Comes back with the answer.
    pub(super) id: u32,
    /// The socket or connection that it goes over.
    pub(super) lane: u32,
    pub(super) request: Request,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Announce {
        info_hash: InfoHash,
        port: u16,
        event: AnnounceEvent,
        is_seeder: bool,
    },
    /// In ascending order.
    Scrape(Vec<InfoHash>),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To an announce.
    Swarm,
    /// To a scrape, in the order in which it was asked.
    Rows(Vec<ScrapeRow>),
    /// The tracker will not, and says why.
    Refused(String),
    /// No answer will come, or none that can be understood.
    Failed(String),
}

/// Answers, each with the id of its request.
pub(super) type Answers = Vec<(u32, Answer)>;

/// Messages of WebTorrent that peers have for each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forwarded {
    /// Offers that have come, each of which was answered.
    pub(super) offers: u64,
    /// Answers that have come.
    pub(super) answers: u64,
}

/// A way to the tracker.
pub(super) trait Wire {
    /// Sends a request, as soon as that can be.
    fn send(&mut self, order: &Order, now_micros: u64) -> io::Result<()>;

    /// Waits for what happens, and takes the answers that have come.
    fn look(&mut self, timeout: Duration, answers: &mut Answers) -> io::Result<()>;

    /// Closes the connection of a lane without a word.
    fn vanish(&mut self, _lane: u32) {}

    /// Connections that are open now, and those that were opened.
    fn connections(&self) -> (u64, u64) {
        (0, 0)
    }

    fn forwarded(&self) -> Forwarded {
        Forwarded::default()
    }
}

/// Opens it. Each lane has an address of its own.
pub(super) fn open(
    protocol: Protocol,
    tracker: SocketAddr,
    lanes: u32,
) -> anyhow::Result<Box<dyn Wire>> {
    Ok(match protocol {
        Protocol::Udp => Box::new(udp::UdpWire::new(tracker, lanes)?),
        Protocol::Http => Box::new(http::HttpWire::new(tracker, lanes)?),
        Protocol::Ws => Box::new(ws::WsWire::new(tracker, lanes)?),
    })
}

/// The TCP connections of a wire: the events of all of them, and how many there are.
struct Streams {
    tracker: SocketAddr,
    poll: Poll,
    events: Events,
    /// Now. Whoever drops a connection takes it off.
    open: u64,
    opened: u64,
}

impl Streams {
    fn new(tracker: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            tracker,
            poll: Poll::new().context("cannot get an event queue")?,
            events: Events::with_capacity(EVENTS_MAX),
            open: 0,
            opened: 0,
        })
    }

    /// Begins to connect from a lane's address; events will name the `place`. At its end the
    /// connection is reset; or, if it `ends_in_order`, closed as TCP should be.
    fn open(&mut self, lane: u32, place: usize, ends_in_order: bool) -> io::Result<TcpStream> {
        let socket = local::socket(local::honest(lane), Type::STREAM)?;
        if ends_in_order {
            socket.set_linger(None)?;
        }
        socket.set_tcp_nodelay(true)?;
        let mut stream = link::connect(socket, self.tracker)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(place), interest)?;
        self.open += 1;
        self.opened += 1;
        Ok(stream)
    }

    /// Waits for events, and tells at which places there are some.
    fn wait(&mut self, timeout: Duration) -> io::Result<Vec<usize>> {
        self.poll.poll(&mut self.events, Some(timeout))?;
        Ok(self.events.iter().map(|event| event.token().0).collect())
    }
}

fn index(lane: u32) -> usize {
    usize::try_from(lane).unwrap_or(usize::MAX)
}
