//! Who is known where, and for how long.

use aquatic_cluster::bus::Channel;
use aquatic_cluster::nodes::NodeState;
use aquatic_cluster::replica::Replica as _;
use aquatic_config::MemoryLimit;
use aquatic_types::AnnounceEvent;
use aquatic_ws::cluster::counters::MemberOutcome;

use super::client::{Got, torrent};
use super::cluster::{Cluster, Fate, LIFE_SECONDS, REFRESH_SECONDS, config};

/// A client at each node, all in one torrent: the first is a seeder.
fn crowd(nodes: usize) -> (Cluster, Vec<usize>) {
    let mut cluster = Cluster::new(nodes, &config(2, 0));
    let clients: Vec<_> = (0..nodes).map(|node| cluster.connect(node)).collect();
    for client in &clients {
        seed(&mut cluster, *client, *client == 0, AnnounceEvent::None);
    }
    (cluster, clients)
}

fn seed(cluster: &mut Cluster, client: usize, is_seeder: bool, event: AnnounceEvent) {
    let (peer, bytes_left) = (b'a' + u8::try_from(client).unwrap(), !is_seeder);
    let bytes_left = Some(u64::from(bytes_left));
    cluster.announce_in(torrent(1), client, peer, bytes_left, event, &[]);
    cluster.settle();
}

/// What all living nodes say of the torrent.
fn counts(cluster: &mut Cluster) -> Vec<(u32, u32, u32)> {
    let living = (0..cluster.nodes.len()).filter(|node| !cluster.nodes[*node].is_dead);
    let living: Vec<_> = living.collect();
    let asked = living.into_iter().map(|node| {
        let client = cluster.connect(node);
        let counts = cluster.scrape(client, torrent(1));
        cluster.fail(client);
        counts
    });
    asked.collect()
}

#[test]
fn all_nodes_count_all_members() {
    let (mut cluster, clients) = crowd(3);
    assert_eq!(counts(&mut cluster), [(1, 2, 0); 3]);
    cluster.announce(clients[1], b'b', &[]);
    assert_eq!(cluster.take(clients[1]).last(), Some(&Got::Counts(1, 2)));
    for node in 0..3 {
        assert_eq!(cluster.peers(node), 3);
    }
}

#[test]
fn a_download_is_counted_once_and_everywhere() {
    let (mut cluster, _) = crowd(3);
    cluster.fate = Box::new(|_, _, _| Fate::Twice);
    for (is_seeder, event) in [
        (false, AnnounceEvent::Completed),
        (true, AnnounceEvent::Completed),
        (true, AnnounceEvent::Completed),
        (false, AnnounceEvent::None),
        (true, AnnounceEvent::Completed),
    ] {
        seed(&mut cluster, 1, is_seeder, event);
        let seeders = 1 + u32::from(is_seeder);
        assert_eq!(counts(&mut cluster), [(seeders, 3 - seeders, 1); 3]);
    }
    cluster.pass(2 * REFRESH_SECONDS);
    assert_eq!(counts(&mut cluster), [(2, 1, 1); 3]);
}

#[test]
fn who_changes_is_told_of_and_who_says_the_same_is_not() {
    let (mut cluster, clients) = crowd(2);
    cluster.published.clear();
    for client in &clients {
        seed(&mut cluster, *client, *client == 0, AnnounceEvent::None);
    }
    assert_eq!(cluster.published, []);
    seed(&mut cluster, 0, false, AnnounceEvent::None);
    assert_eq!(cluster.published, [(0, Channel::Members)]);
    assert_eq!(counts(&mut cluster), [(0, 2, 0); 2]);
}

#[test]
fn who_leaves_is_gone_everywhere() {
    let (mut cluster, clients) = crowd(3);
    cluster.leave(clients[2], b'c');
    assert_eq!(counts(&mut cluster), [(1, 1, 0); 3]);
    cluster.fail(clients[1]);
    assert_eq!(counts(&mut cluster), [(1, 0, 0); 3]);
    // Nothing comes from it, not even answers to pings.
    cluster.clients[clients[0]].is_deaf = true;
    cluster.pass(300);
    assert_eq!(counts(&mut cluster), [(0, 0, 0); 3]);
}

/// The servers had lost from the log that somebody left, but not the return.
#[test]
fn who_has_come_back_does_not_leave_when_that_is_published_again() {
    for tenths in 0..10 {
        let (mut cluster, clients) = crowd(3);
        cluster.micros += tenths * 100_000;
        cluster.leave(clients[1], b'b');
        cluster.settle();
        let departure = cluster.logged() - 1;
        seed(&mut cluster, clients[1], false, AnnounceEvent::None);
        assert_eq!(counts(&mut cluster), [(1, 2, 0); 3]);
        for _ in 0..2 {
            cluster.pass(6);
            cluster.publish_again(departure);
            assert_eq!(counts(&mut cluster), [(1, 2, 0); 3], "{tenths}");
        }
    }
}

/// More than a shard can say at once, without being asked again.
#[test]
fn all_that_waits_is_published() {
    let mut cluster = Cluster::new(2, &config(1, 1));
    for number in 0..10_000_u16 {
        let client = usize::from(number / 900);
        if client == cluster.clients.len() {
            cluster.connect(0);
        }
        let mut info_hash = torrent(7);
        info_hash.0[..2].copy_from_slice(&number.to_be_bytes());
        let (bytes, event) = (Some(1), AnnounceEvent::None);
        cluster.announce_in(info_hash, client, b'm', bytes, event, &[]);
    }
    for _ in 0..200 {
        cluster.work(0);
    }
    let now = cluster.now_at(0);
    let mut records = 0;
    cluster.nodes[0].replica.collect();
    for _ in 0..10 {
        let replica = &mut cluster.nodes[0].replica;
        replica.finish(now, &mut |it| records += it.body.records());
        cluster.answer_all(0);
    }
    assert_eq!(records, 10_000);
}

/// Those who say nothing for hours, but whose connections live.
#[test]
fn who_stays_is_told_of_again_and_again() {
    let (mut cluster, clients) = crowd(3);
    for _ in 0..20 {
        cluster.published.clear();
        cluster.pass(REFRESH_SECONDS);
        assert_eq!(counts(&mut cluster), [(1, 2, 0); 3]);
    }
    // Each node has one member, which is told of once in that time, or a little later.
    for node in 0..3 {
        let published = cluster.published.iter().filter(|it| it.0 == node).count();
        assert!((0..=2).contains(&published), "{published}");
    }
    let published = cluster.members(0, MemberOutcome::Published);
    assert!((20..=23).contains(&published), "{published}");
    assert!(cluster.clients[clients[0]].is_open);
}

/// Whatever is lost on the way back comes once more.
#[test]
fn who_is_told_of_no_more_is_forgotten() {
    let (mut cluster, _) = crowd(3);
    cluster.fate = Box::new(|from, _, _| match from {
        0 => Fate::Lost,
        _ => Fate::Arrives,
    });
    cluster.pass(LIFE_SECONDS - REFRESH_SECONDS - 60);
    assert_eq!(counts(&mut cluster), [(1, 2, 0); 3]);
    cluster.pass(LIFE_SECONDS + 60);
    assert_eq!(counts(&mut cluster), [(1, 2, 0), (0, 2, 0), (0, 2, 0)]);
    cluster.fate = Box::new(|_, _, _| Fate::Arrives);
    cluster.pass(REFRESH_SECONDS + 31);
    assert_eq!(counts(&mut cluster), [(1, 2, 0); 3]);
}

#[test]
fn one_lost_record_makes_no_difference() {
    let (mut cluster, _) = crowd(2);
    let mut heard = [0; 2];
    cluster.fate = Box::new(move |from, to, _| {
        heard[to] += usize::from(from != to);
        match heard[to] % 2 {
            0 => Fate::Arrives,
            _ => Fate::Lost,
        }
    });
    for _ in 0..20 {
        cluster.pass(REFRESH_SECONDS);
        assert_eq!(counts(&mut cluster), [(1, 1, 0); 2]);
    }
}

#[test]
fn members_of_a_node_that_has_gone_go_soon() {
    let (mut cluster, _) = crowd(3);
    cluster.kill(0);
    cluster.pass(1);
    assert_eq!(counts(&mut cluster), [(1, 2, 0); 2]);
    cluster.think(1, 0, NodeState::Gone);
    cluster.pass(1);
    assert_eq!(counts(&mut cluster), [(0, 2, 0), (1, 2, 0)]);
    assert_eq!([1, 2].map(|node| cluster.peers(node)), [2, 3]);
    cluster.think(2, 0, NodeState::Silent);
    cluster.pass(2);
    assert_eq!(counts(&mut cluster), [(0, 2, 0), (1, 2, 0)]);
    cluster.think(2, 0, NodeState::Gone);
    cluster.pass(1);
    assert_eq!(counts(&mut cluster), [(0, 2, 0); 2]);
}

/// Also a large swarm, which is swept a slice at a time.
#[test]
fn a_large_swarm_is_rid_of_a_node_and_keeps_the_others() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    for number in 0..600 {
        let client = cluster.connect(usize::from(number % 3 > 0));
        cluster.announce(client, u8::try_from(number % 251).unwrap(), &[]);
    }
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [600, 600]);
    cluster.think(0, 1, NodeState::Gone);
    cluster.pass(1);
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [200, 600]);
    // It was heard again: what it tells counts again.
    cluster.think(0, 1, NodeState::Alive);
    cluster.pass(REFRESH_SECONDS + 31);
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [600, 600]);
}

/// A list is one tracker's own.
#[test]
fn a_torrent_that_is_denied_here_has_no_members_here() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    let denied = |torrents: &[u8]| torrents.iter().map(|it| torrent(*it)).collect();
    cluster.nodes[0].access_list.replace(denied(&[1]));
    cluster.pass(1);
    let bob = cluster.connect(1);
    for number in [1, 2] {
        let (bytes, event) = (Some(1), AnnounceEvent::None);
        cluster.announce_in(torrent(number), bob, b'b', bytes, event, &[]);
    }
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [1, 2]);
    assert_eq!(cluster.members(0, MemberOutcome::Forbidden), 1);
    // Those that were there before go with the next cleaning, and come back with a later one.
    cluster.nodes[0].access_list.replace(denied(&[2]));
    cluster.pass(31);
    assert!(cluster.peers(0) <= 1);
    cluster.pass(REFRESH_SECONDS + 31);
    let client = cluster.connect(0);
    assert_eq!(cluster.scrape(client, torrent(1)), (0, 1, 0));
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [1, 2]);
}

#[test]
fn software_that_is_not_served_here_is_not_met_here() {
    let [mut strict, usual] = [config(1, 0), config(1, 0)];
    strict.access_list.peer_id_prefixes_deny = "bbb".parse().into_iter().collect();
    let mut cluster = Cluster::of(&[strict, usual]);
    for peer in [b'b', b'c'] {
        let client = cluster.connect(1);
        cluster.announce(client, peer, &[]);
    }
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [1, 2]);
}

/// Its share of a swarm is that of all nodes together.
#[test]
fn one_address_has_its_share_of_a_swarm_whatever_the_nodes() {
    let mut config = config(1, 0);
    config.limits.addresses.max_peers_per_ip_and_torrent = 3;
    let mut cluster = Cluster::new(2, &config);
    for number in 0..6 {
        let client = cluster.connect_from(number % 2, [198, 51, 100, 1]);
        cluster.announce(client, u8::try_from(number).unwrap(), &[]);
        cluster.settle();
    }
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [3, 3]);
}

#[test]
fn members_of_other_nodes_count_among_all_but_not_as_clients_here() {
    let [mut small, usual] = [config(1, 0), config(1, 0)];
    small.limits.connections.tracker.max_peers = 5;
    small.limits.connections.tracker.max_peers_per_ip = 2;
    let mut cluster = Cluster::of(&[small, usual]);
    for number in 0..4 {
        let client = cluster.connect_from(1, [198, 51, 100, 1]);
        cluster.announce(client, number, &[]);
        cluster.settle();
    }
    // None of those is a client here.
    let client = cluster.connect_from(0, [198, 51, 100, 1]);
    cluster.announce(client, 10, &[]);
    assert_eq!(cluster.take(client), [Got::Counts(0, 5)]);
    // But they are peers.
    cluster.announce(client, 11, &[]);
    let refusal = "tracker is full: no new peers for now";
    assert_eq!(cluster.take(client), [Got::Refusal(refusal.to_owned())]);
    let other = cluster.connect(1);
    cluster.announce(other, 12, &[]);
    assert_eq!([0, 1].map(|node| cluster.peers(node)), [5, 6]);
    assert_eq!(cluster.members(0, MemberOutcome::Full), 1);
}

/// Who floods swarms at another node gives way here, too.
#[test]
fn memory_is_shared_with_members_of_other_nodes() {
    let [mut small, usual] = [config(1, 0), config(1, 0)];
    small.limits.connections.tracker.max_swarm_memory = MemoryLimit::Bytes(1 << 20);
    let mut cluster = Cluster::of(&[small, usual]);
    for number in 0..8_000_u16 {
        let mut info_hash = torrent(7);
        info_hash.0[..2].copy_from_slice(&number.to_be_bytes());
        if number % 800 == 0 {
            cluster.settle();
            let client = cluster.connect_from(1, [198, 51, 100, 1]);
            assert_eq!(client, usize::from(number / 800));
        }
        let (client, bytes, event) = (usize::from(number / 800), Some(1), AnnounceEvent::None);
        cluster.announce_in(info_hash, client, b'f', bytes, event, &[]);
    }
    let flood = cluster.peers(0);
    assert!((1_000..7_000).contains(&flood), "{flood} of 8,000");
    assert!(cluster.members(0, MemberOutcome::Full) > 0);
    for number in 0..20 {
        let client = cluster.connect(0);
        let (bytes, event) = (Some(1), AnnounceEvent::None);
        cluster.announce_in(torrent(100 + number), client, b'h', bytes, event, &[]);
        let got = cluster.take(client);
        assert_eq!(got, [Got::Counts(0, 1)], "{number}");
    }
}
