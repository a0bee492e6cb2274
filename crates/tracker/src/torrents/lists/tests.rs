use super::super::kinds::Shards;
use super::super::reading::{Progress, READINGS_MAX, Reading};
use super::super::test_tracker::{Filling, Tracker, info_hash};
use super::*;
use crate::shard::addresses::AddressShard;
use aquatic_daemon::clock::Now;

const LONG: Duration = Duration::from_secs(60);
const SORT: SortBy = SortBy::Peers;

fn lists() -> (Tracker, Lists) {
    let mut filling = Filling::new(2, false);
    for number in 1..=600 {
        filling.fill(number, [1, 0], [u16::from(number > 300), 0]);
    }
    let tracker = filling.start();
    let kind = |protocol| -> Box<dyn Kind> {
        Box::new(Shards {
            protocol,
            readers: tracker.readers.clone(),
        })
    };
    let lists = Lists::new([kind("bittorrent"), kind("other")].into());
    (tracker, lists)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_list_is_of_all_shards_and_kinds() {
    let (mut tracker, mut lists) = lists();
    let list = tracker.while_working(|| lists.list(SORT, at(0), LONG).unwrap());
    assert_eq!(list.tops.len(), 2);
    for top in &list.tops {
        let first: Vec<_> = top.iter().map(|(info_hash, _)| *info_hash).collect();
        let expected = (301..=600).chain(1..=300).map(info_hash);
        assert!(first.into_iter().eq(expected));
    }
}

#[test]
fn while_there_is_none_nobody_waits_for_long() {
    let (mut tracker, mut lists) = lists();
    let list = lists.list(SORT, at(0), Duration::from_millis(1));
    assert_eq!(list.unwrap_err(), NoList::NotYet);
    // Somebody who wants another one waits for the same walk.
    let other = lists.list(SortBy::Seeders, at(0), Duration::ZERO);
    assert_eq!(other.unwrap_err(), NoList::NotYet);
    (0..20).for_each(|_| tracker.work());
    let list = lists.list(SORT, at(1), Duration::ZERO).unwrap();
    assert_eq!(
        list.age(at(1)),
        at(1),
        "it is as old as the clock of the shards says"
    );
    assert!(
        !tracker.workers.iter().any(|worker| worker.has_pending()),
        "one walk"
    );
    let other = tracker.while_working(|| lists.list(SortBy::Seeders, at(1), LONG).is_ok());
    assert!(other);
}

#[test]
fn a_list_is_shown_again_until_it_is_old() {
    let (mut tracker, mut lists) = lists();
    tracker.while_working(|| lists.list(SORT, at(0), LONG).map(|_| ()).unwrap());
    lists.list(SORT, at(5), Duration::ZERO).unwrap();
    assert!(lists.walk.is_none(), "fresh");
    // The next walk has begun, and its list is not there yet.
    let list = lists.list(SORT, at(6), Duration::ZERO).unwrap();
    assert_eq!(list.age(at(6)), at(6));
    assert!(lists.walk.is_some());
    lists.list(SORT, at(600), Duration::ZERO).unwrap();
    let list = lists.list(SORT, at(601), Duration::ZERO);
    assert_eq!(list.unwrap_err(), NoList::NotYet);
}

#[test]
fn a_list_that_took_long_is_fresh_for_long() {
    let list = |took| List {
        tops: Vec::new(),
        took: at(took),
        ended: at(100),
    };
    for (took, fresh) in [(0, 5), (1, 20), (10, 200), (60, 600)] {
        assert!(list(took).is_fresh(at(100 + fresh), at(took)), "{took}");
        assert!(
            !list(took).is_fresh(at(100 + fresh + 1), at(took)),
            "{took}"
        );
    }
}

/// Whoever asks for all sorts in turn costs no more than who asks for one.
#[test]
fn walks_of_all_sorts_together_take_a_twentieth_of_the_time() {
    let (mut tracker, mut lists) = lists();
    let list = |took, ended| {
        Some(List {
            tops: Vec::new(),
            took: at(took),
            ended: at(ended),
        })
    };
    lists.kept = [list(3, 1_000), list(2, 1_000), None, list(9, 100)];
    // The last one is too old to be shown.
    lists.list(SORT, at(1_100), Duration::ZERO).unwrap();
    assert!(lists.walk.is_none());
    lists.list(SORT, at(1_101), Duration::ZERO).unwrap();
    assert!(lists.walk.is_some());
    (0..20).for_each(|_| tracker.work());
}

#[test]
fn without_room_for_readings_the_reason_is_told() {
    struct Endless;

    impl Reading<AddressShard> for Endless {
        fn slice(&mut self, _: Now, _: &mut AddressShard) -> Progress {
            Progress::Waits
        }
    }

    let (mut tracker, mut lists) = lists();
    for _ in 0..READINGS_MAX {
        tracker.readers.post(1, Box::new(Endless)).unwrap();
    }
    let list = lists.list(SORT, at(0), LONG);
    assert_eq!(list.unwrap_err(), NoList::NotTaken(NotTaken::TooMany));
    // The other shard has begun, for nothing: not again with each request.
    tracker.workers.clear();
    let list = lists.list(SORT, at(4), LONG);
    assert_eq!(list.unwrap_err(), NoList::NotTaken(NotTaken::TooMany));
    let list = lists.list(SORT, at(5), LONG);
    assert_eq!(list.unwrap_err(), NoList::NotTaken(NotTaken::Gone));
}
