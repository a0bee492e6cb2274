//! Clients that need a key, which comes in the URL of BEP 41.

use aquatic_test_support::operations::operator_endpoint::{ask, assert_answer, settings};
use aquatic_test_support::setup::on_every_setup;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Place, Setup, metrics, torrent};
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp_protocol::{AnnounceRequest, write_url_data};

use super::client::{Client, announce_bytes};
use super::reloads::change;
use super::setup::UDP;

const SETTINGS: &str = "keys.mode = 'require'\nkeys.path = 'keys'\n";

/// One of a limited number of peers, one that has ended, and one for all.
const KEYS: &str = "Alice-1 peers=2 # Alice\nbob until=2001-01-31\ncarol\n";

fn start(setup: Setup) -> Daemon {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = format!("{}{SETTINGS}", place.metrics_settings(&UDP));
    place.start(setup, &settings)
}

/// An announce of a client that was given this URL.
fn announce(client: &Client, url: &str, info_hash: InfoHash, port: u16) -> Vec<u8> {
    with_event(client, url, info_hash, port, AnnounceEvent::Started)
}

fn with_event(
    client: &Client,
    url: &str,
    info_hash: InfoHash,
    port: u16,
    event: AnnounceEvent,
) -> Vec<u8> {
    let mut options = Vec::new();
    write_url_data(url.as_bytes(), &mut options);
    announce_bytes(&AnnounceRequest {
        event,
        options: &options,
        ..client.peer(info_hash, port, 1)
    })
}

/// What is built anew then takes keys as before.
#[test]
fn keys_outlive_a_reload_of_other_settings() {
    on_every_setup(&UDP, |setup| {
        let daemon = start(setup);
        let metrics = daemon.place.metrics_settings(&UDP);
        let settings = format!("{metrics}{SETTINGS}protocol.peer_announce_interval = 61\n");
        change(&daemon, setup, &settings);
        let mut client = Client::new(&daemon, IpFamily::V4);
        let request = announce(&client, "/carol/announce", torrent(1), 1);
        until("who has a key is told the new interval", || {
            (client.announce_bytes(&request).interval_seconds == 61).then_some(())
        });
        let request = announce(&client, "/announce", torrent(1), 1);
        assert!(client.refusal(&request).contains("has no key"));
    });
}

#[test]
fn only_clients_with_a_key_are_served() {
    on_every_setup(&UDP, |setup| {
        let daemon = start(setup);
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            let long = format!("/announce?x={}&passkey=carol", "x".repeat(600));
            for (port, url) in (1..).zip([
                "/carol/announce",
                "/announce/carol",
                "/announce?passkey=carol",
                "/carol",
                &long,
            ]) {
                let request = announce(&client, url, torrent(1), port);
                assert_eq!(client.announce_bytes(&request).leechers, u32::from(port));
            }
            for (url, reason) in [
                (
                    "",
                    "the announce URL has no key, and this tracker wants one",
                ),
                (
                    "/announce",
                    "the announce URL has no key, and this tracker wants one",
                ),
                ("/announce/Carol", "unknown key in the announce URL"),
                ("/bob/announce", "this key has ended on 2001-01-31"),
            ] {
                let request = announce(&client, url, torrent(1), 9);
                assert_eq!(client.refusal(&request), reason, "{url}");
            }
            let scrape = client.scrape_request(&[torrent(1)]);
            let reason = "scrapes need a key here, and have none over UDP";
            assert_eq!(client.refusal(&scrape), reason);
        }
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_refused_total{reason=key_missing,ip_version=4}",
                    3.0,
                ),
                (
                    "aquatic_refused_total{reason=key_unknown,ip_version=6}",
                    1.0,
                ),
                (
                    "aquatic_refused_total{reason=key_expired,ip_version=6}",
                    1.0,
                ),
                ("aquatic_keys_entries", 3.0),
            ],
        );
        let told = daemon.place.log() + &metrics::text(&daemon);
        assert!(!told.contains("carol") && !told.contains("Alice"), "{told}");
    });
}

/// Over all torrents, shards and families.
#[test]
fn a_key_has_so_many_peers() {
    on_every_setup(&UDP, |setup| {
        let daemon = start(setup);
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| Client::new(&daemon, family));
        let url = "/Alice-1/announce";
        let reason = "this key has 2 peers already";
        let request = announce(&v4, url, torrent(1), 1);
        v4.announce_bytes(&request);
        v4.announce_bytes(&request);
        let request = announce(&v6, url, torrent(2), 1);
        v6.announce_bytes(&request);
        for number in 3..9 {
            let request = announce(&v4, url, torrent(number), 1);
            assert_eq!(v4.refusal(&request), reason);
        }
        let stopped = with_event(&v6, url, torrent(2), 1, AnnounceEvent::Stopped);
        v6.announce_bytes(&stopped);
        let request = announce(&v4, url, torrent(3), 1);
        v4.announce_bytes(&request);
        let request = announce(&v6, url, torrent(2), 1);
        assert_eq!(v6.refusal(&request), reason);
        let label = "aquatic_refused_total{reason=key_peer_limit,ip_version=4}";
        metrics::wait_for(&daemon, &[(label, 6.0)]);
    });
}

/// Those who are there and have a key go on.
#[test]
fn a_reload_takes_keys_away_and_adds_others() {
    let daemon = start(Setup::simple(&UDP));
    let mut client = Client::new(&daemon, IpFamily::V4);
    let request = announce(&client, "/Alice-1/announce", torrent(1), 1);
    client.announce_bytes(&request);
    daemon.place.write("keys", "Alice-1 peers=1\ndave\n");
    daemon.reload();
    client.announce_bytes(&request);
    let second = announce(&client, "/Alice-1/announce", torrent(1), 2);
    let reason = "this key has 1 peer already";
    assert_eq!(client.refusal(&second), reason);
    let of_carol = announce(&client, "/carol/announce", torrent(1), 3);
    let reason = "unknown key in the announce URL";
    assert_eq!(client.refusal(&of_carol), reason);

    daemon.place.write("keys", "Alice-1\ncarol peers=none\n");
    daemon.reload();
    let log = daemon.place.log();
    let reason =
        "keeping the previous keys: cannot use the file of keys keys: line 2: peers= wants";
    assert!(log.contains(reason), "{log}");
    let of_dave = announce(&client, "/dave/announce", torrent(1), 4);
    assert_eq!(client.announce_bytes(&of_dave).leechers, 2);
}

/// A peer that no longer announces makes room when its time is over.
#[test]
fn silent_peers_make_room() {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = "protocol.peer_announce_interval = 1\ncleaning.max_peer_age = 2\n\
                    cleaning.torrent_cleaning_interval = 1\n";
    let daemon = place.start(Setup::simple(&UDP), &format!("{SETTINGS}{settings}"));
    let mut client = Client::new(&daemon, IpFamily::V4);
    for port in 1..=2 {
        let request = announce(&client, "/announce/Alice-1", torrent(1), port);
        client.announce_bytes(&request);
    }
    let request = announce(&client, "/announce/Alice-1", torrent(1), 3);
    until("the others are forgotten", || {
        let answer = client.ask(&request);
        let is_error = matches!(
            client.parse(&answer),
            aquatic_udp_protocol::Response::Error(_)
        );
        (!is_error).then_some(())
    });
}

/// Off: whatever is in a URL.
#[test]
fn without_keys_any_url_will_do() {
    let daemon = Setup::simple(&UDP).start("");
    let mut client = Client::new(&daemon, IpFamily::V4);
    for (port, url) in (1..).zip(["/x/announce", "/announce/y", "", "/announce?passkey=z"]) {
        let request = announce(&client, url, torrent(1), port);
        assert_eq!(client.announce_bytes(&request).leechers, u32::from(port));
    }
}

/// Whoever has no key does not learn which torrents and which software are served.
#[test]
fn the_key_is_judged_first() {
    let place = Place::new();
    place.write("keys", KEYS);
    place.write("list", torrent(1).to_string());
    let more = "access_list.mode = 'allow'\naccess_list.path = 'list'\n\
                access_list.peer_id_prefixes_deny = ['-QQ']\n";
    let daemon = place.start(Setup::simple(&UDP), &format!("{SETTINGS}{more}"));
    let mut client = Client::new(&daemon, IpFamily::V4);
    for (url, refusals) in [
        ("/stranger/announce", ["unknown key in the announce URL"; 2]),
        ("/bob/announce", ["this key has ended on 2001-01-31"; 2]),
        (
            "/carol/announce",
            [
                "torrent not allowed here",
                "client software not allowed here",
            ],
        ),
    ] {
        let denied = announce(&client, url, torrent(2), 1);
        let mut options = Vec::new();
        write_url_data(url.as_bytes(), &mut options);
        let of_software = announce_bytes(&AnnounceRequest {
            peer_id: PeerId(*b"-QQ0100-abcdefghijkl"),
            options: &options,
            ..client.peer(torrent(1), 1, 1)
        });
        for (request, refusal) in [denied, of_software].iter().zip(refusals) {
            assert_eq!(client.refusal(request), refusal, "{url}");
        }
    }
}

/// A key may have ended, or a torrent have been denied, since the peer has come.
#[test]
fn a_goodbye_that_is_refused_is_one() {
    let place = Place::new();
    place.write("keys", "Alice peers=1\n");
    place.write("list", "");
    let more = "access_list.mode = 'deny'\naccess_list.path = 'list'\n";
    let daemon = place.start(Setup::simple(&UDP), &format!("{SETTINGS}{more}"));
    let mut client = Client::new(&daemon, IpFamily::V4);
    let url = "/Alice/announce";
    let joins = |client: &mut Client, info_hash, port| {
        let request = announce(client, url, info_hash, port);
        client.announce_bytes(&request);
    };
    let goodbye = |client: &mut Client, port| {
        let request = with_event(client, url, torrent(1), port, AnnounceEvent::Stopped);
        client.refusal(&request)
    };
    joins(&mut client, torrent(1), 1);
    daemon
        .place
        .write("keys", "Alice peers=1 until=2001-01-31\n");
    daemon.reload();
    assert_eq!(goodbye(&mut client, 1), "this key has ended on 2001-01-31");
    daemon.place.write("keys", "Alice peers=1\n");
    daemon.reload();
    joins(&mut client, torrent(1), 2);
    let full = announce(&client, url, torrent(1), 1);
    assert_eq!(client.refusal(&full), "this key has 1 peer already");

    daemon.place.write("list", torrent(1).to_string());
    daemon.reload();
    assert_eq!(goodbye(&mut client, 2), "torrent not allowed here");
    joins(&mut client, torrent(2), 1);
}

/// Clients are served, or no longer, from the answer on; and it is shown who is active.
#[test]
fn keys_change_at_the_endpoint() {
    let place = Place::new();
    place.write("keys", KEYS);
    let settings = settings(&place, &UDP) + SETTINGS;
    let daemon = place.start(Setup::simple(&UDP), &settings);
    let mut client = Client::new(&daemon, IpFamily::V4);
    let of_dave = announce(&client, "/dave/announce", torrent(1), 1);
    assert_eq!(client.refusal(&of_dave), "unknown key in the announce URL");
    let change = "{\"add\": \"dave peers=5\", \"remove\": \"carol\"}";
    assert_answer(ask(&daemon, "POST", "/keys", change), 200, "\"added\":1");
    client.announce_bytes(&of_dave);
    let of_carol = announce(&client, "/carol/announce", torrent(1), 1);
    assert_eq!(client.refusal(&of_carol), "unknown key in the announce URL");
    let shown = ask(&daemon, "GET", "/keys?offset=2", "");
    assert_answer(shown, 200, "\"has_ended\":false,\"active_peers\":1}]");
}
