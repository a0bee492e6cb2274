//! Who announces what: torrents of unequal popularity, and the peers in their swarms.
//!
//! Everything follows from a seed, so two runs with one configuration meet the same torrents: one
//! may fill a tracker and the next may load it.

use std::ops::Range;

use aquatic_types::{InfoHash, PeerId};
use fastrand::Rng;

use crate::core::config::PopulationConfig;

/// A peer: one torrent, one port. Its address is that of the socket that speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The torrent's number; small numbers are popular.
    pub torrent: u32,
    /// Where it says that it listens; never 0.
    pub port: u16,
    /// Whether it has everything.
    pub is_seeder: bool,
}

/// Peers in random order, eight bytes each.
#[derive(Debug)]
pub struct Population {
    peers: Vec<Peer>,
    seed: u64,
}

impl Population {
    /// Draws each peer's torrent by popularity.
    #[must_use]
    pub fn new(config: &PopulationConfig, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let exponent = config.torrent_popularity_exponent;
        let popularity = Popularity::zipf(config.number_of_torrents, exponent);
        let peer = |_| Peer {
            torrent: popularity.sample(&mut rng),
            port: rng.u16(1..),
            is_seeder: rng.f64() < config.seeder_probability,
        };
        Self {
            peers: (0..config.number_of_peers).map(peer).collect(),
            seed,
        }
    }

    /// The peer of a number. Numbers from the population's size on start again at 0.
    #[must_use]
    pub fn peer(&self, number: u32) -> Peer {
        let place = usize::try_from(number).unwrap_or(0) % self.peers.len();
        self.peers[place]
    }

    /// How many peers there are.
    #[must_use]
    pub fn number_of_peers(&self) -> u32 {
        u32::try_from(self.peers.len()).unwrap_or(u32::MAX)
    }

    /// The name of a torrent of this population.
    #[must_use]
    pub fn info_hash(&self, torrent: u32) -> InfoHash {
        info_hash(self.seed, torrent)
    }

    /// Draws torrents that a scrape asks about, in place of those in `torrents`: popular ones more
    /// often, some perhaps twice.
    pub fn draw_torrents(&self, number: u8, rng: &mut Rng, torrents: &mut Vec<InfoHash>) {
        torrents.clear();
        torrents.extend((0..number).map(|_| {
            let peer = self.peer(rng.u32(..self.number_of_peers()));
            self.info_hash(peer.torrent)
        }));
    }

    /// The same, each torrent once, for answers that have one entry per torrent however often it
    /// was asked about. Gives back how many torrents it became.
    pub fn draw_different_torrents(
        &self,
        number: u8,
        rng: &mut Rng,
        torrents: &mut Vec<InfoHash>,
    ) -> u32 {
        self.draw_torrents(number, rng, torrents);
        torrents.sort_unstable();
        torrents.dedup();
        u32::try_from(torrents.len()).unwrap_or(u32::MAX)
    }
}

/// Names a torrent. Computed rather than looked up: that costs less than a miss in a table of 20
/// million bytes.
#[must_use]
pub fn info_hash(seed: u64, torrent: u32) -> InfoHash {
    let mut state = mix(seed) ^ u64::from(torrent);
    let mut hash = [0; 20];
    for chunk in hash.chunks_mut(8) {
        state = mix(state);
        chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
    }
    InfoHash(hash)
}

/// Names a peer: twelve digits of its own after eight bytes that say which client it is.
#[must_use]
pub fn peer_id(number: u32) -> PeerId {
    let mut id = *b"-AQ0100-000000000000";
    let mut rest = number;
    for digit in id[8..].iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    PeerId(id)
}

/// Scatters the bits of a number: equal in, equal out, and no two inputs share an output.
#[must_use]
pub fn mix(value: u64) -> u64 {
    // SplitMix64: the golden ratio's step, then its finaliser.
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The part of `total` things that falls to one of several.
#[must_use]
pub fn share(total: u32, parts: usize, part: usize) -> Range<u32> {
    let [parts, part] = [parts, part].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
    let border = |part: u64| {
        let border = u64::from(total).saturating_mul(part) / parts.max(1);
        u32::try_from(border).unwrap_or(total)
    };
    border(part)..border(part + 1)
}

/// A distribution over ranks that is sampled in constant time, by Vose's alias method: each column
/// is shared by at most two ranks, so one draw picks the column and one picks the rank.
#[derive(Debug)]
pub struct Popularity {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// The probability that the column's own rank is meant.
    own: f32,
    /// The rank that is meant otherwise.
    alias: u32,
}

impl Popularity {
    /// Zipf's law over ranks from 0: weight 1 / (rank + 1)^exponent. Exponent 0 is uniform.
    #[must_use]
    pub fn zipf(ranks: u32, exponent: f64) -> Self {
        let weights = (0..ranks).map(|rank| (f64::from(rank) + 1.0).powf(-exponent));
        let weights: Vec<f64> = weights.collect();
        let scale = f64::from(ranks) / weights.iter().sum::<f64>();
        Self::from_heights(weights.into_iter().map(|weight| weight * scale).collect())
    }

    /// `heights` have a mean of 1: what a column lacks, another one has too much.
    fn from_heights(mut heights: Vec<f64>) -> Self {
        let places = (0..).zip(&heights).map(|(place, _)| place);
        let own = |alias| Column { own: 1.0, alias };
        let mut columns: Vec<Column> = places.clone().map(own).collect();
        let (mut low, mut high): (Vec<u32>, Vec<u32>) =
            places.partition(|place| heights[index(*place)] < 1.0);
        while let (Some(short), Some(tall)) = (low.pop(), high.pop()) {
            let height = heights[index(short)];
            columns[index(short)] = Column {
                own: to_f32(height),
                alias: tall,
            };
            heights[index(tall)] -= 1.0 - height;
            if heights[index(tall)] < 1.0 {
                &mut low
            } else {
                &mut high
            }
            .push(tall);
        }
        // What is left over in either list has a height of 1 but for rounding: `own` says so.
        Self { columns }
    }

    /// Draws a rank, counted from 0.
    #[must_use]
    pub fn sample(&self, rng: &mut Rng) -> u32 {
        let place = rng.usize(..self.columns.len());
        let column = self.columns[place];
        if rng.f32() < column.own {
            u32::try_from(place).unwrap_or(u32::MAX)
        } else {
            column.alias
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a probability needs no more than 24 bits here"
)]
fn to_f32(probability: f64) -> f32 {
    probability as f32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SAMPLES: u32 = 1_000_000;

    fn shares(ranks: u32, exponent: f64) -> Vec<f64> {
        let popularity = Popularity::zipf(ranks, exponent);
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0u32; index(ranks)];
        for _ in 0..SAMPLES {
            counts[index(popularity.sample(&mut rng))] += 1;
        }
        let share = |count| f64::from(count) / f64::from(SAMPLES);
        counts.into_iter().map(share).collect()
    }

    #[test]
    fn ranks_are_drawn_by_zipfs_law() {
        for (ranks, exponent) in [(1, 1.0), (10, 0.0), (100, 1.0), (1000, 0.8)] {
            let weight = |rank: u32| f64::from(rank + 1).powf(-exponent);
            let sum: f64 = (0..ranks).map(weight).sum();
            for (rank, share) in (0..).zip(shares(ranks, exponent)) {
                let expected = weight(rank) / sum;
                // Five standard deviations of a count of this expectation.
                let tolerance = 5.0 * (expected / f64::from(SAMPLES)).sqrt();
                assert!(
                    (share - expected).abs() <= tolerance,
                    "rank {rank} of {ranks}: {share}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn a_seed_fixes_the_population() {
        let config = PopulationConfig {
            number_of_torrents: 1000,
            number_of_peers: 20_000,
            ..PopulationConfig::default()
        };
        let (one, same) = (Population::new(&config, 1), Population::new(&config, 1));
        assert_eq!(one.peers, same.peers);
        let other = Population::new(&config, 2);
        assert_ne!(one.peers, other.peers);
        assert_ne!(one.info_hash(0), other.info_hash(0));

        assert_eq!(one.number_of_peers(), 20_000);
        assert!(
            one.peers
                .iter()
                .all(|peer| peer.torrent < 1000 && peer.port != 0)
        );
        let seeders = one.peers.iter().filter(|peer| peer.is_seeder).count();
        assert!((14_500..15_500).contains(&seeders), "{seeders} of 15,000");
        assert_eq!(one.peer(20_003), one.peer(3));
    }

    #[test]
    fn torrents_are_drawn_by_their_peers() {
        let config = PopulationConfig {
            number_of_torrents: 100,
            number_of_peers: 10_000,
            ..PopulationConfig::default()
        };
        let population = Population::new(&config, 1);
        let mut rng = Rng::with_seed(1);
        let mut torrents = vec![InfoHash([0; 20])];
        let mut first = 0;
        for _ in 0..1_000 {
            population.draw_torrents(10, &mut rng, &mut torrents);
            assert_eq!(torrents.len(), 10);
            let name = population.info_hash(0);
            first += torrents.iter().filter(|torrent| **torrent == name).count();
        }
        // 1 / (1 + 1/2 + ... + 1/100) of all, 19 %.
        assert!((1_750..2_110).contains(&first), "{first}");
    }

    #[test]
    fn names_differ() {
        let hashes: HashSet<_> = (0..100_000).map(|torrent| info_hash(1, torrent)).collect();
        assert_eq!(hashes.len(), 100_000);
        let ids: HashSet<_> = (0..100_000).map(peer_id).collect();
        assert_eq!(ids.len(), 100_000);
        assert_eq!(peer_id(u32::MAX), PeerId(*b"-AQ0100-004294967295"));
    }

    #[test]
    fn shares_are_whole_and_even() {
        let shares: Vec<_> = (0..4).map(|part| share(10, 4, part)).collect();
        assert_eq!(shares, [0..2, 2..5, 5..7, 7..10]);
        assert_eq!(share(u32::MAX, 1, 0), 0..u32::MAX);
    }

    #[test]
    fn a_peer_takes_eight_bytes() {
        assert_eq!(size_of::<Peer>(), 8);
    }
}
