//! All shards, while workers are connected with them.

use aquatic_channel::{Lane, Waker, exchange};
use aquatic_daemon::clock::Now;
use aquatic_types::ShardKey;

use crate::dispatch::dispatcher::{Dispatcher, Link};
use crate::dispatch::topology::Topology;
use crate::shard::swarm_worker::SwarmWorker;
use crate::shard::{BatchProcessor, Responders, Shard, ShardOwner, ShardSource};

/// All shards, before they go to their owners.
pub struct ShardSet<S> {
    key: ShardKey,
    topology: Topology,
    slots: Vec<Slot<S>>,
}

struct Slot<S> {
    shard: S,
    /// What wakes the owner.
    waker: Waker,
    sources: Vec<Box<dyn ShardSource<S>>>,
}

/// The workers of a protocol, as seen from the shards.
#[derive(Clone, Copy)]
pub struct FrontEnd<'a> {
    /// What wakes each of them.
    pub wakers: &'a [Waker],
    /// They are the socket workers of the shards' [`Topology`], or share the threads of these: what
    /// one of them asks the shard of its own thread does not travel.
    pub is_at_home: bool,
}

impl FrontEnd<'_> {
    /// The shard that belongs to the thread of a worker, of so many.
    #[must_use]
    pub fn shard_of(&self, worker: usize, topology: Topology) -> Option<usize> {
        let shard = topology.shard_of_socket_worker(worker);
        shard.filter(|shard| {
            self.is_at_home && worker < self.wakers.len() && *shard < topology.shards()
        })
    }
}

/// Shards with their owners.
pub struct Owners<S> {
    /// By socket worker: the shard that it owns, if it owns one.
    pub socket_workers: Vec<Option<Box<ShardOwner<S>>>>,
    /// Workers that own a shard each, and do nothing else.
    pub swarm_workers: Vec<SwarmWorker<S>>,
}

impl<S: Shard> Owners<S> {
    /// Has all of them process what others have sent, before they have threads of their own.
    /// Returns how many batches that were.
    pub fn process(&mut self, now: Now) -> usize {
        let owners = self.socket_workers.iter_mut().flatten();
        let by_owners = owners.map(|owner| owner.process(now)).sum::<usize>();
        let workers = self.swarm_workers.iter_mut();
        by_owners + workers.map(|worker| worker.process(now)).sum::<usize>()
    }
}

impl<S: Shard> ShardSet<S> {
    /// Shards in order, and what wakes each worker.
    #[must_use]
    pub fn new(key: ShardKey, topology: Topology, wakers: &[Waker], shards: Vec<S>) -> Self {
        let slot = |(shard, waker): (S, &Waker)| Slot {
            shard,
            waker: waker.clone(),
            sources: Vec::new(),
        };
        let slots = shards.into_iter().zip(topology.of_owners(wakers));
        Self {
            key,
            topology,
            slots: slots.map(slot).collect(),
        }
    }

    /// Connects workers of one protocol with all shards, by exchanges of `batches_max` batches.
    /// `processor` makes what processes requests for a shard, in the owner's thread.
    pub fn connect<P: BatchProcessor<Shard = S>>(
        &mut self,
        front_end: FrontEnd<'_>,
        batches_max: usize,
        mut processor: impl FnMut(usize) -> P,
    ) -> Vec<Dispatcher<P>> {
        let topology = self.topology;
        let owned = |worker| front_end.shard_of(worker, topology);
        let wakers = front_end.wakers;
        let mut links: Vec<Vec<Link<P>>> = wakers.iter().map(|_| Vec::new()).collect();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let mut responders = Vec::new();
            for (worker, (links, waker)) in links.iter_mut().zip(wakers).enumerate() {
                if owned(worker) == Some(index) {
                    links.push(Link::local(processor(index)));
                    continue;
                }
                let (requester, responder) =
                    exchange(batches_max, slot.waker.clone(), waker.clone());
                links.push(Link::Remote(Lane::new(requester)));
                responders.push(responder);
            }
            if !responders.is_empty() {
                slot.sources.push(Box::new(Responders {
                    processor: processor(index),
                    responders,
                }));
            }
        }
        let links = links.into_iter().enumerate();
        links
            .map(|(worker, links)| Dispatcher::new(self.key, links, owned(worker)))
            .collect()
    }

    /// Connects one more thread, which owns no shard and is no worker of the topology, but is woken
    /// by `waker`.
    pub fn connect_apart<P: BatchProcessor<Shard = S>>(
        &mut self,
        waker: &Waker,
        batches_max: usize,
        mut processor: impl FnMut(usize) -> P,
    ) -> Dispatcher<P> {
        let requesters = self.slots.iter_mut().enumerate().map(|(index, slot)| {
            let (requester, responder) = exchange(batches_max, slot.waker.clone(), waker.clone());
            slot.sources.push(Box::new(Responders {
                processor: processor(index),
                responders: vec![responder],
            }));
            requester
        });
        Dispatcher::remote(self.key, requesters.collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds somebody to each shard who works with it.
    pub fn attach_to_each(&mut self, mut source: impl FnMut() -> Box<dyn ShardSource<S>>) {
        for slot in &mut self.slots {
            slot.sources.push(source());
        }
    }

    /// The same, where `source` is given what wakes the owner of the shard.
    pub fn attach_with_waker(&mut self, mut source: impl FnMut(&Waker) -> Box<dyn ShardSource<S>>) {
        for slot in &mut self.slots {
            slot.sources.push(source(&slot.waker));
        }
    }

    /// Decides which shard a torrent belongs to.
    #[must_use]
    pub fn key(&self) -> ShardKey {
        self.key
    }

    /// Adds somebody who works with a shard.
    pub fn attach(&mut self, shard: usize, source: Box<dyn ShardSource<S>>) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.sources.push(source);
        }
    }

    /// Gives the shards to their owners.
    #[must_use]
    pub fn into_owners(self) -> Owners<S> {
        let topology = self.topology;
        let owners = self.slots.into_iter();
        let mut owners = owners.map(|slot| ShardOwner::new(slot.shard, slot.sources));
        let owned = (0..topology.socket_workers()).map(|worker| {
            topology.shard_of_socket_worker(worker)?;
            owners.next().map(Box::new)
        });
        Owners {
            socket_workers: owned.collect(),
            swarm_workers: owners.map(SwarmWorker::new).collect(),
        }
    }
}
