//! The end of all connections.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use aquatic_stream::{Admission, Closed, IoAction, TrustedProxies};
use rustls::version::{TLS12, TLS13};

use crate::pki::Pki;
use crate::tls::{self, Client};
use crate::world::{DRAIN, World, options};

/// A client that has just connected may take so long to ask.
const FIRST_REQUEST_MICROS: u64 = 1_000_000;

/// What the last one has to close its side.
const GRACE_MICROS: u64 = 300_000;

fn drain_micros() -> u64 {
    u64::try_from(DRAIN.as_micros()).unwrap()
}

fn closed(world: &World) -> usize {
    world.hub.handler().closed.len()
}

fn restarts(world: &World) -> u64 {
    world.counters.closed.of(Closed::Restart).get()
}

/// One whose client has asked before, and is idle now.
fn connect_and_ask(world: &mut World) -> usize {
    let wire = world.connect();
    world.receive(wire, b"a\n");
    wire
}

#[test]
fn the_ends_of_connections_are_spread_over_time() {
    let mut world = World::plain();
    let wires: Vec<usize> = (0..100).map(|_| connect_and_ask(&mut world)).collect();
    assert!(!world.stop());
    assert_eq!(closed(&world), 1, "the first one at once");
    for tenth in 1..10 {
        world.pass_micros(drain_micros() / 10);
        world.stop();
        assert_eq!(closed(&world), 10 * tenth + 1);
    }
    world.pass_micros(drain_micros() / 10);
    assert!(!world.stop(), "clients have not closed their side");
    assert_eq!(restarts(&world), 100);
    for wire in wires {
        assert_eq!(world.sent(wire), "A\nBYE\n");
        world.end_input(wire);
        assert_eq!(world.state(wire), IoAction::Close);
    }
    assert!(world.stop());
}

/// Until its turn, a connection works as before.
#[test]
fn whoever_has_not_had_its_turn_is_served() {
    let mut world = World::plain();
    let wires: Vec<usize> = (0..10).map(|_| connect_and_ask(&mut world)).collect();
    for turn in 0..10 {
        world.stop();
        for wire in &wires[turn + 1..] {
            world.receive(*wire, b"b\n");
        }
        world.pass_micros(drain_micros() / 10);
    }
    for (turn, wire) in wires.into_iter().enumerate() {
        assert_eq!(world.sent(wire), format!("A\n{}BYE\n", "B\n".repeat(turn)));
    }
}

#[test]
fn a_hub_with_few_connections_has_soon_stopped() {
    let mut world = World::plain();
    assert!(world.stop(), "with none, at once");
    let mut world = World::plain();
    let wire = connect_and_ask(&mut world);
    world.stop();
    assert_eq!(world.sent(wire), "A\nBYE\n");
    world.end_input(wire);
    assert!(world.stop());
}

/// Slots that have become free are no turns.
#[test]
fn those_who_are_gone_do_not_make_others_wait() {
    let mut world = World::plain();
    let wires: Vec<usize> = (0..100).map(|_| connect_and_ask(&mut world)).collect();
    for wire in &wires[..98] {
        world.end_input(*wire);
    }
    world.stop();
    assert_eq!(restarts(&world), 1);
    world.pass_micros(drain_micros() / 2);
    world.stop();
    assert_eq!(restarts(&world), 2);
}

#[test]
fn without_a_time_for_it_all_end_at_once() {
    let mut options = options();
    options.drain = Duration::ZERO;
    let mut world = World::new(options);
    for _ in 0..10 {
        connect_and_ask(&mut world);
        world.connect();
    }
    world.stop();
    assert_eq!(restarts(&world), 20);
}

#[test]
fn connections_that_have_not_begun_end_too() {
    let mut options = options();
    options.admission = Arc::new(Admission::new(0, 0));
    options.proxies = Some(TrustedProxies::default());
    let mut world = World::new(options);
    let wire = world.connect();
    assert!(!world.stop());
    world.pass_micros(FIRST_REQUEST_MICROS);
    world.stop();
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    world.end_input(wire);
    assert_eq!(world.state(wire), IoAction::Close);
    assert!(world.stop());
    assert_eq!(world.counters.active.v4.get(), 0);
    assert_eq!(restarts(&world), 1);
}

/// It would not try again, unlike one whose connection has been of use before.
#[test]
fn a_client_that_has_just_connected_is_still_answered() {
    let mut world = World::plain();
    let (asks, is_silent) = (world.connect(), world.connect());
    world.stop();
    world.pass_micros(FIRST_REQUEST_MICROS - 1);
    world.stop();
    assert_eq!(closed(&world), 0);
    world.receive(asks, b"a\n");
    world.stop();
    assert_eq!(world.sent(asks), "A\nBYE\n");
    world.pass_micros(1);
    world.stop();
    // The second of two has its turn when half of the time has passed.
    world.pass_micros(drain_micros() / 2);
    world.stop();
    assert_eq!(world.sent(is_silent), "BYE\n");
}

#[test]
fn whoever_does_not_close_its_side_is_not_waited_for() {
    let mut world = World::plain();
    for _ in 0..2 {
        connect_and_ask(&mut world);
    }
    world.stop();
    world.pass_micros(drain_micros() / 2);
    assert!(!world.stop());
    // The next round sees that everything has been sent.
    assert!(!world.stop());
    world.pass_micros(GRACE_MICROS - 1);
    assert!(!world.stop(), "the last one has a moment");
    world.pass_micros(1);
    assert!(world.stop());
}

#[test]
fn a_client_that_goes_on_sending_gets_no_reset_but_a_few_seconds() {
    let mut world = World::plain();
    let wire = connect_and_ask(&mut world);
    world.stop();
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    for _ in 0..2 {
        world.receive(wire, b"b\n");
        assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    }
    assert_eq!(world.sent(wire), "A\nBYE\n");
    world.pass(3);
    assert_eq!(world.state(wire), IoAction::Close);
    assert!(world.stop());
}

/// However long that takes; the process does not wait for ever.
#[test]
fn what_was_asked_before_is_answered() {
    let mut world = World::plain();
    let (busy, idle) = (connect_and_ask(&mut world), connect_and_ask(&mut world));
    world.hub.handler_mut().is_stuck = true;
    world.receive(busy, b"b\n");
    for _ in 0..3 {
        assert!(!world.stop());
        world.pass_micros(drain_micros());
    }
    assert_eq!((world.sent(busy).as_str(), closed(&world)), ("A\n", 1));
    assert_eq!(world.sent(idle), "A\nBYE\n");
    world.hub.handler_mut().is_stuck = false;
    world.stop();
    world.stop();
    assert_eq!(world.sent(busy), "A\nB\nBYE\n");
    world.end_input(busy);
    assert!(world.stop());
}

#[test]
fn what_a_client_has_not_read_is_sent_before_the_end() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 0;
    world.receive(wire, b"a\n");
    for _ in 0..3 {
        world.pass_micros(drain_micros());
        assert!(!world.stop());
    }
    assert_eq!(world.sent(wire), "");
    world.make_room(wire, 100);
    assert_eq!(world.sent(wire), "A\nBYE\n");
    world.end_input(wire);
    assert!(world.stop());
}

#[test]
fn encrypted_connections_end_with_a_word_about_it() {
    let pki = Pki::new();
    for version in [&TLS12, &TLS13] {
        let mut world = tls::world(&pki.load().unwrap());
        let mut client = Client::connect(&mut world, &pki.client(&[version]));
        client.session.writer().write_all(b"a\n").unwrap();
        client.talk(&mut world).unwrap();
        assert!(!client.has_ended);
        world.stop();
        client.talk(&mut world).unwrap();
        assert_eq!(client.received(), "A\nBYE\n");
        assert!(client.has_ended, "close_notify");
        assert_eq!(world.state(client.wire), IoAction::CloseSendingHalf);
    }
}
