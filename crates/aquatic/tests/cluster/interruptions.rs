//! Servers and nodes that come, go, and come back.

use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::{self, JETSTREAM, NatsServer};
use aquatic_test_support::{metrics, torrent, wait};
use aquatic_types::{AnnounceEvent, IpFamily};
use nix::sys::signal::Signal;

use super::setup::{Kind, Node, client, pair, wait_for_counts, wait_until_connected};

const V4: IpFamily = IpFamily::V4;

#[test]
fn nodes_serve_before_there_is_a_server_and_share_what_they_have_when_there_is_one() {
    if !nats::is_there() {
        return;
    }
    for kind in [Kind::Udp, Kind::Http] {
        let mut server = NatsServer::stopped(JETSTREAM);
        let nodes = ["a", "b"].map(|name| Node::new(kind, name, &server).start());
        let [mut at_a, mut at_b] = nodes.each_ref().map(|node| client(kind, node, V4));
        at_a.join(torrent(1), 1, 0);
        at_b.join(torrent(1), 2, 5);
        metrics::wait_for(&nodes[0], &[("aquatic_cluster_connected", 0.0)]);
        server.go_on();
        for client in [&mut *at_a, &mut *at_b] {
            wait_for_counts(client, torrent(1), [1, 0, 1]);
        }
    }
}

/// Answers go on, and nothing of what was announced meanwhile is lost.
#[test]
fn a_server_that_is_gone_for_a_while_costs_nothing() {
    if !nats::is_there() {
        return;
    }
    let (mut server, nodes) = pair([Kind::Udp, Kind::Udp]);
    let [mut at_a, mut at_b] = nodes.each_ref().map(|node| client(Kind::Udp, node, V4));
    at_a.join(torrent(1), 1, 0);
    wait_for_counts(&mut *at_b, torrent(1), [1, 0, 0]);
    server.kill();
    for node in &nodes {
        metrics::wait_for(node, &[("aquatic_cluster_connected", 0.0)]);
    }
    for port in 2..60 {
        assert_eq!(at_a.join(torrent(1), port, 5).seeders, 1);
        assert_eq!(at_b.join(torrent(2), port, 5).leechers, u32::from(port) - 1);
    }
    at_a.announce(torrent(1), 1, 0, AnnounceEvent::Stopped)
        .unwrap();
    assert_eq!(at_b.scrape(torrent(1)), [1, 0, 0], "it cannot know");
    server.go_on();
    wait_for_counts(&mut *at_b, torrent(1), [0, 0, 58]);
    wait_for_counts(&mut *at_a, torrent(2), [0, 0, 58]);
    for node in &nodes {
        wait_until_connected(node);
        let reconnects = ("aquatic_cluster_reconnects_total", 1.0);
        metrics::wait_for(node, &[reconnects]);
    }
}

/// It takes what it is told, and passes it on to nobody.
#[test]
fn what_a_server_that_hung_took_along_is_told_again() {
    if !nats::is_there() {
        return;
    }
    for kind in [Kind::Udp, Kind::Http] {
        let (mut server, nodes) = pair([kind, kind]);
        let [mut at_a, mut at_b] = nodes.each_ref().map(|node| client(kind, node, V4));
        at_a.join(torrent(1), 1, 5);
        wait_for_counts(&mut *at_b, torrent(1), [0, 0, 1]);
        server.freeze();
        at_a.join(torrent(1), 2, 5);
        // It is published within a tenth of a second.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(at_b.scrape(torrent(1)), [0, 0, 1]);
        server.kill();
        server.go_on();
        wait_for_counts(&mut *at_b, torrent(1), [0, 0, 2]);
    }
}

/// Others share as before meanwhile.
#[test]
fn a_node_that_stands_still_is_dropped_and_reads_in_the_log_what_it_missed() {
    if !nats::is_there() {
        return;
    }
    // It asks nobody whom it has sent something in the last interval, and says in that log whom it
    // has dropped. Nodes that stand still for three seconds are not dropped yet.
    let settings = "ping_interval: \"300ms\"\nping_max: 10\ndebug: true";
    let server = NatsServer::start_with(&format!("{JETSTREAM}\n{settings}"));
    let nodes = ["a", "b", "still"].map(|name| Node::new(Kind::Udp, name, &server).start());
    nodes.iter().for_each(wait_until_connected);
    let [mut at_a, mut at_b, mut at_still] =
        nodes.each_ref().map(|node| client(Kind::Udp, node, V4));
    at_a.join(torrent(1), 1, 5);
    for client in [&mut *at_b, &mut *at_still] {
        wait_for_counts(client, torrent(1), [0, 0, 1]);
    }
    let still = &nodes[2];
    still.signal(Signal::SIGSTOP);
    let mut last = 1;
    let mut share = || {
        last += 1;
        let clock = Clock::start();
        at_a.join(torrent(last), 1, 5);
        wait_for_counts(&mut *at_b, torrent(last), [0, 0, 1]);
        // It is published within a tenth of a second, and machines are busy, or stand still.
        let took = clock.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    };
    (0..5).for_each(|_| share());
    wait::until_ok(|| match server.log().contains("Stale Client Connection") {
        true => Ok(()),
        false => Err(server.log()),
    });
    // What nobody has kept for it.
    share();
    still.signal(Signal::SIGCONT);
    for number in 1..=last {
        wait_for_counts(&mut *at_still, torrent(number), [0, 0, 1]);
    }
    for (node, times) in nodes.iter().zip([0.0, 0.0, 1.0]) {
        metrics::wait_for(
            node,
            &[
                ("aquatic_cluster_reconnects_total", times),
                ("aquatic_cluster_replays_total", 1.0 + times),
            ],
        );
    }
}

/// The first answer of a node has all peers.
#[test]
fn a_node_that_is_killed_knows_everything_when_it_is_back() {
    if !nats::is_there() {
        return;
    }
    for kind in Kind::ALL {
        let server = NatsServer::start();
        let a = Node::new(kind, "a", &server).start();
        let second = Node::new(kind, "b", &server).with("cluster.start_complete_within = 20");
        let mut b = second.start();
        wait_until_connected(&a);
        let mut at_a = client(kind, &a, V4);
        for port in 1..=60 {
            at_a.join(torrent(1), port, 5);
        }
        at_a.announce(torrent(1), 60, 5, AnnounceEvent::Stopped)
            .unwrap();
        let mut at_b = client(kind, &b, V4);
        wait_for_counts(&mut *at_b, torrent(1), [0, 0, 59]);
        at_b.join(torrent(1), 99, 0);
        wait_for_counts(&mut *at_a, torrent(1), [1, 0, 59]);
        b.signal(Signal::SIGKILL);
        b.wait_exit();
        // Nobody misses anybody.
        assert_eq!(at_a.scrape(torrent(1)), [1, 0, 59]);
        let b = second.start();
        let mut at_b = client(kind, &b, V4);
        assert_eq!(at_b.scrape(torrent(1)), [1, 0, 59], "{kind:?}");
        at_b.join(torrent(1), 2, 0);
        wait_for_counts(&mut *at_a, torrent(1), [2, 0, 58]);
        metrics::wait_for(&a, &[("aquatic_cluster_nodes", 2.0)]);
    }
}

/// The log has downloads that were counted, and written down, before.
#[test]
fn a_node_that_restarts_counts_no_download_twice() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).start();
    let second = Node::new(Kind::Udp, "b", &server)
        .with("persistence.swarms = true")
        .with("persistence.path = 'swarms.aqs'")
        .with("cluster.start_complete_within = 20");
    let mut b = second.start();
    wait_until_connected(&a);
    let mut at_a = client(Kind::Udp, &a, V4);
    let mut download = |port| {
        at_a.join(torrent(1), 9, 5);
        at_a.join(torrent(1), port, 5);
        at_a.announce(torrent(1), port, 0, AnnounceEvent::Completed)
            .unwrap();
        at_a.announce(torrent(1), port, 0, AnnounceEvent::Stopped)
            .unwrap();
    };
    download(1);
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [0, 1, 1]);
    // What is from after that was not counted in time: ages are in seconds.
    thread::sleep(Duration::from_secs(2));
    b.signal(Signal::SIGTERM);
    assert!(b.wait_exit().success());
    thread::sleep(Duration::from_secs(2));
    download(2);
    let b = second.start();
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [0, 2, 1]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(client(Kind::Udp, &b, V4).scrape(torrent(1)), [0, 2, 1]);
}

/// What it has heard in its last moment is told before it goes.
#[test]
fn a_node_that_stops_tells_the_others() {
    if !nats::is_there() {
        return;
    }
    let (_server, [a, mut b]) = pair([Kind::Udp, Kind::Udp]);
    let mut at_a = client(Kind::Udp, &a, V4);
    client(Kind::Udp, &b, V4).join(torrent(1), 1, 0);
    b.signal(Signal::SIGTERM);
    assert!(b.wait_exit().success());
    wait_for_counts(&mut *at_a, torrent(1), [1, 0, 0]);
    a.wait_for_log("node `b` leaves");
    metrics::wait_for(&a, &[("aquatic_cluster_nodes", 1.0)]);
}

/// Without a log, peers make up for it: they are told of again as they announce.
#[test]
fn without_a_log_a_new_node_hears_of_whoever_announces_again() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let node = |name| {
        Node::new(Kind::Udp, name, &server)
            .with("cluster.history = false")
            .with("cluster.refresh_interval = 2")
            .with("protocol.peer_announce_interval = 5")
    };
    let a = node("a").start();
    metrics::wait_for(&a, &[("aquatic_cluster_connected", 1.0)]);
    let mut at_a = client(Kind::Udp, &a, V4);
    for port in 1..=20 {
        at_a.join(torrent(1), port, 5);
    }
    // Before the other one is there to hear it.
    let published = "aquatic_cluster_records_published_total{reason=added}";
    metrics::wait_for(&a, &[(published, 20.0)]);
    let b = node("b").start();
    metrics::wait_for(&b, &[("aquatic_cluster_connected", 1.0)]);
    assert_eq!(client(Kind::Udp, &b, V4).scrape(torrent(1)), [0, 0, 0]);
    let mut at_b = client(Kind::Udp, &b, V4);
    wait::until_ok(|| {
        for port in 1..=20 {
            at_a.join(torrent(1), port, 5);
        }
        match at_b.scrape(torrent(1)) {
            [0, 0, 20] => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    });
    metrics::wait_for(&b, &[("aquatic_cluster_replays_total", 0.0)]);
    metrics::wait_for(&b, &[("aquatic_cluster_complete", 1.0)]);
}

/// Not for ever, and not in silence.
#[test]
fn a_start_does_not_wait_for_a_cluster_that_is_not_there() {
    let server = NatsServer::stopped(JETSTREAM);
    let node = Node::new(Kind::Udp, "a", &server).with("cluster.start_complete_within = 1");
    let a = node.start();
    a.wait_for_log("the swarms of the cluster are not known after 1 s: serving nevertheless");
    assert_eq!(client(Kind::Udp, &a, V4).join(torrent(1), 1, 0).seeders, 1);
}

#[test]
fn two_nodes_of_one_name_are_told_so() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let nodes = [0, 1].map(|_| Node::new(Kind::Udp, "same", &server).start());
    for node in &nodes {
        node.wait_for_log("another tracker of the cluster is called `same`, like this one");
    }
    let [mut at_a, mut at_b] = nodes.each_ref().map(|node| client(Kind::Udp, node, V4));
    at_a.join(torrent(1), 1, 0);
    wait_for_counts(&mut *at_b, torrent(1), [1, 0, 0]);
}
