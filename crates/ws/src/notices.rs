//! What shards are told besides what clients ask: which peers have gone, and which offers have not
//! come to their receivers. Pure.
//!
//! This must neither cost clients their turn when very much of it comes at once, nor wait as long
//! as clients do: a peer that has gone is handed the offers of others until its shard knows. So
//! notices go freely while less than half of the way to a shard is in use. While it is more, and
//! even while clients wait in a line, they get a share of the room:
//! [a departure](Notice::Departure) for each request, so that no more peers come than can leave,
//! and [a dropped offer](Notice::DroppedOffer) for each four.

use std::collections::VecDeque;

use aquatic_stream::{ConnectionKey, Connections};
use aquatic_types::{CanonicalAddr, InfoHash, IpFamily, PeerId, ShardKey, client_network};

use crate::messages::{self, BATCH_REQUESTS_MAX, BATCHES_MAX, Evicted, HandedOffer, RequestKind};
use crate::request_handler::RequestHandler;
use crate::session::Session;

/// Notices of a kind and for a shard that are run in one round, so that requests do not wait when
/// many leave at once.
const ROUND_MAX: usize = 4_096;

/// Peers that have had to give way whose connections are looked at in one round.
const EVICTED_ROUND_MAX: usize = 4_096;

/// Dropped offers of all shards that wait until their shards can be told.
const DROPPED_MAX: usize = 16_384;

/// Notices that room is kept for while there are none.
const KEPT: usize = 64;

/// No more than this is ever saved up: half of what can be on its way.
const CREDIT_MAX: usize = BATCHES_MAX * BATCH_REQUESTS_MAX / 2;

/// Requests for which one dropped offer is told of.
const REQUESTS_PER_DROPPED_OFFER: usize = 4;

/// A peer that leaves, or may have left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) connection: ConnectionKey,
    pub(crate) client: CanonicalAddr,
    pub(crate) info_hash: InfoHash,
    pub(crate) peer_id: PeerId,
    /// It leaves; otherwise it is asked whether it has had to.
    pub(crate) is_certain: bool,
}

/// Kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// A peer has left, or may have.
    Departure,
    /// An offer has not come to its receiver.
    DroppedOffer,
}

/// Notices that wait, by shard.
#[derive(Debug)]
pub struct Notices {
    shard_key: ShardKey,
    shards: Vec<OfShard>,
}

#[derive(Debug, Default)]
struct OfShard {
    departures: VecDeque<Departure>,
    dropped: VecDeque<HandedOffer>,
    /// Requests that clients have put on the busy way to this shard while notices waited, less
    /// those that notices of each kind have been run for.
    credit: Credit,
}

#[derive(Debug, Default)]
struct Credit {
    departures: usize,
    dropped: usize,
}

impl Notices {
    /// There are none.
    #[must_use]
    pub fn new(shard_key: ShardKey, shards: usize) -> Self {
        Self {
            shard_key,
            shards: (0..shards).map(|_| OfShard::default()).collect(),
        }
    }

    /// A peer leaves, or may have.
    pub(crate) fn depart(&mut self, peer: Departure) {
        if let Some(of) = self.of_torrent(&peer.info_hash) {
            of.departures.push_back(peer);
        }
    }

    /// An offer has been dropped. If too many have been, it stays open until its time is over.
    pub(crate) fn withdraw(&mut self, offer: HandedOffer) {
        let max = DROPPED_MAX / self.shards.len().max(1);
        if let Some(of) = self.of_torrent(&offer.info_hash)
            && of.dropped.len() < max
        {
            of.dropped.push_back(offer);
        }
    }

    /// Whether any wait for a shard.
    pub(crate) fn wait_for(&self, shard: usize) -> bool {
        let of = self.shards.get(shard);
        of.is_some_and(|it| !it.departures.is_empty() || !it.dropped.is_empty())
    }

    /// A client's request has been put on the way to a shard. While that is busy, notices that
    /// wait earn something by it.
    pub(crate) fn has_asked(&mut self, shard: usize, is_busy: bool) {
        if is_busy
            && self.wait_for(shard)
            && let Some(OfShard { credit, .. }) = self.shards.get_mut(shard)
        {
            for credit in [&mut credit.departures, &mut credit.dropped] {
                *credit = (*credit + 1).min(CREDIT_MAX);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn dropped_offers(&self) -> usize {
        self.shards.iter().map(|it| it.dropped.len()).sum()
    }

    fn of_torrent(&mut self, info_hash: &InfoHash) -> Option<&mut OfShard> {
        let shard = self.shard_key.shard_of(info_hash, self.shards.len());
        self.shards.get_mut(shard)
    }
}

impl OfShard {
    /// The credit of a kind, and what one notice costs.
    fn account(&mut self, notice: Notice) -> (&mut usize, usize) {
        match notice {
            Notice::Departure => (&mut self.credit.departures, 1),
            Notice::DroppedOffer => (&mut self.credit.dropped, REQUESTS_PER_DROPPED_OFFER),
        }
    }
}

impl RequestHandler {
    /// Peers have had to give way. An announce of one of them may be on its way, or have brought it
    /// back meanwhile: so its shard is asked.
    pub fn look_for_evicted(
        &mut self,
        evicted: &mut Vec<Evicted>,
        connections: &mut Connections<Session>,
    ) {
        let some = evicted.len().min(EVICTED_ROUND_MAX);
        for it in evicted.drain(..some) {
            let connection = it.member.connection;
            connections.with(connection, |session, _| {
                if session.membership.doubt(it.info_hash, it.peer_id) {
                    self.notices.depart(Departure {
                        connection,
                        client: session.client,
                        info_hash: it.info_hash,
                        peer_id: it.peer_id,
                        is_certain: false,
                    });
                }
            });
        }
        if evicted.is_empty() {
            evicted.shrink_to(KEPT);
        }
    }

    /// Runs notices as far as there is room. Those that have to wait are run later: a peer may have
    /// announced meanwhile, which the book of its connection knows.
    pub fn send_notices(
        &mut self,
        dropped: &mut Vec<HandedOffer>,
        connections: &mut Connections<Session>,
    ) {
        for offer in dropped.drain(..) {
            self.notices.withdraw(offer);
        }
        dropped.shrink_to(KEPT);
        for shard in 0..self.dispatcher.shards() {
            if self.notices.wait_for(shard) {
                self.tell_of_departures(shard, connections);
                self.tell_of_dropped_offers(shard);
            }
        }
    }

    /// Whether any can be run without anything having come.
    pub(crate) fn has_notices(&self) -> bool {
        let is_due = |shard| self.notices.wait_for(shard) && !self.dispatcher.is_half_used(shard);
        (0..self.dispatcher.shards()).any(is_due)
    }

    /// A request of a client is on its way to a shard.
    pub(crate) fn has_asked(&mut self, shard: usize) {
        self.notices
            .has_asked(shard, self.dispatcher.is_half_used(shard));
    }

    fn tell_of_departures(&mut self, shard: usize, connections: &mut Connections<Session>) {
        for _ in 0..ROUND_MAX {
            let Some(peer) = self.next_departure(shard) else {
                break;
            };
            let Departure {
                connection,
                client,
                info_hash,
                peer_id,
                is_certain,
            } = peer;
            let is_due = connections.with(connection, |session, _| {
                !is_certain || session.membership.says_farewell(info_hash, peer_id)
            });
            // A connection that has gone has taken all its peers along.
            if !is_due.unwrap_or(is_certain) {
                continue;
            }
            let kind = match is_certain {
                true => RequestKind::Leave { peer_id },
                false => RequestKind::Check { peer_id },
            };
            if let Some(batch) = self.batch_of(shard) {
                batch.requests.push(messages::Request {
                    connection,
                    family: client.family(),
                    network: client_network(client.ip()),
                    info_hash,
                    kind,
                });
            }
        }
    }

    /// Tells a shard which offers have not come to their receivers.
    pub(crate) fn tell_of_dropped_offers(&mut self, shard: usize) {
        for _ in 0..ROUND_MAX {
            let Some(offer) = self.next_errand(shard, Notice::DroppedOffer, |it| &mut it.dropped)
            else {
                break;
            };
            let HandedOffer {
                info_hash,
                receiver,
            } = offer;
            if let Some(batch) = self.batch_of(shard) {
                batch.requests.push(messages::Request {
                    connection: receiver.member.connection,
                    // Not looked at: nobody is answered.
                    family: IpFamily::V4,
                    network: receiver.network,
                    info_hash,
                    kind: RequestKind::Withdraw(receiver),
                });
            }
        }
    }

    /// The next peer that a shard is to be told of, if there is a batch for that.
    pub(crate) fn next_departure(&mut self, shard: usize) -> Option<Departure> {
        self.next_errand(shard, Notice::Departure, |it| &mut it.departures)
    }

    /// The next notice for a shard, if it may be run and there is a batch for it.
    fn next_errand<T>(
        &mut self,
        shard: usize,
        notice: Notice,
        queue: impl FnOnce(&mut OfShard) -> &mut VecDeque<T>,
    ) -> Option<T> {
        let is_busy = self.dispatcher.is_half_used(shard);
        let (credit, price) = self.notices.shards.get_mut(shard)?.account(notice);
        match is_busy {
            false => *credit = 0,
            true if *credit < price => return None,
            true => {}
        }
        self.batch_of(shard)?;
        let of = self.notices.shards.get_mut(shard)?;
        let waiting = queue(of);
        let next = waiting.pop_front()?;
        if waiting.is_empty() {
            waiting.shrink_to(KEPT);
        }
        if is_busy {
            let (credit, price) = of.account(notice);
            *credit -= price;
        }
        Some(next)
    }
}
