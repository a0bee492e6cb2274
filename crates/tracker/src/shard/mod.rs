//! Shards, and who works with them.
//!
//! A shard belongs to one worker, its [owner](ShardOwner). Whoever has something to do with it from
//! outside is a [source](ShardSource) of work for the owner: the workers of a protocol that send
//! batches of requests ([`Responders`]), or somebody who reads all torrents, a slice at a time.
//!
//! A shard knows no requests. How those of a protocol are processed is added from outside by a
//! [`BatchProcessor`], so that one shard can serve several protocols.
//!
//! | module | contents |
//! |---|---|
//! | [`addresses`] | the shard of a tracker whose peers are addresses (UDP, HTTP) |
//! | [`maintenance`], `cleaning` | what a shard does between batches |
//! | [`client_stats`] | peers by client software |
//! | [`swarm_worker`] | the loop of a worker that owns a shard and nothing else |

pub mod addresses;
mod cleaning;
pub mod client_stats;
pub mod maintenance;
pub mod swarm_worker;

pub use aquatic_channel::Batch;
use aquatic_channel::Responder;
use aquatic_daemon::clock::Now;

/// One of the parts into which torrents are divided by info hash.
pub trait Shard: Send + 'static {
    /// Does a slice of whatever is due: no more than a batch takes. Returns whether there is more
    /// to do at once.
    fn maintain(&mut self, now: Now) -> bool;
}

/// How the requests of one protocol are processed in a shard. Holds what is needed to write
/// responses.
pub trait BatchProcessor: Send + 'static {
    /// What holds the swarms.
    type Shard: Shard;
    /// Requests, and after processing the responses to them.
    type Batch: Batch + Default + Send + 'static;

    /// Processes every request of a batch.
    fn process(&mut self, now: Now, shard: &mut Self::Shard, batch: &mut Self::Batch);
}

/// Works with a shard from outside. Called in each round, and never for a single request.
pub trait ShardSource<S>: Send {
    /// Does what others wait for. Returns how many batches that were.
    fn process(&mut self, now: Now, shard: &mut S) -> usize;

    /// Does a slice of what nobody waits for. Returns whether there is more to do at once.
    fn step(&mut self, _now: Now, _shard: &mut S) -> bool {
        false
    }

    /// Whether something has come since the last [`Self::process`].
    fn has_pending(&self) -> bool {
        false
    }
}

/// The ways from all workers of a protocol that send requests to a shard.
pub(crate) struct Responders<P: BatchProcessor> {
    pub(crate) processor: P,
    pub(crate) responders: Vec<Responder<P::Batch>>,
}

impl<P: BatchProcessor> ShardSource<P::Shard> for Responders<P> {
    fn process(&mut self, now: Now, shard: &mut P::Shard) -> usize {
        let mut processed = 0;
        for responder in &mut self.responders {
            while let Some(mut batch) = responder.receive() {
                self.processor.process(now, shard, &mut batch);
                // There is room for every batch that was received.
                let sent = responder.answer(batch);
                debug_assert!(sent.is_ok(), "the batch came from this exchange");
                processed += 1;
            }
            responder.wake();
        }
        processed
    }

    fn has_pending(&self) -> bool {
        self.responders.iter().any(Responder::has_requests)
    }
}

/// A shard, and everybody who works with it, in the thread of the worker that owns it.
pub struct ShardOwner<S> {
    shard: S,
    sources: Vec<Box<dyn ShardSource<S>>>,
}

impl<S: Shard> ShardOwner<S> {
    /// The owner of `shard`.
    #[must_use]
    pub fn new(shard: S, sources: Vec<Box<dyn ShardSource<S>>>) -> Self {
        Self { shard, sources }
    }

    /// What it owns.
    pub fn shard_mut(&mut self) -> &mut S {
        &mut self.shard
    }

    /// Processes the batches of others. Returns how many there were.
    pub fn process(&mut self, now: Now) -> usize {
        let Self { shard, sources } = self;
        let processed = sources.iter_mut().map(|source| source.process(now, shard));
        processed.sum()
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn maintain(&mut self, now: Now) -> bool {
        let mut more = self.shard.maintain(now);
        for source in &mut self.sources {
            more |= source.step(now, &mut self.shard);
        }
        more
    }

    /// Whether others have sent something since the last [`Self::process`].
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.sources.iter().any(|source| source.has_pending())
    }
}
