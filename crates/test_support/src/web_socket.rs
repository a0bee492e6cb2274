//! A WebSocket with JSON in it, as browsers have one to a tracker.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// The end of a browser. What goes wrong is an error here, for whoever does not want to panic.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Info hashes and peer ids are sent as characters, one for each byte.
#[must_use]
pub fn text(bytes: &[u8; 20]) -> String {
    bytes.map(char::from).iter().collect()
}

impl WebSocket {
    /// Opens a connection at an announce URL with this path. Messages are waited for for so long.
    ///
    /// # Errors
    /// If nobody listens, or not for WebSockets.
    pub fn connect(to: SocketAddr, path: &str, wait_max: Duration) -> io::Result<Self> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(wait_max))?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let head = String::from_utf8_lossy(&head);
            return Err(io::Error::other(format!("no WebSocket: {head}")));
        }
        let received = Vec::new();
        Ok(Self { stream, received })
    }

    /// What it goes over: to change how long messages are waited for.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a message of the protocol.
    ///
    /// # Errors
    /// If it is too long, or the connection is gone.
    pub fn send(&mut self, message: &Value) -> io::Result<()> {
        self.stream.write_all(&frame(&message.to_string())?)
    }

    /// The next message; `None` if none comes for as long as the stream waits.
    ///
    /// # Errors
    /// If the connection is gone, or what comes is no JSON.
    pub fn receive(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some((kind, message)) = take_frame(&mut self.received) {
                // Not a ping or pong, or the end.
                if kind == 1 {
                    return Ok(Some(serde_json::from_slice(&message)?));
                }
                continue;
            }
            let mut bytes = [0; 16_384];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::other("the tracker has closed the connection")),
                Ok(size) => self.received.extend(&bytes[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A text in one frame, masked with zeros.
fn frame(message: &str) -> io::Result<Vec<u8>> {
    let size = u16::try_from(message.len());
    let size = size.map_err(|_| io::Error::other("a message is too long"))?;
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
