//! Takes messages apart into requests, and puts those into batches for the shards. Pure.

mod sending_notices;

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_stream::ConnectionKey;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::gather::PendingScrape;
use aquatic_tracker::dispatch::waiting_lines::WaitingLines;
use aquatic_tracker::shard::ShardOwner;
use aquatic_types::{AnnounceEvent, CanonicalAddr, InfoHash, PeerId, PeerStatus, client_network};
use aquatic_ws_protocol::{AnnounceRequest, AnswerRequest, Request, ScrapeRequest};

use crate::membership::MembershipChange;
use crate::messages::{self, Announce, Answer, Batch, Offer, RequestKind};
use crate::notices::{Departure, Notices};
use crate::refusal::{Failure, Refusal};
use crate::service::Service;
use crate::session::{Held, Session};
use crate::signalling::{Signalling, SignallingShard};
use crate::url_key::PeerOfKey;

/// A socket worker's asking half; the other one is the
/// [`ResponseWriter`](crate::response_writer::ResponseWriter).
pub struct RequestHandler {
    /// The worker's place among the socket workers.
    pub worker: u16,
    /// Decides about messages.
    pub service: Service,
    /// Knows the ways to the shards.
    pub dispatcher: Dispatcher<Signalling>,
    /// If the worker owns a shard.
    pub owner: Option<Box<ShardOwner<SignallingShard>>>,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// Offers of an announce that are passed on.
    pub offers_max: usize,
    /// Peers that a connection may have.
    pub peers_max: usize,
    /// What shards are to be told besides.
    pub notices: Notices,
    /// Who waits for room.
    pub lines: WaitingLines<ConnectionKey>,
}

/// Why a request is not on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It is not served.
    Refused(Refusal),
    /// The owner of this shard has no room for it, or others wait for that.
    NoRoom(usize),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who asks: whoever finds a line goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Somebody who has just come.
    New,
    /// The first one in the line for this shard.
    FirstFor(usize),
}

impl RequestHandler {
    /// Deals with one message of a client. It is on its way, or waits in a line, when this returns;
    /// but for a scrape that is complete without that, which is returned.
    ///
    /// # Errors
    /// If it is not served.
    pub fn ask(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        message: &[u8],
    ) -> Result<Option<PendingScrape>, Failure> {
        let request = self.service.receive(now, session.client, message)?;
        self.judge(id, session, &request)?;
        let asked = match &request {
            Request::Scrape(scrape) => return Ok(self.scrape(id, session, scrape)),
            Request::Announce(announce) => self.announce(now, id, session, announce, Turn::New),
            Request::Answer(answer) => self.answer(id, session, answer, Turn::New),
        };
        let asked = asked.or_else(|stopped| match stopped {
            Stopped::NoRoom(shard) => self.wait(shard, id, session, message),
            Stopped::Refused(refusal) => Err(refusal),
        });
        asked.map_err(|refusal| refusal.about_request(&request))?;
        Ok(None)
    }

    /// Whether a request is served. A peer that says goodbye leaves whatever it is told: its key
    /// may have ended, or its torrent have been denied meanwhile.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn judge(
        &mut self,
        id: ConnectionKey,
        session: &mut Session,
        request: &Request<'_>,
    ) -> Result<(), Failure> {
        let Err(refusal) = self.service.judge(session.url_key(), request) else {
            return Ok(());
        };
        if let Request::Announce(announce) = request
            && announce.status() == PeerStatus::Stopped
        {
            let it = (&announce.info_hash, &announce.peer_id);
            self.dismiss(id, session, |info_hash, peer_id| (info_hash, peer_id) == it);
        }
        Err(refusal.about_request(request))
    }

    /// A connection has ended.
    pub fn forget(&mut self, id: ConnectionKey, session: &Session) {
        let client = session.client;
        for (info_hash, peer_id) in session.membership.iter() {
            self.notices
                .depart(departure(id, client, info_hash, peer_id));
            if let Some(peers_per_ip) = &self.peers_per_ip {
                peers_per_ip.release(client.ip());
            }
            let peer = self.peer_of_key(id, info_hash, peer_id);
            self.service.leave(session.url_key(), peer);
        }
    }

    /// All peers of a connection are to leave.
    pub fn dismiss_all(&mut self, id: ConnectionKey, session: &mut Session) {
        self.dismiss(id, session, |_, _| true);
    }

    /// The peers of a connection that are not allowed (any more) are to leave: by their torrents,
    /// or by their software.
    pub fn dismiss_forbidden(&mut self, id: ConnectionKey, session: &mut Session) {
        let (client, notices) = (session.client, &mut self.notices);
        let admission = &mut self.service.admission;
        session.membership.dismiss(
            |info_hash, peer_id| {
                !(admission.allows_torrent(info_hash) && admission.allows_peer_id(peer_id))
            },
            |info_hash, peer_id| notices.depart(departure(id, client, info_hash, peer_id)),
        );
    }

    fn dismiss(
        &mut self,
        id: ConnectionKey,
        session: &mut Session,
        is_meant: impl FnMut(&InfoHash, &PeerId) -> bool,
    ) {
        let (client, notices) = (session.client, &mut self.notices);
        session.membership.dismiss(is_meant, |info_hash, peer_id| {
            notices.depart(departure(id, client, info_hash, peer_id));
        });
    }

    /// Whether there is something to do without anything having come.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let owner = self.owner.as_ref();
        let has_pending = owner.is_some_and(|owner| owner.has_pending());
        has_pending || self.has_notices() || self.dispatcher.has_pending()
    }

    pub(crate) fn announce(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &mut Session,
        announce: &AnnounceRequest<'_>,
        turn: Turn,
    ) -> Result<(), Stopped> {
        let AnnounceRequest {
            info_hash, peer_id, ..
        } = *announce;
        let status = announce.status();
        let shard = self.dispatcher.shard_of(&info_hash);
        // First, because there is no way back from what follows.
        self.room_at(shard, turn)?;
        let membership = &mut session.membership;
        let asked = membership.ask(info_hash, peer_id, status, self.peers_max)?;
        if let Err(refusal) = self.take_places(now, id, session, announce, asked) {
            session.membership.settle(info_hash, peer_id, false);
            return Err(refusal.into());
        }
        self.service.tell(now, session, announce);
        let offers_max = self.offers_max;
        if let Some(batch) = self.batch_of(shard) {
            let first_offer = batch.offers.len();
            for offer in announce.offers.iter().take(offers_max) {
                let json = batch.keep(offer.offer);
                batch.offers.push(Offer {
                    offer_id: offer.offer_id,
                    json,
                });
            }
            let kind = RequestKind::Announce(Announce {
                peer_id,
                status,
                completed: announce.event == AnnounceEvent::Completed,
                offers: first_offer..batch.offers.len(),
                skipped: announce.skipped,
                asked,
            });
            batch.requests.push(request(id, session, info_hash, kind));
            session.request_sent();
            self.has_asked(shard);
        }
        Ok(())
    }

    /// Counts a peer that comes among those of its client and of its key. It is counted until it is
    /// no longer in the book of its connection.
    fn take_places(
        &mut self,
        now: Now,
        id: ConnectionKey,
        session: &Session,
        announce: &AnnounceRequest<'_>,
        asked: MembershipChange,
    ) -> Result<(), Refusal> {
        let (ip, is_new) = (session.client.ip(), asked == MembershipChange::Joined);
        let peers_per_ip = self.peers_per_ip.as_ref().filter(|_| is_new);
        if peers_per_ip.is_some_and(|it| !it.admit(ip)) {
            return Err(Refusal::PEERS_PER_IP);
        }
        if asked == MembershipChange::None || announce.status() == PeerStatus::Stopped {
            return Ok(());
        }
        let peer = self.peer_of_key(id, announce.info_hash, announce.peer_id);
        if !is_new {
            self.service.keep_by_key(now, session.url_key(), peer);
            return Ok(());
        }
        let admitted = self.service.admit_by_key(now, session.url_key(), peer);
        if let (Err(_), Some(peers_per_ip)) = (admitted, peers_per_ip) {
            peers_per_ip.release(ip);
        }
        Ok(admitted?)
    }

    fn peer_of_key(&self, id: ConnectionKey, info_hash: InfoHash, peer_id: PeerId) -> PeerOfKey {
        PeerOfKey {
            info_hash,
            peer_id,
            worker: self.worker,
            connection: id,
        }
    }

    pub(crate) fn answer(
        &mut self,
        id: ConnectionKey,
        session: &mut Session,
        answer: &AnswerRequest<'_>,
        turn: Turn,
    ) -> Result<(), Stopped> {
        let membership = &session.membership;
        let siblings = membership.siblings(answer.info_hash, answer.peer_id);
        let shard = self.dispatcher.shard_of(&answer.info_hash);
        let batch = self.room_at(shard, turn)?;
        let kind = RequestKind::Answer(Answer {
            peer_id: answer.peer_id,
            siblings: siblings.collect(),
            to_peer_id: answer.to_peer_id,
            offer_id: answer.offer_id,
            json: batch.keep(answer.answer),
        });
        let request = request(id, session, answer.info_hash, kind);
        batch.requests.push(request);
        session.request_sent();
        self.has_asked(shard);
        Ok(())
    }

    /// A scrape is scattered by torrent, because each can belong to another shard, and gathered
    /// when the last row has come back. Returned if none has to come.
    fn scrape(
        &mut self,
        id: ConnectionKey,
        session: &mut Session,
        request: &ScrapeRequest,
    ) -> Option<PendingScrape> {
        let family = session.client.family();
        let mut scrape = PendingScrape::new(family);
        let info_hashes = request.info_hashes.iter().copied();
        for (info_hash, is_allowed) in self.service.admission.scraped(info_hashes) {
            // A torrent that is not allowed gets zeros, like an unknown one.
            scrape.add(info_hash, is_allowed);
        }
        if let Some(shard) = self.ask_rows(id, &mut scrape, None, usize::MAX)
            && !self.lines.join(shard, id)
        {
            scrape.fail();
        }
        if scrape.is_complete() {
            return Some(scrape);
        }
        session.held = Some(Box::new(Held::Scrape(scrape)));
        None
    }

    /// Asks for no more than so many rows of a scrape, which may be the first one in the line for a
    /// shard: see [`PendingScrape::ask`].
    pub(crate) fn ask_rows(
        &mut self,
        connection: ConnectionKey,
        scrape: &mut PendingScrape,
        first_for: Option<usize>,
        rows_max: usize,
    ) -> Option<usize> {
        let Self {
            worker,
            dispatcher,
            lines,
            notices,
            ..
        } = self;
        let family = scrape.family();
        let push = |batch: &mut Batch, row, info_hash| {
            batch.worker = *worker;
            batch.requests.push(messages::Request {
                connection,
                family,
                // Not looked at.
                network: 0,
                info_hash,
                kind: RequestKind::Scrape { row },
            });
        };
        let asked = |shard, is_half_used| notices.has_asked(shard, is_half_used);
        scrape.ask(dispatcher, lines, first_for, rows_max, push, asked)
    }

    /// The batch that goes to the owner of a shard, unless there is a line before it.
    fn room_at(&mut self, shard: usize, turn: Turn) -> Result<&mut Batch, Stopped> {
        if turn != Turn::FirstFor(shard) && self.lines.has(shard) {
            return Err(Stopped::NoRoom(shard));
        }
        self.batch_of(shard).ok_or(Stopped::NoRoom(shard))
    }

    /// The batch that goes to the owner of a shard. `None` if the owner does not keep up.
    pub(crate) fn batch_of(&mut self, shard: usize) -> Option<&mut Batch> {
        let batch = self.dispatcher.batch_for(shard)?;
        batch.worker = self.worker;
        Some(batch)
    }
}

/// A peer leaves without having said so: its connection has ended, or is silent, or the torrent is
/// no longer allowed.
fn departure(
    connection: ConnectionKey,
    client: CanonicalAddr,
    info_hash: InfoHash,
    peer_id: PeerId,
) -> Departure {
    Departure {
        connection,
        client,
        info_hash,
        peer_id,
        is_certain: true,
    }
}

/// A request of a session.
fn request(
    connection: ConnectionKey,
    session: &Session,
    info_hash: InfoHash,
    kind: RequestKind,
) -> messages::Request {
    messages::Request {
        connection,
        family: session.client.family(),
        network: client_network(session.client.ip()),
        info_hash,
        kind,
    }
}
