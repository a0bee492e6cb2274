//! One connection, seen by its client.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::SocketAddr;

use aquatic_stream::ConnectionKey;
use aquatic_test_support::wire::{Handshake, Wire};
use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{Message, OfferId};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::replies::{Replies, Sent};

pub(crate) struct Client {
    pub(crate) worker: usize,
    pub(crate) id: ConnectionKey,
    pub(crate) address: SocketAddr,
    pub(crate) wire: Wire,
    /// Bytes that it has sent.
    made: usize,
    /// What has come back and is no whole frame yet.
    received: Vec<u8>,
    is_websocket: bool,
    pub(crate) is_open: bool,
    /// It has gone without a word: nothing comes from it, and nothing is read.
    pub(crate) is_mute: bool,
    /// It reads little at a time.
    pub(crate) is_lazy: bool,
    /// When the tracker last got something from it, in seconds.
    pub(crate) heard: u32,
    /// Messages by torrent, which wait for replies.
    pub(crate) replies: BTreeMap<InfoHash, Replies>,
    /// Offers that have come, not answered so far, with whom they are for.
    pub(crate) offers: Vec<(InfoHash, OfferId, PeerId)>,
}

impl Client {
    pub(crate) fn new(
        worker: usize,
        id: ConnectionKey,
        address: SocketAddr,
        path: &str,
        mut wire: Wire,
    ) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        wire.send(request.as_bytes());
        Self {
            worker,
            id,
            address,
            wire,
            made: request.len(),
            received: Vec::new(),
            is_websocket: false,
            is_open: true,
            is_mute: false,
            is_lazy: false,
            heard: 0,
            replies: BTreeMap::new(),
            offers: Vec::new(),
        }
    }

    /// Sends a message, in one frame or several.
    pub(crate) fn send(&mut self, message: &impl Message, rng: &mut fastrand::Rng) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.send_text(&bytes, rng);
    }

    /// Sends a message about a torrent.
    pub(crate) fn ask(
        &mut self,
        kind: Sent,
        info_hash: InfoHash,
        message: &impl Message,
        rng: &mut fastrand::Rng,
    ) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let end = self.send_text(&bytes, rng);
        self.replies.entry(info_hash).or_default().send(kind, end);
    }

    /// Returns where it ends, in bytes that the client has sent.
    pub(crate) fn send_text(&mut self, text: &[u8], rng: &mut fastrand::Rng) -> usize {
        let mut end = self.made;
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
            end = self.made;
            kind = Data::Continue;
            if rng.u8(..8) == 0 {
                self.send_frame(OpCode::Control(Control::Pong), true, b"", rng);
            }
        }
        end
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
        self.made += bytes.len();
        self.wire.send(&bytes);
    }

    /// Takes the next bytes to deliver, while this access list and this certificate are in force.
    pub(crate) fn take(&mut self, bytes_max: usize, list: usize, certificate: usize) -> Vec<u8> {
        let bytes = self.wire.take(bytes_max, certificate);
        let delivered = self.wire.delivered();
        for replies in self.replies.values_mut() {
            replies.deliver(delivered, list);
        }
        bytes
    }

    /// Takes bytes of the tracker, answers pings, and gives back the messages that are whole now,
    /// and the handshake.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        rng: &mut fastrand::Rng,
    ) -> (Vec<Vec<u8>>, Option<Handshake>) {
        let (plain, handshake) = self.wire.receive(bytes);
        self.received.extend(plain);
        if !self.is_websocket {
            let mut heads = self.received.windows(4);
            let Some(end) = heads.position(|end| end == b"\r\n\r\n") else {
                return (Vec::new(), handshake);
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
        (messages, handshake)
    }
}
