//! Which worker's socket gets an announce: decided by the kernel, the way the program would.
//!
//! Sockets that share an address (`SO_REUSEPORT`) normally get datagrams by a hash of the sender's
//! address. Here a small program, attached to the group, picks the socket by the *info hash*, so
//! that an announce arrives where its swarm lives and no thread has to pass it on. [`owner`] is the
//! same function in Rust: an announce or a one-torrent scrape for `info_hash` arrives at the socket
//! with the index `owner(...)`, in the order in which the sockets were bound.
//!
//! The function is keyed, so that a stranger who does not know the key cannot choose info hashes
//! that all meet at one worker. It is no cryptographic hash: what it protects is an even load.
//!
//! The program is classic BPF, which needs no privilege. What it cannot do is fail: a load beyond
//! the end of a packet ends it with the result 0. So it looks at the length first, and spreads
//! whatever is too short to hold an info hash (connect requests) at random.

use std::io;

use crate::UdpSocket;

const INFO_HASH_WORDS: usize = 5;
/// Folds the well-mixed high half of a product onto its low half.
const FOLD_BITS: u32 = 16;

/// The secret that decides which worker owns an info hash. One per process.
#[derive(Clone, Copy)]
pub struct SteeringKey {
    masks: [u32; INFO_HASH_WORDS],
    /// Odd, so that multiplying loses nothing.
    factors: [u32; INFO_HASH_WORDS],
    last_factor: u32,
}

impl SteeringKey {
    /// From 44 bytes that no stranger can guess.
    #[must_use]
    pub fn new(secret: [u8; 44]) -> Self {
        let mut words = secret
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_ne_bytes(*bytes));
        let mut next = || words.next().unwrap_or_default();
        Self {
            masks: std::array::from_fn(|_| next()),
            factors: std::array::from_fn(|_| next() | 1),
            last_factor: next() | 1,
        }
    }
}

/// The worker, of `workers`, whose socket gets what concerns `info_hash`. 0 if `workers` is 0.
#[must_use]
pub fn owner(key: &SteeringKey, info_hash: &[u8; 20], workers: u32) -> u32 {
    let (words, _) = info_hash.as_chunks::<4>();
    let mut mixed = 0u32;
    for ((word, mask), factor) in words.iter().zip(key.masks).zip(key.factors) {
        mixed ^= u32::from_be_bytes(*word) ^ mask;
        mixed = mixed.wrapping_mul(factor);
        mixed ^= mixed >> FOLD_BITS;
    }
    // The first bits of the last word have only reached the middle: once more.
    mixed = mixed.wrapping_mul(key.last_factor);
    mixed ^= mixed >> FOLD_BITS;
    mixed.checked_rem(workers).unwrap_or(0)
}

/// Attaches the program to the group that `socket` is in; once per address and family is enough,
/// before or after the others have joined. The group must have `workers` sockets, bound in the
/// order of the workers' indices.
///
/// # Errors
/// If `workers` is 0, if the socket was bound without `reuse_port`, or if the system has no such
/// thing (it is Linux's).
pub fn attach(socket: &UdpSocket, key: &SteeringKey, workers: u32) -> io::Result<()> {
    if workers == 0 {
        let message = "packets cannot be steered to 0 workers";
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
    use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MISC};
    use libc::{BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR};
    use libc::{SKF_AD_OFF, SKF_AD_RANDOM, SO_ATTACH_REUSEPORT_CBPF, sock_filter};

    use super::{FOLD_BITS, SteeringKey, UdpSocket, io};
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
        // X is 0 at first; after each round, A is what `owner` calls `mixed`.
        let offsets = (INFO_HASH_START_BYTES..).step_by(4);
        for ((offset, mask), factor) in offsets.zip(key.masks).zip(key.factors) {
            program.extend([
                statement(BPF_LD | BPF_W | BPF_ABS, offset),
                statement(BPF_ALU | BPF_XOR | BPF_X, 0),
                statement(BPF_ALU | BPF_XOR | BPF_K, mask),
            ]);
            program.extend(multiply_and_fold(factor));
        }
        program.extend(multiply_and_fold(key.last_factor));
        program.push(statement(BPF_ALU | BPF_MOD | BPF_K, workers));
        program.push(statement(BPF_RET | BPF_A, 0));
        program
    }

    /// Leaves the result in both registers.
    fn multiply_and_fold(factor: u32) -> [sock_filter; 5] {
        [
            statement(BPF_ALU | BPF_MUL | BPF_K, factor),
            statement(BPF_MISC | BPF_TAX, 0),
            statement(BPF_ALU | BPF_RSH | BPF_K, FOLD_BITS),
            statement(BPF_ALU | BPF_XOR | BPF_X, 0),
            statement(BPF_MISC | BPF_TAX, 0),
        ]
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

    #[test]
    fn no_workers_is_no_panic() {
        assert_eq!(owner(&key(1), &[1; 20], 0), 0);
    }
}
