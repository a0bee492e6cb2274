//! WebTorrent: a browser for each address, on one connection after the other.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aquatic_load_test::core::population::peer_id;
use aquatic_types::{InfoHash, PeerId};
use aquatic_udp_protocol::ScrapeRow;
use aquatic_ws_protocol::{
    AnnounceRequest, AnswerRequest, Message, Offer, OfferId, Response, ScrapeRequest,
};
use mio::net::TcpStream;
use tungstenite::handshake::MidHandshake;
use tungstenite::{ClientHandshake, Error, HandshakeError, WebSocket};

use super::{Answer, Answers, Forwarded, NOBODY, Order, Request, Streams, Wire, index};
use crate::link::is_not_ready;

/// Offers in each announce.
const OFFERS: usize = 2;

/// Bytes of a session description, as browsers have them.
const DESCRIPTION_BYTES: usize = 1_000;

pub(super) struct WsWire {
    streams: Streams,
    browsers: Vec<Browser>,
    offer: String,
    answer: String,
    forwarded: Forwarded,
}

struct Browser {
    socket: Socket,
    /// Another one with each connection.
    peer_id: PeerId,
    /// Messages that wait for the connection.
    output: Vec<String>,
    /// Requests that wait for their answers, and the torrents of announces.
    waiting: Vec<(u32, Option<InfoHash>)>,
}

enum Socket {
    Closed,
    Connecting(TcpStream),
    Upgrading(MidHandshake<ClientHandshake<TcpStream>>),
    Open(Box<WebSocket<TcpStream>>),
}

impl WsWire {
    pub(super) fn new(tracker: SocketAddr, lanes: u32) -> anyhow::Result<Self> {
        let signal = |kind: &str| {
            let description = "x".repeat(DESCRIPTION_BYTES);
            format!(r#"{{"type":"{kind}","sdp":"{description}"}}"#)
        };
        let browser = |_| Browser {
            socket: Socket::Closed,
            peer_id: peer_id(0),
            output: Vec::new(),
            waiting: Vec::new(),
        };
        Ok(Self {
            streams: Streams::new(tracker)?,
            browsers: (0..lanes).map(browser).collect(),
            offer: signal("offer"),
            answer: signal("answer"),
            forwarded: Forwarded::default(),
        })
    }

    fn open(&mut self, lane: u32) -> io::Result<()> {
        let Some(browser) = self.browsers.get_mut(index(lane)) else {
            return Ok(());
        };
        let ends_in_order = self.streams.opened.is_multiple_of(2);
        let stream = self.streams.open(lane, index(lane), ends_in_order)?;
        browser.socket = Socket::Connecting(stream);
        browser.peer_id = peer_id(u32::try_from(self.streams.opened).unwrap_or(u32::MAX));
        Ok(())
    }

    fn handle(&mut self, place: usize, answers: &mut Answers) {
        let Some(browser) = self.browsers.get_mut(place) else {
            return;
        };
        let reason = match browser.exchange(&self.answer, &mut self.forwarded, answers) {
            Ok(()) => return,
            Err(error) if browser.is_closed() => format!("cannot connect: {error}"),
            Err(error) => format!("the connection has ended: {error}"),
        };
        // Nobody but the browser itself may end it.
        answers.push((NOBODY, Answer::Failed(reason.clone())));
        let waiting = browser.waiting.drain(..);
        answers.extend(waiting.map(|(id, _)| (id, Answer::Failed(reason.clone()))));
        browser.close();
        self.streams.open -= 1;
    }
}

impl Wire for WsWire {
    fn send(&mut self, order: &Order, _now_micros: u64) -> io::Result<()> {
        if self
            .browsers
            .get(index(order.lane))
            .is_some_and(Browser::is_closed)
        {
            self.open(order.lane)?;
        }
        let Some(browser) = self.browsers.get_mut(index(order.lane)) else {
            return Ok(());
        };
        let (torrent, text) = message(order, browser.peer_id, &self.offer);
        browser.waiting.push((order.id, torrent));
        browser.output.push(text);
        // A connection that has ended is met with its event.
        let _ = browser.flush();
        Ok(())
    }

    fn look(&mut self, timeout: Duration, answers: &mut Answers) -> io::Result<()> {
        for place in self.streams.wait(timeout)? {
            self.handle(place, answers);
        }
        Ok(())
    }

    fn vanish(&mut self, lane: u32) {
        if let Some(browser) = self.browsers.get_mut(index(lane))
            && !browser.is_closed()
        {
            browser.close();
            self.streams.open -= 1;
        }
    }

    fn connections(&self) -> (u64, u64) {
        (self.streams.open, self.streams.opened)
    }

    fn forwarded(&self) -> Forwarded {
        self.forwarded
    }
}

impl Browser {
    fn is_closed(&self) -> bool {
        matches!(self.socket, Socket::Closed)
    }

    fn close(&mut self) {
        self.socket = Socket::Closed;
        self.output.clear();
        self.waiting.clear();
    }

    /// Goes on with the upgrade, sends, and reads what can be.
    fn exchange(
        &mut self,
        answer: &str,
        forwarded: &mut Forwarded,
        answers: &mut Answers,
    ) -> Result<(), Error> {
        self.upgrade()?;
        self.flush()?;
        while let Socket::Open(socket) = &mut self.socket {
            let message = match socket.read() {
                Ok(tungstenite::Message::Text(text)) => text,
                Ok(_) => continue,
                Err(Error::Io(error)) if is_not_ready(&error) => break,
                Err(error) => return Err(error),
            };
            self.receive(message.as_bytes(), answer, forwarded, answers);
        }
        self.flush()
    }

    fn upgrade(&mut self) -> Result<(), Error> {
        let upgraded = match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Connecting(stream) => match stream.peer_addr() {
                Ok(_) => tungstenite::client("ws://tracker/", stream),
                Err(_) => match stream.take_error()? {
                    Some(error) => return Err(error.into()),
                    None => {
                        self.socket = Socket::Connecting(stream);
                        return Ok(());
                    }
                },
            },
            Socket::Upgrading(handshake) => handshake.handshake(),
            other => {
                self.socket = other;
                return Ok(());
            }
        };
        self.socket = match upgraded {
            Ok((socket, _)) => Socket::Open(Box::new(socket)),
            Err(HandshakeError::Interrupted(handshake)) => Socket::Upgrading(handshake),
            Err(HandshakeError::Failure(error)) => return Err(error),
        };
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Socket::Open(socket) = &mut self.socket else {
            return Ok(());
        };
        for text in self.output.drain(..) {
            ready(socket.write(tungstenite::Message::text(text)))?;
        }
        ready(socket.flush())
    }

    fn receive(
        &mut self,
        message: &[u8],
        answer: &str,
        forwarded: &mut Forwarded,
        answers: &mut Answers,
    ) {
        let response = match Response::parse(message) {
            Ok(response) => response,
            Err(error) => {
                answers.push((NOBODY, Answer::Failed(format!("no message: {error}"))));
                return;
            }
        };
        let (torrent, it) = match response {
            Response::Offer(offer) => {
                forwarded.offers += 1;
                let answer = AnswerRequest {
                    info_hash: offer.info_hash,
                    peer_id: self.peer_id,
                    to_peer_id: offer.peer_id,
                    offer_id: offer.offer_id,
                    answer,
                };
                self.output.push(text(&answer));
                return;
            }
            Response::Answer(_) => {
                forwarded.answers += 1;
                return;
            }
            Response::Announce(it) => (Some(it.info_hash), Answer::Swarm),
            Response::Failure(it) => (it.info_hash, Answer::Refused(it.reason.into_owned())),
            Response::Scrape(it) => (
                None,
                Answer::Rows(
                    it.files()
                        .iter()
                        .map(|file| ScrapeRow {
                            seeders: file.seeders,
                            leechers: file.leechers,
                            completed: file.completed,
                        })
                        .collect(),
                ),
            ),
        };
        let place = self.waiting.iter().position(|(_, asked)| *asked == torrent);
        // Refused answers to offers of those who have left concern nobody.
        if let Some(place) = place {
            let (id, _) = self.waiting.remove(place);
            answers.push((id, it));
        }
    }
}

/// What waits is sent later.
fn ready(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Io(error)) if is_not_ready(&error) => Ok(()),
        result => result,
    }
}

fn text(message: &impl Message) -> String {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// The torrent of an announce, and what is sent.
fn message(order: &Order, peer_id: PeerId, offer: &str) -> (Option<InfoHash>, String) {
    match &order.request {
        Request::Announce {
            info_hash,
            event,
            is_seeder,
            ..
        } => {
            let offer = |number: u32| Offer {
                offer_id: offer_id(order.id, number),
                offer,
            };
            let announce = AnnounceRequest {
                info_hash: *info_hash,
                peer_id,
                bytes_uploaded: None,
                bytes_downloaded: None,
                bytes_left: Some(u64::from(!is_seeder)),
                event: *event,
                num_want: Some(2),
                offers: (0..).map(offer).take(OFFERS).collect(),
                skipped: None,
            };
            (Some(*info_hash), text(&announce))
        }
        Request::Scrape(info_hashes) => {
            let info_hashes = info_hashes.clone();
            (None, text(&ScrapeRequest { info_hashes }))
        }
    }
}

fn offer_id(order: u32, number: u32) -> OfferId {
    let mut id = *b"soak----------------";
    let parts = [order.to_be_bytes(), number.to_be_bytes()];
    for (byte, value) in id.iter_mut().skip(4).zip(parts.into_iter().flatten()) {
        *byte = value;
    }
    OfferId(id)
}
