//! What all connections hold together, while clients with small requests are served.

use aquatic_test_support::memory::{SETTINGS, is_bounded};
use aquatic_test_support::program::loopback;
use aquatic_test_support::torrent;
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER};
use super::setup::on_every_runtime;

/// What a worker has at least.
const BYTES_MAX: f64 = 3.5 * 1024.0 * 1024.0;

/// So many clients send this, and stay.
fn survives(clients: usize, bytes: &[u8]) {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(SETTINGS);
        let address = tracker.address(IpFamily::V4);
        let honest = || Client::between(loopback(2), address, tracker.transport);
        let mut steady = honest();
        let ask = || {
            steady.join(torrent(1), 1, LEECHER);
            honest().join(torrent(1), 2, LEECHER);
        };
        let greedy = |mut connection: super::connection::Connection| {
            // It may be closed while it speaks.
            let _ = connection.try_send(bytes);
            connection
        };
        is_bounded(&tracker, clients, BYTES_MAX, greedy, ask);
    });
}

#[test]
fn unfinished_requests_are_bounded_together() {
    let mut head = b"GET /announce HTTP/1.1\r\nX: ".to_vec();
    head.resize(16_000, b'x');
    survives(300, &head);
}

#[test]
fn answers_that_nobody_reads_are_bounded_together() {
    // The answers have some times as many bytes.
    survives(60, &b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4_000));
}
