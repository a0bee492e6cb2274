//! One address that announces very many peers beside honest ones: identity is free.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use aquatic_test_support::program::{localhost, loopback};
use aquatic_test_support::{metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, SEEDER, announce, get, row};
use super::connection::Transport;
use super::setup::{SIMPLE, Tracker, on_every_case, on_every_case_and_family};

const HONEST: u8 = 20;

fn honest_addresses() -> BTreeSet<IpAddr> {
    (100..100 + HONEST).map(loopback).collect()
}

/// Announces each port as a seeder, many at a time.
fn flood(client: &mut Client, ports: impl IntoIterator<Item = u16>) {
    let ports: Vec<_> = ports.into_iter().collect();
    for ports in ports.chunks(64) {
        // An answer holds no peers, so that all fit into the socket's buffer.
        let request = |port| get(&(announce(torrent(1), port, SEEDER) + "&numwant=0"));
        let requests = ports.iter().map(|port| request(*port));
        client.connection.send(requests.collect::<String>());
        ports.iter().for_each(|_| drop(client.connection.answer()));
    }
}

fn honest_among(peers: &[SocketAddr]) -> BTreeSet<IpAddr> {
    let ips: BTreeSet<_> = peers.iter().map(SocketAddr::ip).collect();
    ips.intersection(&honest_addresses()).copied().collect()
}

#[test]
fn all_ports_of_one_address_leave_a_leecher_all_20_seeders() {
    let daemon = SIMPLE.start_with_metrics("");
    let tracker = daemon.address(IpFamily::V4);
    let at = |host| Client::between(loopback(host), tracker, Transport::Plain);
    let mut attacker = at(2);
    flood(&mut attacker, 1..30_000);
    for host in 100..100 + HONEST {
        at(host).join(torrent(1), 6_881, SEEDER);
    }
    flood(&mut attacker, 30_000..=u16::MAX);
    let mut leecher = at(3);
    for _ in 0..20 {
        let peers = leecher.join(torrent(1), 6_881, LEECHER).peers;
        assert_eq!(peers.len(), 50, "an answer is as long as ever");
        assert_eq!(honest_among(&peers), honest_addresses());
    }
    let kept_out = "aquatic_refused_total{reason=peers_per_ip_and_torrent,ip_version=4}";
    metrics::wait_for(&daemon, &[(kept_out, f64::from(u16::MAX - 64))]);
    daemon.wait_for_warning(
        "announces answered without keeping the peer, whose address has too many in the torrent: ",
        "see `limits.max_peers_per_ip_and_torrent`",
    );
    let seeders = 64 + i64::from(HONEST);
    assert_eq!(leecher.scrape(&[torrent(1)]), [row(seeders, 0, 1)]);
}

/// The same without the bounds: so it was.
#[test]
fn without_the_bounds_one_address_has_nearly_all_places() {
    let daemon = SIMPLE
        .start("limits.max_peers_per_ip_and_torrent = 0\nprotocol.max_response_peers_per_ip = 0");
    let tracker = daemon.address(IpFamily::V4);
    let at = |host| Client::between(loopback(host), tracker, Transport::Plain);
    flood(&mut at(2), 1..=20_000);
    for host in 100..100 + HONEST {
        at(host).join(torrent(1), 6_881, SEEDER);
    }
    let mut leecher = at(3);
    let honest = (0..50).map(|_| {
        let peers = leecher.join(torrent(1), 6_881, LEECHER).peers;
        honest_among(&peers).len()
    });
    assert!(honest.sum::<usize>() < 25);
}

/// An answer is one for both families: what fills up one half is taken of the other, if that has
/// addresses that have not had their share.
#[test]
fn one_network_of_the_other_family_leaves_all_20_seeders() {
    on_every_case(|case| {
        for attackers in [30, 60] {
            let tracker = case.start("");
            let address = tracker.address(IpFamily::V4);
            flood(&mut Client::new(&tracker, IpFamily::V6), 1..=attackers);
            for host in 100..100 + HONEST {
                Client::between(loopback(host), address, tracker.transport).join(
                    torrent(1),
                    6_881,
                    SEEDER,
                );
            }
            for ip in [loopback(3), localhost(IpFamily::V6)] {
                let address = tracker.address(IpFamily::of(&SocketAddr::new(ip, 0)));
                let mut leecher = Client::between(ip, address, tracker.transport);
                for _ in 0..10 {
                    let target = announce(torrent(1), 65_000, LEECHER) + "&numwant=30";
                    let answer = leecher.get(&target).value();
                    let peers = super::client::Announced::read(&answer).peers;
                    assert_eq!(peers.len(), 30);
                    assert_eq!(honest_among(&peers), honest_addresses());
                }
                leecher.announce((torrent(1), 65_000, LEECHER), "&event=stopped");
            }
        }
    });
}

/// Clients behind one address of a provider: those that are too many are answered, and those that
/// are there stay.
#[test]
fn who_is_too_many_is_answered_but_not_kept() {
    let settings = "limits.max_peers_per_ip_and_torrent = 5";
    on_every_case_and_family(settings, |tracker: &Tracker, family| {
        let mut client = Client::new(tracker, family);
        let [own, other] = match family {
            IpFamily::V4 => [1, 2],
            IpFamily::V6 => [3, 4],
        };
        for port in 1..=5 {
            let announced = client.join(torrent(own), port, LEECHER);
            assert_eq!(announced.leechers, i64::from(port));
        }
        for port in 6..=80 {
            let answer = client.join(torrent(own), port, LEECHER);
            assert_eq!((answer.leechers, answer.ports()), (5, vec![1, 2, 3, 4, 5]));
        }
        assert_eq!(
            client.join(torrent(own), 1, SEEDER).seeders,
            1,
            "it may renew"
        );
        assert_eq!(
            client.join(torrent(other), 6, LEECHER).leechers,
            1,
            "another torrent"
        );
        client.announce((torrent(own), 2, LEECHER), "&event=stopped");
        assert_eq!(
            client.join(torrent(own), 6, LEECHER).leechers,
            4,
            "there is room"
        );
        let answer = client.join(torrent(own), 2, LEECHER);
        assert_eq!(answer.ports(), [1, 3, 4, 5, 6]);
    });
}

#[test]
fn going_to_and_fro_is_one_download() {
    on_every_case_and_family("", |tracker: &Tracker, family| {
        let mut client = Client::new(tracker, family);
        let own = torrent(if family == IpFamily::V4 { 1 } else { 2 });
        for _ in 0..5 {
            client.join(own, 1, LEECHER);
            client.announce((own, 1, SEEDER), "&event=completed");
            assert_eq!(client.scrape(&[own]), [row(1, 1, 0)]);
        }
    });
}
