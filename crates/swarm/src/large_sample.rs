//! Some of the large swarms, the larger the more likely.
//!
//! Torrents that are drawn by chance are small ones nearly always, while most of the memory may be
//! in a few large swarms. So those are sampled as they grow and as cleaning meets them: one for
//! each of so many peers, in whatever swarm these are.

use aquatic_types::InfoHash;

/// Swarms in a sample; the same one may be there several times.
const SAMPLE_MAX: usize = 32;

/// See the [module](self).
pub(crate) struct LargeSample {
    swarms: Vec<InfoHash>,
    /// Where the next one goes when there are as many as there may be.
    place: usize,
    /// Peers that one place of the sample stands for.
    step: u64,
    /// Peers since the last one was sampled.
    unsampled: u64,
    /// Peers in large swarms that the present pass of cleaning has met.
    met: u64,
}

impl LargeSample {
    pub(crate) fn new() -> Self {
        Self {
            swarms: Vec::new(),
            place: 0,
            step: 1,
            unsampled: 0,
            met: 0,
        }
    }

    /// A large swarm has got one more peer.
    pub(crate) fn grows(&mut self, info_hash: &InfoHash) {
        self.count(info_hash, 1);
    }

    /// Cleaning has met a large swarm with so many peers.
    pub(crate) fn meets(&mut self, info_hash: &InfoHash, peers: u32) {
        self.met += u64::from(peers);
        self.count(info_hash, peers.into());
    }

    /// A pass of cleaning has ended.
    pub(crate) fn pass_ends(&mut self) {
        self.step = (self.met / SAMPLE_MAX as u64).max(1);
        self.met = 0;
    }

    /// The sample.
    pub(crate) fn swarms(&self) -> &[InfoHash] {
        &self.swarms
    }

    fn count(&mut self, info_hash: &InfoHash, peers: u64) {
        self.unsampled += peers;
        let mut sampled = self.unsampled / self.step;
        self.unsampled -= sampled * self.step;
        sampled = sampled.min(SAMPLE_MAX as u64);
        for _ in 0..sampled {
            match self.swarms.get_mut(self.place) {
                Some(place) => *place = *info_hash,
                None => self.swarms.push(*info_hash),
            }
            self.place = (self.place + 1) % SAMPLE_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_swarms_are_in_it_more_often() {
        let mut sample = LargeSample::new();
        let swarm = |number: u8| InfoHash([number; 20]);
        for _ in 0..2 {
            sample.meets(&swarm(1), 30_000);
            for number in 2..102 {
                sample.meets(&swarm(number), 100);
            }
            sample.pass_ends();
        }
        assert_eq!(sample.swarms().len(), SAMPLE_MAX);
        let of_first = sample.swarms().iter().filter(|it| **it == swarm(1));
        let of_first = of_first.count();
        assert!((22..=26).contains(&of_first), "{of_first}");
        for _ in 0..40_000 {
            sample.grows(&swarm(200));
        }
        assert_eq!(sample.swarms(), [swarm(200); SAMPLE_MAX]);
    }
}
