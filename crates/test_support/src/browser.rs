//! A WebTorrent client, as far as a tracker sees it: a WebSocket with JSON in it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aquatic_types::InfoHash;
use serde_json::{Value, json};

use crate::wait::{self, DEADLINE};

/// How long nothing has to come before it is said that nothing does.
const SILENCE: Duration = Duration::from_millis(300);

/// A peer at one connection. Its peers leave when this is dropped.
#[derive(Debug)]
pub struct Browser {
    stream: TcpStream,
    peer_id: [u8; 20],
    received: Vec<u8>,
}

/// Info hashes and peer ids are sent as characters, one for each byte.
#[must_use]
pub fn text(bytes: &[u8; 20]) -> String {
    bytes.map(char::from).iter().collect()
}

impl Browser {
    /// Opens a connection. What it announces has a peer id that begins with this byte.
    #[must_use]
    pub fn connect(to: SocketAddr, name: u8) -> Self {
        Self::connect_by(to, "/", name)
    }

    /// The same at an announce URL with this path.
    #[must_use]
    pub fn connect_by(to: SocketAddr, path: &str, name: u8) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let mut peer_id = [b'-'; 20];
        peer_id[0] = name;
        Self {
            stream,
            peer_id,
            received: Vec::new(),
        }
    }

    /// The name under which others know it.
    #[must_use]
    pub fn peer_id(&self) -> String {
        text(&self.peer_id)
    }

    /// Announces, with so many offers: the first is called `00000000000000000000`, and so on.
    /// Returns the answer; what others have for it must not come before.
    pub fn announce(&mut self, torrent: InfoHash, left: u64, offers: u8) -> Value {
        let offers: Vec<_> = (0..offers)
            .map(|number| {
                let sdp = format!("offer {number} of {}", self.peer_id());
                json!({
                    "offer_id": text(&[b'0' + number; 20]),
                    "offer": {"type": "offer", "sdp": sdp},
                })
            })
            .collect();
        let message = json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id(),
            "uploaded": 0, "downloaded": 0, "left": left, "event": "started",
            "numwant": offers.len(), "offers": offers,
        });
        self.send(&message);
        let answer = self.receive();
        assert!(answer.get("interval").is_some(), "{answer}");
        answer
    }

    /// Announces, and returns whether that was served.
    pub fn is_served(&mut self, torrent: InfoHash) -> bool {
        self.send(&json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id(),
            "left": 5,
        }));
        let answer = self.receive();
        let is_refused = answer.get("failure reason").is_some();
        assert!(is_refused || answer.get("interval").is_some(), "{answer}");
        !is_refused
    }

    /// Says that it has the whole torrent now.
    pub fn complete(&mut self, torrent: InfoHash) {
        self.send(&json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id(),
            "uploaded": 0, "downloaded": 5, "left": 0, "event": "completed",
        }));
        let answer = self.receive();
        assert!(answer.get("interval").is_some(), "{answer}");
    }

    /// Answers an offer that has come.
    pub fn answer(&mut self, torrent: InfoHash, offer: &Value) {
        let message = json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id(),
            "to_peer_id": offer["peer_id"], "offer_id": offer["offer_id"],
            "answer": {"type": "answer", "sdp": format!("answer of {}", self.peer_id())},
        });
        self.send(&message);
    }

    /// Sends a message of the protocol.
    pub fn send(&mut self, message: &Value) {
        let message = message.to_string();
        let size = u16::try_from(message.len()).unwrap();
        // A text, masked with zeros.
        let mut frame = vec![0x81];
        match u8::try_from(size) {
            Ok(size) if size < 126 => frame.push(0x80 | size),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(size.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(message.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    /// The next message of the tracker.
    pub fn receive(&mut self) -> Value {
        self.next(DEADLINE).expect("a message of the tracker")
    }

    /// Makes sure that no message comes for a while.
    pub fn hears_nothing(&mut self) {
        let message = self.next(SILENCE);
        assert!(message.is_none(), "{message:?}");
    }

    /// The next message, if one comes in time.
    pub fn next(&mut self, within: Duration) -> Option<Value> {
        loop {
            if let Some((kind, message)) = self.take_frame() {
                // Not a ping or pong, or the end.
                if kind == 1 {
                    return Some(serde_json::from_slice(&message).unwrap());
                }
                continue;
            }
            let mut bytes = [0; 4_096];
            self.stream.set_read_timeout(Some(within)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => panic!("the tracker has closed the connection"),
                Ok(size) => self.received.extend(&bytes[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (head, rest) = self.received.split_at_checked(2)?;
        let (size, rest) = match head[1] {
            126 => {
                let (size, rest) = rest.split_at_checked(2)?;
                (usize::from(u16::from_be_bytes([size[0], size[1]])), rest)
            }
            size => (usize::from(size), rest),
        };
        let kind = head[0] & 0x0f;
        let message = rest.get(..size)?.to_vec();
        let used = self.received.len() - rest.len() + size;
        self.received.drain(..used);
        Some((kind, message))
    }

    /// Seeders, completed downloads and leechers of a torrent.
    pub fn scrape(&mut self, torrent: InfoHash) -> [u64; 3] {
        self.send(&json!({"action": "scrape", "info_hash": text(&torrent.0)}));
        let answer = self.receive();
        let files = &answer["files"][text(&torrent.0)];
        ["complete", "downloaded", "incomplete"].map(|key| files[key].as_u64().unwrap_or(0))
    }

    /// Waits until a torrent has so many seeders, completed downloads and leechers.
    #[track_caller]
    pub fn wait_for_counts(&mut self, torrent: InfoHash, expected: [u64; 3]) {
        wait::until_ok(|| match self.scrape(torrent) {
            counts if counts == expected => Ok(()),
            counts => Err(format!("{counts:?}, not {expected:?}")),
        });
    }
}
