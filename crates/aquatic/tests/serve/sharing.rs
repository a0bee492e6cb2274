//! Limits, access list, metrics and files that protocols share.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use aquatic_test_support::identity::{Identity, TLS};
use aquatic_test_support::operations::figures;
use aquatic_test_support::operations::privileges::{CONFINED, is_root, make_root};
use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Place, metrics, torrent, wait};
use aquatic_types::{AnnounceEvent, IpFamily};
use nix::sys::signal::Signal;

use super::setup::{
    BINARY, Client, Combination, Http, SIMPLE, Udp, metrics_settings, start, ws_settings,
};

const V4: IpFamily = IpFamily::V4;

/// One endpoint has the figures of all protocols, and no series twice.
#[test]
fn metrics_say_which_protocol_they_are_about() {
    let all = Combination::all();
    on_each(&all, |combination| {
        let place = Place::new();
        let more = format!("{}{}", metrics_settings(&place), ws_settings(&place));
        let more =
            format!("{more}metrics.peer_clients = true\nmetrics.torrent_peer_histograms = true");
        let daemon = combination.start_in(place, &more);
        Udp::new(&daemon, V4).join(torrent(1), 1, 0);
        Http::new(&daemon, V4).join(torrent(1), 2, 5);
        Http::new(&daemon, V4).join(torrent(1), 3, 5);
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_requests_by_type_total{protocol=udp,type=announce}",
                    1.0,
                ),
                (
                    "aquatic_requests_by_type_total{protocol=http,type=announce}",
                    2.0,
                ),
                (
                    "aquatic_requests_by_type_total{protocol=ws,type=announce}",
                    0.0,
                ),
                ("aquatic_responses_total{protocol=http,type=announce}", 2.0),
                ("aquatic_peers{ip_version=4}", 3.0),
                ("aquatic_seeders", 1.0),
                ("aquatic_torrents", 1.0),
                ("aquatic_connections_total{protocol=http}", 2.0),
                ("aquatic_peer_clients", 3.0),
            ],
        );
        let text = metrics::text(&daemon);
        let mut series = BTreeSet::new();
        let is_sample = |line: &&str| !line.starts_with('#') && !line.is_empty();
        for line in text.lines().filter(is_sample) {
            let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
            assert!(series.insert(name.to_owned()), "twice: {name}");
        }
    });
}

/// Swarms that protocols share are counted once, and each has traffic of its own.
#[test]
fn people_see_all_protocols() {
    let place = Place::new();
    let more = format!("{}{}", metrics_settings(&place), ws_settings(&place));
    let daemon = SIMPLE.start_in(place, &more);
    Udp::new(&daemon, V4).join(torrent(1), 1, 0);
    Http::new(&daemon, V4).join(torrent(1), 2, 5);
    Http::new(&daemon, V4).join(torrent(1), 3, 5);
    figures::wait_until_equal(
        &daemon,
        &[
            ("/peers", "aquatic_peers"),
            ("/seeders", "aquatic_seeders"),
            ("/ipv4/leechers", "aquatic_leechers"),
            (
                "/protocols/udp/ipv4/requests/announce",
                "aquatic_requests_by_type_total{protocol=udp,type=announce}",
            ),
            (
                "/protocols/http/ipv4/requests/announce",
                "aquatic_requests_by_type_total{protocol=http,type=announce}",
            ),
            (
                "/protocols/http/connections/accepted",
                "aquatic_connections_total{protocol=http}",
            ),
        ],
    );
    let stats = figures::json(&daemon, "/stats.json");
    assert_eq!(stats["program"].as_str(), Some("aquatic"));
    assert_eq!(stats["peers"].as_u64(), Some(3));
    assert!(stats["protocols"]["ws"].is_object(), "{stats}");
}

/// The certificates of two protocols are told apart.
#[test]
fn each_protocol_has_a_certificate_of_its_own() {
    let place = Place::new();
    Identity::until(2030).write(&place);
    let tls = |protocol: &str| TLS.replace("network.", &format!("{protocol}.network."));
    let more = format!(
        "{}{}{}{}",
        metrics_settings(&place),
        ws_settings(&place),
        tls("http"),
        tls("ws")
    );
    let daemon = SIMPLE.start_in(place, &more);
    let ends: Vec<_> = metrics::scrape(&daemon)
        .into_iter()
        .filter(|sample| sample.name == "aquatic_tls_certificate_expiry_timestamp_seconds")
        .flat_map(|sample| sample.labels)
        .collect();
    let expected = ["http", "ws"].map(|name| ("protocol".to_owned(), name.to_owned()));
    assert_eq!(BTreeSet::from_iter(ends), BTreeSet::from(expected));
    let stats = figures::json(&daemon, "/stats.json");
    for protocol in ["http", "ws"] {
        let figures = &stats["protocols"][protocol];
        assert_eq!(figures["certificate_expiry_time"], 1_893_456_000.0);
        assert_eq!(figures["tls"]["last_reload_successful"], true);
    }
}

/// Requests of an address count, whatever the protocol.
#[test]
fn the_rate_of_requests_is_limited_over_all_protocols() {
    // Alone, connections with a request that are so far apart are served for ever: each counts
    // twice, and five may come in a second.
    const PAUSE: Duration = Duration::from_millis(500);
    const REFUSED: [&str; 2] = [
        "aquatic_refused_total{protocol=http,reason=request_rate}",
        "aquatic_connections_refused_total{protocol=http,reason=requests_per_second_per_ip}",
    ];
    let place = Place::new();
    let more = metrics_settings(&place);
    let more = format!("{more}limits.requests_per_second_per_ip = 5\n");
    let daemon = SIMPLE.start_in(place, &more);
    let (udp, http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    wait::until("somebody else has had it all", || {
        thread::sleep(PAUSE);
        for _ in 0..20 {
            udp.scrape_without_answer(torrent(1));
        }
        http.scrape_if_served(torrent(1));
        let samples = metrics::scrape(&daemon);
        let refused = REFUSED.map(|it| metrics::sum(&samples, it));
        (refused.iter().sum::<f64>() > 0.0).then_some(())
    });
}

/// So do peers.
#[test]
fn peers_of_an_address_are_limited_over_both_protocols() {
    on_each(&Combination::all(), |combination| {
        let daemon = combination.start("limits.max_peers_per_ip = 4");
        let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
        for port in 1..=2 {
            udp.join(torrent(1), port, 5);
            http.join(torrent(2), port, 5);
        }
        for client in [&mut udp as &mut dyn Client, &mut http] {
            let refusal = client.announce(torrent(3), 5, 5, AnnounceEvent::None);
            assert!(refusal.is_err(), "{combination}: {refusal:?}");
        }
        udp.announce(torrent(1), 1, 5, AnnounceEvent::Stopped)
            .unwrap();
        http.join(torrent(3), 5, 5);
    });
}

/// A torrent that is denied goes from what both serve.
#[test]
fn one_access_list_holds_for_both() {
    on_each(&Combination::all(), |combination| {
        let place = Place::new();
        place.write("list", "");
        let daemon = combination.start_in(
            place,
            "access_list.mode = 'deny'\naccess_list.path = 'list'\n\
             udp.cleaning.torrent_cleaning_interval = 1",
        );
        let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
        udp.join(torrent(1), 1, 5);
        http.join(torrent(1), 2, 5);
        let hex: String = torrent(1).0.iter().map(|it| format!("{it:02x}")).collect();
        daemon.place.write("list", hex);
        daemon.reload();
        for client in [&mut udp as &mut dyn Client, &mut http] {
            wait::until("the torrent is denied", || {
                client.announce(torrent(1), 3, 5, AnnounceEvent::None).err()
            });
        }
    });
}

/// What is not enabled is not served; a single protocol is.
#[test]
fn only_what_is_enabled_is_served() {
    let place = Place::new();
    let more = ws_settings(&place);
    let port = place.second_port();
    let daemon = start(place, &more);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(TcpStream::connect(daemon.address(V4)).is_err());

    let place = Place::new();
    let settings = format!(
        "http.enabled = true\nhttp.network.address = '{}'",
        place.address(V4)
    );
    let daemon = start(place, &settings);
    assert_eq!(Http::new(&daemon, V4).join(torrent(1), 1, 0).seeders, 1);
}

/// Counts of WebTorrent have a file of their own beside that of the swarms.
#[test]
fn each_kind_of_swarms_has_its_file() {
    let place = Place::new();
    let more = format!(
        "{}persistence.swarms = true\npersistence.path = {:?}",
        ws_settings(&place),
        place.path("swarms.aqs")
    );
    let mut daemon = SIMPLE.start_in(place, &more);
    Udp::new(&daemon, V4).join(torrent(1), 1, 0);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
    for name in ["swarms.aqs", "swarms.aqs.webtorrent"] {
        assert!(daemon.place.path(name).is_file(), "{name}");
    }
}

/// Rights are given up once for all protocols, and checked once.
#[test]
fn rights_are_given_up_for_all_protocols() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let root = make_root(&place);
    let more = format!(
        "{CONFINED}{}udp.network.connection_secret_file = {:?}\nscrape_exports.frequency = 1\n\
         scrape_exports.enable_scrape_exports = true\nscrape_exports.path = '/export.txt'\n\
         persistence.swarms = true\npersistence.path = '/swarms.aqs'",
        ws_settings(&place),
        place.path("secret"),
    );
    place.write("config.toml", SIMPLE.settings(&place, &more));
    let arguments = ["serve", "--check-config", "-c", "config.toml"];
    let checked = place.end(place.command_with(BINARY, &arguments).spawn().unwrap());
    assert_eq!(checked.code, Some(0), "{}", checked.log);

    let mut daemon = SIMPLE.start_in(place, &more);
    Udp::new(&daemon, V4).join(torrent(1), 1, 0);
    Http::new(&daemon, V4).join(torrent(1), 2, 0);
    wait::until("the torrent has been exported", || {
        let exported = std::fs::read_to_string(root.join("export.txt")).ok()?;
        exported.contains(" 2 0").then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
    for name in ["swarms.aqs", "swarms.aqs.webtorrent"] {
        assert!(root.join(name).is_file(), "{name}");
    }
}
