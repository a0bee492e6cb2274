//! Clients that need a key, which stands in the path or the query of the announce URL.

use aquatic_test_support::operations::operator_endpoint::{ask, assert_answer, settings};
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Announced, Client, LEECHER, announce, get, rows, scrape};
use super::reloads::change;
use super::setup::{Case, HTTP, SIMPLE, Tracker, on_every_case};

const KEYS: &str = "Alice-1 peers=2 # Alice\nbob until=2001-01-31\ncarol\n";

const MISSING: &str = "the announce URL has no key, and this tracker wants one";
const UNKNOWN: &str = "unknown key in the announce URL";

fn start(case: Case) -> Tracker {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = place.metrics_settings(&HTTP)
        + "keys.mode = 'require'\nkeys.path = 'keys'\nprotocol.max_full_scrape_torrents = 9\n";
    case.start_at(place, &settings)
}

/// A target with what comes before its parameters in a user's announce URL.
fn at(url: &str, target: &str) -> String {
    let (_, parameters) = target.split_once('?').unwrap();
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{url}{join}{parameters}")
}

/// What is built anew then takes keys as before.
#[test]
fn keys_outlive_a_reload_of_other_settings() {
    on_every_case(|case| {
        if case.transport.is_tls() {
            return;
        }
        let place = Place::new();
        place.write("keys", KEYS);
        let keys = "keys.mode = 'require'\nkeys.path = 'keys'\n";
        let settings = format!("protocol.peer_announce_interval = 61\n{keys}");
        let tracker = case.start_at(place, keys);
        change(&tracker, case.setup, &settings);
        let mut client = Client::new(&tracker, IpFamily::V4);
        let target = announce(torrent(1), 1, LEECHER);
        until("who has a key is told the new interval", || {
            let answer = client.get(&at("/carol/announce", &target)).value();
            (Announced::read(&answer).interval_seconds == 61).then_some(())
        });
        assert_eq!(client.refusal(&target), MISSING);
    });
}

#[test]
fn only_clients_with_a_key_are_served() {
    on_every_case(|case| {
        let tracker = start(case);
        let from_announce = |port| announce(torrent(1), port, LEECHER);
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            let earlier = if family == IpFamily::V4 { 0 } else { 5 };
            for (port, url) in (1..).zip([
                "/carol/announce",
                "/announce/carol",
                "/announce?passkey=carol",
                "/announce.php?passkey=carol",
                "/tracker/carol/announce",
            ]) {
                let answer = client.get(&at(url, &from_announce(port))).value();
                let announced = Announced::read(&answer);
                assert_eq!(announced.leechers, earlier + i64::from(port), "{url}");
            }
            for (url, reason) in [
                ("/announce", MISSING),
                ("/announce?key=carol", MISSING),
                ("/announce/Carol", UNKNOWN),
                ("/announce?passkey=Carol", UNKNOWN),
                ("/bob/announce", "this key has ended on 2001-01-31"),
            ] {
                let target = at(url, &from_announce(9));
                assert_eq!(client.refusal(&target), reason, "{url}");
            }
            let target = scrape(&[torrent(1)]);
            for url in ["/carol/scrape", "/scrape/carol", "/scrape?passkey=carol"] {
                let answer = client.get(&at(url, &target)).value();
                rows(&answer, &[torrent(1)]);
                client.get(&at(url, "?x=y")).value();
            }
            assert_eq!(client.refusal(&target), MISSING);
            assert_eq!(client.refusal("/scrape"), MISSING);
            assert_eq!(client.refusal(&at("/scrape/x", &target)), UNKNOWN);
            assert_eq!(client.get("/elsewhere").status, 404);
        }
        metrics::wait_for(
            &tracker,
            &[
                (
                    "aquatic_refused_total{reason=key_missing,ip_version=4}",
                    4.0,
                ),
                (
                    "aquatic_refused_total{reason=key_unknown,ip_version=6}",
                    3.0,
                ),
                (
                    "aquatic_refused_total{reason=key_expired,ip_version=6}",
                    1.0,
                ),
            ],
        );
        let told = tracker.place.log() + &metrics::text(&tracker);
        assert!(!told.contains("carol") && !told.contains("Alice"), "{told}");
    });
}

/// Over all torrents, shards and families. What changes nothing is not counted.
#[test]
fn a_key_has_so_many_peers() {
    on_every_case(|case| {
        let tracker = start(case);
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        let target = |number, port| at("/Alice-1/announce", &announce(torrent(number), port, 1));
        v4.connection
            .send(get(&target(9, 1)).replace("GET", "HEAD"));
        assert_eq!(v4.connection.answer_to_head().status, 200);
        for _ in 0..2 {
            Announced::read(&v4.get(&target(1, 1)).value());
            Announced::read(&v6.get(&target(2, 1)).value());
        }
        for number in 3..9 {
            assert_eq!(
                v4.refusal(&target(number, 1)),
                "this key has 2 peers already"
            );
        }
        v6.get(&(target(2, 1) + "&event=stopped")).value();
        Announced::read(&v4.get(&target(3, 1)).value());
        assert_eq!(v6.refusal(&target(2, 1)), "this key has 2 peers already");
        let label = "aquatic_refused_total{reason=key_peer_limit,ip_version=4}";
        metrics::wait_for(&tracker, &[(label, 6.0)]);
    });
}

#[test]
fn a_reload_takes_keys_away_and_adds_others() {
    let tracker = start(Case::plain(SIMPLE));
    let mut client = Client::new(&tracker, IpFamily::V4);
    let target = |key: &str| at(&format!("/{key}/announce"), &announce(torrent(1), 1, 1));
    client.get(&target("carol")).value();
    assert_eq!(client.refusal(&target("dave")), UNKNOWN);
    tracker.place.write("keys", "dave\n");
    tracker.reload();
    assert_eq!(client.refusal(&target("carol")), UNKNOWN);
    Announced::read(&client.get(&target("dave")).value());
}

/// Whoever has no key does not learn which torrents and which software are served.
#[test]
fn the_key_is_judged_first() {
    let place = Place::new();
    place.write("keys", KEYS);
    place.write("list", torrent(1).to_string());
    let settings = "keys.mode = 'require'\nkeys.path = 'keys'\n\
                    access_list.mode = 'allow'\naccess_list.path = 'list'\n\
                    access_list.peer_id_prefixes_deny = ['-QQ']\n";
    let tracker = Case::plain(SIMPLE).start_at(place, settings);
    let mut client = Client::new(&tracker, IpFamily::V4);
    let ended = "this key has ended on 2001-01-31";
    for (key, refusals) in [
        ("stranger", [UNKNOWN; 3]),
        ("bob", [ended; 3]),
        (
            "carol",
            [
                "torrent not allowed here",
                "client software not allowed here",
                "info_hash is missing: full scrapes are not served",
            ],
        ),
    ] {
        let announce_at = |number| {
            at(
                &format!("/{key}/announce"),
                &announce(torrent(number), 1, 1),
            )
        };
        let of_software = announce_at(1).replace("-TR4060-", "-QQ0100-");
        let targets = [announce_at(2), of_software, format!("/{key}/scrape")];
        for (target, refusal) in targets.iter().zip(refusals) {
            assert_eq!(client.refusal(target), refusal, "{target}");
        }
    }
}

/// A key may have ended, or a torrent have been denied, since the peer has come.
#[test]
fn a_goodbye_that_is_refused_is_one() {
    let place = Place::new();
    place.write("keys", "Alice peers=1\n");
    place.write("list", "");
    let settings = "keys.mode = 'require'\nkeys.path = 'keys'\n\
                    access_list.mode = 'deny'\naccess_list.path = 'list'\n";
    let tracker = Case::plain(SIMPLE).start_at(place, settings);
    let mut client = Client::new(&tracker, IpFamily::V4);
    let target = |number, port| at("/Alice/announce", &announce(torrent(number), port, 1));
    let goodbye = |port| target(1, port) + "&event=stopped";
    client.get(&target(1, 1)).value();
    tracker
        .place
        .write("keys", "Alice peers=1 until=2001-01-31\n");
    tracker.reload();
    // What changes nothing frees no place either.
    client
        .connection
        .send(get(&goodbye(1)).replace("GET", "HEAD"));
    client.connection.answer_to_head();
    tracker.place.write("keys", "Alice peers=1\n");
    tracker.reload();
    let full = "this key has 1 peer already";
    assert_eq!(client.refusal(&target(1, 2)), full);

    tracker
        .place
        .write("keys", "Alice peers=1 until=2001-01-31\n");
    tracker.reload();
    let refusal = client.refusal(&goodbye(1));
    assert_eq!(refusal, "this key has ended on 2001-01-31");
    tracker.place.write("keys", "Alice peers=1\n");
    tracker.reload();
    client.get(&target(1, 2)).value();
    assert_eq!(client.refusal(&target(1, 1)), full);

    tracker.place.write("list", torrent(1).to_string());
    tracker.reload();
    assert_eq!(client.refusal(&goodbye(2)), "torrent not allowed here");
    client.get(&target(2, 1)).value();
}

/// Clients are served, or no longer, from the answer on; and it is shown who is active.
#[test]
fn keys_change_at_the_endpoint() {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = settings(&place, &HTTP) + "keys.mode = 'require'\nkeys.path = 'keys'\n";
    let tracker = Case::plain(SIMPLE).start_at(place, &settings);
    let mut client = Client::new(&tracker, IpFamily::V4);
    let target = |key: &str| at(&format!("/{key}/announce"), &announce(torrent(1), 1, 1));
    assert_eq!(client.refusal(&target("dave")), UNKNOWN);
    let change = "{\"add\": \"dave peers=5\", \"remove\": \"carol\"}";
    assert_answer(ask(&tracker, "POST", "/keys", change), 200, "\"added\":1");
    client.get(&target("dave")).value();
    assert_eq!(client.refusal(&target("carol")), UNKNOWN);
    let shown = ask(&tracker, "GET", "/keys?offset=2", "");
    assert_answer(shown, 200, "\"has_ended\":false,\"active_peers\":1}]");
}
