//! Clients are answered as without the program, by whichever interface they come.
//!
//! The hub's end of a guest's cable, `guest0`, is a port of the bridge; the addresses are those of
//! the bridge. So a frame passes both.

use std::time::Duration;

use anyhow::{Context, Result};
use aquatic_e2e::ask::{Counts, announce_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::{Family, wait};

use crate::stage::{
    FILTER_AT_BRIDGE, PORT, Plan, Tracker, announce, connection_id, run, udp_count,
};

/// Connect requests that a guest sends with each setting of its interface. A checksum that is wrong
/// by chance only is right in one of them at most.
const CONNECTS: u32 = 20;

/// Torrents in a scrape that does not fit into a frame.
const SCRAPE_OF_FRAGMENTS: usize = 115;

/// URL data (BEP 41): "/announce?key", and the end of the options.
const OPTIONS: &[u8] = b"\x02\x0d/announce?key\x00";

const ERROR: [u8; 4] = 3u32.to_be_bytes();

#[test]
fn at_a_bridge_by_the_kernel_over_ipv4() {
    serves("bridge0", "generic", "generic", Family::V4);
}

#[test]
fn at_a_bridge_by_the_kernel_over_ipv6() {
    serves("bridge0", "generic", "generic", Family::V6);
}

#[test]
fn at_a_port_of_a_bridge_by_the_kernel_over_ipv4() {
    serves("guest0", "generic", "generic", Family::V4);
}

#[test]
fn at_a_port_of_a_bridge_by_the_kernel_over_ipv6() {
    serves("guest0", "generic", "generic", Family::V6);
}

#[test]
fn at_a_port_of_a_bridge_by_its_driver_over_ipv4() {
    serves("guest0", "native", "native", Family::V4);
}

#[test]
fn at_a_port_of_a_bridge_by_its_driver_over_ipv6() {
    serves("guest0", "native", "native", Family::V6);
}

#[test]
fn the_kernel_runs_it_where_there_is_no_card() {
    serves("bridge0", "auto", "generic", Family::V4);
    serves("guest0", "auto", "generic", Family::V6);
}

fn serves(interface: &str, mode: &str, chosen: &str, family: Family) {
    for setting in ["filter", "full"] {
        serves_by(setting, (interface, mode, chosen), family);
    }
}

fn serves_by(setting: &str, (interface, mode, chosen): (&str, &str, &str), family: Family) {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let guest = lab.guest(0);
    let at = |interface: &str| {
        format!("xdp = '{setting}'\nxdp_mode = '{mode}'\nxdp_interfaces = ['{interface}']\n")
    };
    let start = |host, interface| {
        let tracker = Plan::new(host, family, &at(interface)).start().unwrap();
        let line = format!("xdp: {setting} at {interface}, {chosen}\n");
        let log = tracker.log().unwrap();
        assert!(log.contains(&line), "{log}");
        let has_queues = log.contains(&format!("AF_XDP: queue 0 of {interface}, copies\n"));
        assert_eq!(has_queues, setting == "full", "{log}");
        tracker
    };
    // The driver of such a cable loses what a program sends back, if there is none at its other
    // end.
    let other_end = (chosen == "native").then(|| start(guest, "eth0"));
    let tracker = start(lab.hub(), interface);
    tracker.wait_until_guarded(guest).unwrap();
    // A request without a whole checksum gets an answer without: on its way, or at its end,
    // somebody completes it or knows that nobody has to.
    for (asked, answered) in [("on", "on"), ("on", "off"), ("off", "on")] {
        run(guest, "ethtool", &format!("-K eth0 tx {asked}")).unwrap();
        run(lab.hub(), "ethtool", &format!("-K guest0 tx {answered}")).unwrap();
        is_served(&tracker, guest, family)
            .with_context(|| format!("sums by interfaces: {asked}, {answered}"))
            .unwrap();
    }
    tracker.stop().unwrap();
    if let Some(other_end) = other_end {
        other_end.stop().unwrap();
    }
}

/// Asks everything that a client can ask, and looks at what was counted.
fn is_served(tracker: &Tracker, guest: &Host, family: Family) -> Result<()> {
    let client = tracker.client(guest)?;
    let connects = f64::from(CONNECTS);
    let before = tracker.counts([
        ("aquatic_handled_in_kernel_total", connects + 3.0),
        // Two are the scrapes'.
        (
            "aquatic_requests_by_type_total{type=connect}",
            connects + 2.0,
        ),
        ("aquatic_responses_total{type=connect}", connects + 2.0),
        ("aquatic_requests_by_type_total{type=announce}", 3.0),
        ("aquatic_responses_total{type=announce}", 2.0),
        ("aquatic_requests_by_type_total{type=scrape}", 2.0),
        ("aquatic_responses_total{type=scrape}", 2.0),
        ("aquatic_responses_total{type=error}", 1.0),
        ("aquatic_refused_total{reason=connection_id}", 1.0),
        ("aquatic_dropped_total", 0.0),
    ])?;
    let wrong_sums = || udp_count(guest, family, "InCsumErrors");
    let wrong_sums_before = wrong_sums()?;
    let mut id = 0;
    for number in 0..CONNECTS {
        id = connection_id(&client).with_context(|| format!("connect request {number}"))?;
    }

    // The other one is told of the first. A seeder is not told of seeders.
    client.announce_with(id, &announce(1))?;
    let leecher = aquatic_e2e::ask::Announce {
        left: 1,
        ..announce(2)
    };
    let announced = client.announce_with_options(id, &leecher, OPTIONS)?;
    assert_eq!((announced.seeders, announced.leechers), (1, 1));
    let ports: Vec<_> = announced
        .peers
        .iter()
        .map(|it| (it.ip(), it.port()))
        .collect();
    assert_eq!(ports, [(guest.ip(family), announce(1).port)]);

    let wrong = announce_request(id ^ 1, 7, &announce(1));
    let answer = client.answer_to(&wrong)?;
    let error = [&ERROR, &7u32.to_be_bytes()[..], b"connection id expired"].concat();
    assert_eq!(answer, error);

    let known = Counts {
        seeders: 1,
        completed: 0,
        leechers: 1,
    };
    let info_hash = announce(1).info_hash;
    assert_eq!(client.scrape(&[info_hash])?, [known]);
    let mut many = vec![[7; 20]; SCRAPE_OF_FRAGMENTS];
    many[SCRAPE_OF_FRAGMENTS - 1] = info_hash;
    let rows = client.scrape(&many)?;
    assert_eq!(rows[SCRAPE_OF_FRAGMENTS - 1], known);
    assert_eq!(rows[0], Counts::default());

    tracker.wait_for_growth(&before)?;
    assert_eq!(wrong_sums()?, wrong_sums_before);
    Ok(())
}

#[test]
fn connects_are_all_that_it_looks_at_if_told_so() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let network = FILTER_AT_BRIDGE.replace("filter", "connect");
        let tracker = Plan::new(lab.hub(), family, &network).start().unwrap();
        let guest = lab.guest(0);
        tracker.wait_until_guarded(guest).unwrap();
        let before = tracker.counts([
            ("aquatic_handled_in_kernel_total", 1.0),
            ("aquatic_requests_by_type_total{type=connect}", 1.0),
            ("aquatic_requests_by_type_total{type=announce}", 2.0),
            ("aquatic_responses_total{type=announce}", 1.0),
            ("aquatic_refused_total{reason=connection_id}", 1.0),
        ]);
        let client = tracker.client(guest).unwrap();
        let id = connection_id(&client).unwrap();
        client.announce_with(id, &announce(1)).unwrap();
        let refused = client.announce_with(id ^ 1, &announce(1)).unwrap_err();
        assert_eq!(refused.to_string(), "refused: connection id expired");
        tracker.wait_for_growth(&before.unwrap()).unwrap();
        tracker.stop().unwrap();
    }
}

/// Connection ids begin with their second, of one clock and of the other.
#[test]
fn ids_of_each_moment_are_good() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let tracker = Plan::new(lab.hub(), family, FILTER_AT_BRIDGE)
            .start()
            .unwrap();
        tracker.wait_until_guarded(lab.guest(0)).unwrap();
        let client = tracker.client(lab.guest(0)).unwrap();
        wait::hold(Duration::from_secs(3), || {
            for _ in 0..100 {
                let id = connection_id(&client)?;
                client.announce_with(id, &announce(1))?;
            }
            Ok(())
        })
        .unwrap();
        let refused = tracker.count("aquatic_refused_total").unwrap();
        assert_eq!(refused, 0.0);
        tracker.stop().unwrap();
    }
}

#[test]
fn ids_of_program_and_tracker_are_the_same() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let folder = Folder::new().unwrap();
        let secret = folder.path().join("secret");
        let secret = format!("connection_secret_file = {secret:?}\n");
        let guarded = format!("{FILTER_AT_BRIDGE}xdp_errors_per_second = 0\n{secret}");
        let start = |network: &str| Plan::new(lab.hub(), family, network).start().unwrap();
        let guest = lab.guest(0);

        let tracker = start(&secret);
        let client = tracker.client(guest).unwrap();
        let of_tracker = client.connect().unwrap();
        tracker.stop().unwrap();

        let tracker = start(&guarded);
        tracker.wait_until_guarded(guest).unwrap();
        client.announce_with(of_tracker, &announce(1)).unwrap();
        let before = tracker
            .counts([("aquatic_handled_in_kernel_total", 1.0)])
            .unwrap();
        let of_program = connection_id(&client).unwrap();
        tracker.wait_for_growth(&before).unwrap();
        tracker.stop().unwrap();

        let tracker = start(&secret);
        client.announce_with(of_program, &announce(1)).unwrap();
        tracker.stop().unwrap();

        // Of another secret neither is good.
        let tracker = start("");
        for id in [of_tracker, of_program] {
            client.announce_with(id, &announce(1)).unwrap_err();
        }
        assert_eq!(tracker.address().port(), PORT);
        tracker.stop().unwrap();
    }
}
