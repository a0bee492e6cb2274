//! Announces for a back end.

use std::thread;
use std::time::Duration;

use aquatic_test_support::browser::Browser;
use aquatic_test_support::nats::{self, NatsClient, NatsServer};
use aquatic_test_support::{Daemon, metrics, torrent};
use aquatic_types::{AnnounceEvent, IpFamily};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::setup::{Client, Http, Kind, Node, Udp, browser, wait_for_counts, wait_until_connected};

const V4: IpFamily = IpFamily::V4;

const STREAM: &str = "AQUATIC-ANNOUNCES_main";

fn node(kind: Kind, name: &str, server: &NatsServer) -> Node {
    let node = Node::new(kind, name, server)
        .with("cluster.announces = true\nkeys.mode = 'require'\nkeys.path = 'keys'")
        .with("access_list.mode = 'deny'\naccess_list.path = 'list'");
    node.place().write("keys", "Alice\nBob peers=1\n");
    node.place().write("list", torrent(9).to_string());
    node
}

/// Somebody with a key.
fn client(kind: Kind, daemon: &Daemon, path: &'static str) -> Box<dyn Client> {
    match kind {
        Kind::Udp => {
            let mut client = Udp::new(daemon, V4);
            client.path = path;
            Box::new(client)
        }
        _ => {
            let mut client = Http::new(daemon, V4);
            client.path = path;
            Box::new(client)
        }
    }
}

const ALICE: &str = "/Alice/announce";

fn wait_for_published(daemon: &Daemon, number: f64) {
    let published = ("aquatic_cluster_announces_published_total", number);
    metrics::wait_for(daemon, &[published]);
}

fn lines(server: &NatsServer) -> Vec<Value> {
    let mut back_end = NatsClient::connect(server.address());
    let messages = back_end.read_stream(STREAM);
    let lines = messages.iter().flat_map(|(_, body)| body.lines());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_served_is_told_with_all_that_the_client_says() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let daemon = node(Kind::Both, "a", &server).start();
    wait_until_connected(&daemon);
    let [mut udp, mut http] = [Kind::Udp, Kind::Http].map(|it| client(it, &daemon, ALICE));
    udp.announce(torrent(1), 7, 5, AnnounceEvent::Started)
        .unwrap();
    http.announce(torrent(1), 8, 0, AnnounceEvent::Completed)
        .unwrap();
    // Who is not served is not told of.
    let denied = udp.announce(torrent(9), 7, 5, AnnounceEvent::None);
    denied.unwrap_err();
    let mut stranger = Http::new(&daemon, V4);
    let unknown = stranger.announce(torrent(1), 9, 5, AnnounceEvent::None);
    unknown.unwrap_err();
    let mut bob = client(Kind::Udp, &daemon, "/Bob/announce");
    bob.join(torrent(1), 10, 5);
    let full = bob.announce(torrent(2), 10, 5, AnnounceEvent::None);
    full.unwrap_err();
    http.announce(torrent(1), 8, 0, AnnounceEvent::Stopped)
        .unwrap();
    wait_for_published(&daemon, 4.0);
    let mut lines = lines(&server);
    lines.sort_by_key(|line| line["time"].as_u64());
    let of = |name: &str| -> Vec<_> { lines.iter().map(|line| line[name].clone()).collect() };
    assert_eq!(of("port"), [7, 8, 10, 8]);
    assert_eq!(of("left"), [5, 0, 5, 0]);
    assert_eq!(of("event"), ["started", "completed", "none", "stopped"]);
    assert_eq!(of("key"), ["Alice", "Alice", "Bob", "Alice"]);
    assert_eq!(of("protocol"), ["udp", "http", "udp", "http"]);
    for line in &lines {
        assert_eq!(line["node"], "a");
        assert_eq!(line["info_hash"], torrent(1).to_string());
        assert_eq!(line["ip"], daemon.place.address(V4).ip().to_string());
        assert_eq!(line["peer_id"].as_str().unwrap().len(), 40);
        assert!(line["uploaded"].is_u64() && line["downloaded"].is_u64());
        let seconds = line["time"].as_u64().unwrap() / 1_000_000;
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs();
        assert!(now.abs_diff(seconds) < 60, "{seconds} is not {now}");
    }
}

/// They have no port, and need not say how much they have sent.
#[test]
fn what_browsers_announce_is_told_too() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    for (kind, name) in [(Kind::WebTorrent, "a"), (Kind::All, "b")] {
        let daemon = node(kind, name, &server).start();
        wait_until_connected(&daemon);
        let mut to = daemon.address(V4);
        if kind == Kind::All {
            to.set_port(daemon.place.second_port());
        }
        let mut alice = Browser::connect_by(to, "/Alice", b'x');
        alice.announce(torrent(1), 5, 1);
        assert!(alice.is_served(torrent(1)));
        assert!(!alice.is_served(torrent(9)));
        wait_for_published(&daemon, 2.0);
    }
    let lines = lines(&server);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (two, node) in lines.chunks(2).zip(["a", "b"]) {
        for (line, said) in two.iter().zip([Value::from(0), Value::Null]) {
            assert_eq!(
                (&line["node"], &line["protocol"]),
                (&node.into(), &"ws".into())
            );
            assert_eq!(
                (&line["port"], &line["key"]),
                (&Value::Null, &"Alice".into())
            );
            assert_eq!((&line["uploaded"], &line["downloaded"]), (&said, &said));
            assert_eq!(line["left"], 5);
            assert_eq!(line["info_hash"], torrent(1).to_string());
            assert!(line["peer_id"].as_str().unwrap().starts_with("78"));
        }
    }
}

/// Each of them once, and those of a client in order.
#[test]
fn nothing_is_lost_while_the_server_is_away_or_when_a_tracker_stops() {
    if !nats::is_there() {
        return;
    }
    for kind in [Kind::Udp, Kind::Http] {
        let mut server = NatsServer::start();
        let mut daemon = node(kind, "a", &server).start();
        wait_until_connected(&daemon);
        let mut client = client(kind, &daemon, ALICE);
        let mut left = 0..;
        let mut announce = |number: usize| {
            for left in left.by_ref().take(number) {
                client.join(torrent(1), 7, left);
            }
        };
        announce(100);
        server.kill();
        announce(100);
        metrics::wait_for(&daemon, &[("aquatic_cluster_connected", 0.0)]);
        server.go_on();
        announce(100);
        wait_for_published(&daemon, 300.0);
        announce(100);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait_exit().success());
        let lines = lines(&server);
        let told: Vec<_> = lines.iter().map(|line| line["left"].as_u64()).collect();
        let expected: Vec<_> = (0..400).map(Some).collect();
        assert_eq!(told, expected, "{kind:?}");
    }
}

/// A browser that does not go keeps the tracker from ending, and others are served meanwhile.
#[test]
fn what_is_served_while_a_tracker_stops_is_told_to_all() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let mut daemon = Node::new(Kind::All, "a", &server)
        .with("cluster.announces = true")
        .start();
    let b = Node::new(Kind::Udp, "b", &server).start();
    for node in [&daemon, &b] {
        wait_until_connected(node);
    }
    let browser = browser(Kind::All, &daemon, 1);
    let mut client = Udp::new(&daemon, V4);
    client.join(torrent(1), 1, 5);
    daemon.signal(Signal::SIGTERM);
    for port in 2..=11 {
        thread::sleep(Duration::from_millis(10));
        client.join(torrent(1), port, 5);
    }
    drop(browser);
    assert!(daemon.wait_exit().success());
    assert_eq!(lines(&server).len(), 11);
    wait_for_counts(&mut Udp::new(&b, V4), torrent(1), [0, 0, 11]);
}

#[test]
fn nobody_is_told_unless_that_is_wanted() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let daemon = Node::new(Kind::Udp, "a", &server).start();
    wait_until_connected(&daemon);
    Udp::new(&daemon, V4).join(torrent(1), 1, 0);
    let records = "aquatic_cluster_records_published_total{reason=added}";
    metrics::wait_for(&daemon, &[(records, 1.0)]);
    let mut back_end = NatsClient::connect(server.address());
    let answer = back_end.ask(&format!("$JS.API.STREAM.INFO.{STREAM}"), "");
    assert!(answer.contains("stream not found"), "{answer}");
}
