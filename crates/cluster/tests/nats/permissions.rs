//! What an operator has to permit, and what nobody can do then.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aquatic_cluster::bus::{Bus, Channel, Destination};
use aquatic_cluster::config::ClusterConfig;
use aquatic_cluster::lists::ListKind;
use aquatic_daemon::clock::Clock;
use aquatic_test_support::cluster_document::Document;
use aquatic_test_support::nats::{self, JETSTREAM, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{AGE, Node, Seen, config};
use crate::{announces, lists};

const PEERS: Destination = Destination::All(Channel::Peers);

/// What the document says that operators write for two nodes of the cluster `main`: one user for
/// each, which publishes under its own name only. It may make what is kept in the servers, too.
pub(crate) fn configuration() -> String {
    format!(
        "{JETSTREAM}\n{}",
        Document::read().authorization(&["a", "b"])
    )
}

/// The same, where `part` is something else: it has to be there.
#[track_caller]
pub(crate) fn configuration_without(part: &str, instead: &str) -> String {
    let allowed = configuration();
    assert!(allowed.contains(part), "{part}: {allowed}");
    allowed.replace(part, instead)
}

pub(crate) fn config_of(server: &NatsServer, user: &str) -> ClusterConfig {
    let path = server.path(user);
    fs::write(&path, Document::read().credentials_of(user)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    ClusterConfig {
        credentials_file: path,
        ..config(&[server])
    }
}

/// Whatever the server has refused so far it has written down before it answers to this node.
#[track_caller]
fn assert_nothing_refused(lines: &Lines, server: &NatsServer, node: &Node) {
    node.with(|nats| nats.confirm(1));
    while node.next() != Seen::Confirmed(1) {}
    let log = server.log();
    assert!(!log.contains("Violation"), "{log}");
    assert_eq!(lines.with("Permissions Violation"), [] as [&str; 0]);
}

#[test]
fn what_is_permitted_suffices_for_everything() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with(&configuration());
    let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &config_of(&server, name)));
    for node in [&a, &b] {
        node.expect_connected();
        assert_eq!(node.read_all(AGE), []);
    }
    for channel in [Channel::Peers, Channel::Members, Channel::Nodes] {
        a.publish(&Destination::All(channel), b"x");
        b.expect_heard(channel, "a", b"x");
    }
    b.publish(&Destination::Node("a".to_owned()), b"y");
    a.expect_heard(Channel::Parcels, "a", b"y");
    until("both are logged", || {
        (b.read_all(AGE).len() == 2).then_some(())
    });
    for node in [&a, &b] {
        assert_nothing_refused(&lines, &server, node);
    }
}

/// With `cluster.access_list_bucket` and `cluster.keys_bucket`: they make, read and change it.
#[test]
fn what_is_permitted_suffices_for_each_list() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with(&configuration());
    for kind in [ListKind::AccessList, ListKind::Keys] {
        let trackers = ["a", "b"].map(|name| {
            let tracker = lists::Tracker::start_for(kind, name, &config_of(&server, name));
            tracker.wait_until_heard();
            tracker
        });
        let made = format!("made the stream KV_{} in", kind.bucket("main"));
        assert_eq!(lines.with(&made).len(), 1, "{made}");
        let [a, b] = &trackers;
        a.change(&[("x", Some("1")), ("y", Some("2"))]).unwrap();
        b.wait_for(&[("x", "1"), ("y", "2")]);
        b.change(&[("y", None)]).unwrap();
        a.wait_for(&[("x", "1")]);
        for tracker in &trackers {
            assert!(tracker.is_heard());
            assert_nothing_refused(&lines, &server, &tracker.node);
        }
    }
}

/// With `cluster.announces`.
#[test]
fn what_is_permitted_suffices_for_announces() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with(&configuration());
    let mut tracker = announces::Tracker::start(&config_of(&server, "a"));
    tracker.tell(3);
    tracker.wait_for_all();
    assert_eq!(tracker.published(), 3);
    assert_nothing_refused(&lines, &server, &tracker.node);
}

/// Somebody who has got hold of what one tracker is known by.
#[test]
fn nobody_publishes_as_another_or_sees_what_is_for_another() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with(&configuration());
    let b = Node::start_with("b", &config_of(&server, "b"));
    b.expect_connected();
    // It says that it is b, and is let in as a.
    let false_b = Node::start_with("b", &config_of(&server, "a"));
    false_b.expect_connected();
    let refused = |what: &str| {
        let line = format!("Permissions Violation for {what}");
        until(&line, || (!lines.with(&line).is_empty()).then_some(()));
    };
    refused("Subscription to \"aquatic.v1.main.parcels.b\"");
    refused("Subscription to \"_INBOX_b.");
    false_b.publish(&PEERS, b"not of b");
    refused("Publish to \"aquatic.v1.main.peers.b\"");
    // As others find it who look for what should not be there.
    let log = server.log();
    assert!(log.contains("Publish Violation"), "{log}");
    // Others hear what it may publish only, and it does not hear what is for others.
    let a = Node::start_with("a", &config_of(&server, "a"));
    a.expect_connected();
    a.publish(&Destination::Node("b".to_owned()), b"for b");
    b.expect_heard(Channel::Parcels, "b", b"for b");
    a.publish(&PEERS, b"of a");
    b.expect_heard(Channel::Peers, "a", b"of a");
    false_b.expect_heard(Channel::Peers, "a", b"of a");
    // Without answers there is no log for it.
    let reason = false_b.read_in_vain();
    assert!(
        reason.contains("Permissions Violation for Subscription"),
        "{reason}"
    );
}

#[test]
fn without_permission_for_the_log_everything_else_works() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let without = configuration_without("$JS.API.CONSUMER.", "$JS.API.OTHER.");
    let server = NatsServer::start_with(&without);
    let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &config_of(&server, name)));
    for node in [&a, &b] {
        node.expect_connected();
        let reason = node.read_in_vain();
        let expected = "Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.";
        assert!(reason.contains(expected), "{reason}");
    }
    a.publish(&PEERS, b"x");
    b.expect_heard(Channel::Peers, "a", b"x");
}

/// The servers let it have what it asks for from now on, and do not tell it.
#[test]
fn what_is_permitted_later_is_used_within_a_minute() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let without = configuration_without("\"aquatic.v1.main.peers.*\",", "");
    let log = "$JS.API.STREAM.INFO.AQUATIC_main";
    assert!(without.contains(log), "{without}");
    let server = NatsServer::start_with(&without.replace(log, "$JS.API.STREAM.INFO.OTHER"));
    let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &config_of(&server, name)));
    for node in [&a, &b] {
        node.expect_connected();
        node.read_in_vain();
    }
    a.publish(&PEERS, b"1");
    b.expect_silence(Duration::from_millis(200));
    server.reload(&configuration());
    let clock = Clock::start();
    for node in [&a, &b] {
        while node.next_within(Duration::from_secs(80)) != Seen::Connected {}
    }
    println!("connected anew after {:?}", clock.elapsed());
    a.publish(&PEERS, b"2");
    b.expect_heard(Channel::Peers, "a", b"2");
    until("there is a log", || {
        a.publish(&PEERS, b"3");
        b.read_log(AGE);
        loop {
            match b.next() {
                Seen::LogRead(_) => return Some(()),
                Seen::LogFailed(_) => return None,
                _ => {}
            }
        }
    });
}
