//! What a socket worker does with the requests of its connections, whatever moves their bytes.
//! Pure.
//!
//! A [`SocketWorker`] is the [`Handler`] of the connections of one thread. While bytes come in, it
//! decides about each request and puts those that concern swarms into batches. When a round of
//! receiving is over ([`Handler::finish`]) the batches go to the owners of the shards, this
//! worker's own one is answered, and every answer that has come back is handed to its connection.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_http_protocol::{
    BodilessResponse, Connection, Framing, Head, Request, ScrapeFile, ScrapeRequest,
    ScrapeResponse, TextResponse, write_as_last,
};
use aquatic_stream::{Client, Closed, ConnectionKey, Connections, Handler, Io};
use aquatic_swarm::Counts;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_tracker::dispatch::waiting_lines::{SCRAPE_TURN, WaitingLines};
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_types::{InfoHash, IpFamily, PeerStatus};

use crate::config::Intervals;
use crate::counters::{Reason, ResponseKind, ResponseTimes, WorkerCounters};
use crate::full_scrape::{FullScrape, Line};
use crate::messages::{Announce, Batch, Scrape};
use crate::refusal::Refusal;
use crate::response_target::ResponseTarget;
use crate::response_writer::ResponseWriter;
use crate::service::{Dispatch, Received, Service};
use crate::session::{Next, Session};
use crate::waiting::{Family, Waiting};

/// Places in lines that a client has, at most, that has gone and left announces with `stopped`: as
/// much as one turn of a scrape. Others could leave thousands, and with some connections take all
/// places.
const ABSENT_PLACES_MAX: usize = SCRAPE_TURN;

/// A socket worker without its sockets.
pub struct SocketWorker {
    service: Service,
    dispatcher: Dispatcher<ResponseWriter>,
    /// If this worker owns a shard.
    owner: Option<Box<ShardOwner<AddressShard>>>,
    /// Who waits for room.
    lines: WaitingLines<Waiting>,
    full_scrapes: Line,
    writer: Writer,
}

impl SocketWorker {
    /// A worker. `owner` has the shard that it owns, if it owns one.
    #[must_use]
    pub fn new(
        service: Service,
        dispatcher: Dispatcher<ResponseWriter>,
        owner: Option<Box<ShardOwner<AddressShard>>>,
        counters: Arc<WorkerCounters>,
        response_times: Arc<ResponseTimes>,
    ) -> Self {
        let intervals = service.intervals();
        let lines = WaitingLines::new(dispatcher.shards());
        Self {
            service,
            dispatcher,
            owner,
            lines,
            full_scrapes: Line::default(),
            writer: Writer {
                counters,
                response_times,
                intervals,
                is_stopping: false,
            },
        }
    }

    /// Whether requests wait because the owner of a shard does not keep up.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Deals with one request: it is either answered when this returns, or the session waits.
    fn serve(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        session: &mut Session,
        head: &Head<'_>,
        io: &mut Io<'_>,
    ) {
        let framing = self.writer.framing(self.service.framing(head));
        if let Some(text) = self.service.text(head) {
            TextResponse { text }.write(framing, io.out);
            close_after(framing, io);
            return;
        }
        let target = ResponseTarget {
            connection,
            framing,
        };
        let peer = session.peer();
        let Received { family, dispatch } = self.service.receive(now, peer, target, head);
        let passed_on = match dispatch {
            Ok(Dispatch::AnnounceV4(announce)) => self.pass_on(announce),
            Ok(Dispatch::AnnounceV6(announce)) => self.pass_on(announce),
            Ok(Dispatch::AnnounceHead) => {
                self.writer.announce_head(family, framing, io);
                return;
            }
            Ok(Dispatch::Scrape(scrape)) => {
                self.scatter(now, target, family, session, &scrape, io);
                return;
            }
            Ok(Dispatch::FullScrape(torrents_max)) => {
                let scrape = FullScrape::new(target, family, torrents_max);
                self.full_scrapes.join(scrape)
            }
            Err(refusal) => Err(refusal),
        };
        match passed_on {
            Ok(()) => session.request_sent(now, framing, io),
            Err(refusal) => self.writer.refuse(family, refusal, framing, io),
        }
    }

    /// Deals with a request of a client that has gone. To leave a swarm is still of use, to others:
    /// without it, a peer that is gone would be handed out until it is too old. Any other request
    /// was for an answer that nobody reads, and is as if it had not come.
    ///
    /// Takes one of the `places` that the client may have in lines, if it has to wait.
    fn serve_absent(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &Session,
        head: &Head<'_>,
        places: &mut usize,
    ) {
        let target = ResponseTarget {
            connection: id,
            framing: self.service.framing(head),
        };
        let leaves = matches!(
            Request::parse(head.path, head.query),
            Ok(Request::Announce(announce)) if announce.status() == PeerStatus::Stopped
        );
        if !leaves || target.framing.omit_body {
            return;
        }
        let Received { family, dispatch } = self.service.receive(now, session.peer(), target, head);
        let passed_on = dispatch.and_then(|dispatch| match dispatch {
            Dispatch::AnnounceV4(it) => self.pass_on_within(it, places),
            Dispatch::AnnounceV6(it) => self.pass_on_within(it, places),
            _ => Ok(()),
        });
        if let Err(refusal) = passed_on {
            let traffic = self.writer.counters.traffic(family);
            traffic.reason(refusal.reason).add(1);
        }
    }

    /// Puts an announce on its way, or into a line.
    fn pass_on<K: Family>(&mut self, announce: Announce<K>) -> Result<(), Refusal> {
        self.pass_on_within(announce, &mut 1)
    }

    /// The same, if it takes none of the lines' places, or there is one left.
    #[inline]
    fn pass_on_within<K: Family>(
        &mut self,
        announce: Announce<K>,
        places: &mut usize,
    ) -> Result<(), Refusal> {
        let shard = self.dispatcher.shard_of(&announce.info_hash);
        if !self.lines.has(shard)
            && let Some(batch) = self.dispatcher.batch_for(shard)
        {
            K::announces(batch).push(announce);
            return Ok(());
        }
        let places_left = places.checked_sub(1).ok_or(Refusal::QUEUE_FULL)?;
        if !self.lines.join(shard, K::waiting(announce)) {
            return Err(Refusal::QUEUE_FULL);
        }
        *places = places_left;
        Ok(())
    }

    /// A scrape is scattered by torrent, because each can belong to another shard, and gathered
    /// when the last row has come back.
    fn scatter(
        &mut self,
        now: Now,
        target: ResponseTarget,
        family: IpFamily,
        session: &mut Session,
        request: &ScrapeRequest<'_>,
        io: &mut Io<'_>,
    ) {
        let mut scrape = PendingScrape::new(family);
        for (info_hash, allowed) in self.service.admission.scraped(request.info_hashes.iter()) {
            // A torrent that is not allowed gets zeros, like an unknown one.
            scrape.add(info_hash, allowed);
        }
        let next = self.ask_rows(target.connection, &mut scrape, None, usize::MAX);
        if let Some(shard) = next
            && !self.lines.join(shard, Waiting::Scrape(target.connection))
        {
            scrape.fail();
        }
        if scrape.is_complete() {
            self.writer.scrape(scrape, target.framing, io);
        } else {
            session.scrape_sent(now, target.framing, scrape, io);
        }
    }

    /// Asks for no more than so many rows of a scrape, which may be the first one in the line for a
    /// shard: see [`PendingScrape::ask`].
    fn ask_rows(
        &mut self,
        connection: ConnectionKey,
        scrape: &mut PendingScrape,
        first_for: Option<usize>,
        rows_max: usize,
    ) -> Option<usize> {
        let Self {
            dispatcher, lines, ..
        } = self;
        let push = |batch: &mut Batch, row, info_hash| {
            batch.scrapes.push(Scrape::new(connection, row, info_hash));
        };
        scrape.ask(dispatcher, lines, first_for, rows_max, push, |_, _| ())
    }

    /// Serves those who wait as far as there is room: each in turn. Returns whether anything has
    /// been put into a batch.
    fn serve_waiting(&mut self, now: Now, connections: &mut Connections<Session>) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        let mut has_asked = false;
        for shard in 0..self.dispatcher.shards() {
            while self.dispatcher.batch_for(shard).is_some()
                && let Some(first) = self.lines.leave(shard)
            {
                has_asked = true;
                self.take_turn(now, shard, first, connections);
            }
        }
        has_asked
    }

    /// There is room for the first one in a line, at least for a part.
    fn take_turn(
        &mut self,
        now: Now,
        shard: usize,
        first: Waiting,
        connections: &mut Connections<Session>,
    ) {
        match first {
            Waiting::V4(announce) => self.go_on(shard, announce, connections),
            Waiting::V6(announce) => self.go_on(shard, announce, connections),
            Waiting::Scrape(id) => {
                let ended = connections.with(id, |session, io| {
                    let scrape = session.scrape_mut()?;
                    let next = self.ask_rows(id, scrape, Some(shard), SCRAPE_TURN)?;
                    if !self.lines.join(next, Waiting::Scrape(id)) {
                        scrape.fail();
                    }
                    Some(self.writer.end_scrape(now, session, io))
                });
                if ended.flatten() == Some(true) {
                    connections.resume(id);
                }
            }
        }
    }

    /// Puts an announce that has waited on its way. To leave a swarm is still of use when the
    /// client has gone; nothing else is.
    fn go_on<K: Family>(
        &mut self,
        shard: usize,
        announce: Announce<K>,
        connections: &Connections<Session>,
    ) {
        let leaves = announce.announce.status == PeerStatus::Stopped;
        if (leaves || connections.is_open(announce.target.connection))
            && let Some(batch) = self.dispatcher.batch_for(shard)
        {
            K::announces(batch).push(announce);
        }
    }

    /// Sends the first full scrape in line to the shard where it goes next.
    fn send_full_scrape(&mut self, now: Now, connections: &mut Connections<Session>) {
        let Some(mut scrape) = self.full_scrapes.leave() else {
            return;
        };
        let shard = scrape.next_shard(self.dispatcher.shards());
        let batch = shard.and_then(|shard| self.dispatcher.batch_for(shard));
        match batch {
            Some(batch) => batch.full_scrape = Some(scrape),
            None => {
                scrape.give_up();
                self.end_or_go_on(now, scrape, connections);
            }
        }
    }

    /// A full scrape is back.
    fn end_or_go_on(
        &mut self,
        now: Now,
        scrape: FullScrape,
        connections: &mut Connections<Session>,
    ) {
        let shards = self.dispatcher.shards();
        if let Some(scrape) = self.full_scrapes.come_back(scrape, shards) {
            self.writer.end_full_scrape(now, scrape, connections);
        }
    }
}

/// Writes answers into connections, and counts them.
struct Writer {
    counters: Arc<WorkerCounters>,
    response_times: Arc<ResponseTimes>,
    intervals: Intervals,
    /// The process is about to stop: each answer is the last on its connection.
    is_stopping: bool,
}

impl Writer {
    /// How an answer is to be written that was to be written so.
    fn framing(&self, mut framing: Framing) -> Framing {
        if self.is_stopping {
            framing.connection = Connection::Close;
        }
        framing
    }

    /// What follows an answer to a request for which a session has waited.
    #[inline]
    fn end_wait(&self, now: Now, session: &mut Session, io: &mut Io<'_>) {
        self.response_times.add(session.responded(now, io));
        if self.is_stopping {
            io.close();
        }
    }

    /// Hands the answers of a batch to their connections, and empties it.
    fn deliver(&self, now: Now, batch: &mut Batch, connections: &mut Connections<Session>) {
        for (connection, answer) in batch.answers.iter() {
            let answered = connections.with(connection, |session, io| {
                match self.is_stopping {
                    true => write_as_last(answer, io.out),
                    false => io.out.extend_from_slice(answer),
                }
                self.end_wait(now, session, io);
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
    fn end_scrape(&self, now: Now, session: &mut Session, io: &mut Io<'_>) -> bool {
        let Some((complete, framing)) = session.take_scrape() else {
            return false;
        };
        self.scrape(complete, self.framing(framing), io);
        self.end_wait(now, session, io);
        true
    }

    fn end_full_scrape(
        &self,
        now: Now,
        scrape: FullScrape,
        connections: &mut Connections<Session>,
    ) {
        let (target, family) = (scrape.target(), scrape.family());
        let answered = connections.with(target.connection, |session, io| {
            self.rows(family, scrape.into_rows(), self.framing(target.framing), io);
            self.end_wait(now, session, io);
        });
        if answered.is_some() {
            connections.resume(target.connection);
        }
    }

    fn scrape(&self, scrape: PendingScrape, framing: Framing, io: &mut Io<'_>) {
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
        close_after(framing, io);
    }

    /// Answers an announce that was made with HEAD.
    fn announce_head(&self, family: IpFamily, framing: Framing, io: &mut Io<'_>) {
        BodilessResponse.write(framing, io.out);
        let traffic = self.counters.traffic(family);
        traffic.responses(ResponseKind::Announce).add(1);
        close_after(framing, io);
    }

    fn refuse(&self, family: IpFamily, refusal: Refusal, framing: Framing, io: &mut Io<'_>) {
        let traffic = self.counters.traffic(family);
        refusal.write(self.intervals, framing, traffic, io.out);
        close_after(framing, io);
    }
}

fn close_after(framing: Framing, io: &mut Io<'_>) {
    if !framing.connection.stays_open() {
        io.close();
    }
}

impl Handler for SocketWorker {
    type Session = Session;

    fn open(&mut self, _: Now, _: ConnectionKey, client: Client) -> Session {
        Session::new(client.peer)
    }

    fn receive(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let mut rest = bytes;
        loop {
            match session.next(rest, io) {
                Next::Nothing => return bytes.len() - rest.len(),
                Next::Request(head) => {
                    rest = rest.get(head.size..).unwrap_or_default();
                    self.serve(now, id, session, &head, io);
                }
                Next::Refuse(refusal) => {
                    self.writer
                        .refuse(session.peer().family(), refusal, Framing::CLOSE, io);
                    return bytes.len();
                }
            }
        }
    }

    fn input_ended(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        if let Next::Refuse(refusal) = session.end_input(io) {
            self.writer
                .refuse(session.peer().family(), refusal, Framing::CLOSE, io);
        }
    }

    fn finish(&mut self, now: Now, connections: &mut Connections<Session>) -> usize {
        self.send_full_scrape(now, connections);
        let Self {
            dispatcher,
            owner,
            writer,
            ..
        } = self;
        let mut full_scrape = None;
        let finished = dispatcher.finish(now, owner.as_deref_mut(), |batch| {
            writer.deliver(now, batch, connections);
            full_scrape = full_scrape.take().or(batch.full_scrape.take());
        });
        let in_flight = &writer.counters.batches_in_flight;
        in_flight.set(finished.in_flight);
        if let Some(scrape) = full_scrape {
            self.end_or_go_on(now, scrape, connections);
        }
        if self.serve_waiting(now, connections) {
            self.dispatcher.send();
        }
        finished.batches
    }

    fn timed_out(
        &mut self,
        _: Now,
        _: ConnectionKey,
        session: &mut Session,
        _: Closed,
        io: &mut Io<'_>,
    ) {
        if session.has_begun() {
            let family = session.peer().family();
            self.writer
                .refuse(family, Refusal::TIMED_OUT, Framing::CLOSE, io);
        }
    }

    fn abandoned(&mut self, now: Now, id: ConnectionKey, session: &mut Session, mut bytes: &[u8]) {
        let mut reads_on = session.reads_on();
        let mut places = ABSENT_PLACES_MAX;
        while reads_on && let Ok(Some(head)) = Head::parse(bytes) {
            bytes = bytes.get(head.size..).unwrap_or_default();
            self.serve_absent(now, id, session, &head, &mut places);
            reads_on = self.service.framing(&head).connection.stays_open();
        }
    }

    fn closed(&mut self, _: Now, _: ConnectionKey, session: Session, _: Closed) {
        if session.has_in_flight() {
            let traffic = self.writer.counters.traffic(session.peer().family());
            traffic.reason(Reason::ConnectionGone).add(1);
        }
    }

    fn maintain(&mut self, now: Now) -> bool {
        self.service.admission.refresh();
        let owner = self.owner.as_mut();
        owner.is_some_and(|owner| owner.maintain(now)) || self.full_scrapes.is_due()
    }

    fn has_pending(&self) -> bool {
        let owner = self.owner.as_ref();
        self.dispatcher.has_pending() || owner.is_some_and(|owner| owner.has_pending())
    }

    fn begin_stop(&mut self) {
        self.writer.is_stopping = true;
    }

    /// A client that has asked, or has begun to, is answered first.
    fn stop(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        if session.is_between_requests() {
            io.close();
        }
    }
}

#[cfg(test)]
mod tests;
