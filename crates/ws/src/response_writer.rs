//! Writes what shards have decided into connections, and counts it. Pure.

mod abroad;

use std::collections::VecDeque;
use std::mem;
use std::num::NonZeroU32;
use std::sync::Arc;

use aquatic_cluster::nodes::NodeIndex;
use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_keys::SharedKeys;
use aquatic_stream::{ConnectionKey, Connections};
use aquatic_swarm::Counts;
use aquatic_swarm_log::Withdrawal;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_types::{InfoHash, IpFamily, PeerId, PeerStatus};
use aquatic_ws_protocol::{
    Action, AnnounceResponse, ForwardedAnswer, ForwardedOffer, Message, ScrapeFile, ScrapeResponse,
    SkippedOffers,
};

use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::forwarding::{Forwarded, Forwarding};
use crate::frames::{self, HEADER_BYTES_MAX};
use crate::membership::MembershipChange;
use crate::messages::{
    Announce, Answer, Batch, ConnectionRef, Decision, Evicted, HandedOffer, Request, RequestKind,
};
use crate::offer_pace::FewOffers;
use crate::refusal::Refusal;
use crate::session::{Held, Session};
use crate::url_key::PeerOfKey;

/// A socket worker's writing half.
pub struct ResponseWriter {
    /// Its place among the socket workers.
    pub worker: u16,
    /// The ways to the others.
    pub forwarding: Forwarding,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// The keys of clients, if they need one.
    pub keys: SharedKeys,
    /// Where it counts.
    pub counters: Arc<WorkerCounters>,
    /// When clients are to announce again.
    pub intervals: AnnounceIntervals,
    /// What may be passed on.
    pub bounds: ForwardingBounds,
    /// When the present round has begun.
    pub now: Now,
    /// Offers that were dropped, and whose shards have not been told.
    pub dropped: Vec<HandedOffer>,
    /// Peers of this worker's connections that have had to give way.
    pub evicted: Vec<Evicted>,
    /// Those of other workers, which have not been told. Each was a peer of such a worker, which
    /// announces nothing while it does not take this in: no more than there were peers.
    pub evicted_elsewhere: VecDeque<Evicted>,
    /// Offers of other nodes that have not come to their receivers, since these nodes were last
    /// told.
    pub withdrawn: Vec<(NodeIndex, Withdrawal)>,
    /// Who may hand offers to clients that get many.
    pub few_offers: FewOffers,
}

/// How much of what clients have for each other is passed on.
#[derive(Clone, Copy, Debug)]
pub struct ForwardingBounds {
    /// Bytes that may wait for a receiver because of others. What it has asked for itself may come
    /// on top: so nobody but a client itself has its connection closed.
    pub waiting_bytes_max: usize,
    /// Offers that one client is handed per second; `None` = any number.
    pub offers_per_second_max: Option<NonZeroU32>,
}

impl ResponseWriter {
    /// Writes everything that has been decided about a batch, and empties it.
    pub fn settle(&mut self, batch: &mut Batch, connections: &mut Connections<Session>) {
        for (request, decision) in batch.requests.iter().zip(&batch.decisions) {
            match (&request.kind, *decision) {
                (RequestKind::Announce(announce), decision) => {
                    self.settle_announce(request, announce, decision, batch, connections);
                }
                (RequestKind::Answer(answer), decision) => {
                    self.settle_answer(request, answer, decision, batch, connections);
                }
                (RequestKind::Scrape { row }, Decision::Scraped(counts)) => {
                    let is_complete = connections.with(request.connection, |session, io| {
                        if let Some(Held::Scrape(scrape)) = session.held.as_deref_mut() {
                            scrape.fill(*row, counts);
                        }
                        self.release(session, io.out)
                    });
                    if is_complete == Some(true) {
                        connections.resume(request.connection);
                    }
                }
                (RequestKind::Check { peer_id }, Decision::IsInSwarm(is_in_swarm)) => {
                    connections.with(request.connection, |session, _| {
                        let membership = &mut session.membership;
                        if membership.settle(request.info_hash, *peer_id, is_in_swarm) {
                            self.has_left(session, request, *peer_id);
                        }
                    });
                }
                (RequestKind::Leave { peer_id }, _) => {
                    connections.with(request.connection, |session, _| {
                        if session.membership.confirm(request.info_hash, *peer_id) {
                            self.has_left(session, request, *peer_id);
                        }
                    });
                }
                (RequestKind::Withdraw(_), _) => {}
                (RequestKind::Scrape { .. } | RequestKind::Check { .. }, decision) => {
                    debug_assert!(false, "{decision:?} is about something else");
                }
            }
        }
        for evicted in batch.evicted.drain(..) {
            if evicted.member.worker == self.worker {
                self.evicted.push(evicted);
            } else {
                self.evicted_elsewhere.push_back(evicted);
            }
        }
        batch.clear();
    }

    /// Replies to a message at once, or when its turn has come.
    pub fn reply_in_turn(&self, reply: Held, session: &mut Session, out: &mut Vec<u8>) {
        if !session.has_in_flight() {
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
            // It is no reply, and never due.
            Held::Message(_) => {}
            Held::Scrape(scrape) => self.scrape(scrape, out),
            Held::Failure(failure) => {
                failure.write(self.intervals.present(), self.counters.traffic(family), out);
            }
        }
    }

    /// A peer is no longer in the book of its connection, since a request has come back.
    fn has_left(&self, session: &Session, request: &Request, peer_id: PeerId) {
        if let Some(peers_per_ip) = &self.peers_per_ip {
            peers_per_ip.release(session.client.ip());
        }
        if let Some(key) = session.url_key() {
            let peer = PeerOfKey {
                info_hash: request.info_hash,
                peer_id,
                worker: self.worker,
                connection: request.connection,
            };
            self.keys.leave(key.bytes(), peer);
        }
    }

    /// Answers a scrape whose rows are all there.
    fn scrape(&self, scrape: PendingScrape, out: &mut Vec<u8>) {
        let traffic = self.counters.traffic(scrape.family());
        let Some(rows) = scrape.into_rows() else {
            let failure = Refusal::QUEUE_FULL.about(Action::Scrape, None);
            failure.write(self.intervals.present(), traffic, out);
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

    /// Writes what other workers have sent. Returns how many batches that were.
    pub fn deliver(&mut self, connections: &mut Connections<Session>) -> usize {
        // Taken out, since the whole writer is needed while they are unpacked.
        let mut forwarding = mem::take(&mut self.forwarding);
        let unpacked = forwarding.unpack(|batch| {
            self.evicted.extend_from_slice(batch.evicted());
            for (item, frame) in batch.iter() {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(frame);
                let frame_bytes = frame.len();
                self.write_to(
                    item.connection,
                    item.message,
                    frame_bytes,
                    connections,
                    write,
                );
            }
        });
        self.forwarding = forwarding;
        self.forwarding.collect();
        self.tell_of_evicted();
        self.tell_of_withdrawn();
        self.forwarding.forward();
        unpacked
    }

    /// Tells other workers who of theirs has had to give way, as far as there is room.
    pub(crate) fn tell_of_evicted(&mut self) {
        while let Some(evicted) = self.evicted_elsewhere.front()
            && self.forwarding.tell(*evicted)
        {
            self.evicted_elsewhere.pop_front();
        }
    }

    /// Whether there is something to [deliver](Self::deliver), or to be told to shards.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let can_tell = !self.evicted_elsewhere.is_empty() && self.forwarding.has_returned();
        let has_own = !self.dropped.is_empty() || !self.evicted.is_empty();
        self.forwarding.has_pending() || can_tell || has_own
    }

    fn settle_announce(
        &mut self,
        request: &Request,
        announce: &Announce,
        decision: Decision,
        batch: &Batch,
        connections: &mut Connections<Session>,
    ) {
        let info_hash = request.info_hash;
        self.reply(request, connections, |writer, session, out| {
            let is_in_swarm = matches!(
                decision,
                Decision::Accepted {
                    is_in_swarm: true,
                    ..
                }
            );
            let membership = &mut session.membership;
            if announce.asked != MembershipChange::None
                && membership.settle(info_hash, announce.peer_id, is_in_swarm)
            {
                writer.has_left(session, request, announce.peer_id);
            }
            match decision {
                Decision::Accepted { counts, .. } => {
                    if !is_in_swarm && announce.status != PeerStatus::Stopped {
                        let traffic = writer.counters.traffic(request.family);
                        traffic.reason(Reason::PeersPerIpAndTorrent).add(1);
                    }
                    writer.write_counts(request, counts, announce.skipped, out);
                }
                Decision::Refused(refusal) => {
                    write_refusal(refusal, info_hash, writer, request.family, out);
                }
                other => debug_assert!(false, "{other:?} is not about an announce"),
            }
        });
        let range = announce.offers.clone();
        let offers = batch.offers.get(range.clone()).unwrap_or_default();
        let receivers = batch.receivers.get(range).unwrap_or_default();
        for (offer, receiver) in offers.iter().zip(receivers) {
            let Some(receiver) = *receiver else {
                break;
            };
            let message = ForwardedOffer {
                info_hash,
                peer_id: announce.peer_id,
                offer_id: offer.offer_id,
                offer: batch.json(offer.json.clone()),
            };
            let what = Forwarded {
                kind: ResponseKind::Offer,
                from: request.family,
                network: request.network,
                offer: Some(HandedOffer {
                    info_hash,
                    receiver,
                    origin: None,
                }),
            };
            if receiver.member.is_here() {
                self.forward(receiver.member, what, &message, connections);
            } else {
                self.send_offer(request, &receiver, what, &message);
            }
        }
    }

    fn write_counts(
        &mut self,
        request: &Request,
        counts: Counts,
        skipped: Option<SkippedOffers>,
        out: &mut Vec<u8>,
    ) {
        let response = AnnounceResponse {
            info_hash: request.info_hash,
            seeders: counts.seeders,
            leechers: counts.leechers,
            interval_seconds: self.intervals.draw(),
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
        decision: Decision,
        batch: &Batch,
        connections: &mut Connections<Session>,
    ) {
        let info_hash = request.info_hash;
        self.reply(request, connections, |writer, _, out| {
            if let Decision::Refused(refusal) = decision {
                write_refusal(refusal, info_hash, writer, request.family, out);
            }
        });
        if let Decision::AnswerTo(to) = decision {
            let message = ForwardedAnswer {
                info_hash,
                peer_id: answer.peer_id,
                offer_id: answer.offer_id,
                answer: batch.json(answer.json.clone()),
            };
            let what = Forwarded {
                kind: ResponseKind::Answer,
                from: request.family,
                network: request.network,
                offer: None,
            };
            if to.is_here() {
                self.forward(to, what, &message, connections);
            } else {
                self.send_answer(request, answer, to, what, &message);
            }
        }
    }

    /// Calls the session that a request has come from.
    fn reply(
        &mut self,
        request: &Request,
        connections: &mut Connections<Session>,
        reply: impl FnOnce(&mut Self, &mut Session, &mut Vec<u8>),
    ) {
        let answered = connections.with(request.connection, |session, io| {
            reply(self, session, io.out);
            let was_full = session.responded();
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
        to: ConnectionRef,
        what: Forwarded,
        message: &impl Message,
        connections: &mut Connections<Session>,
    ) {
        let write = |out: &mut Vec<u8>| frames::write_text(message, out);
        if to.worker == self.worker {
            let frame_bytes = HEADER_BYTES_MAX + message.size();
            self.write_to(to.connection, what, frame_bytes, connections, write);
        } else if !self.forwarding.add(to.worker, to.connection, what, write) {
            self.drop_forwarded(Reason::DeliveryFull, what);
        }
    }

    /// Writes what one client has for another into the other's connection, unless that has more
    /// than enough of it. It may have gone a moment ago: then that was all, and nobody did anything
    /// wrong.
    fn write_to(
        &mut self,
        connection: ConnectionKey,
        what: Forwarded,
        frame_bytes: usize,
        connections: &mut Connections<Session>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let (now, bounds, few_offers) = (self.now, self.bounds, &mut self.few_offers);
        let written = connections.with(connection, |session, io| {
            let waiting = io.waiting_bytes();
            let waiting_max = match io.memory_is_tight() {
                // Whoever holds most is closed soon, and that shall not be the work of others.
                true => 0,
                false => bounds.waiting_bytes_max,
            };
            if waiting > 0 && waiting + frame_bytes > waiting_max {
                return Err(Reason::ReceiverFull);
            }
            let is_of_few = || few_offers.admits(now, what.network, connection);
            let per_second_max = bounds.offers_per_second_max;
            if what.offer.is_some() && !session.offer_pace.admits(now, per_second_max, is_of_few) {
                return Err(Reason::OfferRate);
            }
            write(io.out);
            Ok(session.client.family())
        });
        match written {
            Some(Ok(family)) => {
                let traffic = self.counters.traffic(family);
                traffic.responses(what.kind).add(1);
            }
            Some(Err(reason)) => self.drop_forwarded(reason, what),
            None => {
                // Its peers leave, and what they might have answered with them.
                let traffic = self.counters.traffic(what.from);
                traffic.reason(Reason::ConnectionGone).add(1);
                self.withdraw_elsewhere(what);
            }
        }
    }

    fn drop_forwarded(&mut self, reason: Reason, what: Forwarded) {
        self.counters.traffic(what.from).reason(reason).add(1);
        self.dropped.extend(what.offer);
        self.withdraw_elsewhere(what);
    }
}

fn write_refusal(
    refusal: Refusal,
    info_hash: InfoHash,
    writer: &ResponseWriter,
    family: IpFamily,
    out: &mut Vec<u8>,
) {
    let failure = refusal.about(Action::Announce, Some(info_hash));
    failure.write(
        writer.intervals.present(),
        writer.counters.traffic(family),
        out,
    );
}
