//! The way from a socket worker to the owners of shards, and back.
//!
//! | | split | fused |
//! |---|---|---|
//! | `swarm_workers` | 1 or more | 0 |
//! | shards belong to | swarm workers | socket workers |
//! | an [exchange](aquatic_channel) connects | each socket worker with each swarm worker | each socket worker with each other |
//!
//! A socket worker puts each request into the [batch for its shard](Router::batch_for). When a
//! round of receiving is over it [forwards](Router::forward) the batches, [answers](Router::answer)
//! what concerns its own shard, if it has one, and [collects](Router::collect) what has come back.
//! The code is the same for both arrangements.
//!
//! The batch for the own shard never travels: it stays with the socket worker, which passes it in.

use std::fmt::{self, Debug, Formatter};
use std::hash::Hasher;

use aquatic_channel::{Requester, Responder};
use aquatic_daemon::clock::Now;
use aquatic_types::InfoHash;
use siphasher::sip::SipHasher13;

/// Swarms, and the answers to what concerns them. Owned by one worker.
pub trait Shard {
    /// Requests, which are answered in place.
    type Batch: Batch;

    /// Answers every request of a batch.
    fn answer(&mut self, now: Now, batch: &mut Self::Batch);

    /// Does a slice of whatever is due: no more than a batch takes. Returns whether there is more
    /// to do at once.
    fn background(&mut self, now: Now) -> bool;
}

/// Requests for one shard.
pub trait Batch {
    /// Whether nothing should be added.
    fn is_full(&self) -> bool;

    /// Whether it holds no request.
    fn is_empty(&self) -> bool;
}

/// Decides which shard a torrent belongs to, where the kernel has no say in it.
///
/// Keyed, because strangers choose info hashes; and not by the hash of
/// [`TorrentMap`](aquatic_swarm::TorrentMap), or the torrents of a shard would all agree in some
/// bits of that.
#[derive(Clone, Copy)]
pub struct ShardKey(SipHasher13);

impl ShardKey {
    /// `secret` must be unpredictable to strangers, and drawn for this purpose only.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        let [key0, key1] = secret;
        Self(SipHasher13::new_with_keys(key0, key1))
    }

    /// The shard of a torrent, of `shards`.
    #[must_use]
    pub fn shard_of(&self, info_hash: &InfoHash, shards: usize) -> usize {
        if shards <= 1 {
            return 0;
        }
        let mut hasher = self.0;
        hasher.write(&info_hash.0);
        usize::try_from(hasher.finish() >> 32).unwrap_or_default() % shards
    }
}

impl Debug for ShardKey {
    /// Keeps the secret.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("ShardKey")
    }
}

/// A socket worker's ways to all shards.
pub struct Router<S: Shard> {
    /// This worker's own shard and its index (fused), or none (split).
    own: Option<(usize, Box<S>)>,
    /// By shard.
    owners: Vec<Owner<S::Batch>>,
    /// The ways from the other workers that have requests for the own shard (fused).
    askers: Vec<Responder<S::Batch>>,
}

/// The owner of a shard, as seen by a socket worker.
struct Owner<B> {
    /// The way there; `None` for the own shard.
    requester: Option<Requester<B>>,
    /// The batch that is being filled.
    filling: Option<B>,
}

impl<S: Shard> Router<S> {
    /// `own` is the worker's own shard and its index; `requesters` lead to all others, by shard.
    #[must_use]
    pub fn new(
        own: Option<(usize, S)>,
        requesters: Vec<Option<Requester<S::Batch>>>,
        askers: Vec<Responder<S::Batch>>,
    ) -> Self {
        let owner = |requester| Owner {
            requester,
            filling: None,
        };
        Self {
            own: own.map(|(index, shard)| (index, Box::new(shard))),
            owners: requesters.into_iter().map(owner).collect(),
            askers,
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.owners.len()
    }

    /// The batch to put a request for this shard into: `own` if the shard is this worker's own one.
    /// `None` if the owner does not keep up: the request is to be dropped or refused, and counted.
    pub fn batch_for<'a>(
        &'a mut self,
        shard: usize,
        own: &'a mut S::Batch,
        make: impl FnOnce() -> S::Batch,
    ) -> Option<&'a mut S::Batch> {
        if self.own.as_ref().is_some_and(|(index, _)| *index == shard) {
            return Some(own);
        }
        let owner = self.owners.get_mut(shard)?;
        if owner.filling.as_ref().is_some_and(Batch::is_full) {
            owner.send();
        }
        if owner.filling.is_none() {
            owner.filling = owner.requester.as_mut()?.vacant(make);
        }
        owner.filling.as_mut()
    }

    /// Puts all batches on their way. Returns how many are on their way now, there or back.
    pub fn forward(&mut self) -> usize {
        let mut in_flight = 0;
        for owner in &mut self.owners {
            owner.send();
            if let Some(requester) = &mut owner.requester {
                requester.ring();
                in_flight += requester.in_flight();
            }
        }
        in_flight
    }

    /// Answers what concerns the own shard: this worker's requests, then those of others. Returns
    /// how many batches of others there were.
    pub fn answer(&mut self, now: Now, own: &mut S::Batch) -> usize {
        let Some((_, shard)) = &mut self.own else {
            return 0;
        };
        if !own.is_empty() {
            shard.answer(now, own);
        }
        let mut answered = 0;
        for asker in &mut self.askers {
            answered += answer_all(now, shard.as_mut(), asker);
        }
        answered
    }

    /// Gives every batch that has come back to `take`, which must empty it. Returns their number.
    pub fn collect(&mut self, mut take: impl FnMut(&mut S::Batch)) -> usize {
        let mut collected = 0;
        let requesters = self
            .owners
            .iter_mut()
            .filter_map(|owner| owner.requester.as_mut());
        for requester in requesters {
            while let Some(mut batch) = requester.receive() {
                take(&mut batch);
                requester.recycle(batch);
                collected += 1;
            }
        }
        collected
    }

    /// Whether another worker has sent something since the last [`Self::answer`] and
    /// [`Self::collect`]. To be asked before really sleeping.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        let mut requesters = self
            .owners
            .iter()
            .filter_map(|owner| owner.requester.as_ref());
        requesters.any(Requester::has_answers) || self.askers.iter().any(Responder::has_requests)
    }

    /// Does a slice of whatever is due for the own shard. Returns whether there is more to do at
    /// once.
    pub fn background(&mut self, now: Now) -> bool {
        match &mut self.own {
            Some((_, shard)) => shard.background(now),
            None => false,
        }
    }
}

impl<B: Batch> Owner<B> {
    /// Puts the batch on its way, if there is one.
    fn send(&mut self) {
        if let Some(requester) = &mut self.requester
            && let Some(batch) = self.filling.take_if(|batch| !batch.is_empty())
        {
            // There is room for every batch that was vacant.
            let sent = requester.send(batch);
            debug_assert!(sent.is_ok(), "the batch came from this exchange");
        }
    }
}

/// Answers all requests that one other worker has for a shard, and returns how many batches there
/// were.
pub(crate) fn answer_all<S: Shard>(
    now: Now,
    shard: &mut S,
    asker: &mut Responder<S::Batch>,
) -> usize {
    let mut answered = 0;
    while let Some(mut batch) = asker.receive() {
        shard.answer(now, &mut batch);
        // There is room for every batch that was received.
        let sent = asker.answer(batch);
        debug_assert!(sent.is_ok(), "the batch came from this exchange");
        answered += 1;
    }
    asker.ring();
    answered
}
