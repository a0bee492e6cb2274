//! What is to be published, until it can be.

use std::collections::VecDeque;

use aquatic_swarm_log::BatchBody;

use crate::bus::Destination;
use crate::replica::Outgoing;

/// Bytes that a batch takes besides its records.
const OVERHEAD_BYTES: usize = 128;

/// Batches that wait, oldest first. When there is no more room, the oldest go.
#[derive(Debug)]
pub(crate) struct PublishBuffer {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    bytes_max: usize,
    /// Bytes of what is for one node.
    letter_bytes: usize,
}

impl PublishBuffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
            letter_bytes: 0,
        }
    }

    /// Adds a batch. Returns how many records were dropped for it. What is for one node is not
    /// added if much of that waits: it would come too late, and take the room of what is not.
    pub(crate) fn push(&mut self, mut outgoing: Outgoing) -> usize {
        if !self.waiting.is_empty() {
            outgoing.body.settle();
        }
        let bytes = bytes_of(&outgoing.body);
        if is_letters(&outgoing) {
            if self.letter_bytes + bytes > LETTER_BYTES_MAX {
                return 0;
            }
            self.letter_bytes += bytes;
        }
        self.bytes += bytes;
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
        let bytes = bytes_of(&oldest.body);
        self.bytes -= bytes;
        if is_letters(&oldest) {
            self.letter_bytes -= bytes;
        }
        if self.waiting.is_empty() {
            // An interruption may have made it large.
            self.waiting.shrink_to(64);
        }
        Some(oldest)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// There is no connection: what is for one node is not kept until there is.
    pub(crate) fn drop_letters(&mut self) {
        self.waiting.retain(|it| !is_letters(it));
        self.bytes -= std::mem::take(&mut self.letter_bytes);
    }
}

/// Bytes for single nodes that wait at most.
const LETTER_BYTES_MAX: usize = 4 * 1_024 * 1_024;

fn is_letters(outgoing: &Outgoing) -> bool {
    matches!(outgoing.to, Destination::Node(_))
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
    use crate::bus::Channel;

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

    /// What clients have for those of other nodes is of no use later.
    #[test]
    fn what_is_for_one_node_takes_little_room_and_is_not_kept() {
        let mut buffer = PublishBuffer::new(100_000_000);
        let letters = |number| Outgoing {
            to: Destination::Node("a".to_owned()),
            ..batch(number)
        };
        let bytes = bytes_of(&batch(0).body);
        buffer.push(batch(0));
        let mut added = 0;
        for number in 0..10_000 {
            let before = buffer.bytes();
            assert_eq!(buffer.push(letters(number)), 0);
            added += usize::from(buffer.bytes() > before);
        }
        assert_eq!(added, LETTER_BYTES_MAX / bytes);
        buffer.push(batch(1));
        buffer.pop();
        buffer.pop();
        buffer.drop_letters();
        assert_eq!(buffer.bytes(), bytes);
        assert!(buffer.pop().is_some_and(|it| !is_letters(&it)));
        assert!(buffer.pop().is_none());
        buffer.push(letters(1));
        assert_eq!(buffer.bytes(), bytes);
    }
}
