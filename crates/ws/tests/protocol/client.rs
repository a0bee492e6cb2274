//! A client's end of a WebSocket, written from RFC 6455, and the peers that speak over it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use aquatic_test_support::cases::Tracker;
use aquatic_test_support::connection::{Answer, Connection, Transport};
use aquatic_test_support::program::localhost;
use aquatic_types::{InfoHash, IpFamily};
use serde_json::{Value, json};

/// The key of RFC 6455, section 1.3, and what it has to be answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// 20 bytes in a message: one character for each.
pub(crate) fn binary(bytes: &[u8; 20]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A request for a WebSocket, with more header lines.
pub(crate) fn request(lines: &str) -> String {
    format!(
        "GET /announce HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// A frame of a client.
pub(crate) fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(is_final) << 7 | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The frame of a tracker at the start of `bytes`, if it is whole: opcode, payload, size of all.
fn read_frame(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let [first, short, rest @ ..] = bytes else {
        return None;
    };
    assert_eq!(first & 0xf0, 0x80, "final, and without extensions");
    let (length, start) = match *short {
        126 => (u16::from_be_bytes(*rest.first_chunk()?).into(), 4),
        127 => {
            let length = u64::from_be_bytes(*rest.first_chunk()?);
            (usize::try_from(length).unwrap(), 10)
        }
        length @ 0..126 => (length.into(), 2),
        _ => panic!("a tracker does not mask"),
    };
    let payload = bytes.get(start..start + length)?;
    Some(((first & 0x0f, payload.to_vec()), start + length))
}

/// A WebSocket.
pub(crate) struct Socket {
    pub(crate) connection: Connection,
}

impl Socket {
    pub(crate) fn new(tracker: &Tracker, family: IpFamily) -> Self {
        let address = tracker.address(family);
        Self::open(localhost(family), address, tracker.transport)
    }

    pub(crate) fn open(ip: IpAddr, tracker: SocketAddr, transport: Transport) -> Self {
        Self::over(Connection::open(ip, tracker, transport), "")
    }

    /// Over a connection on which nothing was asked yet.
    #[track_caller]
    pub(crate) fn over(connection: Connection, lines: &str) -> Self {
        let mut socket = Self { connection };
        socket.connection.send(request(lines));
        let answer = socket.connection.answer();
        assert_accepted(&answer);
        socket
    }

    pub(crate) fn send_frame(&mut self, is_final: bool, opcode: u8, payload: &[u8]) {
        self.connection.send(frame(is_final, opcode, payload));
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_frame(true, TEXT, text.as_bytes());
    }

    /// Opcode and payload of the next frame.
    #[track_caller]
    pub(crate) fn receive_frame(&mut self) -> (u8, Vec<u8>) {
        self.connection.take(read_frame)
    }

    /// The next message, as it came. Pings before it are answered, as browsers do by themselves.
    #[track_caller]
    pub(crate) fn receive_text(&mut self) -> String {
        loop {
            let (opcode, payload) = self.receive_frame();
            if opcode == PING {
                self.send_frame(true, PONG, &payload);
                continue;
            }
            assert_eq!(opcode, TEXT, "{}", payload.escape_ascii());
            return String::from_utf8(payload).unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> Value {
        let message: Value = serde_json::from_str(&self.receive_text()).unwrap();
        assert!(message["action"].is_string(), "{message}");
        message
    }

    /// Sends a message and waits for the next one that comes.
    #[track_caller]
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.send(&message.to_string());
        self.receive()
    }

    #[track_caller]
    pub(crate) fn scrape(&mut self, info_hashes: &[InfoHash]) -> Value {
        let hashes: Vec<_> = info_hashes.iter().map(|hash| binary(&hash.0)).collect();
        let answer = self.ask(&json!({"action": "scrape", "info_hash": hashes}));
        assert_eq!(answer["action"], "scrape", "{answer}");
        answer
    }

    /// Nothing has come that was not looked at: whatever is on its way comes before a pong.
    #[track_caller]
    pub(crate) fn assert_nothing_came(&mut self) {
        self.send_frame(true, PING, b"anything?");
        assert_eq!(self.receive_frame(), (PONG, b"anything?".to_vec()));
    }
}

#[track_caller]
pub(crate) fn assert_accepted(answer: &Answer) {
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert!(
        answer
            .header("upgrade")
            .unwrap()
            .eq_ignore_ascii_case("websocket")
    );
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}

/// Somebody with a socket and a peer id that nobody else has.
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    pub(crate) id: String,
}

impl Peer {
    pub(crate) fn new(socket: Socket) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // With bytes beyond ASCII, as real ones have.
        let id = format!("-WW0202-\u{e9}\u{ff}{number:010}");
        Self { socket, id }
    }

    pub(crate) fn at(tracker: &Tracker, family: IpFamily) -> Self {
        Self::new(Socket::new(tracker, family))
    }

    pub(crate) fn announce(&self, info_hash: InfoHash, left: u64) -> Value {
        json!({
            "action": "announce",
            "info_hash": binary(&info_hash.0),
            "peer_id": self.id,
            "left": left,
        })
    }

    /// An announce with these offers; the ids are the places in the list.
    pub(crate) fn announce_with(&self, info_hash: InfoHash, offers: &[Value]) -> Value {
        let mut message = self.announce(info_hash, 1);
        let offers = offers.iter().enumerate();
        message["offers"] = offers
            .map(|(place, offer)| json!({"offer": offer, "offer_id": offer_id(place)}))
            .collect();
        message["numwant"] = json!(message["offers"].as_array().unwrap().len());
        message
    }

    /// The answer to an offer that has come.
    pub(crate) fn answer_to(&self, offer: &Value, answer: &Value) -> Value {
        json!({
            "action": "announce",
            "info_hash": offer["info_hash"],
            "peer_id": self.id,
            "to_peer_id": offer["peer_id"],
            "offer_id": offer["offer_id"],
            "answer": answer,
        })
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.socket.ask(message)
    }

    /// Announces: how many seeders and leechers there are then.
    #[track_caller]
    pub(crate) fn join(&mut self, info_hash: InfoHash, left: u64) -> (u64, u64) {
        let answer = self.ask(&self.announce(info_hash, left));
        counts(&answer)
    }

    /// Asks for something that is to be refused: the reason in words.
    #[track_caller]
    pub(crate) fn refusal(&mut self, message: &Value) -> String {
        let answer = self.ask(message);
        let reason = failure(&answer);
        reason.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

/// Why a message was refused, if it was. An announce that may be served later has a warning and
/// no numbers.
pub(crate) fn failure(answer: &Value) -> Option<&str> {
    let key = match answer["complete"].is_null() && !answer["interval"].is_null() {
        true => "warning message",
        false => "failure reason",
    };
    answer[key].as_str().or(answer["failure reason"].as_str())
}

#[track_caller]
pub(crate) fn counts(answer: &Value) -> (u64, u64) {
    let count = |key: &str| answer[key].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (count("complete"), count("incomplete"))
}

pub(crate) fn offer_id(place: usize) -> String {
    format!("offer \u{f8} {place:012}")
}

/// The keys of a message, sorted.
pub(crate) fn keys(message: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = message.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    keys.into_iter().map(String::as_str).collect()
}
