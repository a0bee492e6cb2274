//! WebTorrent: announces with an offer.

use std::io;
use std::net::SocketAddr;

use tungstenite::{Message, WebSocket};

use super::stream::{Opener, Stream};
use super::{ANSWER_TIMEOUT, Client, failure};
use aquatic_daemon::clock::Clock;

pub(super) struct WsClient {
    opener: Opener,
    peer_id: String,
    kept: Option<WebSocket<Stream>>,
    lost_connections: u64,
}

impl WsClient {
    pub(super) fn new(number: u32, tracker: SocketAddr, is_tls: bool) -> anyhow::Result<Self> {
        Ok(Self {
            opener: Opener::new(number, tracker, is_tls)?,
            peer_id: format!("-XX0000-honest{number:06}"),
            kept: None,
            lost_connections: 0,
        })
    }

    fn open(&self) -> io::Result<WebSocket<Stream>> {
        let upgraded = tungstenite::client("ws://tracker/", self.opener.open()?);
        upgraded
            .map(|(socket, _)| socket)
            .map_err(|error| failure(error.to_string()))
    }
}

impl Client for WsClient {
    fn ask(&mut self, info_hash: &str) -> io::Result<()> {
        let mut kept = self.kept.take();
        if kept.as_ref().is_some_and(|it| it.get_ref().is_closed()) {
            self.lost_connections += 1;
            kept = None;
        }
        let mut socket = match kept {
            Some(socket) => socket,
            None => self.open()?,
        };
        let message = format!(
            r#"{{"action":"announce","info_hash":"{info_hash}","peer_id":"{}","left":1,
               "numwant":1,"offers":[{{"offer_id":"xxxxxxxxxxxxxxxxxxxx",
               "offer":{{"type":"offer","sdp":"{}"}}}}]}}"#,
            self.peer_id,
            "x".repeat(1_000)
        );
        socket
            .send(Message::text(message))
            .map_err(|error| failure(error.to_string()))?;
        let clock = Clock::start();
        while clock.elapsed() < ANSWER_TIMEOUT {
            let message = socket.read().map_err(|error| failure(error.to_string()))?;
            if is_answer(&message, info_hash)? {
                self.kept = self.opener.keeps.then_some(socket);
                return Ok(());
            }
        }
        Err(failure("no answer, but other messages"))
    }

    fn lost_connections(&self) -> u64 {
        self.lost_connections
    }
}

/// Whether this is what was asked for. Offers of others and pings come between.
fn is_answer(message: &Message, info_hash: &str) -> io::Result<bool> {
    let Message::Text(text) = message else {
        return match message {
            Message::Close(reason) => Err(failure(format!("closed: {reason:?}"))),
            _ => Ok(false),
        };
    };
    if text.contains("failure reason") {
        return Err(failure(text.as_str()));
    }
    Ok(text.contains(info_hash) && text.contains(r#""interval""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_send_is_no_answer() {
        let is_answer = |text: &str| is_answer(&Message::text(text), "aaaa").unwrap();
        assert!(is_answer(
            r#"{"action":"announce","info_hash":"aaaa","interval":120}"#
        ));
        assert!(!is_answer(
            r#"{"action":"announce","info_hash":"bbbb","interval":120}"#
        ));
        assert!(!is_answer(
            r#"{"action":"announce","info_hash":"aaaa","offer":{}}"#
        ));
    }

    #[test]
    fn refusals_are_told() {
        for message in [
            Message::text(r#"{"failure reason":"full"}"#),
            Message::Close(None),
        ] {
            is_answer(&message, "aaaa").unwrap_err();
        }
    }
}
