//! The program answers for the addresses of its own host, whichever these are by now.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use aquatic_e2e::ask::UdpClient;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::{Family, wait};

use crate::stage::{
    FILTER_AT_BRIDGE, LIMIT, PORT, Plan, announce, connect_once, connection_id, run, until,
};

#[test]
fn an_address_that_comes_and_goes_is_followed() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    for (family, address, change) in [
        (Family::V4, "10.77.0.50", "dev bridge0"),
        (Family::V6, "2001:db8:77::50", "dev bridge0 nodad"),
    ] {
        let bits = if family == Family::V4 { 24 } else { 64 };
        let ip: IpAddr = address.parse().unwrap();
        let tracker = Plan::new(hub, family, FILTER_AT_BRIDGE).start().unwrap();
        tracker.wait_until_guarded(guest).unwrap();

        run(hub, "ip", &format!("address add {address}/{bits} {change}")).unwrap();
        let there = tracker.at(ip);
        there.wait_until_guarded(guest).unwrap();
        there.client(guest).unwrap().announce(&announce(1)).unwrap();

        // The guest goes on sending to the same card.
        let link = run(hub, "cat", "/sys/class/net/bridge0/address").unwrap();
        let link = link.trim();
        run(
            guest,
            "ip",
            &format!("neigh replace {address} lladdr {link} dev eth0"),
        )
        .unwrap();
        run(
            hub,
            "ip",
            &format!("address del {address}/{bits} dev bridge0"),
        )
        .unwrap();
        let client = UdpClient::new(guest, SocketAddr::new(ip, PORT)).unwrap();
        until("nobody answers for it", || {
            Ok(connect_once(&client)?.is_none())
        })
        .unwrap();

        tracker.settle(guest).unwrap();
        let before = tracker
            .counts([("aquatic_handled_in_kernel_total", 1.0)])
            .unwrap();
        assert_eq!(connect_once(&client).unwrap(), None);
        let client = tracker.client(guest).unwrap();
        let id = connection_id(&client).unwrap();
        client.announce_with(id, &announce(1)).unwrap();
        tracker.wait_for_growth(&before).unwrap();
        tracker.stop().unwrap();
    }
}

/// A port of a bridge sees what is for others.
#[test]
fn what_is_for_another_host_passes_by() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(2).unwrap() else {
            return;
        };
        let [asking, other] = [lab.guest(0), lab.guest(1)];
        let network = "xdp = 'filter'\nxdp_interfaces = ['guest0', 'guest1']\n";
        let tracker = Plan::new(lab.hub(), family, network).start().unwrap();
        tracker.wait_until_guarded(asking).unwrap();
        let before = tracker
            .counts([("aquatic_handled_in_kernel_total", 1.0)])
            .unwrap();
        let address = SocketAddr::new(other.ip(family), PORT);
        let client = UdpClient::new(asking, address).unwrap();
        // Nobody is there.
        assert_eq!(connect_once(&client).unwrap(), None);

        let others = Plan::new(other, family, "").start().unwrap();
        let own = others.counts([
            ("aquatic_responses_total{type=connect}", 1.0),
            ("aquatic_responses_total{type=announce}", 1.0),
        ]);
        let id = wait::until("the other tracker answers", LIMIT, || connect_once(&client))
            .context("at another host")
            .unwrap();
        client.announce_with(id, &announce(1)).unwrap();
        others.wait_for_growth(&own.unwrap()).unwrap();

        // What it has seen since is one request for itself.
        connection_id(&tracker.client(asking).unwrap()).unwrap();
        tracker.wait_for_growth(&before).unwrap();
        others.stop().unwrap();
        tracker.stop().unwrap();
    }
}
