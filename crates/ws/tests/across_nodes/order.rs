//! What happened when, of which a node hears by the bus and reads in the log.

use aquatic_types::AnnounceEvent;

use super::client::{Got, torrent};
use super::cluster::{Cluster, config};

fn counts_at(cluster: &mut Cluster, node: usize) -> (u32, u32, u32) {
    let client = cluster.connect(node);
    let counts = cluster.scrape(client, torrent(1));
    cluster.fail(client);
    cluster.settle();
    counts
}

/// Shards hear what clients say at once, and other nodes so many milliseconds later.
fn tell_after(cluster: &mut Cluster, millis: u64) {
    let nodes = cluster.nodes.len();
    (0..nodes).for_each(|node| cluster.work(node));
    cluster.micros += millis * 1_000;
    for _ in 0..3 {
        for node in 0..nodes {
            cluster.exchange(node);
            cluster.work(node);
        }
    }
}

/// Whenever in their seconds nodes say and hear it.
#[test]
fn what_follows_within_a_second_follows_at_all_nodes() {
    let begins = (0..1_000).step_by(50);
    let pauses = [0, 100, 300, 500, 700];
    let all = begins.flat_map(|begin| pauses.map(|pause| (begin, pause)));
    for ((begin, pause), delay) in all.zip([1, 60, 100].into_iter().cycle()) {
        let mut cluster = Cluster::new(3, &config(1, 0));
        cluster.micros += begin * 1_000;
        let (alice, bob) = (cluster.connect(0), cluster.connect(1));
        cluster.announce(alice, b'a', &[]);
        cluster.announce(bob, b'b', &[]);
        tell_after(&mut cluster, 1);
        cluster.micros += pause * 1_000;
        let event = AnnounceEvent::Completed;
        cluster.announce_in(torrent(1), alice, b'a', Some(0), event, &[]);
        cluster.leave(bob, b'b');
        tell_after(&mut cluster, delay);
        for node in 0..3 {
            let counts = counts_at(&mut cluster, node);
            assert_eq!(counts, (1, 0, 1), "{begin} {pause} {delay} at {node}");
        }
    }
}

/// Read after the departure was heard: in a part of the log that was fetched before.
#[test]
fn who_has_left_does_not_come_back_out_of_the_log() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    let alice = cluster.connect(0);
    cluster.announce(alice, b'a', &[]);
    cluster.settle();
    cluster.pass(3);
    cluster.leave(alice, b'a');
    cluster.settle();
    assert_eq!(counts_at(&mut cluster, 1), (0, 0, 0));
    cluster.read_log(1, 2_000);
    cluster.pass(6);
    assert_eq!(counts_at(&mut cluster, 1), (0, 0, 0));
    // Who comes back at once stays.
    cluster.announce(alice, b'a', &[]);
    cluster.settle();
    cluster.leave(alice, b'a');
    cluster.settle();
    cluster.announce(alice, b'a', &[]);
    cluster.settle();
    cluster.pass(10);
    assert_eq!(counts_at(&mut cluster, 1), (0, 1, 0));
}

/// It is read at each start of a tracker, by all.
#[test]
fn a_download_is_counted_once_however_often_the_log_is_read() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    let bob = cluster.connect(1);
    cluster.announce(bob, b'b', &[]);
    cluster.pass(1);
    let alice = cluster.connect(0);
    cluster.announce(alice, b'a', &[]);
    cluster.pass(2);
    let event = AnnounceEvent::Completed;
    cluster.announce_in(torrent(1), alice, b'a', Some(0), event, &[]);
    cluster.settle();
    cluster.leave(alice, b'a');
    cluster.settle();
    assert_eq!(counts_at(&mut cluster, 1), (0, 1, 1));
    cluster.pass(5);
    for _ in 0..3 {
        cluster.read_log(1, 0);
        cluster.settle();
        assert_eq!(counts_at(&mut cluster, 1), (0, 1, 1));
    }
}

/// A node that starts has heard of no download yet.
#[test]
fn a_download_is_counted_out_of_the_log_by_who_has_not_heard_of_it() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    cluster.fate = Box::new(|_, _, _| super::cluster::Fate::Lost);
    let alice = cluster.connect(0);
    cluster.announce(alice, b'a', &[]);
    cluster.settle();
    let event = AnnounceEvent::Completed;
    cluster.announce_in(torrent(1), alice, b'a', Some(0), event, &[]);
    cluster.pass(2);
    assert_eq!(counts_at(&mut cluster, 1), (0, 0, 0));
    cluster.read_log(1, 0);
    cluster.settle();
    assert_eq!(counts_at(&mut cluster, 1), (1, 0, 1));
}

/// Nobody here is to meet them.
#[test]
fn software_that_is_not_served_here_makes_no_offers_here_and_may_leave() {
    let [usual, other] = [config(1, 0), config(1, 0)];
    let mut cluster = Cluster::of(&[usual.clone(), other]);
    let (alice, bob) = (cluster.connect(0), cluster.connect(1));
    cluster.announce(alice, b'a', &[]);
    cluster.announce(bob, b'b', &[]);
    cluster.settle();
    cluster.take(alice);
    cluster.take(bob);
    let mut strict = usual;
    strict.access_list.peer_id_prefixes_deny = "bbb".parse().into_iter().collect();
    cluster.nodes[0].settings.set(strict.into());
    cluster.pass(1);
    cluster.announce(bob, b'b', &[1, 2]);
    assert_eq!(cluster.offers(alice), []);
    // Its offers are closed: whoever it was for can be offered something again.
    assert!(matches!(
        cluster.take(bob).as_slice(),
        [] | [Got::Counts(..)]
    ));
    cluster.leave(bob, b'b');
    cluster.settle();
    assert_eq!(counts_at(&mut cluster, 0), (0, 1, 0));
}
