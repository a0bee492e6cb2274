//! Which worker's socket gets an announce: decided by the kernel, the way the program would.
//!
//! Sockets that share an address (`SO_REUSEPORT`) normally get datagrams by a hash of the sender's
//! address. Here a small program, attached to the group, picks the socket by the *info hash*, so
//! that an announce arrives where its swarm lives and no thread has to pass it on. It computes
//! [`ShardKey::shard_of`]: an announce or a one-torrent scrape for an info hash arrives at the
//! socket with that index, in the order in which the sockets were bound.
//!
//! The program is classic BPF, which needs no privilege. What it cannot do is fail: a load beyond
//! the end of a packet ends it with the result 0. So it looks at the length first, and spreads
//! whatever is too short to hold an info hash (connect requests) at random.

use std::io;

use aquatic_types::ShardKey;

use crate::UdpSocket;

/// Attaches the program to the group that `socket` is in; once per address and family is enough,
/// before or after the others have joined. The group must have `workers` sockets, bound in the
/// order of the workers' indices.
///
/// # Errors
/// If `workers` is 0 or above 65,536, if the socket was bound without `reuse_port`, or if
/// the system has no such thing (it is Linux's).
pub fn attach(socket: &UdpSocket, key: &ShardKey, workers: u32) -> io::Result<()> {
    if !(1..=ShardKey::SHARDS_MAX).contains(&(workers as usize)) {
        let message = format!("packets cannot be steered to {workers} workers");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    imp::attach(socket, key, workers)
}

/// Takes the program away that an earlier process may have left in the group of a socket: the
/// kernel spreads datagrams by itself again. Does nothing if there is none.
pub fn detach(socket: &UdpSocket) {
    imp::detach(socket);
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{ShardKey, UdpSocket, io};

    pub(super) fn detach(_: &UdpSocket) {}

    pub(super) fn attach(_: &UdpSocket, _: &ShardKey, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use libc::{BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_H, BPF_IMM, BPF_JGE, BPF_JMP};
    use libc::{BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX};
    use libc::{BPF_W, BPF_X, BPF_XOR, SKF_AD_OFF, SKF_AD_RANDOM};
    use libc::{SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF, SOL_SOCKET, sock_filter};

    use super::{ShardKey, UdpSocket, io};
    use crate::options;

    /// Where the info hash starts in an announce, and the first one in a scrape (BEP 15).
    const INFO_HASH_START_BYTES: u32 = 16;
    const NUMBER_MASK: u32 = (1 << ShardKey::NUMBER_BITS) - 1;
    /// A shorter datagram holds no info hash.
    const STEERED_BYTES_MIN: u32 = 36;

    pub(super) fn attach(socket: &UdpSocket, key: &ShardKey, workers: u32) -> io::Result<()> {
        options::attach_filter(socket, SO_ATTACH_REUSEPORT_CBPF, &program(key, workers))
    }

    pub(super) fn detach(socket: &UdpSocket) {
        // Fails if there is none, or no group; or before Linux 5.3, where it stays and places
        // datagrams as it did before.
        let _ = options::set_int(socket, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    }

    /// The program. Its data starts at the UDP payload; it works on the registers A and X.
    fn program(key: &ShardKey, workers: u32) -> Vec<sock_filter> {
        // A = random, for what is too short; jumped over otherwise.
        let random = (SKF_AD_OFF + SKF_AD_RANDOM).cast_unsigned();
        let mut program = vec![
            statement(BPF_LD | BPF_W | BPF_LEN, 0),
            jump_over_if_at_least(STEERED_BYTES_MIN, 3),
            statement(BPF_LD | BPF_W | BPF_ABS, random),
            statement(BPF_ALU | BPF_MOD | BPF_K, workers),
            statement(BPF_RET | BPF_A, 0),
        ];
        // X is the sum that `shard_of` computes.
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
        program.push(statement(BPF_ALU | BPF_RSH | BPF_K, ShardKey::NUMBER_BITS));
        for factor in key.last_factors {
            program.extend([
                statement(BPF_ALU | BPF_MUL | BPF_K, factor),
                statement(BPF_ALU | BPF_AND | BPF_K, NUMBER_MASK),
                statement(BPF_MISC | BPF_TAX, 0),
                statement(BPF_ALU | BPF_RSH | BPF_K, ShardKey::FOLD_BITS),
                statement(BPF_ALU | BPF_XOR | BPF_X, 0),
            ]);
        }
        program.extend([
            statement(BPF_ALU | BPF_MUL | BPF_K, workers),
            statement(BPF_ALU | BPF_RSH | BPF_K, ShardKey::NUMBER_BITS),
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
