//! What is published, and when.

use super::*;

#[test]
fn shards_are_asked_in_each_interval_and_what_they_tell_is_numbered() {
    let mut fixture = Fixture::at_work();
    let collected = fixture.shards.lock().unwrap().collected;
    fixture.pass(10 * FLUSH);
    assert_eq!(fixture.shards.lock().unwrap().collected, collected + 10);
    for port in 1..=3 {
        fixture.tells(port);
        fixture.step();
    }
    fixture.tells(4);
    fixture.tells(5);
    fixture.step();
    assert_eq!(
        fixture.published_peers(),
        [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    );
    assert!(fixture.published_peers().is_empty(), "once");
}

#[test]
fn a_batch_says_when_its_lives_begin() {
    let mut fixture = Fixture::at_work();
    fixture.micros += 700_000;
    let since = Now::from_micros(fixture.micros - 3 * SECOND);
    fixture.tells_since(1, 1, since);
    fixture.step();
    let published = fixture.published(Channel::Peers);
    let header = Batch::parse(&published[0]).unwrap().0.header;
    assert_eq!(header.process, HERE);
    assert_eq!(header.unix_millis, UNIX_MILLIS + since.micros / 1_000);
}

#[test]
fn much_does_not_wait_for_the_next_interval() {
    for (records, waits) in [(MUCH_RECORDS - 1, FLUSH), (MUCH_RECORDS, FLUSH / 8)] {
        let mut fixture = Fixture::at_work();
        fixture.pass(FLUSH);
        let since = Now::from_micros(fixture.micros);
        fixture.tells_since(1, records, since);
        let next = fixture.step();
        assert_eq!(next - fixture.micros, waits, "{records}");
        let collected = fixture.shards.lock().unwrap().collected;
        fixture.micros = next;
        fixture.step();
        assert_eq!(fixture.shards.lock().unwrap().collected, collected + 1);
    }
}

#[test]
fn it_says_every_second_that_it_is_alive_and_how_much_it_has_published() {
    let mut fixture = Fixture::at_work();
    fixture.tells(1);
    fixture.pass(SECOND / 2);
    fixture.published(Channel::Nodes);
    fixture.tells(2);
    fixture.pass(5 * SECOND);
    let alive = fixture.published(Channel::Nodes);
    assert_eq!(alive.len(), 5);
    for bytes in alive {
        let (batch, _) = Batch::parse(&bytes).unwrap();
        let Body::Alive(alive) = batch.body else {
            panic!("it was alive");
        };
        assert_eq!((alive.peers, alive.members), (2, 0));
        assert_eq!(alive.told_within, COMPLETE_AFTER);
        assert_eq!((batch.header.process, batch.header.sequence), (HERE, 0));
    }
}

/// What it sends to others is not understood before they know it.
#[test]
fn who_is_heard_for_the_first_time_is_told_at_once_but_not_all_the_time() {
    let mut fixture = Fixture::at_work();
    fixture.pass(SECOND);
    fixture.published(Channel::Nodes);
    for process in 1..=2 {
        fixture.micros += 1_000;
        fixture.hears_alive("a", process, 0, 0);
        assert_eq!(fixture.published(Channel::Nodes).len(), 1);
        fixture.hears_alive("a", process, 0, 0);
        assert!(fixture.published(Channel::Nodes).is_empty());
    }
    for process in 3..1_000 {
        fixture.hears_alive("liar", process, 0, 0);
    }
    let told = u32::try_from(fixture.published(Channel::Nodes).len()).unwrap();
    assert_eq!(told, GREETINGS_MAX - 2);
}

#[test]
fn who_leaves_publishes_what_waits_and_says_so() {
    let mut fixture = Fixture::at_work();
    fixture.tells(1);
    let time = fixture.time();
    assert!(fixture.engine.leave(time));
    let published = std::mem::take(&mut fixture.hand.borrow_mut().published);
    let [(first, peers), (second, leaving)] = <[_; 2]>::try_from(published).unwrap();
    assert_eq!(
        (first, read_peers(&peers)),
        (Destination::All(Channel::Peers), (1, 1))
    );
    assert_eq!(second, Destination::All(Channel::Nodes));
    let (batch, _) = Batch::parse(&leaving).unwrap();
    assert!(matches!(batch.body, Body::Leaving));
    assert_eq!(batch.header.process, HERE);
}

#[test]
fn who_has_no_connection_keeps_what_there_is_to_publish() {
    let mut fixture = Fixture::at_work();
    fixture.happens(Event::Disconnected);
    assert!(!fixture.counters.is_connected());
    for port in 1..=3 {
        fixture.tells(port);
        fixture.pass(SECOND);
    }
    assert!(fixture.hand.borrow().published.is_empty());
    assert_eq!(fixture.counters.buffered.get(), 3 * (29 + 128));
    fixture.happens(Event::Connected);
    assert_eq!(fixture.published_peers(), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(fixture.counters.buffered.get(), 0);
    assert_eq!(fixture.counters.reconnects.get(), 1);
}

#[test]
fn what_has_no_room_while_there_is_no_connection_is_lost_the_oldest_first() {
    let mut fixture = Fixture::at_work();
    fixture.happens(Event::Disconnected);
    for port in 1..=100 {
        fixture.tells(port);
        fixture.pass(FLUSH);
        assert!(fixture.counters.buffered.get() <= 10_000);
    }
    fixture.happens(Event::Connected);
    let kept = 10_000 / (29 + 128);
    let expected: Vec<(u64, u16)> = (1..).zip(101 - kept..=100).collect();
    assert_eq!(fixture.published_peers(), expected, "no number is left out");
    let lost = Counters::of(&fixture.counters.lost, LostAt::Buffer).get();
    assert_eq!(lost, u64::from(100 - kept));
}

#[test]
fn what_the_bus_does_not_take_is_offered_again_before_anything_else() {
    let mut fixture = Fixture::at_work();
    fixture.pass(SECOND);
    fixture.published(Channel::Nodes);
    // Also the alarm: until the batch is taken, nothing is published at all.
    fixture.hand.borrow_mut().refuses = 12;
    fixture.tells(1);
    fixture.step();
    for port in 2..=11 {
        fixture.tells(port);
        fixture.pass(FLUSH);
    }
    assert!(fixture.published_peers().is_empty());
    fixture.pass(FLUSH);
    let expected: Vec<(u64, u16)> = (1..=11).zip(1..).collect();
    assert_eq!(fixture.published_peers(), expected);
}

/// Others would look for it in the log.
#[test]
fn what_the_bus_has_not_taken_was_not_published() {
    let mut fixture = Fixture::at_work();
    fixture.pass(SECOND - FLUSH);
    fixture.published(Channel::Nodes);
    fixture.tells(1);
    fixture.step();
    fixture.tells(2);
    fixture.hand.borrow_mut().refuses = 1;
    fixture.pass(FLUSH);
    let told = |fixture: &mut Fixture| {
        let alive = fixture.published(Channel::Nodes);
        let (batch, _) = Batch::parse(&alive[0]).unwrap();
        let Body::Alive(alive) = batch.body else {
            panic!("it was alive");
        };
        alive.peers
    };
    assert_eq!(told(&mut fixture), 1);
    fixture.pass(SECOND);
    assert_eq!(told(&mut fixture), 2);
}

#[test]
fn who_leaves_may_say_so_again_if_there_was_no_room() {
    let mut fixture = Fixture::at_work();
    fixture.tells(1);
    fixture.hand.borrow_mut().refuses = 2;
    let time = fixture.time();
    let leaves = [(); 2].map(|()| fixture.engine.leave(time));
    assert_eq!(leaves, [false, true]);
    assert_eq!(fixture.published_peers(), [(1, 1)]);
    assert_eq!(fixture.published(Channel::Nodes).len(), 1);
}

/// The server has taken it, and has passed nothing on.
#[test]
fn what_was_not_confirmed_is_published_again_after_an_interruption() {
    let mut fixture = Fixture::at_work();
    for port in 1..=2 {
        fixture.tells(port);
        fixture.pass(FLUSH);
    }
    fixture.pass(SECOND);
    fixture.hand.borrow_mut().hangs = true;
    for port in 3..=4 {
        fixture.tells(port);
        fixture.pass(SECOND);
    }
    let before = fixture.published(Channel::Peers);
    fixture.happens(Event::Disconnected);
    fixture.tells(5);
    fixture.pass(2 * SECOND);
    assert!(fixture.published(Channel::Peers).is_empty());
    fixture.published(Channel::Nodes);
    fixture.hand.borrow_mut().refuses = 2;
    fixture.happens(Event::Connected);
    assert_eq!(
        fixture.published(Channel::Nodes).len(),
        0,
        "others would miss it"
    );
    fixture.pass(2 * SECOND);
    let after = fixture.published(Channel::Peers);
    // With the same numbers and times, which others may have heard.
    assert_eq!(after[..2], before[2..]);
    let numbers: Vec<_> = after.iter().map(|bytes| read_peers(bytes)).collect();
    assert_eq!(numbers, [(3, 3), (4, 4), (5, 5)]);
    assert!(!fixture.published(Channel::Nodes).is_empty());
    fixture.happens(Event::Disconnected);
    fixture.happens(Event::Connected);
    fixture.pass(SECOND);
    let again = fixture.published_peers();
    assert_eq!(again, [(5, 5)], "twice is enough");
}

#[test]
fn nothing_is_taken_in_while_shards_are_busy() {
    let mut fixture = Fixture::at_work();
    fixture.hand.borrow_mut().hangs = true;
    fixture.hand.borrow_mut().events.clear();
    assert!(!fixture.engine.waits_for_shards());
    fixture.shards.lock().unwrap().are_busy = true;
    assert!(fixture.engine.waits_for_shards());
    for sequence in 1..=200 {
        fixture.hears_peers("there", 1, sequence, 0);
    }
    fixture.happens(Event::Disconnected);
    assert_eq!(fixture.received(), []);
    assert_eq!(fixture.hand.borrow().events.len(), 201);
    fixture.shards.lock().unwrap().are_busy = false;
    // Not more than some at a time, as other things have to be done.
    assert_eq!(fixture.step(), fixture.micros, "there is more");
    assert_eq!(fixture.received().len(), 64);
    while fixture.step() == fixture.micros {}
    assert_eq!(fixture.received().len(), 200 - 64);
    assert!(!fixture.counters.is_connected());
}

/// Servers that are cut off from the others take it, and pass it on to whom they have.
#[test]
fn what_the_log_has_not_is_published_again_when_it_takes_something() {
    let mut fixture = Fixture::at_work();
    fixture.hand.borrow_mut().keeps = true;
    fixture.tells(1);
    fixture.pass(10 * SECOND);
    assert_eq!(fixture.published_peers(), [(1, 1)]);
    fixture.hand.borrow_mut().keeps = false;
    for port in 2..=4 {
        fixture.tells(port);
        fixture.pass(SECOND);
    }
    let first = fixture.published(Channel::Peers);
    fixture.pass(600 * SECOND);
    let trials = fixture.published(Channel::Peers);
    assert!((100..=200).contains(&trials.len()), "{}", trials.len());
    assert!(trials.iter().all(|trial| Some(trial) == first.last()));
    assert!(fixture.reads().is_empty(), "that is nothing to read for");
    fixture.hand.borrow_mut().keeps = true;
    fixture.pass(6 * SECOND);
    let again = fixture.published_peers();
    assert_eq!(again, [(4, 4), (2, 2), (3, 3), (4, 4)], "and in order");
    fixture.pass(60 * SECOND);
    assert!(fixture.published(Channel::Peers).is_empty());
}

/// A node that was cut off from the log before it had told of anybody.
#[test]
fn the_first_that_it_publishes_is_published_again_if_the_log_has_been_read() {
    for (reads, expected) in [(true, 1), (false, 0)] {
        let mut fixture = Fixture::new(settings());
        fixture.happens(Event::Connected);
        if reads {
            fixture.reads_to_the_end();
        }
        fixture.tells(1);
        fixture.pass(FLUSH);
        assert_eq!(fixture.published_peers(), [(1, 1)]);
        fixture.pass(60 * SECOND);
        let trials = fixture.published_peers();
        assert!(trials.len().min(1) == expected, "{trials:?}");
        fixture.hand.borrow_mut().keeps = true;
        fixture.pass(6 * SECOND);
        assert_eq!(fixture.published_peers().len(), expected);
        fixture.pass(60 * SECOND);
        assert!(fixture.published(Channel::Peers).is_empty());
    }
}

#[test]
fn what_is_kept_for_the_log_takes_the_room_that_is_left_and_is_counted_when_it_goes() {
    let mut fixture = Fixture::at_work();
    fixture.hand.borrow_mut().keeps = true;
    fixture.tells(1);
    fixture.pass(SECOND);
    fixture.hand.borrow_mut().keeps = false;
    for port in 2..=101 {
        fixture.tells(port);
        fixture.pass(FLUSH);
    }
    let lost = |at| Counters::of(&fixture.counters.lost, at).get();
    // With a header of 32 bytes each, and what else a batch takes.
    let kept = 10_000 / (29 + 32 + 128);
    assert_eq!((lost(LostAt::Log), lost(LostAt::Buffer)), (100 - kept, 0));
    fixture.happens(Event::Disconnected);
    for port in 102..=200 {
        fixture.tells(port);
        fixture.pass(FLUSH);
    }
    let lost = |at| Counters::of(&fixture.counters.lost, at).get();
    assert_eq!(lost(LostAt::Log), 100, "what waits goes before");
    assert_eq!(lost(LostAt::Buffer), 99 - 10_000 / (29 + 128));
}

#[test]
fn who_has_much_to_publish_again_says_that_it_is_alive_all_the_same() {
    let mut fixture = Fixture::at_work();
    fixture.hand.borrow_mut().hangs = true;
    for port in 1..=20 {
        fixture.tells(port);
        fixture.pass(FLUSH);
    }
    fixture.happens(Event::Disconnected);
    fixture.hand.borrow_mut().published.clear();
    fixture.hand.borrow_mut().refuses_peers = true;
    fixture.happens(Event::Connected);
    let mut alive = Vec::new();
    for _ in 0..10 {
        fixture.pass(SECOND);
        alive.push(fixture.published(Channel::Nodes).len());
    }
    assert_eq!(alive.iter().sum::<usize>(), 3, "{alive:?}");
    assert!(fixture.published(Channel::Peers).is_empty());
    fixture.hand.borrow_mut().refuses_peers = false;
    fixture.pass(FLUSH);
    assert!(!fixture.published(Channel::Peers).is_empty());
}
