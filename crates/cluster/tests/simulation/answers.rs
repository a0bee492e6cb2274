//! What clients are told.

use aquatic_access_list::AccessList;
use aquatic_tracker::shard::addresses::Taken;
use aquatic_types::{IpFamily, PeerStatus};

use crate::cluster::{Cluster, Settings};
use crate::node::{Address, Question};
use crate::population::{SECOND, info_hash};

const NODES: usize = 6;
const PEERS: u32 = 600;
const NUM_WANT: u16 = 50;
const ANSWERS: u32 = 4_000;

pub(crate) fn leecher(torrent: u32, number: u32, num_want: u16) -> Question {
    Question::Announce {
        torrent: info_hash(torrent),
        peer: Address::new(number, IpFamily::V4),
        status: PeerStatus::Leecher,
        completed: false,
        num_want,
    }
}

/// The node that a peer announces to. One has many peers, and another one few.
fn node_of(number: u32) -> usize {
    (number % 36).isqrt() as usize
}

/// Whoever has told of them, and however long ago.
#[test]
fn all_peers_of_a_swarm_are_equally_likely() {
    let mut cluster = Cluster::new(Settings {
        nodes: NODES,
        peers: 0,
        ticks_per_sample: 0,
        ..Settings::default()
    });
    for number in 0..PEERS {
        let now = cluster.now;
        cluster
            .node(node_of(number))
            .ask(now, [leecher(0, number, 0)]);
        cluster.pass(u64::from(number % 60 == 0));
    }
    cluster.pass(3);
    for asked in [0, 1, 5] {
        assert_equally_likely(&mut cluster, (0, PEERS), (asked, ANSWERS), &node_of);
    }
}

/// In a swarm of so many peers, of which each node has told of some: by answers of one of them.
pub(crate) fn assert_equally_likely(
    cluster: &mut Cluster,
    (torrent, peers): (u32, u32),
    (asked, answers): (usize, u32),
    node_of: &dyn Fn(u32) -> usize,
) {
    let mut times = vec![0_u32; peers as usize];
    let mut of_nodes = vec![Tally::default(); cluster.nodes.len()];
    for _ in 0..answers {
        let (now, question) = (cluster.now, leecher(torrent, peers, NUM_WANT));
        let [answer] = <[_; 1]>::try_from(cluster.node(asked).ask(now, [question])).unwrap();
        assert_eq!(answer.peers.len(), usize::from(NUM_WANT));
        let mut counts = vec![0_u32; of_nodes.len()];
        for peer in answer.peers {
            times[peer.number() as usize] += 1;
            counts[node_of(peer.number())] += 1;
        }
        for (tally, count) in of_nodes.iter_mut().zip(counts) {
            tally.add(f64::from(count));
        }
    }
    let expected = f64::from(answers) * f64::from(NUM_WANT) / f64::from(peers);
    let squares = times.iter().map(|it| (f64::from(*it) - expected).powi(2));
    let chi_square = squares.sum::<f64>() / expected;
    // Of this many degrees of freedom, with five standard deviations.
    let freedom = f64::from(peers - 1);
    println!("torrent {torrent}, asked {asked}: chi square {chi_square:.0} of {freedom}");
    assert!(
        chi_square < freedom + 5.0 * (2.0 * freedom).sqrt(),
        "{chi_square}"
    );
    // Neighbours may be in an answer together: that makes none of them more likely.
    for (node, tally) in of_nodes.iter().enumerate() {
        let here = (0..peers).filter(|number| node_of(*number) == node).count();
        if here == 0 {
            continue;
        }
        let part = f64::from(u32::try_from(here).unwrap()) / f64::from(peers);
        let deviation = tally.deviation_from(part * f64::from(NUM_WANT));
        println!("node {node}: {here} peers, {deviation:.1}");
        assert!(deviation.abs() < 5.0, "{deviation}");
    }
}

/// Independent values of one kind.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Tally {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    /// How far their mean is from this, in standard errors.
    fn deviation_from(&self, expected: f64) -> f64 {
        let mean = self.sum / self.count;
        let variance = self.squares / self.count - mean * mean;
        (mean - expected) / (variance / self.count).sqrt()
    }
}

/// Each node has a list of its own.
#[test]
fn what_a_node_forbids_does_not_come_to_it_from_others() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.pass(300);
    // The largest torrent, and one that nobody knows.
    let torrents = &cluster.population.torrents;
    let largest = (0..torrents.len())
        .max_by_key(|it| torrents[*it].len())
        .unwrap();
    assert!(cluster.look(2, largest).len() > 20);
    let largest_hash = info_hash(u32::try_from(largest).unwrap());
    let unknown = 1_000_000;
    let list: AccessList = [largest_hash, info_hash(unknown)].into_iter().collect();
    cluster.access_lists[2].replace(list);
    // Its own clients are refused before they come to the swarms.
    cluster.shunned = vec![2];
    cluster.pass(120);
    assert!(cluster.look(2, largest).is_empty());
    let now = cluster.now;
    cluster.node(0).ask(now, [leecher(unknown, 1, 0)]);
    let forbidden = cluster.taken(2, Taken::Forbidden);
    for _ in 0..30 {
        cluster.pass(10);
        let now = cluster.now;
        assert!(cluster.look(2, largest).is_empty());
        assert!(
            cluster
                .node(2)
                .look(now, info_hash(unknown))
                .known
                .is_empty()
        );
        for other in [1, 3] {
            assert!(cluster.look(other, largest).len() > 20);
            let known = cluster.node(other).look(now, info_hash(unknown)).known;
            assert_eq!(known.len(), 1);
        }
    }
    assert!(cluster.taken(2, Taken::Forbidden) > forbidden + 10);
    let all = cluster.compare_among(2, 2 * SECOND, &|it| it.torrent as usize != largest);
    assert_eq!((all.missing, all.left, all.mistaken), (0, 0, 0));
    // When it is allowed again, it comes again.
    cluster.access_lists[2].replace(AccessList::default());
    cluster.pass(640);
    assert_eq!(cluster.compare(2, 2 * SECOND).missing, 0);
}

/// All nodes count the same, whatever is lost and read in the log.
#[test]
fn downloads_are_counted_once_everywhere() {
    let conditions = aquatic_cluster::simulation::Conditions {
        one_lost_of: 50,
        one_doubled_of: 50,
        ..Default::default()
    };
    let mut cluster = Cluster::new(Settings {
        conditions,
        ..Settings::default()
    });
    cluster.pass(3_600);
    // What one side has published is published again afterwards.
    let half = cluster.nodes.len() / 2;
    cluster.part(|number| u8::from(number >= half));
    cluster.pass(600);
    cluster.part(|_| 0);
    cluster.pass(2 * 3_600);
    cluster.population.stop();
    cluster.pass(30);
    assert!(cluster.counters(0).log_reads.get() > 100);
    // A torrent that has had no peers for a while is forgotten, with what was counted.
    let torrents = cluster.population.torrents.iter().enumerate();
    let torrents = torrents.filter(|(_, sessions)| sessions.len() > 20);
    let torrents: Vec<usize> = torrents.map(|(torrent, _)| torrent).collect();
    let expected = torrents.iter().map(|it| cluster.population.completed[*it]);
    let expected: u32 = expected.sum();
    assert!(expected > 400, "{expected}");
    for node in 0..cluster.nodes.len() {
        let mut counted = 0;
        for torrent in torrents.iter().copied() {
            let (now, torrent) = (cluster.now, info_hash(u32::try_from(torrent).unwrap()));
            counted += cluster.node(node).look(now, torrent).completed;
        }
        println!("node {node}: {counted} of {expected}");
        let difference = counted.abs_diff(expected);
        assert!(difference <= expected / 100, "{counted}, {expected}");
    }
}
