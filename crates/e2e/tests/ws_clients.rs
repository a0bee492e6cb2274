//! Real clients and the tracker over WebSocket, plain and TLS.
//!
//! | client | ws | wss |
//! |---|---|---|
//! | WebTorrent in Chromium: a file goes from page to page over WebRTC | yes | yes |
//! | `bittorrent-tracker` (npm): announces, offers, answers, scrapes | yes, also by nginx | yes |
//!
//! TLS is served with a certificate that the test has made.

use std::net::SocketAddr;

use aquatic_e2e::clients::{browser, npm};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::nginx::Nginx;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::{Family, Protocol};

#[test]
fn a_file_goes_from_browser_to_browser_over_ws() {
    with_tracker(Protocol::Ws, |folder, host, url| {
        browser::transfer(folder, host, url, "browser-ws").unwrap();
    });
}

#[test]
fn a_file_goes_from_browser_to_browser_over_wss() {
    with_tracker(Protocol::Wss, |folder, host, url| {
        browser::transfer(folder, host, url, "browser-wss").unwrap();
    });
}

#[test]
fn npm_clients_exchange_offers_and_answers_over_ws() {
    with_tracker(Protocol::Ws, |folder, host, url| {
        npm::exchange_offers_and_answers(folder, host, url).unwrap();
    });
}

#[test]
fn npm_clients_exchange_offers_and_answers_over_wss() {
    with_tracker(Protocol::Wss, |folder, host, url| {
        npm::exchange_offers_and_answers(folder, host, url).unwrap();
    });
}

/// Behind a reverse proxy, whose word about clients' addresses the tracker needs.
#[test]
fn npm_clients_exchange_offers_and_answers_by_way_of_nginx() {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
    let config = "runs_behind_reverse_proxy = true\ntrusted_proxies = ['127.0.0.1']\n";
    let tracker = Tracker::start(Protocol::Ws, &folder, &host, address, config).unwrap();
    let nginx = Nginx::start(&folder, &host, address).unwrap();
    let url = format!("ws://{}", nginx.address());
    npm::exchange_offers_and_answers(&folder, &host, &url).unwrap();
    tracker.stop().unwrap();
}

fn with_tracker(protocol: Protocol, play: impl FnOnce(&Folder, &Host, &str)) {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
    let tracker = Tracker::start(protocol, &folder, &host, address, "").unwrap();
    play(
        &folder,
        &host,
        &format!("{}://{address}", protocol.scheme()),
    );
    tracker.stop().unwrap();
}
