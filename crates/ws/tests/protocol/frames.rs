//! WebSocket frames: what is read, and how a connection ends.

use aquatic_test_support::torrent;
use aquatic_types::IpFamily;
use serde_json::Value;

use super::client::{BINARY, CLOSE, CONTINUATION, PING, PONG, Peer, Socket, TEXT, counts, frame};
use super::setup::{on_every_case, on_every_runtime};

const FAMILY: IpFamily = IpFamily::V6;

#[test]
fn text_and_binary_are_read_and_text_is_sent() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, FAMILY);
        let announce = peer.announce(torrent(1), 1).to_string();
        for opcode in [TEXT, BINARY] {
            peer.socket.send_frame(true, opcode, announce.as_bytes());
            assert_eq!(counts(&peer.socket.receive()), (0, 1));
        }
    });
}

#[test]
fn a_message_may_come_in_parts_with_pings_between_them() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, FAMILY);
        let announce = peer.announce(torrent(1), 1).to_string();
        let (head, rest) = announce.as_bytes().split_at(10);
        let (middle, tail) = rest.split_at(1);
        peer.socket.send_frame(false, TEXT, head);
        peer.socket.send_frame(true, PING, b"one");
        peer.socket.send_frame(false, CONTINUATION, middle);
        peer.socket.send_frame(true, PONG, b"unasked");
        peer.socket.send_frame(false, CONTINUATION, b"");
        peer.socket.send_frame(true, CONTINUATION, tail);
        assert_eq!(peer.socket.receive_frame(), (PONG, b"one".to_vec()));
        assert_eq!(counts(&peer.socket.receive()), (0, 1));
    });
}

#[test]
fn bytes_may_come_one_by_one_or_many_messages_at_once() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, FAMILY);
        let announce = peer.announce(torrent(1), 1).to_string();
        let message = frame(true, TEXT, announce.as_bytes());
        for byte in &message {
            peer.socket.connection.send([*byte]);
        }
        assert_eq!(counts(&peer.socket.receive()), (0, 1));
        // More than are worked on at once.
        peer.socket.connection.send(message.repeat(300));
        for _ in 0..300 {
            assert_eq!(counts(&peer.socket.receive()), (0, 1));
        }
        peer.socket.assert_nothing_came();
    });
}

#[test]
fn a_close_is_answered_with_its_code() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        for payload in [&b""[..], b"\x03\xe8", b"\x03\xe9going away"] {
            let mut socket = Socket::new(&tracker, FAMILY);
            socket.send_frame(true, CLOSE, payload);
            let code = payload.get(..2).unwrap_or_default();
            assert_eq!(socket.receive_frame(), (CLOSE, code.to_vec()));
            socket.connection.assert_closed();
        }
    });
}

/// RFC 6455, 7.4: codes that no endpoint may send, and that stand for nothing.
#[test]
fn a_reserved_close_code_is_not_sent_back() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            let mut socket = Socket::new(&tracker, FAMILY);
            socket.send_frame(true, CLOSE, &code.to_be_bytes());
            let close = (CLOSE, 1002_u16.to_be_bytes().to_vec());
            assert_eq!(socket.receive_frame(), close, "{code}");
            socket.connection.assert_closed();
        }
        for code in [1000_u16, 1003, 1007, 1011, 1013, 3000, 4999] {
            let mut socket = Socket::new(&tracker, FAMILY);
            socket.send_frame(true, CLOSE, &code.to_be_bytes());
            assert_eq!(socket.receive_frame(), (CLOSE, code.to_be_bytes().to_vec()));
        }
    });
}

#[test]
fn who_breaks_the_rules_is_told_by_a_code_and_disconnected() {
    on_every_runtime(|case| {
        let tracker = case.start(
            "network.websocket_max_frame_size = 2_000\n\
             network.websocket_max_message_size = 3_000",
        );
        let (protocol, text, size) = (1002_u16, 1007_u16, 1009_u16);
        let unmasked = vec![0x81, 0x02, b'{', b'}'];
        let parts = [
            frame(false, TEXT, &[b' '; 2_000]),
            frame(true, CONTINUATION, &[b' '; 1_001]),
        ];
        let half_a_character = [
            frame(false, TEXT, b"{\"action\": \"\xc3"),
            frame(true, CONTINUATION, b"\"}"),
        ];
        for (bytes, code) in [
            (frame(true, TEXT, b"{\"action\": \"\xff\"}"), text),
            (half_a_character.concat(), text),
            (frame(true, CLOSE, b"\x03\xe8\xff"), text),
            (frame(true, CLOSE, b"\x03"), protocol),
            (unmasked, protocol),
            (frame(true, CONTINUATION, b"{}"), protocol),
            (frame(true, 3, b"{}"), protocol),
            (frame(true, 0x40 | TEXT, b"{}"), protocol),
            (frame(false, PING, b""), protocol),
            (frame(true, PING, &[0; 126]), protocol),
            (frame(true, TEXT, &[b' '; 2_001]), size),
            (parts.concat(), size),
        ] {
            let mut socket = Socket::new(&tracker, FAMILY);
            socket.connection.send(bytes);
            let close = (CLOSE, code.to_be_bytes().to_vec());
            assert_eq!(socket.receive_frame(), close);
            socket.connection.assert_closed();
        }
        // The largest that may come is read.
        let mut peer = Peer::at(&tracker, FAMILY);
        let mut announce = peer.announce(torrent(1), 1).to_string();
        announce += &" ".repeat(2_000 - announce.len());
        peer.socket.send(&announce);
        let answer: Value = peer.socket.receive();
        assert_eq!(counts(&answer), (0, 1));
    });
}
