//! Writes what relays have decided into connections, and counts it. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClient;
use aquatic_stream::{ConnectionId, Connections};
use aquatic_swarm::Counts;
use aquatic_tracker::scrape::PendingScrape;
use aquatic_types::{InfoHash, IpFamily};
use aquatic_ws_protocol::{
    Action, AnnounceResponse, ForwardedAnswer, ForwardedOffer, Message, ScrapeFile, ScrapeResponse,
};

use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::deliveries::{Deliveries, Errand};
use crate::frames;
use crate::membership::Asked;
use crate::messages::{Announce, Answer, Batch, Member, Outcome, Request, What};
use crate::refusal::Refusal;
use crate::session::Session;

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
    /// When clients are to try again whose peer id may become free until then.
    pub retry_seconds: u32,
}

/// What clients are told whose peer id is in the swarm by another connection. Not as a failure:
/// after one, a client that has just come back would not announce again.
const PEER_ID_TAKEN: &str = "peer_id is in this swarm over another connection; if that has ended \
                             without a word it will be noticed, so try again";

impl Writer {
    /// Writes everything that has been decided about a batch, and empties it.
    pub fn settle(&mut self, now: Now, batch: &mut Batch, connections: &mut Connections<Session>) {
        for request in &batch.requests {
            match &request.what {
                What::Announce(announce) => {
                    self.settle_announce(request, announce, batch, connections);
                    if let Outcome::Contested { holder, .. } = announce.outcome {
                        self.challenge(now, holder, connections);
                    }
                }
                What::Answer(answer) => self.settle_answer(request, answer, batch, connections),
                What::Scrape { place, counts } => {
                    let complete = connections.with(request.connection, |session, io| {
                        let pending = session.scrape.as_mut()?;
                        pending.fill(*place, *counts);
                        let complete = session.scrape.take_if(|it| it.is_complete())?;
                        self.scrape(*complete, io.out);
                        Some(())
                    });
                    if complete.flatten().is_some() {
                        connections.resume(request.connection);
                    }
                }
                What::Leave { .. } => {}
            }
        }
        batch.clear();
    }

    /// Answers a scrape whose rows are all there.
    pub fn scrape(&self, scrape: PendingScrape, out: &mut Vec<u8>) {
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

    /// Does what other workers have sent. Returns how many parcels that were.
    pub fn deliver(&mut self, now: Now, connections: &mut Connections<Session>) -> usize {
        let Self {
            deliveries,
            counters,
            ..
        } = self;
        let unpacked = deliveries.unpack(|parcel| {
            for (item, frame) in parcel.iter() {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(frame);
                match item.errand {
                    Errand::Message { kind, from } => {
                        let what = (kind, from);
                        write_to(item.connection, what, counters, connections, write);
                    }
                    Errand::Challenge => {
                        connections.with(item.connection, |session, io| session.challenge(now, io));
                    }
                }
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
                && session.membership.settle(info_hash, announce.is_in_swarm);
            if is_over && let Some(peers_per_ip) = &writer.peers_per_ip {
                peers_per_ip.release(session.client.ip());
            }
            match announce.outcome {
                Outcome::Noted(counts) => {
                    writer.write_counts(request, counts, writer.interval_seconds, None, out);
                }
                Outcome::Contested { counts, .. } => {
                    let traffic = writer.counters.traffic(request.family);
                    traffic.reason(Reason::PeerIdTaken).add(1);
                    let warning = Some(PEER_ID_TAKEN);
                    writer.write_counts(request, counts, writer.retry_seconds, warning, out);
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
            let what = (ResponseKind::Offer, request.family);
            self.forward(to, what, &message, connections);
        }
    }

    fn write_counts(
        &self,
        request: &Request,
        counts: Counts,
        interval_seconds: u32,
        warning: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let response = AnnounceResponse {
            info_hash: request.info_hash,
            seeders: counts.seeders,
            leechers: counts.leechers,
            interval_seconds,
            warning: warning.map(Cow::Borrowed),
        };
        frames::write_text(&response, out);
        let traffic = self.counters.traffic(request.family);
        traffic.responses(ResponseKind::Announce).add(1);
    }

    /// Has a connection show that it is still there. If its worker does not keep up it need not,
    /// for now: whoever has asked for it comes again.
    fn challenge(&mut self, now: Now, whom: Member, connections: &mut Connections<Session>) {
        if whom.worker == self.worker {
            connections.with(whom.connection, |session, io| session.challenge(now, io));
        } else {
            let errand = Errand::Challenge;
            self.deliveries
                .add(whom.worker, whom.connection, errand, |_| ());
        }
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
            let what = (ResponseKind::Answer, request.family);
            self.forward(to, what, &message, connections);
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
            session.answered()
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
        (kind, from): (ResponseKind, IpFamily),
        message: &impl Message,
        connections: &mut Connections<Session>,
    ) {
        let write = |out: &mut Vec<u8>| frames::write_text(message, out);
        let errand = Errand::Message { kind, from };
        if to.worker == self.worker {
            let what = (kind, from);
            write_to(to.connection, what, &self.counters, connections, write);
        } else if !self.deliveries.add(to.worker, to.connection, errand, write) {
            let traffic = self.counters.traffic(from);
            traffic.reason(Reason::DeliveryFull).add(1);
        }
    }
}

/// Writes what one client has for another into the other's connection.
fn write_to(
    connection: ConnectionId,
    (kind, from): (ResponseKind, IpFamily),
    counters: &WorkerCounters,
    connections: &mut Connections<Session>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let written = connections.with(connection, |session, io| {
        write(io.out);
        session.client.family()
    });
    match written {
        Some(family) => counters.traffic(family).responses(kind).add(1),
        None => counters.traffic(from).reason(Reason::ConnectionGone).add(1),
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
