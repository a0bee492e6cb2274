//! Real clients and the tracker over HTTP and HTTPS.
//!
//! | client | HTTP and HTTPS, IPv4 | IPv6 |
//! |---|---|---|
//! | libtorrent | yes | yes |
//! | Transmission | yes | yes |
//! | aria2 | yes | yes |
//! | rTorrent | yes | |
//! | `bittorrent-tracker` (npm) | yes | |
//! | curl | yes | yes |
//!
//! HTTPS is served with a certificate that the test has made. Each client is told to trust that
//! one, and would refuse it otherwise.

use std::net::SocketAddr;

use aquatic_e2e::clients::{Kind, Role, npm};
use aquatic_e2e::curl::{Curl, percent};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::transfer::{across_a_restart, in_a_lab, on_loopback};
use aquatic_e2e::{Family, Protocol};

#[test]
fn aria2_to_aria2_over_http_and_ipv4() {
    let cast = [(Role::Seeder, Kind::Aria2), (Role::Leecher, Kind::Aria2)];
    on_loopback(Protocol::Http, Family::V4, cast);
}

#[test]
fn aria2_to_libtorrent_over_http_and_ipv6() {
    let cast = [
        (Role::Seeder, Kind::Aria2),
        (Role::Leecher, Kind::Libtorrent),
    ];
    on_loopback(Protocol::Http, Family::V6, cast);
}

#[test]
fn libtorrent_to_aria2_over_https_and_ipv6() {
    let cast = [
        (Role::Seeder, Kind::Libtorrent),
        (Role::Leecher, Kind::Aria2),
    ];
    on_loopback(Protocol::Https, Family::V6, cast);
}

#[test]
fn libtorrent_to_libtorrent_over_http_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Libtorrent),
        (Role::Leecher, Kind::Libtorrent),
    ];
    on_loopback(Protocol::Http, Family::V4, cast);
}

#[test]
fn aria2_to_libtorrent_over_https_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Aria2),
        (Role::Leecher, Kind::Libtorrent),
    ];
    on_loopback(Protocol::Https, Family::V4, cast);
}

#[test]
fn a_seeder_of_before_a_restart_is_found_after_it() {
    let kinds = [Kind::Libtorrent, Kind::Aria2];
    across_a_restart(Protocol::Http, Family::V6, kinds);
}

#[test]
fn rtorrent_to_rtorrent_over_http_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Rtorrent),
        (Role::Leecher, Kind::Rtorrent),
    ];
    on_loopback(Protocol::Http, Family::V4, cast);
}

#[test]
fn libtorrent_to_rtorrent_over_https_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Libtorrent),
        (Role::Leecher, Kind::Rtorrent),
    ];
    on_loopback(Protocol::Https, Family::V4, cast);
}

#[test]
fn transmission_to_transmission_over_http_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Transmission),
        (Role::Leecher, Kind::Transmission),
    ];
    in_a_lab(Protocol::Http, Family::V4, cast);
}

#[test]
fn libtorrent_to_transmission_over_http_and_ipv6() {
    let cast = [
        (Role::Seeder, Kind::Libtorrent),
        (Role::Leecher, Kind::Transmission),
    ];
    in_a_lab(Protocol::Http, Family::V6, cast);
}

#[test]
fn transmission_to_aria2_over_https_and_ipv4() {
    let cast = [
        (Role::Seeder, Kind::Transmission),
        (Role::Leecher, Kind::Aria2),
    ];
    in_a_lab(Protocol::Https, Family::V4, cast);
}

#[test]
fn transmission_to_transmission_over_https_and_ipv6() {
    let cast = [
        (Role::Seeder, Kind::Transmission),
        (Role::Leecher, Kind::Transmission),
    ];
    in_a_lab(Protocol::Https, Family::V6, cast);
}

/// This client transfers nothing, but it checks every number of every answer.
#[test]
fn npm_client_lives_through_a_download() {
    for protocol in [Protocol::Http, Protocol::Https] {
        with_tracker(protocol, Family::V4, |folder, host, address| {
            let url = format!("{}://{address}/announce", protocol.scheme());
            npm::live_through_a_download(folder, host, &url).unwrap();
        });
    }
}

#[test]
fn curl_is_answered() {
    for protocol in [Protocol::Http, Protocol::Https] {
        for family in [Family::V4, Family::V6] {
            with_tracker(protocol, family, |folder, host, address| {
                let curl = Curl::new(host, folder, protocol, address);
                let target = format!(
                    "/announce?info_hash={}&peer_id=-e2e000-000000000001&port=6881&left=0",
                    percent(b"a torrent in a query")
                );
                for version in ["--http1.0", "--http1.1", "--http2", "--compressed"] {
                    let answer = curl.get(&[version], &target).unwrap();
                    assert_eq!(answer.integer("complete"), 1, "{version}");
                }
                let ranges = ["--header", "Range: bytes=0-1", "--header", "Expect:"];
                assert_eq!(curl.get(&ranges, &target).unwrap().integer("complete"), 1);
                let refused = curl.get(&[], "/announce").unwrap();
                assert!(refused.bytes("failure reason").is_some(), "{refused:?}");
                assert!(curl.get(&[], "/nowhere").is_err());
            });
        }
    }
}

/// Whoever does not know the certificate is not to be served by chance.
#[test]
fn https_is_not_trusted_unasked() {
    with_tracker(Protocol::Https, Family::V4, |_, host, address| {
        let elsewhere = Folder::new().unwrap();
        let curl = Curl::new(host, &elsewhere, Protocol::Https, address);
        assert!(curl.counts([1; 20]).is_err());
    });
}

fn with_tracker(protocol: Protocol, family: Family, play: impl FnOnce(&Folder, &Host, SocketAddr)) {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(family), host.free_port().unwrap());
    let tracker = Tracker::start(protocol, &folder, &host, address, "").unwrap();
    play(&folder, &host, address);
    tracker.stop().unwrap();
}
