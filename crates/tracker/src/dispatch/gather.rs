//! Scrapes that are scattered over shards, and gathered from what those say. Pure.

use aquatic_swarm::Counts;
use aquatic_types::{InfoHash, IpFamily};

use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::waiting_lines::WaitingLines;
use crate::shard::BatchProcessor;

/// The rows of a scrape, which come back from several shards at different times.
#[derive(Debug, Default)]
pub struct Gather {
    rows: Vec<Counts>,
    missing: usize,
    has_failed: bool,
}

impl Gather {
    /// Adds a row of zeros. Returns its index.
    pub fn add_row(&mut self) -> u16 {
        let row = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        self.rows.push(Counts::default());
        row
    }

    /// A row has been asked for: it will be [filled](Self::fill).
    pub fn expect(&mut self) {
        self.missing += 1;
    }

    /// Not all rows can be asked for. The rows that are missing will come back all the same.
    pub fn fail(&mut self) {
        self.has_failed = true;
    }

    /// A row has come back.
    pub fn fill(&mut self, row: u16, counts: Counts) {
        debug_assert!(self.missing > 0, "nobody has asked for it");
        self.missing = self.missing.saturating_sub(1);
        if let Some(row) = self.rows.get_mut(usize::from(row)) {
            *row = counts;
        }
    }

    /// Whether no row is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// All rows, in the order in which they were added; `None` if it has failed.
    #[must_use]
    pub fn rows(&self) -> Option<&[Counts]> {
        (!self.has_failed).then_some(&self.rows)
    }

    /// Makes it as good as new, but for the room that it has for rows.
    pub fn reset(&mut self) {
        self.rows.clear();
        self.missing = 0;
        self.has_failed = false;
    }
}

/// A scrape of a connection, which may wait until there is room for requests for all of its rows.
#[derive(Debug)]
pub struct PendingScrape {
    family: IpFamily,
    /// By row.
    info_hashes: Vec<InfoHash>,
    gather: Gather,
    /// Rows that are to be asked for. The first ones have been.
    wanted: Vec<u16>,
    asked: usize,
}

impl PendingScrape {
    /// A scrape without rows, by a client of this family.
    #[must_use]
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            info_hashes: Vec::new(),
            gather: Gather::default(),
            wanted: Vec::new(),
            asked: 0,
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
        self.info_hashes.capacity() * size_of::<InfoHash>()
            + self.gather.rows.capacity() * size_of::<Counts>()
            + self.wanted.capacity() * size_of::<u16>()
    }

    /// Adds a row of zeros, which is to be asked for, or stays so.
    pub fn add(&mut self, info_hash: InfoHash, is_wanted: bool) {
        let row = self.gather.add_row();
        self.info_hashes.push(info_hash);
        if is_wanted {
            self.wanted.push(row);
        }
    }

    /// Asks for no more than `rows_max` rows, each in the batch for the shard of its torrent, to
    /// which `push` adds it. Then `asked` hears which shard that was, and whether half of the way
    /// there [is in use](Dispatcher::is_half_used).
    ///
    /// Returns the shard that is to be asked for the next row, if there is one: it has no room, or
    /// others wait in `lines` for that, unless this scrape is the `first_for` it.
    pub fn ask<P: BatchProcessor, W>(
        &mut self,
        dispatcher: &mut Dispatcher<P>,
        lines: &WaitingLines<W>,
        first_for: Option<usize>,
        rows_max: usize,
        mut push: impl FnMut(&mut P::Batch, u16, InfoHash),
        mut asked: impl FnMut(usize, bool),
    ) -> Option<usize> {
        for _ in 0..rows_max {
            let (row, info_hash) = self.next_row()?;
            let shard = dispatcher.shard_of(&info_hash);
            if first_for != Some(shard) && lines.has(shard) {
                return Some(shard);
            }
            let Some(batch) = dispatcher.batch_for(shard) else {
                return Some(shard);
            };
            push(batch, row, info_hash);
            asked(shard, dispatcher.is_half_used(shard));
            self.row_asked();
        }
        let (_, info_hash) = self.next_row()?;
        Some(dispatcher.shard_of(&info_hash))
    }

    /// The next row that is to be asked for, and its torrent.
    #[must_use]
    pub fn next_row(&self) -> Option<(u16, InfoHash)> {
        let row = *self.wanted.get(self.asked)?;
        let info_hash = self.info_hashes.get(usize::from(row))?;
        Some((row, *info_hash))
    }

    /// [That](Self::next_row) one has been asked for, and will be [filled](Self::fill).
    pub fn row_asked(&mut self) {
        self.asked += 1;
        self.gather.expect();
    }

    /// The scrape will be refused, once the rows that have been asked for have come back.
    pub fn fail(&mut self) {
        self.wanted.truncate(self.asked);
        self.gather.fail();
    }

    /// A row has come back.
    pub fn fill(&mut self, row: u16, counts: Counts) {
        self.gather.fill(row, counts);
    }

    /// Whether no row is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.asked == self.wanted.len() && self.gather.is_complete()
    }

    /// All rows, in the order in which they were added; `None` if it has failed.
    #[must_use]
    pub fn into_rows(self) -> Option<impl Iterator<Item = (InfoHash, Counts)>> {
        let Self {
            info_hashes,
            gather,
            ..
        } = self;
        let rows = (!gather.has_failed).then_some(gather.rows)?;
        Some(info_hashes.into_iter().zip(rows))
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
        let mut gather = Gather::default();
        assert!(gather.is_complete());
        for is_wanted in [true, false, true] {
            gather.add_row();
            if is_wanted {
                gather.expect();
            }
        }
        gather.fill(2, counts(30));
        assert!(!gather.is_complete());
        gather.fill(0, counts(10));
        assert!(gather.is_complete());
        let expected = [counts(10), Counts::default(), counts(30)];
        assert_eq!(gather.rows(), Some(&expected[..]));
        gather.reset();
        assert_eq!(gather.rows(), Some(&[][..]));
    }

    #[test]
    fn what_has_failed_is_complete_when_all_that_was_asked_for_is_back() {
        let mut gather = Gather::default();
        gather.add_row();
        gather.expect();
        gather.fail();
        assert!(!gather.is_complete());
        gather.fill(0, counts(1));
        assert!(gather.is_complete() && gather.rows().is_none());
        gather.reset();
        assert!(gather.rows().is_some());
    }

    #[test]
    fn a_scrape_is_not_complete_before_all_its_rows_are_asked_for() {
        let mut scrape = PendingScrape::new(IpFamily::V4);
        scrape.add(InfoHash([1; 20]), false);
        assert!(scrape.is_complete(), "nothing is to be asked for");
        scrape.add(InfoHash([2; 20]), true);
        assert!(!scrape.is_complete());
        scrape.fail();
        assert!(scrape.is_complete() && scrape.into_rows().is_none());
    }
}
