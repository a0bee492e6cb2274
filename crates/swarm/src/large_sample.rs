//! Some of the large swarms, the larger the more likely.
//!
//! Torrents that are drawn by chance are small ones nearly always, while most of the memory may be
//! in a few large swarms. So those are sampled apart: all of them as each pass of cleaning meets
//! them, and since the last one those that peers have joined.
//!
//! Joins cost nothing to those who leave again. So they never take a place of what cleaning has
//! met, and of what is drawn, half is from there: nobody can hide a large swarm for longer than
//! until the next pass by joining others.

use aquatic_types::InfoHash;

/// Places of a sample; the same swarm may have several.
const PLACES: usize = 32;

/// See the [module](self).
pub(crate) struct LargeSample {
    /// What the last whole pass of cleaning has met.
    met: Sample,
    /// What the present one has met so far.
    next: Sample,
    /// What peers have joined since the last one.
    joined: Sample,
    rng: fastrand::Rng,
}

#[derive(Default)]
struct Sample {
    swarms: Vec<InfoHash>,
    /// What it is a sample of.
    peers: u64,
}

impl LargeSample {
    /// Who knows the seed can tell which swarms are sampled.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            met: Sample::default(),
            next: Sample::default(),
            joined: Sample::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// A large swarm has got one more peer.
    pub(crate) fn grows(&mut self, info_hash: &InfoHash) {
        let Sample { swarms, peers } = &mut self.joined;
        *peers += 1;
        if swarms.len() < PLACES {
            swarms.push(*info_hash);
            return;
        }
        // Each peer is as likely to be among the sampled ones (Waterman's algorithm R).
        let at = usize::try_from(self.rng.u64(..*peers));
        if let Some(place) = at.ok().and_then(|at| swarms.get_mut(at)) {
            *place = *info_hash;
        }
    }

    /// Cleaning has met a large swarm with so many peers.
    pub(crate) fn meets(&mut self, info_hash: &InfoHash, peers: u32) {
        let peers = u64::from(peers);
        if peers == 0 {
            return;
        }
        self.next.peers += peers;
        self.next.swarms.resize(PLACES, *info_hash);
        for place in &mut self.next.swarms {
            if self.rng.u64(..self.next.peers) < peers {
                *place = *info_hash;
            }
        }
    }

    /// A pass of cleaning has ended.
    pub(crate) fn pass_ends(&mut self) {
        self.met = std::mem::take(&mut self.next);
        // What has joined during the pass may have been behind it, and stays until others join.
        self.joined.peers = self.joined.swarms.len() as u64;
    }

    /// Peers in large swarms, as the last pass of cleaning has met them.
    pub(crate) fn peers(&self) -> u64 {
        self.met.peers
    }

    /// Swarms drawn by chance. Some may be there no longer, or no longer be large.
    pub(crate) fn draw(
        &self,
        count: usize,
        rng: &mut fastrand::Rng,
    ) -> impl Iterator<Item = InfoHash> {
        let (mut one, mut other) = (&self.met.swarms, &self.joined.swarms);
        (0..count).filter_map(move |_| {
            (one, other) = (other, one);
            let sample = if one.is_empty() { other } else { one };
            rng.choice(sample).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use aquatic_types::{CompactAddr, CompactV4, PeerStatus, Seconds};

    use super::*;
    use crate::{
        Announce, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits, TorrentMap,
    };

    fn swarm(number: u8) -> InfoHash {
        InfoHash([number; 20])
    }

    /// How many of 16 that are drawn are this one, about.
    fn drawn(sample: &LargeSample, swarm: InfoHash) -> usize {
        let mut rng = fastrand::Rng::with_seed(1);
        let drawn = sample.draw(1_600, &mut rng);
        drawn.filter(|it| *it == swarm).count() / 100
    }

    #[test]
    fn larger_swarms_are_in_it_more_often() {
        let mut first = 0;
        for seed in 0..100 {
            let mut sample = LargeSample::new(seed);
            assert_eq!(drawn(&sample, swarm(1)), 0);
            (2..102).for_each(|number| sample.meets(&swarm(number), 100));
            sample.meets(&swarm(1), 30_000);
            (102..202).for_each(|number| sample.meets(&swarm(number), 100));
            assert_eq!(drawn(&sample, swarm(1)), 0, "the pass goes on");
            sample.pass_ends();
            first += drawn(&sample, swarm(1));
        }
        // 30,000 of 50,000, wherever in the pass it was.
        assert!((860..=960).contains(&first), "{first} of 1,600");
    }

    #[test]
    fn what_peers_join_is_sampled_until_the_next_pass() {
        let mut sample = LargeSample::new(1);
        (0..300).for_each(|_| sample.grows(&swarm(1)));
        assert_eq!(drawn(&sample, swarm(1)), 16);
        (0..300).for_each(|_| sample.grows(&swarm(2)));
        assert!((4..=12).contains(&drawn(&sample, swarm(1))));
        sample.meets(&swarm(3), 65);
        sample.pass_ends();
        assert_eq!(drawn(&sample, swarm(3)), 8);
        (0..3_000).for_each(|_| sample.grows(&swarm(4)));
        assert!(drawn(&sample, swarm(4)) >= 7);
        // None is large any longer.
        sample.pass_ends();
        assert_eq!(drawn(&sample, swarm(3)), 0);
    }

    const HEAVY: InfoHash = InfoHash([1; 20]);
    const HEAVY_PEERS: u16 = 5_000;

    struct World {
        map: TorrentMap<CompactV4>,
        rng: fastrand::Rng,
    }

    struct Cleaner;

    impl CleaningVisitor<CompactV4, ()> for Cleaner {
        fn keep(&mut self, _: &InfoHash) -> bool {
            true
        }

        fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

        fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
    }

    impl World {
        /// A swarm that holds nearly all there is.
        fn new() -> Self {
            let mut world = Self {
                map: TorrentMap::new(HashKey::new([1, 2]), Limits::default()),
                rng: fastrand::Rng::with_seed(3),
            };
            (0..HEAVY_PEERS).for_each(|port| world.tell(HEAVY, port, PeerStatus::Leecher));
            world
        }

        fn tell(&mut self, info_hash: InfoHash, port: u16, status: PeerStatus) {
            let announce = Announce {
                peer: CompactV4::new([10, 0, 0, 1].into(), port),
                status,
                completed: false,
                num_want: 0,
            };
            let key = self.map.key(info_hash);
            let rng = &mut self.rng;
            let told = self.map.announce(
                &key,
                &announce,
                Seconds(1_200),
                &mut Keep(()),
                rng,
                |_, ()| (),
            );
            assert!(told.is_ok());
        }

        fn clean(&mut self) {
            let cursor = &mut CleaningCursor::default();
            while !self.map.clean(cursor, Seconds(1), 1_000, &mut Cleaner) {}
        }

        /// Some large swarms get a peer and lose it again, so many times, and end.
        fn churn(&mut self, times: u32) {
            for number in 0..times {
                let one = swarm(u8::try_from(100 + number % 100).unwrap());
                if self.map.scrape(&self.map.key(one)).peers() == 0 {
                    (1..=64).for_each(|port| self.tell(one, port, PeerStatus::Leecher));
                }
                self.tell(one, 65, PeerStatus::Leecher);
                self.tell(one, 65, PeerStatus::Stopped);
            }
            for number in 100..200 {
                (1..=64).for_each(|port| self.tell(swarm(number), port, PeerStatus::Stopped));
            }
        }
    }

    #[test]
    fn swarms_that_peers_join_and_leave_hide_none_that_is_large() {
        let mut world = World::new();
        world.clean();
        for times in [1_000, 10_000, 100_000] {
            world.churn(times);
            let heavy = drawn(&world.map.large_sample, HEAVY);
            assert!(heavy >= 6, "{heavy} of 16 after {times} times");
        }
        world.clean();
        assert!(drawn(&world.map.large_sample, HEAVY) >= 8);
    }
}
