//! What the connections of a worker hold together, and how much that may be.
//!
//! Each connection holds bytes that wait for its session, for its client, or for the rest of a
//! message. Each of them is bounded ([`Bounds`](crate::Bounds)), but there may be very many. So the
//! sum is kept: whenever something has happened to a connection, what it held before is subtracted
//! and what it holds now is added. Nothing is ever looked through for that.
//!
//! What counts is what has been allocated (capacities, not lengths), and what the kernel keeps. To
//! ask it takes a system call, so it is not asked as long as all would be well anyway: what it has
//! been given since counts as what it may keep ([`Counted::written_bytes`]), and so does the input
//! that is left to it. Only if there would be too little room with that, it is
//! [asked](crate::hub::Hub::next_unknown). What every connection has is not counted, since
//! `network.max_connections` bounds it.
//!
//! | held, of what there may be | what happens |
//! |---|---|
//! | three quarters with what the kernel [may](Memory::is_uncertain) keep | it is asked |
//! | three quarters ([tight](Memory::is_tight)) | more than a [share](Memory::share) waits |
//! | and somebody has waited for a second | those that hold most are closed, down to a half |
//! | seven eighths ([over](Memory::is_over)) | they are closed at once (`eviction`) |
//!
//! The last eighth is for what a single step adds, and for what is not counted in time: as long as
//! there is [plenty](Memory::has_plenty), a connection that has nothing but a short answer to send
//! ([`LIGHT_BYTES_MAX`]) is not counted before that is sent, in the same round. This is what most
//! connections are about, and what is counted is nothing again after each answer.

use std::mem;
use std::net::IpAddr;

use crate::bounds::{Bounds, READ_CHUNK_BYTES};

/// What sockets are asked to keep at most, in each direction, in bytes: room for an ordinary answer
/// and for a message of a WebTorrent client, and what Linux begins with to receive. But it would
/// let both grow to some MiB while the other side does not read (`net.ipv4.tcp_rmem` and
/// `tcp_wmem`).
pub(crate) const SOCKET_BUFFER_BYTES: u32 = 64 * 1024;

/// What the kernel keeps for one direction of a connection at most: it doubles what it is
/// [asked](SOCKET_BUFFER_BYTES) for, and counts all that it needs (socket(7)).
///
/// Counts for a client that does not read as fast as we write, until the kernel is asked.
pub(crate) const KERNEL_BYTES_MAX: usize = KERNEL_BYTES_FULL as usize;

/// The same, as the kernel counts.
pub(crate) const KERNEL_BYTES_FULL: u32 = 2 * SOCKET_BUFFER_BYTES;

/// What has been written since the kernel was asked counts, because it may still have it. Less than
/// this does not: a socket itself takes about as much.
const WRITTEN_BYTES_MIN: u32 = 4 * 1024;

/// Whoever holds no more than this is always read from: a request of an ordinary client.
const SHARE_BYTES_MIN: usize = 4 * 1024;

/// As much output need not be counted until it has been sent, or has not: an ordinary answer.
pub(crate) const LIGHT_BYTES_MAX: usize = 2 * 1024;

/// What is asked of a session when others are to have its connection's place or memory.
pub trait SessionState {
    /// Bytes that a client makes the session allocate, such as those of an unfinished message.
    /// Called very often.
    fn held_bytes(&self) -> usize;

    /// Whether the client waits for an answer, so that its connection must not give way to another
    /// one. Those whose [`WaitingFor`](crate::handler::WaitingFor) says so need not say it again.
    fn awaits_response(&self) -> bool {
        false
    }

    /// Who the client is: the proxy, as long as that has named nobody. `None`: anybody.
    fn client(&self) -> Option<IpAddr> {
        None
    }

    /// Whether a reverse proxy has named the [client](Self::client), for the connection as a whole.
    fn is_client_named(&self) -> bool {
        false
    }
}

impl SessionState for () {
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What the kernel keeps for a connection: with all that it needs for that (socket(7)), so it may
/// be much more than a client sends and leaves unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelBytes {
    /// Of what we have written: until the client has got it.
    pub unsent: u32,
    /// Of what has come: until we read it.
    pub unread: u32,
}

/// What a connection counts for. Small: each has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// What is allocated for it, and what the kernel is known to keep of its output.
    pub(crate) own_bytes: u32,
    /// What the kernel is known to keep of its input. No reason not to read it.
    pub(crate) unread_bytes: u32,
    /// What the kernel may keep of its output besides.
    pub(crate) written_bytes: u32,
    /// Its input is left to the kernel.
    pub(crate) is_left_unread: bool,
}

impl Counted {
    /// What it is known to hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.own_bytes as usize + self.unread_bytes as usize
    }

    /// Whether the kernel may keep more.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.written_bytes > 0 || self.is_left_unread
    }
}

/// The account of a worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    bytes_max: usize,
    /// By all connections, as far as that is known.
    held_bytes: usize,
    /// What the kernel may keep of their output besides.
    written_bytes: usize,
    /// Connections whose input is left to the kernel.
    left_unread: usize,
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
            ..Self::default()
        }
    }

    /// A connection that counted for this much counts for that from now on.
    pub(crate) fn recount(&mut self, counted: &mut Counted, now: Counted) {
        let before = mem::replace(counted, now);
        if before == now {
            return;
        }
        // Never less than nothing: each has been added before it is subtracted.
        let change = |sum: &mut usize, before: usize, now: usize| *sum = *sum + now - before;
        let (held_before, held) = (before.held_bytes(), now.held_bytes());
        change(&mut self.held_bytes, held_before, held);
        change(
            &mut self.holders,
            (held_before > 0).into(),
            (held > 0).into(),
        );
        let written = |counted: Counted| counted.written_bytes as usize;
        change(&mut self.written_bytes, written(before), written(now));
        let is_left = |counted: Counted| usize::from(counted.is_left_unread);
        change(&mut self.left_unread, is_left(before), is_left(now));
    }

    /// The same for a connection of which nothing else has changed than what has been written.
    pub(crate) fn recount_written(&mut self, counted: &mut Counted, now: u32) {
        let before = mem::replace(&mut counted.written_bytes, now);
        self.written_bytes = self.written_bytes + now as usize - before as usize;
    }

    /// Whether these are what all connections count for, and buffers without one. For tests.
    pub(crate) fn is_sum_of(
        &self,
        counted: impl Iterator<Item = Counted>,
        pooled_bytes: usize,
    ) -> bool {
        let mut sum = Self::new(self.bytes_max);
        sum.pooled_bytes = pooled_bytes;
        for counted in counted {
            sum.recount(&mut Counted::default(), counted);
        }
        *self == sum
    }

    /// What is known to be held, by connections and by buffers without one.
    pub(crate) fn bytes(&self) -> usize {
        self.held_bytes + self.pooled_bytes
    }

    /// The same, with all that the kernel may keep besides.
    pub(crate) fn bytes_at_most(&self) -> usize {
        let unread = self.left_unread.saturating_mul(KERNEL_BYTES_MAX);
        let unknown = self.written_bytes.saturating_add(unread);
        self.bytes().saturating_add(unknown)
    }

    /// Whether there is so much room that it does no harm if each of so many connections holds
    /// [a little](LIGHT_BYTES_MAX) more than it counts for.
    pub(crate) fn has_plenty(&self, connections: usize) -> bool {
        connections.saturating_mul(LIGHT_BYTES_MAX) <= self.bytes_max / 16 && !self.is_half_full()
    }

    /// Whether the kernel has to be asked what it keeps.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.bytes_at_most() > self.bytes_max - self.bytes_max / 4
    }

    /// Whether so much has been written that the kernel has to be asked at once.
    pub(crate) fn has_written_much(&self) -> bool {
        self.written_bytes > self.bytes_max / 16
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
    let buffers = 2 * (bounds.input_bytes_max + READ_CHUNK_BYTES) + 2 * bounds.output_bytes_max;
    buffers + 2 * KERNEL_BYTES_MAX
}

/// What the kernel may keep of output of which it is known to keep `unsent` bytes, when so many
/// have been `written` since.
pub(crate) fn written_bytes(written: u32, unsent: u32) -> u32 {
    match written {
        0..WRITTEN_BYTES_MIN => 0,
        more => more.min(KERNEL_BYTES_FULL.saturating_sub(unsent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(bytes: u32) -> Counted {
        Counted {
            own_bytes: bytes,
            ..Counted::default()
        }
    }

    #[test]
    fn the_account_follows_each_connection() {
        let mut memory = Memory::new(1_000_000);
        let (mut one, mut other) = (Counted::default(), Counted::default());
        memory.recount(&mut one, held(700_000));
        memory.recount(&mut other, held(40_000));
        assert!(!memory.is_tight());
        assert_eq!(memory.share(), usize::MAX);
        memory.recount(&mut other, held(60_000));
        assert!(memory.is_tight() && !memory.is_over());
        assert_eq!(memory.share(), 125_000);
        memory.pooled_bytes = 120_000;
        assert!(memory.is_over());
        memory.recount(&mut one, Counted::default());
        assert_eq!((memory.bytes(), memory.holders), (180_000, 1));
        memory.recount(&mut other, Counted::default());
        assert_eq!((memory.held_bytes, memory.holders), (0, 0));
    }

    #[test]
    fn what_the_kernel_may_keep_is_asked_for_before_anybody_suffers() {
        let mut memory = Memory::new(1_000_000);
        let mut counted = [Counted::default(); 2];
        let unknown = Counted {
            written_bytes: 700_000,
            is_left_unread: true,
            ..held(10_000)
        };
        memory.recount(&mut counted[0], unknown);
        assert_eq!(memory.bytes_at_most(), 710_000 + KERNEL_BYTES_MAX);
        assert!(memory.is_uncertain() && memory.has_written_much());
        assert!(!memory.is_tight());
        let known = Counted {
            unread_bytes: 60_000,
            ..held(20_000)
        };
        memory.recount(&mut counted[0], known);
        assert_eq!((memory.bytes(), memory.bytes_at_most()), (80_000, 80_000));
        assert!(!memory.is_uncertain() && !memory.has_written_much());
    }

    #[test]
    fn a_small_share_is_for_everybody() {
        let mut memory = Memory::new(1_000_000);
        let mut counted = vec![Counted::default(); 1_000];
        for one in &mut counted {
            memory.recount(one, held(900));
        }
        assert_eq!(memory.share(), SHARE_BYTES_MIN);
    }

    #[test]
    fn without_a_bound_nothing_is_too_much() {
        let mut memory = Memory::new(usize::MAX);
        memory.recount(&mut Counted::default(), held(u32::MAX));
        assert!(!memory.is_tight() && !memory.is_over() && !memory.is_uncertain());
    }

    #[test]
    fn the_kernel_keeps_no_more_than_it_may() {
        assert_eq!(written_bytes(4_095, 0), 0);
        assert_eq!(written_bytes(4_096, 0), 4_096);
        let full = KERNEL_BYTES_FULL;
        assert_eq!(written_bytes(1 << 30, 0), full);
        assert_eq!(written_bytes(1 << 30, 1_000), full - 1_000);
        assert_eq!(written_bytes(1 << 30, 2 * full), 0);
    }
}
