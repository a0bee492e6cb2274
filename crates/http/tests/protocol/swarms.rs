//! What an announce is answered.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use aquatic_test_support::bencode::Value;
use aquatic_test_support::wait::until;
use aquatic_test_support::{torrent, torrents};
use aquatic_types::{InfoHash, IpFamily};

use super::client::{Announced, Client, LEECHER, SEEDER, announce, get, row};
use super::setup::{Tracker, on_every_case, on_every_case_and_family};

/// The default of `protocol.peer_announce_interval`.
const INTERVAL_SECONDS: i64 = 900;
/// The default of `protocol.min_announce_interval`.
const MIN_INTERVAL_SECONDS: i64 = 300;

/// A torrent that only this family announces.
fn own(family: IpFamily, info_hash: InfoHash) -> InfoHash {
    let mut own = info_hash;
    own.0[0] ^= u8::from(family == IpFamily::V6);
    own
}

fn announced(
    ip: IpAddr,
    (seeders, completed, leechers): (i64, i64, i64),
    ports: &[u16],
) -> Announced {
    Announced {
        interval_seconds: INTERVAL_SECONDS,
        min_interval_seconds: Some(MIN_INTERVAL_SECONDS),
        seeders,
        completed,
        leechers,
        external_ip: Some(ip),
        peers: ports
            .iter()
            .map(|port| SocketAddr::new(ip, *port))
            .collect(),
    }
}

#[test]
fn peers_are_told_of_each_other() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let ip = client.ip();
        for info_hash in torrents().map(|info_hash| own(family, info_hash)) {
            let mut join = |port, left| client.join(info_hash, port, left);
            assert_eq!(join(1, LEECHER), announced(ip, (0, 0, 1), &[]));
            assert_eq!(join(2, SEEDER), announced(ip, (1, 0, 1), &[1]));
            assert_eq!(join(3, LEECHER), announced(ip, (1, 0, 2), &[1, 2]));
            assert_eq!(join(4, SEEDER), announced(ip, (2, 0, 2), &[1, 3]));
            // Again: a leecher gets everybody, a seeder only leechers, nobody gets itself.
            assert_eq!(join(1, LEECHER), announced(ip, (2, 0, 2), &[2, 3, 4]));
            assert_eq!(join(2, SEEDER), announced(ip, (2, 0, 2), &[1, 3]));
        }
    });
}

#[test]
fn keys_are_those_of_the_specifications_and_sorted() {
    // The reader of the tests refuses keys that are not sorted.
    let keys = [
        "complete",
        "downloaded",
        "external ip",
        "incomplete",
        "interval",
        "min interval",
        "peers",
        "peers6",
    ];
    on_every_case(|case| {
        let tracker = case.start("protocol.min_announce_interval = 42");
        for family in IpFamily::ALL {
            Client::new(&tracker, family).join(torrent(1), 1, LEECHER);
        }
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            let target = announce(torrent(1), 2, LEECHER);
            let answer = client.get(&target);
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            let value = answer.value();
            assert_eq!(value.keys(), keys);
            assert_eq!(value.integer("min interval"), 42);
        }
        // `peers` is there even if it is empty.
        let value = Client::new(&tracker, IpFamily::V4)
            .get(&announce(torrent(2), 1, LEECHER))
            .value();
        assert_eq!(value.bytes("peers"), Some(&[][..]));
    });
}

#[test]
fn intervals_are_the_configured_ones() {
    let settings = "protocol.peer_announce_interval = 77\nprotocol.min_announce_interval = 33";
    on_every_case_and_family(settings, |tracker, family| {
        let mut client = Client::new(tracker, family);
        for info_hash in torrents() {
            let announced = client.join(info_hash, 1, LEECHER);
            assert_eq!(announced.interval_seconds, 77);
            assert_eq!(announced.min_interval_seconds, Some(33));
        }
    });
}

#[test]
fn the_shorter_interval_is_never_the_longer() {
    let settings = "protocol.peer_announce_interval = 7\ncleaning.max_peer_age = 60";
    on_every_case_and_family(settings, |tracker, family| {
        let announced = Client::new(tracker, family).join(torrent(1), 1, LEECHER);
        assert_eq!(announced.interval_seconds, 7);
        assert_eq!(announced.min_interval_seconds, Some(7));
    });
}

#[test]
fn peers_come_as_a_list_for_who_asks_so() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut clients = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        for client in &mut clients {
            for port in [6_881, 443] {
                client.join(torrent(1), port, LEECHER);
            }
        }
        for client in &mut clients {
            let target = announce(torrent(1), 7, SEEDER);
            let compact = client.get(&target);
            for no_peer_id in ["", "&no_peer_id=1", "&no_peer_id=0"] {
                let target = target.replace("compact=1", "compact=0") + no_peer_id;
                let listed = client.get(&target);
                let value = listed.value();
                let Some(Value::List(peers)) = value.get("peers") else {
                    panic!("{value:?}");
                };
                assert_eq!(peers.len(), 4);
                assert_eq!(value.get("peers6"), None);
                assert_eq!(Announced::read(&value), Announced::read(&compact.value()));
            }
        }
        let empty = announce(torrent(2), 7, SEEDER).replace("compact=1", "compact=0");
        let value = clients[0].get(&empty).value();
        assert_eq!(value.get("peers"), Some(&Value::List(Vec::new())));
    });
}

#[test]
fn clients_decide_how_many_peers_they_want() {
    on_every_case_and_family("protocol.max_peers = 30", |tracker, family| {
        let mut client = Client::new(tracker, family);
        for info_hash in torrents().take(4).map(|info_hash| own(family, info_hash)) {
            for port in 1..=50 {
                client.join(info_hash, port, LEECHER);
            }
            let cases = [
                ("", 30),
                ("&numwant=0", 0),
                ("&numwant=1", 1),
                ("&numwant=29", 29),
                ("&numwant=30", 30),
                ("&numwant=31", 30),
                ("&numwant=4294967297", 30),
                ("&numwant=-1", 30),
                ("&numwant=-200", 30),
            ];
            for (numwant, peers) in cases {
                let announced = client.announce((info_hash, 7, LEECHER), numwant);
                assert_eq!(announced.leechers, 50, "{numwant}");
                let mut ports = announced.ports();
                assert_eq!(ports.len(), peers, "{numwant}");
                ports.dedup();
                assert_eq!(ports.len(), peers, "no peer twice");
                assert!(!ports.contains(&7), "not the announcer");
            }
        }
    });
}

#[test]
fn everybody_is_handed_out_sooner_or_later() {
    on_every_case(|case| {
        let tracker = case.start("limits.max_peers_per_ip_and_torrent = 0");
        let mut clients = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        for client in &mut clients {
            for port in 1..=100 {
                client.join(torrent(1), port, LEECHER);
            }
        }
        for client in &mut clients {
            let mut seen = HashSet::new();
            until("each peer has been handed out", || {
                let announced = client.join(torrent(1), 1, LEECHER);
                assert_eq!(announced.leechers, 200);
                assert_eq!(announced.peers.len(), 50);
                seen.extend(announced.peers);
                (seen.len() == 199).then_some(())
            });
        }
    });
}

#[test]
fn who_stops_leaves_and_gets_no_peers() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let ip = client.ip();
        for info_hash in torrents().map(|info_hash| own(family, info_hash)) {
            for (port, left) in [(1, SEEDER), (2, LEECHER), (3, LEECHER)] {
                client.join(info_hash, port, left);
            }
            let mut stop = |port, left| client.announce((info_hash, port, left), "&event=stopped");
            assert_eq!(stop(2, LEECHER), announced(ip, (1, 0, 1), &[]));
            assert_eq!(stop(2, LEECHER), announced(ip, (1, 0, 1), &[]));
            assert_eq!(stop(1, SEEDER), announced(ip, (0, 0, 1), &[]));
            assert_eq!(stop(3, LEECHER), announced(ip, (0, 0, 0), &[]));
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 0)]);
        }
    });
}

#[test]
fn who_completes_becomes_a_seeder_and_is_counted() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        for info_hash in torrents().map(|info_hash| own(family, info_hash)) {
            for port in [1, 2, 3] {
                client.announce((info_hash, port, LEECHER), "&event=started");
            }
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 3)]);
            for (port, seeders) in [(1, 1), (2, 2)] {
                let answer = client.announce((info_hash, port, SEEDER), "&event=completed");
                assert_eq!((answer.seeders, answer.completed), (seeders, seeders));
                let expected = row(seeders, seeders, 3 - seeders);
                assert_eq!(client.scrape(&[info_hash]), [expected]);
            }
            // A further announce of a seeder completes nothing.
            assert_eq!(client.join(info_hash, 1, SEEDER).completed, 2);
        }
    });
}

/// Peers of both families, as everybody in the swarm is told of them.
#[test]
fn both_families_share_their_swarms() {
    on_every_case(|case| {
        let tracker = case.start("");
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        let peer = |client: &Client, port| SocketAddr::new(client.ip(), port);
        for info_hash in torrents() {
            assert_eq!(v4.join(info_hash, 1, SEEDER).peers, []);
            let announced = v6.join(info_hash, 2, LEECHER);
            assert_eq!((announced.seeders, announced.leechers), (1, 1));
            assert_eq!(announced.peers, [peer(&v4, 1)]);
            assert_eq!(announced.external_ip, Some(v6.ip()));
            let announced = v4.join(info_hash, 3, LEECHER);
            assert_eq!((announced.seeders, announced.leechers), (1, 2));
            assert_eq!(announced.peers, [peer(&v4, 1), peer(&v6, 2)]);
            // A seeder gets leechers only, of both families.
            assert_eq!(
                v6.join(info_hash, 4, SEEDER).peers,
                [peer(&v4, 3), peer(&v6, 2)]
            );
            assert_eq!(v4.scrape(&[info_hash]), [row(2, 0, 2)]);
            assert_eq!(v6.scrape(&[info_hash]), [row(2, 0, 2)]);
            // Who leaves one of them is no longer handed out in the other.
            v6.announce((info_hash, 4, SEEDER), "&event=stopped");
            assert_eq!(
                v4.join(info_hash, 3, LEECHER).peers,
                [peer(&v4, 1), peer(&v6, 2)]
            );
            v6.announce((info_hash, 2, SEEDER), "&event=completed");
            assert_eq!(v4.scrape(&[info_hash]), [row(2, 1, 1)]);
        }
    });
}

/// Which of them one gets is left to chance.
#[test]
fn no_family_is_preferred() {
    const ROUNDS: u32 = 200;
    on_every_case(|case| {
        // All peers of a family are of one address here.
        let tracker = case.start(
            "protocol.max_peers = 10\nprotocol.max_response_peers_per_ip = 0\n\
             limits.max_peers_per_ip_and_torrent = 0",
        );
        let mut clients = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        for (client, peers) in clients.iter_mut().zip([31, 90]) {
            (1..=peers).for_each(|port| drop(client.join(torrent(1), port, LEECHER)));
        }
        for client in &mut clients {
            let mut shares = [0_u32; 2];
            for _ in 0..ROUNDS {
                let announced = client.join(torrent(1), 1, SEEDER);
                assert_eq!(announced.peers.len(), 10);
                for peer in announced.peers {
                    shares[usize::from(peer.is_ipv6())] += 1;
                }
                // It was a leecher before, and is one again.
                client.join(torrent(1), 1, LEECHER);
            }
            // A quarter of 2,000, seven standard deviations wide.
            assert!((360..=640).contains(&shares[0]), "{shares:?}");
        }
    });
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    on_every_case(|case| {
        let place = aquatic_test_support::Place::new();
        // What an operator may write who does not know that IPv6 sockets are IPv6 only here.
        let port = place.port();
        let settings = format!("network.address = ['0.0.0.0:{port}', '[::]:{port}']");
        let tracker = case.start_at(place, &settings);
        let mut client = Client::new(&tracker, IpFamily::V4);
        let announced = client.join(torrent(1), 1, LEECHER);
        assert_eq!(announced.external_ip, Some(client.ip()));
        assert!(client.ip().is_ipv4());
    });
}

#[test]
fn answers_are_as_long_as_they_say() {
    fn exact(tracker: &Tracker, family: IpFamily) {
        let mut client = Client::new(tracker, family);
        for target in [
            announce(torrent(1), 1, LEECHER),
            "/announce".to_owned(),
            "/scrape?info_hash=x".to_owned(),
            "/nowhere".to_owned(),
        ] {
            let request = get(&target).replace("User-Agent: test", "Connection: close");
            let mut connection = Client::new(tracker, family).connection;
            connection.send(request);
            // An answer with more in it than it says would be followed by something.
            let closed = connection.answer();
            connection.assert_ends();
            assert_eq!(closed.body, client.get(&target).body, "{target}");
        }
    }
    on_every_case_and_family("", exact);
}
