//! Who may connect.

use std::sync::Arc;

use aquatic_stream::{Admission, Closed, Refused, Settled, TrustedProxies};

use crate::world::{World, options};

fn world(connections: usize, per_client: usize, proxies: Option<&str>) -> World {
    let mut options = options();
    options.admission = Arc::new(Admission::new(connections, per_client));
    options.proxies = proxies.map(|network| TrustedProxies::new(vec![network.parse().unwrap()]));
    World::new(options)
}

#[test]
fn the_number_of_connections_is_bounded() {
    let mut world = world(3, 0, None);
    for _ in 0..3 {
        world.connect();
    }
    assert_eq!(world.connect_from("192.0.2.9:1"), Err(Refused::TooMany));
    assert_eq!(world.counters.refused.of(Refused::TooMany).get(), 1);
    world.receive(1, b"quit\n");
    world.connect();
    assert_eq!(world.connect_from("192.0.2.9:1"), Err(Refused::TooMany));
    assert_eq!(world.counters.active.v4.get(), 3);
    assert_eq!(world.counters.accepted.v4.get(), 4);
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
    assert_eq!(world.state(2), Settled::Close);
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
        assert_eq!(world.state(wire), Settled::Close, "{garbage}");
    }
    assert_eq!(world.counters.closed.of(Closed::ProxyHeader).get(), 3);
    assert!(world.hub.handler().opened.is_empty());
}
