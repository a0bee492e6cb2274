//! Nodes that the servers do not let in.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aquatic_test_support::nats::{self, JETSTREAM, NatsServer};
use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Daemon, metrics, torrent, wait};
use aquatic_types::IpFamily;

use super::setup::{Kind, Node, client, wait_for_counts, wait_until_connected};

const V4: IpFamily = IpFamily::V4;

const REFUSED: &str = "it refuses the credentials (`cluster.credentials_file`)";

/// Trackers that the server lets in: user and password are the same.
fn authorization(users: &[&str]) -> String {
    let users = users.iter();
    let users = users.map(|name| format!("{{ user: {name}, password: {name} }}"));
    let users = users.collect::<Vec<_>>().join(", ");
    format!("{JETSTREAM}\nauthorization {{ users: [ {users} ] }}")
}

fn node(kind: Kind, name: &str, server: &NatsServer) -> Daemon {
    let node = Node::new(kind, name, server).with("cluster.credentials_file = 'credentials'");
    let file = node
        .place()
        .write("credentials", format!("{name}\n{name}\n"));
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    node.start()
}

const MAY_NOT: &str = "refuses what this tracker's user may not do";

/// Times that the server has refused a message.
fn violations(server: &NatsServer) -> usize {
    server.log().matches("Publish Violation").count()
}

/// Times that the server has refused somebody so far.
fn refusals(server: &NatsServer) -> usize {
    server.log().matches("authentication error").count()
}

fn complaints(node: &Daemon) -> usize {
    node.place.log().matches(REFUSED).count()
}

#[test]
fn a_node_with_wrong_credentials_serves_says_so_once_and_is_let_in_later() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kind::ALL, |kind| {
        let mut server = NatsServer::start_with(&authorization(&["known"]));
        let [known, unknown] = ["known", "unknown"].map(|name| node(kind, name, &server));
        wait_until_connected(&known);
        unknown.wait_for_log(REFUSED);
        let [mut at_known, mut at_unknown] = [&known, &unknown].map(|it| client(kind, it, V4));
        // It tries again and again, and serves all the time.
        wait::until_ok(|| {
            assert_eq!(at_unknown.join(torrent(1), 1, 0).seeders, 1);
            match refusals(&server) {
                0..4 => Err(format!("the server says {}", server.log())),
                _ => Ok(()),
            }
        });
        assert_eq!(at_unknown.join(torrent(1), 2, 5).ports, [1]);
        assert_eq!(complaints(&unknown), 1, "{}", unknown.place.log());
        assert_eq!(complaints(&known), 0);
        for (node, connected) in [(&known, 1.0), (&unknown, 0.0)] {
            metrics::wait_for(node, &[("aquatic_cluster_connected", connected)]);
        }
        assert_eq!(at_known.scrape(torrent(1)), [0, 0, 0]);

        server.kill();
        server.configure(&authorization(&["known", "unknown"]));
        server.go_on();
        wait_until_connected(&unknown);
        wait_for_counts(&mut *at_known, torrent(1), [1, 0, 1]);
        assert_eq!(complaints(&unknown), 1);
    });
}

/// `documents/clustering.md`: to shut a node out, take its user away.
#[test]
fn a_node_whose_user_is_taken_away_serves_alone_until_it_is_there_again() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kind::ALL, |kind| {
        let server = NatsServer::start_with(&authorization(&["a", "b"]));
        let [a, b] = ["a", "b"].map(|name| node(kind, name, &server));
        let [mut at_a, mut at_b] = [&a, &b].map(|it| client(kind, it, V4));
        [&a, &b].into_iter().for_each(wait_until_connected);
        at_b.join(torrent(1), 1, 0);
        wait_for_counts(&mut *at_a, torrent(1), [1, 0, 0]);

        server.reload(&authorization(&["a"]));
        b.wait_for_log(REFUSED);
        metrics::wait_for(&b, &[("aquatic_cluster_connected", 0.0)]);
        // It tries again and again, and serves all the time, from what it has.
        let refused = refusals(&server);
        wait::until_ok(|| {
            assert_eq!(at_b.join(torrent(1), 2, 5).ports, [1]);
            match refusals(&server) - refused {
                0..2 => Err(format!("the server says {}", server.log())),
                _ => Ok(()),
            }
        });
        assert_eq!(complaints(&b), 1, "{}", b.place.log());
        // Neither hears of the other, and what was shared before stays.
        at_a.join(torrent(2), 3, 0);
        assert_eq!(at_a.scrape(torrent(1)), [1, 0, 0]);
        assert_eq!(at_b.scrape(torrent(2)), [0, 0, 0]);
        metrics::wait_for(&a, &[("aquatic_cluster_connected", 1.0)]);
        assert_eq!(complaints(&a), 0);

        server.reload(&authorization(&["a", "b"]));
        wait_until_connected(&b);
        wait_for_counts(&mut *at_a, torrent(1), [1, 0, 1]);
        wait_for_counts(&mut *at_b, torrent(2), [1, 0, 0]);
        assert_eq!(complaints(&b), 1, "{}", b.place.log());
    });
}

/// What it may not say, nobody hears, until it may: its peers stay its own.
#[test]
fn a_node_that_may_not_publish_any_more_serves_says_so_once_and_hears_the_others() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kind::ALL, |kind| {
        let users = authorization(&["a", "b"]);
        let denied = "password: b, permissions: { publish: { deny: \"aquatic.v1.main.peers.b\" } }";
        let server = NatsServer::start_with(&users);
        let [a, b] = ["a", "b"].map(|name| node(kind, name, &server));
        let [mut at_a, mut at_b] = [&a, &b].map(|it| client(kind, it, V4));
        [&a, &b].into_iter().for_each(wait_until_connected);
        at_b.join(torrent(1), 1, 0);
        wait_for_counts(&mut *at_a, torrent(1), [1, 0, 0]);

        server.reload(&users.replace("password: b", denied));
        for port in 2..=5 {
            at_b.join(torrent(1), port, 5);
            wait::until_ok(|| match violations(&server) {
                count if count + 1 >= usize::from(port) => Ok(()),
                _ => Err(format!("the server says {}", server.log())),
            });
        }
        let said = b.wait_for_log(MAY_NOT);
        assert!(said.contains("aquatic.v1.main.peers.b"), "{said}");
        at_a.join(torrent(2), 6, 0);
        wait_for_counts(&mut *at_b, torrent(2), [1, 0, 0]);
        assert_eq!(at_a.scrape(torrent(1)), [1, 0, 0]);
        let log = b.place.log();
        assert_eq!(log.matches(MAY_NOT).count(), 1, "{log}");

        server.reload(&users);
        wait_for_counts(&mut *at_a, torrent(1), [1, 0, 4]);
    });
}
