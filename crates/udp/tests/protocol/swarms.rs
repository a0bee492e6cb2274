//! What an announce is answered.

use std::collections::HashSet;

use aquatic_test_support::wait::until;
use aquatic_test_support::{torrent, torrents};
use aquatic_types::{AnnounceEvent, IpFamily};
use aquatic_udp_protocol::AnnounceRequest;

use super::client::{Announced, Client, announce_bytes, row};
use super::setup::{on_every_setup, on_every_setup_and_family};

const SEEDER: u64 = 0;
const LEECHER: u64 = 1;

/// The default of `protocol.peer_announce_interval`.
const INTERVAL_SECONDS: u32 = 900;

fn announced(seeders: u32, leechers: u32, ports: &[u16]) -> Announced {
    Announced {
        interval_seconds: INTERVAL_SECONDS,
        seeders,
        leechers,
        ports: ports.to_vec(),
    }
}

#[test]
fn peers_are_told_of_each_other() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents() {
            assert_eq!(client.join(info_hash, 1, LEECHER), announced(0, 1, &[]));
            assert_eq!(client.join(info_hash, 2, SEEDER), announced(1, 1, &[1]));
            assert_eq!(client.join(info_hash, 3, LEECHER), announced(1, 2, &[1, 2]));
            assert_eq!(client.join(info_hash, 4, SEEDER), announced(2, 2, &[1, 3]));
            // Again: a leecher gets everybody, a seeder only leechers, nobody gets itself.
            assert_eq!(
                client.join(info_hash, 1, LEECHER),
                announced(2, 2, &[2, 3, 4])
            );
            assert_eq!(client.join(info_hash, 2, SEEDER), announced(2, 2, &[1, 3]));
        }
    });
}

#[test]
fn a_large_swarm_follows_the_same_rules() {
    let settings = "protocol.max_response_peers = 76";
    on_every_setup_and_family(settings, |daemon, family| {
        let mut client = Client::new(daemon, family);
        for port in 1..=60 {
            let left = if port % 2 == 0 { SEEDER } else { LEECHER };
            client.join(torrent(1), port, left);
        }
        let odd: Vec<_> = (1..=60).filter(|port| port % 2 == 1).collect();
        assert_eq!(client.join(torrent(1), 60, SEEDER), announced(30, 30, &odd));
        let others: Vec<_> = (1..=60).filter(|port| *port != 31).collect();
        assert_eq!(
            client.join(torrent(1), 31, LEECHER),
            announced(30, 30, &others)
        );
    });
}

#[test]
fn clients_decide_how_many_peers_they_want() {
    on_every_setup_and_family("protocol.max_response_peers = 30", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents().take(4) {
            for port in 1..=50 {
                client.join(info_hash, port, LEECHER);
            }
            let cases = [
                (0, 0),
                (1, 1),
                (29, 29),
                (30, 30),
                (31, 30),
                (i32::MAX, 30),
                (-1, 30),
                (-2, 30),
                (i32::MIN, 30),
            ];
            for (num_want, peers) in cases {
                let peer = client.peer(info_hash, 7, LEECHER);
                let mut answer = client.announce(&AnnounceRequest { num_want, ..peer });
                assert_eq!(answer.leechers, 50, "{num_want} wanted");
                assert_eq!(answer.ports.len(), peers, "{num_want} wanted");
                answer.ports.dedup();
                assert_eq!(answer.ports.len(), peers, "no peer twice");
                assert!(!answer.ports.contains(&7), "not the announcer");
            }
        }
    });
}

#[test]
fn everybody_is_handed_out_sooner_or_later() {
    let settings = "limits.max_peers_per_ip_and_torrent = 0";
    on_every_setup_and_family(settings, |daemon, family| {
        let mut client = Client::new(daemon, family);
        for port in 1..=200 {
            client.join(torrent(1), port, LEECHER);
        }
        let mut seen = HashSet::new();
        until("each peer has been handed out", || {
            seen.extend(client.join(torrent(1), 1, LEECHER).ports);
            (seen.len() == 199).then_some(())
        });
    });
}

#[test]
fn who_stops_leaves_and_gets_no_peers() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents() {
            for (port, left) in [(1, SEEDER), (2, LEECHER), (3, LEECHER)] {
                client.join(info_hash, port, left);
            }
            let stop = |client: &mut Client, port, left| {
                let event = AnnounceEvent::Stopped;
                let request = AnnounceRequest {
                    event,
                    ..client.peer(info_hash, port, left)
                };
                client.announce(&request)
            };
            assert_eq!(stop(&mut client, 2, LEECHER), announced(1, 1, &[]));
            assert_eq!(
                stop(&mut client, 2, LEECHER),
                announced(1, 1, &[]),
                "not there any more"
            );
            assert_eq!(client.join(info_hash, 3, LEECHER), announced(1, 1, &[1]));
            assert_eq!(stop(&mut client, 1, SEEDER), announced(0, 1, &[]));
            assert_eq!(stop(&mut client, 3, LEECHER), announced(0, 0, &[]));
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 0)]);
        }
    });
}

#[test]
fn who_completes_becomes_a_seeder_and_is_counted() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents() {
            for port in [1, 2, 3] {
                let event = AnnounceEvent::Started;
                let peer = client.peer(info_hash, port, LEECHER);
                client.announce(&AnnounceRequest { event, ..peer });
            }
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 3)]);
            for (port, seeders) in [(1, 1), (2, 2)] {
                let event = AnnounceEvent::Completed;
                let peer = client.peer(info_hash, port, SEEDER);
                let answer = client.announce(&AnnounceRequest { event, ..peer });
                assert_eq!(answer.seeders, seeders);
                assert_eq!(
                    client.scrape(&[info_hash]),
                    [row(seeders, seeders, 3 - seeders)]
                );
            }
            // A further announce of a seeder completes nothing.
            client.join(info_hash, 1, SEEDER);
            assert_eq!(client.scrape(&[info_hash]), [row(2, 2, 1)]);
        }
    });
}

#[test]
fn families_have_swarms_of_their_own() {
    on_every_setup(|setup| {
        let daemon = setup.start("");
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| Client::new(&daemon, family));
        for info_hash in torrents() {
            assert_eq!(v4.join(info_hash, 1, SEEDER), announced(1, 0, &[]));
            assert_eq!(v6.join(info_hash, 2, LEECHER), announced(0, 1, &[]));
            assert_eq!(v4.join(info_hash, 3, LEECHER), announced(1, 1, &[1]));
            assert_eq!(v4.scrape(&[info_hash]), [row(1, 0, 1)]);
            assert_eq!(v6.scrape(&[info_hash]), [row(0, 0, 1)]);
        }
    });
}

#[test]
fn an_address_is_one_peer_whatever_its_peer_id() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        client.join(torrent(1), 1, LEECHER);
        let mut renamed = client.peer(torrent(1), 1, LEECHER);
        renamed.peer_id.0[19] = b'?';
        assert_eq!(client.announce(&renamed), announced(0, 1, &[]));
    });
}

#[test]
fn answers_stay_within_1400_bytes() {
    let settings = "protocol.max_response_peers = 76\nprotocol.max_scrape_torrents = 116\n\
                    limits.max_peers_per_ip_and_torrent = 0";
    on_every_setup_and_family(settings, |daemon, family| {
        let mut client = Client::new(daemon, family);
        for port in 1..=90 {
            client.join(torrent(1), port, LEECHER);
        }
        let announce = announce_bytes(&client.peer(torrent(1), 1, LEECHER));
        let announce_bytes = match family {
            IpFamily::V4 => 20 + 76 * 6,
            IpFamily::V6 => 20 + 76 * 18,
        };
        assert_eq!(client.ask(&announce).len(), announce_bytes);
        let many: Vec<_> = (0..120).map(torrent).collect();
        assert_eq!(client.ask(&client.scrape_request(&many)).len(), 1_400);
        assert!(announce_bytes <= 1_400);
    });
}

#[test]
fn the_interval_is_the_configured_one() {
    on_every_setup_and_family("protocol.peer_announce_interval = 77", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents() {
            assert_eq!(client.join(info_hash, 1, LEECHER).interval_seconds, 77);
        }
    });
}
