//! Messages: what is read, what is answered, and what is refused in words.

use aquatic_test_support::{torrent, torrents};
use aquatic_types::{InfoHash, IpFamily};
use serde_json::{Value, json};

use super::client::{Peer, binary, counts, keys};
use super::setup::{on_every_case, on_every_case_and_family, on_every_runtime};

/// The row of one torrent in a scrape: seeders, completed, leechers.
fn row(answer: &Value, info_hash: InfoHash) -> [u64; 3] {
    let file = &answer["files"][binary(&info_hash.0)];
    assert_eq!(keys(file), ["complete", "downloaded", "incomplete"]);
    ["complete", "downloaded", "incomplete"].map(|key| file[key].as_u64().unwrap())
}

#[test]
fn an_announce_is_answered_with_counts() {
    on_every_case_and_family("protocol.peer_announce_interval = 77", |tracker, family| {
        let offset = if family == IpFamily::V4 { 0 } else { 100 };
        for number in offset..offset + 12 {
            let info_hash = torrent(number);
            let mut seeder = Peer::at(tracker, family);
            let answer = seeder.ask(&seeder.announce(info_hash, 0));
            let expected = json!({
                "action": "announce", "info_hash": binary(&info_hash.0),
                "complete": 1, "incomplete": 0, "interval": 77,
            });
            assert_eq!(answer, expected);
            let mut leecher = Peer::at(tracker, family);
            assert_eq!(leecher.join(info_hash, 5), (1, 1));
            assert_eq!(leecher.join(info_hash, 0), (2, 0));
        }
    });
}

#[test]
fn numbers_and_events_are_read_tolerantly() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let info_hash = torrent(1);
        for (left, expected) in [
            (json!(0), (1, 0)),
            (json!("0"), (1, 0)),
            (json!(1), (0, 1)),
            (json!("12"), (0, 1)),
            (json!(18_446_744_073_709_551_615_u64), (0, 1)),
            (Value::Null, (0, 1)),
        ] {
            let mut announce = peer.announce(info_hash, 1);
            announce["left"] = left;
            assert_eq!(counts(&peer.ask(&announce)), expected, "{announce}");
        }
        let mut announce = peer.announce(info_hash, 1);
        announce.as_object_mut().unwrap().remove("left");
        assert_eq!(counts(&peer.ask(&announce)), (0, 1));
        for event in ["started", "update", "paused", "", "completed"] {
            announce["event"] = json!(event);
            let (seeders, leechers) = counts(&peer.ask(&announce));
            assert_eq!(seeders + leechers, 1, "{event}");
        }
        announce["event"] = Value::Null;
        announce["numwant"] = json!(50);
        announce["uploaded"] = json!({"anything": ["else"]});
        let (seeders, leechers) = counts(&peer.ask(&announce));
        assert_eq!(seeders + leechers, 1);
    });
}

#[test]
fn characters_of_ids_may_be_escaped() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let raw = peer.announce(torrent(1), 1).to_string();
        let escaped: String = raw
            .chars()
            .map(|c| match c.is_ascii() {
                true => c.to_string(),
                false => format!("\\u{:04X}", u32::from(c)),
            })
            .collect();
        assert_ne!(raw, escaped);
        for message in [raw, escaped] {
            peer.socket.send(&message);
            assert_eq!(counts(&peer.socket.receive()), (0, 1), "the same peer");
        }
    });
}

#[test]
fn scrapes_ask_for_one_for_many_or_for_none() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let known: Vec<_> = torrents().collect();
        for info_hash in &known {
            peer.join(*info_hash, 1);
        }
        let mut completed = peer.announce(known[0], 0);
        completed["event"] = json!("completed");
        peer.ask(&completed);

        let one = json!({"action": "scrape", "info_hash": binary(&known[0].0)});
        let answer = peer.ask(&one);
        assert_eq!(keys(&answer), ["action", "files"]);
        assert_eq!(row(&answer, known[0]), [1, 1, 0]);

        let unknown = torrent(1_000);
        let mut all = known.clone();
        all.push(unknown);
        let answer = peer.socket.scrape(&all);
        assert_eq!(answer["files"].as_object().unwrap().len(), all.len());
        assert_eq!(row(&answer, known[1]), [0, 0, 1]);
        assert_eq!(row(&answer, unknown), [0, 0, 0]);

        // Applications see by this whether the tracker is there.
        let answer = peer.ask(&json!({"action": "scrape", "info_hash": []}));
        assert_eq!(answer, json!({"action": "scrape", "files": {}}));
    });
}

#[test]
fn the_largest_scrape_is_answered_whatever_may_wait_otherwise() {
    on_every_runtime(|case| {
        let tracker = case.start(
            "protocol.max_scrape_torrents = 9_990\n\
             network.websocket_max_message_size = 300_000\n\
             network.websocket_max_frame_size = 300_000\n\
             network.websocket_write_buffer_size = 8_192",
        );
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let hash = |number| InfoHash(format!("{number:020}").into_bytes().try_into().unwrap());
        let hashes: Vec<_> = (0..10_000).map(hash).collect();
        let answer = peer.socket.scrape(&hashes);
        // The first ones, as many as are allowed.
        assert_eq!(answer["files"].as_object().unwrap().len(), 9_990);
        assert_eq!(row(&answer, hash(9_989)), [0, 0, 0]);
    });
}

#[test]
fn what_cannot_be_served_is_refused_in_words_and_the_socket_stays_usable() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        let announce = peer.announce(torrent(1), 1);
        let with = |key: &str, value: Value| {
            let mut message = announce.clone();
            message[key] = value;
            message.to_string()
        };
        for (message, word, names_torrent) in [
            ("rubbish".to_owned(), "JSON", false),
            ("[]".to_owned(), "JSON", false),
            (announce.to_string()[..50].to_owned(), "JSON", false),
            ("{}".to_owned(), "action", false),
            (with("action", json!("dance")), "action", true),
            (with("info_hash", json!("short")), "info_hash", false),
            (with("info_hash", json!(7)), "info_hash", false),
            (with("peer_id", json!("short")), "peer_id", true),
            (with("peer_id", json!("日".repeat(20))), "peer_id", true),
            (with("peer_id", Value::Null), "peer_id", true),
        ] {
            peer.socket.send(&message);
            let answer = peer.socket.receive();
            let reason = answer["failure reason"].as_str().unwrap();
            assert!(reason.contains(word), "{message}: {reason}");
            assert_eq!(answer["action"], "announce", "{message}");
            let names_it = answer["info_hash"] == binary(&torrent(1).0);
            assert_eq!(names_it, names_torrent, "{message}: {answer}");
        }
        peer.socket
            .send_frame(true, super::client::BINARY, b"{\"action\": \"\xff\"}");
        assert!(peer.socket.receive()["failure reason"].is_string());
        assert_eq!(peer.join(torrent(1), 1), (0, 1));
    });
}

#[test]
fn a_socket_may_have_many_peer_ids_and_a_peer_id_many_sockets() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        // Many torrents over one socket, each by another name, and one by two names.
        let names: Vec<_> = torrents()
            .zip((0..).map(|n| format!("peer {n:015}")))
            .collect();
        for (info_hash, name) in &names {
            peer.id.clone_from(name);
            assert_eq!(peer.join(*info_hash, 1), (0, 1));
        }
        let (info_hash, name) = &names[0];
        peer.id = "another name of mine".to_owned();
        assert_eq!(peer.join(*info_hash, 1), (0, 2));
        assert_eq!(
            peer.join(*info_hash, 0),
            (1, 1),
            "it is the second one that has all"
        );

        let mut twin = Peer::at(&tracker, IpFamily::V6);
        twin.id.clone_from(name);
        assert_eq!(twin.join(*info_hash, 1), (1, 2));
        // Each leaves for itself.
        let mut stopped = twin.announce(*info_hash, 1);
        stopped["event"] = json!("stopped");
        assert_eq!(counts(&twin.ask(&stopped)), (1, 1));
        assert_eq!(counts(&twin.ask(&stopped)), (1, 1), "not for the other one");
        stopped["peer_id"] = json!(peer.id);
        assert_eq!(counts(&peer.ask(&stopped)), (0, 1));
    });
}

#[test]
fn torrents_of_a_socket_are_limited() {
    on_every_runtime(|case| {
        let tracker = case.start("protocol.max_torrents_per_connection = 2");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        peer.join(torrent(1), 1);
        peer.join(torrent(2), 1);
        let third = peer.announce(torrent(3), 1);
        let reason = peer.refusal(&third);
        assert!(reason.contains("too many torrents"), "{reason}");
        tracker.wait_for_warning(
            "announces refused, whose connection has too many torrents: ",
            "`protocol.max_torrents_per_connection`",
        );
        assert_eq!(peer.join(torrent(2), 0), (1, 0), "it has that one");
        let mut stopped = peer.announce(torrent(1), 1);
        stopped["event"] = json!("stopped");
        peer.ask(&stopped);
        assert_eq!(peer.join(torrent(3), 1), (0, 1), "there is room again");
    });
}

#[test]
fn who_stops_leaves_with_a_reply_and_may_come_back() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut peer = Peer::at(&tracker, IpFamily::V4);
        for info_hash in torrents() {
            assert_eq!(peer.join(info_hash, 1), (0, 1));
            let mut stopped = peer.announce(info_hash, 1);
            stopped["event"] = json!("stopped");
            assert_eq!(counts(&peer.ask(&stopped)), (0, 0));
            peer.id = format!("back as {:012}", info_hash.0[10]);
            assert_eq!(peer.join(info_hash, 0), (1, 0), "even by another name");
        }
    });
}
