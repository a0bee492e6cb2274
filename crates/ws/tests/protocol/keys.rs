//! Clients that need a key, which stands in the URL to which they connect.

use aquatic_test_support::cases::{self, Case, Tracker};
use aquatic_test_support::connection::Connection;
use aquatic_test_support::operations::operator_endpoint::{ask, assert_answer, settings};
use aquatic_test_support::program::localhost;
use aquatic_test_support::setup::on_every_setup;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, Setup, metrics, torrent};
use aquatic_types::IpFamily;
use serde_json::json;

use super::client::{Peer, Socket, binary, request};
use super::reloads::change;
use super::setup::WS;

const KEYS: &str = "Alice-1 peers=2 # Alice\nbob until=2001-01-31\ncarol\n";

pub(super) const SETTINGS: &str = "keys.mode = 'require'\nkeys.path = 'keys'\n";

fn start(case: Case) -> Tracker {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = place.metrics_settings(&WS) + SETTINGS;
    case.start_at(place, &settings)
}

/// A peer of a client that was given this URL.
pub(super) fn peer(tracker: &Tracker, url: &str) -> Peer {
    let family = IpFamily::V4;
    let address = tracker.address(family);
    let mut connection = Connection::open(localhost(family), address, tracker.transport);
    connection.send(request("").replace("GET /announce ", &format!("GET {url} ")));
    assert_eq!(connection.answer().status, 101, "browsers see no status");
    Peer::new(Socket { connection })
}

/// What is built anew then takes keys as before.
#[test]
fn keys_outlive_a_reload_of_other_settings() {
    on_every_setup(&WS, |setup| {
        let place = Place::new();
        place.write("keys", KEYS);
        let tracker = Case::plain(setup).start_at(place, SETTINGS);
        let settings = format!("{SETTINGS}protocol.peer_announce_interval = 61\n");
        change(&tracker, setup, &settings);
        until("who has a key is told the new interval", || {
            let mut member = peer(&tracker, "/carol");
            let announce = member.announce(torrent(1), 1);
            let reply = member.socket.ask(&announce);
            (reply["interval"].as_u64()? == 61).then_some(())
        });
        let mut stranger = peer(&tracker, "/");
        let announce = stranger.announce(torrent(1), 1);
        assert!(stranger.refusal(&announce).contains("has no key"));
    });
}

#[test]
fn only_clients_with_a_key_are_served() {
    cases::on_every_case(&WS, |case| {
        let tracker = start(case);
        let mut members = Vec::new();
        for (url, count) in [
            "/carol",
            "/carol/announce",
            "/announce/carol",
            "/announce?passkey=carol",
            "/?passkey=carol",
        ]
        .into_iter()
        .zip(1..)
        {
            let mut peer = peer(&tracker, url);
            let announce = peer.announce(torrent(1), 1);
            let reply = peer.socket.ask(&announce);
            assert_eq!(reply["incomplete"], count, "{url}: {reply}");
            members.push(peer);
        }
        for (url, reason) in [
            (
                "/",
                "the announce URL has no key, and this tracker wants one",
            ),
            (
                "/announce",
                "the announce URL has no key, and this tracker wants one",
            ),
            ("/Carol", "unknown key in the announce URL"),
            ("/bob", "this key has ended on 2001-01-31"),
        ] {
            let mut peer = peer(&tracker, url);
            let scrape = json!({"action": "scrape", "info_hash": binary(&torrent(1).0)});
            let announce = peer.announce(torrent(1), 1);
            for message in [&announce, &scrape, &announce] {
                let reply = peer.socket.ask(message);
                assert_eq!(reply["failure reason"], reason, "{url}");
            }
        }
        let row = members[0].socket.scrape(&[torrent(1)]);
        assert_eq!(
            row["files"][binary(&torrent(1).0)]["incomplete"],
            5,
            "{row}"
        );
        metrics::wait_for(
            &tracker,
            &[
                (
                    "aquatic_refused_total{reason=key_missing,ip_version=4}",
                    6.0,
                ),
                (
                    "aquatic_refused_total{reason=key_unknown,ip_version=4}",
                    3.0,
                ),
                (
                    "aquatic_refused_total{reason=key_expired,ip_version=4}",
                    3.0,
                ),
            ],
        );
        let told = tracker.place.log() + &metrics::text(&tracker);
        assert!(!told.contains("carol") && !told.contains("Alice"), "{told}");
    });
}

/// A peer makes room by leaving, and by closing its connection.
#[test]
fn a_key_has_so_many_peers() {
    cases::on_every_case(&WS, |case| {
        let tracker = start(case);
        let join = |peer: &mut Peer, number| {
            let announce = peer.announce(torrent(number), 1);
            let reply = peer.socket.ask(&announce);
            reply["failure reason"].as_str().map(str::to_owned)
        };
        let full = Some("this key has 2 peers already".to_owned());
        let mut first = peer(&tracker, "/Alice-1");
        let mut second = peer(&tracker, "/Alice-1");
        assert_eq!(join(&mut first, 1), None);
        assert_eq!(join(&mut second, 2), None);
        assert_eq!(join(&mut second, 2), None);
        for number in 3..9 {
            assert_eq!(join(&mut second, number), full);
        }
        let mut stopped = second.announce(torrent(2), 1);
        stopped["event"] = json!("stopped");
        second.socket.ask(&stopped);
        assert_eq!(join(&mut second, 3), None);
        assert_eq!(join(&mut second, 4), full);
        drop(first);
        until("the first one has gone", || {
            join(&mut second, 4).is_none().then_some(())
        });
        assert_eq!(join(&mut second, 5), full);
    });
}

/// Also with those that are connected.
#[test]
fn a_reload_takes_keys_away() {
    let tracker = start(Case::plain(Setup::simple(&WS)));
    let mut member = peer(&tracker, "/carol");
    let announce = member.announce(torrent(1), 1);
    assert_eq!(member.socket.ask(&announce)["incomplete"], 1);
    tracker.place.write("keys", "dave\n");
    tracker.reload();
    let reply = member.socket.ask(&announce);
    assert_eq!(reply["failure reason"], "unknown key in the announce URL");
    let mut other = peer(&tracker, "/dave");
    let announce = other.announce(torrent(1), 1);
    assert_eq!(other.socket.ask(&announce)["incomplete"], 2, "members stay");
}

/// Whoever has no key does not learn which torrents and which software are served.
#[test]
fn the_key_is_judged_first() {
    let place = Place::new();
    place.write("keys", KEYS);
    place.write("list", torrent(1).to_string());
    let more = "access_list.mode = 'allow'\naccess_list.path = 'list'\n\
                access_list.peer_id_prefixes_deny = ['-QQ']\n";
    let tracker = Case::plain(Setup::simple(&WS)).start_at(place, &format!("{SETTINGS}{more}"));
    for (url, refusals) in [
        ("/stranger", ["unknown key in the announce URL"; 3]),
        ("/bob", ["this key has ended on 2001-01-31"; 3]),
        (
            "/carol",
            [
                "torrent not allowed here",
                "client software not allowed here",
                "torrent not allowed here",
            ],
        ),
    ] {
        let mut peer = peer(&tracker, url);
        let denied = peer.announce(torrent(2), 1);
        let mut of_software = peer.announce(torrent(1), 1);
        of_software["peer_id"] = json!("-QQ0100-abcdefghijkl");
        let mut answer = peer.announce(torrent(2), 1);
        answer["answer"] = json!({});
        answer["to_peer_id"] = json!("-WW0100-abcdefghijkl");
        answer["offer_id"] = json!("oooooooooooooooooooo");
        for (message, refusal) in [denied, of_software, answer].iter().zip(refusals) {
            let reply = peer.socket.ask(message);
            assert_eq!(reply["failure reason"], refusal, "{url}: {message}");
        }
    }
}

/// Clients are served, or no longer, from the answer on; and it is shown who is active.
#[test]
fn keys_change_at_the_endpoint() {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = settings(&place, &WS) + SETTINGS;
    let tracker = Case::plain(Setup::simple(&WS)).start_at(place, &settings);
    let [mut dave, mut carol] = ["/dave", "/carol"].map(|url| peer(&tracker, url));
    let announce = carol.announce(torrent(1), 1);
    let unknown = "unknown key in the announce URL";
    assert_eq!(dave.refusal(&announce), unknown);
    let change = "{\"add\": \"dave peers=5\", \"remove\": \"carol\"}";
    assert_answer(ask(&tracker, "POST", "/keys", change), 200, "\"added\":1");
    assert_eq!(dave.ask(&announce)["incomplete"], 1);
    assert_eq!(carol.refusal(&announce), unknown);
    let shown = || ask(&tracker, "GET", "/keys?offset=2", "");
    assert_answer(shown(), 200, "\"has_ended\":false,\"active_peers\":1}]");
    drop(dave);
    until("it has left", || {
        shown().1.contains("\"active_peers\":0}]").then_some(())
    });
}
