//! One address that announces very many peers beside honest ones: BEP 15 lets it, identity is free.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use aquatic_test_support::program::loopback;
use aquatic_test_support::{Daemon, metrics, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};
use aquatic_udp_protocol::{AnnounceRequest, Response};

use super::client::{Client, announce_bytes, row};
use super::setup::{SIMPLE, on_every_setup, on_every_setup_and_family};

const SEEDER: u64 = 0;
const LEECHER: u64 = 1;
const HONEST: u8 = 20;

fn at(daemon: &Daemon, host: u8) -> Client {
    Client::connected(loopback(host), daemon.address(IpFamily::V4))
}

fn honest_addresses() -> BTreeSet<IpAddr> {
    (100..100 + HONEST).map(loopback).collect()
}

/// Honest seeders come when a part of the flood has been there already, and the rest follows.
fn flood(daemon: &Daemon, attackers: impl Iterator<Item = u8>, ports: u16) {
    for (number, attacker) in attackers.enumerate() {
        let mut attacker = at(daemon, attacker);
        for port in 1..=ports {
            attacker.ask(&announce_bytes(&attacker.peer(torrent(1), port, SEEDER)));
            if number == 0 && port == ports / 2 {
                for host in 100..100 + HONEST {
                    at(daemon, host).join(torrent(1), 6_881, SEEDER);
                }
            }
        }
    }
}

/// Whom a leecher is told of.
fn handed_out(leecher: &mut Client) -> Vec<SocketAddr> {
    let answer = leecher.ask(&announce_bytes(&leecher.peer(torrent(1), 6_881, LEECHER)));
    let Response::Announce(response) = leecher.parse(&answer) else {
        panic!("{answer:?}");
    };
    let peers: Vec<_> = response.peers.iter().collect();
    let distinct: BTreeSet<_> = peers.iter().copied().collect();
    assert_eq!(distinct.len(), peers.len(), "twice the same");
    peers
}

fn honest_among(peers: &[SocketAddr]) -> BTreeSet<IpAddr> {
    let ips: BTreeSet<_> = peers.iter().map(SocketAddr::ip).collect();
    ips.intersection(&honest_addresses()).copied().collect()
}

#[test]
fn all_ports_of_one_address_leave_a_leecher_all_20_seeders() {
    let daemon = SIMPLE.start_with_metrics("");
    flood(&daemon, [2].into_iter(), u16::MAX);
    let mut leecher = at(&daemon, 3);
    for _ in 0..20 {
        let peers = handed_out(&mut leecher);
        assert_eq!(peers.len(), 50, "an answer is as long as ever");
        assert_eq!(honest_among(&peers), honest_addresses());
    }
    let kept_out = "aquatic_refused_total{reason=peers_per_ip_and_torrent,ip_version=4}";
    metrics::wait_for(&daemon, &[(kept_out, f64::from(u16::MAX - 64))]);
    daemon.wait_for_warning(
        "announces answered without keeping the peer, whose address has too many in the torrent: ",
        "see `limits.max_peers_per_ip_and_torrent`",
    );
    assert_eq!(
        leecher.scrape(&[torrent(1)]),
        [row(64 + u32::from(HONEST), 0, 1)]
    );
}

/// The same without the bounds: so it was. The seeders are about one in a thousand.
#[test]
fn without_the_bounds_one_address_has_nearly_all_places() {
    let daemon = SIMPLE
        .start("limits.max_peers_per_ip_and_torrent = 0\nprotocol.max_response_peers_per_ip = 0");
    flood(&daemon, [2].into_iter(), 20_000);
    let mut leecher = at(&daemon, 3);
    let honest = (0..50).map(|_| honest_among(&handed_out(&mut leecher)).len());
    assert!(honest.sum::<usize>() < 25);
}

#[test]
fn an_answer_has_three_peers_of_an_address_as_long_as_there_are_others() {
    on_every_setup(|setup| {
        let daemon = setup.start("protocol.max_response_peers = 30");
        // 15 attackers with 60 peers each: with the honest ones enough for three of each.
        flood(&daemon, 2..17, 60);
        let mut leecher = at(&daemon, 50);
        for _ in 0..20 {
            let peers = handed_out(&mut leecher);
            assert_eq!(peers.len(), 30);
            for peer in &peers {
                let same = peers.iter().filter(|other| other.ip() == peer.ip());
                assert!(same.count() <= 3, "{peers:?}");
            }
        }
    });
}

/// Clients behind one address of a provider: those that are too many are answered, and those that
/// are there stay.
#[test]
fn who_is_too_many_is_answered_but_not_kept() {
    let settings = "limits.max_peers_per_ip_and_torrent = 5";
    on_every_setup_and_family(settings, |daemon, family| {
        let mut client = Client::new(daemon, family);
        for port in 1..=5 {
            assert_eq!(
                client.join(torrent(1), port, LEECHER).leechers,
                u32::from(port)
            );
        }
        for port in 6..=80 {
            let answer = client.join(torrent(1), port, LEECHER);
            assert_eq!((answer.leechers, answer.ports), (5, vec![1, 2, 3, 4, 5]));
        }
        assert_eq!(
            client.join(torrent(1), 1, SEEDER).seeders,
            1,
            "it may renew"
        );
        assert_eq!(
            client.join(torrent(2), 6, LEECHER).leechers,
            1,
            "another torrent"
        );
        let event = AnnounceEvent::Stopped;
        let leaving = client.peer(torrent(1), 2, LEECHER);
        client.announce(&AnnounceRequest { event, ..leaving });
        assert_eq!(
            client.join(torrent(1), 6, LEECHER).leechers,
            4,
            "there is room"
        );
        assert_eq!(client.join(torrent(1), 2, LEECHER).ports, [1, 3, 4, 5, 6]);
    });
}

#[test]
fn going_to_and_fro_is_one_download() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let event = AnnounceEvent::Completed;
        for _ in 0..5 {
            client.join(torrent(1), 1, LEECHER);
            let peer = client.peer(torrent(1), 1, SEEDER);
            client.announce(&AnnounceRequest { event, ..peer });
            assert_eq!(client.scrape(&[torrent(1)]), [row(1, 1, 0)]);
        }
    });
}
