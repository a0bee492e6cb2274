//! How many peers each network has, about.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005): each network has a counter in each of four
//! rows, which it shares with others by chance, and the lowest one counts. So a count is never
//! lower than what was [added](Census::add). It is higher only for a network that meets others in
//! all rows, and a network is counted in no more than it needs (conservative update), which makes
//! that seldom.

use crate::hash::HashKey;

/// A census takes one in so many of the bytes that it is about. While 10,000 heavy networks share 8
/// MiB, one in two hundred others meets some of them in all rows; with more memory, fewer do.
const SHARE: usize = 32;

/// With two rows of twice the length, four times as many would.
const ROWS: u32 = 4;

/// A counter in each row. Who has 65,535 peers has many, whether there are more or not.
type Place = [u16; ROWS as usize];

/// Counters per row: enough for some 100,000 heavy networks.
const PLACES_MAX: usize = 1 << 19;

const PLACES_MIN: usize = 32;

/// Peers by network.
pub(crate) struct Census {
    places: Vec<Place>,
    hash_key: HashKey,
}

impl Census {
    /// Nobody, of the peers that so many bytes have room for.
    pub(crate) fn new(bytes: usize, hash_key: HashKey) -> Self {
        Self {
            places: vec![Place::default(); Self::places(bytes)],
            hash_key,
        }
    }

    /// What it takes itself.
    pub(crate) fn bytes(bytes: usize) -> usize {
        Self::places(bytes) * size_of::<Place>()
    }

    fn places(bytes: usize) -> usize {
        let places = (bytes / SHARE / size_of::<Place>()).clamp(PLACES_MIN, PLACES_MAX);
        1 << places.ilog2()
    }

    /// One more peer of a network.
    pub(crate) fn add(&mut self, network: u64) {
        let count = self.count(network).saturating_add(1);
        for (row, place) in self.counters(network).into_iter().enumerate() {
            let counter = self.places.get_mut(place).and_then(|it| it.get_mut(row));
            if let Some(counter) = counter {
                *counter = count.max(*counter);
            }
        }
    }

    /// Peers of a network that were added: so many, or fewer.
    pub(crate) fn count(&self, network: u64) -> u16 {
        let counter = |(row, place): (usize, usize)| self.places.get(place)?.get(row).copied();
        let counters = self.counters(network).into_iter().enumerate();
        counters.filter_map(counter).min().unwrap_or(0)
    }

    /// The place of a network in each row. Strangers choose their networks, at least where they
    /// have a large one of IPv6, so a secret decides who meets whom.
    ///
    /// Each row has bits of the hash for itself, nearly. So two that meet in some rows need not
    /// meet in the others, even in the smallest census. (Sums of the same two halves of the hash
    /// would make one pair in 32,768 meet in all rows of 256 places.)
    fn counters(&self, network: u64) -> [usize; ROWS as usize] {
        let mask = self.places.len() as u64 - 1;
        let mut hash = self.hash_key.network(network);
        [(); ROWS as usize].map(|()| {
            hash = hash.rotate_right(u64::BITS / ROWS);
            usize::try_from(hash & mask).unwrap_or(usize::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_never_too_low_and_seldom_too_high() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut census = Census::new(8 << 20, HashKey::new([2, 3]));
        assert_eq!(census.places.len(), 32_768);
        let heavy: Vec<u64> = (0..2_000).collect();
        let light: Vec<u64> = (0..10_000).map(|_| rng.u64(..)).collect();
        for _ in 0..50 {
            heavy.iter().for_each(|network| census.add(*network));
        }
        light.iter().for_each(|network| census.add(*network));
        assert!(heavy.iter().all(|network| census.count(*network) >= 50));
        assert!(light.iter().all(|network| census.count(*network) >= 1));
        let exact = |networks: &[u64], count| {
            let exact = networks.iter().filter(|it| census.count(**it) == count);
            exact.count() * 100 / networks.len()
        };
        assert!(exact(&heavy, 50) >= 98);
        let wrong = light.iter().filter(|it| census.count(**it) > 5).count();
        assert!(wrong * 100 <= light.len(), "{wrong}");
    }

    /// A network that has little is known to have little beside a flood from 10,000 others.
    #[test]
    fn few_meet_a_heavy_network_in_all_rows() {
        let mut census = Census::new(8 << 20, HashKey::new([2, 3]));
        for network in 0..10_000 {
            (0..20).for_each(|_| census.add(network));
        }
        let wrong = (10_000..60_000).filter(|it| census.count(*it) >= 20);
        let in_ten_thousand = wrong.count() / 5;
        assert!((20..90).contains(&in_ten_thousand), "{in_ten_thousand}");
    }

    /// The smallest census, and two networks: one has much. Of 50,000 secrets, none makes the other
    /// one share all of its counters.
    #[test]
    fn two_networks_do_not_meet_in_all_rows() {
        let meet = (0..50_000).filter(|secret| {
            let mut census = Census::new(0, HashKey::new([1, *secret]));
            census.add(1);
            census.count(2) > 0
        });
        assert_eq!(meet.count(), 0);
    }

    #[test]
    fn sizes_suit_what_is_counted() {
        for (bytes, places) in [
            (0, PLACES_MIN),
            (64 << 20, 1 << 18),
            (100 << 20, 1 << 18),
            (usize::MAX, PLACES_MAX),
        ] {
            let census = Census::new(bytes, HashKey::new([1, 1]));
            assert_eq!(census.places.len(), places);
            assert_eq!(Census::bytes(bytes), places * 8);
        }
    }
}
