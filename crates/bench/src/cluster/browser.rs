//! A WebTorrent client, as far as a tracker sees it: a WebSocket with JSON in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_load_test::core::population::peer_id;
use aquatic_types::InfoHash;
use serde_json::{Value, json};

/// How long a message is waited for.
pub(crate) const MESSAGE_MAX: Duration = Duration::from_secs(10);

/// About what an offer of a browser takes, in bytes.
const OFFER_BYTES: usize = 1_500;

/// One connection with one peer.
#[derive(Debug)]
pub(crate) struct Browser {
    stream: TcpStream,
    peer_id: String,
    received: Vec<u8>,
}

/// Info hashes and peer ids are sent as characters, one for each byte.
fn text(bytes: &[u8; 20]) -> String {
    bytes.map(char::from).iter().collect()
}

impl Browser {
    /// Opens a connection for the peer of a number.
    pub(crate) fn connect(to: SocketAddr, number: u32) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(to).context("cannot connect to a node")?;
        stream.set_read_timeout(Some(MESSAGE_MAX))?;
        stream.set_nodelay(true)?;
        let upgrade = "GET / HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(upgrade.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            bail!("no WebSocket: {}", String::from_utf8_lossy(&head));
        }
        Ok(Self {
            stream,
            peer_id: text(&peer_id(number).0),
            received: Vec::new(),
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
        self.stream.set_nonblocking(true)?;
        let mut count = 0;
        let done = loop {
            match self.receive() {
                Ok(Some(message)) => count += u64::from(message.get(member).is_some()),
                Ok(None) => break Ok(count),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        done
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        self.stream.write_all(&frame(&message.to_string())?)?;
        Ok(())
    }

    /// The next message; `None` if there is none for as long as the stream waits. A refusal is an
    /// error.
    fn receive(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some((kind, message)) = take_frame(&mut self.received) {
                // Not a ping or pong, or the end.
                if kind == 1 {
                    let message: Value = serde_json::from_slice(&message)?;
                    if let Some(reason) = message.get("failure reason") {
                        bail!("refused: {reason}");
                    }
                    return Ok(Some(message));
                }
                continue;
            }
            let mut bytes = [0; 16_384];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("a node has closed a connection"),
                Ok(size) => self.received.extend(bytes.iter().take(size)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A text in one frame, masked with zeros.
fn frame(message: &str) -> anyhow::Result<Vec<u8>> {
    let size = u16::try_from(message.len()).context("a message is too long")?;
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
    Ok(frame)
}

/// Takes a frame of a server, if it is there: its kind, and what is in it.
fn take_frame(received: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (head, rest) = received.split_first_chunk::<2>()?;
    let (size, rest) = match head[1] {
        126 => {
            let (size, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*size)), rest)
        }
        size => (usize::from(size), rest),
    };
    let kind = head[0] & 0x0f;
    let message = rest.get(..size)?.to_vec();
    let used = received.len() - rest.len() + size;
    received.drain(..used);
    Some((kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_out_of_what_has_come() {
        let mut received = vec![0x81, 2, b'h', b'i', 0x89, 0, 0x81, 126, 0, 3, b'a', b'b'];
        assert_eq!(take_frame(&mut received), Some((1, b"hi".to_vec())));
        assert_eq!(take_frame(&mut received), Some((9, Vec::new())));
        assert_eq!(take_frame(&mut received), None);
        received.push(b'c');
        assert_eq!(take_frame(&mut received), Some((1, b"abc".to_vec())));
        assert!(received.is_empty());
    }

    #[test]
    fn the_size_of_a_frame_is_in_its_head() {
        assert_eq!(frame("hi").unwrap(), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(frame(&"x".repeat(300)).unwrap()[1..4], [0xfe, 1, 44]);
        frame(&"x".repeat(70_000)).unwrap_err();
    }
}
