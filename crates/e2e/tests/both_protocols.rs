//! Real clients of which one knows the tracker by UDP, and the other one by HTTP: one swarm.

use aquatic_e2e::clients::{Kind, Role};
use aquatic_e2e::transfer::over_both_protocols;

#[test]
fn aria2_over_udp_to_libtorrent_over_http() {
    let cast = [
        (Role::Seeder, Kind::Aria2),
        (Role::Leecher, Kind::Libtorrent),
    ];
    over_both_protocols(true, cast);
}

#[test]
fn libtorrent_over_http_to_aria2_over_udp() {
    let cast = [
        (Role::Seeder, Kind::Libtorrent),
        (Role::Leecher, Kind::Aria2),
    ];
    over_both_protocols(false, cast);
}

#[test]
fn rtorrent_over_udp_comes_first_and_aria2_over_http_has_the_file() {
    let cast = [(Role::Leecher, Kind::Rtorrent), (Role::Seeder, Kind::Aria2)];
    over_both_protocols(true, cast);
}
