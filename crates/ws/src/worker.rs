//! What a socket worker does with the messages of its connections, whatever moves their bytes.
//! Pure.
//!
//! A [`Worker`] is the [`Handler`] of the connections of one thread. While bytes come in, it looks
//! at each message and puts requests into batches. When a round of receiving is over
//! ([`Handler::finish`]) the batches go to the owners of the shards, this worker's own one is
//! decided, and whatever has come back is written into connections: of this worker, or by way of
//! [`deliveries`](crate::deliveries) into those of others.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClient;
use aquatic_stream::{Client, Closed, ConnectionId, Connections, Handler, Io, TlsConfig};
use aquatic_swarm::Counts;
use aquatic_tracker::router::{Router, ShardKey};
use aquatic_tracker::scrape::PendingScrape;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_ws_protocol::{Action, AnnounceRequest, AnswerRequest, Request, ScrapeRequest};

use crate::certificates::CertificateWatch;
use crate::config::Config;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::deliveries::Deliveries;
use crate::frames::{self, Violation};
use crate::liveness::Liveness;
use crate::membership::Asked;
use crate::messages::{self, Announce, Answer, Batch, Offer, What};
use crate::refusal::{Failure, Refusal};
use crate::relay::Relay;
use crate::service::Service;
use crate::session::{MessageBounds, Next, Session};
use crate::upgrade::{self, Decision, Denial, Doorkeeper};
use crate::writer::Writer;

/// Bytes that the scratch buffer for a message keeps room for.
const MESSAGE_BYTES_KEPT: usize = 64 * 1_024;

/// What a worker is made of.
pub struct WorkerParts {
    /// Its place among the socket workers.
    pub index: u16,
    /// Decides about messages.
    pub service: Service,
    /// Decides which shard a torrent belongs to; the same in all workers.
    pub shard_key: ShardKey,
    /// Knows the ways to the shards.
    pub router: Router<Relay>,
    /// The ways to the other socket workers.
    pub deliveries: Deliveries,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClient>>,
    /// The certificate, if connections are encrypted.
    pub tls: Option<TlsConfig>,
    /// Where it counts.
    pub counters: Arc<WorkerCounters>,
}

/// A socket worker without its sockets.
pub struct Worker {
    index: u16,
    doorkeeper: Doorkeeper,
    service: Service,
    shard_key: ShardKey,
    router: Router<Relay>,
    /// Requests for the own shard.
    own: Batch,
    /// Peers whose connections have ended, and whose relays have not been told.
    leaving: Vec<(ConnectionId, IpFamily, InfoHash, PeerId)>,
    /// There are some that have not been tried.
    has_fresh_leaving: bool,
    /// Scratch space for a message.
    message: Vec<u8>,
    /// Scratch space for the torrents of one scrape.
    torrents: Vec<(InfoHash, bool)>,
    peers_per_ip: Option<Arc<PerClient>>,
    liveness: Liveness<ConnectionId>,
    certificates: Option<CertificateWatch>,
    writer: Writer,
    bounds: MessageBounds,
    offers_max: usize,
    torrents_max: usize,
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(config: &Config, parts: WorkerParts) -> Self {
        let cleaning = &config.cleaning;
        let grace_seconds = cleaning.close_after_tls_update_grace_period;
        Self {
            index: parts.index,
            doorkeeper: Doorkeeper::new(config),
            service: parts.service,
            shard_key: parts.shard_key,
            router: parts.router,
            own: Batch::new(parts.index),
            leaving: Vec::new(),
            has_fresh_leaving: false,
            message: Vec::new(),
            torrents: Vec::new(),
            liveness: Liveness::new(cleaning.max_connection_idle),
            certificates: parts
                .tls
                .map(|tls| CertificateWatch::new(tls, grace_seconds)),
            writer: Writer {
                worker: parts.index,
                deliveries: parts.deliveries,
                peers_per_ip: parts.peers_per_ip.clone(),
                counters: parts.counters,
                interval_seconds: config.protocol.peer_announce_interval,
            },
            peers_per_ip: parts.peers_per_ip,
            bounds: config.message_bounds(),
            offers_max: config.protocol.max_offers,
            torrents_max: config.protocol.max_torrents_per_connection,
        }
    }

    /// Looks at the bytes of a connection that is no WebSocket yet. Returns how many were taken.
    fn upgrade(
        &mut self,
        now: Now,
        id: ConnectionId,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let seen = session.upgrading().unwrap_or(0);
        let decided = self.doorkeeper.decide(session.client, bytes, seen);
        let Some((decision, size)) = decided else {
            session.wait_for_request(bytes.len());
            return 0;
        };
        match decision {
            Decision::Accept { client, accept_key } => {
                session.open(client);
                upgrade::write_acceptance(&accept_key, io.out);
                self.liveness.begin(now, id);
            }
            Decision::Healthy => {
                upgrade::write_health(io.out);
                io.close();
            }
            Decision::Refuse(denial) => self.deny(denial, session, io),
        }
        size
    }

    fn deny(&self, denial: Denial, session: &Session, io: &mut Io<'_>) {
        let traffic = self.writer.counters.traffic(session.client.family());
        traffic.reason(denial.reason).add(1);
        traffic.responses(ResponseKind::Error).add(1);
        denial.write(io.out);
        io.close();
    }

    fn violate(&self, violation: Violation, session: &Session, io: &mut Io<'_>) {
        let reason = match violation {
            Violation::Protocol => Reason::Frame,
            Violation::Size => Reason::MessageSize,
        };
        let traffic = self.writer.counters.traffic(session.client.family());
        traffic.reason(reason).add(1);
        frames::write_close(violation.close_code(), io.out);
        io.close();
    }

    /// Deals with one message: it is either answered when this returns, or on its way.
    fn serve(
        &mut self,
        now: Now,
        id: ConnectionId,
        session: &mut Session,
        message: &[u8],
        io: &mut Io<'_>,
    ) {
        let request = self.service.receive(now, session.client, message);
        let served = request.and_then(|request| match request {
            Request::Announce(announce) => {
                let about = Some(announce.info_hash);
                self.announce(id, session, &announce)
                    .map_err(|refusal| refusal.about(Action::Announce, about))
            }
            Request::Answer(answer) => {
                let about = Some(answer.info_hash);
                self.answer(id, session, &answer)
                    .map_err(|refusal| refusal.about(Action::Announce, about))
            }
            Request::Scrape(scrape) => {
                self.scrape(id, session, &scrape, io);
                Ok(())
            }
        });
        if let Err(failure) = served {
            self.fail(&failure, session, io);
        }
    }

    fn fail(&self, failure: &Failure, session: &Session, io: &mut Io<'_>) {
        let traffic = self.writer.counters.traffic(session.client.family());
        failure.write(traffic, io.out);
    }

    fn announce(
        &mut self,
        id: ConnectionId,
        session: &mut Session,
        announce: &AnnounceRequest<'_>,
    ) -> Result<(), Refusal> {
        let AnnounceRequest {
            info_hash, peer_id, ..
        } = *announce;
        let status = announce.status();
        // First, because there is no way back from what follows.
        self.batch_for(&info_hash).ok_or(Refusal::QUEUE_FULL)?;
        let membership = &mut session.membership;
        let asked = membership.ask(info_hash, peer_id, status, self.torrents_max)?;
        let ip = session.client.ip();
        if asked == Asked::Added && self.peers_per_ip.as_ref().is_some_and(|it| !it.admit(ip)) {
            membership.settle(info_hash, false);
            return Err(Refusal::PEERS_PER_IP);
        }
        let offers_max = self.offers_max;
        if let Some(batch) = self.batch_for(&info_hash) {
            let first_offer = batch.offers.len();
            for offer in announce.offers.iter().take(offers_max) {
                let json = batch.keep(offer.offer);
                batch.offers.push(Offer {
                    offer_id: offer.offer_id,
                    json,
                    to: None,
                });
            }
            let what = What::Announce(Announce {
                peer_id,
                status,
                completed: announce.event == AnnounceEvent::Completed,
                offers: first_offer..batch.offers.len(),
                outcome: Ok(Counts::default()),
                asked,
                is_in_swarm: false,
            });
            batch.requests.push(request(id, session, info_hash, what));
            session.ask();
        }
        Ok(())
    }

    fn answer(
        &mut self,
        id: ConnectionId,
        session: &mut Session,
        answer: &AnswerRequest<'_>,
    ) -> Result<(), Refusal> {
        let batch = self.batch_for(&answer.info_hash);
        let batch = batch.ok_or(Refusal::QUEUE_FULL)?;
        let what = What::Answer(Answer {
            peer_id: answer.peer_id,
            to_peer_id: answer.to_peer_id,
            offer_id: answer.offer_id,
            json: batch.keep(answer.answer),
            to: None,
        });
        let request = request(id, session, answer.info_hash, what);
        batch.requests.push(request);
        session.ask();
        Ok(())
    }

    /// A scrape is taken apart by torrent, because each can belong to another shard, and is put
    /// together again when the last row has come back.
    fn scrape(
        &mut self,
        id: ConnectionId,
        session: &mut Session,
        request: &ScrapeRequest,
        io: &mut Io<'_>,
    ) {
        let mut scrape = PendingScrape::new(session.client.family());
        // Taken out for the loop: both the service and the batches are needed in it.
        let mut torrents = std::mem::take(&mut self.torrents);
        torrents.extend(self.service.scraped(request));
        for (info_hash, allowed) in torrents.drain(..) {
            let place = scrape.add(info_hash);
            // A torrent that is not allowed gets zeros, like an unknown one.
            if !allowed {
                continue;
            }
            match self.batch_for(&info_hash) {
                Some(batch) => {
                    let counts = Counts::default();
                    let what = What::Scrape { place, counts };
                    batch
                        .requests
                        .push(self::request(id, session, info_hash, what));
                    scrape.expect_row();
                }
                None => scrape.give_up(),
            }
        }
        self.torrents = torrents;
        if scrape.is_complete() {
            self.writer.scrape(scrape, io.out);
        } else {
            session.scrape = Some(Box::new(scrape));
        }
    }

    /// The batch that goes to the owner of a torrent. `None` if the owner does not keep up.
    fn batch_for(&mut self, info_hash: &InfoHash) -> Option<&mut Batch> {
        let shard = self.shard_key.shard_of(info_hash, self.router.shards());
        let index = self.index;
        self.router
            .batch_for(shard, &mut self.own, || Batch::new(index))
    }

    /// Tells relays which peers have gone. Those that do not keep up are told later.
    fn pass_on_leaving(&mut self) {
        self.has_fresh_leaving = false;
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|&(connection, family, info_hash, peer_id)| {
            let Some(batch) = self.batch_for(&info_hash) else {
                return true;
            };
            batch.requests.push(messages::Request {
                connection,
                family,
                info_hash,
                what: What::Leave { peer_id },
            });
            false
        });
        self.leaving = leaving;
    }

    fn look_after(&mut self, now: Now, connections: &mut Connections<Session>) {
        self.liveness.look(
            now,
            connections,
            |connections, id| connections.with(id, |session, _| session.heard()),
            |connections, id| {
                connections.with(id, |_, io| {
                    frames::write_control(frames::Control::Ping, &[], io.out);
                });
            },
        );
        if let Some(certificates) = &mut self.certificates
            && let Some(generation) = certificates.outdated(now)
        {
            connections.close_tls_before(generation);
        }
    }
}

/// A request of a session.
fn request(
    connection: ConnectionId,
    session: &Session,
    info_hash: InfoHash,
    what: What,
) -> messages::Request {
    messages::Request {
        connection,
        family: session.client.family(),
        info_hash,
        what,
    }
}

impl Handler for Worker {
    type Session = Session;

    fn open(&mut self, now: Now, _: ConnectionId, client: Client) -> Session {
        Session::new(now, client.peer)
    }

    fn receive(
        &mut self,
        now: Now,
        id: ConnectionId,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let mut rest = bytes;
        if session.upgrading().is_some() {
            let taken = self.upgrade(now, id, session, bytes, io);
            rest = rest.get(taken..).unwrap_or_default();
        }
        let mut message = std::mem::take(&mut self.message);
        loop {
            let size = match session.next(now, rest, self.bounds, &mut message, io) {
                Next::Nothing => break,
                Next::Control(size) => size,
                Next::Message(size) => {
                    self.serve(now, id, session, &message, io);
                    size
                }
                Next::Violation(violation) => {
                    self.violate(violation, session, io);
                    rest.len()
                }
            };
            rest = rest.get(size..).unwrap_or_default();
        }
        message.clear();
        message.shrink_to(MESSAGE_BYTES_KEPT);
        self.message = message;
        bytes.len() - rest.len()
    }

    fn input_ended(&mut self, _: Now, _: ConnectionId, session: &mut Session, io: &mut Io<'_>) {
        match session.upgrading() {
            Some(seen) if seen > 0 && !io.closes() => self.deny(Denial::CUT_OFF, session, io),
            _ => io.close(),
        }
    }

    fn finish(&mut self, now: Now, connections: &mut Connections<Session>) -> usize {
        self.look_after(now, connections);
        self.pass_on_leaving();
        let Self {
            router,
            own,
            writer,
            ..
        } = self;
        writer.counters.batches_in_flight.set(router.forward());
        let answered = router.answer(now, own);
        writer.settle(own, connections);
        let collected = router.collect(|batch| writer.settle(batch, connections));
        answered + collected + writer.deliver(connections)
    }

    fn closed(&mut self, _: Now, id: ConnectionId, session: Session, _: Closed) {
        let client = session.client;
        for (info_hash, peer_id) in session.membership.iter() {
            self.leaving.push((id, client.family(), info_hash, peer_id));
            self.has_fresh_leaving = true;
            if let Some(peers_per_ip) = &self.peers_per_ip {
                peers_per_ip.release(client.ip());
            }
        }
    }

    fn background(&mut self, now: Now) -> bool {
        self.router.background(now)
    }

    fn has_mail(&self) -> bool {
        self.has_fresh_leaving || self.router.has_mail() || self.writer.deliveries.has_mail()
    }
}
