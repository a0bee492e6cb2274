//! Browsers that are connected to different nodes.

use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::browser::Browser;
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::setup::on_each;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, metrics, torrent};
use aquatic_types::{InfoHash, IpFamily};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::setup::{
    Kind, Kinds, Node, browser, client, pair, wait_for_counts, wait_until_connected,
};

const KINDS: [Kind; 2] = [Kind::WebTorrent, Kind::All];

/// The one offers, and the other one answers.
#[track_caller]
fn meet(torrent: InfoHash, offerer: &mut Browser, answerer: &mut Browser, left: u64) {
    offerer.announce(torrent, left, 1);
    let offer = answerer.receive();
    assert_eq!(offer["peer_id"], Value::from(offerer.peer_id()), "{offer}");
    let sdp = format!("offer 0 of {}", offerer.peer_id());
    assert_eq!(offer["offer"]["sdp"], Value::from(sdp), "{offer}");
    answerer.answer(torrent, &offer);
    let answer = offerer.receive();
    assert_eq!(answer["peer_id"], Value::from(answerer.peer_id()));
    let sdp = format!("answer of {}", answerer.peer_id());
    assert_eq!(answer["answer"]["sdp"], Value::from(sdp), "{answer}");
}

#[test]
fn browsers_at_different_nodes_meet_as_if_at_one() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kinds::all_of(KINDS), |Kinds(one, other)| {
        let kinds = [one, other];
        let (_server, [a, b]) = pair(kinds);
        let torrent = torrent(1);
        let (mut at_a, mut at_b) = (browser(kinds[0], &a, b'a'), browser(kinds[1], &b, b'b'));
        at_a.announce(torrent, 5, 0);
        at_b.wait_for_counts(torrent, [0, 0, 1]);
        meet(torrent, &mut at_b, &mut at_a, 5);
        at_a.wait_for_counts(torrent, [0, 0, 2]);
        meet(torrent, &mut at_a, &mut at_b, 0);
        at_b.wait_for_counts(torrent, [1, 0, 1]);
        at_b.complete(torrent);
        at_a.wait_for_counts(torrent, [2, 1, 0]);
        drop(at_b);
        at_a.wait_for_counts(torrent, [1, 1, 0]);
    });
}

/// They cannot use the addresses of others, at whichever node these are.
#[test]
fn swarms_of_browsers_and_of_others_stay_apart() {
    if !nats::is_there() {
        return;
    }
    let (_server, [a, b]) = pair([Kind::All, Kind::All]);
    let torrent = torrent(1);
    let mut udp = client(Kind::All, &a, IpFamily::V4);
    udp.join(torrent, 1, 0);
    let mut page = browser(Kind::All, &a, b'a');
    page.announce(torrent, 5, 0);
    browser(Kind::All, &b, b'b').wait_for_counts(torrent, [0, 0, 1]);
    wait_for_counts(
        &mut *client(Kind::All, &b, IpFamily::V4),
        torrent,
        [1, 0, 0],
    );
}

#[test]
fn a_node_that_starts_knows_the_browsers_of_others() {
    if !nats::is_there() {
        return;
    }
    for kind in KINDS {
        let server = NatsServer::start();
        let a = Node::new(kind, "a", &server).start();
        wait_until_connected(&a);
        let mut at_a = browser(kind, &a, b'a');
        at_a.announce(torrent(1), 5, 0);
        let b = Node::new(kind, "b", &server).with("cluster.start_complete_within = 20");
        let b = b.start();
        wait_until_connected(&b);
        let mut at_b = browser(kind, &b, b'b');
        at_b.wait_for_counts(torrent(1), [0, 0, 1]);
        meet(torrent(1), &mut at_b, &mut at_a, 5);
    }
}

/// Whoever is connected there has to connect to another node.
#[test]
fn browsers_of_a_node_that_stops_leave_with_it() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::new(Kind::WebTorrent, name, &server));
    let (mut a, b) = (a.start(), b.start());
    [&a, &b].into_iter().for_each(wait_until_connected);
    let mut at_b = browser(Kind::WebTorrent, &b, b'b');
    let mut at_a = browser(Kind::WebTorrent, &a, b'a');
    at_a.announce(torrent(1), 5, 0);
    at_b.wait_for_counts(torrent(1), [0, 0, 1]);
    a.signal(Signal::SIGTERM);
    assert!(a.wait_exit().success());
    at_b.wait_for_counts(torrent(1), [0, 0, 0]);
}

fn offers_sent(node: &Daemon) -> f64 {
    let selector = "aquatic_cluster_messages_relayed_total{kind=offer,outcome=sent}";
    metrics::sum(&metrics::scrape(node), selector)
}

/// It cannot say that it is gone. Offers would be lost on the way to it.
#[test]
fn browsers_of_a_killed_node_get_no_offers_after_5_s_and_leave_after_30_s() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::new(Kind::WebTorrent, name, &server));
    let (mut of_a, b) = (a.start(), b.start());
    [&of_a, &b].into_iter().for_each(wait_until_connected);
    let mut at_b = browser(Kind::WebTorrent, &b, b'b');
    let mut at_a = browser(Kind::WebTorrent, &of_a, b'a');
    at_a.announce(torrent(1), 5, 0);
    at_b.wait_for_counts(torrent(1), [0, 0, 1]);
    at_b.announce(torrent(1), 5, 1);
    at_a.receive();
    let killed = Clock::start();
    of_a.signal(Signal::SIGKILL);
    of_a.wait_exit();
    std::thread::sleep(Duration::from_millis(5_500));
    assert!(offers_sent(&b) >= 1.0);
    // Its last sign of life may have been heard late.
    until("nobody is sent offers", || {
        let sent = offers_sent(&b);
        let counts = at_b.announce(torrent(1), 5, 10);
        assert_eq!(counts["incomplete"], 2, "it may come back");
        std::thread::sleep(Duration::from_millis(1_200));
        (offers_sent(&b) == sent).then_some(())
    });
    assert!(killed.elapsed() < Duration::from_secs(20));
    let almost_gone = Duration::from_secs(25);
    std::thread::sleep(almost_gone.saturating_sub(killed.elapsed()));
    assert_eq!(at_b.scrape(torrent(1)), [0, 0, 2], "it may still come back");
    at_b.wait_for_counts(torrent(1), [0, 0, 1]);
}

/// The process that has its name is another one.
#[test]
fn browsers_of_a_killed_node_leave_when_it_is_back() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::new(Kind::WebTorrent, name, &server));
    let (mut of_a, b) = (a.start(), b.start());
    [&of_a, &b].into_iter().for_each(wait_until_connected);
    let mut at_b = browser(Kind::WebTorrent, &b, b'b');
    browser(Kind::WebTorrent, &of_a, b'a').announce(torrent(2), 5, 0);
    let mut at_a = browser(Kind::WebTorrent, &of_a, b'a');
    at_a.announce(torrent(1), 5, 0);
    at_b.announce(torrent(1), 5, 0);
    at_b.wait_for_counts(torrent(1), [0, 0, 2]);
    let killed = Clock::start();
    of_a.signal(Signal::SIGKILL);
    of_a.wait_exit();
    let of_a = a.start();
    wait_until_connected(&of_a);
    at_b.wait_for_counts(torrent(1), [0, 0, 1]);
    assert!(killed.elapsed() < Duration::from_secs(20));
    let mut at_a = browser(Kind::WebTorrent, &of_a, b'a');
    at_a.wait_for_counts(torrent(1), [0, 0, 1]);
    meet(torrent(1), &mut at_a, &mut at_b, 5);
    assert_eq!(at_a.scrape(torrent(2)), [0, 0, 0]);
}

/// What is for others does not wait for the server, and comes again with the next announce.
#[test]
fn browsers_of_one_node_meet_while_the_server_is_gone_and_those_of_others_after() {
    if !nats::is_there() {
        return;
    }
    let (mut server, [a, b]) = pair([Kind::WebTorrent, Kind::WebTorrent]);
    let mut at_a = browser(Kind::WebTorrent, &a, b'a');
    let mut at_b = browser(Kind::WebTorrent, &b, b'b');
    at_a.announce(torrent(1), 5, 0);
    at_b.announce(torrent(1), 5, 0);
    at_a.wait_for_counts(torrent(1), [0, 0, 2]);
    server.kill();
    metrics::wait_for(&a, &[("aquatic_cluster_connected", 0.0)]);
    let mut second = browser(Kind::WebTorrent, &a, b'c');
    let answer = second.announce(torrent(1), 5, 10);
    assert_eq!(answer["incomplete"], 3, "{answer}");
    assert_eq!(at_a.receive()["peer_id"], Value::from(second.peer_id()));
    at_b.hears_nothing();
    server.go_on();
    at_b.wait_for_counts(torrent(1), [0, 0, 3]);
    drop(second);
    at_b.wait_for_counts(torrent(1), [0, 0, 2]);
    at_a.wait_for_counts(torrent(1), [0, 0, 2]);
    meet(torrent(1), &mut at_b, &mut at_a, 5);
}

/// Nobody at the one node is told of what the other one does not allow.
#[test]
fn browsers_do_not_meet_over_a_torrent_that_one_node_does_not_allow() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let strict = Node::new(Kind::WebTorrent, "strict", &server)
        .with("access_list.mode = 'deny'")
        .with("access_list.path = 'list'");
    strict.place().write("list", torrent(1).to_string());
    let a = Node::new(Kind::WebTorrent, "a", &server).start();
    let b = strict.start();
    [&a, &b].into_iter().for_each(wait_until_connected);
    let mut at_a = browser(Kind::WebTorrent, &a, b'a');
    at_a.announce(torrent(1), 5, 0);
    at_a.announce(torrent(2), 5, 0);
    browser(Kind::WebTorrent, &b, b'b').wait_for_counts(torrent(2), [0, 0, 1]);
    let expected = [
        ("aquatic_cluster_members_total{outcome=applied}", 1.0),
        ("aquatic_cluster_members_total{outcome=forbidden}", 1.0),
    ];
    metrics::wait_for(&b, &expected);
}
