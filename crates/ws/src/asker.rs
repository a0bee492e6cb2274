//! Takes messages apart into requests, and puts those into batches for the shards. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClient;
use aquatic_stream::{ConnectionId, Connections};
use aquatic_swarm::Counts;
use aquatic_tracker::router::{Router, ShardKey};
use aquatic_tracker::scrape::PendingScrape;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_ws_protocol::{Action, AnnounceRequest, AnswerRequest, Request, ScrapeRequest};

use crate::membership::Asked;
use crate::messages::{self, Announce, Answer, Batch, Offer, Outcome, What};
use crate::refusal::{Failure, Refusal};
use crate::relay::Relay;
use crate::service::Service;
use crate::session::{Held, Session};

/// Peers that have left whose relays are told about it in one round, so that requests do not wait
/// when many leave at once.
const LEAVING_ROUND_MAX: usize = 4_096;

/// A socket worker's asking half; the other one is the [`Writer`](crate::writer::Writer).
pub struct Asker {
    /// The worker's place among the socket workers.
    pub worker: u16,
    /// Decides about messages.
    pub service: Service,
    /// Decides which shard a torrent belongs to; the same in all workers.
    pub shard_key: ShardKey,
    /// Knows the ways to the shards.
    pub router: Router<Relay>,
    /// Requests for the worker's own shard.
    pub own: Batch,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClient>>,
    /// Offers of an announce that are passed on.
    pub offers_max: usize,
    /// Peers that a connection may have.
    pub peers_max: usize,
    /// Peers that leave without having said so, and whose relays have not been told.
    pub leaving: Leaving,
}

/// Peers that leave without having said so: their connections have ended, or are silent, or the
/// torrent is no longer allowed.
#[derive(Debug, Default)]
pub struct Leaving {
    peers: VecDeque<(ConnectionId, IpFamily, InfoHash, PeerId)>,
    /// There may be some whose relays take it in.
    may_go_on: bool,
}

impl Asker {
    /// Deals with one message of a client. It is on its way when this returns; but for a scrape
    /// that is complete without that, which is returned.
    ///
    /// # Errors
    /// If it is not served.
    pub fn ask(
        &mut self,
        now: Now,
        id: ConnectionId,
        session: &mut Session,
        message: &[u8],
    ) -> Result<Option<PendingScrape>, Failure> {
        match self.service.receive(now, session.client, message)? {
            Request::Announce(announce) => {
                let about = Some(announce.info_hash);
                let asked = self.announce(id, session, &announce);
                asked.map_err(|refusal| refusal.about(Action::Announce, about))?;
            }
            Request::Answer(answer) => {
                let about = Some(answer.info_hash);
                let asked = self.answer(id, session, &answer);
                asked.map_err(|refusal| refusal.about(Action::Announce, about))?;
            }
            Request::Scrape(scrape) => return Ok(self.scrape(id, session, &scrape)),
        }
        Ok(None)
    }

    /// A connection has ended.
    pub fn forget(&mut self, id: ConnectionId, session: &Session) {
        let client = session.client;
        for (info_hash, peer_id) in session.membership.iter() {
            self.leaving.add((id, client.family(), info_hash, peer_id));
            if let Some(peers_per_ip) = &self.peers_per_ip {
                peers_per_ip.release(client.ip());
            }
        }
    }

    /// All peers of a connection are to leave.
    pub fn dismiss_all(&mut self, id: ConnectionId, session: &mut Session) {
        let (family, leaving) = (session.client.family(), &mut self.leaving);
        session.membership.dismiss(
            |_| true,
            |info_hash, peer_id| leaving.add((id, family, info_hash, peer_id)),
        );
    }

    /// The peers of a connection in torrents that are not allowed (any more) are to leave.
    pub fn dismiss_forbidden(&mut self, id: ConnectionId, session: &mut Session) {
        let (family, leaving) = (session.client.family(), &mut self.leaving);
        let service = &mut self.service;
        session.membership.dismiss(
            |info_hash| !service.is_allowed(info_hash),
            |info_hash, peer_id| leaving.add((id, family, info_hash, peer_id)),
        );
    }

    /// Tells relays which peers have gone. Those that do not keep up are told later: a peer may
    /// have announced meanwhile, which the book of its connection knows.
    pub fn pass_on_leaving(&mut self, connections: &mut Connections<Session>) {
        let mut passed_on = 0;
        for _ in 0..self.leaving.peers.len().min(LEAVING_ROUND_MAX) {
            let Some(peer) = self.leaving.peers.pop_front() else {
                break;
            };
            let (connection, family, info_hash, peer_id) = peer;
            if self.batch_for(&info_hash).is_none() {
                self.leaving.peers.push_back(peer);
                continue;
            }
            let still_leaves = connections.with(connection, |session, _| {
                session.membership.says_farewell(info_hash, peer_id)
            });
            // A connection that has gone has taken all its peers along.
            if still_leaves == Some(false) {
                passed_on += 1;
                continue;
            }
            let Some(batch) = self.batch_for(&info_hash) else {
                continue;
            };
            batch.requests.push(messages::Request {
                connection,
                family,
                info_hash,
                what: What::Leave { peer_id },
            });
            passed_on += 1;
        }
        self.leaving.settle(passed_on);
    }

    /// Whether there is something to do without anything having come.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.leaving.may_go_on || self.router.has_mail()
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
        let asked = membership.ask(info_hash, peer_id, status, self.peers_max)?;
        let ip = session.client.ip();
        if asked == Asked::Added && self.peers_per_ip.as_ref().is_some_and(|it| !it.admit(ip)) {
            membership.settle(info_hash, peer_id, false);
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
                skipped: announce.skipped,
                outcome: Outcome::Noted(Counts::default()),
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
        let membership = &session.membership;
        let siblings = membership.siblings(answer.info_hash, answer.peer_id);
        let batch = self.batch_for(&answer.info_hash);
        let batch = batch.ok_or(Refusal::QUEUE_FULL)?;
        let what = What::Answer(Answer {
            peer_id: answer.peer_id,
            siblings: siblings.collect(),
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
    /// together again when the last row has come back. Returned if none has to come.
    fn scrape(
        &mut self,
        id: ConnectionId,
        session: &mut Session,
        request: &ScrapeRequest,
    ) -> Option<PendingScrape> {
        let mut scrape = PendingScrape::new(session.client.family());
        for info_hash in self.service.scraped(request) {
            let place = scrape.add(*info_hash);
            // A torrent that is not allowed gets zeros, like an unknown one.
            if !self.service.is_allowed(info_hash) {
                continue;
            }
            match self.batch_for(info_hash) {
                Some(batch) => {
                    let counts = Counts::default();
                    let what = What::Scrape { place, counts };
                    batch
                        .requests
                        .push(self::request(id, session, *info_hash, what));
                    scrape.expect_row();
                }
                None => scrape.give_up(),
            }
        }
        if scrape.is_complete() {
            return Some(scrape);
        }
        session.held = Some(Box::new(Held::Scrape(scrape)));
        None
    }

    /// The batch that goes to the owner of a torrent. `None` if the owner does not keep up.
    fn batch_for(&mut self, info_hash: &InfoHash) -> Option<&mut Batch> {
        let shard = self.shard_key.shard_of(info_hash, self.router.shards());
        let worker = self.worker;
        self.router
            .batch_for(shard, &mut self.own, || Batch::new(worker))
    }
}

impl Leaving {
    fn add(&mut self, peer: (ConnectionId, IpFamily, InfoHash, PeerId)) {
        self.peers.push_back(peer);
        self.may_go_on = true;
    }

    /// A round is over.
    fn settle(&mut self, passed_on: usize) {
        self.may_go_on = passed_on > 0 && !self.peers.is_empty();
        if self.peers.is_empty() {
            self.peers.shrink_to(LEAVING_ROUND_MAX);
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
