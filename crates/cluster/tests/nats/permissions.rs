//! What an operator has to permit, and what nobody can do then.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_cluster::config::ClusterConfig;
use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::{self, JETSTREAM, NatsServer};
use aquatic_test_support::wait::until;

use crate::node::{AGE, Node, Seen, config, log_lines};

const PEERS: Destination = Destination::All(Channel::Peers);

/// One user for each node of the cluster `main`: `NODE` stands for its name, which is its user's,
/// too. It publishes under its own name, and parcels to all; it hears all, but parcels and answers
/// only its own. It may make the log and read it.
pub(crate) const USER: &str = r#"
    {
      user: NODE, password: "secret of NODE",
      permissions: {
        publish: [
          "aquatic.v1.main.*.NODE", "aquatic.v1.main.parcels.*",
          "$JS.API.STREAM.INFO.AQUATIC_main", "$JS.API.STREAM.CREATE.AQUATIC_main",
          "$JS.API.CONSUMER.CREATE.AQUATIC_main.>", "$JS.API.CONSUMER.MSG.NEXT.AQUATIC_main.*",
          "$JS.API.STREAM.INFO.KV_aquatic_main_access",
          "$JS.API.STREAM.CREATE.KV_aquatic_main_access",
          "$JS.API.STREAM.INFO.KV_aquatic_main_keys", "$JS.API.STREAM.CREATE.KV_aquatic_main_keys",
          "$JS.API.CONSUMER.CREATE.KV_aquatic_main_access.>",
          "$JS.API.CONSUMER.MSG.NEXT.KV_aquatic_main_access.*",
          "$JS.API.CONSUMER.CREATE.KV_aquatic_main_keys.>",
          "$JS.API.CONSUMER.MSG.NEXT.KV_aquatic_main_keys.*",
          "$KV.aquatic_main_access.*", "$KV.aquatic_main_keys.*",
          "$JS.API.STREAM.INFO.AQUATIC-ANNOUNCES_main",
          "$JS.API.STREAM.CREATE.AQUATIC-ANNOUNCES_main"
        ],
        subscribe: [
          "aquatic.v1.main.peers.*", "aquatic.v1.main.members.*", "aquatic.v1.main.nodes.*",
          "aquatic.v1.main.parcels.NODE", "_INBOX_NODE.>"
        ]
      }
    }"#;

pub(crate) fn configuration() -> String {
    let users: String = ["a", "b"].map(|node| USER.replace("NODE", node)).concat();
    format!("{JETSTREAM}\nauthorization {{ users: [{users}] }}")
}

pub(crate) fn config_of(server: &NatsServer, user: &str) -> ClusterConfig {
    let path = server.path(user);
    fs::write(&path, format!("{user}\nsecret of {user}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    ClusterConfig {
        credentials_file: path,
        ..config(&[server])
    }
}

#[test]
fn what_is_permitted_suffices_for_everything() {
    if !nats::is_there() {
        return;
    }
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
    assert_eq!(log_lines("Permissions Violation"), [] as [&str; 0]);
}

/// Somebody who has got hold of what one tracker is known by.
#[test]
fn nobody_publishes_as_another_or_sees_what_is_for_another() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start_with(&configuration());
    let b = Node::start_with("b", &config_of(&server, "b"));
    b.expect_connected();
    // It says that it is b, and is let in as a.
    let false_b = Node::start_with("b", &config_of(&server, "a"));
    false_b.expect_connected();
    let refused = |what: &str| {
        let line = format!("Permissions Violation for {what}");
        until(&line, || (!log_lines(&line).is_empty()).then_some(()));
    };
    refused("Subscription to \"aquatic.v1.main.parcels.b\"");
    refused("Subscription to \"_INBOX_b.");
    false_b.publish(&PEERS, b"not of b");
    refused("Publish to \"aquatic.v1.main.peers.b\"");
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
    let without = configuration().replace("$JS.API.CONSUMER.", "$JS.API.OTHER.");
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
    let allowed = configuration();
    let without = allowed.replace("\"aquatic.v1.main.peers.*\",", "").replace(
        "$JS.API.STREAM.INFO.AQUATIC_main",
        "$JS.API.STREAM.INFO.OTHER",
    );
    let server = NatsServer::start_with(&without);
    let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &config_of(&server, name)));
    for node in [&a, &b] {
        node.expect_connected();
        node.read_in_vain();
    }
    a.publish(&PEERS, b"1");
    b.expect_silence(Duration::from_millis(200));
    server.reload(&allowed);
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
