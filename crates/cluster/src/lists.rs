//! Lists that are kept in the servers: which torrents are allowed, and the keys of users.
//!
//! Each of them is in a bucket (JetStream's key-value store). A task of the connection
//! ([`Nats::watch`](crate::nats::Nats::watch)) reads it as a whole, hears of changes from then on,
//! and makes those that an operator asks for. What it hears it puts together ([`Batches`]) until
//! the thread `lists` has time for it: to take over a long list takes a while, and so does a file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use aquatic_daemon::bucket::{Bucket, BucketChange, BucketError, BucketList, Item};
use aquatic_daemon::clock::Clock;
use aquatic_daemon::heartbeat;
use tokio::sync::{Notify, mpsc as task_mpsc};

use crate::counters::Counters;
pub use crate::counters::ListKind;

/// Changes that come faster than this are taken over together: a list of keys is copied then.
const PAUSE: Duration = Duration::from_millis(20);

/// The file is written this often at most.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// An operator waits so long for a change, and a second longer for so many entries.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
const ENTRIES_PER_SECOND: usize = 2_000;

/// Changes that operators may be waiting for.
const ORDERS_MAX: usize = 4;

impl ListKind {
    /// The bucket of a cluster that it is in.
    #[must_use]
    pub fn bucket(self, cluster: &str) -> String {
        let word = match self {
            Self::AccessList => "access",
            Self::Keys => "keys",
        };
        format!("aquatic_{cluster}_{word}")
    }

    /// The key of the configuration that has it there.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::AccessList => "cluster.access_list_bucket",
            Self::Keys => "cluster.keys_bucket",
        }
    }
}

/// What a list is told of its bucket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// All that is in it.
    All(Vec<Item>),
    /// What has changed.
    Some(Vec<Item>),
    /// There has never been an entry in it: the list stays as it is.
    Unfilled,
}

/// What has been heard of a bucket, and the list was not told yet.
#[derive(Debug)]
pub(crate) struct Batches {
    items: HashMap<String, Item>,
    is_reading: bool,
    is_whole: bool,
    is_unfilled: bool,
    /// Of what has been heard last.
    revision: u64,
}

impl Batches {
    /// The bucket is about to be read.
    pub(crate) fn new() -> Self {
        Self {
            items: HashMap::new(),
            is_reading: true,
            is_whole: true,
            is_unfilled: false,
            revision: 0,
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.is_reading
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// An entry has been heard of. Of a name, the last one counts.
    pub(crate) fn note(&mut self, item: Item) {
        self.revision = item.revision;
        self.items.insert(item.name.clone(), item);
    }

    /// All that was in the bucket has been heard.
    pub(crate) fn end_reading(&mut self) {
        self.is_reading = false;
    }

    /// The same of a bucket that was never filled, unless somebody has begun to.
    pub(crate) fn end_reading_unfilled(&mut self) {
        self.is_reading = false;
        self.is_unfilled = self.items.is_empty();
    }

    /// Whether the list was told of the whole bucket.
    pub(crate) fn is_whole_told(&self) -> bool {
        !self.is_reading && !self.is_whole
    }

    /// What the list is to be told now.
    pub(crate) fn take(&mut self) -> Option<Update> {
        if self.is_reading || (self.items.is_empty() && !self.is_whole) {
            return None;
        }
        if std::mem::take(&mut self.is_unfilled) && self.items.is_empty() {
            self.is_whole = false;
            return Some(Update::Unfilled);
        }
        let items = std::mem::take(&mut self.items).into_values();
        match std::mem::take(&mut self.is_whole) {
            true => Some(Update::All(items.filter(|it| it.value.is_some()).collect())),
            false => Some(Update::Some(items.collect())),
        }
    }
}

/// How far the thread `lists` has come with one of them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Updates that it has taken over.
    done: AtomicU64,
    pub(crate) changed: Notify,
}

impl Progress {
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    fn advance(&self) {
        self.done.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }
}

/// What an operator wants to have changed.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) changes: Vec<BucketChange>,
    waits: Weak<()>,
    reply: SyncSender<Result<(), BucketError>>,
}

impl Order {
    /// Nobody waits for it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.waits.strong_count() == 0
    }

    pub(crate) fn answer(&self, result: Result<(), BucketError>) {
        // There is room for one answer, and nobody may wait for it.
        let _ = self.reply.try_send(result);
    }
}

/// The way of an operator's changes to the task that makes them.
#[derive(Debug)]
struct Way {
    kind: ListKind,
    orders: task_mpsc::Sender<Order>,
    counters: Arc<Counters>,
}

impl Bucket for Way {
    fn change(&self, changes: Vec<BucketChange>) -> Result<(), BucketError> {
        let unchanged = |reason: &str| {
            BucketError::Unchanged(format!("{reason} the bucket, so nothing was changed"))
        };
        if !self.counters.bucket(self.kind).is_heard() {
            return Err(unchanged("there is no connection to"));
        }
        let more = Duration::from_secs((changes.len() / ENTRIES_PER_SECOND) as u64);
        let waits = Arc::new(());
        let (reply, answer) = mpsc::sync_channel(1);
        let order = Order {
            changes,
            waits: Arc::downgrade(&waits),
            reply,
        };
        let sent = self.orders.try_send(order);
        sent.map_err(|_| unchanged("too many others are changing"))?;
        let within = CHANGE_WAIT + more;
        let answer = heartbeat::outside(|| answer.recv_timeout(within));
        answer.unwrap_or_else(|_| {
            let reason = "the servers have not answered in time";
            Err(BucketError::Uncertain(reason.to_owned()))
        })
    }
}

/// What a task needs to keep a list.
#[derive(Debug)]
pub struct ListPlan {
    pub(crate) kind: ListKind,
    pub(crate) orders: task_mpsc::Receiver<Order>,
    pub(crate) updates: Sender<(ListKind, Update)>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) counters: Arc<Counters>,
}

/// Takes over what lists are told, in a thread of its own.
pub struct ListKeeper {
    lists: Vec<(ListKind, Arc<dyn BucketList>, Arc<Progress>)>,
    updates: Receiver<(ListKind, Update)>,
    counters: Arc<Counters>,
    clock: Clock,
}

/// Has these lists be as they are in their buckets: what each task needs, and who takes it over.
#[must_use]
pub fn keep(
    lists: Vec<(ListKind, Arc<dyn BucketList>)>,
    counters: &Arc<Counters>,
    clock: Clock,
) -> (Vec<ListPlan>, ListKeeper) {
    let (sender, updates) = mpsc::channel();
    let mut plans = Vec::new();
    let mut kept = Vec::new();
    for (kind, list) in lists {
        counters.bucket(kind).set_kept();
        let (orders, from_operator) = task_mpsc::channel(ORDERS_MAX);
        list.set_bucket(Box::new(Way {
            kind,
            orders,
            counters: Arc::clone(counters),
        }));
        let progress = Arc::<Progress>::default();
        kept.push((kind, list, Arc::clone(&progress)));
        plans.push(ListPlan {
            kind,
            orders: from_operator,
            updates: sender.clone(),
            progress,
            counters: Arc::clone(counters),
        });
    }
    let keeper = ListKeeper {
        lists: kept,
        updates,
        counters: Arc::clone(counters),
        clock,
    };
    (plans, keeper)
}

impl ListKeeper {
    /// Works until there are no tasks any more.
    pub fn run(self) {
        let mut saved = self.clock.elapsed();
        loop {
            heartbeat::beat();
            let mut is_due = self.clock.elapsed() >= saved + SAVE_INTERVAL;
            match self.updates.recv_timeout(heartbeat::INTERVAL) {
                Ok((kind, update)) => {
                    is_due |= matches!(update, Update::All(_));
                    heartbeat::outside(|| self.take_over(kind, update));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if is_due {
                heartbeat::outside(|| self.lists.iter().for_each(|(_, list, _)| list.save()));
                saved = self.clock.elapsed();
            }
        }
    }

    fn take_over(&self, kind: ListKind, update: Update) {
        let mut lists = self.lists.iter();
        let Some((_, list, progress)) = lists.find(|(other, ..)| *other == kind) else {
            return;
        };
        let counters = self.counters.bucket(kind);
        let invalid = match update {
            Update::All(items) => {
                let invalid = list.take_all(items);
                counters.reads.add(1);
                invalid
            }
            Update::Unfilled => {
                list.take_nothing();
                counters.reads.add(1);
                0
            }
            Update::Some(items) => {
                counters.changes.add(items.len());
                list.take(items)
            }
        };
        counters.invalid.add(invalid);
        progress.advance();
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, value: Option<&str>, revision: u64) -> Item {
        Item {
            name: name.to_owned(),
            value: value.map(|value| value.as_bytes().to_vec()),
            revision,
        }
    }

    fn sorted(update: Option<Update>) -> Option<Update> {
        let sort = |mut items: Vec<Item>| {
            items.sort_by(|one, other| one.name.cmp(&other.name));
            items
        };
        update.map(|update| match update {
            Update::All(items) => Update::All(sort(items)),
            Update::Unfilled => Update::Unfilled,
            Update::Some(items) => Update::Some(sort(items)),
        })
    }

    /// Whoever has lost it has made it anew, or has not filled it yet.
    #[test]
    fn a_bucket_that_was_never_filled_says_nothing() {
        let mut batches = Batches::new();
        batches.end_reading_unfilled();
        assert!(!batches.is_whole_told());
        assert_eq!(batches.take(), Some(Update::Unfilled));
        assert!(batches.is_whole_told());
        assert_eq!(batches.take(), None);
        batches.note(item("a", Some("1"), 1));
        let added = vec![item("a", Some("1"), 1)];
        assert_eq!(batches.take(), Some(Update::Some(added.clone())));
        // Somebody fills it meanwhile.
        let mut batches = Batches::new();
        batches.note(item("a", Some("1"), 1));
        batches.end_reading_unfilled();
        assert_eq!(batches.take(), Some(Update::All(added)));
        // Everything was taken out of it.
        let mut batches = Batches::new();
        batches.end_reading();
        assert_eq!(batches.take(), Some(Update::All(Vec::new())));
    }

    #[test]
    fn a_bucket_is_told_as_a_whole_and_then_by_what_changes() {
        let mut batches = Batches::new();
        batches.note(item("a", Some("1"), 3));
        batches.note(item("b", None, 4));
        assert_eq!(batches.take(), None, "more may come");
        batches.note(item("a", Some("2"), 5));
        batches.note(item("c", Some(""), 6));
        batches.end_reading();
        let all = vec![item("a", Some("2"), 5), item("c", Some(""), 6)];
        assert!(!batches.is_whole_told());
        assert_eq!(sorted(batches.take()), Some(Update::All(all)));
        assert!(batches.is_whole_told());
        assert_eq!(batches.take(), None);
        batches.note(item("c", None, 7));
        batches.note(item("d", Some(""), 8));
        batches.note(item("d", None, 9));
        let some = vec![item("c", None, 7), item("d", None, 9)];
        assert_eq!(sorted(batches.take()), Some(Update::Some(some)));
        assert_eq!((batches.take(), batches.revision()), (None, 9));
    }

    #[test]
    fn an_empty_bucket_is_told_too() {
        let mut batches = Batches::new();
        batches.end_reading();
        assert_eq!(batches.take(), Some(Update::All(Vec::new())));
        assert_eq!(batches.take(), None);
    }

    #[test]
    fn nobody_waits_for_a_bucket_that_is_not_heard() {
        let counters = Arc::<Counters>::default();
        let (orders, mut from_operator) = task_mpsc::channel(1);
        let way = Way {
            kind: ListKind::Keys,
            orders,
            counters: Arc::clone(&counters),
        };
        let change = |way: &Way| way.change(vec![("a".to_owned(), None)]);
        let unchanged = |reason: &str| Err(BucketError::Unchanged(reason.to_owned()));
        let reason = "there is no connection to the bucket, so nothing was changed";
        assert_eq!(change(&way), unchanged(reason));
        counters.bucket(ListKind::Keys).set_heard(true);
        thread::scope(|scope| {
            let asked = scope.spawn(|| change(&way));
            let order = from_operator.blocking_recv().unwrap();
            assert!(!order.is_given_up());
            order.answer(Ok(()));
            assert_eq!(asked.join().unwrap(), Ok(()));
            assert!(order.is_given_up());
            // It was given to the task, and nobody knows what became of it.
            let asked = scope.spawn(|| change(&way));
            drop(from_operator.blocking_recv().unwrap());
            let reason = "the servers have not answered in time";
            let uncertain = Err(BucketError::Uncertain(reason.to_owned()));
            assert_eq!(asked.join().unwrap(), uncertain);
            // There is no room for another order.
            let asked = scope.spawn(|| change(&way));
            while from_operator.is_empty() {
                thread::sleep(PAUSE);
            }
            let reason = "too many others are changing the bucket, so nothing was changed";
            assert_eq!(change(&way), unchanged(reason));
            from_operator.blocking_recv().unwrap().answer(Ok(()));
            assert_eq!(asked.join().unwrap(), Ok(()));
        });
    }
}
