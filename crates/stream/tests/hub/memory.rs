//! What all connections hold together.

use aquatic_stream::{Bounds, Closed, IoAction, TrustedProxies};
use proptest::prelude::*;

use crate::world::{BOUNDS, KERNEL, LIGHT, World, options};

fn world(memory_max: usize, bounds: Bounds) -> World {
    let mut options = options();
    options.memory_max = memory_max;
    options.bounds = bounds;
    World::new(options)
}

/// As those of a WebSocket.
const LARGE: Bounds = Bounds {
    input_bytes_max: 64 * 1024,
    output_bytes_max: 256 * 1024,
    ..BOUNDS
};

fn dismissed(world: &World) -> u64 {
    world.counters.closed.of(Closed::Memory).get()
}

/// A client with small requests is served.
fn assert_serves(world: &mut World, wire: usize) {
    let before = world.sent(wire).len();
    world.receive(wire, b"hel");
    world.receive(wire, b"lo\n");
    assert_eq!(&world.sent(wire)[before..], "HELLO\n");
    assert_eq!(world.state(wire), IoAction::Read);
}

#[test]
fn unfinished_requests_of_all_are_bounded() {
    const MAX: usize = 1_000_000;
    let mut world = world(MAX, LARGE);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    let mut sent = 0;
    for port in 1..=2_000 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        let id = world.wires[wire].id;
        while world.hub.wants_input(id) {
            world.receive(wire, &[b'x'; 16_000]);
            sent += 16_000;
            assert!(world.hub.held_bytes() <= MAX, "{}", world.hub.held_bytes());
        }
        if port % 100 == 0 {
            world.pass(1);
            assert_serves(&mut world, honest);
        }
    }
    assert!(sent > 20 * MAX, "{sent}");
    assert!(dismissed(&world) > 100);
}

#[test]
fn what_clients_do_not_read_is_bounded() {
    const MAX: usize = 4_000_000;
    let mut world = world(MAX, LARGE);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    for port in 1..=500 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.wires[wire].room = 0;
        world.receive(wire, b"flood 60000\nflood 60000\n");
        assert!(world.hub.held_bytes() <= MAX, "{}", world.hub.held_bytes());
        assert_serves(&mut world, honest);
    }
    // Each counts for what the kernel may keep, too.
    let (held_min, left) = (120_000 + KERNEL, world.hub.held_bytes());
    assert!(dismissed(&world) >= 500 - u64::try_from(MAX / held_min).unwrap());
    assert!(left > MAX / 2, "no more than necessary are closed: {left}");
}

/// What the client has not read may be with the kernel as a whole. That it sends something does not
/// mean that it reads.
#[test]
fn what_is_written_counts_whatever_the_client_sends() {
    let mut world = World::plain();
    let wire = world.connect();
    for number in 1..10 {
        let id = world.wires[wire].id;
        world.hub.handler_mut().pushes.push((id, vec![0; 20_000]));
        world.finish();
        world.receive(wire, b"I am still here");
        let [(held, at_most), _] = world.hub.accounts();
        assert_eq!(at_most - held, (20_000 * number).min(KERNEL));
    }
    assert_eq!(world.asked, 0, "there is room enough");
}

/// Some messages cost nothing, however many there are.
#[test]
fn nobody_asks_the_kernel_in_peace() {
    let mut world = world(1_000_000, LARGE);
    for port in 1..=2_000 {
        let wire = world.connect_from(&format!("192.0.2.9:{port}")).unwrap();
        world.receive(wire, b"flood 3000\n");
    }
    assert_eq!(world.asked, 0);
    // Once for some KiB that are written to those who read.
    for _ in 0..10 {
        for wire in 0..2_000 {
            world.receive(wire, b"flood 1000\n");
        }
    }
    assert!(world.asked > 0);
    assert!(world.asked < 2_000 * 13_000 / 4_096, "{}", world.asked);
    assert_eq!(dismissed(&world), 0);
}

#[test]
fn who_goes_on_sending_and_does_not_read_is_bounded() {
    const MAX: usize = 4_000_000;
    let mut world = world(MAX, LARGE);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    for port in 1..=200 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.wires[wire].leaves = true;
        world.receive(wire, b"flood 60000\nflood 60000\n");
        world.receive(wire, b"G");
        world.finish();
        assert!(world.kernel_bytes() <= MAX, "{}", world.kernel_bytes());
        assert_serves(&mut world, honest);
    }
    assert!(dismissed(&world) >= 160, "{}", dismissed(&world));
}

/// Nor is it kept waiting.
#[test]
fn who_reads_what_it_is_sent_is_not_closed_for_what_others_hold() {
    let mut world = world(4_000_000, LARGE);
    let mut readers = Vec::new();
    for last in 1..=40 {
        let wire = world.connect_from(&format!("192.0.2.{last}:1")).unwrap();
        world.receive(wire, b"a\n");
        readers.push(wire);
    }
    for round in 0..3 {
        for reader in readers.iter().flat_map(|reader| [reader; 3]) {
            let id = world.wires[*reader].id;
            world.hub.handler_mut().pushes.push((id, vec![0; 60_000]));
            world.finish();
        }
        for last in 1..=60 {
            let peer = format!("198.51.{round}.{last}:1");
            let wire = world.connect_from(&peer).unwrap();
            world.receive(wire, b"hold 100000\n");
        }
        world.pass(3);
    }
    assert!(dismissed(&world) > 100);
    for reader in readers {
        assert_eq!(world.state(reader), IoAction::Read);
        assert_serves(&mut world, reader);
    }
}

/// Who is not read from may go on sending: to the kernel.
#[test]
fn what_is_left_unread_is_bounded() {
    const MAX: usize = 2_000_000;
    let bounds = Bounds {
        request_seconds: 10_000,
        ..LARGE
    };
    let mut world = world(MAX, bounds);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    let mut left = 0;
    for port in 1..=600 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.receive(wire, &[b'x'; 5_000]);
        let id = world.wires[wire].id;
        if !world.hub.wants_input(id) {
            world.wires[wire].unread = KERNEL;
            world.hub.leave_unread(world.now, id);
            left += 1;
        }
        world.pass_micros(250_000);
        assert!(world.kernel_bytes() <= MAX, "{}", world.kernel_bytes());
        assert_serves(&mut world, honest);
    }
    assert!(left > 100, "{left}");
    assert!(dismissed(&world) > 100);
}

/// Nobody is sent anything, and the connections themselves hold little.
#[test]
fn what_busy_sessions_leave_unread_is_bounded() {
    const MAX: usize = 4_000_000;
    let mut world = world(MAX, BOUNDS);
    world.hub.handler_mut().is_stuck = true;
    for port in 1..=100 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.receive(wire, &[&b"a\n"[..], &[b'x'; 2_000]].concat());
        let id = world.wires[wire].id;
        assert!(!world.hub.wants_input(id));
        world.wires[wire].unread = KERNEL;
        world.hub.leave_unread(world.now, id);
        world.pass_micros(250_000);
        assert!(world.kernel_bytes() <= MAX, "{}", world.kernel_bytes());
    }
    assert!(dismissed(&world) > 50);
}

/// When the kernel has taken all of it, it may still have it.
#[test]
fn what_has_waited_for_a_client_counts_until_that_has_read_it() {
    const MAX: usize = 4_000_000;
    let mut world = world(MAX, LARGE);
    for port in 1..=100 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        (world.wires[wire].room, world.wires[wire].leaves) = (0, true);
        world.receive(wire, b"flood 50000\n");
        world.make_room(wire, usize::MAX);
        world.pass_micros(250_000);
        assert!(world.kernel_bytes() <= MAX, "{}", world.kernel_bytes());
    }
    assert!(dismissed(&world) > 10);
}

/// The kernel is asked again what it keeps as long as memory is tight: clients may have read it.
#[test]
fn what_clients_have_read_meanwhile_does_not_count() {
    const CLIENTS: usize = 10;
    const TIGHT: usize = CLIENTS * KERNEL / 4 * 3;
    let mut world = world(CLIENTS * KERNEL, LARGE);
    for _ in 0..CLIENTS {
        let wire = world.connect();
        world.wires[wire].leaves = true;
        world.receive(wire, b"flood 100000\n");
    }
    world.pass_micros(250_000);
    assert!(world.hub.held_bytes() > TIGHT);
    for wire in &mut world.wires {
        wire.leaves = false;
    }
    world.pass_micros(250_000);
    let held = world.hub.held_bytes();
    assert!(held <= TIGHT, "{held}");
    assert_eq!(dismissed(&world), 0);
}

/// Before anybody has to go, what is kept for the next ones does.
#[test]
fn nobody_is_closed_for_buffers_without_connections() {
    const MAX: usize = 200_000;
    let mut world = world(MAX, LARGE);
    for _ in 0..2 {
        let wire = world.connect();
        let (now, id) = (world.now, world.wires[wire].id);
        world.hub.receive(now, id, &mut b"flood 30000\n".to_vec());
    }
    world.finish();
    assert!(world.hub.held_bytes() > MAX / 2, "they are kept");
    let wire = world.connect();
    for _ in 0..4 {
        world.receive(wire, &[b'x'; 16_000]);
    }
    assert_eq!(dismissed(&world), 0);
    let held = world.hub.held_bytes();
    assert!((60_000..MAX / 2).contains(&held), "{held}");
}

/// Buffers go round, and the last one to have this one has sent much.
#[test]
fn a_small_answer_that_waits_keeps_no_large_buffer() {
    let mut world = world(usize::MAX, LARGE);
    let (reader, deaf) = (world.connect(), world.connect());
    world.receive(reader, b"flood 30000\n");
    world.wires[deaf].room = 0;
    world.receive(deaf, b"a\n");
    let held = world.hub.held_bytes();
    assert!(held <= KERNEL + 5 * 1024, "{held}");
}

/// Without its being asked, and no longer than the client does not read.
#[test]
fn what_the_kernel_keeps_for_a_client_that_does_not_read_counts() {
    let mut world = world(usize::MAX, LARGE);
    let wire = world.connect();
    world.wires[wire].room = 0;
    world.receive(wire, b"flood 3000\n");
    let held = world.hub.held_bytes();
    assert!((KERNEL..KERNEL + KERNEL / 2).contains(&held), "{held}");
    world.receive(wire, b"flood 70000\n");
    assert!(!world.hub.wants_input(world.wires[wire].id));
    let held = world.hub.held_bytes();
    assert!(held >= KERNEL + 73_000, "{held}");
    world.make_room(wire, usize::MAX);
    world.receive(wire, b"a\n");
    let held = world.hub.held_bytes();
    assert!(held < KERNEL, "it has read everything: {held}");
}

#[test]
fn what_sessions_hold_counts() {
    let mut world = world(1_000_000, BOUNDS);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    for port in 1..=100 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.receive(wire, b"hold 50000\n");
        assert!(world.hub.held_bytes() <= 1_000_000);
        assert_serves(&mut world, honest);
    }
    assert!(dismissed(&world) >= 80);
}

/// First it is the client with most, and of its connections the one with most. Who holds nothing
/// never gives way.
#[test]
fn whoever_holds_most_gives_way() {
    let mut world = world(1_000_000, BOUNDS);
    let mut hold = |peer: &str, bytes: usize| {
        let wire = world.connect_from(peer).unwrap();
        world.receive(wire, format!("hold {bytes}\n").as_bytes());
        wire
    };
    let idle = hold("192.0.2.99:1", 0);
    let small = hold("192.0.2.99:2", 100_000);
    let large = hold("192.0.2.99:3", 300_000);
    let other = hold("192.0.2.98:1", 350_000);
    let last = hold("192.0.2.97:1", 200_000);
    assert_eq!(world.state(large), IoAction::Reset);
    for wire in [idle, small, other, last] {
        assert_eq!(world.state(wire), IoAction::Read);
    }
    let why = world.hub.handler().closed.iter().map(|(_, why)| *why);
    assert_eq!(why.collect::<Vec<_>>(), [Closed::Memory]);
}

/// Before anybody is closed, those who hold much are not read from; and they are read from again
/// when there is room.
#[test]
fn who_holds_much_is_not_read_from_while_memory_is_tight() {
    let mut world = world(1_000_000, LARGE);
    let much = world.connect_from("192.0.2.1:1").unwrap();
    world.receive(much, &[b'x'; 40_000]);
    let little = world.connect_from("192.0.2.2:1").unwrap();
    world.receive(little, &[b'x'; 2_000]);
    let hog = world.connect_from("192.0.2.99:1").unwrap();
    let [much_id, little_id] = [much, little].map(|wire| world.wires[wire].id);
    assert!(world.hub.wants_input(much_id));
    for port in 1..=20 {
        let wire = world.connect_from(&format!("192.0.2.50:{port}")).unwrap();
        world.receive(wire, b"hold 1000\n");
    }
    world.receive(hog, b"hold 770000\n");
    assert!(!world.hub.wants_input(much_id));
    world.hub.leave_unread(world.now, much_id);
    assert!(world.hub.wants_input(little_id));
    let other = world.connect_from("192.0.2.3:1").unwrap();
    assert_serves(&mut world, other);
    world.wires[much].state = IoAction::DoNotRead;
    world.hub.failed(world.now, world.wires[hog].id);
    world.finish();
    world.finish();
    assert_eq!(world.state(much), IoAction::Read);
    assert!(world.hub.wants_input(much_id));
    assert_eq!(dismissed(&world), 0);
}

/// Nobody waits for longer than a second for those who do nothing with what they hold.
#[test]
fn who_is_not_read_from_does_not_wait_for_long() {
    let mut world = world(1_000_000, LARGE);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    world.receive(honest, &[b'x'; 40_000]);
    for port in 1..=8 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.receive(wire, b"hold 100000\n");
    }
    assert_eq!(dismissed(&world), 0);
    let id = world.wires[honest].id;
    assert!(!world.hub.wants_input(id));
    world.hub.leave_unread(world.now, id);
    world.wires[honest].state = IoAction::DoNotRead;
    // It has nothing to send.
    world.pass(10);
    assert_eq!(dismissed(&world), 0);
    world.wires[honest].unread = 1_000;
    world.pass(2);
    assert!(dismissed(&world) > 0);
    assert_eq!(world.state(honest), IoAction::Read);
    assert!(world.hub.wants_input(id));
    world.receive(honest, b"\n");
    assert!(world.sent(honest).ends_with("X\n"));
}

/// What came once does not keep anybody waiting: neither itself nor others.
#[test]
fn who_holds_little_again_is_read_from_again() {
    let mut world = world(1_000_000, LARGE);
    let honest = world.connect_from("192.0.2.1:1").unwrap();
    world.receive(honest, b"hold 60000\n");
    for port in 1..=20 {
        let wire = world.connect_from(&format!("192.0.2.50:{port}")).unwrap();
        world.receive(wire, b"hold 1000\n");
    }
    let hog = world.connect_from("192.0.2.99:1").unwrap();
    world.receive(hog, b"hold 760000\n");
    let id = world.wires[honest].id;
    assert!(!world.hub.wants_input(id));
    world.hub.leave_unread(world.now, id);
    world.wires[honest].state = IoAction::DoNotRead;
    world.wires[honest].unread = 1_000;
    world.pass(1);
    assert!(!world.hub.wants_input(id));
    // It was on its way already.
    world.receive(honest, b"hold 0\n");
    world.pass(5);
    assert_eq!(world.state(honest), IoAction::Read);
    assert_eq!(dismissed(&world), 0);
}

/// An answer that its client reads slowly is read to the end, whatever others hold.
#[test]
fn who_lingers_is_read_from() {
    let mut world = world(4_000_000, LARGE);
    for port in 1..=20 {
        let wire = world.connect_from(&format!("192.0.2.50:{port}")).unwrap();
        world.receive(wire, b"hold 1000\n");
    }
    let hog = world.connect_from("192.0.2.99:1").unwrap();
    world.receive(hog, b"hold 3050000\n");
    let slow = world.connect_from("192.0.2.1:1").unwrap();
    world.wires[slow].room = 1_000;
    world.receive(slow, b"flood 9000\nquit\n");
    world.wires[slow].has_unread = true;
    world.make_room(slow, 20_000);
    assert_eq!(world.state(slow), IoAction::CloseSendingHalf);
    assert!(world.hub.wants_input(world.wires[slow].id));
    assert_eq!(dismissed(&world), 0);
}

/// One round up to where answers are to be sent, in which so many clients get short ones, and all
/// others are to hold much. Returns what is held and what of it is not counted.
fn answer_all(world: &mut World, clients: usize) -> (usize, usize) {
    for (place, wire) in world.wires.iter().enumerate() {
        let line = if place < clients {
            "flood 1000\n"
        } else {
            "hold 1000000\n"
        };
        let mut bytes = line.as_bytes().to_vec();
        world.hub.receive(world.now, wire.id, &mut bytes);
    }
    world.hub.finish(world.now);
    world.check_account();
    let [_, (held, _)] = world.hub.accounts();
    (held, world.hub.uncounted_bytes())
}

#[test]
fn what_is_not_counted_in_time_is_little() {
    const CLIENTS: usize = 1_000;
    const HOGS: usize = 40;
    const MAX: usize = 16 * (CLIENTS + HOGS) * LIGHT;
    let mut world = world(MAX, LARGE);
    for port in 1..=CLIENTS {
        world.connect_from(&format!("192.0.2.9:{port}")).unwrap();
    }
    let (_, uncounted) = answer_all(&mut world, CLIENTS);
    assert!(
        (1_000 * CLIENTS..=MAX / 16).contains(&uncounted),
        "{uncounted}"
    );
    world.finish();
    // Those who hold much do not exceed the bound with it in the same round.
    for port in 1..=HOGS {
        world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
    }
    let (held, uncounted) = answer_all(&mut world, CLIENTS);
    assert!(uncounted > 0 && held <= MAX, "{uncounted}, {held}");
    world.finish();
    assert!(dismissed(&world) > 10);
    let (_, uncounted) = answer_all(&mut world, CLIENTS);
    assert_eq!(uncounted, 0, "much is held");
}

#[test]
fn everything_is_counted_at_once_if_little_of_many_would_be_much() {
    const CLIENTS: usize = 1_001;
    let mut world = world(16 * (CLIENTS - 1) * LIGHT, LARGE);
    for port in 1..=CLIENTS {
        world.connect_from(&format!("192.0.2.9:{port}")).unwrap();
    }
    let (_, uncounted) = answer_all(&mut world, CLIENTS);
    assert_eq!(uncounted, 0);
}

/// However much room there is.
#[test]
fn only_short_answers_that_are_sent_at_once_are_left_out() {
    let mut world = World::plain();
    let (reader, deaf) = (world.connect(), world.connect());
    world.finish();
    world.wires[deaf].room = 0;
    world.receive(deaf, b"a\n");
    assert!(world.hub.held_bytes() > KERNEL, "it is not sent");

    let other = world.connect();
    let written = |world: &World| {
        let [(held, at_most), _] = world.hub.accounts();
        at_most - held
    };
    let before = written(&world);
    for _ in 0..10 {
        world.receive(other, b"flood 990\n");
    }
    assert_eq!(written(&world) - before, 10_000, "the kernel may keep it");

    let (now, id) = (world.now, world.wires[reader].id);
    world.hub.receive(now, id, &mut b"flood 3000\n".to_vec());
    world.hub.finish(now);
    assert_eq!(world.hub.uncounted_bytes(), 0, "it is not short");
    world.finish();
}

proptest! {
    /// Whatever happens, what is held is known and within the bound.
    #[test]
    fn what_is_held_is_known_and_bounded(
        steps in prop::collection::vec((0..10_u8, 0..12_usize, 0..60_000_usize), 1..200),
        memory_max in prop_oneof![Just(usize::MAX), 900_000..3_000_000_usize],
        has_header: bool,
    ) {
        let mut options = options();
        options.memory_max = memory_max;
        options.bounds = LARGE;
        options.proxies = has_header.then(TrustedProxies::default);
        let mut world = World::new(options);
        for (step, wire, bytes) in steps {
            if world.wires.len() <= wire {
                let peer = format!("192.0.2.{}:{}", wire % 3 + 1, wire + 1);
                world.connect_from(&peer).unwrap();
            }
            let wire = wire.min(world.wires.len() - 1);
            let id = world.wires[wire].id;
            match step {
                0..3 if world.hub.wants_input(id) => {
                    let piece = vec![b'x'; bytes.min(16_384)];
                    world.receive(wire, &piece);
                }
                3 => world.receive(wire, format!("PROXY UNKNOWN\r\nhold {bytes}\n").as_bytes()),
                4 => world.receive(wire, format!("\nflood {bytes}\n").as_bytes()),
                5 => world.wires[wire].room = bytes,
                6 => world.make_room(wire, bytes),
                7 => world.hub.handler_mut().pushes.push((id, vec![0; bytes])),
                8 if bytes < 6_000 => world.hub.failed(world.now, id),
                8 if bytes < 9_000 => world.end_input(wire),
                8 if bytes < 12_000 => world.receive(wire, b"\nquit\n"),
                9 => world.pass(u64::try_from(bytes / 6_000).unwrap()),
                _ => world.finish(),
            }
            world.check_account();
            prop_assert!(world.hub.held_bytes() <= memory_max);
        }
    }
}
