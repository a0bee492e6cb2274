//! The way from a socket worker to all shards, and back.
//!
//! A socket worker puts each request into the [batch for its shard](Dispatcher::batch_for). When a
//! round of receiving is over it [finishes](Dispatcher::finish) the batches: those for shards of
//! others travel to their owners and come back, the one for the shard that the worker owns itself
//! is processed on the spot. The code is the same for each
//! [topology](crate::dispatch::topology::Topology).
//!
//! The shard itself is [beside](ShardOwner) the dispatcher, not in it: so dispatchers of several
//! protocols can share one.

use aquatic_channel::{Batch as _, Lane, Requester};
use aquatic_daemon::clock::Now;
use aquatic_types::{InfoHash, ShardKey};

use crate::shard::{BatchProcessor, ShardOwner};

/// The ways of a worker to all shards, for the requests of one protocol.
pub struct Dispatcher<P: BatchProcessor> {
    key: ShardKey,
    /// By shard.
    links: Vec<Link<P>>,
    /// The shard that this worker owns.
    local: Option<usize>,
}

/// The way to one shard.
pub(crate) enum Link<P: BatchProcessor> {
    /// This worker owns it. The batch never travels; it is bounded by what is received in a round.
    Local {
        batch: Box<P::Batch>,
        processor: Box<P>,
    },
    /// Another worker does.
    Remote(Lane<P::Batch>),
}

impl<P: BatchProcessor> Link<P> {
    pub(crate) fn local(processor: P) -> Self {
        Self::Local {
            batch: Box::default(),
            processor: Box::new(processor),
        }
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Batches of others that were processed, and of this worker that have come back.
    pub batches: usize,
    /// Batches that are on their way now, there or back.
    pub in_flight: usize,
}

impl<P: BatchProcessor> Dispatcher<P> {
    pub(crate) fn new(key: ShardKey, links: Vec<Link<P>>, local: Option<usize>) -> Self {
        Self { key, links, local }
    }

    /// A dispatcher of somebody who owns no shard; the ways to all of them, in order.
    #[must_use]
    pub fn remote(key: ShardKey, requesters: Vec<Requester<P::Batch>>) -> Self {
        let link = |requester| Link::Remote(Lane::new(requester));
        Self::new(key, requesters.into_iter().map(link).collect(), None)
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.links.len()
    }

    /// The shard of a torrent.
    #[must_use]
    pub fn shard_of(&self, info_hash: &InfoHash) -> usize {
        self.key.shard_of(info_hash, self.links.len())
    }

    /// The batch to put a request for a shard into. `None` if its owner does not keep up: the
    /// request is to be dropped, refused or made to wait.
    pub fn batch_for(&mut self, shard: usize) -> Option<&mut P::Batch> {
        match self.links.get_mut(shard)? {
            Link::Local { batch, .. } => Some(batch),
            Link::Remote(lane) => lane.batch(P::Batch::default),
        }
    }

    /// As [`Self::batch_for`], for what takes much room and is of little use: there is no batch if
    /// half of them are on their way. So it never takes the place of anything else.
    pub fn batch_for_bulk(&mut self, shard: usize) -> Option<&mut P::Batch> {
        if self.is_half_used(shard) {
            return None;
        }
        self.batch_for(shard)
    }

    /// Whether half of the batches for a shard are on their way. Never for the local one.
    #[must_use]
    pub fn is_half_used(&self, shard: usize) -> bool {
        match self.links.get(shard) {
            Some(Link::Remote(lane)) => lane.is_half_used(),
            Some(Link::Local { .. }) | None => false,
        }
    }

    /// Whether nothing is on its way to a shard or back, nor waits to be.
    #[must_use]
    pub fn is_idle(&self, shard: usize) -> bool {
        match self.links.get(shard) {
            Some(Link::Local { batch, .. }) => batch.is_empty(),
            Some(Link::Remote(lane)) => lane.in_flight() == 0 && !lane.holds_back(),
            None => true,
        }
    }

    /// The batch for the shard that this worker owns.
    pub fn local_batch(&mut self) -> Option<&mut P::Batch> {
        match self.links.get_mut(self.local?)? {
            Link::Local { batch, .. } => Some(batch),
            Link::Remote(_) => None,
        }
    }

    /// Puts batches on their way, as far as each [lane](Lane) does not hold them back. Returns how
    /// many are on their way now, there or back.
    pub fn send(&mut self) -> usize {
        let mut in_flight = 0;
        for lane in self.lanes_mut() {
            lane.forward();
            in_flight += lane.in_flight();
        }
        in_flight
    }

    /// Ends a round: sends what is for others, processes what is for the shard that this worker
    /// owns, from itself and then from others, and gives each batch that is ready to `deliver`,
    /// which must empty it: the local one first, unless nothing was in it.
    pub fn finish(
        &mut self,
        now: Now,
        mut owner: Option<&mut ShardOwner<P::Shard>>,
        mut deliver: impl FnMut(&mut P::Batch),
    ) -> Finished {
        debug_assert!(self.local.is_none() || owner.is_some());
        let in_flight = self.send();
        if let Some(local) = self.local
            && let Some(Link::Local { batch, processor }) = self.links.get_mut(local)
            && let Some(owner) = owner.as_deref_mut()
            && !batch.is_empty()
        {
            processor.process(now, owner.shard_mut(), batch);
            deliver(batch);
        }
        let mut batches = owner.map_or(0, |owner| owner.process(now));
        for lane in self.lanes_mut() {
            batches += lane.collect(&mut deliver);
        }
        Finished { batches, in_flight }
    }

    /// Whether something has come back since the last [`Self::finish`], or waits for the next one.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.links.iter().any(|link| match link {
            Link::Local { batch, .. } => !batch.is_empty(),
            Link::Remote(lane) => lane.has_answers(),
        })
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane<P::Batch>> {
        self.links.iter_mut().filter_map(|link| match link {
            Link::Remote(lane) => Some(lane),
            Link::Local { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use aquatic_channel::waker_pair;

    use super::*;
    use crate::dispatch::shard_set::{FrontEnd, Owners, ShardSet};
    use crate::dispatch::topology::Topology;
    use crate::shard::{Batch, Shard};

    const BATCH_LEN_MAX: usize = 4;
    const BATCHES_MAX: usize = 3;

    /// Numbers, and whether they have been processed by the shard they were meant for.
    #[derive(Debug, Default)]
    struct Numbers {
        asked: Vec<usize>,
        answered: Vec<(usize, usize)>,
    }

    impl Batch for Numbers {
        fn is_full(&self) -> bool {
            self.asked.len() >= BATCH_LEN_MAX
        }

        fn is_empty(&self) -> bool {
            self.asked.is_empty()
        }
    }

    /// Knows its own index.
    struct Numbered(usize);

    impl Shard for Numbered {
        fn maintain(&mut self, now: Now) -> bool {
            now.seconds.0 == 7
        }
    }

    /// Answers with the index of the shard.
    struct Echo;

    impl BatchProcessor for Echo {
        type Shard = Numbered;
        type Batch = Numbers;

        fn process(&mut self, _: Now, shard: &mut Numbered, batch: &mut Numbers) {
            let answers = batch.asked.drain(..).map(|number| (number, shard.0));
            batch.answered.extend(answers);
        }
    }

    struct Workers {
        dispatchers: Vec<Dispatcher<Echo>>,
        owners: Owners<Numbered>,
    }

    fn connect(socket_workers: usize, swarm_workers: usize) -> Workers {
        let topology = Topology::from_config(socket_workers, swarm_workers);
        let wakers: Vec<_> = (0..topology.workers())
            .map(|_| waker_pair(|| ()).1)
            .collect();
        let shards = (0..topology.shards()).map(Numbered).collect();
        let mut shards = ShardSet::new(ShardKey::new([1; 52]), topology, &wakers, shards);
        let front_end = FrontEnd {
            wakers: topology.of_socket_workers(&wakers),
            is_at_home: true,
        };
        let dispatchers = shards.connect(front_end, BATCHES_MAX, |_| Echo);
        Workers {
            dispatchers,
            owners: shards.into_owners(),
        }
    }

    impl Workers {
        fn finish(&mut self, worker: usize, deliver: impl FnMut(&mut Numbers)) -> Finished {
            let owner = self.owners.socket_workers[worker].as_deref_mut();
            self.dispatchers[worker].finish(Now::default(), owner, deliver)
        }

        /// The first swarm worker processes what it has been asked.
        fn process(&mut self) {
            let worker = &mut self.owners.swarm_workers[0];
            assert!(worker.has_pending());
            worker.process(Now::default());
        }

        /// Asks every shard, from every socket worker, and returns how many answers came back.
        fn ask_all(&mut self) -> usize {
            for dispatcher in &mut self.dispatchers {
                for shard in 0..dispatcher.shards() {
                    for _ in 0..6 {
                        dispatcher.batch_for(shard).unwrap().asked.push(shard);
                    }
                }
            }
            let mut answered = Vec::new();
            for _ in 0..2 {
                for worker in 0..self.dispatchers.len() {
                    self.finish(worker, |batch| answered.append(&mut batch.answered));
                }
                for worker in &mut self.owners.swarm_workers {
                    worker.process(Now::default());
                    assert!(!worker.has_pending());
                }
            }
            for worker in 0..self.dispatchers.len() {
                let finished = self.finish(worker, |batch| answered.append(&mut batch.answered));
                assert_eq!(
                    finished.in_flight + self.dispatchers[worker].send(),
                    finished.batches
                );
                assert!(!self.dispatchers[worker].has_pending());
            }
            let misled = answered.iter().filter(|(asked, by)| asked != by).count();
            assert_eq!(misled, 0, "answered by another shard");
            answered.len()
        }
    }

    #[test]
    fn every_request_reaches_its_shard_and_comes_back() {
        for (socket_workers, swarm_workers) in [(1, 0), (3, 0), (1, 1), (2, 3), (3, 2)] {
            let mut workers = connect(socket_workers, swarm_workers);
            let shards = workers.dispatchers[0].shards();
            for _ in 0..5 {
                assert_eq!(workers.ask_all(), socket_workers * shards * 6);
            }
        }
    }

    #[test]
    fn what_the_owner_does_not_keep_up_with_is_not_taken() {
        let mut workers = connect(1, 1);
        let mut taken = 0;
        while let Some(batch) = workers.dispatchers[0].batch_for(0) {
            batch.asked.push(0);
            taken += 1;
        }
        assert_eq!(taken, BATCHES_MAX * BATCH_LEN_MAX);
        assert_eq!(workers.dispatchers[0].send(), BATCHES_MAX);
        workers.process();
        assert!(workers.dispatchers[0].has_pending());
        let finished = workers.finish(0, |batch| batch.answered.clear());
        assert_eq!(finished.batches, BATCHES_MAX);
        let batch = workers.dispatchers[0].batch_for(0);
        assert!(batch.is_some_and(|batch| batch.is_empty()));
    }

    #[test]
    fn requests_that_come_one_by_one_fill_batches_while_the_owner_does_not_run() {
        let mut workers = connect(1, 1);
        let dispatcher = &mut workers.dispatchers[0];
        let mut taken = 0;
        while let Some(batch) = dispatcher.batch_for(0) {
            batch.asked.push(0);
            taken += 1;
            dispatcher.send();
        }
        let sent_at_once = BATCHES_MAX - BATCHES_MAX.div_ceil(8);
        let filled = BATCHES_MAX - sent_at_once;
        assert_eq!(taken, sent_at_once + filled * BATCH_LEN_MAX);
    }

    #[test]
    fn what_is_held_back_goes_when_batches_come_back() {
        let mut workers = connect(1, 1);
        for _ in 0..=BATCHES_MAX {
            let dispatcher = &mut workers.dispatchers[0];
            dispatcher.batch_for(0).unwrap().asked.push(0);
            dispatcher.send();
        }
        let mut answered = 0;
        for expected in [BATCHES_MAX - 1, BATCHES_MAX + 1] {
            workers.process();
            workers.finish(0, |batch| answered += batch.answered.drain(..).count());
            assert_eq!(answered, expected);
        }
    }

    #[test]
    fn bulk_leaves_half_of_the_room_to_others() {
        let mut workers = connect(1, 1);
        let dispatcher = &mut workers.dispatchers[0];
        while let Some(batch) = dispatcher.batch_for_bulk(0) {
            batch.asked.push(0);
        }
        assert!(dispatcher.is_half_used(0));
        assert!(dispatcher.batch_for(0).is_some());
        let mut fused = connect(1, 0);
        for _ in 0..10 * BATCHES_MAX * BATCH_LEN_MAX {
            fused.dispatchers[0]
                .batch_for_bulk(0)
                .unwrap()
                .asked
                .push(0);
        }
    }

    #[test]
    fn there_is_no_way_to_a_shard_that_does_not_exist() {
        let mut workers = connect(2, 0);
        let dispatcher = &mut workers.dispatchers[0];
        assert!(dispatcher.batch_for(2).is_none());
        assert!(!dispatcher.is_half_used(2));
    }

    #[test]
    fn a_torrent_belongs_to_the_same_shard_for_all_workers() {
        let workers = connect(3, 2);
        let shards = |number: u8| {
            let shard_of = |it: &Dispatcher<Echo>| it.shard_of(&InfoHash([number; 20]));
            workers.dispatchers.iter().map(shard_of).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..40).map(shards).collect();
        assert!(all.iter().all(|it| it.iter().all(|shard| *shard == it[0])));
        assert!(all.iter().any(|it| it[0] == 0) && all.iter().any(|it| it[0] == 1));
    }

    #[test]
    fn the_owner_of_a_shard_maintains_it() {
        let busy = Now::from_micros(7_000_000);
        let mut fused = connect(2, 0).owners;
        let owner = fused.socket_workers[1].as_mut().unwrap();
        assert!(owner.maintain(busy) && !owner.maintain(Now::default()));
        let mut split = connect(2, 1).owners;
        assert!(split.socket_workers.iter().all(Option::is_none));
        assert!(split.swarm_workers[0].maintain(busy));
    }
}
