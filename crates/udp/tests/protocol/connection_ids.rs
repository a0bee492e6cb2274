//! Who may ask: only clients that have shown that they own their address.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;

use aquatic_test_support::{Place, Setup, metrics, torrent, torrents};
use aquatic_types::IpFamily;
use aquatic_udp_protocol::{ConnectionId, PROTOCOL_ID};
use nix::sys::signal::Signal;

use super::client::{Client, announce_bytes, row};
use super::setup::{SIMPLE, UDP, on_every_setup, on_every_setup_and_family};

const REFUSAL: &str = "connection id expired";

/// Asks in both ways, and is refused in both, with answers that are not larger than the questions.
#[track_caller]
fn assert_refused(client: &mut Client, id: ConnectionId) {
    client.set_connection_id(id);
    let announce = announce_bytes(&client.peer(torrent(1), 1, 1));
    for request in [announce, client.scrape_request(&[torrent(1)])] {
        assert_eq!(client.refusal(&request), REFUSAL, "{id:?}");
        assert!(client.ask(&request).len() <= request.len());
    }
}

#[test]
fn a_wrong_id_is_answered_with_a_short_error() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::stranger(daemon, family);
        for id in [[0; 8], [0xff; 8], PROTOCOL_ID, *b"whatever"] {
            assert_refused(&mut client, ConnectionId(id));
        }
        client.connect();
        assert_eq!(
            client.scrape(&[torrent(1)]),
            [row(0, 0, 0)],
            "nothing was announced"
        );
    });
}

#[test]
fn a_forged_id_is_refused() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let id = u64::from_be_bytes(client.connection_id().0);
        for bit in 0..64 {
            assert_refused(&mut client, ConnectionId((id ^ (1 << bit)).to_be_bytes()));
        }
        // Another time than it was issued at: a little earlier or later, in any byte.
        for place in 0..8 {
            for step in [1, u64::MAX] {
                let forged = id.wrapping_add(step.wrapping_shl(8 * place));
                assert_refused(&mut client, ConnectionId(forged.to_be_bytes()));
            }
        }
        client.set_connection_id(ConnectionId(id.to_be_bytes()));
        assert_eq!(client.join(torrent(1), 1, 1).leechers, 1);
    });
}

#[test]
fn an_id_is_good_for_one_address_only() {
    on_every_setup(|setup| {
        let daemon = setup.start("");
        let [v4, v6] = IpFamily::ALL.map(|family| Client::new(&daemon, family));
        let neighbour = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let mut thief = Client::between(neighbour, daemon.address(IpFamily::V4));
        assert_refused(&mut thief, v4.connection_id());
        assert_refused(&mut thief, v6.connection_id());
        let mut thief = Client::stranger(&daemon, IpFamily::V6);
        assert_refused(&mut thief, v4.connection_id());
    });
}

#[test]
fn an_id_is_good_at_all_workers_and_from_all_ports() {
    on_every_setup_and_family("", |daemon, family| {
        let mut first = Client::new(daemon, family);
        let id = first.connection_id();
        for port in 1..=20 {
            let mut client = Client::stranger(daemon, family);
            client.set_connection_id(id);
            for info_hash in torrents() {
                assert_eq!(client.join(info_hash, port, 1).leechers, u32::from(port));
            }
        }
        let all: Vec<_> = torrents().collect();
        assert_eq!(first.scrape(&all), vec![row(0, 0, 20); all.len()]);
    });
}

#[test]
fn who_is_not_connected_learns_nothing_of_other_mistakes() {
    on_every_setup(|setup| {
        let place = Place::new();
        let settings = place.metrics_settings(&UDP);
        let daemon = place.start(setup, &settings);
        let mut client = Client::stranger(&daemon, IpFamily::V4);
        client.send(&announce_bytes(&client.peer(torrent(1), 0, 1)));
        client.send(&client.scrape_request(&[]));
        // The program in front of the stack looks at the id first, and at most of the rest never.
        let told = u32::from(setup.has_queues);
        for _ in 0..told {
            let answer = client.receive();
            assert_eq!(answer[8..], *b"connection id expired");
        }
        client.connect();
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_responses_total", f64::from(1 + told)),
                ("aquatic_responses_total{type=error}", f64::from(told)),
            ],
        );
        assert!(client.received().is_empty());
    });
}

/// Settings with a file for the secret in `folder`.
fn secret_in(folder: &Place) -> String {
    let path = folder.path("secret");
    format!("network.connection_secret_file = '{}'", path.display())
}

/// An id that a tracker has issued which has ended since.
fn id_of_another_run(setup: Setup, settings: &str) -> ConnectionId {
    let mut daemon = setup.start(settings);
    let id = Client::new(&daemon, IpFamily::V4).connection_id();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
    id
}

#[test]
fn an_id_survives_a_restart_with_the_secret_in_a_file() {
    on_every_setup(|setup| {
        let folder = Place::new();
        let id = id_of_another_run(setup, &secret_in(&folder));
        let daemon = setup.start(&secret_in(&folder));
        let mut client = Client::stranger(&daemon, IpFamily::V4);
        client.set_connection_id(id);
        assert_eq!(client.join(torrent(1), 1, 1).leechers, 1);
        let secret = folder.path("secret").metadata().unwrap();
        assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    });
}

#[test]
fn an_id_does_not_survive_a_restart_without_it() {
    let id = id_of_another_run(SIMPLE, "");
    let daemon = SIMPLE.start("");
    assert_refused(&mut Client::stranger(&daemon, IpFamily::V4), id);
}

#[test]
fn a_second_tracker_with_the_same_secret_accepts_the_id() {
    let (folder, other_folder) = (Place::new(), Place::new());
    let [first, second] = [(); 2].map(|()| SIMPLE.start(&secret_in(&folder)));
    let stranger = SIMPLE.start(&secret_in(&other_folder));
    for (here, there) in [(&first, &second), (&second, &first)] {
        let id = Client::new(here, IpFamily::V4).connection_id();
        let mut client = Client::stranger(there, IpFamily::V4);
        client.set_connection_id(id);
        client.join(torrent(1), 1, 1);
        assert_refused(&mut Client::stranger(&stranger, IpFamily::V4), id);
    }
}

#[test]
fn a_secret_that_is_of_no_use_ends_the_start_with_the_remedy() {
    for (text, mode, told) in [
        ("hunter2\n", 0o600, "32 hexadecimal digits"),
        ("000102030405060708090a0b0c0d0e0f\n", 0o644, "chmod 600"),
    ] {
        let place = Place::new();
        let secret = place.write("secret", text);
        fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        let ended = place.fail(SIMPLE, &secret_in(&place));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let file = format!("the connection secret {}", secret.display());
        assert!(ended.log.contains(&file), "{ended:?}");
        assert!(ended.log.contains(told), "{ended:?}");
    }
}
