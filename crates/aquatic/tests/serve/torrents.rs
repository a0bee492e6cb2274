//! Torrents of all protocols, at one endpoint and in files.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use aquatic_test_support::browser::Browser;
use aquatic_test_support::operations::torrents::get_in_time;
use aquatic_test_support::setup::on_each;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Place, torrent};
use aquatic_types::{InfoHash, IpFamily};
use serde_json::Value;

use super::setup::{Client, Combination, Http, SIMPLE, Udp, metrics_settings, ws_settings};

const V4: IpFamily = IpFamily::V4;

/// A browser that is one peer of a torrent. It leaves when this is dropped.
fn join_by_browser(daemon: &Daemon, torrent: InfoHash) -> Browser {
    let to = SocketAddr::new(daemon.address(V4).ip(), daemon.place.second_port());
    let mut browser = Browser::connect(to, b'x');
    browser.announce(torrent, 0, 0);
    browser
}

fn rows(list: &Value) -> Vec<(String, String, u64)> {
    let rows = list["torrents"].as_array().unwrap().iter();
    rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let peers = row["seeders"].as_u64().unwrap() + row["leechers"].as_u64().unwrap();
        (text("protocol"), text("info_hash"), peers)
    })
    .collect()
}

/// One list of all kinds of swarms, which can be had apart; one torrent with all of its swarms.
#[test]
fn torrents_of_all_protocols_are_shown() {
    on_each(&Combination::all(), |combination| {
        let place = Place::new();
        let more = format!("{}{}", metrics_settings(&place), ws_settings(&place));
        let daemon = combination.start_in(place, &more);
        let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
        for port in 1..=2 {
            udp.join(torrent(1), port, 5);
            http.join(torrent(1), 2 + port, 0);
        }
        http.join(torrent(2), 1, 0);
        let _browser = join_by_browser(&daemon, torrent(1));
        let row = |protocol: &str, number, peers| {
            (protocol.to_owned(), torrent(number).to_string(), peers)
        };
        let list = get_in_time(&daemon, "/torrents").1;
        let expected = [
            row("bittorrent", 1, 4),
            row("webtorrent", 1, 1),
            row("bittorrent", 2, 1),
        ];
        assert_eq!(rows(&list), expected, "{combination}");
        for (protocol, expected) in [
            ("webtorrent", &expected[1..2]),
            ("bittorrent", &[expected[0].clone(), expected[2].clone()]),
        ] {
            let list = get_in_time(&daemon, &format!("/torrents?protocol={protocol}")).1;
            assert_eq!(rows(&list), expected, "{combination}");
        }

        let shown = get_in_time(&daemon, &format!("/torrents/{}", torrent(1))).1;
        assert_eq!([&shown["seeders"], &shown["leechers"]], [3, 2]);
        let swarms = shown["swarms"].as_array().unwrap();
        let kinds: Vec<_> = swarms.iter().map(|swarm| &swarm["protocol"]).collect();
        assert_eq!(kinds, ["bittorrent", "webtorrent"]);
        assert_eq!(swarms[0]["ipv4"]["leechers"], 2);
    });
}

/// UDP and HTTP have one swarm and one file, and WebTorrent has another one beside it.
#[test]
fn each_kind_of_swarms_has_its_list() {
    let place = Place::new();
    let more = format!(
        "{}scrape_exports.frequency = 1\nscrape_exports.enable_scrape_exports = true\n\
         scrape_exports.path = 'list'",
        ws_settings(&place)
    );
    let daemon = SIMPLE.start_in(place, &more);
    Udp::new(&daemon, V4).join(torrent(1), 1, 0);
    Http::new(&daemon, V4).join(torrent(1), 2, 5);
    let _browser = join_by_browser(&daemon, torrent(2));
    let listed = |name: &str, number, counts: &str| {
        let expected = BTreeSet::from([format!("4 {} {counts}", torrent(number))]);
        until("all torrents are listed", || {
            let text = fs::read_to_string(daemon.place.path(name)).ok()?;
            let lines: BTreeSet<_> = text.lines().map(str::to_owned).collect();
            (lines == expected).then_some(())
        });
    };
    listed("list", 1, "1 1");
    listed("list.webtorrent", 2, "1 0");
}

/// The list had its keys in the section of UDP before.
#[test]
fn the_former_place_of_the_keys_is_understood() {
    let daemon = SIMPLE.start(
        "udp.scrape_exports.enable_scrape_exports = true\nudp.scrape_exports.frequency = 1\n\
         udp.scrape_exports.path = 'list'",
    );
    let log = daemon.place.log();
    let told = "`udp.scrape_exports` is now called `scrape_exports`";
    assert!(log.contains(told), "{log}");
    Http::new(&daemon, V4).join(torrent(1), 2, 5);
    until("the torrent is listed", || {
        let text = fs::read_to_string(daemon.place.path("list")).ok()?;
        text.ends_with(" 0 1\n").then_some(())
    });
}
