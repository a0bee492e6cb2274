//! Who waits until the owner of a shard has room for a request again. Pure.
//!
//! The queue between two workers is bounded, and a few clients can fill it. Whoever finds it full
//! waits in a line, and nothing more is read from its connection: so each connection has one place,
//! and gets a second one only when all others have had their turn. A scrape of many torrents takes
//! [`SCRAPE_TURN`] at a time, and goes to the end of the line with the rest: it counts as much as
//! it asks for.

use std::collections::VecDeque;

/// Torrents of a scrape that are asked about in one turn, while others wait.
pub const SCRAPE_TURN: usize = 16;

/// Places in one line: so many connections a worker hardly has. Not all are those of connections
/// that are still there.
const PLACES_MAX: usize = 1 << 16;

/// Places that room is kept for while nobody waits.
const PLACES_KEPT: usize = 64;

/// One line for each shard.
#[derive(Debug)]
pub struct WaitingLines<T> {
    lines: Vec<VecDeque<T>>,
    waiting: usize,
}

impl<T> WaitingLines<T> {
    /// Nobody waits for any of so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            lines: (0..shards).map(|_| VecDeque::new()).collect(),
            waiting: 0,
        }
    }

    /// Whether somebody waits for a shard: then whoever comes now has to wait, too.
    #[must_use]
    pub fn has(&self, shard: usize) -> bool {
        self.waiting > 0 && self.lines.get(shard).is_some_and(|line| !line.is_empty())
    }

    /// Whether nobody waits for any shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Somebody goes to the end of a line. Returns whether there was a place.
    #[must_use]
    pub fn join(&mut self, shard: usize, who: T) -> bool {
        let Some(line) = self.lines.get_mut(shard) else {
            return false;
        };
        let has_place = line.len() < PLACES_MAX;
        if has_place {
            line.push_back(who);
            self.waiting += 1;
        }
        has_place
    }

    /// Takes the first one out of a line.
    pub fn leave(&mut self, shard: usize) -> Option<T> {
        let line = self.lines.get_mut(shard)?;
        let first = line.pop_front()?;
        self.waiting -= 1;
        if line.is_empty() {
            line.shrink_to(PLACES_KEPT);
        }
        Some(first)
    }

    /// The one who was [first](Self::leave) stays that: there is no room yet.
    pub fn stay(&mut self, shard: usize, first: T) {
        if let Some(line) = self.lines.get_mut(shard) {
            line.push_front(first);
            self.waiting += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_in_the_order_of_coming() {
        let mut lines = WaitingLines::new(2);
        assert!(lines.join(0, 'a') && lines.join(0, 'b') && lines.join(1, 'c'));
        assert!(lines.has(0) && lines.has(1) && !lines.has(2));
        assert_eq!(lines.leave(0), Some('a'));
        lines.stay(0, 'a');
        assert_eq!(lines.waiting, 3);
        assert_eq!([lines.leave(0), lines.leave(0)], [Some('a'), Some('b')]);
        assert!(!lines.has(0) && lines.has(1) && !lines.is_empty());
        assert_eq!(lines.leave(0), None);
        assert_eq!(lines.leave(1), Some('c'));
        assert!(lines.is_empty());
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = WaitingLines::new(1);
        assert!((0..PLACES_MAX).all(|place| lines.join(0, place)));
        assert!(!lines.join(0, 0));
        assert!(!lines.join(1, 0), "there is no such shard");
        assert_eq!(lines.leave(0), Some(0));
        assert!(lines.join(0, 0));
    }
}
