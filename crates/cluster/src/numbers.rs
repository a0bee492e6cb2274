//! Which of the numbered batches of a process have been heard.

use std::collections::{HashSet, VecDeque};

/// The channels whose batches are numbered, so that it is noticed if one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Numbered {
    Peers,
    Members,
}

impl Numbered {
    pub(crate) const ALL: [Self; 2] = [Self::Peers, Self::Members];
}

/// Something of each of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfEach<T> {
    pub(crate) peers: T,
    pub(crate) members: T,
}

impl<T> OfEach<T> {
    pub(crate) fn of(&self, channel: Numbered) -> &T {
        match channel {
            Numbered::Peers => &self.peers,
            Numbered::Members => &self.members,
        }
    }

    pub(crate) fn of_mut(&mut self, channel: Numbered) -> &mut T {
        match channel {
            Numbered::Peers => &mut self.peers,
            Numbered::Members => &mut self.members,
        }
    }

    pub(crate) fn all(&self) -> [&T; 2] {
        [&self.peers, &self.members]
    }

    pub(crate) fn all_mut(&mut self) -> [&mut T; 2] {
        [&mut self.peers, &mut self.members]
    }
}

/// Gaps that are remembered. What was missed before counts as heard.
const GAPS_MAX: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// From this number on all have been heard but those in gaps; 0: none is known of.
    first: u64,
    last: u64,
    /// Numbers that were not heard, from the first to the last, oldest first.
    gaps: VecDeque<(u64, u64)>,
}

impl Numbers {
    /// A batch with this number has come. Returns how many before it have not.
    pub(crate) fn note(&mut self, number: u64) -> u64 {
        if self.first == 0 {
            self.first = number;
        }
        let missing = number.saturating_sub(self.last.saturating_add(1));
        if number <= self.last {
            // It was late.
            self.take_logged(number);
            return 0;
        }
        self.push_gap(number);
        self.last = number;
        missing
    }

    /// All up to this number have been published. Returns how many of them have not come.
    pub(crate) fn note_told(&mut self, told: u64) -> u64 {
        let missing = told.saturating_sub(self.last);
        if self.first == 0 {
            self.first = told.saturating_add(1);
        } else if missing > 0 {
            self.push_gap(told.saturating_add(1));
        }
        self.last = told.max(self.last);
        missing
    }

    /// Whether any batch was published.
    pub(crate) fn are_some(&self) -> bool {
        self.last > 0
    }

    /// Whether all that were published have been heard.
    pub(crate) fn are_all_heard(&self) -> bool {
        self.first == 1 && self.gaps.is_empty()
    }

    /// Whether no later batch has been heard.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        number > self.last
    }

    /// Whether something was not heard, nor read.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// All numbers after the last one have not come, up to this one.
    fn push_gap(&mut self, end: u64) {
        let begin = self.last.saturating_add(1).max(self.first);
        if begin < end {
            self.gaps.push_back((begin, end - 1));
        }
        if self.gaps.len() > GAPS_MAX {
            self.gaps.pop_front();
        }
    }

    /// A batch comes out of the log. Returns whether it was heard before; `None` if that cannot be
    /// said, as it is older than what is known.
    pub(crate) fn take_logged(&mut self, number: u64) -> Option<bool> {
        if self.first == 0 || number < self.first {
            return None;
        }
        if number > self.last {
            return Some(false);
        }
        let is_in = |gap: &(u64, u64)| (gap.0..=gap.1).contains(&number);
        let Some(place) = self.gaps.iter().position(is_in) else {
            return Some(true);
        };
        // It is heard now.
        if let Some((begin, end)) = self.gaps.remove(place) {
            let parts = [
                (begin, number.wrapping_sub(1)),
                (number.wrapping_add(1), end),
            ];
            for (offset, part) in parts
                .into_iter()
                .filter(|part| part.0 <= part.1 && (begin..=end).contains(&part.0))
                .enumerate()
            {
                self.gaps.insert(place + offset, part);
            }
        }
        Some(false)
    }
}

/// Processes that are remembered to be in the log.
const LOGGED_MAX: usize = 8_192;

/// The processes and channels of which the log has the first batch of all.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(HashSet<(u64, Numbered)>);

impl Beginnings {
    /// The log has a batch with this number.
    pub(crate) fn note(&mut self, process: u64, channel: Numbered, number: u64) {
        if number == 1 && self.0.len() < LOGGED_MAX {
            self.0.insert((process, channel));
        }
    }

    pub(crate) fn has(&self, process: u64, channel: Numbered) -> bool {
        self.0.contains(&(process, channel))
    }

    pub(crate) fn clear(&mut self) {
        self.0 = HashSet::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: &mut Numbers, asked: impl IntoIterator<Item = u64>) -> Vec<Option<bool>> {
        let asked = asked.into_iter();
        asked.map(|number| numbers.take_logged(number)).collect()
    }

    #[test]
    fn what_is_in_a_gap_comes_once() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.take_logged(1), None);
        assert_eq!(numbers.note(5), 4);
        assert_eq!(numbers.note(6), 0);
        assert_eq!(numbers.note(10), 3);
        assert_eq!(numbers.note(10), 0, "twice");
        assert_eq!(numbers.note(8), 0, "late");
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(
            heard(&mut numbers, [4, 5, 6, 8, 8, 7, 9, 7, 10, 11]),
            [None, yes, yes, yes, yes, no, no, yes, yes, no]
        );
        assert!(numbers.gaps.is_empty());
    }

    #[test]
    fn what_was_published_before_a_process_was_heard_is_not_known() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.note_told(50), 50);
        assert_eq!(numbers.note_told(50), 0);
        assert_eq!(numbers.note(51), 0);
        assert_eq!(numbers.note_told(53), 2);
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(
            heard(&mut numbers, [49, 50, 51, 52, 53, 53]),
            [None, None, yes, no, no, yes]
        );
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        let mut numbers = Numbers::default();
        for number in [0, 1, u64::MAX - 1, 7, u64::MAX, 0] {
            numbers.note(number);
            numbers.note_told(number);
            heard(
                &mut numbers,
                [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX],
            );
        }
        let mut numbers = Numbers::default();
        for number in 1..1_000 {
            numbers.note(3 * number);
        }
        assert_eq!(numbers.gaps.len(), GAPS_MAX);
        assert_eq!(numbers.take_logged(4), Some(true));
        assert_eq!(numbers.take_logged(2_996), Some(false));
    }
}
