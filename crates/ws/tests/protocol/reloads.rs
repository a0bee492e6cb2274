//! What clients notice when the configuration file is read again.

use std::time::Duration;

use aquatic_test_support::cases::{Case, Tracker};
use aquatic_test_support::connection::Connection;
use aquatic_test_support::setup::on_every_setup;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Setup, torrent};
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;
use serde_json::json;

use super::client::{PING, Peer, Socket, request};
use super::setup::WS;

const SIMPLE: Setup = Setup::simple(&WS);

pub(super) fn change(tracker: &Tracker, setup: Setup, settings: &str) {
    let text = tracker.place.config_text(setup, settings);
    tracker.place.write("config.toml", text);
    tracker.reload_by(Signal::SIGHUP);
}

#[test]
fn intervals_and_sizes_of_answers_change() {
    on_every_setup(&WS, |setup| {
        let tracker = Case::plain(setup).start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let settings = "protocol.peer_announce_interval = 61\nprotocol.max_scrape_torrents = 3\n\
                        protocol.max_torrents_per_connection = 2";
        change(&tracker, setup, settings);
        let hashes: Vec<_> = (0..10).map(torrent).collect();
        let announce = peer.announce(torrent(1), 1);
        until("the new settings are in force", || {
            let interval = peer.ask(&announce)["interval"].as_u64();
            let rows = peer.socket.scrape(&hashes)["files"]
                .as_object()
                .unwrap()
                .len();
            (interval == Some(61) && rows == 3).then_some(())
        });
        peer.join(torrent(2), 1);
        let announce = peer.announce(torrent(3), 1);
        assert!(peer.refusal(&announce).contains("torrents"));
    });
}

/// How many offers of an announce are passed on.
#[test]
fn the_number_of_offers_changes() {
    on_every_setup(&WS, |setup| {
        let tracker = Case::plain(setup).start("");
        let mut receivers: Vec<_> = (0..3).map(|_| Peer::at(&tracker, IpFamily::V4)).collect();
        for receiver in &mut receivers {
            receiver.join(torrent(1), 1);
        }
        change(&tracker, setup, "protocol.max_offers = 1");
        let mut offerer = Peer::at(&tracker, IpFamily::V4);
        // The workers look at settings several times a second: the answer has the interval.
        let settings = "protocol.max_offers = 1\nprotocol.peer_announce_interval = 61";
        change(&tracker, setup, settings);
        let announce = offerer.announce(torrent(1), 1);
        until("the new settings are in force", || {
            (offerer.ask(&announce)["interval"] == 61).then_some(())
        });
        let offers = [
            json!({"sdp": "1"}),
            json!({"sdp": "2"}),
            json!({"sdp": "3"}),
        ];
        let announce = offerer.announce_with(torrent(1), &offers);
        offerer.ask(&announce);
        // What one worker has passed on comes before its answer to what is asked now; but it may
        // have been handed to that worker by another, later than the offerer got its answer.
        let mut offers_received = || {
            let mut received = 0;
            for receiver in &mut receivers {
                let announce = receiver.announce(torrent(1), 1);
                receiver.socket.send(&announce.to_string());
                while !receiver.socket.receive()["offer"].is_null() {
                    received += 1;
                }
            }
            received
        };
        let first = until("an offer", || Some(offers_received()).filter(|it| *it > 0));
        let received = first + offers_received();
        assert_eq!(received, 1);
    });
}

/// `network.allowed_origins`, `network.enable_http_health_checks`.
#[test]
fn who_gets_a_websocket_changes() {
    let tracker = Case::plain(SIMPLE).start("");
    let address = tracker.address(IpFamily::V4);
    let status = |origin: &str| {
        let ip = [127, 0, 0, 1].into();
        let mut connection = Connection::open(ip, address, tracker.transport);
        connection.send(request(&format!("Origin: {origin}\r\n")));
        connection.answer().status
    };
    assert_eq!(status("https://a.example"), 101);
    change(
        &tracker,
        SIMPLE,
        "network.allowed_origins = ['https://b.example']",
    );
    until("another origin is refused", || {
        (status("https://a.example") == 403).then_some(())
    });
    assert_eq!(status("https://b.example"), 101);
}

/// `network.ping_interval`, for connections that are opened afterwards.
#[test]
fn the_interval_of_pings_changes() {
    let tracker = Case::plain(SIMPLE).start("network.ping_interval = 50");
    change(&tracker, SIMPLE, "network.ping_interval = 1");
    until("a ping", || {
        let mut socket = Socket::new(&tracker, IpFamily::V4);
        let time = Duration::from_secs(4);
        if socket.connection.is_silent_for(time) {
            return None;
        }
        assert_eq!(socket.receive_frame().0, PING);
        Some(())
    });
}

/// `protocol.announce_interval_spread`: told intervals differ, and are never shorter than the base.
#[test]
fn intervals_spread_as_the_file_says() {
    on_every_setup(&WS, |setup| {
        let tracker = Case::plain(setup).start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let announce = peer.announce(torrent(1), 1);
        change(&tracker, setup, "protocol.announce_interval_spread = 20");
        let mut intervals = std::collections::BTreeSet::new();
        until("intervals differ", || {
            intervals.insert(peer.ask(&announce)["interval"].as_u64().unwrap());
            (intervals.len() > 10).then_some(())
        });
        assert!(
            intervals.iter().all(|it| (120..=144).contains(it)),
            "{intervals:?}"
        );
    });
}

/// `access_list.peer_id_prefixes_deny`: what is denied leaves at once, and nothing else does.
#[test]
fn peers_of_denied_software_leave() {
    on_every_setup(&WS, |setup| {
        let tracker = Case::plain(setup).start("");
        let peer = |id: &str| {
            let mut peer = Peer::at(&tracker, IpFamily::V4);
            peer.id.replace_range(..4, id);
            peer
        };
        let (mut goes, mut stays) = (peer("-XX9"), peer("-WW0"));
        for number in 1..5 {
            assert_eq!(goes.join(torrent(number), 1), (0, 1));
            // Another one over the same connection.
            let mut announce = goes.announce(torrent(number), 1);
            announce["peer_id"] = json!(stays.id);
            assert_eq!(goes.ask(&announce)["incomplete"], 2);
        }
        change(
            &tracker,
            setup,
            "access_list.peer_id_prefixes_deny = ['-XX']",
        );
        until("the denied peers have left, of each torrent", || {
            let scrape = stays.socket.scrape(&[1, 2, 3, 4].map(torrent));
            let mut files = scrape["files"].as_object().unwrap().values();
            files.all(|file| file["incomplete"] == 1).then_some(())
        });
        let announce = goes.announce(torrent(1), 1);
        assert!(goes.refusal(&announce).contains("client"));
        change(&tracker, setup, "");
        until("it may come back", || {
            let reply = goes.ask(&announce);
            (reply["incomplete"] == 2).then_some(())
        });
    });
}
