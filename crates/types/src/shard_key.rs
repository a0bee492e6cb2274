//! Which shard owns a torrent.
//!
//! The function is keyed, so that a stranger who does not know the key cannot choose info hashes
//! that meet at one worker. It is *strongly universal*: over all keys, the shards of any two
//! different info hashes are as good as drawn at random, independently of each other. So of any set
//! of `n` info hashes, whoever made it up and however, a shard gets its fair share give or take
//! `t * sqrt(n / shards)` under all but one in `t * t` keys (Chebyshev's inequality).
//!
//! It is no cryptographic hash: the claim is about sets that are chosen without knowing anything of
//! the key. Who finds out which info hashes share a shard, say by timing answers, and does so a
//! thousand times, can work out the rest. What it protects is an even load, nothing else; hash
//! tables and connection ids have secrets of their own.
//!
//! It is simple enough for the kernel, which steers datagrams by it where it can. So it is the same
//! for all protocols: a torrent has one owner, however its peers announce.

use std::fmt::{self, Debug, Formatter};

use crate::InfoHash;

/// An info hash is read in numbers of 16 bits, so that their products with 32-bit factors keep 16
/// bits that depend on all bits of the number.
const NUMBERS: usize = 10;
const NUMBER_MASK: u32 = (1 << ShardKey::NUMBER_BITS) - 1;

/// The secret that decides which shard owns a torrent. One per process.
#[derive(Clone, Copy)]
pub struct ShardKey {
    /// One for each two bytes of the info hash.
    pub factors: [u32; NUMBERS],
    /// What is added to their products.
    pub summand: u32,
    /// Of 16 bits, and odd, so that multiplying loses nothing.
    pub last_factors: [u32; 2],
}

impl ShardKey {
    /// An info hash is read in numbers of so many bits.
    pub const NUMBER_BITS: u32 = 16;

    /// By so many bits the well-mixed high half of a 16-bit product is folded onto its low half.
    pub const FOLD_BITS: u32 = 8;

    /// More shards cannot be told apart by 16 bits.
    pub const SHARDS_MAX: usize = 1 << Self::NUMBER_BITS;

    /// From 52 bytes that no stranger can guess.
    #[must_use]
    pub fn new(secret: [u8; 52]) -> Self {
        let mut words = secret
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_ne_bytes(*bytes));
        let mut next = || words.next().unwrap_or_default();
        Self {
            factors: std::array::from_fn(|_| next()),
            summand: next(),
            last_factors: std::array::from_fn(|_| next() & NUMBER_MASK | 1),
        }
    }

    /// The shard of a torrent, of `shards`: at most [`Self::SHARDS_MAX`], and 0 if there are fewer
    /// than two.
    #[must_use]
    pub fn shard_of(&self, info_hash: &InfoHash, shards: usize) -> usize {
        if shards <= 1 {
            return 0;
        }
        // Multiply and shift, for vectors: M. Thorup, "High Speed Hashing for Integers and
        // Strings", section 3.5. Strongly universal since 32 bits are as many as a number and the
        // result have.
        let (numbers, _) = info_hash.0.as_chunks::<2>();
        let mut sum = self.summand;
        for (number, factor) in numbers.iter().zip(self.factors) {
            let number = u32::from(u16::from_be_bytes(*number));
            sum = sum.wrapping_add(number.wrapping_mul(factor));
        }
        let mut mixed = sum >> Self::NUMBER_BITS;
        // A permutation of the 16 bits, so the above still holds. It takes progressions apart,
        // which a few keys would otherwise leave side by side.
        for factor in self.last_factors {
            mixed = mixed.wrapping_mul(factor) & NUMBER_MASK;
            mixed ^= mixed >> Self::FOLD_BITS;
        }
        (mixed as usize).wrapping_mul(shards) >> Self::NUMBER_BITS
    }
}

impl Debug for ShardKey {
    /// Keeps the secret.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("ShardKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(key: &ShardKey, info_hash: &[u8; 20], shards: u32) -> u32 {
        let shard = key.shard_of(&InfoHash(*info_hash), shards as usize);
        u32::try_from(shard).unwrap()
    }

    fn key(seed: u8) -> ShardKey {
        ShardKey::new(std::array::from_fn(|place| {
            u8::try_from(place).unwrap().wrapping_mul(37) ^ seed
        }))
    }

    #[test]
    fn load_is_even_even_for_regular_hashes() {
        for workers in [2, 3, 4, 7] {
            let mut counts = vec![0u32; workers as usize];
            for number in 0..7000u32 {
                let mut info_hash = [0; 20];
                // Only one byte pair varies, as an attacker or a naive tester would have it.
                info_hash[8..12].copy_from_slice(&number.to_be_bytes());
                counts[owner(&key(1), &info_hash, workers) as usize] += 1;
            }
            let fair = 7000 / workers;
            for count in counts {
                assert!(count.abs_diff(fair) < fair / 5, "{count} instead of {fair}");
            }
        }
    }

    #[test]
    fn every_byte_and_the_key_matter() {
        let base = [7; 20];
        for place in 0..20 {
            let moved = (0..64u8).filter(|flip| {
                let mut other = base;
                other[place] ^= flip;
                owner(&key(1), &other, 64) != owner(&key(1), &base, 64)
            });
            assert!(moved.count() > 48, "byte {place}");
        }
        let keys = (0..64).map(|seed| owner(&key(seed), &base, 64));
        let distinct = keys.collect::<std::collections::HashSet<_>>();
        assert!(distinct.len() > 24, "{} owners", distinct.len());
    }

    /// More than there are workers anywhere: hashes that meet here, meet under any number of them.
    const OWNERS_MAX: u32 = 1 << ShardKey::NUMBER_BITS;

    fn random_key(rng: &mut fastrand::Rng) -> ShardKey {
        ShardKey::new(std::array::from_fn(|_| rng.u8(..)))
    }

    fn flipped(info_hash: &[u8; 20], word: usize, flips: u32) -> [u8; 20] {
        let mut other = *info_hash;
        for (byte, flip) in other[4 * word..].iter_mut().zip(flips.to_be_bytes()) {
            *byte ^= flip;
        }
        other
    }

    /// Flipping bit 31 of a word, and what a multiplication and a fold by 16 bits make of that in
    /// the next word, which cancels out whatever the key. Four pairs of words, and so 16 hashes
    /// from each one. A mix that is a chain of such steps sends them all to one worker.
    #[test]
    fn no_crafted_set_meets_at_one_worker() {
        let mut rng = fastrand::Rng::with_seed(1);
        for workers in [2, 4, 7, 64] {
            let mut together = 0;
            for _ in 0..1_000 {
                let key = random_key(&mut rng);
                let base = std::array::from_fn(|_| rng.u8(..));
                let is_at_owner_of_base = |set: &u32| {
                    let mut other = base;
                    for word in (0..4).filter(|word| set & (1 << word) != 0) {
                        other = flipped(&other, word, 1 << 31);
                        other = flipped(&other, word + 1, 1 << 31 | 1 << 15);
                    }
                    owner(&key, &other, workers) == owner(&key, &base, workers)
                };
                together += (1..16).filter(is_at_owner_of_base).count();
            }
            // Chance brings this many; a standard deviation is below 0.7 % of 15,000.
            let expected = 15_000 / workers as usize;
            assert!(
                together.abs_diff(expected) < 15_000 / 30,
                "{together} of 15,000 for {workers} workers, by chance {expected}"
            );
        }
    }

    /// All ways to flip one or two bits of a word and one or two of the next: no way leaves the
    /// owner as it is under a fair part of all keys.
    #[test]
    fn no_difference_of_few_bits_goes_unnoticed_by_many_keys() {
        const KEYS: usize = 8;
        let mut rng = fastrand::Rng::with_seed(2);
        let ones = (0..32).map(|bit| 1_u32 << bit);
        let pairs = (0..32).flat_map(|bit| (0..bit).map(move |other| 1_u32 << bit | 1 << other));
        let flips = ones.chain(pairs).collect::<Vec<_>>();
        let trials = (0..KEYS)
            .map(|_| {
                let base: [u8; 20] = std::array::from_fn(|_| rng.u8(..));
                let key = random_key(&mut rng);
                (key, base, owner(&key, &base, OWNERS_MAX))
            })
            .collect::<Vec<_>>();
        for word in 0..4 {
            for first in &flips {
                let bases = trials.iter().map(|it| flipped(&it.1, word, *first));
                let bases = bases.collect::<Vec<_>>();
                for second in &flips {
                    let goes_unnoticed = |((key, _, owned), base): &(&(_, _, u32), &[u8; 20])| {
                        let other = flipped(base, word + 1, *second);
                        owner(key, &other, OWNERS_MAX) == *owned
                    };
                    let unnoticed = trials.iter().zip(&bases).filter(goes_unnoticed).count();
                    // By chance 3 of 8 come about for one difference in 5 million million.
                    assert!(
                        unnoticed < 3,
                        "{first:#x} in word {word}, {second:#x} in the next: {unnoticed} of {KEYS}"
                    );
                }
            }
        }
    }

    /// Hashes in arithmetic progression in any one place, the worst sets for a linear function.
    #[test]
    fn progressions_are_spread_under_nearly_every_key() {
        const WORKERS: u32 = 4;
        let mut rng = fastrand::Rng::with_seed(3);
        let mut crowded = 0;
        for _ in 0..2_000 {
            let key = random_key(&mut rng);
            let base: [u8; 20] = std::array::from_fn(|_| rng.u8(..));
            let (place, step) = (rng.usize(..=16), rng.u32(1..));
            let mut counts = [0_u32; WORKERS as usize];
            for number in 0..1_000_u32 {
                let mut other = base;
                let bytes = number.wrapping_mul(step).to_be_bytes();
                other[place..place + 4].copy_from_slice(&bytes);
                counts[owner(&key, &other, WORKERS) as usize] += 1;
            }
            // Fair are 250 with a standard deviation of 14.
            crowded += u32::from(counts.iter().any(|count| *count > 500));
        }
        assert!(crowded < 20, "{crowded} of 2,000 keys");
    }

    /// A linear function alone leaves neighbours at one worker under each key with a small factor.
    #[test]
    fn neighbours_are_taken_apart_under_nearly_every_key() {
        let mut rng = fastrand::Rng::with_seed(5);
        let meet_at_one_worker = |_: &u32| {
            let key = random_key(&mut rng);
            let mut base: [u8; 20] = std::array::from_fn(|_| rng.u8(..));
            let mut owner_of = |number: u8| {
                base[19] = number;
                owner(&key, &base, 2)
            };
            let first = owner_of(0);
            (1..64).all(|number| owner_of(number) == first)
        };
        let together = (0..4_000).filter(meet_at_one_worker).count();
        assert!(together <= 2, "under {together} of 4,000 keys");
    }

    /// What the claim rests on: over random keys, each pair of owners of two info hashes is equally
    /// frequent, whatever the two are.
    #[test]
    fn owners_of_any_two_hashes_are_independent() {
        const KEYS: u32 = 16_000;
        let base: [u8; 20] = [7; 20];
        let others = [
            flipped(&base, 0, 1 << 31),
            flipped(&base, 4, 1),
            flipped(&base, 2, 0x0001_0001),
            flipped(&flipped(&base, 1, u32::MAX), 3, u32::MAX),
            [0; 20],
        ];
        let mut rng = fastrand::Rng::with_seed(4);
        for other in others {
            let mut counts = [[0_u32; 4]; 4];
            for _ in 0..KEYS {
                let key = random_key(&mut rng);
                let owners = [base, other].map(|it| owner(&key, &it, 4) as usize);
                counts[owners[0]][owners[1]] += 1;
            }
            // Fair are 1,000 with a standard deviation of 31.
            let is_fair = |count: &u32| count.abs_diff(KEYS / 16) < 160;
            assert!(counts.iter().flatten().all(is_fair), "{counts:?}");
        }
    }

    #[test]
    fn without_a_choice_there_is_no_panic() {
        assert_eq!(
            [0, 1].map(|shards| owner(&key(1), &[1; 20], shards)),
            [0; 2]
        );
        assert_eq!(format!("{:?}", key(1)), "ShardKey");
    }
}
