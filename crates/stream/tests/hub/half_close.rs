//! The end of the client's sending does not overtake what was sent before it.

use std::io::Write;

use aquatic_stream::{Bounds, Closed, IoAction};
use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};

use crate::pki::Pki;
use crate::tls::{self, Client};
use crate::world::{BOUNDS, World};

/// Fewer than a batch takes up, as many, one more, and many more.
const BURSTS: [usize; 7] = [1, 16, 17, 18, 25, 100, 400];

#[test]
fn a_burst_is_answered_whole_before_the_end() {
    // The end comes in the same round, after one, or after some.
    for rounds in 0..4 {
        for count in BURSTS {
            let mut world = World::plain();
            let wire = world.connect();
            let id = world.wires[wire].id;
            let mut burst = "a\n".repeat(count).into_bytes();
            world.hub.receive(world.now, id, &mut burst);
            for _ in 0..rounds {
                world.hub.finish(world.now);
            }
            world.end_input(wire);
            assert_eq!(world.sent(wire), "A\n".repeat(count), "after {rounds}");
            assert_eq!(world.state(wire), IoAction::Close);
            assert_eq!(world.hub.handler().closed, [(id, Closed::BySession)]);
        }
    }
}

#[test]
fn a_client_that_reads_late_gets_all_its_answers() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 10;
    let request = format!("flood {}\n", BOUNDS.output_bytes_max / 8);
    world.receive(wire, request.repeat(20).as_bytes());
    world.end_input(wire);
    assert_eq!(world.wires[wire].sent.len(), 10);
    while world.state(wire) != IoAction::Close {
        let before = world.wires[wire].sent.len();
        world.make_room(wire, 1_000);
        assert!(world.wires[wire].sent.len() > before, "it has stopped");
    }
    assert_eq!(world.sent(wire).matches("FLOOD").count(), 20);
}

#[test]
fn half_a_request_behind_a_burst_is_not_waited_for() {
    let mut world = World::plain();
    let wire = world.connect();
    let id = world.wires[wire].id;
    let mut burst = ("a\n".repeat(25) + "incomplete").into_bytes();
    world.hub.receive(world.now, id, &mut burst);
    world.hub.finish(world.now);
    world.end_input(wire);
    assert_eq!(world.sent(wire), "A\n".repeat(25));
    assert_eq!(world.state(wire), IoAction::Close);
}

/// A failed write tells before what has come is read.
#[test]
fn what_a_client_that_has_gone_has_sent_is_read() {
    let mut world = World::plain();
    let wire = world.connect();
    let id = world.wires[wire].id;
    world.hub.receive(world.now, id, &mut b"a\nb\nc".to_vec());
    world.wires[wire].rest = b"\nd\n".to_vec();
    world.hub.failed(world.now, id);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(
        world.hub.handler().abandoned,
        [(id, "b\nc\nd\n".to_owned())]
    );
}

/// It has nothing of it, however much that is.
#[test]
fn not_all_that_a_client_that_has_gone_has_sent_is_read() {
    let mut world = World::plain();
    let wire = world.connect();
    let id = world.wires[wire].id;
    let sent = 10 * Bounds::REST_BYTES_MAX;
    world.wires[wire].rest = vec![b'x'; sent];
    world.hub.failed(world.now, id);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    let rest = world.wires[wire].rest.len();
    assert_eq!(sent - rest, Bounds::REST_BYTES_MAX);
}

/// It may still matter to others.
#[test]
fn what_a_client_that_has_gone_has_asked_for_is_shown() {
    let mut world = World::plain();
    let wire = world.connect();
    let id = world.wires[wire].id;
    world
        .hub
        .receive(world.now, id, &mut b"a\nb\nc\nhalf".to_vec());
    world.hub.failed(world.now, id);
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    let handler = world.hub.handler();
    assert_eq!(handler.abandoned, [(id, "b\nc\nhalf".to_owned())]);
    assert_eq!(handler.closed, [(id, Closed::ByClient)]);
}

/// What follows the last request of a connection is none.
#[test]
fn what_comes_behind_a_last_request_is_not_shown() {
    // Whether the client takes the last answer, or goes before.
    for (room, why) in [(usize::MAX, Closed::BySession), (0, Closed::ByClient)] {
        let mut world = World::plain();
        let wire = world.connect();
        world.wires[wire].room = room;
        world.receive(wire, b"quit\nb\n");
        let id = world.wires[wire].id;
        world.hub.failed(world.now, id);
        world.finish();
        let handler = world.hub.handler();
        assert_eq!(handler.closed, [(id, why)]);
        assert!(handler.abandoned.is_empty());
    }
}

#[test]
fn a_burst_is_answered_whole_before_the_end_of_tls() {
    let pki = Pki::new();
    let mut world = tls::world(&pki.load().unwrap());
    for version in [&TLS12, &TLS13] {
        for (count, rounds) in BURSTS
            .into_iter()
            .flat_map(|it| [(it, 0), (it, 1), (it, 3)])
        {
            let mut client = Client::connect(&mut world, &pki.client(&[version]));
            client.talk(&mut world).unwrap();
            let burst = "a\n".repeat(count);
            client.session.writer().write_all(burst.as_bytes()).unwrap();
            let (id, mut records) = (world.wires[client.wire].id, Vec::new());
            client.session.write_tls(&mut records).unwrap();
            world.hub.receive(world.now, id, &mut records);
            for _ in 0..rounds {
                world.hub.finish(world.now);
            }
            client.session.send_close_notify();
            client.talk(&mut world).unwrap();
            assert_eq!(client.received(), "A\n".repeat(count));
            assert!(client.has_ended);
            assert_eq!(world.state(client.wire), IoAction::Close);
        }
    }
}

proptest! {
    /// However the network cuts the bytes, whatever comes in one round, and however the client
    /// reads: each request is answered, and then the connection ends.
    #[test]
    fn the_end_is_always_last(
        lines in prop::collection::vec("[a-z]{0,9}|flood [0-9]{1,4}", 0..60),
        cuts in prop::collection::vec((1..400_usize, 0..3), 1..20),
        room in prop_oneof![Just(usize::MAX), 0..20_000_usize],
    ) {
        let mut world = World::plain();
        let wire = world.connect();
        world.wires[wire].room = room;
        let id = world.wires[wire].id;
        let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut rest = input.as_bytes();
        for (cut, rounds) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            if !world.hub.wants_input(id) {
                world.finish();
                world.make_room(wire, if room == usize::MAX { 0 } else { 1_000 });
                continue;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            world.hub.receive(world.now, id, &mut now.to_vec());
            for _ in 0..*rounds {
                world.hub.finish(world.now);
            }
            rest = later;
        }
        world.end_input(wire);
        for _ in 0..1_000 {
            if world.state(wire) == IoAction::Close {
                break;
            }
            world.make_room(wire, if room == usize::MAX { 0 } else { 1_000 });
        }
        let answers: Vec<_> = lines.iter().map(|line| line.to_uppercase()).collect();
        let sent = world.sent(wire).replace('x', "");
        prop_assert_eq!(sent.lines().collect::<Vec<_>>(), answers);
        prop_assert_eq!(world.state(wire), IoAction::Close);
    }
}
