//! Whether each peer is handed out as often as any other, in swarms of every form.

use std::collections::HashMap;

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};

use crate::{Announce, HashKey, Limits, TorrentMap};

const ROUNDS: u32 = 20_000;

/// A swarm of `peers`, every third a seeder; then one more peer announces, again and again.
fn assert_fair(peers: u16, announcer: PeerStatus, wanted: u16) {
    let mut map = TorrentMap::new(HashKey::new([8, 9]), Limits::default());
    let mut rng = fastrand::Rng::with_seed(u64::from(peers));
    let torrent = map.key(InfoHash([1; 20]));
    let announce = |peer: u16, status, peers_wanted| Announce {
        peer: CompactV4([10, 0, peer.to_be_bytes()[0], peer.to_be_bytes()[1], 0, 1]),
        value: peer,
        status,
        completed: false,
        peers_wanted,
        deadline: Seconds(0),
    };
    let is_seeder = |peer: u16| peer.is_multiple_of(3);
    for peer in 0..peers {
        let status = if is_seeder(peer) {
            PeerStatus::Seeder
        } else {
            PeerStatus::Leecher
        };
        let announce = announce(peer, status, 0);
        map.announce(&torrent, announce, &mut rng, |_| true, |_, _| ())
            .unwrap();
    }
    let mut drawn = HashMap::<u16, u32>::new();
    for _ in 0..ROUNDS {
        let announce = announce(u16::MAX, announcer, usize::from(wanted));
        let hand_out = |_: &CompactV4, peer: &u16| *drawn.entry(*peer).or_default() += 1;
        map.announce(&torrent, announce, &mut rng, |_| true, hand_out)
            .unwrap();
    }
    let pool: Vec<u16> = (0..peers)
        .filter(|peer| announcer == PeerStatus::Leecher || !is_seeder(*peer))
        .collect();
    assert!(
        drawn.keys().all(|peer| pool.contains(peer)),
        "someone who is not eligible"
    );
    let probability = f64::from(wanted) / f64::from(u16::try_from(pool.len()).unwrap());
    let expected = f64::from(ROUNDS) * probability;
    let deviation = (expected * (1.0 - probability)).sqrt();
    for peer in pool {
        let times = f64::from(drawn.get(&peer).copied().unwrap_or(0));
        assert!(
            (times - expected).abs() < 5.0 * deviation,
            "peer {peer} of {peers} came {times} times, {expected} expected"
        );
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
