//! Real clients and the tracker over UDP.
//!
//! | client | IPv4 | IPv6 |
//! |---|---|---|
//! | libtorrent | yes | yes |
//! | Transmission | yes | yes, but it reads no peers from the answer |
//! | aria2 | yes | no: it sends nothing to an IPv6 tracker |
//! | rTorrent | yes | no: it knows no IPv6 |
//!
//! Two limits are the clients' own, as of aria2 1.36 and Transmission 3.00. aria2 sends all its
//! UDP tracker requests from an IPv4 socket. Transmission announces over IPv6, but takes the
//! answer's 18-byte rows for three IPv4 peers each; so in the tests over IPv6 it is found by the
//! other client and never the one that searches.

use std::net::SocketAddr;

use aquatic_e2e::clients::{Kind, Role, npm};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::transfer::{across_a_restart, in_a_lab, on_loopback, past_a_program};
use aquatic_e2e::{Family, Protocol};

#[test]
fn aria2_to_aria2_over_ipv4() {
    on_loopback(
        Protocol::Udp,
        Family::V4,
        [(Role::Seeder, Kind::Aria2), (Role::Leecher, Kind::Aria2)],
    );
}

#[test]
fn libtorrent_to_libtorrent_over_ipv4() {
    on_loopback(
        Protocol::Udp,
        Family::V4,
        [
            (Role::Seeder, Kind::Libtorrent),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn aria2_to_rtorrent_over_ipv4() {
    on_loopback(
        Protocol::Udp,
        Family::V4,
        [(Role::Seeder, Kind::Aria2), (Role::Leecher, Kind::Rtorrent)],
    );
}

#[test]
fn libtorrent_to_libtorrent_over_ipv6() {
    on_loopback(
        Protocol::Udp,
        Family::V6,
        [
            (Role::Seeder, Kind::Libtorrent),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn aria2_to_libtorrent_over_ipv4() {
    on_loopback(
        Protocol::Udp,
        Family::V4,
        [
            (Role::Seeder, Kind::Aria2),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn transmission_to_transmission_over_ipv4() {
    in_a_lab(
        Protocol::Udp,
        Family::V4,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Transmission),
        ],
    );
}

#[test]
fn transmission_to_aria2_over_ipv4() {
    in_a_lab(
        Protocol::Udp,
        Family::V4,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Aria2),
        ],
    );
}

#[test]
fn transmission_to_libtorrent_over_ipv6() {
    in_a_lab(
        Protocol::Udp,
        Family::V6,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn libtorrent_to_waiting_transmission_over_ipv6() {
    in_a_lab(
        Protocol::Udp,
        Family::V6,
        [
            (Role::Leecher, Kind::Transmission),
            (Role::Seeder, Kind::Libtorrent),
        ],
    );
}

#[test]
fn aria2_to_rtorrent_past_a_program() {
    let cast = [(Role::Seeder, Kind::Aria2), (Role::Leecher, Kind::Rtorrent)];
    for setting in ["filter", "full"] {
        past_a_program(setting, Family::V4, cast);
    }
}

#[test]
fn transmission_to_libtorrent_past_a_program() {
    let seeder = (Role::Seeder, Kind::Transmission);
    let cast = [seeder, (Role::Leecher, Kind::Libtorrent)];
    for (setting, family) in [("filter", Family::V4), ("full", Family::V6)] {
        past_a_program(setting, family, cast);
    }
}

#[test]
fn a_seeder_of_before_a_restart_is_found_after_it() {
    let kinds = [Kind::Aria2, Kind::Libtorrent];
    across_a_restart(Protocol::Udp, Family::V4, kinds);
}

/// This client transfers nothing, but it checks every number of every answer. It knows IPv4 only.
#[test]
fn npm_client_lives_through_a_download() {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
    let tracker = Tracker::start(Protocol::Udp, &folder, &host, address, "").unwrap();
    npm::live_through_a_download(&folder, &host, &format!("udp://{address}/announce")).unwrap();
    tracker.stop().unwrap();
}
