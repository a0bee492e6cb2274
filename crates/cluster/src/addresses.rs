//! Swarms whose peers are addresses (UDP, HTTP), as the cluster sees them.
//!
//! The thread that speaks for this process is one more worker that has requests for all shards: a
//! batch takes what others have told to a shard, and comes back with what the shard has to tell.

use std::collections::VecDeque;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::counter::Label as _;
use aquatic_swarm::{PREFETCH_BATCH, Told};
use aquatic_swarm_log::{BatchBody, Body, InvalidRecord, PeerRecord};
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::shard::Batch;
use aquatic_tracker::shard::addresses::outbox::OutboxCounts;
use aquatic_tracker::shard::addresses::{
    AddressProcessor, AddressSwarms, AddressTag, PeerAddr, Taken,
};
use aquatic_types::{CompactV4, CompactV6, InfoHash, PeerStatus, PerFamily, Seconds};

use crate::bus::{Channel, Destination};
use crate::counters::{Counters, LostAt};
use crate::replica::{Counted, Echoes, Mark, Outgoing, Received, Replica};
use crate::times::SharedTimes;

/// Batches that can be on their way to a shard.
pub const BATCHES_MAX: usize = 8;

/// Records of a batch.
const RECORDS_MAX: usize = 1_024;

/// Records that may wait for their shards before no more are taken in: those of some large batches.
const WAITING_MAX: usize = 64 * 1_024;

/// Departures that are told once more undo only what was told so many seconds before, by the
/// rounding of ages and deadlines: who has come back at once stays.
const ECHO_SECONDS: u32 = 3;

/// A peer that another node has told of.
#[derive(Clone, Copy, Debug)]
struct Remote<K> {
    info_hash: InfoHash,
    told: Told<K>,
}

/// What travels to a shard and back.
#[derive(Debug, Default)]
pub struct RemoteBatch {
    peers: PerFamily<Vec<Remote<CompactV4>>, Vec<Remote<CompactV6>>>,
    /// The shard is to say what it has to tell.
    collects: bool,
    taken: [usize; Taken::ALL.len()],
    told: Vec<(BatchBody, Now)>,
    counts: OutboxCounts,
}

impl Batch for RemoteBatch {
    fn is_full(&self) -> bool {
        self.peers.v4.len() + self.peers.v6.len() >= RECORDS_MAX
    }

    fn is_empty(&self) -> bool {
        !self.collects && self.peers.v4.is_empty() && self.peers.v6.is_empty()
    }
}

/// Processes batches in the thread of a shard's owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoteProcessor;

impl AddressProcessor for RemoteProcessor {
    type Batch = RemoteBatch;

    fn process_in<V: AddressTag>(
        &mut self,
        now: Now,
        swarms: &mut AddressSwarms<V>,
        batch: &mut RemoteBatch,
    ) {
        apply(now, swarms, &mut batch.peers.v4, &mut batch.taken);
        apply(now, swarms, &mut batch.peers.v6, &mut batch.taken);
        if std::mem::take(&mut batch.collects)
            && let Some(outbox) = swarms.outbox()
        {
            let told = &mut batch.told;
            batch.counts = outbox.take(now, |body, since| told.push((body, since)));
        }
    }
}

fn apply<K: PeerAddr, V: AddressTag>(
    now: Now,
    swarms: &mut AddressSwarms<V>,
    peers: &mut Vec<Remote<K>>,
    taken: &mut [usize; Taken::ALL.len()],
) {
    for batch in peers.chunks(PREFETCH_BATCH) {
        let keys = swarms.keys(batch.iter().map(|it| it.info_hash));
        swarms.prefetch::<K>(&keys);
        swarms.prefetch_peers(&keys, batch.iter().map(|it| it.told.peer));
        for (remote, key) in batch.iter().zip(&keys) {
            let outcome = swarms.apply(now, key, &remote.told);
            if let Some(count) = taken.get_mut(outcome.index()) {
                *count += 1;
            }
        }
    }
    peers.clear();
}

/// See the [module](self).
pub struct AddressReplica {
    dispatcher: Dispatcher<RemoteProcessor>,
    /// By shard: what has no place in a batch yet.
    waiting: Vec<Waiting>,
    waiting_records: usize,
    collects: Vec<bool>,
    mark: Mark,
    departures: Echoes<PerFamilyRemote>,
    counted: Counted,
    times: SharedTimes,
    counters: Arc<Counters>,
}

fn is_empty(waiting: &Waiting) -> bool {
    waiting.v4.is_empty() && waiting.v6.is_empty()
}

type Waiting = PerFamily<VecDeque<Remote<CompactV4>>, VecDeque<Remote<CompactV6>>>;

/// What is heard counts as so much newer than it seems, but not as newer than now: of what happens
/// to a peer at two nodes, one shortly after the other, the latter would seem to be older else, as
/// a batch tells no more than when it was begun.
const LEAD_MILLIS: u64 = 200;

enum PerFamilyRemote {
    V4(Remote<CompactV4>),
    V6(Remote<CompactV6>),
}

impl AddressReplica {
    /// The swarms of all shards that this dispatcher reaches.
    #[must_use]
    pub fn new(
        dispatcher: Dispatcher<RemoteProcessor>,
        times: SharedTimes,
        counters: Arc<Counters>,
    ) -> Self {
        let shards = dispatcher.shards();
        Self {
            dispatcher,
            waiting: (0..shards).map(|_| Waiting::default()).collect(),
            waiting_records: 0,
            collects: vec![false; shards],
            mark: Mark::default(),
            departures: Echoes::default(),
            counted: Counted::default(),
            times,
            counters,
        }
    }

    /// Downloads until then, in microseconds, were counted by an earlier process.
    #[must_use]
    pub fn with_counts_until(mut self, micros: Option<i64>) -> Self {
        self.counted = Counted::until(micros);
        self
    }

    fn take<K: PeerAddr>(
        &mut self,
        now: Now,
        batch: &Received<'_>,
        records: impl Iterator<Item = Result<PeerRecord<K>, InvalidRecord>>,
        wrap: fn(Remote<K>) -> PerFamilyRemote,
    ) {
        let is_counted = self.counted.has(now, batch);
        let (mut known, mut invalid) = (0, 0);
        let ages = self.times.get().ages;
        let old = deadline(now, batch.age_millis, ages.min_seconds);
        let deadline = match batch.is_newest() {
            true => {
                let age_millis = batch.age_millis.saturating_sub(LEAD_MILLIS);
                deadline(now, age_millis, ages.max_seconds)
            }
            false => old,
        };
        for record in records {
            let Ok(record) = record else {
                invalid += 1;
                continue;
            };
            let is_over = u64::from(record.seconds_left) * 1_000 <= batch.age_millis;
            let Some(deadline) = deadline.filter(|_| !is_over) else {
                known += 1;
                continue;
            };
            let remote = Remote {
                info_hash: record.info_hash,
                told: Told {
                    peer: record.peer,
                    status: record.status,
                    completed: record.has_completed && !is_counted,
                    is_finished: record.is_finished || (is_counted && record.has_completed),
                    deadline,
                },
            };
            let has_left = record.status == PeerStatus::Stopped && !batch.is_logged;
            if has_left && let Some(old) = old {
                let mut echo = remote;
                echo.told.deadline = Seconds(old.0.saturating_sub(ECHO_SECONDS));
                self.departures.note(now, || wrap(echo));
            }
            self.wait(wrap(remote));
        }
        Counters::of(&self.counters.taken, Taken::Known).add(known);
        Counters::of(&self.counters.taken, Taken::Invalid).add(invalid);
    }

    /// Has a record wait for a place in a batch for its shard.
    fn wait(&mut self, peer: PerFamilyRemote) {
        let info_hash = match &peer {
            PerFamilyRemote::V4(remote) => remote.info_hash,
            PerFamilyRemote::V6(remote) => remote.info_hash,
        };
        let shard = self.dispatcher.shard_of(&info_hash);
        let Some(waiting) = self.waiting.get_mut(shard) else {
            return;
        };
        self.waiting_records += 1;
        match peer {
            PerFamilyRemote::V4(remote) => waiting.v4.push_back(remote),
            PerFamilyRemote::V6(remote) => waiting.v6.push_back(remote),
        }
    }

    /// Fills batches with what waits, as far as shards keep up.
    fn fill(&mut self) {
        for (shard, waiting) in self.waiting.iter_mut().enumerate() {
            let wants_to_collect = self.collects.get_mut(shard);
            if let Some(wants @ true) = wants_to_collect
                && let Some(batch) = self.dispatcher.batch_for(shard)
            {
                batch.collects = true;
                *wants = false;
            }
            while !is_empty(waiting) {
                let Some(batch) = self.dispatcher.batch_for(shard) else {
                    break;
                };
                let room = RECORDS_MAX - (batch.peers.v4.len() + batch.peers.v6.len());
                let v4 = waiting.v4.len().min(room);
                batch.peers.v4.extend(waiting.v4.drain(..v4));
                let v6 = waiting.v6.len().min(room - v4);
                batch.peers.v6.extend(waiting.v6.drain(..v6));
                self.waiting_records -= v4 + v6;
            }
            if is_empty(waiting) {
                // A busy shard may have made it long.
                waiting.v4.shrink_to(RECORDS_MAX);
                waiting.v6.shrink_to(RECORDS_MAX);
            }
        }
    }
}

/// Until when a peer is remembered that has announced so long ago; `None` if that time is over.
fn deadline(now: Now, age_millis: u64, remembered: u32) -> Option<Seconds> {
    let now_millis = (now.micros / 1_000).cast_signed();
    let announced = now_millis.saturating_sub_unsigned(age_millis);
    let deadline = announced.div_euclid(1_000) + i64::from(remembered);
    let deadline = Seconds(u32::try_from(deadline).ok()?);
    (deadline > now.seconds).then_some(deadline)
}

impl Replica for AddressReplica {
    fn listens_to(&self, channel: Channel) -> bool {
        channel == Channel::Peers
    }

    fn has_room(&self) -> bool {
        self.waiting_records < WAITING_MAX
    }

    fn mark(&mut self) {
        self.mark.set(self.dispatcher.shards());
    }

    fn has_passed_mark(&self) -> bool {
        self.mark.is_passed()
    }

    fn receive(&mut self, now: Now, batch: &Received<'_>) {
        match &batch.body {
            Body::PeersV4(records) => self.take(now, batch, records.clone(), PerFamilyRemote::V4),
            Body::PeersV6(records) => self.take(now, batch, records.clone(), PerFamilyRemote::V6),
            _ => {}
        }
    }

    /// Tells departures once more: an arrival may have been told after the departure that followed
    /// it, out of the log.
    fn settle(&mut self, now: Now, is_reading_log: bool) {
        while !is_reading_log && let Some(departure) = self.departures.next(now) {
            self.wait(departure);
        }
    }

    fn collect(&mut self) {
        self.collects.fill(true);
    }

    fn finish(&mut self, now: Now, publish: &mut dyn FnMut(Outgoing)) -> usize {
        self.fill();
        let counters = &self.counters;
        let finished = self.dispatcher.finish(now, None, |batch| {
            for (counter, count) in counters.taken.iter().zip(&mut batch.taken) {
                counter.add(std::mem::take(count));
            }
            let OutboxCounts { told, dropped } = std::mem::take(&mut batch.counts);
            for (counter, count) in counters.published.iter().zip(told) {
                counter.add(count);
            }
            Counters::of(&counters.lost, LostAt::Outbox).add(dropped);
            for (body, since) in batch.told.drain(..) {
                let to = Destination::All(Channel::Peers);
                publish(Outgoing { to, body, since });
            }
        });
        let (waiting, dispatcher) = (&self.waiting, &self.dispatcher);
        self.mark.look(|shard| {
            let is_sent = waiting.get(shard).is_none_or(is_empty);
            is_sent && dispatcher.is_idle(shard)
        });
        finished.in_flight
    }

    fn has_pending(&self) -> bool {
        // What waits goes as soon as there is room again, and not when there is something else.
        let is_due = |(shard, waiting)| !is_empty(waiting) && self.dispatcher.is_idle(shard);
        self.dispatcher.has_pending() || self.waiting.iter().enumerate().any(is_due)
    }
}

#[cfg(test)]
mod tests;
