//! Batches that have not come, as their numbers show.

use super::*;

const ALL: u64 = AGE as u64;

/// One that hears `a`, whose process is 1 and whose last batch was 5, for some seconds.
fn hearing() -> Fixture {
    let mut fixture = Fixture::at_work();
    for sequence in 1..=5 {
        fixture.hears_peers("a", 1, sequence, 0);
        fixture.hears_alive("a", 1, sequence, 0);
        fixture.pass(SECOND);
    }
    assert_eq!(fixture.counters.missed.get(), 0);
    assert!(fixture.reads().is_empty());
    fixture
}

#[test]
fn a_batch_that_has_not_come_is_read_in_the_log() {
    let mut fixture = hearing();
    fixture.hears_peers("a", 1, 8, 0);
    assert_eq!(fixture.counters.missed.get(), 2);
    assert_eq!(fixture.reads(), [11], "since it was heard, and some more");
    fixture.reads_in_log("a", &[6, 7]);
    fixture.reads_to_the_end();
    fixture.hears_peers("a", 1, 9, 0);
    fixture.pass(60 * SECOND);
    assert!(fixture.reads().is_empty());
}

/// The copy of the log that was read is behind, or nobody has logged it at all.
#[test]
fn what_is_still_missing_after_an_interruption_is_read_again_but_not_for_ever() {
    for comes in [true, false] {
        let mut fixture = hearing();
        fixture.happens(Event::Disconnected);
        fixture.pass(SECOND);
        fixture.happens(Event::Connected);
        assert_eq!(fixture.reads().len(), 1);
        fixture.hears_peers("a", 1, 8, 0);
        let read = |fixture: &mut Fixture, numbers: &[u64]| {
            fixture.reads_in_log("a", numbers);
            fixture.reads_to_the_end();
            fixture.pass(6 * SECOND);
            fixture.reads().len()
        };
        assert_eq!(read(&mut fixture, &[5, 6]), 1);
        if comes {
            assert_eq!(read(&mut fixture, &[6, 7]), 0);
        } else {
            assert_eq!(read(&mut fixture, &[6]), 1);
            assert_eq!(read(&mut fixture, &[6]), 0);
        }
    }
}

#[test]
fn the_last_batch_is_missed_when_its_node_tells_of_it_twice() {
    let mut fixture = hearing();
    fixture.hears_alive("a", 1, 6, 0);
    assert_eq!(fixture.counters.missed.get(), 0, "it may be on its way");
    fixture.pass(SECOND);
    fixture.hears_alive("a", 1, 6, 0);
    assert_eq!(fixture.counters.missed.get(), 1);
    assert_eq!(fixture.reads(), [11]);
    fixture.reads_in_log("a", &[6]);
    fixture.reads_to_the_end();
    fixture.pass(SECOND);
    fixture.hears_alive("a", 1, 6, 0);
    fixture.pass(10 * SECOND);
    assert_eq!(fixture.counters.missed.get(), 1, "once");
    assert!(fixture.reads().is_empty());
}

#[test]
fn holes_that_come_all_the_time_are_read_together() {
    let mut fixture = hearing();
    fixture.hears_peers("a", 1, 7, 0);
    assert_eq!(fixture.reads(), [11]);
    fixture.pass(SECOND);
    // While it is read, and in the pause after that.
    fixture.hears_peers("a", 1, 9, 0);
    fixture.reads_in_log("a", &[6, 8]);
    fixture.reads_to_the_end();
    fixture.pass(2 * SECOND);
    fixture.hears_peers("a", 1, 11, 0);
    fixture.pass(3 * SECOND - FLUSH);
    assert!(fixture.reads().is_empty());
    fixture.pass(FLUSH);
    assert_eq!(fixture.reads(), [16], "since the first of them");
}

/// It was silent for this one, though others may have heard it: apart, or cut off without notice.
#[test]
fn after_a_silence_what_was_missed_is_read_at_once() {
    for silence in [10, 60, 300] {
        let mut fixture = hearing();
        fixture.pass(silence * SECOND);
        fixture.hears_alive("a", 1, 90, 0);
        assert_eq!(fixture.counters.missed.get(), 85);
        assert_eq!(fixture.reads(), [1 + silence + 10]);
    }
}

/// What comes last is old, if much has piled up: so what was lost after it is older than that.
#[test]
fn who_is_behind_reads_from_the_time_at_which_things_were_published() {
    for (sequence, is_alive) in [(20, false), (10, true)] {
        let mut fixture = hearing();
        for sequence in 6..=10 {
            fixture.pass(SECOND);
            fixture.hears_peers("a", 1, sequence, 40 * SECOND);
        }
        // All that has piled up is lost here.
        fixture.pass(SECOND);
        match is_alive {
            true => {
                fixture.pass(5 * SECOND);
                fixture.hears_alive("a", 1, 30, 0);
            }
            false => fixture.hears_peers("a", 1, sequence, 0),
        }
        assert_eq!(fixture.reads(), [1 + 10 + 40 + 5 * u64::from(is_alive)]);
    }
}

#[test]
fn who_has_just_connected_has_not_missed_what_others_have_published() {
    let mut fixture = Fixture::new(settings());
    fixture.happens(Event::Connected);
    assert_eq!(fixture.reads(), [ALL]);
    fixture.hears_peers("a", 1, 100, 0);
    fixture.pass(9 * SECOND);
    fixture.hears_alive("b", 2, 70, 0);
    fixture.reads_to_the_end();
    fixture.pass(60 * SECOND);
    assert_eq!(fixture.counters.missed.get(), 0);
    assert!(fixture.reads().is_empty());
}

/// It was apart from this one since its start.
#[test]
fn who_is_heard_for_the_first_time_and_has_published_before_was_missed() {
    let mut fixture = Fixture::at_work();
    fixture.pass(300 * SECOND);
    fixture.hears_peers("a", 1, 100, 0);
    assert_eq!(fixture.counters.missed.get(), 99);
    let reads = fixture.reads();
    // What was published before the log was read for the first time, it has read.
    assert_eq!(reads, [360 + 10]);
    let mut fixture = Fixture::at_work();
    fixture.hears_peers("a", 1, 1, 0);
    fixture.pass(60 * SECOND);
    assert!(fixture.reads().is_empty(), "a new one");
}

/// One that starts again and again, or pretends to: each time it is another process, and seems to
/// have published before.
#[test]
fn nobody_can_have_everything_read_again_and_again() {
    let mut fixture = Fixture::at_work();
    let mut read = 0;
    for process in 0..100 {
        fixture.hears_peers("liar", 1_000 + process, 50, 0);
        fixture.pass(6 * SECOND);
        read += fixture.reads().iter().sum::<u64>();
        fixture.reads_to_the_end();
    }
    assert!(read < 100 * 40, "{read} s of the log in 600 s");
}

/// Two of them have the same name: whoever is heard is not the one of before.
#[test]
fn two_of_one_name_are_told_apart() {
    let mut fixture = Fixture::at_work();
    let mut from = Vec::new();
    for sequence in 1..=20 {
        for process in [1, 2, 3] {
            fixture.hears_peers("twin", process, sequence, 0);
            fixture.hears_alive("twin", process, sequence, 0);
        }
        from.extend(fixture.received());
        fixture.pass(SECOND);
    }
    assert_eq!(from.len(), 60, "all of it is taken in");
    assert_eq!(fixture.counters.missed.get(), 0);
    assert!(fixture.reads().is_empty());
    fixture.hears_peers("twin", 2, 22, 0);
    assert_eq!(fixture.counters.missed.get(), 1);
}

/// Nodes of UDP and of WebTorrent may be in one cluster.
#[test]
fn what_is_not_listened_to_is_not_missed() {
    for (channel, is_missed) in [(Channel::Peers, false), (Channel::Members, true)] {
        let mut fixture = Fixture::listening(settings(), channel);
        fixture.happens(Event::Connected);
        fixture.reads_to_the_end();
        fixture.pass(60 * SECOND);
        fixture.reads();
        for members in 1..=10 {
            let alive = Alive {
                members: 10 * members,
                ..Alive::default()
            };
            let mut bytes = Vec::new();
            alive.write(&mut bytes, &fixture.header(1, 0, 0));
            fixture.hears("a", Channel::Nodes, bytes);
            fixture.pass(SECOND);
        }
        assert_eq!(fixture.counters.missed.get() > 0, is_missed);
        assert_eq!(!fixture.reads().is_empty(), is_missed);
    }
}
