//! Announces for a back end, until the servers have them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_tracker::announces::{Announces, Lines};

use crate::counters::Counters;

/// Bytes that some lines take besides.
const OVERHEAD_BYTES: usize = 128;

/// Lines are put together to pieces of so many bytes: else each takes memory as if it was large.
const PIECE_BYTES: usize = 64 * 1_024;

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
    pub(crate) fn push(&mut self, mut lines: Lines) -> usize {
        match self.waiting.back_mut() {
            Some(last) if last.bytes.len() + lines.bytes.len() <= PIECE_BYTES => {
                self.bytes -= memory_of(last);
                last.bytes.append(&mut lines.bytes);
                last.count += lines.count;
                self.bytes += memory_of(last);
            }
            _ => {
                lines.bytes.shrink_to_fit();
                self.bytes += memory_of(&lines);
                self.waiting.push_back(lines);
            }
        }
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
        self.bytes -= memory_of(&oldest);
        Some(oldest)
    }

    /// Puts lines back that were taken.
    pub(crate) fn put_back(&mut self, lines: Lines) {
        self.bytes += memory_of(&lines);
        self.waiting.push_front(lines);
    }

    /// Takes the oldest lines, of so many bytes at most, unless one has more.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Option<Lines> {
        let mut message = self.pop()?;
        if let Some(rest) = split(&mut message, bytes_max) {
            self.put_back(rest);
            return Some(message);
        }
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

/// Bytes that lines take.
fn memory_of(lines: &Lines) -> usize {
    lines.bytes.capacity() + OVERHEAD_BYTES
}

/// Leaves so many bytes at most, or one line, and returns the lines behind these, if there are any.
pub(crate) fn split(lines: &mut Lines, bytes_max: usize) -> Option<Lines> {
    if lines.bytes.len() <= bytes_max {
        return None;
    }
    let is_end = |byte: &u8| *byte == b'\n';
    let (head, tail) = lines.bytes.split_at(bytes_max);
    let end = match head.iter().rposition(is_end) {
        Some(end) => end,
        None => bytes_max + tail.iter().position(is_end)?,
    };
    let bytes = lines.bytes.split_off(end + 1);
    let count = bytes.iter().filter(|byte| is_end(byte)).count();
    lines.count = lines.count.saturating_sub(count);
    (!bytes.is_empty()).then_some(Lines { bytes, count })
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
    /// Has lines tell the time by the system's clock, as it is now. What is served before this was
    /// called would seem to be of 1970.
    pub(crate) fn set_time(&self) {
        let zero = unix_micros().wrapping_sub(self.clock.micros());
        self.announces.set_zero_unix_micros(zero);
    }

    /// Fetches what workers have to tell.
    pub(crate) fn collect(&self, buffer: &mut AnnounceBuffer) {
        self.set_time();
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
        buffer.put_back(lines("dddd\n"));
        assert_eq!(buffer.lines(), 2);
        assert_eq!(buffer.take(6), Some(lines("dddd\n")));
        assert_eq!(buffer.take(4), Some(lines("e\n")));
        assert_eq!((buffer.take(4), buffer.bytes()), (None, 0));
    }

    #[test]
    fn a_message_is_cut_behind_a_line() {
        for (bytes_max, left, rest) in [
            (7, "a\nbb\nc\n", None),
            (6, "a\nbb\n", Some("c\n")),
            (5, "a\nbb\n", Some("c\n")),
            (4, "a\n", Some("bb\nc\n")),
            (1, "a\n", Some("bb\nc\n")),
        ] {
            let mut cut = lines("a\nbb\nc\n");
            assert_eq!(split(&mut cut, bytes_max), rest.map(lines), "{bytes_max}");
            assert_eq!(cut, lines(left), "{bytes_max}");
        }
        assert_eq!(split(&mut lines("aaa\n"), 1), None);
    }

    /// So many bytes of lines.
    fn much(byte: u8, bytes: usize) -> Lines {
        let mut all = vec![byte; bytes];
        for line in all.chunks_mut(256) {
            *line.last_mut().unwrap() = b'\n';
        }
        let count = bytes.div_ceil(256);
        Lines { bytes: all, count }
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let piece = PIECE_BYTES + OVERHEAD_BYTES;
        let mut buffer = AnnounceBuffer::new(2 * piece);
        for byte in *b"abc" {
            let dropped = buffer.push(much(byte, PIECE_BYTES));
            assert_eq!(dropped, if byte == b'c' { 256 } else { 0 });
        }
        assert_eq!((buffer.bytes(), buffer.lines()), (2 * piece, 512));
        assert_eq!(buffer.take(PIECE_BYTES), Some(much(b'b', PIECE_BYTES)));
    }

    /// Little that comes often takes little, whatever room there was for more.
    #[test]
    fn what_waits_takes_no_more_memory_than_it_may() {
        let mut buffer = AnnounceBuffer::new(1_000_000);
        let mut dropped = 0;
        for _ in 0..20_000 {
            let mut some = much(b'x', 256);
            some.bytes.reserve_exact(PIECE_BYTES);
            dropped += buffer.push(some);
            let held = buffer.waiting.iter().map(|lines| lines.bytes.capacity());
            assert!(held.sum::<usize>() <= 1_000_000);
        }
        let lines = buffer.lines();
        assert_eq!(lines + dropped, 20_000);
        assert!(lines > 1_000_000 / 256 / 2, "{lines}");
    }
}
