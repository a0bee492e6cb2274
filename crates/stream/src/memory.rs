//! What the connections of a worker hold together, and how much that may be.
//!
//! Each connection holds bytes that wait for its session, for its client, or for the rest of a
//! message. Each of them is bounded ([`Bounds`](crate::Bounds)), but there may be very many. So the
//! sum is kept: whenever something has happened to a connection, what it held before is subtracted
//! and what it holds now is added. Nothing is ever looked through for that.
//!
//! What counts is what has been allocated: capacities, not lengths. And what the kernel keeps, as
//! far as that can be known without asking it: see [`KERNEL_BYTES_MAX`]. What every connection has
//! is not counted, since `network.max_connections` bounds it.
//!
//! | held, of what there may be | what happens |
//! |---|---|
//! | three quarters ([tight](Memory::is_tight)) | more than a [share](Memory::share): it waits |
//! | seven eighths ([over](Memory::is_over)) | those that hold most are closed (`eviction`) |
//!
//! The last eighth is for what a single step adds.

use std::mem;

use crate::{Bounds, READ_BYTES_MAX};

/// What sockets are asked to keep at most, in each direction, in bytes: room for an ordinary answer
/// and for a message of a WebTorrent client, and what Linux begins with to receive. But it would
/// let both grow to some MiB while the other side does not read (`net.ipv4.tcp_rmem` and
/// `tcp_wmem`).
pub(crate) const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// What the kernel keeps for one direction of a connection at most: it doubles what it is
/// [asked](SOCKET_BUFFER_BYTES) for, and counts all that it needs (socket(7)).
///
/// Counts for a client that does not read as fast as we write, and for one that is not read from
/// because it has more than enough to do.
pub(crate) const KERNEL_BYTES_MAX: usize = 2 * SOCKET_BUFFER_BYTES;

/// What has been written without anything having come from the client since counts, because the
/// kernel may still have it. Less than this does not: a socket itself takes about as much.
const UNHEARD_BYTES_MIN: usize = 4 * 1024;

/// Whoever holds no more than this is always read from: a request of an ordinary client.
const SHARE_BYTES_MIN: usize = 4 * 1024;

/// What is kept of a session beside its connection.
pub trait SessionMemory {
    /// Bytes that a client makes the session allocate, such as those of an unfinished message.
    /// Called very often.
    fn held_bytes(&self) -> usize;
}

impl SessionMemory for () {
    fn held_bytes(&self) -> usize {
        0
    }
}

/// The account of a worker.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes_max: usize,
    /// By all connections.
    held_bytes: usize,
    /// Connections that hold anything.
    holders: usize,
    /// In buffers without a connection.
    pub(crate) pooled_bytes: usize,
}

impl Memory {
    /// `usize::MAX`: any number of bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held_bytes: 0,
            holders: 0,
            pooled_bytes: 0,
        }
    }

    /// A connection that counted for so many bytes counts for this many from now on.
    pub(crate) fn recount(&mut self, counted: &mut usize, bytes: usize) {
        let before = mem::replace(counted, bytes);
        if before == bytes {
            return;
        }
        self.held_bytes = self.held_bytes.saturating_sub(before) + bytes;
        match (before, bytes) {
            (0, _) => self.holders += 1,
            (_, 0) => self.holders = self.holders.saturating_sub(1),
            _ => {}
        }
    }

    /// What is held, by connections and by buffers without one.
    pub(crate) fn bytes(&self) -> usize {
        self.held_bytes + self.pooled_bytes
    }

    /// Whether those who hold much must not get more.
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes() > self.bytes_max - self.bytes_max / 4
    }

    /// Whether somebody has to give way.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes() > self.bytes_max - self.bytes_max / 8
    }

    /// Whether others can have room soon only if somebody gives way.
    pub(crate) fn is_half_full(&self) -> bool {
        self.bytes() > self.bytes_max / 2
    }

    /// What a connection may hold and still be read from.
    pub(crate) fn share(&self) -> usize {
        if !self.is_tight() {
            return usize::MAX;
        }
        let share = self.bytes_max / 4 / self.holders.max(1);
        share.max(SHARE_BYTES_MIN)
    }

    /// How many bytes are found at once, for this moment and the next ones.
    pub(crate) fn wanted(&self) -> usize {
        self.bytes_max / 4
    }
}

/// What an honest connection may have to hold: a message that waits and another one that comes,
/// output, both in buffers that have grown by doubling, and what the kernel keeps.
pub(crate) fn held_bytes_max(bounds: &Bounds) -> usize {
    let buffers = 2 * (bounds.input_bytes_max + READ_BYTES_MAX) + 2 * bounds.output_bytes_max;
    buffers + 2 * KERNEL_BYTES_MAX
}

/// What the kernel may keep of output, for a client that reads: `unheard` bytes have been written
/// since something last came from it.
pub(crate) fn unheard_bytes(unheard: usize) -> usize {
    match unheard {
        0..UNHEARD_BYTES_MIN => 0,
        more => more.min(KERNEL_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_follows_each_connection() {
        let mut memory = Memory::new(1_000_000);
        let (mut one, mut other) = (0, 0);
        memory.recount(&mut one, 700_000);
        memory.recount(&mut other, 40_000);
        assert!(!memory.is_tight());
        assert_eq!(memory.share(), usize::MAX);
        memory.recount(&mut other, 60_000);
        assert!(memory.is_tight() && !memory.is_over());
        assert_eq!(memory.share(), 125_000);
        memory.pooled_bytes = 120_000;
        assert!(memory.is_over());
        memory.recount(&mut one, 0);
        assert_eq!((memory.bytes(), memory.holders), (180_000, 1));
        memory.recount(&mut other, 0);
        assert_eq!((memory.held_bytes, memory.holders), (0, 0));
    }

    #[test]
    fn a_small_share_is_for_everybody() {
        let mut memory = Memory::new(1_000_000);
        let mut counted = vec![0; 1_000];
        for one in &mut counted {
            memory.recount(one, 900);
        }
        assert_eq!(memory.share(), SHARE_BYTES_MIN);
    }

    #[test]
    fn without_a_bound_nothing_is_too_much() {
        let mut memory = Memory::new(usize::MAX);
        let mut counted = 0;
        memory.recount(&mut counted, usize::MAX / 2);
        assert!(!memory.is_tight() && !memory.is_over());
    }

    #[test]
    fn the_kernel_keeps_no_more_than_it_may() {
        assert_eq!(unheard_bytes(4_095), 0);
        assert_eq!(unheard_bytes(4_096), 4_096);
        assert_eq!(unheard_bytes(1 << 30), KERNEL_BYTES_MAX);
    }
}
