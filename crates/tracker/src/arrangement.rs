//! Who does what: workers, their shards and the ways between them.
//!
//! Nothing here touches a socket or a thread: simulations arrange workers in the same way as the
//! daemons.

use std::sync::Arc;

use aquatic_channel::{Bell, Requester, Responder, exchange};

use crate::router::{Router, Shard};
use crate::swarm_worker::SwarmWorker;

/// How many workers of each kind there are. Socket workers come first wherever workers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Threads that talk to clients.
    pub socket_workers: usize,
    /// Threads that only own shards (split), or 0: the socket workers own them (fused).
    pub swarm_workers: usize,
}

impl Layout {
    /// As configured: 0 socket workers means one for each CPU.
    #[must_use]
    pub fn new(socket_workers: usize, swarm_workers: usize) -> Self {
        let socket_workers = match socket_workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        Self {
            socket_workers,
            swarm_workers,
        }
    }

    /// All workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.socket_workers + self.swarm_workers
    }

    /// Parts into which torrents are divided: one for each worker that owns some.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self.swarm_workers {
            0 => self.socket_workers,
            count => count,
        }
    }

    /// The worker that owns a shard, in the list of all workers.
    #[must_use]
    pub fn owner(&self, shard: usize) -> usize {
        match self.swarm_workers {
            0 => shard,
            _ => self.socket_workers + shard,
        }
    }
}

/// Something of each of so many workers or shards, to be read by the statistics, too.
#[must_use]
pub fn shared<T: Default>(count: usize) -> Vec<Arc<T>> {
    (0..count).map(|_| Arc::default()).collect()
}

/// Workers that are connected with each other.
pub struct Workers<S: Shard> {
    /// One for each socket worker.
    pub routers: Vec<Router<S>>,
    /// One for each swarm worker.
    pub swarm_workers: Vec<SwarmWorker<S>>,
}

impl<S: Shard> Workers<S> {
    /// Gives the shards to their owners, and connects everyone who may ask with them, by exchanges
    /// of `batches_max` batches. `bells` wake the workers.
    #[must_use]
    pub fn connect(layout: Layout, shards: Vec<S>, batches_max: usize, bells: &[Bell]) -> Self {
        let mut ways = Ways::new(layout, batches_max, bells);
        let mut workers = Self {
            routers: Vec::new(),
            swarm_workers: Vec::new(),
        };
        let mut shards = shards.into_iter();
        for worker in 0..layout.socket_workers {
            let own = (layout.swarm_workers == 0)
                .then(|| shards.next())
                .flatten()
                .map(|shard| (worker, shard));
            let askers = match own {
                Some(_) => ways.askers(worker),
                None => Vec::new(),
            };
            let router = Router::new(own, ways.requesters(worker), askers);
            workers.routers.push(router);
        }
        for (index, shard) in shards.enumerate() {
            let worker = SwarmWorker::new(shard, ways.askers(index));
            workers.swarm_workers.push(worker);
        }
        workers
    }
}

/// The exchanges between socket workers and the owners of shards, until they are given out.
struct Ways<B> {
    /// By socket worker, then by shard. None from a worker to itself.
    requesters: Vec<Vec<Option<Requester<B>>>>,
    /// By shard.
    responders: Vec<Vec<Responder<B>>>,
}

impl<B> Ways<B> {
    fn new(layout: Layout, batches_max: usize, bells: &[Bell]) -> Self {
        let mut responders: Vec<Vec<_>> = (0..layout.shards()).map(|_| Vec::new()).collect();
        let requesters = (0..layout.socket_workers)
            .map(|worker| {
                let mut to = |(shard, responders): (usize, &mut Vec<_>)| {
                    let owner = layout.owner(shard);
                    let (owner_bell, bell) = (bells.get(owner)?, bells.get(worker)?);
                    let (requester, responder) = (owner != worker)
                        .then(|| exchange(batches_max, owner_bell.clone(), bell.clone()))?;
                    responders.push(responder);
                    Some(requester)
                };
                responders.iter_mut().enumerate().map(&mut to).collect()
            })
            .collect();
        Self {
            requesters,
            responders,
        }
    }

    fn requesters(&mut self, worker: usize) -> Vec<Option<Requester<B>>> {
        self.requesters
            .get_mut(worker)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn askers(&mut self, shard: usize) -> Vec<Responder<B>> {
        self.responders
            .get_mut(shard)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}
