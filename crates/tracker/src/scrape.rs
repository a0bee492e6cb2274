//! Scrapes that are put together from what several shards say. Pure.

use aquatic_swarm::Counts;
use aquatic_types::{InfoHash, IpFamily};

/// A scrape whose rows come back from several shards, at different times. Nor are all asked for at
/// once if there is no room for so many requests.
#[derive(Debug)]
pub struct PendingScrape {
    family: IpFamily,
    rows: Vec<(InfoHash, Counts)>,
    /// Places of rows that are to be asked for. The first ones have been.
    wanted: Vec<u16>,
    asked: usize,
    rows_missing: usize,
    /// A part of it could not be passed on, so it cannot be answered.
    given_up: bool,
}

impl PendingScrape {
    /// A scrape without rows, by a client of this family.
    #[must_use]
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            rows: Vec::new(),
            wanted: Vec::new(),
            asked: 0,
            rows_missing: 0,
            given_up: false,
        }
    }

    /// The client's family.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Bytes that are allocated for it.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<(InfoHash, Counts)>()
            + self.wanted.capacity() * size_of::<u16>()
    }

    /// Adds a row of zeros, which is to be [asked](Self::next_row) for, or stays so.
    pub fn add(&mut self, info_hash: InfoHash, is_wanted: bool) {
        if is_wanted {
            let place = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
            self.wanted.push(place);
            self.rows_missing += 1;
        }
        self.rows.push((info_hash, Counts::default()));
    }

    /// The next row to be asked for: its place, and its torrent.
    #[must_use]
    pub fn next_row(&self) -> Option<(u16, InfoHash)> {
        let place = *self.wanted.get(self.asked)?;
        let (info_hash, _) = self.rows.get(usize::from(place))?;
        Some((place, *info_hash))
    }

    /// [That](Self::next_row) one has been asked for, and will be [filled](Self::fill).
    pub fn row_asked(&mut self) {
        self.asked += 1;
    }

    /// The scrape will be refused, once the rows that have been asked for have come back.
    pub fn give_up(&mut self) {
        let unasked = self.wanted.len() - self.asked.min(self.wanted.len());
        self.wanted.truncate(self.asked);
        self.rows_missing -= unasked.min(self.rows_missing);
        self.given_up = true;
    }

    /// Fills in a missing row.
    pub fn fill(&mut self, place: u16, counts: Counts) {
        self.rows_missing = self.rows_missing.saturating_sub(1);
        if let Some((_, row)) = self.rows.get_mut(usize::from(place)) {
            *row = counts;
        }
    }

    /// Whether no row is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rows_missing == 0
    }

    /// All rows, in the order in which they were added; `None` if it was given up.
    #[must_use]
    pub fn into_rows(self) -> Option<Vec<(InfoHash, Counts)>> {
        (!self.given_up).then_some(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(seeders: u32) -> Counts {
        Counts {
            seeders,
            leechers: 1,
            completed: 2,
        }
    }

    #[test]
    fn rows_keep_their_places_whatever_the_order() {
        let mut scrape = PendingScrape::new(IpFamily::V4);
        for (torrent, is_wanted) in [(1, true), (2, false), (3, true)] {
            scrape.add(InfoHash([torrent; 20]), is_wanted);
        }
        for (place, torrent) in [(0, 1), (2, 3)] {
            assert_eq!(scrape.next_row(), Some((place, InfoHash([torrent; 20]))));
            scrape.row_asked();
        }
        assert_eq!(scrape.next_row(), None);
        scrape.fill(2, counts(30));
        assert!(!scrape.is_complete());
        scrape.fill(0, counts(10));
        assert!(scrape.is_complete());
        let rows = scrape.into_rows().unwrap();
        let expected = [(1, counts(10)), (2, Counts::default()), (3, counts(30))];
        assert_eq!(
            rows,
            expected.map(|(torrent, counts)| (InfoHash([torrent; 20]), counts))
        );
    }

    #[test]
    fn a_scrape_without_all_its_rows_is_not_answered() {
        let mut scrape = PendingScrape::new(IpFamily::V4);
        scrape.add(InfoHash([1; 20]), true);
        scrape.add(InfoHash([2; 20]), true);
        scrape.row_asked();
        scrape.give_up();
        assert!(!scrape.is_complete() && scrape.next_row().is_none());
        scrape.fill(0, counts(1));
        assert!(scrape.is_complete());
        assert_eq!(scrape.into_rows(), None);
    }
}
