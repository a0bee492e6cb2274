//! Messages as browsers send them.

use std::sync::OnceLock;

use aquatic_types::{AnnounceEvent, InfoHash, PeerId};
use aquatic_ws_protocol::{AnnounceRequest, AnswerRequest, Message, Offer, OfferId, Request};

/// What a browser says about a data channel and eight ways to reach it: some 1.4 KB.
const SESSION_DESCRIPTION: &str = concat!(
    r"v=0\r\no=- 5498186869896684180 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
    r"a=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
    r"m=application 54321 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 203.0.113.77\r\n",
    r"a=candidate:1966762133 1 udp 2122260223 192.0.2.17 54321 typ host generation 0 ",
    r"network-id 1 network-cost 10\r\n",
    r"a=candidate:2999745851 1 udp 2122194687 198.51.100.4 54322 typ host generation 0 ",
    r"network-id 2\r\n",
    r"a=candidate:1510613869 1 udp 2122129151 2001:db8:4f2a::1c7d 54323 typ host generation 0 ",
    r"network-id 3\r\n",
    r"a=candidate:842163049 1 udp 1685921535 203.0.113.77 54321 typ srflx raddr 192.0.2.17 ",
    r"rport 54321 generation 0 network-id 1 network-cost 10\r\n",
    r"a=candidate:842163050 1 udp 1685921535 203.0.113.78 54322 typ srflx raddr 198.51.100.4 ",
    r"rport 54322 generation 0 network-id 2\r\n",
    r"a=candidate:4233069003 1 tcp 1518214911 198.51.100.4 9 typ host tcptype active ",
    r"generation 0 network-id 2\r\n",
    r"a=candidate:3022624816 1 tcp 1518280447 192.0.2.17 9 typ host tcptype active ",
    r"generation 0 network-id 1 network-cost 10\r\n",
    r"a=candidate:344579997 1 tcp 1518083839 2001:db8:4f2a::1c7d 9 typ host tcptype active ",
    r"generation 0 network-id 3\r\n",
    r"a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlT1\r\n",
    r"a=fingerprint:sha-256 8A:D7:09:5C:C1:3B:F2:71:9E:44:A0:2D:63:57:1F:0E:BC:28:95:E6:7B:",
    r"12:4D:D9:30:F8:A3:6C:5E:81:07:CA\r\n",
    r"a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n",
);

/// Some 20 bytes, half of them beyond ASCII.
pub(crate) fn bytes_20(seed: u8) -> [u8; 20] {
    let mut byte = seed;
    [(); 20].map(|()| {
        byte = byte.wrapping_mul(73).wrapping_add(41);
        byte
    })
}

pub(crate) const INFO_HASH: InfoHash =
    InfoHash(*b"\x5e\xa1\x0d<\xaaP\xf4\x84\x1c\x9bQ\xb0\xbez\xe6\xc5\x1e\xe2\xd9I");
pub(crate) const PEER_ID: PeerId = PeerId(*b"-WW0208-Ab0cD1eF2gH3");

/// An offer or an answer.
pub(crate) fn session_description(kind: &str) -> String {
    format!(r#"{{"type":"{kind}","sdp":"{SESSION_DESCRIPTION}"}}"#)
}

/// An announce with 10 offers: some 15 KB.
pub(crate) fn announce() -> &'static [u8] {
    static MESSAGE: OnceLock<Vec<u8>> = OnceLock::new();
    MESSAGE.get_or_init(|| {
        let offer = session_description("offer");
        let offers = (0..10).map(|seed| Offer {
            offer_id: OfferId(bytes_20(seed)),
            offer: &offer,
        });
        written(&Request::Announce(AnnounceRequest {
            info_hash: INFO_HASH,
            peer_id: PEER_ID,
            bytes_uploaded: None,
            bytes_downloaded: None,
            bytes_left: Some(734_003_200),
            event: AnnounceEvent::Started,
            num_want: Some(10),
            offers: offers.collect(),
            skipped: None,
        }))
    })
}

/// An answer to one of the offers.
pub(crate) fn answer() -> &'static [u8] {
    static MESSAGE: OnceLock<Vec<u8>> = OnceLock::new();
    MESSAGE.get_or_init(|| {
        written(&Request::Answer(AnswerRequest {
            info_hash: INFO_HASH,
            peer_id: PEER_ID,
            to_peer_id: PEER_ID,
            offer_id: OfferId(bytes_20(2)),
            answer: &session_description("answer"),
        }))
    })
}

fn written(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}
