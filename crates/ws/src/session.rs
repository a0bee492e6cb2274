//! One connection: from bytes to messages. Pure.
//!
//! ```text
//!               the request is accepted
//!  Upgrading ──────────────────────────▶ Open: frames ──▶ messages ──▶ the service
//!      │                                  ▲                                │ request_sent()
//!      │ anything else                    └────────── responded() ◀────────┘
//!      ▼
//!   an HTTP response, and the end
//! ```
//!
//! Up to [`IN_FLIGHT_MAX`] requests of a connection are on their way to the swarms at once, or
//! [`IN_FLIGHT_IN_CROWD_MAX`] while very many others ask. Until one comes back its further bytes
//! stay where they are, so that nobody fills the queues alone, or makes a round long.

use std::mem;
use std::net::IpAddr;

use aquatic_daemon::clock::Now;
use aquatic_stream::{Connections, Io, SessionState, WaitingFor};
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_types::{CanonicalAddr, Seconds};
use tungstenite::protocol::frame::coding::OpCode;

use crate::frames::{self, Control, Data, Frame, Violation};
use crate::liveness::Patience;
use crate::membership::Membership;
use crate::offer_pace::OfferPace;
use crate::refusal::Failure;
use crate::url_key::UrlKey;

/// Requests of one connection that are on their way to the swarms at once.
pub const IN_FLIGHT_MAX: u16 = 64;

/// The same, while so much is asked that each round would take long: a round in which a thousand
/// connections each have everything served that they have sent would keep the others waiting.
pub const IN_FLIGHT_IN_CROWD_MAX: u16 = 4;

/// How large messages of clients may be.
#[derive(Clone, Copy, Debug)]
pub struct MessageBounds {
    /// Payload of a frame.
    pub frame_bytes_max: usize,
    /// All of a message, which may consist of several frames.
    pub message_bytes_max: usize,
    /// Requests that may be on their way to the swarms when a further message is read.
    pub in_flight_max: u16,
}

/// The state of a connection.
#[derive(Debug)]
pub struct Session {
    /// Who is at the other end; behind a reverse proxy known only when the request has come.
    pub client: CanonicalAddr,
    stage: Stage,
    /// What stands for a key in its URL, where clients need one.
    url_key: Option<UrlKey>,
    /// In which swarms its peers are.
    pub membership: Membership,
    /// A reply whose turn has not come.
    pub held: Option<Box<Held>>,
    /// The offers that the client has been handed.
    pub offer_pace: OfferPace,
    /// Requests that are on their way to the swarms.
    in_flight: u16,
    /// Bytes wait until one of them comes back.
    is_full: bool,
    /// The client will send nothing more.
    input_ended: bool,
    /// Nothing more is read, since the process is about to stop.
    is_stopping: bool,
    /// The message that comes, or came last, is text: in UTF-8.
    is_text: bool,
    /// When something last came.
    heard: Seconds,
    /// When the last ping went.
    pinged: Seconds,
}

// Clients may keep tens of thousands of connections open.
const _: () = assert!(Connections::<Session>::BYTES_EACH <= 200);

/// What waits for its turn. Nothing more is read from the connection until then.
///
/// Replies wait until everything that was asked before them has been answered, so that they do not
/// overtake each other.
#[derive(Debug)]
pub enum Held {
    /// A message, until the owner of its torrent has room for it.
    Message(Vec<u8>),
    /// To a scrape. Waits for its rows, too.
    Scrape(PendingScrape),
    /// To something that is not served.
    Failure(Failure),
}

#[derive(Debug)]
enum Stage {
    /// No WebSocket yet. Holds bytes in which no request ends, so that one that trickles in is not
    /// read again and again.
    Upgrading { seen_bytes: usize },
    /// A WebSocket, with the frames of a message whose last one is missing.
    Open { parts: Option<Box<Parts>> },
}

/// What has come of a message. Behind a pointer, since few messages come in parts.
#[derive(Debug, Default)]
struct Parts {
    payload: Vec<u8>,
}

/// What the bytes of a connection amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, for now.
    Nothing,
    /// A frame of so many bytes that needs nothing more to be done.
    Control(usize),
    /// A frame of so many bytes, which completes the message.
    Message(usize),
    /// The client breaks the rules.
    Violation(Violation),
}

impl Session {
    /// A connection with a client, or with the proxy in front of it.
    #[must_use]
    pub fn new(now: Now, peer: CanonicalAddr) -> Self {
        Self {
            client: peer,
            stage: Stage::Upgrading { seen_bytes: 0 },
            url_key: None,
            membership: Membership::default(),
            held: None,
            offer_pace: OfferPace::default(),
            in_flight: 0,
            is_full: false,
            input_ended: false,
            is_stopping: false,
            is_text: false,
            heard: now.seconds,
            pinged: now.seconds,
        }
    }

    /// How many bytes of the HTTP request have been looked at in vain; `None` if it has been
    /// accepted.
    #[must_use]
    pub fn upgrading(&self) -> Option<usize> {
        match self.stage {
            Stage::Upgrading { seen_bytes } => Some(seen_bytes),
            Stage::Open { .. } => None,
        }
    }

    /// The HTTP request is not whole.
    pub fn wait_for_request(&mut self, seen_bytes: usize) {
        self.stage = Stage::Upgrading { seen_bytes };
    }

    /// The connection is a WebSocket from now on, to a URL with this key.
    pub fn open(&mut self, client: CanonicalAddr, url_key: Option<UrlKey>) {
        self.client = client;
        self.url_key = url_key;
        self.stage = Stage::Open { parts: None };
    }

    /// The key of the connection, where clients need one.
    #[must_use]
    pub fn url_key(&self) -> Option<&UrlKey> {
        self.url_key.as_ref()
    }

    /// Seconds since something last came.
    #[must_use]
    pub fn silent_seconds(&self, now: Now) -> u32 {
        now.seconds.0.saturating_sub(self.heard.0)
    }

    /// Sends a ping if it is time. Returns when to look again: when the next ping would be due, or
    /// when peers are to leave if nothing comes.
    pub fn look(&mut self, now: Now, patience: Patience, io: &mut Io<'_>) -> Seconds {
        let ping_at = |it: &Self| it.heard.max(it.pinged) + patience.ping_seconds;
        if now.seconds >= ping_at(self) {
            self.pinged = now.seconds;
            frames::write_control(Control::Ping, &[], io.out);
        }
        let next_ping = ping_at(self);
        let peers_leave = self.heard + patience.peer_age_seconds_max;
        if peers_leave > now.seconds {
            next_ping.min(peers_leave)
        } else {
            next_ping
        }
    }

    /// Looks at all the bytes that have not been taken so far. Whole messages are put into
    /// `message`; control frames are answered.
    pub fn next(
        &mut self,
        now: Now,
        bytes: &[u8],
        bounds: MessageBounds,
        message: &mut Vec<u8>,
        io: &mut Io<'_>,
    ) -> Next {
        let Stage::Open { parts } = &mut self.stage else {
            return Next::Nothing;
        };
        if io.closes() || self.is_stopping {
            return Next::Nothing;
        }
        if self.in_flight >= bounds.in_flight_max || self.held.is_some() {
            self.is_full |= self.in_flight >= bounds.in_flight_max;
            // The tracker is the bottleneck: the client gets the longer, idle deadline.
            io.wait_for(WaitingFor::Idle);
            return Next::Nothing;
        }
        let frame = match Frame::read(bytes, bounds.frame_bytes_max) {
            Ok(Some(frame)) => frame,
            Ok(None) if self.input_ended => {
                self.close_when_idle(io);
                return Next::Nothing;
            }
            Ok(None) => {
                let is_between = bytes.is_empty() && parts.is_none();
                io.wait_for(if is_between {
                    WaitingFor::Idle
                } else {
                    WaitingFor::Request
                });
                return Next::Nothing;
            }
            Err(violation) => return Next::Violation(violation),
        };
        self.heard = now.seconds;
        if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = frame.opcode {
            self.is_text = kind == Data::Text;
        }
        match frame.opcode {
            OpCode::Control(kind) => match answer_control(kind, &frame, message, io) {
                Ok(()) => Next::Control(frame.size),
                Err(violation) => Next::Violation(violation),
            },
            OpCode::Data(kind) => match assemble(parts, kind, &frame, bounds, message) {
                Ok(true) => {
                    // So that the time for the next one begins, if it is there in part already.
                    io.wait_for(WaitingFor::Idle);
                    Next::Message(frame.size)
                }
                Ok(false) => Next::Control(frame.size),
                Err(violation) => Next::Violation(violation),
            },
        }
    }

    /// Whether the last message came as text, which has to be UTF-8. Who reads it looks at that.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// A request is on its way to the swarms.
    pub fn request_sent(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// The reply that is held, if its turn has come.
    pub fn take_held(&mut self) -> Option<Held> {
        let is_due = |held: &mut Box<Held>| match &**held {
            Held::Scrape(scrape) => scrape.is_complete(),
            Held::Failure(_) => true,
            Held::Message(_) => false,
        };
        if self.has_in_flight() {
            return None;
        }
        self.held.take_if(is_due).map(|held| *held)
    }

    /// Whether something is on its way to the swarms for which the client waits; but for a scrape.
    #[must_use]
    pub fn has_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// One has come back. Returns whether bytes, or the end of the connection, may wait for that.
    pub fn responded(&mut self) -> bool {
        let was_full = mem::take(&mut self.is_full);
        self.in_flight = self.in_flight.saturating_sub(1);
        was_full || self.input_ended && self.is_idle()
    }

    /// The process is about to stop, and it is this connection's turn. What the client has asked
    /// for is answered first; what it asks from now on is not. Returns whether the connection ends.
    pub fn stop(&mut self, io: &mut Io<'_>) -> bool {
        self.is_stopping = true;
        match self.stage {
            // It would be told nothing but to try again.
            Stage::Upgrading { .. } => io.close(),
            Stage::Open { .. } if self.is_idle() => {
                frames::write_restart(io.out);
                io.close();
            }
            Stage::Open { .. } => {}
        }
        io.closes()
    }

    /// The client will send nothing more, without having said so by a close frame. What it has
    /// asked for is still carried out and answered; then the connection is closed, and its peers
    /// leave with it: nobody could reach them.
    pub fn end_input(&mut self, io: &mut Io<'_>) {
        self.input_ended = true;
        self.close_when_idle(io);
    }

    fn close_when_idle(&self, io: &mut Io<'_>) {
        if self.is_idle() {
            io.close();
        }
    }

    /// Whether everything that was asked is answered.
    fn is_idle(&self) -> bool {
        !self.has_in_flight() && self.held.is_none()
    }
}

impl SessionState for Session {
    fn client(&self) -> Option<IpAddr> {
        Some(self.client.ip())
    }

    /// The request that opens a WebSocket names the client of all that follows.
    fn is_client_named(&self) -> bool {
        self.upgrading().is_none()
    }

    fn held_bytes(&self) -> usize {
        let parts = match &self.stage {
            Stage::Open { parts: Some(parts) } => parts.payload.capacity(),
            Stage::Open { parts: None } | Stage::Upgrading { .. } => 0,
        };
        let held = match self.held.as_deref() {
            Some(Held::Message(message)) => message.capacity(),
            Some(Held::Scrape(scrape)) => scrape.held_bytes(),
            Some(Held::Failure(_)) | None => 0,
        };
        parts + held
    }

    fn awaits_response(&self) -> bool {
        !self.is_idle()
    }
}

fn answer_control(
    kind: Control,
    frame: &Frame<'_>,
    scratch: &mut Vec<u8>,
    io: &mut Io<'_>,
) -> Result<(), Violation> {
    match kind {
        Control::Ping => {
            scratch.clear();
            frame.unmask(scratch);
            frames::write_control(Control::Pong, scratch, io.out);
        }
        Control::Close => {
            scratch.clear();
            frame.unmask(scratch);
            // The client's code, if it has given one.
            let code = frames::read_close(scratch)?;
            frames::write_control(Control::Close, code, io.out);
            io.close();
        }
        Control::Pong | Control::Reserved(_) => {}
    }
    Ok(())
}

/// Puts a frame of a message behind those that came before it. Returns whether the message is
/// whole, and puts it into `message` then.
fn assemble(
    parts: &mut Option<Box<Parts>>,
    kind: Data,
    frame: &Frame<'_>,
    bounds: MessageBounds,
    message: &mut Vec<u8>,
) -> Result<bool, Violation> {
    if (kind == Data::Continue) != parts.is_some() {
        return Err(Violation::Protocol);
    }
    let before = parts.as_ref().map_or(0, |parts| parts.payload.len());
    if before + frame.payload_bytes() > bounds.message_bytes_max {
        return Err(Violation::Size);
    }
    match (parts.take(), frame.is_final) {
        (None, true) => {
            message.clear();
            frame.unmask(message);
        }
        (Some(mut whole), true) => {
            frame.unmask(&mut whole.payload);
            *message = whole.payload;
        }
        (begun, false) => {
            let mut begun = begun.unwrap_or_default();
            frame.unmask(&mut begun.payload);
            *parts = Some(begun);
        }
    }
    Ok(frame.is_final)
}

#[cfg(test)]
mod tests;
