//! The way from a socket worker to the owners of shards, and back.
//!
//! | | split | fused |
//! |---|---|---|
//! | `swarm_workers` | 1 or more | 0 |
//! | shards belong to | swarm workers | socket workers |
//! | [exchanges](aquatic_channel) connect | socket workers and swarm workers | socket workers |
//!
//! A socket worker puts each request into the [batch for its shard](Router::batch_for). When a
//! round of receiving is over it [forwards](Router::forward) the batches, [answers](Router::answer)
//! what concerns its own shard, if it has one, and [collects](Router::collect) what has come back.
//! The code is the same for both arrangements.
//!
//! The batch for the own shard never travels: it stays with the socket worker, which passes it in.

pub use aquatic_channel::Batch;
use aquatic_channel::{Lane, Requester, Responder};
use aquatic_daemon::clock::Now;

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

/// A socket worker's ways to all shards.
pub struct Router<S: Shard> {
    /// This worker's own shard and its index (fused), or none (split).
    own: Option<(usize, Box<S>)>,
    /// By shard; none to the own one.
    owners: Vec<Option<Lane<S::Batch>>>,
    /// The ways from the other workers that have requests for the own shard (fused).
    askers: Vec<Responder<S::Batch>>,
}

impl<S: Shard> Router<S> {
    /// `own` is the worker's own shard and its index; `requesters` lead to all others, by shard.
    #[must_use]
    pub fn new(
        own: Option<(usize, S)>,
        requesters: Vec<Option<Requester<S::Batch>>>,
        askers: Vec<Responder<S::Batch>>,
    ) -> Self {
        let lane = |requester: Option<_>| requester.map(Lane::new);
        Self {
            own: own.map(|(index, shard)| (index, Box::new(shard))),
            owners: requesters.into_iter().map(lane).collect(),
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
        self.owners.get_mut(shard)?.as_mut()?.batch(make)
    }

    /// As [`Self::batch_for`], for what takes much room and is of little use: there is no batch if
    /// half of them are on their way. So it never takes the place of anything else.
    pub fn batch_for_bulk<'a>(
        &'a mut self,
        shard: usize,
        own: &'a mut S::Batch,
        make: impl FnOnce() -> S::Batch,
    ) -> Option<&'a mut S::Batch> {
        if self.is_half_used(shard) {
            return None;
        }
        self.batch_for(shard, own, make)
    }

    /// Whether half of the batches for a shard are on their way. Never for the own one.
    #[must_use]
    pub fn is_half_used(&self, shard: usize) -> bool {
        let owner = self.owners.get(shard).and_then(Option::as_ref);
        owner.is_some_and(Lane::is_half_used)
    }

    /// Puts batches on their way, as far as each [lane](Lane) does not hold them back. Returns how
    /// many are on their way now, there or back.
    pub fn forward(&mut self) -> usize {
        let mut in_flight = 0;
        for owner in self.owners.iter_mut().flatten() {
            owner.forward();
            in_flight += owner.in_flight();
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
        for owner in self.owners.iter_mut().flatten() {
            collected += owner.collect(&mut take);
        }
        collected
    }

    /// Whether another worker has sent something since the last [`Self::answer`] and
    /// [`Self::collect`]. To be asked before really sleeping.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        let mut owners = self.owners.iter().flatten();
        owners.any(Lane::has_answers) || self.askers.iter().any(Responder::has_requests)
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

#[cfg(test)]
mod tests {
    use aquatic_channel::bell;

    use super::*;
    use crate::arrangement::{Layout, Workers};

    const BATCH_LEN_MAX: usize = 4;
    const BATCHES_MAX: usize = 3;

    /// Numbers, and whether they have been answered by the shard they were meant for.
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

    /// Answers with its own index.
    struct Echo(usize);

    impl Shard for Echo {
        type Batch = Numbers;

        fn answer(&mut self, _: Now, batch: &mut Numbers) {
            let answers = batch.asked.drain(..).map(|number| (number, self.0));
            batch.answered.extend(answers);
        }

        fn background(&mut self, now: Now) -> bool {
            now.seconds.0 == 7
        }
    }

    fn connect(socket_workers: usize, swarm_workers: usize) -> Workers<Echo> {
        let layout = Layout {
            socket_workers,
            swarm_workers,
        };
        let bells: Vec<_> = (0..layout.workers()).map(|_| bell(|| ()).1).collect();
        let shards = (0..layout.shards()).map(Echo).collect();
        Workers::connect(layout, shards, BATCHES_MAX, &bells)
    }

    /// Asks every shard, from every socket worker, and returns how many answers came back.
    fn ask_all(workers: &mut Workers<Echo>) -> usize {
        let Workers {
            routers,
            swarm_workers,
        } = workers;
        let mut own: Vec<_> = routers.iter().map(|_| Numbers::default()).collect();
        for (router, own) in routers.iter_mut().zip(&mut own) {
            for shard in 0..router.shards() {
                for _ in 0..6 {
                    let batch = router.batch_for(shard, own, Numbers::default).unwrap();
                    batch.asked.push(shard);
                }
            }
            router.forward();
        }
        for worker in swarm_workers {
            assert!(worker.has_requests());
            worker.answer(Now::default());
            assert!(!worker.has_requests());
        }
        for (router, own) in routers.iter_mut().zip(&mut own) {
            router.answer(Now::default(), own);
        }
        let mut answered = Vec::new();
        for (router, own) in routers.iter_mut().zip(&mut own) {
            answered.append(&mut own.answered);
            router.collect(|batch| answered.append(&mut batch.answered));
            assert!(own.is_empty() && !router.has_mail());
            assert_eq!(router.forward(), 0, "all batches have come back");
        }
        let misled = answered.iter().filter(|(asked, by)| asked != by).count();
        assert_eq!(misled, 0, "answered by another shard");
        answered.len()
    }

    #[test]
    fn every_request_reaches_its_shard_and_comes_back() {
        for (socket_workers, swarm_workers) in [(1, 0), (3, 0), (1, 1), (2, 3), (3, 2)] {
            let mut workers = connect(socket_workers, swarm_workers);
            let shards = workers.routers.first().map_or(0, Router::shards);
            for _ in 0..5 {
                assert_eq!(ask_all(&mut workers), socket_workers * shards * 6);
            }
        }
    }

    #[test]
    fn what_the_owner_does_not_keep_up_with_is_not_taken() {
        let mut workers = connect(1, 1);
        let router = workers.routers.first_mut().unwrap();
        let mut own = Numbers::default();
        let mut taken = 0;
        while let Some(batch) = router.batch_for(0, &mut own, Numbers::default) {
            batch.asked.push(0);
            taken += 1;
        }
        assert_eq!(taken, BATCHES_MAX * BATCH_LEN_MAX);
        assert_eq!(router.forward(), BATCHES_MAX);
        workers
            .swarm_workers
            .first_mut()
            .unwrap()
            .answer(Now::default());
        let router = workers.routers.first_mut().unwrap();
        assert!(router.has_mail());
        assert_eq!(router.collect(|batch| batch.answered.clear()), BATCHES_MAX);
        let batch = router.batch_for(0, &mut own, Numbers::default);
        assert!(batch.is_some_and(|batch| batch.is_empty()));
    }

    #[test]
    fn requests_that_come_one_by_one_fill_batches_while_the_owner_does_not_run() {
        let mut workers = connect(1, 1);
        let mut own = Numbers::default();
        let router = workers.routers.first_mut().unwrap();
        let mut taken = 0;
        while let Some(batch) = router.batch_for(0, &mut own, Numbers::default) {
            batch.asked.push(0);
            taken += 1;
            router.forward();
        }
        let sent_at_once = BATCHES_MAX - BATCHES_MAX.div_ceil(8);
        let filled = BATCHES_MAX - sent_at_once;
        assert_eq!(taken, sent_at_once + filled * BATCH_LEN_MAX);
    }

    #[test]
    fn what_is_held_back_goes_when_batches_come_back() {
        let mut workers = connect(1, 1);
        let mut own = Numbers::default();
        let mut answered = 0;
        let router = workers.routers.first_mut().unwrap();
        for _ in 0..BATCHES_MAX + 1 {
            let batch = router.batch_for(0, &mut own, Numbers::default).unwrap();
            batch.asked.push(0);
            router.forward();
        }
        for expected in [BATCHES_MAX - 1, BATCHES_MAX + 1] {
            let worker = workers.swarm_workers.first_mut().unwrap();
            assert!(worker.has_requests());
            worker.answer(Now::default());
            let router = workers.routers.first_mut().unwrap();
            router.collect(|batch| answered += batch.answered.drain(..).count());
            assert_eq!(answered, expected);
        }
    }

    #[test]
    fn there_is_no_way_to_a_shard_that_does_not_exist() {
        let mut workers = connect(2, 0);
        let router = workers.routers.first_mut().unwrap();
        let mut own = Numbers::default();
        assert!(router.batch_for(2, &mut own, Numbers::default).is_none());
    }

    #[test]
    fn the_owner_of_a_shard_looks_after_it() {
        let busy = Now::from_micros(7_000_000);
        let mut fused = connect(2, 0);
        assert!(fused.routers.first_mut().unwrap().background(busy));
        assert!(
            !fused
                .routers
                .first_mut()
                .unwrap()
                .background(Now::default())
        );
        let mut split = connect(2, 1);
        assert!(!split.routers.first_mut().unwrap().background(busy));
        assert!(split.swarm_workers.first_mut().unwrap().background(busy));
    }
}
