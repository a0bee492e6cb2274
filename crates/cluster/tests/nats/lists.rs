//! Lists that are kept in the servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aquatic_cluster::config::ClusterConfig;
use aquatic_cluster::counters::Counters;
use aquatic_cluster::lists::{self, ListKind};
use aquatic_daemon::bucket::{Bucket, BucketChange, BucketError, BucketList, Item};
use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::{self, NatsClient, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{Node, config};
use crate::permissions;

const BUCKET: &str = "aquatic_main_access";

/// A list as plain as can be: names with values, its bucket, and whether a change in that was heard
/// of while an operator's went on.
#[derive(Debug, Default)]
struct Entries(
    Mutex<BTreeMap<String, String>>,
    Mutex<Option<Box<dyn Bucket>>>,
    AtomicBool,
);

impl Entries {
    fn apply(&self, items: Vec<Item>) {
        let mut entries = self.0.lock().unwrap();
        for Item { name, value, .. } in items {
            match value {
                Some(value) => entries.insert(name, String::from_utf8(value).unwrap()),
                None => entries.remove(&name),
            };
        }
    }

    /// What an operator wants to be changed.
    fn change(&self, changes: &[(&str, Option<&str>)]) -> Result<(), BucketError> {
        let bytes = |value: &str| value.as_bytes().to_vec();
        let changes = changes.iter();
        let changes = changes.map(|(name, value)| ((*name).to_owned(), value.map(bytes)));
        let changes: Vec<BucketChange> = changes.collect();
        let bucket = self.1.lock().unwrap();
        bucket.as_ref().unwrap().change(changes)
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl BucketList for Entries {
    fn set_bucket(&self, bucket: Box<dyn Bucket>) {
        *self.1.lock().unwrap() = Some(bucket);
    }

    fn take_all(&self, items: Vec<Item>) -> usize {
        self.0.lock().unwrap().clear();
        self.apply(items);
        0
    }

    fn take_nothing(&self) {}

    fn take(&self, items: Vec<Item>) -> usize {
        // Whoever changes something holds the bucket until that is done.
        if self.1.try_lock().is_err() {
            self.2.store(true, Ordering::Relaxed);
        }
        self.apply(items);
        0
    }

    fn save(&self) {}
}

/// A tracker with a list.
pub(crate) struct Tracker {
    kind: ListKind,
    list: Arc<Entries>,
    counters: Arc<Counters>,
    pub(crate) node: Node,
}

impl Tracker {
    fn start(name: &str, config: &ClusterConfig) -> Self {
        Self::start_for(ListKind::AccessList, name, config)
    }

    pub(crate) fn start_for(kind: ListKind, name: &str, config: &ClusterConfig) -> Self {
        let (list, counters) = (Arc::<Entries>::default(), Arc::<Counters>::default());
        let kept: Vec<(_, Arc<dyn BucketList>)> = vec![(kind, list.clone())];
        let (plans, keeper) = lists::keep(kept, &counters, Clock::start());
        let node = Node::start_with(name, config);
        node.with(|nats| plans.into_iter().for_each(|plan| nats.watch(plan)));
        // It ends with the node.
        thread::spawn(move || keeper.run());
        Self {
            kind,
            list,
            counters,
            node,
        }
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.counters.bucket(self.kind).is_heard()
    }

    #[track_caller]
    pub(crate) fn wait_until_heard(&self) {
        until("the bucket is heard", || self.is_heard().then_some(()));
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, expected: &[(&str, &str)]) {
        let expected = entries(expected);
        until(&format!("{expected:?}"), || {
            (*self.list.0.lock().unwrap() == expected).then_some(())
        });
    }

    pub(crate) fn change(&self, changes: &[(&str, Option<&str>)]) -> Result<(), BucketError> {
        self.list.change(changes)
    }
}

fn entries(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let entries = entries.iter();
    entries
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn client(server: &NatsServer) -> NatsClient {
    NatsClient::connect(server.address())
}

#[test]
fn what_is_put_or_deleted_is_heard_by_all() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start();
    // The first one makes the bucket. (Of several that do so at once, all are told that they did.)
    let trackers = ["a", "b"].map(|name| {
        let tracker = Tracker::start(name, &config(&[&server]));
        tracker.wait_until_heard();
        tracker
    });
    let mut back_end = client(&server);
    back_end.put(BUCKET, "x", "1");
    back_end.put(BUCKET, "y", "");
    for tracker in &trackers {
        tracker.wait_for(&[("x", "1"), ("y", "")]);
    }
    back_end.put(BUCKET, "x", "2");
    back_end.delete(BUCKET, "y");
    for tracker in &trackers {
        tracker.wait_for(&[("x", "2")]);
    }
    // One that comes later has the same.
    Tracker::start("c", &config(&[&server])).wait_for(&[("x", "2")]);
    let made = format!("made the stream KV_{BUCKET} in the NATS servers");
    assert_eq!(lines.with(&made).len(), 1);
}

/// It is one tracker that is asked, and all that go by it; the one that was asked, at once.
#[test]
fn what_an_operator_changes_is_in_the_bucket_and_here_when_it_is_done() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Tracker::start(name, &config(&[&server])));
    [&a, &b].into_iter().for_each(Tracker::wait_until_heard);
    for round in 0..20 {
        let value = round.to_string();
        a.change(&[("x", Some(&value)), ("y", Some("")), ("z", None)])
            .unwrap();
        let expected = entries(&[("x", &value), ("y", "")]);
        assert_eq!(*a.list.0.lock().unwrap(), expected);
        a.change(&[("y", None)]).unwrap();
        assert_eq!(a.list.len(), 1);
    }
    b.wait_for(&[("x", "19")]);
    let many: Vec<_> = (0..3_000).map(|it| format!("n{it}")).collect();
    let changes: Vec<_> = many.iter().map(|name| (&**name, Some(""))).collect();
    a.change(&changes).unwrap();
    assert_eq!(a.list.len(), 3_001);
    until("the other has them", || {
        (b.list.len() == 3_001).then_some(())
    });
}

#[test]
fn the_last_list_stands_while_there_is_no_server_and_nothing_is_missed_after() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let tracker = Tracker::start("a", &config(&[&server]));
    tracker.wait_until_heard();
    let mut back_end = client(&server);
    for name in ["x", "y", "z"] {
        back_end.put(BUCKET, name, "1");
    }
    tracker.wait_for(&[("x", "1"), ("y", "1"), ("z", "1")]);
    server.kill();
    until("it is told", || (!tracker.is_heard()).then_some(()));
    let refused = tracker.change(&[("x", None)]).unwrap_err();
    let BucketError::Unchanged(reason) = &refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("no connection"), "{reason}");
    assert_eq!(tracker.list.len(), 3);
    // What happens before the tracker is back: it tries again some time later.
    server.go_on();
    let mut back_end = client(&server);
    back_end.delete(BUCKET, "x");
    back_end.put(BUCKET, "y", "2");
    tracker.wait_for(&[("y", "2"), ("z", "1")]);
    tracker.wait_until_heard();
    // Nor is what goes without a word, when it is read again.
    back_end.ask(&format!("$JS.API.STREAM.PURGE.KV_{BUCKET}"), "");
    server.kill();
    server.go_on();
    tracker.wait_for(&[]);
}

#[test]
fn a_bucket_that_is_refused_is_told_of_and_tried_again() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let without = permissions::configuration_without("CONSUMER.CREATE.KV_", "CONSUMER.OTHER.KV_");
    let server = NatsServer::start_with(&without);
    let tracker = Tracker::start("a", &permissions::config_of(&server, "a"));
    tracker.node.expect_connected();
    let reason = "Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.KV_";
    until(reason, || {
        let told = lines.with(&format!("the bucket {BUCKET} cannot be read"));
        told.iter().any(|line| line.contains(reason)).then_some(())
    });
    // It is no reason not to read the log.
    assert_eq!(tracker.node.read_all(crate::node::AGE), []);
    server.reload(&permissions::configuration());
    tracker.wait_until_heard();
    tracker.change(&[("x", Some("1"))]).unwrap();
    tracker.wait_for(&[("x", "1")]);
}

/// Nodes may be allowed to read only.
#[test]
fn changes_that_are_refused_are_told_to_whoever_asks_for_them() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start_with(&permissions::configuration_without("$KV.", "$NO."));
    let tracker = Tracker::start("a", &permissions::config_of(&server, "a"));
    tracker.wait_until_heard();
    let refused = tracker.change(&[("x", Some("1"))]).unwrap_err();
    // Others could be allowed.
    let BucketError::Uncertain(refused) = refused else {
        panic!("{refused:?}");
    };
    let reason = "was not changed as a whole: Permissions Violation for Publish to \
                  \"$KV.aquatic_main_access.";
    assert!(refused.contains(reason), "{refused}");
    assert!(tracker.is_heard());
}

/// It would take the bucket for dead otherwise, and read it again.
#[test]
fn what_is_in_the_bucket_is_heard_while_an_operator_changes_much() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    const ENTRIES: usize = 50_000;
    let server = NatsServer::start();
    let tracker = Tracker::start("a", &config(&[&server]));
    tracker.wait_until_heard();
    let names: Vec<String> = (0..ENTRIES)
        .map(|number| format!("{number:040x}"))
        .collect();
    let changes: Vec<_> = names.iter().map(|name| (name.as_str(), Some(""))).collect();
    tracker.change(&changes).unwrap();
    let is_heard_meanwhile = tracker.list.2.load(Ordering::Relaxed);
    assert!(is_heard_meanwhile, "nothing is heard before all is changed");
    assert_eq!(tracker.list.len(), ENTRIES);
    let counters = tracker.counters.bucket(ListKind::AccessList);
    assert_eq!(counters.reads.get(), 1);
}

/// How long a tracker takes for a list of the size of a large private tracker's.
#[test]
fn long_lists_are_read_at_once() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    const ENTRIES: usize = 100_000;
    let server = NatsServer::start();
    let first = Tracker::start("first", &config(&[&server]));
    first.wait_until_heard();
    let entries = (0..ENTRIES).map(|number| (format!("{number:040x}"), ""));
    let clock = Clock::start();
    client(&server).put_all(BUCKET, entries);
    let is_there = |tracker: &Tracker| (tracker.list.len() == ENTRIES).then_some(());
    println!("put in {:?}", clock.elapsed());
    let clock = Clock::start();
    let tracker = Tracker::start("a", &config(&[&server]));
    until("all of them", || is_there(&tracker));
    let taken = clock.elapsed();
    println!("{ENTRIES} entries read in {taken:?}");
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    let counters = tracker.counters.bucket(ListKind::AccessList);
    until("it is counted", || {
        (counters.reads.get() == 1).then_some(())
    });
}
