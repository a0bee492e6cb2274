//! Which peers count under a key that may have so many: those of open connections.

use aquatic_test_support::cases::{self, Case, Tracker};
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, Setup, torrent};
use serde_json::{Value, json};

use super::client::{PING, PONG, Peer, failure};
use super::keys::{SETTINGS, peer};
use super::setup::WS;

const ONE: &str = "this key has 1 peer already";
const TWO: &str = "this key has 2 peers already";

fn start(case: Case, keys: &str, more: &str) -> Tracker {
    let place = Place::new();
    place.write("keys", keys);
    case.start_at(place, &format!("{SETTINGS}{more}"))
}

fn plain() -> Case {
    Case::plain(Setup::simple(&WS))
}

/// Why a peer may not join, if it may not.
fn join(peer: &mut Peer, number: u32) -> Option<String> {
    let announce = peer.announce(torrent(number), 1);
    let reply = peer.socket.ask(&announce);
    failure(&reply).map(str::to_owned)
}

fn stopped(peer: &Peer, number: u32) -> Value {
    let mut stopped = peer.announce(torrent(number), 1);
    stopped["event"] = json!("stopped");
    stopped
}

fn wait_for_room(peer: &mut Peer, number: u32) {
    until("there is room", || {
        join(peer, number).is_none().then_some(())
    });
}

/// As some programs do: they announce once, and then only answer pings.
#[test]
fn a_peer_whose_connection_lives_keeps_its_place() {
    cases::on_every_case(&WS, |case| {
        // A ping comes each second: the answer may be late by some more.
        let tracker = start(
            case,
            "Alice peers=1\n",
            "cleaning.max_peer_age = 5\nprotocol.peer_announce_interval = 1\n\
             cleaning.torrent_cleaning_interval = 1\n",
        );
        let mut lives = peer(&tracker, "/Alice");
        let mut other = peer(&tracker, "/Alice");
        assert_eq!(join(&mut lives, 1), None);
        // Longer than a silent one stays, by the tracker's own clock.
        for _ in 0..7 {
            let (opcode, payload) = lives.socket.receive_frame();
            assert_eq!(opcode, PING);
            lives.socket.send_frame(true, PONG, &payload);
            assert_eq!(join(&mut other, 2).as_deref(), Some(ONE));
        }
        // It is silent from now on.
        wait_for_room(&mut other, 2);
    });
}

#[test]
fn the_same_peer_id_over_two_connections_is_two_peers() {
    cases::on_every_case(&WS, |case| {
        let tracker = start(case, "Alice peers=2\n", "");
        let mut first = peer(&tracker, "/Alice");
        let mut second = peer(&tracker, "/Alice");
        second.id.clone_from(&first.id);
        let mut third = peer(&tracker, "/Alice");
        assert_eq!(join(&mut first, 1), None);
        // Nobody leaves over a connection over which it has not come.
        let goodbye = stopped(&second, 1);
        assert_eq!(failure(&second.socket.ask(&goodbye)), None);
        assert_eq!(join(&mut second, 1), None);
        assert_eq!(join(&mut third, 1).as_deref(), Some(TWO));
        let goodbye = stopped(&first, 1);
        first.socket.ask(&goodbye);
        first.socket.ask(&goodbye);
        assert_eq!(join(&mut third, 1), None);
        assert_eq!(join(&mut first, 1).as_deref(), Some(TWO));
        drop(second);
        wait_for_room(&mut first, 1);
    });
}

/// Whatever else refuses a peer, or does not take it into the swarm.
#[test]
fn who_is_not_let_in_takes_no_place() {
    cases::on_every_case(&WS, |case| {
        let tracker = start(
            case,
            "Alice peers=2\nBob peers=1\n",
            "protocol.max_torrents_per_connection = 1\nlimits.max_peers_per_ip = 3\n\
             limits.max_peers_per_ip_and_torrent = 1\n",
        );
        let mut first = peer(&tracker, "/Alice");
        let mut second = peer(&tracker, "/Alice");
        assert_eq!(join(&mut first, 1), None);
        for number in 2..5 {
            let refusal = join(&mut first, number).unwrap();
            assert!(refusal.contains("too many torrents"), "{refusal}");
        }
        // The swarm has a peer of this address.
        assert_eq!(join(&mut second, 1), None);
        assert_eq!(join(&mut second, 2), None, "the key has room");
        let mut third = peer(&tracker, "/Alice");
        for _ in 0..5 {
            assert_eq!(join(&mut third, 3).as_deref(), Some(TWO));
        }
        // Nor does whoever its key refuses take a place of its address.
        let mut of_bob = peer(&tracker, "/Bob");
        assert_eq!(join(&mut of_bob, 4), None);
        // All three of the address are taken: no place of a key is then.
        drop(first);
        wait_for_room(&mut third, 3);
        let mut fourth = peer(&tracker, "/Bob");
        drop(of_bob);
        wait_for_room(&mut fourth, 5);
        let mut fifth = peer(&tracker, "/Bob");
        assert!(join(&mut fifth, 6).unwrap().contains("too many peers"));
        drop(third);
        until("the address has room, and the key has none", || {
            (join(&mut fifth, 6)? == ONE).then_some(())
        });
    });
}

/// A key may have ended, or a torrent have been denied, since the peer has come.
#[test]
fn a_goodbye_that_is_refused_is_one() {
    let place = Place::new();
    place.write("keys", "Alice peers=1\n");
    place.write("list", "");
    let more = "access_list.mode = 'deny'\naccess_list.path = 'list'\n";
    let tracker = plain().start_at(place, &format!("{SETTINGS}{more}"));
    let mut leaving = peer(&tracker, "/Alice");
    let mut other = peer(&tracker, "/Alice");
    assert_eq!(join(&mut leaving, 1), None);
    tracker
        .place
        .write("keys", "Alice peers=1 until=2001-01-31\n");
    tracker.reload();
    let goodbye = stopped(&leaving, 1);
    assert_eq!(
        leaving.refusal(&goodbye),
        "this key has ended on 2001-01-31"
    );
    tracker.place.write("keys", "Alice peers=1\n");
    tracker.reload();
    wait_for_room(&mut other, 1);
    let scrape = other.socket.scrape(&[torrent(1)]);
    let swarm = &scrape["files"][super::client::binary(&torrent(1).0)];
    assert_eq!(swarm["incomplete"], 1, "the first one has left: {scrape}");
    assert_eq!(join(&mut leaving, 2).as_deref(), Some(ONE));

    tracker.place.write("list", torrent(1).to_string());
    tracker.reload();
    let goodbye = stopped(&other, 1);
    assert_eq!(other.refusal(&goodbye), "torrent not allowed here");
    wait_for_room(&mut leaving, 2);
}

/// Members stay, and count from their next announce on, whether there is room or not.
#[test]
fn a_key_that_gets_a_limit_sends_nobody_away() {
    let tracker = start(plain(), "Alice\n", "");
    let mut peers = [1, 2, 3].map(|_| peer(&tracker, "/Alice"));
    for peer in &mut peers {
        assert_eq!(join(peer, 1), None);
    }
    tracker.place.write("keys", "Alice peers=2\n");
    tracker.reload();
    for peer in &mut peers {
        assert_eq!(join(peer, 1), None);
    }
    let mut new = peer(&tracker, "/Alice");
    assert_eq!(join(&mut new, 1).as_deref(), Some(TWO));
    let [first, mut second, third] = peers;
    drop(first);
    until("the first is gone", || {
        let scrape = second.socket.scrape(&[torrent(1)]);
        let swarm = &scrape["files"][super::client::binary(&torrent(1).0)];
        (swarm["incomplete"] == 2).then_some(())
    });
    assert_eq!(join(&mut new, 1).as_deref(), Some(TWO));
    drop(third);
    wait_for_room(&mut new, 1);
}
