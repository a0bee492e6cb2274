//! What all connections hold together.

use aquatic_stream::{Bounds, Closed, Settled, TrustedProxies};
use proptest::prelude::*;

use crate::world::{BOUNDS, World, options};

/// What the kernel may keep for one direction of a connection.
const KERNEL: usize = 128 * 1024;

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
    assert_eq!(world.state(wire), Settled::Read);
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

/// What the client has not read may be with the kernel as a whole.
#[test]
fn what_is_written_counts_until_the_client_is_heard() {
    let mut world = World::plain();
    let wire = world.connect();
    let held = |world: &World| world.hub.held_bytes();
    world.receive(wire, b"flood 3000\n");
    let buffers = held(&world);
    for number in 1..10 {
        let id = world.wires[wire].id;
        world.hub.handler_mut().pushes.push((id, vec![0; 20_000]));
        world.finish();
        let written = (3_006 + 20_000 * number).min(KERNEL);
        assert!(held(&world) >= written, "{} of {written}", held(&world));
        assert!(held(&world) <= written + buffers + 64 * 1024);
    }
    world.receive(wire, b"I am still here");
    assert!(held(&world) <= buffers + 64 * 1024 + 15);
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
    assert_eq!(world.state(large), Settled::Reset);
    for wire in [idle, small, other, last] {
        assert_eq!(world.state(wire), Settled::Read);
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
    assert!(world.hub.wants_input(little_id));
    let other = world.connect_from("192.0.2.3:1").unwrap();
    assert_serves(&mut world, other);
    world.wires[much].state = Settled::DoNotRead;
    world.hub.failed(world.now, world.wires[hog].id);
    world.finish();
    world.finish();
    assert_eq!(world.state(much), Settled::Read);
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
    world.wires[honest].state = Settled::DoNotRead;
    world.pass(2);
    assert!(dismissed(&world) > 0);
    assert_eq!(world.state(honest), Settled::Read);
    assert!(world.hub.wants_input(id));
    world.receive(honest, b"\n");
    assert!(world.sent(honest).ends_with("X\n"));
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
