//! Real clients and the tracker over WebSocket, plain and TLS.
//!
//! | client | ws | wss |
//! |---|---|---|
//! | WebTorrent in Chromium: a file goes from page to page over WebRTC | yes | yes |
//! | `bittorrent-tracker` (npm): announces, offers, answers, scrapes | yes | yes |
//!
//! TLS is served with a certificate that the test has made.

use std::net::SocketAddr;

use aquatic_e2e::clients::{browser, npm};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
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
