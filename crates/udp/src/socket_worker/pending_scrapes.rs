//! Scrapes whose rows come back from several shards, at different times.

use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp_protocol::{ScrapeRow, TransactionId, write_scrape_header};
use aquatic_udp_socket::{Outbox, ReturnPath};

use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::messages::Scrape;

/// Scrapes of one worker that can be open at a time: as many as can be on their way.
const OPEN_MAX: usize = 8_192;

/// A scrape that has not been answered yet.
struct PendingScrape {
    family: IpFamily,
    socket: u8,
    path: ReturnPath,
    transaction_id: TransactionId,
    rows: Vec<ScrapeRow>,
    rows_missing: usize,
    /// A part of it could not be passed on, so it cannot be answered.
    given_up: bool,
}

impl PendingScrape {
    /// Appends the answer.
    fn write(&self, out: &mut Vec<u8>) {
        write_scrape_header(self.transaction_id, out);
        for row in &self.rows {
            row.write(out);
        }
    }
}

/// All scrapes of one worker that have not been answered yet, by ticket.
pub(super) struct PendingScrapes {
    /// A slot is empty when its ticket is free.
    slots: Vec<Option<PendingScrape>>,
    free_tickets: Vec<u32>,
    /// Row buffers to be used again.
    free_rows: Vec<Vec<ScrapeRow>>,
    /// Scratch space for the torrents of one scrape.
    pub(super) torrents: Vec<(InfoHash, bool)>,
}

impl PendingScrapes {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free_tickets: Vec::new(),
            free_rows: Vec::new(),
            torrents: Vec::new(),
        }
    }

    /// Opens a scrape without rows. `None` if too many are open.
    pub(super) fn open(
        &mut self,
        family: IpFamily,
        socket: u8,
        path: ReturnPath,
        transaction_id: TransactionId,
    ) -> Option<u32> {
        let scrape = PendingScrape {
            family,
            socket,
            path,
            transaction_id,
            rows: self.free_rows.pop().unwrap_or_default(),
            rows_missing: 0,
            given_up: false,
        };
        if let Some(ticket) = self.free_tickets.pop() {
            *self.slot(ticket)? = Some(scrape);
            return Some(ticket);
        }
        if self.slots.len() >= OPEN_MAX {
            return None;
        }
        let ticket = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Some(scrape));
        Some(ticket)
    }

    /// Adds a row of zeros that is complete.
    pub(super) fn add_row(&mut self, ticket: u32) {
        if let Some(scrape) = self.get(ticket) {
            scrape.rows.push(ScrapeRow {
                seeders: 0,
                completed: 0,
                leechers: 0,
            });
        }
    }

    /// Adds a row that will be [filled](Self::fill_row).
    pub(super) fn expect_row(&mut self, ticket: u32) {
        self.add_row(ticket);
        if let Some(scrape) = self.get(ticket) {
            scrape.rows_missing += 1;
        }
    }

    /// The scrape will not be answered; it stays until its missing rows have come back.
    pub(super) fn give_up(&mut self, ticket: u32) {
        self.add_row(ticket);
        if let Some(scrape) = self.get(ticket) {
            scrape.given_up = true;
        }
    }

    /// Takes rows that have come back, and answers the scrapes that are complete now.
    pub(super) fn take_rows(
        &mut self,
        rows: &mut Vec<Scrape>,
        outboxes: &mut [Outbox],
        counters: &WorkerCounters,
    ) {
        for Scrape {
            ticket, place, row, ..
        } in rows.drain(..)
        {
            self.fill_row(ticket, place, row);
            self.answer_if_complete(ticket, outboxes, counters);
        }
    }

    /// Answers the scrape if no row is missing, unless it was given up.
    pub(super) fn answer_if_complete(
        &mut self,
        ticket: u32,
        outboxes: &mut [Outbox],
        counters: &WorkerCounters,
    ) {
        let Some(scrape) = self.close_if_complete(ticket) else {
            return;
        };
        let counters = counters.traffic(scrape.family);
        if scrape.given_up {
            counters.reason(Reason::QueueFull).add(1);
        } else if let Some(outbox) = outboxes.get_mut(usize::from(scrape.socket)) {
            outbox.push_with(scrape.path, |bytes| scrape.write(bytes));
            counters.responses(ResponseKind::Scrape).add(1);
        }
        self.recycle(scrape);
    }

    fn fill_row(&mut self, ticket: u32, place: u16, row: ScrapeRow) {
        let Some(scrape) = self.get(ticket) else {
            return;
        };
        scrape.rows_missing = scrape.rows_missing.saturating_sub(1);
        if let Some(gap) = scrape.rows.get_mut(usize::from(place)) {
            *gap = row;
        }
    }

    /// Takes the scrape out if no row is missing. To be [recycled](Self::recycle).
    fn close_if_complete(&mut self, ticket: u32) -> Option<PendingScrape> {
        let scrape = self
            .slot(ticket)?
            .take_if(|scrape| scrape.rows_missing == 0)?;
        self.free_tickets.push(ticket);
        Some(scrape)
    }

    fn recycle(&mut self, scrape: PendingScrape) {
        let mut rows = scrape.rows;
        rows.clear();
        self.free_rows.push(rows);
    }

    fn slot(&mut self, ticket: u32) -> Option<&mut Option<PendingScrape>> {
        self.slots.get_mut(usize::try_from(ticket).ok()?)
    }

    fn get(&mut self, ticket: u32) -> Option<&mut PendingScrape> {
        self.slot(ticket)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(scrapes: &mut PendingScrapes) -> Option<u32> {
        let path = ReturnPath::to(([192, 0, 2, 1], 1).into());
        scrapes.open(IpFamily::V4, 0, path, TransactionId(*b"abcd"))
    }

    fn row(seeders: u32) -> ScrapeRow {
        ScrapeRow {
            seeders,
            completed: 0,
            leechers: 0,
        }
    }

    #[test]
    fn rows_keep_their_places_whatever_the_order() {
        let mut scrapes = PendingScrapes::new();
        let ticket = open(&mut scrapes).unwrap();
        scrapes.expect_row(ticket);
        scrapes.add_row(ticket);
        scrapes.expect_row(ticket);
        scrapes.fill_row(ticket, 2, row(30));
        assert!(scrapes.close_if_complete(ticket).is_none());
        scrapes.fill_row(ticket, 0, row(10));
        let scrape = scrapes.close_if_complete(ticket).unwrap();
        assert_eq!(scrape.rows, [row(10), row(0), row(30)]);
        assert!(scrapes.close_if_complete(ticket).is_none());
        scrapes.recycle(scrape);
        assert_eq!(open(&mut scrapes), Some(ticket), "the ticket is used again");
        assert!(scrapes.close_if_complete(ticket).unwrap().rows.is_empty());
    }

    #[test]
    fn open_scrapes_are_bounded() {
        let mut scrapes = PendingScrapes::new();
        for _ in 0..OPEN_MAX {
            let ticket = open(&mut scrapes).unwrap();
            scrapes.expect_row(ticket);
        }
        assert_eq!(open(&mut scrapes), None);
        scrapes.fill_row(7, 0, row(1));
        assert!(scrapes.close_if_complete(7).is_some());
        assert_eq!(open(&mut scrapes), Some(7));
    }
}
