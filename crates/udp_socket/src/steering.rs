//! Which worker's socket gets an announce: decided by the kernel, the way the program would.
//!
//! Sockets that share an address (`SO_REUSEPORT`) normally get datagrams by a hash of the sender's
//! address. Here a small program, attached to the group, picks the socket by the *info hash*, so
//! that an announce arrives where its swarm lives and no thread has to pass it on. [`owner`] is the
//! same function in Rust: an announce or a one-torrent scrape for `info_hash` arrives at the socket
//! with the index `owner(...)`, in the order in which the sockets were bound.
//!
//! The function is keyed, so that a stranger who does not know the key cannot choose info hashes
//! that meet at one worker. It is *strongly universal*: over all keys, the workers of any two
//! different info hashes are as good as drawn at random, independently of each other. So of any set
//! of `n` info hashes, whoever made it up and however, a worker gets its fair share give or take
//! `t * sqrt(n / workers)` under all but one in `t * t` keys (Chebyshev's inequality).
//!
//! It is no cryptographic hash: the claim is about sets that are chosen without knowing anything of
//! the key. Who finds out which info hashes share a worker, say by timing answers, and does so a
//! thousand times, can work out the rest. What it protects is an even load, nothing else; hash
//! tables and connection ids have secrets of their own.
//!
//! The program is classic BPF, which needs no privilege. What it cannot do is fail: a load beyond
//! the end of a packet ends it with the result 0. So it looks at the length first, and spreads
//! whatever is too short to hold an info hash (connect requests) at random.

use std::io;

use crate::UdpSocket;

/// An info hash is read in numbers of 16 bits, so that their products with 32-bit factors keep 16
/// bits that depend on all bits of the number.
const NUMBERS: usize = 10;
const NUMBER_BITS: u32 = 16;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
/// Folds the well-mixed high half of a 16-bit product onto its low half.
const FOLD_BITS: u32 = 8;
/// More cannot be told apart by 16 bits; nor does the kernel let more sockets share an address.
const WORKERS_MAX: u32 = 1 << NUMBER_BITS;

/// The secret that decides which worker owns an info hash. One per process.
#[derive(Clone, Copy)]
pub struct SteeringKey {
    factors: [u32; NUMBERS],
    summand: u32,
    /// Of 16 bits, and odd, so that multiplying loses nothing.
    last_factors: [u32; 2],
}

impl SteeringKey {
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
}

/// The worker, of `workers` (at most 65,536), whose socket gets what concerns `info_hash`. 0 if
/// `workers` is 0.
#[must_use]
pub fn owner(key: &SteeringKey, info_hash: &[u8; 20], workers: u32) -> u32 {
    // Multiply and shift, for vectors: M. Thorup, "High Speed Hashing for Integers and Strings",
    // section 3.5. Strongly universal since 32 bits are as many as a number and the result have.
    let (numbers, _) = info_hash.as_chunks::<2>();
    let mut sum = key.summand;
    for (number, factor) in numbers.iter().zip(key.factors) {
        let number = u32::from(u16::from_be_bytes(*number));
        sum = sum.wrapping_add(number.wrapping_mul(factor));
    }
    let mut mixed = sum >> NUMBER_BITS;
    // A permutation of the 16 bits, so the above still holds. It takes progressions apart, which a
    // few keys would otherwise leave side by side.
    for factor in key.last_factors {
        mixed = mixed.wrapping_mul(factor) & NUMBER_MASK;
        mixed ^= mixed >> FOLD_BITS;
    }
    mixed.wrapping_mul(workers) >> NUMBER_BITS
}

/// Attaches the program to the group that `socket` is in; once per address and family is enough,
/// before or after the others have joined. The group must have `workers` sockets, bound in the
/// order of the workers' indices.
///
/// # Errors
/// If `workers` is 0 or above 65,536, if the socket was bound without `reuse_port`, or if
/// the system has no such thing (it is Linux's).
pub fn attach(socket: &UdpSocket, key: &SteeringKey, workers: u32) -> io::Result<()> {
    if !(1..=WORKERS_MAX).contains(&workers) {
        let message = format!("packets cannot be steered to {workers} workers");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    imp::attach(socket, key, workers)
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{SteeringKey, UdpSocket, io};

    pub(super) fn attach(_: &UdpSocket, _: &SteeringKey, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use libc::{BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_H, BPF_IMM, BPF_JGE, BPF_JMP};
    use libc::{BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX};
    use libc::{BPF_W, BPF_X, BPF_XOR, SKF_AD_OFF, SKF_AD_RANDOM};
    use libc::{SO_ATTACH_REUSEPORT_CBPF, sock_filter};

    use super::{FOLD_BITS, NUMBER_BITS, NUMBER_MASK, SteeringKey, UdpSocket, io};
    use crate::options;

    /// Where the info hash starts in an announce, and the first one in a scrape (BEP 15).
    const INFO_HASH_START_BYTES: u32 = 16;
    /// A shorter datagram holds no info hash.
    const STEERED_BYTES_MIN: u32 = 36;

    pub(super) fn attach(socket: &UdpSocket, key: &SteeringKey, workers: u32) -> io::Result<()> {
        options::attach_filter(socket, SO_ATTACH_REUSEPORT_CBPF, &program(key, workers))
    }

    /// The program. Its data starts at the UDP payload; it works on the registers A and X.
    fn program(key: &SteeringKey, workers: u32) -> Vec<sock_filter> {
        // A = random, for what is too short; jumped over otherwise.
        let random = (SKF_AD_OFF + SKF_AD_RANDOM).cast_unsigned();
        let mut program = vec![
            statement(BPF_LD | BPF_W | BPF_LEN, 0),
            jump_over_if_at_least(STEERED_BYTES_MIN, 3),
            statement(BPF_LD | BPF_W | BPF_ABS, random),
            statement(BPF_ALU | BPF_MOD | BPF_K, workers),
            statement(BPF_RET | BPF_A, 0),
        ];
        // X is the sum that `owner` computes.
        program.push(statement(BPF_LD | BPF_IMM, key.summand));
        program.push(statement(BPF_MISC | BPF_TAX, 0));
        let offsets = (INFO_HASH_START_BYTES..).step_by(2);
        for (offset, factor) in offsets.zip(key.factors) {
            program.extend([
                statement(BPF_LD | BPF_H | BPF_ABS, offset),
                statement(BPF_ALU | BPF_MUL | BPF_K, factor),
                statement(BPF_ALU | BPF_ADD | BPF_X, 0),
                statement(BPF_MISC | BPF_TAX, 0),
            ]);
        }
        program.push(statement(BPF_ALU | BPF_RSH | BPF_K, NUMBER_BITS));
        for factor in key.last_factors {
            program.extend([
                statement(BPF_ALU | BPF_MUL | BPF_K, factor),
                statement(BPF_ALU | BPF_AND | BPF_K, NUMBER_MASK),
                statement(BPF_MISC | BPF_TAX, 0),
                statement(BPF_ALU | BPF_RSH | BPF_K, FOLD_BITS),
                statement(BPF_ALU | BPF_XOR | BPF_X, 0),
            ]);
        }
        program.extend([
            statement(BPF_ALU | BPF_MUL | BPF_K, workers),
            statement(BPF_ALU | BPF_RSH | BPF_K, NUMBER_BITS),
            statement(BPF_RET | BPF_A, 0),
        ]);
        program
    }

    fn statement(code: u32, k: u32) -> sock_filter {
        instruction(code, 0, k)
    }

    fn jump_over_if_at_least(k: u32, skipped: u8) -> sock_filter {
        instruction(BPF_JMP | BPF_JGE | BPF_K, skipped, k)
    }

    fn instruction(code: u32, jt: u8, k: u32) -> sock_filter {
        sock_filter {
            code: u16::try_from(code).unwrap_or(u16::MAX),
            jt,
            jf: 0,
            k,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SteeringKey {
        SteeringKey::new(std::array::from_fn(|place| {
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
    const OWNERS_MAX: u32 = WORKERS_MAX;

    fn random_key(rng: &mut fastrand::Rng) -> SteeringKey {
        SteeringKey::new(std::array::from_fn(|_| rng.u8(..)))
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
    fn no_workers_is_no_panic() {
        assert_eq!(owner(&key(1), &[1; 20], 0), 0);
    }
}
