//! Clients that send without a pause.

use aquatic_ws::config::Config;
use serde_json::json;

use super::town::{Town, announce, frame};

/// After a reconnection, a client with many torrents behind a slow line announces all of them, and
/// what comes of it nearly always ends within a message.
#[test]
fn a_client_that_uploads_for_long_stays() {
    let mut town = Town::new(&Config::default());
    let client = town.come(0);
    let message = |torrent| {
        let mut message = announce(client, torrent);
        message["offers"] = json!([{"offer_id": "x".repeat(20), "offer": "y".repeat(15_000)}]);
        frame(message.to_string().as_bytes())
    };
    let bytes: Vec<u8> = (0..100).flat_map(message).collect();
    // Some 40 seconds.
    for some in bytes.chunks(9_000) {
        town.send_bytes(client, some);
        town.pass_time(250_000);
        assert!(town.is_open(client), "closed at {:?}", town.now.seconds);
    }
    town.rest();
    let replies = town.received(client);
    assert_eq!(replies.len(), 100);
}

/// One message, however it trickles in, has no more than its time.
#[test]
fn a_message_that_trickles_in_is_given_up() {
    let mut town = Town::new(&Config::default());
    let client = town.come(0);
    let bytes = frame(announce(client, 1).to_string().as_bytes());
    for byte in &bytes[..bytes.len() - 1] {
        town.send_bytes(client, &[*byte]);
        town.pass_time(250_000);
    }
    assert!(!town.is_open(client));
}
