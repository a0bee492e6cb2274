//! Writes what relays have decided into connections, and counts it. Pure.

use std::sync::Arc;

use aquatic_daemon::per_client::PerClient;
use aquatic_stream::{ConnectionId, Connections};
use aquatic_swarm::Counts;
use aquatic_tracker::scrape::PendingScrape;
use aquatic_types::{InfoHash, IpFamily};
use aquatic_ws_protocol::{
    Action, AnnounceResponse, ForwardedAnswer, ForwardedOffer, Message, ScrapeFile, ScrapeResponse,
    SkippedOffers,
};

use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::deliveries::{Deliveries, Forwarded};
use crate::frames;
use crate::membership::Asked;
use crate::messages::{Announce, Answer, Batch, Member, Outcome, Request, What};
use crate::refusal::Refusal;
use crate::session::{Held, Session};

/// A socket worker's writing half.
pub struct Writer {
    /// Its place among the socket workers.
    pub worker: u16,
    /// The ways to the others.
    pub deliveries: Deliveries,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClient>>,
    /// Where it counts.
    pub counters: Arc<WorkerCounters>,
    /// When clients are to announce again.
    pub interval_seconds: u32,
}

impl Writer {
    /// Writes everything that has been decided about a batch, and empties it.
    pub fn settle(&mut self, batch: &mut Batch, connections: &mut Connections<Session>) {
        for request in &batch.requests {
            match &request.what {
                What::Announce(announce) => {
                    self.settle_announce(request, announce, batch, connections);
                }
                What::Answer(answer) => self.settle_answer(request, answer, batch, connections),
                What::Scrape { place, counts } => {
                    let is_complete = connections.with(request.connection, |session, io| {
                        if let Some(Held::Scrape(scrape)) = session.held.as_deref_mut() {
                            scrape.fill(*place, *counts);
                        }
                        self.release(session, io.out)
                    });
                    if is_complete == Some(true) {
                        connections.resume(request.connection);
                    }
                }
                What::Leave { peer_id } => {
                    connections.with(request.connection, |session, _| {
                        if session.membership.confirm(request.info_hash, *peer_id) {
                            self.has_left(session);
                        }
                    });
                }
            }
        }
        batch.clear();
    }

    /// Replies to a message at once, or when its turn has come.
    pub fn reply_in_turn(&self, reply: Held, session: &mut Session, out: &mut Vec<u8>) {
        if session.is_answered() {
            self.write_held(reply, session.client.family(), out);
        } else {
            session.held = Some(Box::new(reply));
        }
    }

    /// Writes the reply that is held if its turn has come. Returns whether it was.
    fn release(&self, session: &mut Session, out: &mut Vec<u8>) -> bool {
        let Some(held) = session.take_held() else {
            return false;
        };
        self.write_held(held, session.client.family(), out);
        true
    }

    fn write_held(&self, held: Held, family: IpFamily, out: &mut Vec<u8>) {
        match held {
            Held::Scrape(scrape) => self.scrape(scrape, out),
            Held::Failure(failure) => failure.write(self.counters.traffic(family), out),
        }
    }

    /// A peer is no longer in the book of its connection.
    fn has_left(&self, session: &Session) {
        if let Some(peers_per_ip) = &self.peers_per_ip {
            peers_per_ip.release(session.client.ip());
        }
    }

    /// Answers a scrape whose rows are all there.
    fn scrape(&self, scrape: PendingScrape, out: &mut Vec<u8>) {
        let traffic = self.counters.traffic(scrape.family());
        let Some(rows) = scrape.into_rows() else {
            let failure = Refusal::QUEUE_FULL.about(Action::Scrape, None);
            failure.write(traffic, out);
            return;
        };
        let rows = rows.into_iter().map(|(info_hash, counts)| ScrapeFile {
            info_hash,
            seeders: counts.seeders,
            completed: counts.completed,
            leechers: counts.leechers,
        });
        frames::write_text(&ScrapeResponse::new(&mut rows.collect()), out);
        traffic.responses(ResponseKind::Scrape).add(1);
    }

    /// Writes what other workers have sent. Returns how many parcels that were.
    pub fn deliver(&mut self, connections: &mut Connections<Session>) -> usize {
        let Self {
            deliveries,
            counters,
            ..
        } = self;
        let unpacked = deliveries.unpack(|parcel| {
            for (item, frame) in parcel.iter() {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(frame);
                write_to(item.connection, item.message, counters, connections, write);
            }
        });
        deliveries.forward();
        unpacked
    }

    fn settle_announce(
        &mut self,
        request: &Request,
        announce: &Announce,
        batch: &Batch,
        connections: &mut Connections<Session>,
    ) {
        let info_hash = request.info_hash;
        self.reply(request, connections, |writer, session, out| {
            let is_over = announce.asked != Asked::Nothing
                && session
                    .membership
                    .settle(info_hash, announce.peer_id, announce.is_in_swarm);
            if is_over {
                writer.has_left(session);
            }
            match announce.outcome {
                Outcome::Noted(counts) => {
                    writer.write_counts(request, counts, announce.skipped, out);
                }
                Outcome::Refused(refusal) => {
                    write_refusal(refusal, info_hash, writer, request.family, out);
                }
            }
        });
        let offers = batch.offers.get(announce.offers.clone());
        for offer in offers.unwrap_or_default() {
            let Some(to) = offer.to else {
                break;
            };
            let message = ForwardedOffer {
                info_hash,
                peer_id: announce.peer_id,
                offer_id: offer.offer_id,
                offer: batch.json(offer.json.clone()),
            };
            self.forward(
                to,
                ResponseKind::Offer,
                request.family,
                &message,
                connections,
            );
        }
    }

    fn write_counts(
        &self,
        request: &Request,
        counts: Counts,
        skipped: Option<SkippedOffers>,
        out: &mut Vec<u8>,
    ) {
        let response = AnnounceResponse {
            info_hash: request.info_hash,
            seeders: counts.seeders,
            leechers: counts.leechers,
            interval_seconds: self.interval_seconds,
            warning: skipped.map(|skipped| skipped.to_string().into()),
        };
        frames::write_text(&response, out);
        let traffic = self.counters.traffic(request.family);
        traffic.responses(ResponseKind::Announce).add(1);
    }

    fn settle_answer(
        &mut self,
        request: &Request,
        answer: &Answer,
        batch: &Batch,
        connections: &mut Connections<Session>,
    ) {
        let info_hash = request.info_hash;
        self.reply(request, connections, |writer, _, out| {
            if let Some(Err(refusal)) = answer.to {
                write_refusal(refusal, info_hash, writer, request.family, out);
            }
        });
        if let Some(Ok(to)) = answer.to {
            let message = ForwardedAnswer {
                info_hash,
                peer_id: answer.peer_id,
                offer_id: answer.offer_id,
                answer: batch.json(answer.json.clone()),
            };
            self.forward(
                to,
                ResponseKind::Answer,
                request.family,
                &message,
                connections,
            );
        }
    }

    /// Calls the session that a request has come from.
    fn reply(
        &self,
        request: &Request,
        connections: &mut Connections<Session>,
        reply: impl FnOnce(&Self, &mut Session, &mut Vec<u8>),
    ) {
        let answered = connections.with(request.connection, |session, io| {
            reply(self, session, io.out);
            let was_full = session.answered();
            self.release(session, io.out) || was_full
        });
        match answered {
            Some(false) => {}
            Some(true) => connections.resume(request.connection),
            None => {
                let traffic = self.counters.traffic(request.family);
                traffic.reason(Reason::ConnectionGone).add(1);
            }
        }
    }

    /// Writes a message of one client to another.
    fn forward(
        &mut self,
        to: Member,
        kind: ResponseKind,
        from: IpFamily,
        message: &impl Message,
        connections: &mut Connections<Session>,
    ) {
        let write = |out: &mut Vec<u8>| frames::write_text(message, out);
        let what = Forwarded { kind, from };
        if to.worker == self.worker {
            write_to(to.connection, what, &self.counters, connections, write);
        } else if !self.deliveries.add(to.worker, to.connection, what, write) {
            let traffic = self.counters.traffic(from);
            traffic.reason(Reason::DeliveryFull).add(1);
        }
    }
}

/// Writes what one client has for another into the other's connection. It may have gone a moment
/// ago: then that was all, and nobody did anything wrong.
fn write_to(
    connection: ConnectionId,
    what: Forwarded,
    counters: &WorkerCounters,
    connections: &mut Connections<Session>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let written = connections.with(connection, |session, io| {
        write(io.out);
        session.client.family()
    });
    match written {
        Some(family) => {
            let traffic = counters.traffic(family);
            traffic.responses(what.kind).add(1);
        }
        None => {
            let traffic = counters.traffic(what.from);
            traffic.reason(Reason::ConnectionGone).add(1);
        }
    }
}

fn write_refusal(
    refusal: Refusal,
    info_hash: InfoHash,
    writer: &Writer,
    family: IpFamily,
    out: &mut Vec<u8>,
) {
    let failure = refusal.about(Action::Announce, Some(info_hash));
    failure.write(writer.counters.traffic(family), out);
}
