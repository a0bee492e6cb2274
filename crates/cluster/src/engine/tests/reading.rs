//! When the log is read, and what becomes of that.

use super::*;
use crate::counters::ListKind;

const ALL: u64 = AGE as u64;

#[test]
fn everything_is_read_at_the_start_and_then_it_is_complete() {
    let mut fixture = Fixture::new(settings());
    fixture.pass(10 * SECOND);
    assert!(fixture.reads().is_empty(), "there is no connection");
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [ALL]);
    let header = fixture.header(1, 7, 100 * SECOND);
    let logged = message("a", Channel::Peers, peers(&header, 1));
    fixture.happens(Event::Logged(logged));
    assert_eq!(fixture.received(), [(NodeIndex::UNKNOWN, 100_000, true)]);
    fixture.pass(SECOND);
    assert!(fixture.counters.is_reading_log() && !fixture.counters.is_complete());
    assert_eq!(fixture.shards.lock().unwrap().settled.last(), Some(&true));
    fixture.reads_to_the_end();
    assert!(!fixture.counters.is_reading_log() && fixture.counters.is_complete());
    let counters = &fixture.counters;
    assert_eq!(
        (counters.log_reads.get(), counters.log_records.get()),
        (1, 1)
    );
    fixture.pass(100 * SECOND);
    assert_eq!(fixture.shards.lock().unwrap().settled.last(), Some(&false));
    assert!(fixture.reads().is_empty());
}

/// Somebody waits for that, to serve clients: they would not be given who is still on the way.
#[test]
fn it_is_complete_when_what_was_read_is_in_the_shards() {
    let mut fixture = Fixture::new(settings());
    fixture.shards.lock().unwrap().are_slow = true;
    fixture.happens(Event::Connected);
    fixture.reads_to_the_end();
    fixture.pass(SECOND);
    assert!(!fixture.counters.is_complete());
    fixture.shards.lock().unwrap().are_slow = false;
    fixture.step();
    assert!(fixture.counters.is_complete());
}

/// This process's clock, or that of a node of which only the log has anything, may be wrong.
#[test]
fn the_age_of_what_was_logged_is_by_the_servers_clock_until_its_node_is_heard() {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    let header = fixture.header(1, 1, 3_600 * SECOND);
    let mut logged = message("a", Channel::Peers, peers(&header, 1));
    logged.logged_millis_ago = Some(7_000);
    fixture.happens(Event::Logged(logged.clone()));
    assert_eq!(fixture.received(), [(NodeIndex::UNKNOWN, 7_000, true)]);
    fixture.hears_alive("a", 1, 1, 3_590 * SECOND);
    fixture.happens(Event::Logged(logged));
    assert_eq!(fixture.received(), [(NodeIndex(1), 10_000, true)]);
}

#[test]
fn without_a_log_it_is_complete_when_all_peers_must_have_announced() {
    let mut fixture = Fixture::new(EngineSettings {
        history: false,
        ..settings()
    });
    fixture.pass(100 * SECOND);
    fixture.happens(Event::Connected);
    fixture.pass(u64::from(COMPLETE_AFTER) * SECOND - FLUSH);
    assert!(!fixture.counters.is_complete());
    fixture.pass(FLUSH);
    assert!(fixture.counters.is_complete());
    fixture.happens(Event::Disconnected);
    fixture.happens(Event::Connected);
    assert!(fixture.counters.is_complete());
    assert!(fixture.reads().is_empty());
}

/// Who has no connection hears of no announces.
#[test]
fn without_a_log_only_a_connection_that_lasts_makes_it_complete() {
    let mut fixture = Fixture::new(EngineSettings {
        history: false,
        ..settings()
    });
    let most = u64::from(COMPLETE_AFTER) * SECOND - FLUSH;
    for _ in 0..2 {
        fixture.happens(Event::Connected);
        fixture.pass(most);
        assert!(!fixture.counters.is_complete());
        fixture.happens(Event::Disconnected);
        fixture.pass(2 * most);
        assert!(!fixture.counters.is_complete());
    }
    fixture.happens(Event::Connected);
    fixture.pass(most);
    assert!(!fixture.counters.is_complete());
    fixture.pass(FLUSH);
    assert!(fixture.counters.is_complete());
}

/// What it has published before it was heard is in the log; but one node may say all the time that
/// it is another process.
#[test]
fn for_a_node_the_log_is_read_once_a_minute() {
    let mut fixture = Fixture::listening(settings(), Channel::Members);
    fixture.happens(Event::Connected);
    fixture.reads_to_the_end();
    fixture.pass(60 * SECOND);
    fixture.reads();
    let mut reads_of = |node: &str, process| {
        fixture.hears_alive(node, process, 0, 0);
        fixture.reads_to_the_end();
        fixture.pass(10 * SECOND);
        fixture.reads().len()
    };
    assert_eq!(reads_of("a", 1), 1);
    for process in 2..=6 {
        assert_eq!(reads_of("a", process), 0);
    }
    assert_eq!(reads_of("b", 7), 1);
    assert_eq!(reads_of("a", 8), 1);
}

/// Peers of torrents that the list does not have yet would not be taken in.
#[test]
fn the_log_is_not_read_before_lists_are() {
    let mut fixture = Fixture::new(settings());
    let bucket = fixture.counters.bucket(ListKind::AccessList);
    bucket.set_kept();
    fixture.happens(Event::Connected);
    fixture.pass(3 * SECOND);
    assert_eq!(fixture.reads(), [0; 0]);
    fixture.counters.bucket(ListKind::AccessList).reads.add(1);
    fixture.pass(FLUSH);
    let reads = fixture.reads();
    assert_eq!(reads.len(), 1);
    fixture.reads_to_the_end();
    fixture.pass(20 * SECOND);
    assert_eq!(fixture.reads(), [0; 0]);
}

#[test]
fn a_list_that_comes_late_has_the_log_read_again() {
    let mut fixture = Fixture::new(settings());
    fixture.counters.bucket(ListKind::Keys).set_kept();
    fixture.happens(Event::Connected);
    fixture.pass(9 * SECOND);
    assert_eq!(fixture.reads(), [0; 0]);
    fixture.pass(SECOND);
    assert_eq!(fixture.reads().len(), 1);
    fixture.reads_to_the_end();
    fixture.pass(60 * SECOND);
    assert_eq!(fixture.reads(), [0; 0]);
    fixture.counters.bucket(ListKind::Keys).reads.add(1);
    fixture.pass(FLUSH);
    assert_eq!(fixture.reads(), [ALL]);
}

#[test]
fn other_times_hold_from_a_reload_on() {
    let mut fixture = Fixture::at_work();
    let settings = fixture.engine.settings.clone();
    settings.times.set(Times {
        life: 2 * AGE,
        ..times()
    });
    // Nothing was heard for hours.
    fixture.happens(Event::Disconnected);
    fixture.pass(u64::from(3 * AGE) * SECOND);
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [2 * ALL]);
}

#[test]
fn a_log_that_cannot_be_read_is_tried_again() {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [ALL]);
    let mut waited = 0;
    let soon = [1; 21];
    let later = [2, 4, 8, 10, 10];
    for (again, seconds) in (1..).zip(soon.into_iter().chain(later)) {
        fixture.happens(Event::LogFailed("it is not there".to_owned()));
        assert!(!fixture.counters.is_reading_log());
        assert_eq!(fixture.counters.log_failures.get(), again);
        fixture.pass(seconds * SECOND - FLUSH);
        assert!(fixture.reads().is_empty());
        fixture.pass(FLUSH);
        // The same as was to be read before.
        waited += seconds;
        assert_eq!(fixture.reads(), [ALL + waited]);
        assert!(!fixture.counters.is_complete());
    }
    fixture.reads_to_the_end();
    assert!(fixture.counters.is_complete());
    fixture.happens(Event::LogFailed("late".to_owned()));
    assert_eq!(
        fixture.counters.log_failures.get(),
        26,
        "nothing is being read"
    );
}

#[test]
fn after_an_interruption_what_was_missed_is_read() {
    let mut fixture = Fixture::at_work();
    fixture.happens(Event::Disconnected);
    fixture.happens(Event::Disconnected);
    fixture.pass(60 * SECOND);
    assert!(fixture.reads().is_empty());
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [70]);
    assert!(fixture.counters.is_complete());
}

/// It takes some seconds to notice that nothing comes any more.
#[test]
fn after_a_connection_that_hung_what_was_missed_is_read() {
    let mut fixture = Fixture::at_work();
    fixture.hand.borrow_mut().hangs = true;
    fixture.pass(12 * SECOND);
    fixture.happens(Event::Disconnected);
    fixture.pass(20 * SECOND);
    fixture.happens(Event::Connected);
    // The last answer came a tenth of a second after the connection began to hang.
    assert_eq!(fixture.reads(), [12 + 20 + 10 - 1]);
}

#[test]
fn a_reading_that_is_interrupted_begins_again() {
    let mut fixture = Fixture::at_work();
    fixture.happens(Event::Disconnected);
    fixture.pass(60 * SECOND);
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [70]);
    fixture.pass(SECOND);
    fixture.happens(Event::Disconnected);
    assert!(!fixture.counters.is_reading_log());
    fixture.pass(5 * SECOND);
    // Of the reading that was given up.
    fixture.reads_to_the_end();
    assert_eq!(fixture.counters.log_reads.get(), 1);
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [76]);
    fixture.reads_to_the_end();
    fixture.pass(60 * SECOND);
    assert!(fixture.reads().is_empty());
}

#[test]
fn a_first_reading_that_is_interrupted_begins_again_and_reads_everything() {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [ALL]);
    fixture.happens(Event::Disconnected);
    fixture.pass(SECOND);
    fixture.happens(Event::Connected);
    let reads = fixture.reads();
    assert!(reads == [ALL] || reads == [ALL + 1], "{reads:?}");
}

/// What is remembered of WebTorrent clients goes with their node.
#[test]
fn who_keeps_members_reads_everything_after_a_long_interruption() {
    for (seconds, since) in [(24, 34), (26, ALL)] {
        let mut fixture = Fixture::listening(settings(), Channel::Members);
        fixture.happens(Event::Connected);
        fixture.reads_to_the_end();
        fixture.pass(60 * SECOND);
        fixture.reads();
        fixture.happens(Event::Disconnected);
        fixture.pass(seconds * SECOND);
        fixture.happens(Event::Connected);
        assert_eq!(fixture.reads(), [since]);
    }
}

#[test]
fn what_came_too_fast_is_read() {
    let mut fixture = Fixture::at_work();
    fixture.happens(Event::Missed(7));
    assert_eq!(fixture.reads(), [40], "30 s, and some more");
    assert_eq!(fixture.counters.overrun.get(), 7);
}

/// It was made, or made anew, after other nodes had published something.
#[test]
fn who_reads_a_log_that_has_not_been_there_for_long_looks_what_others_have_published() {
    const SECONDS: Duration = Duration::from_secs(COMPLETE_AFTER as u64 - 1);
    let complete_after = |told: u64, logged: &[u64], age: Duration| {
        let mut fixture = Fixture::new(settings());
        let connected = fixture.micros;
        fixture.happens(Event::Connected);
        fixture.reads_in_log("a", logged);
        fixture.happens(Event::LogRead { age });
        if !fixture.counters.is_complete() {
            fixture.pass(SECOND);
            fixture.hears_alive("a", 1, told, 0);
        }
        while !fixture.counters.is_complete() {
            fixture.pass(FLUSH);
        }
        (fixture.micros - connected) / FLUSH
    };
    let by_time = u64::from(COMPLETE_AFTER) * SECOND / FLUSH;
    let when_all_are_heard = 15;
    for (told, logged, age, expected) in [
        (9, &[8, 9][..], SECONDS, by_time),
        (9, &[8, 9], SECONDS + Duration::from_secs(1), 0),
        (9, &[], SECONDS, by_time),
        (9, &[1, 2], SECONDS, when_all_are_heard),
        (9, &[2, 1, 9], Duration::ZERO, when_all_are_heard),
        (0, &[], Duration::ZERO, when_all_are_heard),
    ] {
        let took = complete_after(told, logged, age);
        assert_eq!(took, expected, "{told} told, {logged:?}, {age:?}");
    }
}

/// One that is connected, and has read a log that was just made.
fn with_new_log() -> Fixture {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    fixture.happens(Event::LogRead {
        age: Duration::ZERO,
    });
    fixture
}

/// Servers that have lost their log come back, and trackers with them, one after the other.
#[test]
fn who_hears_nobody_waits_for_others_to_come_back() {
    let mut fixture = with_new_log();
    fixture.pass(5 * SECOND);
    assert!(!fixture.counters.is_complete());
    // Its first sign is a batch, and says as much.
    fixture.hears_peers("a", 1, 5_000, 0);
    fixture.pass(60 * SECOND);
    assert!(!fixture.counters.is_complete());
    fixture.pass(u64::from(COMPLETE_AFTER) * SECOND);
    assert!(fixture.counters.is_complete());
    let mut alone = with_new_log();
    alone.pass(9 * SECOND);
    assert!(!alone.counters.is_complete());
    alone.pass(SECOND);
    assert!(alone.counters.is_complete());
}

#[test]
fn what_was_heard_from_the_first_on_needs_not_be_in_the_log() {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    fixture.hears_alive("a", 1, 0, 0);
    fixture.hears_peers("a", 1, 1, 0);
    fixture.hears_alive("a", 1, 1, 0);
    fixture.happens(Event::LogRead {
        age: Duration::ZERO,
    });
    fixture.pass(SECOND);
    assert!(!fixture.counters.is_complete());
    fixture.pass(SECOND);
    assert!(fixture.counters.is_complete());
}
