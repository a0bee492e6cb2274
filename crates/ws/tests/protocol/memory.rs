//! What all connections hold together, while clients with small messages are served.

use aquatic_test_support::connection::Connection;
use aquatic_test_support::memory::{SETTINGS, is_bounded};
use aquatic_test_support::program::loopback;
use aquatic_test_support::torrent;
use aquatic_types::IpFamily;
use serde_json::json;

use super::client::{Peer, Socket, TEXT, binary, frame};
use super::setup::on_every_runtime;

/// What a worker has at least.
const BYTES_MAX: f64 = 5.5 * 1024.0 * 1024.0;

/// So many clients send this, and stay.
fn survives(clients: usize, bytes: &[u8]) {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(SETTINGS);
        let address = tracker.address(IpFamily::V4);
        let honest = || Peer::new(Socket::open(loopback(2), address, tracker.transport));
        let mut steady = honest();
        let ask = || {
            steady.join(torrent(1), 1);
            honest().join(torrent(1), 1);
        };
        let greedy = |connection: Connection| {
            let mut socket = Socket::over(connection, "");
            // It may be closed while it speaks.
            let _ = socket.connection.try_send(bytes);
            socket
        };
        is_bounded(&tracker, clients, BYTES_MAX, greedy, ask);
    });
}

#[test]
fn unfinished_messages_are_bounded_together() {
    survives(100, &frame(false, TEXT, &[b' '; 100_000]));
}

#[test]
fn replies_that_nobody_reads_are_bounded_together() {
    let info_hashes: Vec<_> = (0..250).map(|number| binary(&torrent(number).0)).collect();
    let scrape = json!({"action": "scrape", "info_hash": info_hashes});
    let scrapes = frame(true, TEXT, scrape.to_string().as_bytes()).repeat(12);
    survives(60, &scrapes);
}
