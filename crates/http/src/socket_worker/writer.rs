//! How answers get into connections, and which of them is the last one on its connection.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_http_protocol::{
    BodilessResponse, Connection, Framing, Head, ScrapeFile, ScrapeResponse, write_as_last,
};
use aquatic_stream::{Closed, Connections, Io};
use aquatic_swarm::Counts;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_types::{InfoHash, IpFamily};

use crate::config::Intervals;
use crate::counters::{ResponseKind, ResponseTimes, WorkerCounters};
use crate::full_scrape::FullScrape;
use crate::messages::Batch;
use crate::refusal::Refusal;
use crate::session::Session;

/// Writes answers into connections, and counts them.
pub(super) struct Writer {
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) response_times: Arc<ResponseTimes>,
    pub(super) intervals: Intervals,
    /// The process is about to stop: see [`Self::is_last`].
    pub(super) is_stopping: bool,
}

impl Writer {
    /// Whether an answer is the last one on its connection because the process is about to stop.
    /// That it is not if its client has sent another request behind this one: to say that it is the
    /// last would mean that the other one was not served (RFC 9112, 9.6).
    #[inline]
    fn is_last(&self, behind: &[u8]) -> bool {
        self.is_stopping && !matches!(Head::parse(behind), Ok(Some(_)))
    }

    /// How an answer is to be written that was to be written so, if these bytes are behind its
    /// request.
    pub(super) fn framing(&self, mut framing: Framing, behind: &[u8]) -> Framing {
        if self.is_last(behind) {
            framing.connection = Connection::Close;
        }
        framing
    }

    /// What follows an answer to a request for which a session has waited.
    #[inline]
    fn end_wait(&self, now: Now, session: &mut Session, is_last: bool, io: &mut Io<'_>) {
        self.response_times.add(session.responded(now, io));
        if is_last || self.is_stopping && io.closes() {
            io.close_because(Closed::Restart);
        }
    }

    pub(super) fn close_after(&self, framing: Framing, io: &mut Io<'_>) {
        if framing.connection.stays_open() {
            return;
        }
        if self.is_stopping {
            io.close_because(Closed::Restart);
        } else {
            io.close();
        }
    }

    /// Hands the answers of a batch to their connections, and empties it.
    pub(super) fn deliver(
        &self,
        now: Now,
        batch: &mut Batch,
        connections: &mut Connections<Session>,
    ) {
        for (connection, answer) in batch.answers.iter() {
            let answered = connections.with(connection, |session, io| {
                let is_last = self.is_last(io.behind());
                match is_last {
                    true => write_as_last(answer, io.out),
                    false => io.out.extend_from_slice(answer),
                }
                self.end_wait(now, session, is_last, io);
            });
            if answered.is_some() {
                connections.resume(connection);
            }
        }
        batch.answers.clear();
        for scrape in batch.scrapes.drain(..) {
            let answered = connections.with(scrape.connection, |session, io| {
                session.fill_row(scrape.row, scrape.counts);
                self.end_scrape(now, session, io)
            });
            if answered == Some(true) {
                connections.resume(scrape.connection);
            }
        }
    }

    /// Answers a scrape if no row is missing. Returns whether that is so.
    pub(super) fn end_scrape(&self, now: Now, session: &mut Session, io: &mut Io<'_>) -> bool {
        let Some((complete, framing)) = session.take_scrape() else {
            return false;
        };
        let behind = io.behind();
        self.scrape(complete, self.framing(framing, behind), io);
        self.end_wait(now, session, self.is_last(behind), io);
        true
    }

    pub(super) fn end_full_scrape(
        &self,
        now: Now,
        scrape: FullScrape,
        connections: &mut Connections<Session>,
    ) {
        let (target, family) = (scrape.target(), scrape.family());
        let answered = connections.with(target.connection, |session, io| {
            let behind = io.behind();
            let framing = self.framing(target.framing, behind);
            self.rows(family, scrape.into_rows(), framing, io);
            self.end_wait(now, session, self.is_last(behind), io);
        });
        if answered.is_some() {
            connections.resume(target.connection);
        }
    }

    pub(super) fn scrape(&self, scrape: PendingScrape, framing: Framing, io: &mut Io<'_>) {
        self.rows(scrape.family(), scrape.into_rows(), framing, io);
    }

    /// `rows` are missing if somebody has not kept up.
    fn rows(
        &self,
        family: IpFamily,
        rows: Option<impl IntoIterator<Item = (InfoHash, Counts)>>,
        framing: Framing,
        io: &mut Io<'_>,
    ) {
        let Some(rows) = rows else {
            self.refuse(family, Refusal::QUEUE_FULL, framing, io);
            return;
        };
        let files = rows.into_iter().map(|(info_hash, counts)| ScrapeFile {
            info_hash,
            seeders: counts.seeders,
            completed: counts.completed,
            leechers: counts.leechers,
            // Partial seeds are not told apart from other leechers.
            downloaders: counts.leechers,
        });
        ScrapeResponse::new(&mut files.collect()).write(framing, io.out);
        let traffic = self.counters.traffic(family);
        traffic.responses(ResponseKind::Scrape).add(1);
        self.close_after(framing, io);
    }

    /// Answers an announce that was made with HEAD.
    pub(super) fn announce_head(&self, family: IpFamily, framing: Framing, io: &mut Io<'_>) {
        BodilessResponse.write(framing, io.out);
        let traffic = self.counters.traffic(family);
        traffic.responses(ResponseKind::Announce).add(1);
        self.close_after(framing, io);
    }

    pub(super) fn refuse(
        &self,
        family: IpFamily,
        refusal: Refusal,
        framing: Framing,
        io: &mut Io<'_>,
    ) {
        let traffic = self.counters.traffic(family);
        refusal.write(self.intervals, framing, traffic, io.out);
        self.close_after(framing, io);
    }
}
