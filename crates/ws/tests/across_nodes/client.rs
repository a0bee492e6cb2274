//! One connection, seen by its client.

use std::io::Cursor;

use aquatic_stream::ConnectionKey;
use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{Message, OfferId, Response};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What a client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A reply: seeders and leechers.
    Counts(u32, u32),
    /// From whom, which one, and what.
    Offer(u8, u8, String),
    /// The same.
    Answer(u8, u8, String),
    /// A refusal.
    Refusal(String),
    /// Seeders, leechers and downloads.
    Scrape(u32, u32, u32),
}

pub(crate) struct Client {
    pub(crate) node: usize,
    pub(crate) worker: usize,
    pub(crate) id: ConnectionKey,
    pub(crate) is_open: bool,
    /// It reads nothing.
    pub(crate) is_deaf: bool,
    /// To be sent.
    pub(crate) unsent: Vec<u8>,
    received: Vec<u8>,
    is_websocket: bool,
    pub(crate) got: Vec<Got>,
}

pub(crate) fn torrent(number: u8) -> InfoHash {
    InfoHash([number; 20])
}

pub(crate) fn peer_id(number: u8) -> PeerId {
    PeerId([number; 20])
}

pub(crate) fn offer_id(number: u8) -> OfferId {
    OfferId([number; 20])
}

impl Client {
    pub(crate) fn new(node: usize, worker: usize, id: ConnectionKey) -> Self {
        let request = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        Self {
            node,
            worker,
            id,
            is_open: true,
            is_deaf: false,
            unsent: request.to_vec(),
            received: Vec::new(),
            is_websocket: false,
            got: Vec::new(),
        }
    }

    pub(crate) fn say(&mut self, message: &impl Message) {
        let mut text = Vec::new();
        message.write(&mut text);
        self.frame(OpCode::Data(Data::Text), &text);
    }

    /// What has come since this was last asked.
    pub(crate) fn take(&mut self) -> Vec<Got> {
        std::mem::take(&mut self.got)
    }

    /// Takes bytes of the tracker, and answers pings.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        if !self.is_websocket {
            let mut heads = self.received.windows(4);
            let Some(end) = heads.position(|end| end == b"\r\n\r\n") else {
                return;
            };
            assert!(self.received.starts_with(b"HTTP/1.1 101 "));
            self.received.drain(..end + 4);
            self.is_websocket = true;
        }
        loop {
            let mut cursor = Cursor::new(&self.received);
            let header = FrameHeader::parse(&mut cursor).expect("a frame");
            let start = usize::try_from(cursor.position()).unwrap();
            let Some((header, size)) = header else {
                break;
            };
            let end = start + usize::try_from(size).unwrap();
            let Some(payload) = self.received.get(start..end) else {
                break;
            };
            let payload = payload.to_vec();
            self.received.drain(..end);
            match header.opcode {
                OpCode::Data(_) => self.got.push(got(&payload)),
                OpCode::Control(Control::Ping) => {
                    self.frame(OpCode::Control(Control::Pong), &payload);
                }
                OpCode::Control(_) => {}
            }
        }
    }

    /// Masked with zeros, that is, as it is.
    fn frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let header = FrameHeader {
            opcode,
            mask: Some([0; 4]),
            ..FrameHeader::default()
        };
        let size = payload.len().try_into().unwrap();
        header.format(size, &mut self.unsent).expect("memory");
        self.unsent.extend_from_slice(payload);
    }
}

fn got(message: &[u8]) -> Got {
    match Response::parse(message).expect("a message of a tracker") {
        Response::Announce(reply) => Got::Counts(reply.seeders, reply.leechers),
        Response::Offer(it) => Got::Offer(it.peer_id.0[0], it.offer_id.0[0], it.offer.to_owned()),
        Response::Answer(it) => {
            Got::Answer(it.peer_id.0[0], it.offer_id.0[0], it.answer.to_owned())
        }
        Response::Failure(it) => Got::Refusal(it.reason.into_owned()),
        Response::Scrape(it) => {
            let file = it.files().first().expect("one torrent");
            Got::Scrape(file.seeders, file.leechers, file.completed)
        }
    }
}
