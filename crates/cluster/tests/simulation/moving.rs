//! Peers that announce now here and now there.

use aquatic_test_support::seeds::for_each_seed;
use aquatic_types::{IpFamily, PeerStatus};
use fastrand::Rng;

use crate::cluster::{Cluster, Settings};
use crate::node::{AGE, ANNOUNCE_INTERVAL, Address, Question, REFRESH_INTERVAL};
use crate::population::{SECOND, info_hash};

const RUNS: u64 = 24;
const PEERS: u32 = 40;
const HOURS: u64 = 2;

/// What a peer does: where it announces, and when next.
struct Peer {
    next: u64,
    /// How often it goes where.
    weights: Vec<u32>,
    has_begun: bool,
}

impl Peer {
    fn new(nodes: usize, now: u64, rng: &mut Rng) -> Self {
        // Some nearly always go to the same one, some go round.
        let weight = |rng: &mut Rng| [1, 1, 10, 100][rng.usize(..4)];
        Self {
            next: now + rng.u64(..u64::from(ANNOUNCE_INTERVAL) * SECOND),
            weights: (0..nodes).map(|_| weight(rng)).collect(),
            has_begun: false,
        }
    }

    fn chooses(&self, rng: &mut Rng) -> usize {
        let mut chosen = rng.u32(..self.weights.iter().sum::<u32>());
        for (node, weight) in self.weights.iter().enumerate() {
            match chosen.checked_sub(*weight) {
                Some(rest) => chosen = rest,
                None => return node,
            }
        }
        unreachable!("it is less than the sum")
    }
}

/// In each window of each node somebody tells of them, whichever way they go; so everybody knows
/// them for as long as they announce, and has heard of them in the last R + I seconds.
#[test]
fn who_moves_is_known_everywhere_all_the_time() {
    for_each_seed(RUNS, |seed| {
        let mut rng = Rng::with_seed(seed);
        let nodes = 2 + (seed % 3) as usize;
        let mut cluster = Cluster::new(Settings {
            seed,
            nodes,
            peers: 0,
            tick: SECOND / 2,
            flush: SECOND / 2,
            ticks_per_sample: 0,
            ..Settings::default()
        });
        let peers = (0..PEERS).map(|_| Peer::new(nodes, cluster.now, &mut rng));
        let mut peers: Vec<Peer> = peers.collect();
        let mut least = AGE;
        let end = cluster.now + HOURS * 3_600 * SECOND;
        while cluster.now < end {
            let all_begun = peers.iter().all(|peer| peer.has_begun);
            for (number, peer) in (0..).zip(&mut peers) {
                if peer.next <= cluster.now {
                    let question = announce(number);
                    let (node, now) = (peer.chooses(&mut rng), cluster.now);
                    cluster.node(node).ask(now, [question]);
                    peer.next += u64::from(ANNOUNCE_INTERVAL) * SECOND;
                    peer.has_begun = true;
                }
            }
            cluster.pass(1);
            if all_begun {
                for node in 0..nodes {
                    let now = cluster.now;
                    let known = cluster.node(node).look(now, info_hash(0)).known;
                    assert_eq!(known.len(), PEERS as usize, "at {now}, node {node}");
                    let left = known.iter().map(|it| u32::from(it.seconds_left));
                    least = least.min(left.min().unwrap());
                }
            }
        }
        // A batch takes up to two ticks, and seconds are rounded.
        assert!(
            least >= AGE - REFRESH_INTERVAL - ANNOUNCE_INTERVAL - 5,
            "{least}"
        );
        // They are not told of each time for that.
        let announces = u64::from(PEERS) * HOURS * 3_600 / u64::from(ANNOUNCE_INTERVAL);
        let windows = HOURS * 3_600 / u64::from(REFRESH_INTERVAL) + 2;
        let published = cluster.published();
        assert!(published < announces, "{published}");
        assert!(published <= u64::from(PEERS) * windows * nodes as u64);
    });
}

fn announce(number: u32) -> Question {
    let family = match number % 5 {
        0 => IpFamily::V6,
        _ => IpFamily::V4,
    };
    Question::Announce {
        torrent: info_hash(0),
        peer: Address::new(number, family),
        status: PeerStatus::Leecher,
        completed: false,
        num_want: 0,
    }
}
