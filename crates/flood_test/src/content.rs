//! What attackers send: bytes that a tracker has to do something about.

use std::fmt::Write;

use aquatic_types::{AnnounceEvent, InfoHash, PeerId};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, ScrapeRequest, TransactionId,
};
use fastrand::Rng;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// Torrents of the largest scrape that trackers answer by default.
const UDP_SCRAPE_TORRENTS: usize = 74;
const HTTP_SCRAPE_TORRENTS: usize = 100;
const WS_SCRAPE_TORRENTS: usize = 255;

/// The largest message that `aquatic_ws` takes by default, in bytes.
pub const WS_MESSAGE_BYTES_MAX: usize = 131_072;

/// Makes a request, or nonsense.
pub type Make = fn(&mut Rng) -> Vec<u8>;

fn random<const N: usize>(rng: &mut Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill(&mut bytes);
    bytes
}

fn announce(id: ConnectionId, info_hash: InfoHash, port: u16, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = AnnounceRequest {
        connection_id: id,
        transaction_id: TransactionId(random(rng)),
        info_hash,
        peer_id: PeerId(random(rng)),
        bytes_downloaded: 0,
        bytes_left: 1,
        bytes_uploaded: 0,
        event: AnnounceEvent::Started,
        key: random(rng),
        num_want: -1,
        port,
        options: &[],
    };
    request.write(&mut bytes);
    bytes
}

/// UDP: asks for a connection id.
pub fn udp_connect(_: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let transaction_id = TransactionId(random(rng));
    ConnectRequest { transaction_id }.write(&mut bytes);
    bytes
}

/// UDP: announces a torrent that nobody else has.
pub fn udp_new_torrent(id: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    let info_hash = InfoHash(random(rng));
    announce(id, info_hash, rng.u16(1..), rng)
}

/// UDP: one more port in one torrent.
pub fn udp_one_swarm(id: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    announce(id, InfoHash([7; 20]), rng.u16(1..), rng)
}

/// UDP: an announce with a connection id that the tracker never gave.
pub fn udp_stale_id(_: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    let id = ConnectionId(random(rng));
    udp_new_torrent(id, rng)
}

/// UDP: asks for as many torrents as is allowed.
pub fn udp_scrape(id: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    let mut hashes = [0; 20 * UDP_SCRAPE_TORRENTS];
    rng.fill(&mut hashes);
    let mut bytes = Vec::new();
    let request = ScrapeRequest {
        connection_id: id,
        transaction_id: TransactionId(random(rng)),
        info_hashes: InfoHashes::from_bytes(&hashes),
    };
    request.write(&mut bytes);
    bytes
}

/// UDP: any bytes, up to what fits into an Ethernet frame.
pub fn udp_random_bytes(_: ConnectionId, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.usize(0..1_400)];
    rng.fill(&mut bytes);
    bytes
}

/// 20 random bytes as a URL has them.
fn percent_encoded(rng: &mut Rng) -> String {
    random::<20>(rng)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02x}");
            text
        })
}

fn http_get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: tracker\r\n\r\n").into_bytes()
}

/// HTTP: announces a torrent that nobody else has.
pub fn http_new_torrent(rng: &mut Rng) -> Vec<u8> {
    let port = rng.u16(1..);
    http_get(&format!(
        "/announce?info_hash={}&peer_id=-XX0000-xxxxxxxxxxxx&port={port}&left=1&compact=1",
        percent_encoded(rng)
    ))
}

/// HTTP: one more port in one torrent.
pub fn http_one_swarm(rng: &mut Rng) -> Vec<u8> {
    let port = rng.u16(1..);
    http_get(&format!(
        "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-XX0000-xxxxxxxxxxxx&port={port}\
         &left=1&compact=1"
    ))
}

/// HTTP: asks for as many torrents as is allowed.
pub fn http_scrape(rng: &mut Rng) -> Vec<u8> {
    let hashes: Vec<_> = (0..HTTP_SCRAPE_TORRENTS)
        .map(|_| format!("info_hash={}", percent_encoded(rng)))
        .collect();
    http_get(&format!("/scrape?{}", hashes.join("&")))
}

/// HTTP: an announce in the largest head that is taken, 16 KiB.
pub fn http_large_head(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = http_new_torrent(rng);
    bytes.truncate(bytes.len() - b"\r\n".len());
    let filling = "x".repeat(16 * 1_024 - bytes.len() - "X: \r\n\r\n".len());
    bytes.extend(format!("X: {filling}\r\n\r\n").into_bytes());
    bytes
}

/// HTTP: the start of a head that never ends.
pub fn http_slow_head(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = http_new_torrent(rng);
    bytes.truncate(bytes.len() - b"\r\n".len());
    bytes.extend(format!("X: {}", "x".repeat(8_000)).into_bytes());
    bytes
}

/// Any bytes, where a TCP client should say something.
pub fn stream_random_bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.usize(1..4_096)];
    rng.fill(&mut bytes);
    bytes
}

/// WebTorrent: asks for a WebSocket (RFC 6455, section 1.3).
pub fn ws_upgrade(_: &mut Rng) -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec()
}

/// A text frame of a client, with the mask 0, which changes nothing.
#[must_use]
pub fn ws_frame(text: &str) -> Vec<u8> {
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        mask: Some([0; 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = header.format(text.len() as u64, &mut bytes);
    bytes.extend(text.as_bytes());
    bytes
}

/// 20 characters, each of which stands for a byte.
fn ws_id(rng: &mut Rng) -> String {
    std::iter::repeat_with(|| rng.alphanumeric())
        .take(20)
        .collect()
}

fn ws_announce(info_hash: &str, offers: &str, rng: &mut Rng) -> Vec<u8> {
    ws_frame(&format!(
        r#"{{"action":"announce","info_hash":"{info_hash}","peer_id":"{}","left":1,
           "numwant":10,"offers":[{offers}]}}"#,
        ws_id(rng)
    ))
}

fn ws_offers(count: usize, sdp_bytes: usize, rng: &mut Rng) -> String {
    let sdp = "x".repeat(sdp_bytes);
    let offers: Vec<_> = std::iter::repeat_with(|| {
        let id = ws_id(rng);
        format!(r#"{{"offer_id":"{id}","offer":{{"type":"offer","sdp":"{sdp}"}}}}"#)
    })
    .take(count)
    .collect();
    offers.join(",")
}

/// WebTorrent: asks for a WebSocket, and announces a torrent that nobody else has.
pub fn ws_upgrade_and_announce(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = ws_upgrade(rng);
    bytes.extend(ws_new_torrent(rng));
    bytes
}

/// WebTorrent: announces a torrent that nobody else has.
pub fn ws_new_torrent(rng: &mut Rng) -> Vec<u8> {
    let info_hash = ws_id(rng);
    ws_announce(&info_hash, "", rng)
}

/// WebTorrent: one more peer in one torrent, with offers as browsers make them.
pub fn ws_one_swarm(rng: &mut Rng) -> Vec<u8> {
    let offers = ws_offers(5, 1_500, rng);
    ws_announce("aaaaaaaaaaaaaaaaaaaa", &offers, rng)
}

/// WebTorrent: ten offers that fill the largest message.
pub fn ws_largest_message(rng: &mut Rng) -> Vec<u8> {
    let offers = ws_offers(10, 12_800, rng);
    ws_announce("aaaaaaaaaaaaaaaaaaaa", &offers, rng)
}

/// WebTorrent: asks for as many torrents as is allowed.
pub fn ws_scrape(rng: &mut Rng) -> Vec<u8> {
    let hashes: Vec<_> = std::iter::repeat_with(|| format!("{:?}", ws_id(rng)))
        .take(WS_SCRAPE_TORRENTS)
        .collect();
    ws_frame(&format!(
        r#"{{"action":"scrape","info_hash":[{}]}}"#,
        hashes.join(",")
    ))
}

/// WebTorrent: JSON that is more trouble than it looks: deep, wide, long, or full of escapes.
pub fn ws_json_bomb(rng: &mut Rng) -> Vec<u8> {
    let room = WS_MESSAGE_BYTES_MAX - 1_024;
    let announce = r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","#;
    let text = match rng.u8(..6) {
        0 => "[".repeat(room),
        1 => format!(r#"{announce}"offers":{}1"#, r#"{"a":"#.repeat(room / 5)),
        2 => format!(r#"{announce}"left":{}}}"#, "9".repeat(room)),
        3 => format!(
            r#"{announce}"peer_id":"{}"}}"#,
            r"\ud83d\ude00".repeat(room / 12)
        ),
        4 => format!(r#"{announce}"offers":[{}0]}}"#, "0,".repeat(room / 2)),
        _ => format!(r#"{{{}"action":"scrape"}}"#, r#""a":0,"#.repeat(room / 6)),
    };
    ws_frame(&text)
}

/// WebTorrent: the header of a large frame, and the start of a message that never ends.
pub fn ws_slow_frame(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = ws_largest_message(rng);
    bytes.truncate(100_000);
    bytes
}

#[cfg(test)]
mod tests {
    use aquatic_udp_protocol::Request;

    use super::*;

    #[test]
    fn datagrams_are_what_they_claim_to_be() {
        let mut rng = Rng::with_seed(1);
        let id = ConnectionId([1; 8]);
        for (bytes, expected) in [
            (udp_connect(id, &mut rng), "Connect"),
            (udp_new_torrent(id, &mut rng), "Announce"),
            (udp_one_swarm(id, &mut rng), "Announce"),
            (udp_stale_id(id, &mut rng), "Announce"),
            (udp_scrape(id, &mut rng), "Scrape"),
        ] {
            let request = format!("{:?}", Request::parse(&bytes).unwrap());
            assert!(request.starts_with(expected), "{request}");
        }
        assert_ne!(udp_new_torrent(id, &mut rng), udp_new_torrent(id, &mut rng));
    }

    #[test]
    fn heads_are_as_large_as_is_taken() {
        let mut rng = Rng::with_seed(1);
        let head = http_large_head(&mut rng);
        assert_eq!(head.len(), 16 * 1_024);
        assert!(head.ends_with(b"x\r\n\r\n"));
        let slow = http_slow_head(&mut rng);
        assert!(!slow.windows(4).any(|it| it == b"\r\n\r\n"));
    }

    #[test]
    fn messages_fit_into_what_is_taken() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..50 {
            assert!(ws_json_bomb(&mut rng).len() <= WS_MESSAGE_BYTES_MAX);
        }
        let largest = ws_largest_message(&mut rng).len();
        assert!(
            (128_000..=WS_MESSAGE_BYTES_MAX).contains(&largest),
            "{largest}"
        );
        // The whole of it is announced, and less comes.
        let slow = ws_slow_frame(&mut rng);
        assert!(u64::from_be_bytes(*slow[2..].first_chunk().unwrap()) > slow.len() as u64);
    }

    #[test]
    fn lengths_of_frames_have_three_forms() {
        for (length, head) in [
            (125, &[0x81, 0x80 | 125][..]),
            (126, &[0x81, 0x80 | 126, 0, 126]),
            (65_536, &[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = ws_frame(&"x".repeat(length));
            assert!(frame.starts_with(head), "{length}");
            assert_eq!(frame.len(), head.len() + 4 + length);
        }
    }
}
