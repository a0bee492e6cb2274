//! Clients that send all their messages together, and then close their sending half, without a
//! close frame.
//!
//! What they have asked for is carried out and answered; then the connection ends, and its peers
//! are gone with it.

use aquatic_test_support::connection::Connection;
use aquatic_test_support::program::localhost;
use aquatic_test_support::torrent;
use aquatic_test_support::wait::until;
use aquatic_types::{InfoHash, IpFamily};
use serde_json::json;

use super::client::{Peer, Socket, TEXT, assert_accepted, binary, frame, request};
use super::setup::on_every_case;

/// Messages of one client: few, more than may be on their way at once, and many more.
const BURSTS: [u32; 4] = [1, 25, 100, 400];

fn torrents(burst: usize, count: u32) -> Vec<InfoHash> {
    let first = 1_000 * u32::try_from(burst).unwrap();
    (first..first + count).map(torrent).collect()
}

#[test]
fn all_messages_before_the_end_are_carried_out_and_answered() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut witness = Socket::new(&tracker, IpFamily::V4);
        for (burst, count) in BURSTS.into_iter().enumerate() {
            let mut peer = Peer::at(&tracker, IpFamily::V4);
            let torrents = torrents(burst, count);
            let mut bytes = Vec::new();
            for info_hash in &torrents {
                let mut message = peer.announce(*info_hash, 0);
                message["event"] = json!("completed");
                bytes.extend(frame(true, TEXT, message.to_string().as_bytes()));
            }
            peer.socket.connection.send(bytes);
            peer.socket.connection.end();
            for _ in 0..count {
                let reply = peer.socket.receive();
                assert_eq!(reply["complete"], 1, "{reply}");
            }
            peer.socket.connection.assert_closed();
            // The downloads were counted; whoever has gone is no peer any more.
            for torrents in torrents.chunks(50) {
                until("the peers are gone", || {
                    let scrape = witness.scrape(torrents);
                    let files = scrape["files"].as_object().unwrap();
                    assert_eq!(files.len(), torrents.len(), "{scrape}");
                    assert!(files.values().all(|it| it["downloaded"] == 1), "{scrape}");
                    files.values().all(|it| it["complete"] == 0).then_some(())
                });
            }
        }
    });
}

#[test]
fn a_scrape_before_the_end_is_answered() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut socket = Socket::new(&tracker, IpFamily::V4);
        let message = json!({"action": "scrape", "info_hash": [binary(&torrent(1).0)]}).to_string();
        let bytes = frame(true, TEXT, message.as_bytes()).repeat(100);
        socket.connection.send(bytes);
        socket.connection.end();
        for _ in 0..100 {
            let reply = socket.receive();
            assert_eq!(reply["action"], "scrape", "{reply}");
        }
        socket.connection.assert_closed();
    });
}

/// All in one write, from the request for a WebSocket to half a frame.
#[test]
fn the_end_may_come_right_behind_the_upgrade() {
    on_every_case(|case| {
        let tracker = case.start("");
        let address = tracker.address(IpFamily::V4);
        let ip = localhost(IpFamily::V4);
        let connection = Connection::open(ip, address, tracker.transport);
        let mut peer = Peer::new(Socket { connection });
        let message = peer.announce(torrent(1), 1).to_string();
        let whole = frame(true, TEXT, message.as_bytes());
        let half = &whole[..whole.len() / 2];
        let bytes = [request("").as_bytes(), &whole.repeat(100), half].concat();
        peer.socket.connection.send(bytes);
        peer.socket.connection.end();
        assert_accepted(&peer.socket.connection.answer());
        for _ in 0..100 {
            let reply = peer.socket.receive();
            assert_eq!(reply["incomplete"], 1, "{reply}");
        }
        peer.socket.connection.assert_closed();
    });
}
