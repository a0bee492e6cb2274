//! What a socket worker does with the requests of its connections, whatever moves their bytes.
//! Pure.
//!
//! A [`SocketWorker`] is the [`Handler`] of the connections of one thread. While bytes come in, it
//! decides about each request and puts those that concern swarms into batches. When a round of
//! receiving is over ([`Handler::finish`]) the batches go to the owners of the shards, this
//! worker's own one is answered, and every answer that has come back is handed to its connection.

mod writer;

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_http_protocol::{Framing, Head, Request, ScrapeRequest, TextResponse};
use aquatic_keys::SharedKeys;
use aquatic_stream::{Client, Closed, ConnectionKey, Connections, Deadlines, Handler, Io};
use aquatic_stream_tracker::{Following, MayOwnShard};
use aquatic_tracker::announces::Announces;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_tracker::dispatch::waiting_lines::{SCRAPE_TURN, WaitingLines};
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_types::{IpFamily, PeerStatus};

use crate::config::Config;
use crate::counters::{Reason, ResponseTimes, WorkerCounters};
use crate::full_scrape::{FullScrape, Line};
use crate::messages::{Announce, Batch, Scrape};
use crate::refusal::Refusal;
use crate::response_target::ResponseTarget;
use crate::response_writer::ResponseWriter;
use crate::service::{Dispatch, Received, Service};
use crate::session::{Next, Session};
use crate::waiting::{Family, Waiting};

use writer::Writer;

/// Places in lines that a client has, at most, that has gone and left announces with `stopped`: as
/// much as one turn of a scrape. Others could leave thousands, and with some connections take all
/// places.
const ABSENT_PLACES_MAX: usize = SCRAPE_TURN;

mod live;

/// A socket worker without its sockets.
pub struct SocketWorker {
    service: Service,
    following: Following<Config>,
    dispatcher: Dispatcher<ResponseWriter>,
    /// If this worker owns a shard.
    owner: Option<Box<ShardOwner<AddressShard>>>,
    /// Who waits for room.
    lines: WaitingLines<Waiting>,
    full_scrapes: Line,
    writer: Writer,
}

impl SocketWorker {
    /// A worker that owns no shard yet.
    #[must_use]
    pub fn new(
        service: Service,
        dispatcher: Dispatcher<ResponseWriter>,
        counters: Arc<WorkerCounters>,
        response_times: Arc<ResponseTimes>,
    ) -> Self {
        let intervals = service.intervals();
        let lines = WaitingLines::new(dispatcher.shards());
        Self {
            service,
            following: Following::default(),
            dispatcher,
            owner: None,
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

    /// Serves only clients with one of these keys, if they need one. To be called before it works.
    pub fn require_keys(&mut self, keys: &SharedKeys) {
        self.service.admission.keys = keys.reader();
    }

    /// Tells of every announce that it serves, if somebody wants that. To be called before it
    /// works.
    pub fn tell_announces(&mut self, announces: Option<&Announces>) {
        self.service.admission.tell_announces(announces);
    }

    /// Gives it the shard that belongs to its thread, if one does. To be called before it works.
    pub fn own(&mut self, owner: Option<Box<ShardOwner<AddressShard>>>) {
        self.owner = owner;
    }

    /// Takes the shard back.
    pub fn disown(&mut self) -> Option<Box<ShardOwner<AddressShard>>> {
        self.owner.take()
    }

    /// Whether requests wait because the owner of a shard does not keep up.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Deals with one request, which has these bytes behind it: it is either answered when this
    /// returns, or the session waits.
    fn serve(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        session: &mut Session,
        (head, behind): (&Head<'_>, &[u8]),
        io: &mut Io<'_>,
    ) {
        let framing = self.writer.framing(self.service.framing(head), behind);
        if let Some(text) = self.service.text(head) {
            TextResponse { text }.write(framing, io.out);
            self.writer.close_after(framing, io);
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

impl MayOwnShard for SocketWorker {
    fn process_for_others(&mut self, now: Now) -> usize {
        let owner = self.owner.as_mut();
        owner.map_or(0, |owner| owner.process(now))
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
                    self.serve(now, id, session, (&head, rest), io);
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
        self.follow();
        let owner = self.owner.as_mut();
        owner.is_some_and(|owner| owner.maintain(now)) || self.full_scrapes.is_due()
    }

    fn has_pending(&self) -> bool {
        let owner = self.owner.as_ref();
        self.dispatcher.has_pending() || owner.is_some_and(|owner| owner.has_pending())
    }

    fn changed_deadlines(&mut self) -> Option<Deadlines> {
        self.following.take_deadlines()
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
