//! One connection, seen by its client.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::net::SocketAddr;

use aquatic_stream::ConnectionId;
use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{Message, OfferId};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub(crate) struct Client {
    pub(crate) worker: usize,
    pub(crate) id: ConnectionId,
    pub(crate) address: SocketAddr,
    /// Not delivered yet.
    pub(crate) unsent: VecDeque<u8>,
    /// What has come back and is no whole frame yet.
    received: Vec<u8>,
    is_websocket: bool,
    pub(crate) is_open: bool,
    /// It has gone without a word: nothing comes from it, and nothing is read.
    pub(crate) is_mute: bool,
    /// When the tracker last got something from it, in seconds.
    pub(crate) heard: u32,
    /// Announces by torrent that wait for a reply.
    pub(crate) unanswered: BTreeMap<InfoHash, usize>,
    /// Offers that have come, not answered so far, with whom they are for.
    pub(crate) offers: Vec<(InfoHash, OfferId, PeerId)>,
}

impl Client {
    pub(crate) fn new(worker: usize, id: ConnectionId, address: SocketAddr) -> Self {
        let request = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        Self {
            worker,
            id,
            address,
            unsent: request.iter().copied().collect(),
            received: Vec::new(),
            is_websocket: false,
            is_open: true,
            is_mute: false,
            heard: 0,
            unanswered: BTreeMap::new(),
            offers: Vec::new(),
        }
    }

    /// Sends a message, in one frame or several.
    pub(crate) fn send(&mut self, message: &impl Message, rng: &mut fastrand::Rng) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.send_text(&bytes, rng);
    }

    pub(crate) fn send_text(&mut self, text: &[u8], rng: &mut fastrand::Rng) {
        let parts = match rng.u8(..4) {
            0 => rng.usize(1..4),
            _ => 1,
        };
        let mut kind = [Data::Text, Data::Binary][rng.usize(..2)];
        let size = text.len().div_ceil(parts).max(1);
        let mut chunks = text.chunks(size).peekable();
        while let Some(chunk) = chunks.next() {
            let is_final = chunks.peek().is_none();
            self.send_frame(OpCode::Data(kind), is_final, chunk, rng);
            kind = Data::Continue;
            if rng.u8(..8) == 0 {
                self.send_frame(OpCode::Control(Control::Pong), true, b"", rng);
            }
        }
    }

    fn send_frame(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        payload: &[u8],
        rng: &mut fastrand::Rng,
    ) {
        let mask = rng.u32(..).to_ne_bytes();
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header
            .format(payload.len().try_into().unwrap(), &mut bytes)
            .expect("memory");
        let payload = payload.iter().zip(mask.iter().cycle());
        bytes.extend(payload.map(|(byte, mask)| byte ^ mask));
        self.unsent.extend(bytes);
    }

    /// Takes the next bytes to deliver.
    pub(crate) fn chunk(&mut self, bytes_max: usize) -> Vec<u8> {
        let size = self.unsent.len().min(bytes_max);
        self.unsent.drain(..size).collect()
    }

    /// Takes bytes of the tracker, answers pings, and gives back the messages that are whole now.
    pub(crate) fn receive(&mut self, bytes: &[u8], rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        self.received.extend_from_slice(bytes);
        if !self.is_websocket {
            let mut heads = self.received.windows(4);
            let Some(end) = heads.position(|end| end == b"\r\n\r\n") else {
                return Vec::new();
            };
            assert!(self.received.starts_with(b"HTTP/1.1 101 "));
            self.received.drain(..end + 4);
            self.is_websocket = true;
        }
        let mut messages = Vec::new();
        loop {
            let mut cursor = Cursor::new(&self.received);
            let header = FrameHeader::parse(&mut cursor).expect("a frame");
            let start = usize::try_from(cursor.position()).unwrap();
            let Some((header, size)) = header else {
                break;
            };
            let size = usize::try_from(size).unwrap();
            if self.received.len() < start + size {
                break;
            }
            assert!(header.is_final && header.mask.is_none());
            let payload = self.received[start..start + size].to_vec();
            self.received.drain(..start + size);
            match header.opcode {
                OpCode::Data(Data::Text) => messages.push(payload),
                OpCode::Control(Control::Ping) => {
                    self.send_frame(OpCode::Control(Control::Pong), true, &payload, rng);
                }
                other => panic!("{other:?}"),
            }
        }
        messages
    }
}
