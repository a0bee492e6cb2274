//! The end of all connections.

use std::sync::Arc;

use aquatic_stream::{Admission, Closed, IoAction, TrustedProxies};

use crate::world::{World, options};

/// How long it takes until all have been told, in microseconds.
const SPREAD_MICROS: u64 = 400_000;

fn closed(world: &World) -> usize {
    world.hub.handler().closed.len()
}

#[test]
fn the_ends_of_connections_are_spread_over_time() {
    let mut world = World::plain();
    let wires: Vec<usize> = (0..100).map(|_| world.connect()).collect();
    for wire in &wires {
        world.receive(*wire, b"a\n");
    }
    assert!(!world.stop());
    assert_eq!(closed(&world), 0);
    for tenth in 1..=10 {
        world.pass_micros(SPREAD_MICROS / 10);
        world.stop();
        assert_eq!(closed(&world), 10 * tenth);
    }
    assert!(world.stop());
    for wire in wires {
        assert_eq!(world.sent(wire), "A\nBYE\n");
        assert_eq!(world.state(wire), IoAction::Close);
    }
}

#[test]
fn connections_that_have_not_begun_end_too() {
    let mut options = options();
    options.admission = Arc::new(Admission::new(0, 0));
    options.proxies = Some(TrustedProxies::default());
    let mut world = World::new(options);
    let wire = world.connect();
    assert!(!world.stop());
    world.pass_micros(SPREAD_MICROS);
    world.stop();
    assert_eq!(world.state(wire), IoAction::Close);
    assert!(world.stop());
    assert_eq!(world.counters.active.v4.get(), 0);
    assert_eq!(world.counters.closed.of(Closed::BySession).get(), 1);
}

/// However long that takes; the process does not wait for ever.
#[test]
fn what_was_asked_before_is_answered() {
    let mut world = World::plain();
    world.hub.handler_mut().is_stuck = true;
    let busy = world.connect();
    world.receive(busy, b"a\n");
    let idle = world.connect();
    for _ in 0..3 {
        assert!(!world.stop());
        world.pass_micros(SPREAD_MICROS);
    }
    assert_eq!((world.sent(busy).as_str(), closed(&world)), ("", 1));
    assert_eq!(world.sent(idle), "BYE\n");
    world.hub.handler_mut().is_stuck = false;
    world.stop();
    world.stop();
    assert_eq!(world.sent(busy), "A\nBYE\n");
    assert!(world.stop());
}

#[test]
fn what_a_client_has_not_read_is_sent_before_the_end() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 0;
    world.receive(wire, b"a\n");
    for _ in 0..3 {
        world.pass_micros(SPREAD_MICROS);
        assert!(!world.stop());
    }
    assert_eq!(world.sent(wire), "");
    world.make_room(wire, 100);
    assert_eq!(world.sent(wire), "A\nBYE\n");
    assert!(world.stop());
}
