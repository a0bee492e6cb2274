//! Scrapes whose rows come back from several shards, at different times.

use aquatic_tracker::dispatch::gather::Gather;
use aquatic_types::IpFamily;
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
    gather: Gather,
}

impl PendingScrape {
    /// Answers it, unless it has failed.
    fn end(&self, outboxes: &mut [Outbox], counters: &WorkerCounters) {
        let counters = counters.traffic(self.family);
        let Some(rows) = self.gather.rows() else {
            counters.reason(Reason::QueueFull).add(1);
            return;
        };
        if let Some(outbox) = outboxes.get_mut(usize::from(self.socket)) {
            outbox.push_with(self.path, |bytes| {
                write_scrape_header(self.transaction_id, bytes);
                for counts in rows {
                    let row = ScrapeRow {
                        seeders: counts.seeders,
                        completed: counts.completed,
                        leechers: counts.leechers,
                    };
                    row.write(bytes);
                }
            });
            counters.responses(ResponseKind::Scrape).add(1);
        }
    }
}

/// All scrapes of one worker that have not been answered yet, by scrape_id.
pub(super) struct PendingScrapes {
    /// A slot is empty when its scrape_id is free.
    slots: Vec<Option<PendingScrape>>,
    free_tickets: Vec<u32>,
    /// With room for rows, to be used again.
    free_gathers: Vec<Gather>,
}

impl PendingScrapes {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free_tickets: Vec::new(),
            free_gathers: Vec::new(),
        }
    }

    /// Opens a scrape without rows. `None` if too many are open.
    pub(super) fn open(
        &mut self,
        family: IpFamily,
        socket: u8,
        path: ReturnPath,
        transaction_id: TransactionId,
    ) -> Option<(u32, &mut Gather)> {
        let scrape_id = match self.free_tickets.pop() {
            Some(scrape_id) => scrape_id,
            None if self.slots.len() >= OPEN_MAX => return None,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let scrape = PendingScrape {
            family,
            socket,
            path,
            transaction_id,
            gather: self.free_gathers.pop().unwrap_or_default(),
        };
        let scrape = self.slot(scrape_id)?.insert(scrape);
        Some((scrape_id, &mut scrape.gather))
    }

    /// Takes rows that have come back, and answers the scrapes that are complete now.
    pub(super) fn take_rows(
        &mut self,
        rows: &mut Vec<Scrape>,
        outboxes: &mut [Outbox],
        counters: &WorkerCounters,
    ) {
        for row in rows.drain(..) {
            if let Some(Some(scrape)) = self.slot(row.scrape_id) {
                scrape.gather.fill(row.row, row.counts);
            }
            self.end_if_complete(row.scrape_id, outboxes, counters);
        }
    }

    /// Answers the scrape if no row is missing, unless it has failed.
    pub(super) fn end_if_complete(
        &mut self,
        scrape_id: u32,
        outboxes: &mut [Outbox],
        counters: &WorkerCounters,
    ) {
        let is_complete = |scrape: &mut PendingScrape| scrape.gather.is_complete();
        let Some(mut scrape) = self.slot(scrape_id).and_then(|it| it.take_if(is_complete)) else {
            return;
        };
        scrape.end(outboxes, counters);
        scrape.gather.reset();
        self.free_gathers.push(scrape.gather);
        self.free_tickets.push(scrape_id);
    }

    fn slot(&mut self, scrape_id: u32) -> Option<&mut Option<PendingScrape>> {
        self.slots.get_mut(usize::try_from(scrape_id).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use aquatic_swarm::Counts;
    use aquatic_types::InfoHash;

    use super::*;

    fn open(scrapes: &mut PendingScrapes) -> Option<(u32, &mut Gather)> {
        let path = ReturnPath::to(([192, 0, 2, 1], 1).into());
        scrapes.open(IpFamily::V4, 0, path, TransactionId(*b"abcd"))
    }

    fn row(scrape_id: u32, seeders: u32) -> Scrape {
        Scrape {
            scrape_id,
            row: 0,
            family: IpFamily::V4,
            info_hash: InfoHash([1; 20]),
            counts: Counts {
                seeders,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn open_scrapes_are_bounded_and_tickets_used_again() {
        let mut scrapes = PendingScrapes::new();
        for _ in 0..OPEN_MAX {
            let (_, gather) = open(&mut scrapes).unwrap();
            gather.add_row();
            gather.expect();
        }
        assert!(open(&mut scrapes).is_none());
        let (mut outboxes, counters) = ([Outbox::new()], WorkerCounters::default());
        scrapes.take_rows(&mut vec![row(7, 3)], &mut outboxes, &counters);
        let (_, answer) = outboxes[0].get(0).unwrap();
        assert_eq!(answer.len(), 8 + 12);
        assert_eq!(answer[8..12], [0, 0, 0, 3]);
        let (scrape_id, gather) = open(&mut scrapes).unwrap();
        assert_eq!((scrape_id, gather.rows()), (7, Some(&[][..])));
    }

    #[test]
    fn a_scrape_that_has_failed_is_counted_and_not_answered() {
        let mut scrapes = PendingScrapes::new();
        let (scrape_id, gather) = open(&mut scrapes).unwrap();
        gather.add_row();
        gather.expect();
        gather.fail();
        let (mut outboxes, counters) = ([Outbox::new()], WorkerCounters::default());
        let failed = || {
            counters
                .traffic(IpFamily::V4)
                .reason(Reason::QueueFull)
                .get()
        };
        scrapes.end_if_complete(scrape_id, &mut outboxes, &counters);
        assert_eq!(failed(), 0, "a row is missing");
        scrapes.take_rows(&mut vec![row(scrape_id, 1)], &mut outboxes, &counters);
        assert_eq!((failed(), outboxes[0].len()), (1, 0));
    }
}
