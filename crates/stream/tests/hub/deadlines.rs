//! Time that is over, by a virtual clock.

use aquatic_stream::{Bounds, Closed, IoAction, TrustedProxies};

use crate::world::{BOUNDS, World, options};

/// Lets time go by until the connection is closed; returns how long that took.
fn seconds_until_closed(world: &mut World, wire: usize) -> u32 {
    for seconds in 1..1_000 {
        world.pass(1);
        if matches!(world.state(wire), IoAction::Close | IoAction::Reset) {
            return seconds;
        }
    }
    panic!("it stays open");
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let mut world = World::plain();
    let wire = world.connect();
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, BOUNDS.request_seconds + 1);
    let why = world.hub.handler().closed[0].1;
    assert_eq!(why, Closed::RequestDeadline);
}

#[test]
fn bytes_that_trickle_do_not_extend_the_deadline() {
    let mut world = World::plain();
    let wire = world.connect();
    let mut seconds = 0;
    while world.state(wire) != IoAction::Close {
        world.receive(wire, b"x");
        world.pass(1);
        seconds += 1;
    }
    assert_eq!(seconds, BOUNDS.request_seconds + 1);
    let why = world.hub.handler().closed[0].1;
    assert_eq!(why, Closed::RequestDeadline);
}

#[test]
fn whoever_does_not_finish_a_request_is_told() {
    let mut world = World::plain();
    world.hub.handler_mut().words = "too late\n";
    let wire = world.connect();
    world.receive(wire, b"half a li");
    world.pass(u64::from(BOUNDS.request_seconds) + 1);
    assert_eq!(world.sent(wire), "too late\n");
    // So that it can read that, although it has sent what nobody takes.
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    assert_eq!(world.hub.handler().closed[0].1, Closed::RequestDeadline);
    assert!(world.hub.handler().abandoned.is_empty());
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, Bounds::LINGER_SECONDS + 1);
    let count = world.counters.closed.of(Closed::RequestDeadline).get();
    assert_eq!(count, 1);
}

#[test]
fn whoever_asks_for_nothing_more_is_told() {
    let mut world = World::plain();
    let wire = world.connect();
    world.receive(wire, b"a\n");
    world.hub.handler_mut().words = "still there?\n";
    world.pass(u64::from(BOUNDS.idle_seconds));
    assert_eq!(world.sent(wire), "A\n");
    world.pass(1);
    assert_eq!(world.sent(wire), "A\nstill there?\n");
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(world.hub.handler().closed[0].1, Closed::IdleDeadline);
    let count = world.counters.closed.of(Closed::IdleDeadline).get();
    assert_eq!(count, 1);
}

#[test]
fn whoever_cannot_be_told_is_closed_all_the_same() {
    let mut world = World::plain();
    world.hub.handler_mut().words = "too late\n";
    let wire = world.connect();
    world.wires[wire].room = 10;
    world.receive(wire, b"flood 1000\nhalf a li");
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, BOUNDS.idle_seconds + 1);
    assert_eq!(world.hub.handler().closed[0].1, Closed::SendDeadline);
}

#[test]
fn each_request_has_its_own_time() {
    let mut world = World::plain();
    let wire = world.connect();
    for _ in 0..5 {
        world.receive(wire, b"beginning ");
        world.pass(u64::from(BOUNDS.request_seconds));
        world.receive(wire, b"end\n");
        world.pass(u64::from(BOUNDS.idle_seconds));
    }
    assert_eq!(world.state(wire), IoAction::Read);
    assert_eq!(world.sent(wire), "BEGINNING END\n".repeat(5));
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, 1);
    assert_eq!(world.hub.handler().closed[0].1, Closed::IdleDeadline);
}

#[test]
fn whoever_waits_for_us_has_no_deadline() {
    let mut world = World::plain();
    let wire = world.connect();
    world.hub.handler_mut().is_stuck = true;
    world.receive(wire, b"a\n");
    world.pass(10_000);
    world.hub.handler_mut().is_stuck = false;
    world.finish();
    assert_eq!(world.sent(wire), "A\n");
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, BOUNDS.idle_seconds + 1);
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let mut options = options();
    options.proxies = Some(TrustedProxies::default());
    let mut world = World::new(options);
    let wire = world.connect();
    world.receive(wire, b"PROXY TCP4");
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, BOUNDS.handshake_seconds + 1);
    let count = world.counters.closed.of(Closed::HandshakeDeadline).get();
    assert_eq!(count, 1);
    assert!(world.hub.handler().closed.is_empty(), "it never was open");
}

#[test]
fn a_client_that_stops_reading_is_closed() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 10;
    world.receive(wire, b"flood 1000\n");
    // As long as it reads a little, it may stay.
    for _ in 0..5 {
        world.pass(u64::from(BOUNDS.idle_seconds));
        world.make_room(wire, 10);
    }
    assert_eq!(world.state(wire), IoAction::Read);
    let seconds = seconds_until_closed(&mut world, wire);
    assert_eq!(seconds, BOUNDS.idle_seconds + 1);
    assert_eq!(world.hub.handler().closed[0].1, Closed::SendDeadline);
}
