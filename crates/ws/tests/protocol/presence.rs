//! How long a peer stays in its swarms, and what it takes up meanwhile.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::cases::Case;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, torrent};
use aquatic_types::{InfoHash, IpFamily};
use serde_json::json;

use super::client::{PING, PONG, Peer, Socket, TEXT, binary, failure};
use super::setup::{on_every_case, on_every_runtime};

const FAMILY: IpFamily = IpFamily::V4;

/// Peers of these torrents in all.
#[track_caller]
fn peers(socket: &mut Socket, info_hashes: &[InfoHash]) -> u64 {
    let answer = socket.scrape(info_hashes);
    let count = |hash: &InfoHash| {
        let file = &answer["files"][binary(&hash.0)];
        file["complete"].as_u64().unwrap() + file["incomplete"].as_u64().unwrap()
    };
    info_hashes.iter().map(count).sum()
}

/// As some programs do: they announce once, and then only answer pings.
#[test]
fn a_peer_whose_connection_lives_stays() {
    on_every_case(|case| {
        // A ping comes each second: the answer may be late by some more.
        let tracker = case.start(
            "cleaning.max_peer_age = 5\nprotocol.peer_announce_interval = 1\n\
             cleaning.torrent_cleaning_interval = 1",
        );
        let mut lives = Peer::at(&tracker, FAMILY);
        let mut silent = Peer::at(&tracker, IpFamily::V6);
        lives.join(torrent(1), 1);
        silent.join(torrent(2), 1);
        // Longer than a silent one stays, by the tracker's own clock.
        for _ in 0..7 {
            let (opcode, payload) = lives.socket.receive_frame();
            assert_eq!(opcode, PING);
            lives.socket.send_frame(true, PONG, &payload);
        }
        until("the silent one has left", || {
            (peers(&mut lives.socket, &[torrent(2)]) == 0).then_some(())
        });
        assert_eq!(peers(&mut lives.socket, &[torrent(1)]), 1);
        // Its connection is open, and it may come back.
        assert_eq!(silent.join(torrent(2), 1), (0, 1));
    });
}

/// An application that has gone wrong, or a computer that sleeps, takes up no room for ever.
#[test]
fn who_is_forgotten_for_silence_takes_up_no_room() {
    on_every_case(|case| {
        let tracker = case.start(
            "cleaning.max_peer_age = 2\nprotocol.peer_announce_interval = 1\n\
             cleaning.torrent_cleaning_interval = 1\nlimits.max_peers_per_ip = 3",
        );
        let mut silent = Peer::at(&tracker, FAMILY);
        let mut new = Peer::at(&tracker, FAMILY);
        let torrents = [1, 2, 3].map(torrent);
        let clock = Clock::start();
        for info_hash in torrents {
            assert_eq!(silent.join(info_hash, 1), (0, 1));
        }
        let announce = new.announce(torrent(4), 1);
        let answer = new.ask(&announce);
        // Otherwise the first one may have been forgotten.
        if clock.elapsed() < Duration::from_secs(1) {
            let refusal = failure(&answer).unwrap_or_default();
            assert!(refusal.contains("too many peers"), "{answer}");
        }
        until("all have left", || {
            (peers(&mut new.socket, &torrents) == 0).then_some(())
        });
        until("there is room", || {
            let reply = new.ask(&announce);
            (reply["incomplete"] == 1).then_some(())
        });
    });
}

#[test]
fn who_is_forgotten_for_a_forbidden_torrent_takes_up_no_room() {
    on_every_case(|case| {
        let place = Place::new();
        place.write("list", "");
        let tracker = start_with_list(case, place);
        let mut peer = Peer::at(&tracker, FAMILY);
        let torrents = [1, 2, 3].map(torrent);
        for info_hash in torrents {
            assert_eq!(peer.join(info_hash, 1), (0, 1));
        }
        let mut other = Peer::at(&tracker, FAMILY);
        for (peer, reason) in [
            (&mut peer, "too many torrents"),
            (&mut other, "too many peers"),
        ] {
            let announce = peer.announce(torrent(4), 1);
            assert!(peer.refusal(&announce).contains(reason));
        }
        let list: Vec<_> = torrents.iter().map(ToString::to_string).collect();
        tracker.place.write("list", list.join("\n"));
        tracker.reload();
        for peer in [&mut peer, &mut other] {
            let announce = peer.announce(torrent(4), 1);
            until("there is room", || {
                let reply = peer.ask(&announce);
                reply["incomplete"].is_u64().then_some(())
            });
        }
        // And what was forbidden is gone for good.
        tracker.place.write("list", "");
        tracker.reload();
        assert_eq!(peers(&mut other.socket, &torrents), 0);
    });
}

fn start_with_list(case: Case, place: Place) -> aquatic_test_support::cases::Tracker {
    case.start_at(
        place,
        "limits.max_peers_per_ip = 3\nprotocol.max_torrents_per_connection = 3\n\
         cleaning.torrent_cleaning_interval = 1\n\
         access_list.mode = 'deny'\naccess_list.path = 'list'\n",
    )
}

/// Proxies close connections that are silent for long, whatever the tracker allows.
#[test]
fn pings_come_when_configured_whatever_may_be_idle() {
    on_every_runtime(|case| {
        let tracker = case.start("network.ping_interval = 1\ncleaning.max_connection_idle = 600");
        let clock = Clock::start();
        let mut last_sent = clock.elapsed();
        let mut silent = Peer::at(&tracker, FAMILY);
        let mut busy = Peer::at(&tracker, FAMILY);
        // Whoever says something is not asked.
        let scrape = json!({"action": "scrape", "info_hash": []}).to_string();
        for _ in 0..5 {
            let (mut replies, mut longest_gap) = (0, Duration::ZERO);
            let silent = &mut silent.socket;
            while silent.connection.is_silent_for(Duration::from_millis(100)) {
                let sent = clock.elapsed();
                longest_gap = longest_gap.max(sent - last_sent);
                busy.socket.send(&scrape);
                let (mut kind, _) = busy.socket.receive_frame();
                while kind == PING {
                    let silence = clock.elapsed() - last_sent;
                    assert!(silence >= Duration::from_secs(1), "asked after {silence:?}");
                    (kind, _) = busy.socket.receive_frame();
                }
                assert_eq!(kind, TEXT);
                last_sent = sent;
                replies += 1;
                assert!(replies < 300, "no ping for half a minute");
            }
            assert_eq!(silent.receive_frame().0, PING);
            longest_gap = longest_gap.max(clock.elapsed() - last_sent);
            if longest_gap < Duration::from_millis(300) {
                assert!(replies > 3, "only {replies}");
                return;
            }
            // Somebody stood still, so that the busy one was not busy: once more.
            silent.send_frame(true, PING, b"again");
            while silent.receive_frame().0 != PONG {}
        }
        panic!("somebody stood still, again and again");
    });
}

/// A client tells refusals from replies by their order, if nothing else.
#[test]
fn refusals_do_not_overtake_earlier_replies() {
    on_every_case(|case| {
        let tracker = case.start("limits.requests_per_second_per_ip = 40");
        let mut peer = Peer::at(&tracker, FAMILY);
        let mut messages = Vec::new();
        for number in 0..60 {
            let announce = peer.announce(torrent(1), number).to_string();
            messages.extend(super::client::frame(true, TEXT, announce.as_bytes()));
        }
        let clock = Clock::start();
        peer.socket.connection.send(messages);
        let is_refused: Vec<_> = (0..60)
            .map(|_| failure(&peer.socket.receive()).is_some())
            .collect();
        let first = is_refused.iter().position(|it| *it);
        // As many as may come at once are served, and none of them is answered late; less what the
        // client has been charged for its connection and its handshake.
        let charged = 1 + usize::from(tracker.transport.is_tls());
        let is_in_order = first.is_none_or(|first| first >= 40 - charged);
        // None is refused if those that are too many are looked at some time later.
        let is_late = clock.elapsed() > Duration::from_millis(300);
        assert!(
            is_in_order && (first.is_some() || is_late),
            "{is_refused:?}"
        );
        // Rubbish and what is served, by turns.
        let mut other = Peer::new(Socket::open(
            aquatic_test_support::program::loopback(9),
            tracker.address(FAMILY),
            tracker.transport,
        ));
        let mut messages = Vec::new();
        for number in 0..16 {
            let info_hash = torrent(number);
            let announce = other.announce(info_hash, 1).to_string();
            messages.extend(super::client::frame(true, TEXT, announce.as_bytes()));
            messages.extend(super::client::frame(true, TEXT, b"rubbish"));
        }
        other.socket.connection.send(messages);
        for number in 0..16 {
            let reply = other.socket.receive();
            assert_eq!(reply["info_hash"], binary(&torrent(number).0), "{reply}");
            let refusal = other.socket.receive();
            assert!(refusal["failure reason"].is_string(), "{refusal}");
        }
    });
}
