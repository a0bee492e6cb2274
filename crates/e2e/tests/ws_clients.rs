//! Real clients and the tracker over WebSocket, plain and TLS.
//!
//! | client | ws | wss |
//! |---|---|---|
//! | WebTorrent in Chromium: a file over WebRTC | yes, by two trackers, too | yes |
//! | `bittorrent-tracker` (npm): announces, offers, answers, scrapes | yes, also by nginx | yes |
//! | bugout in Chromium: three pages, all of which seed, exchange messages | yes | yes |
//! | p2pt in Chromium: two pages exchange messages | yes | yes |
//! | trystero in Chromium: two pages exchange messages | yes | yes |
//!
//! TLS is served with a certificate that the test has made.

use std::net::SocketAddr;

use aquatic_e2e::clients::browser::{self, Application, Play};
use aquatic_e2e::clients::npm;
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::nginx::Nginx;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::{Family, Protocol};
use aquatic_test_support::nats::{self, NatsServer};

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

/// They know each other only because their trackers do.
#[test]
fn a_file_goes_from_browser_to_browser_by_way_of_two_trackers() {
    if !nats::is_there() {
        return;
    }
    let (folder, host) = (Folder::new().unwrap(), Host::loopback());
    let nats = NatsServer::start();
    let trackers = ["one", "other"].map(|name| {
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
        let folder = Folder::new().unwrap();
        let cluster = format!("[cluster]\nnode = '{name}'\nservers = ['{}']\n", nats.url());
        let tracker = Tracker::start(Protocol::Ws, &folder, &host, address, &cluster).unwrap();
        (tracker, folder)
    });
    let urls = trackers
        .each_ref()
        .map(|(tracker, _)| format!("ws://{}", tracker.address()));
    let [one, other] = urls.each_ref().map(String::as_str);
    browser::transfer_between(&folder, &host, [one, other], "browser-nodes").unwrap();
    for (tracker, _folder) in trackers {
        tracker.stop().unwrap();
    }
}

#[test]
fn bugout_pages_meet_over_ws() {
    play(Protocol::Ws, Play::Meet, Application::Bugout, "bugout-ws");
}

#[test]
fn bugout_pages_meet_over_wss() {
    play(Protocol::Wss, Play::Meet, Application::Bugout, "bugout-wss");
}

#[test]
fn p2pt_pages_meet_over_ws() {
    play(Protocol::Ws, Play::Meet, Application::P2pt, "p2pt-ws");
}

#[test]
fn p2pt_pages_meet_over_wss() {
    play(Protocol::Wss, Play::Meet, Application::P2pt, "p2pt-wss");
}

#[test]
fn trystero_pages_meet_over_ws() {
    play(
        Protocol::Ws,
        Play::Meet,
        Application::Trystero,
        "trystero-ws",
    );
}

#[test]
fn trystero_pages_meet_over_wss() {
    play(
        Protocol::Wss,
        Play::Meet,
        Application::Trystero,
        "trystero-wss",
    );
}

/// Every page seeds, so this is also about offers between seeders.
#[test]
fn a_bugout_page_that_comes_back_is_served_at_once() {
    play(
        Protocol::Ws,
        Play::ComeBack,
        Application::Bugout,
        "bugout-come-back",
    );
}

#[test]
fn a_trystero_page_that_comes_back_is_served_at_once() {
    play(
        Protocol::Wss,
        Play::ComeBack,
        Application::Trystero,
        "trystero-come-back",
    );
}

/// All at once: to see that nothing happens takes a while.
#[test]
fn pages_that_list_the_tracker_twice_do_not_reconnect_for_ever() {
    let all = [
        Application::Bugout,
        Application::P2pt,
        Application::Trystero,
    ];
    with_tracker(Protocol::Ws, |folder, host, url| {
        browser::play(Play::ListTwice, &all, folder, host, url, "list-twice").unwrap();
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

/// It would not, if it was told so by a `failure reason`.
#[test]
fn an_npm_client_that_a_full_tracker_refuses_comes_again() {
    let config = "[protocol]\npeer_announce_interval = 1\n[limits]\nmax_peers = 1\n";
    with_configured_tracker(Protocol::Ws, config, |folder, host, url| {
        npm::come_again(folder, host, url).unwrap();
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

fn play(protocol: Protocol, play: Play, application: Application, name: &str) {
    let config = match application {
        // Two pages of which one is there already may meet no sooner than when that one announces.
        // It takes nothing below 10 s.
        Application::Trystero => "[protocol]\npeer_announce_interval = 10\n",
        Application::Bugout | Application::P2pt => "",
    };
    with_configured_tracker(protocol, config, |folder, host, url| {
        browser::play(play, &[application], folder, host, url, name).unwrap();
    });
}

fn with_tracker(protocol: Protocol, play: impl FnOnce(&Folder, &Host, &str)) {
    with_configured_tracker(protocol, "", play);
}

fn with_configured_tracker(
    protocol: Protocol,
    config: &str,
    play: impl FnOnce(&Folder, &Host, &str),
) {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
    let tracker = Tracker::start(protocol, &folder, &host, address, config).unwrap();
    play(
        &folder,
        &host,
        &format!("{}://{address}", protocol.scheme()),
    );
    tracker.stop().unwrap();
}
