//! A whole WebTorrent tracker: connections, sessions, workers, shard.
#![no_main]

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_fuzz::entropy;
use aquatic_fuzz::network::{Network, Step, Wire};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_ws::config::Config;
use aquatic_ws::workers::build_workers;
use aquatic_ws_protocol::Response;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a client says.
#[derive(Arbitrary, Debug)]
enum Said {
    Announce {
        torrent: u8,
        peer: u8,
        left: Option<u8>,
        event: u8,
        offers: Vec<u8>,
    },
    Answer {
        torrent: u8,
        peer: u8,
        to: u8,
        offer: u8,
    },
    Scrape(Vec<u8>),
    Text(Vec<u8>),
    Frame {
        first_byte: u8,
        payload: Vec<u8>,
    },
}

fuzz_target!(|steps: Vec<Step<Said>>| {
    let mut config = Config {
        socket_workers: 2,
        swarm_workers: 0,
        ..Config::default()
    };
    config.protocol.max_torrents_per_connection = 4;
    config.network.websocket_max_message_size = 4_096;
    config.network.websocket_max_frame_size = 2_048;
    config.network.websocket_write_buffer_size = 16_384;
    let wakers: Vec<_> = (0..2).map(|_| waker_pair(|| ()).1).collect();
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let arranged = build_workers(
        &config,
        &access_list,
        None,
        &wakers,
        ClientLimits::default(),
        Persistence::default(),
        &mut entropy(),
    );
    let workers = arranged.expect("this entropy never fails").socket_workers;
    let mut network = Network::new(workers, config.bounds(), None, None);
    let say = |wire: &mut Wire, said| {
        let mut bytes = Vec::new();
        if !wire.has_spoken {
            bytes.extend_from_slice(UPGRADE);
        }
        write(said, &mut bytes);
        bytes
    };
    network.live(steps, say, check);
});

fn write(said: Said, out: &mut Vec<u8>) {
    let id = |number: u8| char::from(b'a' + number % 8).to_string().repeat(20);
    let text = match said {
        Said::Announce {
            torrent,
            peer,
            left,
            event,
            offers,
        } => {
            let event = ["started", "stopped", "completed", "update"][usize::from(event % 4)];
            let left = left.map_or("null".to_owned(), |left| left.to_string());
            let offers: Vec<_> = offers
                .iter()
                .map(|offer| {
                    let offer_id = id(*offer);
                    format!(r#"{{"offer_id":"{offer_id}","offer":{{"type":"offer","sdp":"x"}}}}"#)
                })
                .collect();
            format!(
                r#"{{"action":"announce","info_hash":"{}","peer_id":"{}","left":{left},
                "event":"{event}","numwant":{},"offers":[{}]}}"#,
                id(torrent),
                id(peer),
                offers.len(),
                offers.join(","),
            )
        }
        Said::Answer {
            torrent,
            peer,
            to,
            offer,
        } => format!(
            r#"{{"action":"announce","info_hash":"{}","peer_id":"{}","to_peer_id":"{}",
            "offer_id":"{}","answer":{{"type":"answer","sdp":"y"}}}}"#,
            id(torrent),
            id(peer),
            id(to),
            id(offer),
        ),
        Said::Scrape(torrents) => {
            let torrents: Vec<_> = torrents
                .iter()
                .map(|it| format!(r#""{}""#, id(*it)))
                .collect();
            format!(
                r#"{{"action":"scrape","info_hash":[{}]}}"#,
                torrents.join(",")
            )
        }
        Said::Text(text) => return write_frame(0x81, &text, out),
        Said::Frame {
            first_byte,
            payload,
        } => return write_frame(first_byte, &payload, out),
    };
    write_frame(0x81, text.as_bytes(), out);
}

/// Masked with zeros, that is, as it is.
fn write_frame(first_byte: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first_byte);
    match u16::try_from(payload.len()) {
        Ok(size @ 0..126) => out.push(0x80 | size.to_le_bytes()[0]),
        Ok(size) => {
            out.push(0x80 | 126);
            out.extend(size.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend(u64::try_from(payload.len()).expect("a size").to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
}

/// Whoever gets frames gets whole ones, and messages that can be read.
fn check(wire: &Wire) {
    let received = wire.received.as_slice();
    if !received.starts_with(b"HTTP/1.1 101 ") {
        return;
    }
    let end = received.windows(4).position(|end| end == b"\r\n\r\n");
    let mut rest = end.map_or(&[][..], |end| &received[end + 4..]);
    while let [first_byte, size, after @ ..] = rest {
        let (size, after) = match (*size, after) {
            (126, [high, low, after @ ..]) => (u16::from_be_bytes([*high, *low]).into(), after),
            (size @ 0..126, after) => (usize::from(size), after),
            _ => return,
        };
        let Some(payload) = after.get(..size) else {
            return;
        };
        if *first_byte == 0x81 {
            Response::parse(payload).expect("a message");
        } else {
            assert!(matches!(first_byte, 0x88..=0x8a), "{first_byte:#x}");
        }
        rest = &after[size..];
    }
}
