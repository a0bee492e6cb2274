//! Whether each peer is handed out as often as any other, in swarms of every form.

use std::collections::HashMap;

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};

use crate::{Announce, HashKey, Keep, Limits, TorrentMap};

const ROUNDS: u32 = 20_000;

/// A swarm of `peers`, every third a seeder; then one more peer announces, again and again.
fn assert_fair(peers: u16, announcer: PeerStatus, wanted: u16) {
    let mut map = TorrentMap::new(HashKey::new([8, 9]), Limits::default());
    let mut rng = fastrand::Rng::with_seed(u64::from(peers));
    let torrent = map.key(InfoHash([1; 20]));
    let announce = |peer: u16, status, num_want| Announce {
        peer: CompactV4([10, 0, peer.to_be_bytes()[0], peer.to_be_bytes()[1], 0, 1]),
        status,
        completed: false,
        num_want,
    };
    let is_seeder = |peer: u16| peer.is_multiple_of(3);
    for peer in 0..peers {
        let status = if is_seeder(peer) {
            PeerStatus::Seeder
        } else {
            PeerStatus::Leecher
        };
        let announce = announce(peer, status, 0);
        let keep = &mut Keep(peer);
        map.announce(&torrent, &announce, Seconds(0), keep, &mut rng, |_, _| ())
            .unwrap();
    }
    let mut outside = Drawn::default();
    for _ in 0..ROUNDS {
        let count = |_: &CompactV4, peer: &u16| outside.count(*peer);
        map.select_peers(&torrent, (announcer, None), wanted.into(), &mut rng, count);
    }
    let mut inside = Drawn::default();
    for _ in 0..ROUNDS {
        let announce = announce(u16::MAX, announcer, wanted);
        let count = |_: &CompactV4, peer: &u16| inside.count(*peer);
        let keep = &mut Keep(u16::MAX);
        map.announce(&torrent, &announce, Seconds(0), keep, &mut rng, count)
            .unwrap();
    }
    let pool: Vec<u16> = (0..peers)
        .filter(|peer| announcer == PeerStatus::Leecher || !is_seeder(*peer))
        .collect();
    inside.assert_fair(&pool, wanted.into());
    outside.assert_fair(&pool, wanted.into());
}

/// How often each peer was handed out in [`ROUNDS`] answers.
#[derive(Default)]
struct Drawn(HashMap<u16, u32>);

impl Drawn {
    fn count(&mut self, peer: u16) {
        *self.0.entry(peer).or_default() += 1;
    }

    fn assert_fair(&self, pool: &[u16], wanted: usize) {
        let known = self.0.keys().all(|peer| pool.contains(peer));
        assert!(known, "someone who is not eligible");
        let count = |number: usize| f64::from(u32::try_from(number).unwrap());
        let probability = count(wanted) / count(pool.len());
        let expected = f64::from(ROUNDS) * probability;
        let deviation = (expected * (1.0 - probability)).sqrt();
        for peer in pool {
            let times = f64::from(self.0.get(peer).copied().unwrap_or(0));
            assert!(
                (times - expected).abs() <= 5.0 * deviation,
                "peer {peer} of {} came {times} times, {expected} expected",
                pool.len()
            );
        }
    }
}

#[test]
fn the_smallest_swarms_are_fair() {
    // Of two inline peers one is the announcer: there is a choice from three peers on.
    assert_fair(2, PeerStatus::Leecher, 1);
    assert_fair(3, PeerStatus::Seeder, 1);
}

#[test]
fn lists_are_fair() {
    assert_fair(40, PeerStatus::Leecher, 7);
    assert_fair(60, PeerStatus::Leecher, 50);
    assert_fair(60, PeerStatus::Seeder, 30);
}

#[test]
fn large_swarms_are_fair() {
    assert_fair(300, PeerStatus::Leecher, 50);
    assert_fair(300, PeerStatus::Seeder, 50);
    assert_fair(1_000, PeerStatus::Leecher, 74);
}

/// A swarm of `peers`, every third a seeder, of whom every fifth does not suit the announcer, a
/// seeder: it is introduced to others of them, again and again.
fn assert_introductions_are_fair(peers: u16, wanted: usize) {
    let mut map = TorrentMap::new(HashKey::new([8, 9]), Limits::default());
    let mut rng = fastrand::Rng::with_seed(u64::from(peers) << 16);
    let torrent = map.key(InfoHash([1; 20]));
    let key = |peer: u16| CompactV4([10, 0, peer.to_be_bytes()[0], peer.to_be_bytes()[1], 0, 1]);
    for peer in 0..peers {
        let announce = Announce {
            peer: key(peer),
            status: match peer.is_multiple_of(3) {
                true => PeerStatus::Seeder,
                false => PeerStatus::Leecher,
            },
            completed: false,
            num_want: 0,
        };
        let keep = &mut Keep(peer);
        map.announce(&torrent, &announce, Seconds(0), keep, &mut rng, |_, _| ())
            .unwrap();
    }
    let suits = |peer: u16| !peer.is_multiple_of(5);
    let announcer = 3;
    let mut drawn = Drawn::default();
    for _ in 0..ROUNDS {
        let mut met = Vec::new();
        map.introduce(&torrent, &key(announcer), wanted, &mut rng, |_, peer| {
            if suits(*peer) {
                met.push(*peer);
            }
            suits(*peer)
        });
        let size = met.len();
        met.iter().for_each(|peer| drawn.count(*peer));
        met.sort_unstable();
        met.dedup();
        assert_eq!(met.len(), size, "twice the same");
    }
    let pool: Vec<u16> = (0..peers)
        .filter(|peer| suits(*peer) && *peer != announcer)
        .collect();
    let total: u32 = drawn.0.values().sum();
    let each = u32::try_from(wanted.min(pool.len())).unwrap();
    assert_eq!(total, ROUNDS * each, "exactly as many as wanted");
    drawn.assert_fair(&pool, wanted.min(pool.len()));
}

#[test]
fn introductions_are_fair_and_as_many_as_wanted_whoever_is_turned_down() {
    for (peers, wanted) in [(4, 1), (10, 3), (10, 10), (40, 10), (100, 10), (200, 100)] {
        assert_introductions_are_fair(peers, wanted);
    }
    assert_introductions_are_fair(1_000, 10);
}
