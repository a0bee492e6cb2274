//! WebTorrent: announces with an offer.

use std::io;
use std::net::SocketAddr;

use aquatic_ws_protocol::Response;
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
    let text = match message {
        Message::Text(text) => text,
        Message::Close(reason) => return Err(failure(format!("closed: {reason:?}"))),
        _ => return Ok(false),
    };
    let response = Response::parse(text.as_bytes()).map_err(|error| failure(error.to_string()))?;
    match response {
        // The client itself is one of them. A refusal that may pass has no swarm.
        Response::Announce(announce) if announce.info_hash.0 == *info_hash.as_bytes() => {
            match announce.leechers {
                0 => Err(failure(text.as_str())),
                _ => Ok(true),
            }
        }
        Response::Failure(_) => Err(failure(text.as_str())),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO_HASH: &str = "aaaaaaaaaaaaaaaaaaaa";

    fn is_answer(text: &str) -> io::Result<bool> {
        super::is_answer(&Message::text(text), INFO_HASH)
    }

    #[test]
    fn what_others_send_is_no_answer() {
        let announced = format!(
            r#"{{"action":"announce","info_hash":"{INFO_HASH}","complete":0,"incomplete":1,
                "interval":120}}"#
        );
        assert!(is_answer(&announced).unwrap());
        assert!(!is_answer(&announced.replace(INFO_HASH, &"b".repeat(20))).unwrap());
        let offered = format!(
            r#"{{"action":"announce","info_hash":"{INFO_HASH}","peer_id":"{INFO_HASH}",
                "offer_id":"{INFO_HASH}","offer":{{"type":"offer","sdp":"x"}}}}"#
        );
        assert!(!is_answer(&offered).unwrap());
    }

    /// Also those that are told as a warning, since clients announce again after one.
    #[test]
    fn refusals_are_told() {
        let warning = format!(
            r#"{{"action":"announce","info_hash":"{INFO_HASH}","interval":60,
                "warning message":"tracker is overloaded"}}"#
        );
        for text in [
            r#"{"action":"announce","failure reason":"full"}"#,
            &warning,
            "nonsense",
        ] {
            is_answer(text).unwrap_err();
        }
        super::is_answer(&Message::Close(None), INFO_HASH).unwrap_err();
    }
}
