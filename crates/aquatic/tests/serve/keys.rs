//! One file of keys for all protocols.

use aquatic_test_support::connection::{Connection, Transport};
use aquatic_test_support::operations::operator_endpoint::{TOKEN, ask, write_token};
use aquatic_test_support::program::localhost;
use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Place, metrics, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};

use super::setup::{Client, Combination, Http, SIMPLE, Udp, metrics_settings, ws_settings};

const SETTINGS: &str = "keys.mode = 'require'\nkeys.path = 'keys'\n";

/// The same peer over both is one; another one is one too many, whichever protocol it uses.
#[test]
fn peers_of_a_key_are_limited_over_both_protocols() {
    on_each(&Combination::all(), |combination| {
        for family in IpFamily::ALL {
            let place = Place::new();
            place.write("keys", "Alice peers=3\n");
            let daemon = combination.start_in(place, SETTINGS);
            let (mut udp, mut http) = (Udp::new(&daemon, family), Http::new(&daemon, family));
            for client in [&mut udp as &mut dyn Client, &mut http] {
                let refusal = client.announce(torrent(1), 1, 5, AnnounceEvent::None);
                assert!(refusal.unwrap_err().contains("has no key"));
            }
            (udp.path, http.path) = ("/Alice/announce", "/announce/Alice");
            udp.join(torrent(1), 1, 5);
            http.join(torrent(1), 1, 5);
            http.join(torrent(2), 1, 5);
            udp.join(torrent(3), 1, 5);
            for client in [&mut udp as &mut dyn Client, &mut http] {
                let refusal = client.announce(torrent(4), 1, 5, AnnounceEvent::None);
                assert_eq!(refusal.unwrap_err(), "this key has 3 peers already");
            }
            let leaving = AnnounceEvent::Stopped;
            udp.announce(torrent(2), 1, 5, leaving).unwrap();
            http.join(torrent(4), 1, 5);
        }
    });
}

/// WebTorrent too, and a reload reaches all of them.
#[test]
fn a_reload_reaches_all_protocols() {
    let place = Place::new();
    place.write("keys", "Alice\n");
    let address = std::net::SocketAddr::new(place.address(V4).ip(), place.second_port());
    let more = format!(
        "{}{}{SETTINGS}",
        ws_settings(&place),
        metrics_settings(&place)
    );
    let daemon = SIMPLE.start_in(place, &more);
    let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    let mut web_torrent = Connection::open(localhost(V4), address, Transport::Plain);
    web_torrent.send(
        "GET /Alice HTTP/1.1\r\nHost: tracker\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(web_torrent.answer().status, 101);
    // A frame with a mask of zeros.
    let scrape = br#"{"action":"scrape","info_hash":[]}"#;
    let size = 0x80 | u8::try_from(scrape.len()).unwrap();
    let scrape = [&[0x81, size, 0, 0, 0, 0], &scrape[..]].concat();
    let refused = |protocol: &str| {
        format!("aquatic_refused_total{{protocol={protocol},reason=key_unknown,ip_version=4}}")
    };
    let refused = ["udp", "http", "ws"].map(refused);

    (udp.path, http.path) = ("/Alice/announce", "/Alice/announce");
    udp.join(torrent(1), 1, 5);
    http.join(torrent(1), 2, 5);
    web_torrent.send(scrape.clone());
    web_torrent.take(|bytes| (!bytes.is_empty()).then_some(((), bytes.len())));
    metrics::wait_for(&daemon, &refused.each_ref().map(|label| (&**label, 0.0)));

    daemon.place.write("keys", "Bob\n");
    daemon.reload();
    for client in [&mut udp as &mut dyn Client, &mut http] {
        let refusal = client.announce(torrent(1), 1, 5, AnnounceEvent::None);
        assert_eq!(refusal.unwrap_err(), "unknown key in the announce URL");
    }
    web_torrent.send(scrape);
    metrics::wait_for(&daemon, &refused.each_ref().map(|label| (&**label, 1.0)));
}

/// One request to the operator's endpoint changes the keys of all protocols, and their file.
#[test]
fn keys_change_for_all_protocols_at_once() {
    let place = Place::new();
    place.write("keys", "Alice peers=2\n");
    write_token(&place, TOKEN);
    let token = "metrics.endpoint_token_file = 'token'\n";
    let more = format!("{}{token}{SETTINGS}", metrics_settings(&place));
    let daemon = SIMPLE.start_in(place, &more);
    let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    (udp.path, http.path) = ("/Bob/announce", "/Bob/announce");
    let refused = |client: &mut dyn Client| {
        let answer = client.announce(torrent(1), 1, 5, AnnounceEvent::None);
        answer.err()
    };
    let unknown = Some("unknown key in the announce URL".to_owned());
    assert_eq!(refused(&mut udp), unknown);
    assert_eq!(refused(&mut http), unknown);
    let body = "{\"add\": \"Bob peers=5\", \"write\": true}";
    let (status, told) = ask(&daemon, "POST", "/keys", body);
    assert_eq!(status, 200, "{told}");
    assert_eq!(refused(&mut udp), None);
    http.join(torrent(2), 1, 5);
    assert_eq!(daemon.place.read("keys"), "Alice peers=2\nBob peers=5\n");
    let (_, told) = ask(&daemon, "GET", "/keys?offset=1", "");
    assert!(told.contains("\"active_peers\":2}]"), "{told}");
}

const V4: IpFamily = IpFamily::V4;
