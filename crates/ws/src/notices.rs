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

use aquatic_stream::ConnectionKey;
use aquatic_types::{CanonicalAddr, InfoHash, PeerId, ShardKey};

use crate::messages::{BATCH_REQUESTS_MAX, BATCHES_MAX, HandedOffer};

/// Dropped offers of all shards that wait until their shards can be told.
const DROPPED_MAX: usize = 16_384;

/// Notices that room is kept for while there are none.
pub(crate) const KEPT: usize = 64;

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
pub(crate) enum Notice {
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

    /// Whether one of this kind may be run now, as the way to its shard is busy or not.
    pub(crate) fn may_run(&mut self, shard: usize, notice: Notice, is_busy: bool) -> bool {
        let Some(of) = self.shards.get_mut(shard) else {
            return false;
        };
        let (credit, price) = of.account(notice);
        if !is_busy {
            *credit = 0;
        }
        !is_busy || *credit >= price
    }

    /// The next peer that a shard is to be told of. It [may be run](Self::may_run).
    pub(crate) fn next_departure(&mut self, shard: usize, is_busy: bool) -> Option<Departure> {
        let of = self.shards.get_mut(shard)?;
        let next = pop(&mut of.departures)?;
        of.pay(Notice::Departure, is_busy);
        Some(next)
    }

    /// The next offer that a shard is to be told of. It [may be run](Self::may_run).
    pub(crate) fn next_dropped_offer(
        &mut self,
        shard: usize,
        is_busy: bool,
    ) -> Option<HandedOffer> {
        let of = self.shards.get_mut(shard)?;
        let next = pop(&mut of.dropped)?;
        of.pay(Notice::DroppedOffer, is_busy);
        Some(next)
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

    /// One has been run.
    fn pay(&mut self, notice: Notice, is_busy: bool) {
        if is_busy {
            let (credit, price) = self.account(notice);
            *credit -= price;
        }
    }
}

fn pop<T>(waiting: &mut VecDeque<T>) -> Option<T> {
    let next = waiting.pop_front();
    if waiting.is_empty() {
        waiting.shrink_to(KEPT);
    }
    next
}
