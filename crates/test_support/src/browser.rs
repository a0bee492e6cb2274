//! A WebTorrent client, as far as a tracker sees it: a WebSocket with JSON in it.

use std::net::SocketAddr;
use std::time::Duration;

use aquatic_types::InfoHash;
use serde_json::{Value, json};

use crate::wait::{self, DEADLINE};
use crate::web_socket::{WebSocket, text};

/// How long nothing has to come before it is said that nothing does.
const SILENCE: Duration = Duration::from_millis(300);

/// A peer at one connection. Its peers leave when this is dropped.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocket,
    peer_id: [u8; 20],
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
        let mut peer_id = [b'-'; 20];
        peer_id[0] = name;
        Self {
            socket: WebSocket::connect(to, path, DEADLINE).unwrap(),
            peer_id,
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
        self.socket.send(message).unwrap();
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
        let stream = self.socket.stream();
        stream.set_read_timeout(Some(within)).unwrap();
        self.socket.receive().unwrap()
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
