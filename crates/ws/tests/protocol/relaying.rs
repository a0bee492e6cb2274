//! Offers and answers: who gets which, unchanged.

use std::collections::BTreeSet;

use aquatic_test_support::cases::Tracker;
use aquatic_test_support::wait::until;
use aquatic_test_support::{metrics, torrent, torrents};
use aquatic_types::{InfoHash, IpFamily};
use serde_json::{Value, json};

use super::client::{Peer, binary, counts, keys, offer_id};
use super::setup::{on_every_case, on_every_runtime};

/// Peers of both families in one swarm.
fn swarm(tracker: &Tracker, info_hash: InfoHash, size: u64) -> Vec<Peer> {
    (1..=size)
        .zip(IpFamily::ALL.into_iter().cycle())
        .map(|(number, family)| {
            let mut peer = Peer::at(tracker, family);
            assert_eq!(peer.join(info_hash, 1), (0, number));
            peer
        })
        .collect()
}

fn offers(count: usize) -> Vec<Value> {
    let offer = |number| json!({"type": "offer", "sdp": format!("v=0\r\n\u{1}é😀 {number}")});
    (0..count).map(offer).collect()
}

/// Two peers, and an offer of the first that the second has got.
fn offered(tracker: &Tracker, info_hash: InfoHash) -> (Peer, Peer, Value) {
    let mut first = Peer::at(tracker, IpFamily::V4);
    let mut second = Peer::at(tracker, IpFamily::V6);
    second.join(info_hash, 1);
    let announce = first.announce_with(info_hash, &offers(1));
    assert_eq!(counts(&first.ask(&announce)), (0, 2));
    let offer = second.socket.receive();
    (first, second, offer)
}

#[test]
fn each_offer_goes_to_another_peer_and_none_to_the_sender() {
    on_every_case(|case| {
        let tracker = case.start("");
        for info_hash in torrents() {
            let mut peers = swarm(&tracker, info_hash, 5);
            let offers = offers(4);
            let mut sender = peers.remove(2);
            let announce = sender.announce_with(info_hash, &offers);
            assert_eq!(counts(&sender.ask(&announce)), (0, 5));
            let mut came = BTreeSet::new();
            for peer in &mut peers {
                let offer = peer.socket.receive();
                let expected = ["action", "info_hash", "offer", "offer_id", "peer_id"];
                assert_eq!(keys(&offer), expected);
                assert_eq!(offer["action"], "announce");
                assert_eq!(offer["info_hash"], binary(&info_hash.0));
                assert_eq!(offer["peer_id"], sender.id);
                let place = offers.iter().position(|it| *it == offer["offer"]).unwrap();
                assert_eq!(offer["offer_id"], offer_id(place));
                came.insert(place);
            }
            assert_eq!(came.len(), 4);
            for peer in peers.iter_mut().chain([&mut sender]) {
                peer.socket.assert_nothing_came();
            }
        }
    });
}

#[test]
fn seeders_meet_seeders() {
    on_every_case(|case| {
        let tracker = case.start("");
        let (mut first, mut second) = (
            Peer::at(&tracker, IpFamily::V4),
            Peer::at(&tracker, IpFamily::V6),
        );
        for info_hash in torrents() {
            first.join(info_hash, 0);
            let mut announce = second.announce_with(info_hash, &offers(3));
            announce["left"] = json!(0);
            assert_eq!(counts(&second.ask(&announce)), (2, 0));
            let offer = first.socket.receive();
            assert_eq!(offer["peer_id"], second.id);
            first.socket.assert_nothing_came();
            let answer = first.answer_to(&offer, &json!({"sdp": 1}));
            first.socket.send(&answer.to_string());
            assert_eq!(second.socket.receive()["peer_id"], first.id);
        }
    });
}

/// Clients in one page share a connection, and no offer says which of them it is for.
#[test]
fn peers_that_share_a_socket_meet_others_and_each_other() {
    on_every_case(|case| {
        let tracker = case.start("");
        let info_hash = torrent(1);
        let (mut pair, mut other) = (
            Peer::at(&tracker, IpFamily::V4),
            Peer::at(&tracker, IpFamily::V6),
        );
        let ids = [pair.id.clone(), "the second of a pair".to_owned()];
        for id in &ids {
            pair.id.clone_from(id);
            pair.join(info_hash, 1);
        }
        let announce = other.announce_with(info_hash, &offers(5));
        assert_eq!(counts(&other.ask(&announce)), (0, 3));
        let came = [pair.socket.receive(), pair.socket.receive()];
        pair.socket.assert_nothing_came();
        // The same one answers both.
        for offer in &came {
            assert_eq!(offer["peer_id"], other.id);
            let answer = pair.answer_to(offer, &json!({}));
            pair.socket.send(&answer.to_string());
            let answer = other.socket.receive();
            assert_eq!(
                (&answer["peer_id"], &answer["offer_id"]),
                (&json!(pair.id), &offer["offer_id"])
            );
        }
        let announce = pair.announce_with(info_hash, &offers(5));
        pair.socket.send(&announce.to_string());
        let mut own = 0;
        for _ in 0..2 {
            let message = pair.socket.receive();
            own += u32::from(message["peer_id"] == pair.id);
        }
        assert_eq!(own, 1, "a reply, and the offer to the first of the pair");
        other.socket.receive();
    });
}

/// Whoever answers could not know that.
#[test]
fn an_answer_to_one_who_has_just_left_is_no_mistake() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let (first, mut second, offer) = offered(&tracker, torrent(1));
        drop(first);
        until("it has gone", || {
            (second.join(torrent(1), 1) == (0, 1)).then_some(())
        });
        let answer = second.answer_to(&offer, &json!({}));
        second.socket.send(&answer.to_string());
        metrics::wait_for(
            &tracker,
            &[("aquatic_dropped_total{reason=connection_gone}", 1.0)],
        );
        second.socket.assert_nothing_came();
        assert!(second.refusal(&answer).contains("offer_id"), "only once");
    });
}

#[test]
fn an_answer_goes_back_once() {
    on_every_case(|case| {
        let tracker = case.start("");
        for info_hash in torrents() {
            let (mut first, mut second, offer) = offered(&tracker, info_hash);
            let answer = json!({"type": "answer", "sdp": "a=\u{7f}\u{2028}日"});
            let message = second.answer_to(&offer, &answer);
            second.socket.send(&message.to_string());
            let came = first.socket.receive();
            let expected = ["action", "answer", "info_hash", "offer_id", "peer_id"];
            assert_eq!(keys(&came), expected);
            assert_eq!(came["action"], "announce");
            assert_eq!(came["info_hash"], binary(&info_hash.0));
            assert_eq!(came["answer"], answer);
            assert_eq!(came["offer_id"], offer["offer_id"]);
            assert_eq!(came["peer_id"], second.id);

            assert!(second.refusal(&message).contains("offer_id"));
            first.socket.assert_nothing_came();
        }
    });
}

#[test]
fn offers_and_answers_are_passed_on_as_they_were_written() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let info_hash = torrent(1);
        let (mut first, mut second) = {
            let mut peers = swarm(&tracker, info_hash, 2);
            let second = peers.pop().unwrap();
            (peers.pop().unwrap(), second)
        };
        let odd = r#"{ "sdp" :"\u00e9\/", "n":1.50e+3,"n": 12345678901234567890123 ,"x":[ ]}"#;
        let with_odd = |message: &Value| message.to_string().replace("\"ODD\"", odd);
        let announce = first.announce_with(info_hash, &[json!("ODD")]);
        first.socket.send(&with_odd(&announce));
        first.socket.receive();
        let offer = second.socket.receive_text();
        assert!(offer.contains(odd), "{offer}");
        let answer = second.answer_to(&serde_json::from_str(&offer).unwrap(), &json!("ODD"));
        second.socket.send(&with_odd(&answer));
        let answer = first.socket.receive_text();
        assert!(answer.contains(odd), "{answer}");
    });
}

#[test]
fn an_answer_needs_its_offer() {
    on_every_case(|case| {
        let tracker = case.start("");
        let info_hash = torrent(1);
        let (mut first, mut second, offer) = offered(&tracker, info_hash);
        let mut third = Peer::at(&tracker, IpFamily::V4);
        let answer = second.answer_to(&offer, &json!({}));

        let by_a_stranger = third.answer_to(&offer, &json!({}));
        assert!(third.refusal(&by_a_stranger).contains("announce first"));
        third.join(info_hash, 1);
        assert!(third.refusal(&by_a_stranger).contains("offer_id"));
        for (key, value) in [
            ("offer_id", json!(offer_id(77))),
            ("to_peer_id", json!(third.id)),
            ("to_peer_id", json!(second.id)),
            ("info_hash", json!(binary(&torrent(2).0))),
        ] {
            let mut wrong = answer.clone();
            wrong[key] = value;
            let refusal = second.refusal(&wrong);
            let words = ["offer_id", "announce first"];
            assert!(words.iter().any(|word| refusal.contains(word)), "{refusal}");
        }
        first.socket.assert_nothing_came();
        third.socket.assert_nothing_came();
        // All of that has not used it up.
        second.socket.send(&answer.to_string());
        assert_eq!(first.socket.receive()["peer_id"], second.id);
    });
}

#[test]
fn an_answer_may_come_too_late() {
    on_every_case(|case| {
        let tracker = case.start("cleaning.max_offer_age = 1");
        let (mut first, mut second, offer) = offered(&tracker, torrent(1));
        // Each round is an offer that waits longer, until one has waited too long.
        let mut wait_ms = 0;
        let refusal = until("an offer is too old", || {
            wait_ms += 700;
            std::thread::sleep(std::time::Duration::from_millis(wait_ms));
            let message = second.answer_to(&offer, &json!({}));
            second.socket.send(&message.to_string());
            // Behind it goes something that is replied to, by the same owner of the torrent.
            let scrape = json!({"action": "scrape", "info_hash": binary(&torrent(1).0)});
            second.socket.send(&scrape.to_string());
            let answer = second.socket.receive();
            if let Some(reason) = answer["failure reason"].as_str() {
                second.socket.receive();
                return Some(reason.to_owned());
            }
            first.socket.receive();
            let announce = first.announce_with(torrent(1), &offers(1));
            first.ask(&announce);
            assert_eq!(second.socket.receive()["offer_id"], offer["offer_id"]);
            None
        });
        assert!(refusal.contains("offer_id"), "{refusal}");
        first.socket.assert_nothing_came();
    });
}

#[test]
fn malformed_offers_are_skipped_and_too_many_are_cut() {
    on_every_case(|case| {
        let tracker = case.start("protocol.max_offers = 3");
        let info_hash = torrent(1);
        let mut peers = swarm(&tracker, info_hash, 8);
        let mut sender = peers.remove(0);
        let mut announce = sender.announce(info_hash, 1);
        announce["numwant"] = json!(50);
        announce["offers"] = json!([
            null, 7, {}, [],
            {"offer": {"a": 1}},
            {"offer_id": offer_id(1)},
            {"offer": {"a": 2}, "offer_id": "short"},
            {"offer": {"good": 1}, "offer_id": offer_id(2)},
        ]);
        let reply = sender.ask(&announce);
        assert_eq!(counts(&reply), (0, 8));
        let warning = reply["warning message"].as_str().unwrap();
        assert!(warning.contains("offers[0]"), "{warning}");
        assert!(warning.contains("6 more"), "{warning}");
        let came = |peers: &mut [Peer]| {
            let mut offers = Vec::new();
            for peer in peers {
                peer.socket.send(r#"{"action": "scrape", "info_hash": []}"#);
                loop {
                    let message = peer.socket.receive();
                    if message["action"] == "scrape" {
                        break;
                    }
                    offers.push(message["offer"].clone());
                }
            }
            offers
        };
        // Offers travel between workers: they may come a little later than the reply.
        let good = until("the good one comes", || {
            Some(came(&mut peers)).filter(|offers| !offers.is_empty())
        });
        assert_eq!(good, [json!({"good": 1})]);

        let announce = sender.announce_with(info_hash, &offers(7));
        let reply = sender.ask(&announce);
        assert_eq!(reply["warning message"], Value::Null, "{reply}");
        let mut all = Vec::new();
        until("three come", || {
            all.extend(came(&mut peers));
            (all.len() >= 3).then_some(())
        });
        assert!(came(&mut peers).is_empty(), "no more than three");
    });
}

#[test]
fn offers_decide_how_many_peers_are_met_whatever_numwant_says() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut peers = swarm(&tracker, torrent(1), 4);
        let mut sender = peers.remove(0);
        for numwant in [
            json!(0),
            json!(1),
            json!(3),
            json!(50),
            json!(-1),
            json!("x"),
            json!(null),
        ] {
            let mut announce = sender.announce_with(torrent(1), &offers(3));
            announce["numwant"] = numwant;
            sender.ask(&announce);
            for peer in &mut peers {
                assert_eq!(peer.socket.receive()["peer_id"], sender.id, "{announce}");
            }
            // Without offers nobody is met, however many are wanted.
            announce["offers"] = json!([]);
            sender.ask(&announce);
            for peer in &mut peers {
                peer.socket.assert_nothing_came();
            }
        }
    });
}

#[test]
fn a_closed_socket_leaves_all_its_swarms_at_once() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut stays = Peer::at(&tracker, IpFamily::V4);
        let hashes: Vec<_> = torrents().collect();
        for abrupt in [false, true] {
            let mut leaves = Peer::at(&tracker, IpFamily::V6);
            for info_hash in &hashes {
                stays.join(*info_hash, 1);
                assert_eq!(leaves.join(*info_hash, 1), (0, 2));
            }
            if !abrupt {
                leaves.socket.connection.end();
            }
            drop(leaves);
            until("its peers are gone", || {
                let answer = stays.socket.scrape(&hashes);
                let is_one = |hash: &InfoHash| {
                    let file = &answer["files"][binary(&hash.0)];
                    file["incomplete"] == 1
                };
                hashes.iter().all(is_one).then_some(())
            });
            // And gets no offers, nor does anybody else.
            let announce = stays.announce_with(hashes[0], &offers(2));
            assert_eq!(counts(&stays.ask(&announce)), (0, 1));
            stays.socket.assert_nothing_came();
        }
    });
}
