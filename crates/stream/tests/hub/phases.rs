//! What moves a connection on to its end, and that each end is counted and told once.

use aquatic_stream::{Closed, IoAction};

use crate::world::World;

/// Ends that were counted, for this and for all reasons; and those that the handler was told.
fn ends(world: &World, why: Closed) -> (u64, u64, usize) {
    let closed = &world.counters.closed;
    let all = [
        Closed::ByClient,
        Closed::BySession,
        Closed::IdleDeadline,
        Closed::RequestDeadline,
        Closed::SendDeadline,
        Closed::Memory,
    ];
    let sum = all.iter().map(|why| closed.of(*why).get()).sum();
    (closed.of(why).get(), sum, world.hub.handler().closed.len())
}

#[test]
fn the_first_reason_to_end_stays() {
    let mut world = World::plain();
    let wire = world.connect();
    let key = world.wires[wire].id;
    world.hub.failed(world.now, key);
    world.hub.read_ended(world.now, key);
    world.hub.stop(world.now);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(ends(&world, Closed::ByClient), (1, 1, 1));
}

/// The session has closed, and its last words wait for a client that then goes.
#[test]
fn whoever_goes_while_its_answer_waits_is_not_answered() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 2;
    world.receive(wire, b"quit\nmore\n");
    assert_eq!(world.state(wire), IoAction::DoNotRead);
    assert_eq!(ends(&world, Closed::BySession), (0, 0, 0));
    // Its session is called no more, whatever comes.
    world.receive(wire, b"and more\n");
    world.end_input(wire);
    assert_eq!(world.state(wire), IoAction::DoNotRead);
    world.hub.failed(world.now, world.wires[wire].id);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Reset, "it does not read");
    assert_eq!(ends(&world, Closed::ByClient), (1, 1, 1));
    assert!(world.hub.handler().abandoned.is_empty());
    assert_eq!(world.counters.active.v4.get(), 0);
}

#[test]
fn last_words_that_are_read_late_are_an_orderly_end() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 2;
    world.receive(wire, b"quit\nmore\n");
    world.make_room(wire, 1_000);
    assert_eq!(world.sent(wire), "QUIT\n");
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    assert_eq!(ends(&world, Closed::BySession), (1, 1, 1));
}

/// It has been counted when it began to linger.
#[test]
fn whoever_fails_while_it_lingers_is_not_counted_again() {
    let mut world = World::plain();
    let wire = world.connect();
    world.receive(wire, b"quit\nmore");
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    let key = world.wires[wire].id;
    world.hub.failed(world.now, key);
    world.hub.receive(world.now, key, &mut [0; 10]);
    world.hub.read_ended(world.now, key);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(ends(&world, Closed::BySession), (1, 1, 1));
    assert_eq!(world.counters.active.v4.get(), 0);
}

/// One that is told that its time is over, and does not read that, is told nothing more.
#[test]
fn last_words_have_a_deadline_of_their_own() {
    let mut world = World::plain();
    world.hub.handler_mut().words = "TOO LATE\n";
    let wire = world.connect();
    world.wires[wire].room = 2;
    world.receive(wire, b"half a li");
    while world.sent(wire).is_empty() {
        world.pass(1);
    }
    assert_eq!(ends(&world, Closed::RequestDeadline), (0, 0, 0));
    while world.state(wire) != IoAction::Reset {
        world.pass(1);
    }
    assert_eq!(world.sent(wire), "TO");
    assert_eq!(ends(&world, Closed::SendDeadline), (1, 1, 1));
    assert!(world.hub.handler().abandoned.is_empty());
}

/// What others had for it is still read, although its own time is over.
#[test]
fn a_session_that_closes_in_silence_has_told_its_client() {
    let mut world = World::plain();
    world.hub.handler_mut().closes_late = true;
    let wire = world.connect();
    world.receive(wire, b"half a li");
    let key = world.wires[wire].id;
    world
        .hub
        .handler_mut()
        .pushes
        .push((key, b"news\n".to_vec()));
    world.pass_micros(1_000_000_000);
    assert_eq!(world.sent(wire), "news\n");
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    assert_eq!(ends(&world, Closed::RequestDeadline), (1, 1, 1));
}
