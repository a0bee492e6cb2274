//! Announces for a back end, until the servers have them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_tracker::announces::{Announces, Lines};

use crate::counters::Counters;

/// Bytes that some lines take besides.
const OVERHEAD_BYTES: usize = 128;

/// Lines that wait to be published, oldest first. When there is no more room, the oldest go.
#[derive(Debug)]
pub(crate) struct AnnounceBuffer {
    waiting: VecDeque<Lines>,
    bytes: usize,
    bytes_max: usize,
}

impl AnnounceBuffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines that wait.
    pub(crate) fn lines(&self) -> usize {
        self.waiting.iter().map(|lines| lines.count).sum()
    }

    /// Adds lines. Returns how many were dropped for them.
    pub(crate) fn push(&mut self, lines: Lines) -> usize {
        self.bytes += lines.bytes.len() + OVERHEAD_BYTES;
        self.waiting.push_back(lines);
        let mut dropped = 0;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.pop()
        {
            dropped += oldest.count;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Lines> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.bytes.len() + OVERHEAD_BYTES;
        Some(oldest)
    }

    /// Takes the oldest lines, of so many bytes at most, unless the first piece has more.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Option<Lines> {
        let mut message = self.pop()?;
        while let Some(next) = self.waiting.front()
            && message.bytes.len() + next.bytes.len() <= bytes_max
            && let Some(mut next) = self.pop()
        {
            message.bytes.append(&mut next.bytes);
            message.count += next.count;
        }
        if self.waiting.is_empty() {
            // An interruption may have made it large.
            self.waiting.shrink_to(64);
        }
        Some(message)
    }
}

/// What is needed to publish announces.
#[derive(Debug)]
pub struct AnnouncePlan {
    /// Where they come from.
    pub announces: Announces,
    /// Bytes that may wait.
    pub buffer_bytes: usize,
    /// How often it is looked what there is.
    pub flush_interval: Duration,
    /// A random number of this process: a part of the names of messages.
    pub process: u64,
    /// The clock of the workers.
    pub clock: Clock,
    /// Where it is counted.
    pub counters: Arc<Counters>,
}

impl AnnouncePlan {
    /// Fetches what workers have to tell.
    pub(crate) fn collect(&self, buffer: &mut AnnounceBuffer) {
        let zero = unix_micros().wrapping_sub(self.clock.micros());
        self.announces.set_zero_unix_micros(zero);
        let mut dropped = 0;
        dropped += self.announces.take(|lines| dropped += buffer.push(lines));
        self.counters.announces.dropped.add(dropped);
        self.counters.announces.buffered.set(buffer.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines {
            bytes: text.as_bytes().to_vec(),
            count: text.lines().count(),
        }
    }

    #[test]
    fn lines_go_in_order_as_many_as_fit_a_message() {
        let mut buffer = AnnounceBuffer::new(10_000);
        for text in ["a\nb\n", "c\n", "dddd\n", "e\n"] {
            assert_eq!(buffer.push(lines(text)), 0);
        }
        assert_eq!(buffer.lines(), 5);
        assert_eq!(buffer.take(6), Some(lines("a\nb\nc\n")));
        assert_eq!(buffer.take(4), Some(lines("dddd\n")), "not cut to pieces");
        assert_eq!(buffer.take(4), Some(lines("e\n")));
        assert_eq!((buffer.take(4), buffer.bytes()), (None, 0));
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let mut buffer = AnnounceBuffer::new(2 * (OVERHEAD_BYTES + 4));
        assert_eq!(buffer.push(lines("a\nb\n")), 0);
        assert_eq!(buffer.push(lines("c\nd\n")), 0);
        assert_eq!(buffer.push(lines("e\n")), 2);
        assert_eq!(buffer.take(100), Some(lines("c\nd\ne\n")));
    }
}
