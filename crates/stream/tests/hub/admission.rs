//! Who may connect.

use std::num::NonZeroU32;
use std::sync::Arc;

use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::{Admission, Closed, IoAction, Refused, TrustedProxies};

use crate::world::{World, options};

fn world(connections: usize, per_client: usize, proxies: Option<&str>) -> World {
    let mut options = options();
    options.admission = Arc::new(Admission::new(connections, per_client));
    options.proxies = proxies.map(|network| TrustedProxies::new(vec![network.parse().unwrap()]));
    World::new(options)
}

#[test]
fn the_number_of_connections_is_bounded() {
    for stays_idle in [false, true] {
        connections_that_wait_for_us_do_not_give_way(stays_idle);
    }
}

fn connections_that_wait_for_us_do_not_give_way(stays_idle: bool) {
    let mut world = world(3, 0, None);
    world.hub.handler_mut().is_stuck = true;
    world.hub.handler_mut().stays_idle = stays_idle;
    for _ in 0..3 {
        let wire = world.connect();
        world.receive(wire, b"a\n");
    }
    // All of them wait for us.
    assert_eq!(world.connect_from("192.0.2.9:1"), Err(Refused::TooMany));
    assert_eq!(world.counters.refused.of(Refused::TooMany).get(), 1);
    world.hub.handler_mut().is_stuck = false;
    world.receive(1, b"quit\n");
    world.connect();
    assert_eq!(world.counters.active.v4.get(), 3);
    assert_eq!(world.counters.accepted.v4.get(), 4);
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 0);
}

/// A connection that has sent a request and has got the answer.
fn idle_from(world: &mut World, peer: &str) -> usize {
    let wire = world.connect_from(peer).unwrap();
    world.receive(wire, b"a\n");
    assert_eq!(world.sent(wire), "A\n", "{peer}");
    wire
}

#[test]
fn one_client_with_all_connections_gives_way_to_others() {
    let mut world = world(100, 0, None);
    let mut honest = vec![idle_from(&mut world, "192.0.2.1:1")];
    let greedy: Vec<usize> = (1..=99)
        .map(|port| {
            world.pass(u64::from(port % 10 == 0));
            idle_from(&mut world, &format!("192.0.2.99:{port}"))
        })
        .collect();
    for last in 2..=40 {
        honest.push(idle_from(&mut world, &format!("192.0.2.{last}:1")));
        assert_eq!(world.counters.active.v4.get(), 100);
    }
    for wire in honest {
        assert_eq!(world.state(wire), IoAction::Read);
        world.receive(wire, b"b\n");
        assert_eq!(world.sent(wire), "A\nB\n");
    }
    // Those that have been idle for longest.
    let states = greedy.iter().map(|wire| world.state(*wire));
    let closed = states.take_while(|state| *state == IoAction::Close).count();
    assert_eq!(closed, 39);
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 39);
    assert_eq!(world.counters.refused.of(Refused::TooMany).get(), 0);
}

/// Strangers of one site, with an address for each connection, push out each other.
#[test]
fn a_site_does_not_take_the_connections_of_others() {
    let mut world = world(300, 0, None);
    let honest: Vec<usize> = (1..=100)
        .map(|last| idle_from(&mut world, &format!("192.0.2.{last}:1")))
        .collect();
    for network in 0..1_000 {
        let peer = format!("[2001:4860:1:{network:x}::1]:1");
        world.connect_from(&peer).unwrap();
        world.finish();
    }
    for wire in honest {
        assert_eq!(world.state(wire), IoAction::Read);
    }
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 800);
}

/// Whoever only connects takes no connections of others for more than some seconds.
#[test]
fn strangers_that_ask_nothing_give_way_to_those_who_have_asked() {
    let mut world = world(100, 0, None);
    let honest: Vec<usize> = (1..=60)
        .map(|last| idle_from(&mut world, &format!("192.0.2.{last}:1")))
        .collect();
    world.pass(5);
    for number in 0..300 {
        let peer = format!("198.51.{}.{}:1", number / 200, number % 200);
        world.connect_from(&peer).unwrap();
        world.finish();
        if number % 8 == 7 {
            world.pass_micros(1_100_000);
        }
    }
    for wire in &honest {
        assert_eq!(world.state(*wire), IoAction::Read);
    }
    // A client that comes has its time.
    let late = world.connect_from("192.0.2.200:1").unwrap();
    for number in 0..8 {
        world
            .connect_from(&format!("203.0.113.{number}:1"))
            .unwrap();
        world.finish();
    }
    world.receive(late, b"a\n");
    assert_eq!(world.sent(late), "A\n");
}

/// Those who give way are chosen some at a time. Whoever has asked for something since stays.
#[test]
fn whoever_waits_for_us_does_not_give_way() {
    let mut world = world(100, 0, None);
    let greedy: Vec<usize> = (1..=100)
        .map(|port| idle_from(&mut world, &format!("192.0.2.99:{port}")))
        .collect();
    world.pass(1);
    idle_from(&mut world, "192.0.2.1:1");
    let (first, others) = greedy.split_first().unwrap();
    assert_eq!(world.state(*first), IoAction::Close);
    world.hub.handler_mut().is_stuck = true;
    for wire in &others[..50] {
        world.receive(*wire, b"b\n");
    }
    for last in 2..=20 {
        world.connect_from(&format!("192.0.2.{last}:1")).unwrap();
    }
    world.finish();
    for wire in &others[..50] {
        assert_eq!(world.state(*wire), IoAction::Read);
    }
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 20);
}

/// What it has asked for is there, and has not been sent.
#[test]
fn whoever_is_about_to_get_an_answer_does_not_give_way() {
    let mut world = world(1, 0, None);
    let wire = idle_from(&mut world, "192.0.2.1:1");
    let id = world.wires[wire].id;
    world.hub.receive(world.now, id, &mut b"b\n".to_vec());
    world.hub.finish(world.now);
    assert_eq!(world.connect_from("192.0.2.2:1"), Err(Refused::TooMany));
    world.pass_micros(1_000);
    assert_eq!(world.sent(wire), "A\nB\n");
    world.connect_from("192.0.2.2:1").unwrap();
}

/// A client that has been served once is no stranger that only connects.
#[test]
fn whoever_has_been_served_has_time_for_its_next_request() {
    let mut world = world(2, 0, None);
    let slow = idle_from(&mut world, "192.0.2.1:1");
    let idle = idle_from(&mut world, "192.0.2.2:1");
    world.receive(slow, b"half a li");
    world.pass(5);
    world.connect_from("192.0.2.3:1").unwrap();
    world.finish();
    assert_eq!(world.state(idle), IoAction::Close);
    assert_eq!(world.state(slow), IoAction::Read);
}

#[test]
fn connections_that_never_ask_anything_give_way_too() {
    let mut world = world(50, 0, None);
    for port in 1..=50 {
        let wire = world.connect_from(&format!("192.0.2.99:{port}")).unwrap();
        world.receive(wire, b"half a li");
    }
    for last in 1..=40 {
        idle_from(&mut world, &format!("192.0.2.{last}:1"));
    }
    let handler = world.hub.handler();
    assert_eq!(handler.closed.len(), 40);
    assert!(handler.closed.iter().all(|it| it.1 == Closed::Evicted));
}

#[test]
fn connections_and_handshakes_are_charged_for() {
    let rate = RequestRate::new(NonZeroU32::new(10), [1, 2]);
    let admission = Admission::new(0, 0).with_rate(Some(Arc::new(rate)));
    let mut options = options();
    options.admission = Arc::new(admission);
    let mut world = World::new(options);
    let accepted = |world: &mut World, peer: &str| {
        let connect = |port| world.connect_from(&format!("{peer}:{port}"));
        (1..=100).map(connect).filter(Result::is_ok).count()
    };
    assert_eq!(accepted(&mut world, "192.0.2.1"), 10);
    assert_eq!(accepted(&mut world, "192.0.2.2"), 10);
    // From a thousand networks of a site that has sixteen times as much.
    let site = (0..1_000).map(|network| format!("[2001:4860:1:{network:x}::1]:1"));
    let of_site = site.filter(|peer| world.connect_from(peer).is_ok()).count();
    assert_eq!(of_site, 160);
    let refused = world.counters.refused.of(Refused::RequestRate).get();
    assert_eq!(refused, 90 + 90 + 840);
    world.pass(1);
    assert_eq!(accepted(&mut world, "192.0.2.1"), 10);
}

#[test]
fn clients_of_a_proxy_are_charged_by_their_own_addresses() {
    let rate = RequestRate::new(NonZeroU32::new(2), [1, 2]);
    let mut options = options();
    options.admission = Arc::new(Admission::new(0, 0).with_rate(Some(Arc::new(rate))));
    options.proxies = Some(TrustedProxies::default());
    let mut world = World::new(options);
    for client in ["192.0.2.1", "192.0.2.2"] {
        let states = [(); 4].map(|()| {
            let wire = world.connect_from("10.0.0.1:9").unwrap();
            let header = format!("PROXY TCP4 {client} 192.0.2.9 1 2\r\n");
            world.receive(wire, header.as_bytes());
            world.state(wire)
        });
        let [served, closed] = [IoAction::Read, IoAction::Close];
        assert_eq!(states, [served, served, closed, closed], "{client}");
    }
}

#[test]
fn the_number_of_connections_of_a_client_is_bounded() {
    let mut world = world(0, 2, None);
    for port in 0..2 {
        let peer = format!("192.0.2.1:{port}");
        world.connect_from(&peer).unwrap();
    }
    let too_many = Err(Refused::TooManyOfClient);
    assert_eq!(world.connect_from("192.0.2.1:9"), too_many);
    assert_eq!(world.connect_from("[::ffff:192.0.2.1]:9"), too_many);
    world.connect_from("192.0.2.2:9").unwrap();
    world.receive(0, b"quit\n");
    world.connect_from("192.0.2.1:9").unwrap();
    assert_eq!(world.connect_from("192.0.2.1:9"), too_many);
    assert_eq!(world.counters.active.v4.get(), 3);
    // Who was refused was not accepted, and so cannot have been closed.
    assert_eq!(world.counters.accepted.v4.get(), 4);
    let refused = world.counters.refused.of(Refused::TooManyOfClient).get();
    assert_eq!(refused, 3);
}

/// Who is turned away anyway costs nobody its connection, however often it tries.
#[test]
fn who_has_too_many_connections_pushes_nobody_out() {
    let mut world = world(20, 2, None);
    let honest: Vec<usize> = (1..=18)
        .map(|last| idle_from(&mut world, &format!("192.0.2.{last}:1")))
        .collect();
    for port in 1..=2 {
        idle_from(&mut world, &format!("192.0.2.99:{port}"));
    }
    world.pass(1);
    for port in 3..=100 {
        let refused = world.connect_from(&format!("192.0.2.99:{port}"));
        assert_eq!(refused, Err(Refused::TooManyOfClient));
        assert_eq!(world.hub.evicted(), None);
        world.finish();
    }
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 0);
    for wire in honest {
        assert_eq!(world.state(wire), IoAction::Read);
    }
    // Whoever is let in does push one out, and what it was counted for is given back.
    idle_from(&mut world, "192.0.2.50:1");
    assert_eq!(world.counters.closed.of(Closed::Evicted).get(), 1);
    assert_eq!(world.counters.active.v4.get(), 20);
}

/// A client that finds no room is not counted either.
#[test]
fn who_finds_no_room_is_not_counted() {
    let mut world = world(1, 1, None);
    world.hub.handler_mut().is_stuck = true;
    let first = world.connect_from("192.0.2.1:1").unwrap();
    world.receive(first, b"a\n");
    for port in 1..=3 {
        let refused = world.connect_from(&format!("192.0.2.2:{port}"));
        assert_eq!(refused, Err(Refused::TooMany));
    }
    world.hub.handler_mut().is_stuck = false;
    world.receive(first, b"quit\n");
    world.connect_from("192.0.2.2:9").unwrap();
}

#[test]
fn clients_of_a_proxy_are_counted_by_their_own_addresses() {
    let mut world = world(0, 1, Some("10.0.0.0/8"));
    let refused = Err(Refused::UntrustedProxy);
    assert_eq!(world.connect_from("192.0.2.1:9"), refused);
    for client in ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::2"] {
        let wire = world.connect_from("10.1.2.3:9").unwrap();
        world.receive(
            wire,
            format!("PROXY TCP6 {client} ::1 1 2\r\na\n").as_bytes(),
        );
    }
    let [one, other] = &world.hub.handler().opened[..] else {
        panic!("the third is of the same network as the first");
    };
    assert_eq!(one.1.peer.get(), "[2001:db8:1::1]:1".parse().unwrap());
    assert_eq!(one.1.local, "[::1]:2".parse().unwrap());
    assert_eq!(other.1.peer.get(), "[2001:db8:2::1]:1".parse().unwrap());
    assert_eq!(world.sent(0), "A\n");
    assert_eq!(world.state(2), IoAction::Close);
    assert_eq!(world.counters.closed.of(Closed::Refused).get(), 1);
    let refused = world.counters.refused.of(Refused::TooManyOfClient).get();
    assert_eq!(refused, 1);
    assert_eq!(world.counters.active.v4.get(), 0);
    assert_eq!(world.counters.active.v6.get(), 2);
}

#[test]
fn what_is_no_header_is_refused() {
    let mut world = world(0, 0, Some("10.0.0.0/8"));
    for garbage in [
        "GET / HTTP/1.1\r\n",
        "PROXY TCP4 nonsense\r\n",
        "\r\n\r\n\0x",
    ] {
        let wire = world.connect_from("10.0.0.1:9").unwrap();
        world.receive(wire, garbage.as_bytes());
        assert_eq!(world.state(wire), IoAction::Close, "{garbage}");
    }
    assert_eq!(world.counters.closed.of(Closed::ProxyHeader).get(), 3);
    assert!(world.hub.handler().opened.is_empty());
}
