//! What is to be published, until it can be.

use std::collections::VecDeque;

use aquatic_swarm_log::BatchBody;

use crate::replica::Outgoing;

/// Bytes that a batch takes besides its records.
const OVERHEAD_BYTES: usize = 128;

/// Batches that wait, oldest first. When there is no more room, the oldest go.
#[derive(Debug)]
pub(crate) struct PublishBuffer {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    bytes_max: usize,
}

impl PublishBuffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds a batch. Returns how many records were dropped for it.
    pub(crate) fn push(&mut self, outgoing: Outgoing) -> usize {
        self.bytes += bytes_of(&outgoing.body);
        self.waiting.push_back(outgoing);
        let mut dropped = 0;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.pop()
        {
            dropped += oldest.body.records();
        }
        dropped
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= bytes_of(&oldest.body);
        if self.waiting.is_empty() {
            // An interruption may have made it large.
            self.waiting.shrink_to(64);
        }
        Some(oldest)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(body: &BatchBody) -> usize {
    body.bytes() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use aquatic_daemon::clock::Now;
    use aquatic_swarm_log::{Kind, PeerRecord, RecordBuffer};
    use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus};

    use super::*;
    use crate::bus::{Channel, Destination};

    /// A batch of 100 records.
    fn batch(number: u64) -> Outgoing {
        let mut records = RecordBuffer::new(Kind::PEERS_V4);
        for port in 0..100 {
            records.push(&PeerRecord {
                info_hash: InfoHash([7; 20]),
                peer: CompactV4::new([192, 0, 2, 1].into(), port),
                status: PeerStatus::Leecher,
                has_completed: false,
                is_finished: false,
                seconds_left: 1_200,
            });
        }
        Outgoing {
            to: Destination::All(Channel::Peers),
            body: records.take(),
            since: Now::from_micros(number),
        }
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let mut buffer = PublishBuffer::new(10_000);
        let dropped: usize = (0..10).map(|number| buffer.push(batch(number))).sum();
        assert_eq!(dropped, 700, "2,900 bytes and some, each");
        assert!(buffer.bytes() <= 10_000);
        let left: Vec<_> = std::iter::from_fn(|| buffer.pop())
            .map(|it| it.since.micros)
            .collect();
        assert_eq!(left, [7, 8, 9]);
        assert_eq!(buffer.bytes(), 0);
    }

    #[test]
    fn what_never_has_room_is_dropped() {
        let mut buffer = PublishBuffer::new(1_000);
        assert_eq!(buffer.push(batch(0)), 100);
        assert!(buffer.pop().is_none());
    }
}
