//! A WebTorrent client, as far as a tracker sees it: a WebSocket with JSON in it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_load_test::core::population::peer_id;
use aquatic_test_support::web_socket::{WebSocket, text};
use aquatic_types::InfoHash;
use serde_json::{Value, json};

/// How long a message is waited for.
pub(crate) const MESSAGE_MAX: Duration = Duration::from_secs(10);

/// About what an offer of a browser takes, in bytes.
const OFFER_BYTES: usize = 1_500;

/// One connection with one peer.
#[derive(Debug)]
pub(crate) struct Browser {
    socket: WebSocket,
    peer_id: String,
}

impl Browser {
    /// Opens a connection for the peer of a number.
    pub(crate) fn connect(to: SocketAddr, number: u32) -> anyhow::Result<Self> {
        let socket = WebSocket::connect(to, "/", MESSAGE_MAX);
        Ok(Self {
            socket: socket.context("cannot connect to a node")?,
            peer_id: text(&peer_id(number).0),
        })
    }

    /// Announces, with an offer of this number if there is one.
    pub(crate) fn announce(&mut self, torrent: InfoHash, offer: Option<u32>) -> anyhow::Result<()> {
        let offers = offer.map(|number| {
            let sdp = "o".repeat(OFFER_BYTES);
            let id = text(&peer_id(number).0);
            json!({"offer_id": id, "offer": {"type": "offer", "sdp": sdp}})
        });
        let offers: Vec<Value> = offers.into_iter().collect();
        self.send(&json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id,
            "uploaded": 0, "downloaded": 0, "left": 5, "numwant": offers.len(), "offers": offers,
        }))
    }

    /// Answers an offer that has come.
    pub(crate) fn answer(&mut self, torrent: InfoHash, offer: &Value) -> anyhow::Result<()> {
        self.send(&json!({
            "action": "announce", "info_hash": text(&torrent.0), "peer_id": self.peer_id,
            "to_peer_id": offer["peer_id"], "offer_id": offer["offer_id"],
            "answer": {"type": "answer", "sdp": "a".repeat(OFFER_BYTES)},
        }))
    }

    /// How many peers the node knows in a torrent.
    pub(crate) fn scrape(&mut self, torrent: InfoHash) -> anyhow::Result<u64> {
        let name = text(&torrent.0);
        self.send(&json!({"action": "scrape", "info_hash": name}))?;
        let answer = self.wait_for("files")?;
        let answer = answer.context("a node does not answer a scrape")?;
        let files = &answer["files"][&name];
        let count = |key: &str| files[key].as_u64().unwrap_or(0);
        Ok(count("complete") + count("incomplete"))
    }

    /// The next message that has this member; `None` if there is none for [`MESSAGE_MAX`]. Others
    /// are left out.
    pub(crate) fn wait_for(&mut self, member: &str) -> anyhow::Result<Option<Value>> {
        while let Some(message) = self.receive()? {
            if message.get(member).is_some() {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Takes what has come meanwhile: how many messages had this member.
    pub(crate) fn take(&mut self, member: &str) -> anyhow::Result<u64> {
        self.socket.stream().set_nonblocking(true)?;
        let mut count = 0;
        let done = loop {
            match self.receive() {
                Ok(Some(message)) => count += u64::from(message.get(member).is_some()),
                Ok(None) => break Ok(count),
                Err(error) => break Err(error),
            }
        };
        self.socket.stream().set_nonblocking(false)?;
        done
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        Ok(self.socket.send(message)?)
    }

    /// The next message; `None` if there is none for as long as the stream waits. A refusal is an
    /// error.
    fn receive(&mut self) -> anyhow::Result<Option<Value>> {
        let message = self.socket.receive().context("a node")?;
        if let Some(reason) = message.as_ref().and_then(|it| it.get("failure reason")) {
            bail!("refused: {reason}");
        }
        Ok(message)
    }
}
