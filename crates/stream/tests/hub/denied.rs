//! Clients of networks that are not served.

use std::sync::Arc;

use aquatic_access_list::{DeniedNetworks, SharedDeniedNetworks};
use aquatic_stream::{Admission, Closed, DeniedClients, IoAction, Refused, TrustedProxies};

use crate::world::{World, options};

fn networks(texts: &[&str]) -> DeniedNetworks {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A worker, and the networks that it does not serve.
fn world(
    denied: &[&str],
    peers_are_proxies: bool,
    proxies: Option<&str>,
) -> (World, SharedDeniedNetworks) {
    let shared = SharedDeniedNetworks::new(networks(denied));
    let denied = DeniedClients {
        networks: shared.clone(),
        peers_are_proxies,
    };
    // A proxy may have any number of connections.
    let admission = Admission::new(0, usize::from(!peers_are_proxies)).with_denied(Some(denied));
    let mut options = options();
    options.admission = Arc::new(admission);
    options.proxies = proxies.map(|network| TrustedProxies::new(vec![network.parse().unwrap()]));
    (World::new(options), shared)
}

#[test]
fn clients_of_denied_networks_are_not_accepted() {
    let (mut world, shared) = world(&["192.0.2.0/24", "2001:db8::/32"], false, None);
    for denied in ["192.0.2.1:1", "[::ffff:192.0.2.1]:1", "[2001:db8::1]:1"] {
        assert_eq!(world.connect_from(denied), Err(Refused::NetworkDenied));
    }
    assert_eq!(world.counters.refused.of(Refused::NetworkDenied).get(), 3);
    assert_eq!(world.counters.accepted.v4.get(), 0);
    for served in ["192.0.3.1:1", "[2001:db9::1]:1"] {
        let wire = world.connect_from(served).unwrap();
        world.receive(wire, b"a\n");
        assert_eq!(world.sent(wire), "A\n");
    }
    // Nobody was charged for a connection that there was not.
    shared.replace(DeniedNetworks::default());
    assert!(world.connect_from("192.0.2.1:1").is_ok());
}

#[test]
fn with_proxy_headers_it_is_the_client_who_is_denied() {
    let denied = ["192.0.2.0/24", "10.0.0.0/8"];
    let (mut world, _) = world(&denied, false, Some("10.0.0.1"));
    for (source, is_served) in [("192.0.2.1", false), ("192.0.3.1", true)] {
        let wire = world.connect_from("10.0.0.1:1").unwrap();
        let header = format!("PROXY TCP4 {source} 10.0.0.1 5 80\r\na\n");
        world.receive(wire, header.as_bytes());
        assert_eq!(world.sent(wire) == "A\n", is_served, "{source}");
        assert_eq!(world.state(wire) == IoAction::Read, is_served, "{source}");
    }
    assert_eq!(world.counters.refused.of(Refused::NetworkDenied).get(), 1);
    assert_eq!(world.counters.closed.of(Closed::Refused).get(), 1);
}

#[test]
fn connections_that_a_new_list_denies_are_closed_and_the_others_stay() {
    let (mut world, shared) = world(&[], false, None);
    // More than are looked at in one round.
    let wires: Vec<usize> = (0..3_000)
        .map(|number| {
            let third = if number % 2 == 0 { 2 } else { 3 };
            let peer = format!("10.{third}.{}.{}:1", number / 250, number % 250 + 1);
            world.connect_from(&peer).unwrap()
        })
        .collect();
    shared.replace(networks(&["10.2.0.0/16"]));
    world.pass_micros(1);
    for (number, wire) in wires.iter().enumerate() {
        let is_served = number % 2 == 1;
        assert_eq!(world.state(*wire) == IoAction::Read, is_served, "{number}");
    }
    let closed = world.counters.closed.of(Closed::NetworkDenied).get();
    assert_eq!(closed, 1_500);
    assert_eq!(world.counters.active.v4.get(), 1_500);
}

#[test]
fn a_reverse_proxy_is_not_a_client() {
    let (mut world, shared) = world(&["10.0.0.0/8"], true, None);
    let wire = world.connect_from("10.0.0.1:1").unwrap();
    shared.replace(networks(&["10.0.0.0/8"]));
    world.pass_micros(1);
    world.receive(wire, b"a\n");
    assert_eq!(world.sent(wire), "A\n");
}

/// A proxy at home: its clients may be in its own network, an IPv6 /64.
#[test]
fn a_client_that_a_reverse_proxy_has_named_is_one_wherever_it_is() {
    let (mut world, shared) = world(&[], true, None);
    let named = ["2001:db8::2", "2001:db8::3", "2001:db8:0:1::2", "192.0.2.1"];
    let wires = named.map(|client| {
        let wire = world.connect_from("[2001:db8::1]:1").unwrap();
        world.receive(wire, format!("client {client}\n").as_bytes());
        wire
    });
    let unnamed = world.connect_from("[2001:db8::1]:1").unwrap();
    shared.replace(networks(&["2001:db8::2/128", "2001:db8:0:1::/64"]));
    world.pass_micros(1);
    let stays = wires.map(|wire| world.state(wire) == IoAction::Read);
    assert_eq!(stays, [false, true, false, true]);
    shared.replace(networks(&["2001:db8::/32"]));
    world.pass_micros(1);
    let stays = wires.map(|wire| world.state(wire) == IoAction::Read);
    assert_eq!(stays, [false, false, false, true]);
    assert_eq!(world.state(unnamed), IoAction::Read);
}
