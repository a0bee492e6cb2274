//! Scrapes that are put together from what several shards say. Pure.

use aquatic_swarm::Counts;
use aquatic_types::{InfoHash, IpFamily};

/// A scrape whose rows come back from several shards, at different times.
#[derive(Debug)]
pub struct PendingScrape {
    family: IpFamily,
    rows: Vec<(InfoHash, Counts)>,
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
            rows_missing: 0,
            given_up: false,
        }
    }

    /// The client's family.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Adds a row of zeros, and returns its place.
    pub fn add(&mut self, info_hash: InfoHash) -> u16 {
        let place = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        self.rows.push((info_hash, Counts::default()));
        place
    }

    /// The row that was added last will be [filled](Self::fill).
    pub fn expect_row(&mut self) {
        self.rows_missing += 1;
    }

    /// The scrape will be refused, once its missing rows have come back.
    pub fn give_up(&mut self) {
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
        for (torrent, expected) in [(1, true), (2, false), (3, true)] {
            assert_eq!(scrape.add(InfoHash([torrent; 20])), u16::from(torrent) - 1);
            if expected {
                scrape.expect_row();
            }
        }
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
        scrape.add(InfoHash([1; 20]));
        scrape.expect_row();
        scrape.add(InfoHash([2; 20]));
        scrape.give_up();
        scrape.fill(0, counts(1));
        assert!(scrape.is_complete());
        assert_eq!(scrape.into_rows(), None);
    }
}
