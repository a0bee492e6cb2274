//! What an operation on one connection needs besides: the clock, and what all connections share.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

use crate::bounds::Bounds;
use crate::connection::{BUFFER_BYTES_KEPT, Connection};
use crate::counters::StreamCounters;
use crate::handler::ConnectionKey;
use crate::memory::Memory;

/// Buffers that are kept for those who have something to send next.
const BUFFERS_KEPT: usize = 256;

/// Not within 136 years.
pub(super) const NEVER: u32 = u32::MAX;

/// Comes with a connection that has been looked up.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) key: ConnectionKey,
    pub(super) deadline: &'a mut u32,
    pub(crate) shared: &'a mut Shared,
}

impl Cx<'_> {
    /// So many seconds from now on the connection's time is over. `None`: never.
    pub(crate) fn set_deadline(&mut self, seconds: Option<u32>) {
        // The present second has begun already.
        *self.deadline = seconds.map_or(NEVER, |seconds| (self.now.seconds + seconds + 1).0);
    }
}

/// What the connections of a worker share.
pub(crate) struct Shared {
    pub(crate) bounds: Bounds,
    pub(crate) counters: Arc<StreamCounters>,
    /// What all of them hold.
    pub(crate) memory: Memory,
    /// In this round, those that hold little need not be counted before their answers are sent.
    pub(crate) has_plenty: bool,
    /// Connections that the loop is to flush, each once.
    pub(crate) queue: Vec<ConnectionKey>,
    /// Connections whose kept bytes are to be offered again.
    pub(crate) resumed: Vec<ConnectionKey>,
    /// Connections that are not read from, because they hold more than their share of too much;
    /// and since when.
    pub(crate) held_back: Vec<(ConnectionKey, Seconds)>,
    pub(crate) pool: Pool,
    /// What sessions say, before it is encrypted.
    pub(crate) plain: Vec<u8>,
}

/// Buffers without a connection: one that has nothing to send keeps none.
#[derive(Default)]
pub(crate) struct Pool(Vec<Vec<u8>>);

impl Shared {
    pub(super) fn new(bounds: Bounds, memory_max: usize, counters: Arc<StreamCounters>) -> Self {
        Self {
            bounds,
            counters,
            memory: Memory::new(memory_max),
            has_plenty: false,
            queue: Vec::new(),
            resumed: Vec::new(),
            held_back: Vec::new(),
            pool: Pool::default(),
            plain: Vec::new(),
        }
    }

    /// Whether the loop is to read from this one.
    pub(crate) fn may_read<S>(&self, connection: &Connection<S>) -> bool {
        connection.may_be_read(&self.bounds) && !connection.is_over(self.memory.share())
    }

    /// Keeps a buffer for the next one who has something to send, if it is worth it.
    pub(crate) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        let is_worth_it = (1..=BUFFER_BYTES_KEPT).contains(&buffer.capacity());
        if is_worth_it && self.pool.0.len() < BUFFERS_KEPT && !self.memory.is_tight() {
            buffer.clear();
            self.memory.pooled_bytes += buffer.capacity();
            self.pool.0.push(buffer);
        }
    }

    pub(super) fn forget_buffers(&mut self) {
        self.pool = Pool::default();
        self.memory.pooled_bytes = 0;
    }
}

impl Pool {
    /// A buffer of those that are kept, or a new one.
    pub(crate) fn lend(&mut self, memory: &mut Memory) -> Vec<u8> {
        let buffer = self.0.pop().unwrap_or_default();
        memory.pooled_bytes = memory.pooled_bytes.saturating_sub(buffer.capacity());
        buffer
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Vec::capacity).sum()
    }
}
