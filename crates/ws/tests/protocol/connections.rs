//! How long a connection lasts, and how many there are.

use std::sync::Arc;
use std::time::Duration;

use aquatic_test_support::connection::{Connection, Transport, tcp};
use aquatic_test_support::identity::{Identity, TLS};
use aquatic_test_support::program::{localhost, loopback};
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, Setup, metrics, torrent};
use aquatic_types::IpFamily;
use serde_json::json;

use super::client::{CLOSE, PING, PONG, Peer, Socket, TEXT, counts, failure, frame, keys, request};
use super::setup::{WS, on_every_case, on_every_runtime, runtimes};

const FAMILY: IpFamily = IpFamily::V4;

#[test]
fn silent_clients_are_asked_and_disconnected_and_who_answers_stays() {
    on_every_runtime(|case| {
        // A ping comes every other second: the answer may be late by as much, and more.
        let tracker = case.start("cleaning.max_connection_idle = 6");
        let mut alive = Peer::at(&tracker, FAMILY);
        let mut silent = Peer::at(&tracker, FAMILY);
        let mut busy = Peer::at(&tracker, FAMILY);
        alive.join(torrent(1), 1);
        assert_eq!(silent.join(torrent(1), 1), (0, 2));
        // Longer than a silent client lasts, by the tracker's own clock.
        for _ in 0..4 {
            // Any message is a sign of life, too.
            let announce = busy.announce(torrent(2), 1).to_string();
            busy.socket.send(&announce);
            let (opcode, payload) = alive.socket.receive_frame();
            assert_eq!(opcode, PING);
            alive.socket.send_frame(true, PONG, &payload);
        }
        let mut frame = silent.socket.receive_frame();
        assert_eq!(frame.0, PING);
        while frame.0 == PING {
            frame = silent.socket.receive_frame();
        }
        assert_eq!(frame, (CLOSE, 1_001_u16.to_be_bytes().to_vec()));
        silent.socket.connection.assert_closed();
        until("the silent one's peer is gone", || {
            (alive.join(torrent(1), 1) == (0, 1)).then_some(())
        });
        let mut replies = 0;
        while replies < 4 {
            replies += u8::from(busy.socket.receive_frame().0 == TEXT);
        }
        busy.socket.send_frame(true, PING, b"still there?");
        while busy.socket.receive_frame().0 != PONG {}
    });
}

/// What a browser does whose network has changed: its first connection is left open.
#[test]
fn a_peer_that_comes_back_by_another_connection_is_served_at_once() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut left_open = Peer::at(&tracker, IpFamily::V4);
        let mut other = Peer::at(&tracker, IpFamily::V4);
        left_open.join(torrent(1), 1);
        other.join(torrent(1), 1);
        let mut back = Peer::at(&tracker, IpFamily::V6);
        back.id.clone_from(&left_open.id);
        let again = back.announce_with(torrent(1), &[json!({"number": 1}), json!({"number": 2})]);
        let reply = back.ask(&again);
        assert_eq!(
            keys(&reply),
            ["action", "complete", "incomplete", "info_hash", "interval"]
        );
        assert_eq!((counts(&reply), &reply["interval"]), ((0, 3), &json!(120)));
        // It meets the other one, and not itself.
        let offer = other.socket.receive();
        other
            .socket
            .send(&other.answer_to(&offer, &json!({})).to_string());
        assert_eq!(back.socket.receive()["answer"], json!({}));
        other.socket.assert_nothing_came();
        // The first connection is left alone, and its peer goes with it.
        left_open.socket.assert_nothing_came();
        drop(left_open);
        until("its twin has gone", || {
            (other.join(torrent(1), 1) == (0, 2)).then_some(())
        });
        let announce = other.announce_with(torrent(1), &[json!({}), json!({})]);
        other.ask(&announce);
        assert_eq!(back.socket.receive()["peer_id"], other.id);
    });
}

const SMALL_BUFFER: &str = "network.websocket_max_message_size = 20_000\n\
    network.websocket_max_frame_size = 20_000\n\
    network.websocket_write_buffer_size = 80_000\n\
    protocol.max_offers_per_second_per_receiver = 0\n";

#[test]
fn what_others_send_to_a_slow_reader_is_dropped_and_counted() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(SMALL_BUFFER);
        let mut slow = Peer::at(&tracker, FAMILY);
        let mut busy = Peer::at(&tracker, FAMILY);
        slow.join(torrent(1), 1);
        let announce = busy.announce_with(torrent(1), &[json!({"sdp": "x".repeat(15_000)})]);
        // The system's buffers take some, too.
        until("what is sent to the slow one is dropped", || {
            for _ in 0..50 {
                assert_eq!(counts(&busy.ask(&announce)), (0, 2), "it is disconnected");
            }
            let dropped = "aquatic_dropped_total{reason=receiver_full}";
            (metrics::sum(&metrics::scrape(&tracker), dropped) > 100.0).then_some(())
        });
        // It reads what came, and takes part as before.
        let mut message = slow.announce(torrent(1), 1);
        message["event"] = json!("stopped");
        slow.socket.send(&message.to_string());
        until("it has read its reply", || {
            (counts_if_any(&slow.socket.receive()) == Some((0, 1))).then_some(())
        });
        assert_eq!(slow.join(torrent(1), 1), (0, 2));
    });
}

fn counts_if_any(message: &serde_json::Value) -> Option<(u64, u64)> {
    (!message["complete"].is_null()).then(|| counts(message))
}

#[test]
fn who_asks_for_much_and_does_not_read_is_disconnected_and_counted() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(SMALL_BUFFER);
        let mut greedy = Socket::new(&tracker, FAMILY);
        let nonsense = frame(true, TEXT, b"{}").repeat(5_000);
        greedy.connection.send(nonsense);
        metrics::wait_for(
            &tracker,
            &[("aquatic_connections_closed_total{reason=output_full}", 1.0)],
        );
        assert_eq!(Peer::at(&tracker, FAMILY).join(torrent(1), 1), (0, 1));
    });
}

#[test]
fn connections_of_an_address_are_limited() {
    on_every_runtime(|case| {
        let tracker = case.start("limits.max_connections_per_ip = 2");
        let address = tracker.address(FAMILY);
        let open = |last| Socket::open(loopback(last), address, tracker.transport);
        let (first, _second, _other) = (open(1), open(1), open(2));
        let mut refused = Connection::over(tcp(loopback(1), address).unwrap(), Transport::Plain);
        refused.assert_dropped();
        drop(first);
        until("there is room again", || {
            let tcp = tcp(loopback(1), address).ok()?;
            let mut connection = Connection::over(tcp, Transport::Plain);
            connection
                .is_silent_for(Duration::from_millis(100))
                .then_some(())
        });
    });
}

#[test]
fn who_does_not_finish_a_request_is_told_and_disconnected() {
    on_every_runtime(|case| {
        // Longer than a machine stands still, so that a whole request comes in time.
        let tracker = case.start("network.request_timeout = 5");
        let address = tracker.address(FAMILY);
        let mut silent = Connection::open(localhost(FAMILY), address, tracker.transport);
        let mut slow = Connection::open(localhost(FAMILY), address, tracker.transport);
        slow.send(&request("")[..40]);
        let mut peer = Peer::at(&tracker, FAMILY);
        peer.join(torrent(1), 1);
        peer.socket.connection.send([0x81, 0xfe, 0x10]);
        assert_eq!(slow.answer().status, 408);
        slow.assert_closed();
        // Against the operator's policy (RFC 6455, 7.4.1).
        let policy = 1_008_u16.to_be_bytes().to_vec();
        assert_eq!(peer.socket.receive_frame(), (CLOSE, policy));
        peer.socket.connection.assert_closed();
        silent.assert_closed();
    });
}

#[test]
fn who_does_not_finish_a_handshake_is_disconnected() {
    on_every_runtime(|case| {
        if !case.transport.is_tls() {
            return;
        }
        // Longer than a machine stands still, so that a whole handshake comes in time.
        let tracker = case.start("network.handshake_timeout = 5");
        let address = tracker.address(FAMILY);
        let open = |first_bytes: &[u8]| {
            let mut raw = Connection::open(localhost(FAMILY), address, Transport::Plain);
            raw.send(first_bytes);
            raw
        };
        for mut raw in [open(b""), open(b"\x16\x03\x01\x02\x00\x01\x00")] {
            raw.assert_closed();
        }
        assert_eq!(Peer::at(&tracker, FAMILY).join(torrent(1), 1), (0, 1));
    });
}

/// Whoever has all connections loses some of them to those who have none.
#[test]
fn one_address_does_not_take_all_connections() {
    const GREEDY: usize = 120;
    const HONEST: u8 = 40;
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(&format!("network.max_connections = {GREEDY}"));
        let address = tracker.address(FAMILY);
        let silent: Vec<_> = (0..GREEDY).map(|_| tcp(loopback(1), address)).collect();
        let mut honest: Vec<_> = (2..2 + HONEST)
            .map(|last| Peer::new(Socket::open(loopback(last), address, tracker.transport)))
            .collect();
        for peer in &mut honest {
            peer.join(torrent(1), 1);
        }
        let closed = "aquatic_connections_closed_total{reason=evicted}";
        let refused = "aquatic_connections_refused_total{reason=max_connections}";
        metrics::wait_for(&tracker, &[(closed, 40.0), (refused, 0.0)]);
        drop(silent);
    });
}

#[test]
fn messages_per_address_are_limited() {
    on_every_runtime(|case| {
        let tracker = case.start("limits.requests_per_second_per_ip = 5");
        let mut peer = Peer::at(&tracker, FAMILY);
        let announce = peer.announce(torrent(1), 1);
        let refusal = until("a message too many", || {
            let answer = peer.ask(&announce);
            failure(&answer).map(str::to_owned)
        });
        assert!(refusal.contains("too many messages"), "{refusal}");
    });
}

#[test]
fn connections_with_an_old_certificate_are_closed_after_a_while() {
    for runtime in runtimes() {
        let setup = Setup {
            runtime,
            ..Setup::simple(&WS)
        };
        let (old, new) = (Identity::new(), Identity::new());
        let place = Place::new();
        old.write(&place);
        let settings = format!("{TLS}cleaning.close_after_tls_update_grace_period = 1");
        let daemon = place.start(setup, &settings);
        let connect = |identity: &Identity| {
            let config = Arc::new(identity.trusted(&rustls::version::TLS13));
            let tcp = tcp(localhost(FAMILY), daemon.address(FAMILY)).unwrap();
            Connection::with_tls(tcp, &config)
        };
        let mut early = Peer::new(Socket::over(connect(&old).unwrap(), ""));
        early.join(torrent(1), 1);
        new.write(&daemon.place);
        daemon.reload();
        assert!(
            connect(&old).is_err(),
            "nobody is shown the old one any more"
        );
        let mut late = Peer::new(Socket::over(connect(&new).unwrap(), ""));
        early.socket.connection.assert_closed();
        until("the early one's peer is gone", || {
            (late.join(torrent(1), 1) == (0, 1)).then_some(())
        });
    }
}
