//! Bytes in, bytes out, and what happens when one side does not keep up.

use aquatic_daemon::counter::Label;
use aquatic_stream::{Bounds, Closed, IoAction, READ_CHUNK_BYTES, TrustedProxies};
use proptest::prelude::*;

use crate::world::{BOUNDS, World, options};

const HEADER: &str = "PROXY TCP4 198.51.100.7 192.0.2.9 4711 443\r\n";

#[test]
fn requests_are_answered_in_order() {
    let mut world = World::plain();
    let wire = world.connect();
    world.receive(wire, b"a\nb");
    assert_eq!(world.sent(wire), "A\n");
    world.receive(wire, b"b\nc\nd\n");
    assert_eq!(world.sent(wire), "A\nBB\nC\nD\n");
    assert_eq!(world.state(wire), IoAction::Read);
    assert!(world.hub.handler().closed.is_empty());
}

proptest! {
    /// However the network cuts the bytes, and whatever it delivers together, the answers are the
    /// same.
    #[test]
    fn any_split_has_the_same_answers(
        lines in prop::collection::vec("[a-z]{0,40}", 0..60),
        cuts in prop::collection::vec(1..300_usize, 1..20),
        has_header: bool,
    ) {
        let mut options = options();
        options.proxies = has_header.then(TrustedProxies::default);
        let mut world = World::new(options);
        let wire = world.connect();
        let mut input = if has_header { HEADER.to_owned() } else { String::new() };
        let mut expected = String::new();
        for line in &lines {
            input += &format!("{line}\n");
            expected += &format!("{}\n", line.to_uppercase());
        }
        let mut rest = input.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            world.receive(wire, now);
            rest = later;
        }
        prop_assert_eq!(world.sent(wire), expected);
    }
}

#[test]
fn a_burst_of_requests_is_answered_whole() {
    let mut world = World::plain();
    let wire = world.connect();
    // More than the rounds of one batch.
    world.receive(wire, "ping\n".repeat(500).as_bytes());
    assert_eq!(world.sent(wire), "PING\n".repeat(500));
}

#[test]
fn what_a_busy_session_does_not_take_stops_the_reading() {
    let mut world = World::plain();
    let wire = world.connect();
    world.hub.handler_mut().is_stuck = true;
    let id = world.wires[wire].id;
    let mut kept = 0;
    while world.hub.wants_input(id) {
        world.receive(wire, b"twelve bytes\n");
        kept += 13;
    }
    assert!((BOUNDS.input_bytes_max..BOUNDS.input_bytes_max + READ_CHUNK_BYTES).contains(&kept));
    assert_eq!(world.sent(wire), "");

    world.hub.handler_mut().is_stuck = false;
    world.finish();
    assert_eq!(world.sent(wire), "TWELVE BYTES\n".repeat(kept / 13));
    assert_eq!(world.state(wire), IoAction::Read);
}

/// The loop is told when there is room again, also if there is nothing to be sent: it may have
/// stopped reading, and the client may wait for that with all the rest.
#[test]
fn what_is_taken_in_silence_lets_reading_go_on() {
    let mut world = World::plain();
    let wire = world.connect();
    world.hub.handler_mut().is_stuck = true;
    let id = world.wires[wire].id;
    while world.hub.wants_input(id) {
        world.receive(wire, b"hush\n");
    }
    world.wires[wire].state = IoAction::DoNotRead;
    world.hub.handler_mut().is_stuck = false;
    world.finish();
    assert_eq!(world.state(wire), IoAction::Read);
    assert_eq!(world.sent(wire), "");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 10;
    // Each answer is half of what stops the reading, which is a quarter of the bound.
    let request = format!("flood {}\n", BOUNDS.output_bytes_max / 8);
    world.receive(wire, request.repeat(20).as_bytes());
    assert_eq!(world.state(wire), IoAction::DoNotRead);
    assert_eq!(world.wires[wire].sent.len(), 10);
    let id = world.wires[wire].id;
    let waiting = world.hub.output(id).len();
    assert!(waiting < BOUNDS.output_bytes_max / 2, "{waiting}");

    for _ in 0..1_000 {
        world.make_room(wire, 1_000);
    }
    let sent = world.sent(wire);
    assert_eq!(sent.matches("FLOOD").count(), 20, "all are answered");
    assert_eq!(world.state(wire), IoAction::Read);
}

#[test]
fn a_client_to_which_too_much_is_to_be_sent_is_closed() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 0;
    let id = world.wires[wire].id;
    for _ in 0..50 {
        world.hub.handler_mut().pushes.push((id, vec![b'x'; 1_000]));
        world.finish();
    }
    assert_eq!(world.state(wire), IoAction::Reset);
    assert_eq!(world.hub.handler().pushed, 41, "the last one is too much");
    assert_eq!(world.hub.handler().closed, [(id, Closed::OutputFull)]);
    assert_eq!(world.counters.active.v4.get(), 0);
}

#[test]
fn names_of_closed_connections_reach_nobody() {
    let mut world = World::plain();
    let first = world.connect();
    let old = world.wires[first].id;
    world.receive(first, b"quit\n");
    assert_eq!(world.sent(first), "QUIT\n");
    assert_eq!(world.state(first), IoAction::Close);
    assert_eq!(world.hub.handler().closed, [(old, Closed::BySession)]);

    let second = world.connect();
    let new = world.wires[second].id;
    assert_ne!(old, new);
    world.hub.handler_mut().pushes = vec![(old, b"old".to_vec()), (new, b"new".to_vec())];
    world.finish();
    assert_eq!(world.sent(second), "new");
    assert_eq!(world.hub.handler().pushed, 1);
    assert!(world.hub.output(old).is_empty());
    world.hub.receive(world.now, old, &mut b"a\n".to_vec());
    world.hub.failed(world.now, old);
    world.hub.read_ended(world.now, old);
    world.finish();
    assert_eq!(world.sent(second), "new");
    assert_eq!(world.state(second), IoAction::Read);
}

#[test]
fn a_client_that_has_finished_gets_all_its_answers() {
    let mut world = World::plain();
    let wire = world.connect();
    let id = world.wires[wire].id;
    world
        .hub
        .receive(world.now, id, &mut b"a\nb\nc\nincomplete".to_vec());
    world.end_input(wire);
    assert_eq!(world.sent(wire), "A\nB\nC\n");
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(world.hub.handler().closed, [(id, Closed::BySession)]);

    let idle = world.connect();
    world.end_input(idle);
    assert_eq!(world.state(idle), IoAction::Close);
}

#[test]
fn answers_outlive_bytes_that_nobody_wants() {
    let mut world = World::plain();
    let wire = world.connect();
    world.receive(wire, b"quit\nand more");
    assert_eq!(world.sent(wire), "QUIT\n");
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    assert_eq!(world.hub.handler().closed.len(), 1, "the session has gone");
    assert_eq!(world.counters.active.v4.get(), 1, "the connection has not");
    world.receive(wire, b"and more");
    assert!(world.hub.wants_input(world.wires[wire].id));
    world.end_input(wire);
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(world.counters.active.v4.get(), 0);
    assert_eq!(world.counters.closed.of(Closed::BySession).get(), 1);

    // The same if the bytes are still in the socket.
    let wire = world.connect();
    world.wires[wire].has_unread = true;
    world.receive(wire, b"quit\n");
    assert_eq!(world.state(wire), IoAction::CloseSendingHalf);
    world.pass(4);
    assert_eq!(world.state(wire), IoAction::Close, "its patience is short");
}

#[test]
fn a_client_that_does_not_stop_sending_is_cut_off() {
    let mut world = World::plain();
    let wire = world.connect();
    world.receive(wire, b"quit\nand more");
    let mut read = 0;
    while world.hub.wants_input(world.wires[wire].id) {
        // As fast as a loop reads, before it asks.
        let piece = vec![b'x'; READ_CHUNK_BYTES];
        read += piece.len();
        let id = world.wires[wire].id;
        world.hub.receive(world.now, id, &mut piece.clone());
    }
    world.finish();
    assert_eq!(world.state(wire), IoAction::Close);
    assert_eq!(read, Bounds::LINGER_BYTES_MAX);
    assert_eq!(world.counters.active.v4.get(), 0);
}

#[test]
fn a_failure_ends_a_connection_in_every_stage() {
    let mut options = options();
    options.proxies = Some(TrustedProxies::default());
    let mut world = World::new(options);
    for bytes in [
        "",
        "PROXY",
        HEADER,
        "PROXY UNKNOWN\r\na",
        "PROXY UNKNOWN\r\na\n",
    ] {
        let wire = world.connect();
        world.receive(wire, bytes.as_bytes());
        world.hub.failed(world.now, world.wires[wire].id);
        world.finish();
        assert_eq!(world.state(wire), IoAction::Close, "{bytes}");
    }
    assert_eq!(world.counters.closed.of(Closed::ByClient).get(), 5);
    assert_eq!(world.hub.handler().closed.len(), 3);
    let all: u64 = world.counters.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(all, 5, "of {} reasons", Closed::ALL.len());
}

/// Others go on sending to it, so that there is always something for it to read.
#[test]
fn a_client_is_heard_as_soon_as_it_has_read_most() {
    let mut world = World::plain();
    let wire = world.connect();
    world.wires[wire].room = 0;
    world.receive(wire, b"flood 20000\n");
    world.receive(wire, b"a\n");
    world.make_room(wire, 11_000);
    let id = world.wires[wire].id;
    world
        .hub
        .handler_mut()
        .pushes
        .push((id, b"pushed".to_vec()));
    world.finish();
    world.make_room(wire, usize::MAX);
    let sent = world.sent(wire);
    assert!(sent.ends_with("A\npushed"), "{}", &sent[20_000..]);
}
