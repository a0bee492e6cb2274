//! A configuration file that is read again while several protocols are served.

use aquatic_test_support::setup::on_each;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Place, metrics, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};
use nix::sys::signal::Signal;

use super::setup::{Client, Combination, Http, SIMPLE, Udp, metrics_settings};

const V4: IpFamily = IpFamily::V4;

fn change(daemon: &Daemon, combination: Combination, more: &str) {
    let settings = combination.settings(&daemon.place, more);
    daemon.place.write("config.toml", settings);
    daemon.reload_by(Signal::SIGHUP);
}

/// Each protocol goes by its own section, and both by what they share, whoever owns the shards.
#[test]
fn each_protocol_follows_its_own_section() {
    on_each(&Combination::all(), |combination| {
        let any = "udp.protocol.max_response_peers_per_ip = 0\n\
                   http.protocol.max_response_peers_per_ip = 0\n";
        let daemon = combination.start(any);
        let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
        for port in 1..=20 {
            udp.join(torrent(1), port, 1);
        }
        let more = format!(
            "{any}udp.protocol.max_response_peers = 5\nhttp.protocol.max_peers = 7\n\
             limits.max_torrents = 1"
        );
        change(&daemon, combination, &more);
        until("both have changed", || {
            let of_udp = udp.join(torrent(1), 1, 1).ports.len();
            let of_http = http.join(torrent(1), 1, 1).ports.len();
            ((of_udp, of_http) == (5, 7)).then_some(())
        });
        // In all shards.
        let is_refused = |client: &mut dyn Client, number| {
            let answer = client.announce(torrent(number), 1, 1, AnnounceEvent::None);
            answer.is_err()
        };
        let refused = (100..130).filter(|number| is_refused(&mut udp, *number));
        assert!(refused.count() >= 27);
        let refused = (200..230).filter(|number| is_refused(&mut http, *number));
        assert!(refused.count() >= 27);
    });
}

#[test]
fn each_protocol_has_its_own_intervals() {
    let told = |udp, http| {
        [
            ("aquatic_announce_interval_seconds{protocol=udp}", udp),
            ("aquatic_announce_interval_seconds{protocol=http}", http),
        ]
    };
    let place = Place::new();
    let served = metrics_settings(&place);
    let daemon = SIMPLE.start_in(place, &served);
    metrics::wait_for(&daemon, &told(900.0, 900.0));
    let more = format!(
        "{served}udp.protocol.peer_announce_interval = 800\n\
         http.protocol.peer_announce_interval = 700\n\
         http.protocol.announce_interval_max = 1000"
    );
    change(&daemon, SIMPLE, &more);
    // A worker looks for that when there is a batch.
    let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    until("both have changed", || {
        udp.join(torrent(1), 1, 1);
        http.join(torrent(1), 1, 1);
        let samples = metrics::scrape(&daemon);
        let are_new = |(name, value)| metrics::sum(&samples, name) == value;
        told(800.0, 700.0).into_iter().all(are_new).then_some(())
    });
}

/// Peers of an address are counted over both.
#[test]
fn limits_that_protocols_share_change() {
    let per_ip = |max: u32| format!("limits.max_peers_per_ip = {max}");
    let daemon = SIMPLE.start(&per_ip(2));
    let (mut udp, mut http) = (Udp::new(&daemon, V4), Http::new(&daemon, V4));
    let joins = |client: &mut dyn Client, number| {
        let answer = client.announce(torrent(number), 1, 1, AnnounceEvent::None);
        answer.is_ok()
    };
    assert!(joins(&mut udp, 1) && joins(&mut http, 2));
    assert!(!joins(&mut udp, 3) && !joins(&mut http, 3));
    change(&daemon, SIMPLE, &per_ip(4));
    daemon.wait_for_log("`limits.max_peers_per_ip`: 2 -> 4, applied");
    assert!(joins(&mut udp, 3) && joins(&mut http, 4));
    assert!(!joins(&mut udp, 5) && !joins(&mut http, 5));
}

/// Keys are named as they stand in the file.
#[test]
fn what_needs_a_restart_is_named() {
    let daemon = SIMPLE.start("");
    let more = "udp.protocol.max_scrape_torrents = 116\nhttp.network.keep_alive = false\n\
                udp.network.ring_size = 64";
    change(&daemon, SIMPLE, more);
    daemon.wait_for_log("`http.network.keep_alive`: true -> false, applied");
    for key in ["udp.protocol.max_scrape_torrents", "udp.network.ring_size"] {
        daemon.wait_for_log(&format!("`{key}` has changed: it needs a restart"));
    }
    // What the two want of the swarms that they share must be the same.
    change(
        &daemon,
        SIMPLE,
        "udp.protocol.max_response_peers_per_ip = 5",
    );
    daemon.wait_for_log("reload failed, keeping the configuration of before: ");
}
