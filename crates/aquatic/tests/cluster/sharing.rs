//! What peers of one node have of those of another.

use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::setup::on_each;
use aquatic_test_support::{Daemon, metrics, torrent, wait};
use aquatic_types::{AnnounceEvent, IpFamily};

use super::setup::{
    Answer, Kind, Kinds, Node, client, pair, wait_for_counts, wait_until_connected,
};

const V4: IpFamily = IpFamily::V4;

#[test]
fn whoever_announces_at_one_node_is_handed_out_by_the_other() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kinds::all_of(Kind::ALL), |Kinds(of_a, of_b)| {
        let (_server, [a, b]) = pair([of_a, of_b]);
        for (number, family) in [(1, V4), (2, IpFamily::V6)] {
            let torrent = torrent(number);
            let (mut at_a, mut at_b) = (client(of_a, &a, family), client(of_b, &b, family));
            at_a.join(torrent, 1, 0);
            wait_for_counts(&mut *at_b, torrent, [1, 0, 0]);
            let answer = at_b.join(torrent, 2, 5);
            let seeder = Answer {
                seeders: 1,
                leechers: 1,
                ports: vec![1],
            };
            assert_eq!(answer, seeder);
            wait_for_counts(&mut *at_a, torrent, [1, 0, 1]);
            let answer = at_a.join(torrent, 3, 5);
            assert_eq!(answer.ports, [1, 2]);
            wait_for_counts(&mut *at_b, torrent, [1, 0, 2]);
        }
    });
}

/// All that a peer can do.
#[test]
fn a_peer_changes_and_leaves_at_all_nodes() {
    if !nats::is_there() {
        return;
    }
    let (_server, [a, b]) = pair([Kind::Udp, Kind::Http]);
    let (mut at_a, mut at_b) = (client(Kind::Udp, &a, V4), client(Kind::Http, &b, V4));
    let torrent = torrent(1);
    at_a.join(torrent, 1, 5);
    wait_for_counts(&mut *at_b, torrent, [0, 0, 1]);
    at_a.announce(torrent, 1, 0, AnnounceEvent::Completed)
        .unwrap();
    wait_for_counts(&mut *at_b, torrent, [1, 1, 0]);
    // It goes on at the other node, where it is known.
    at_b.announce(torrent, 1, 0, AnnounceEvent::Completed)
        .unwrap();
    at_b.announce(torrent, 1, 0, AnnounceEvent::Stopped)
        .unwrap();
    for client in [&mut *at_a, &mut *at_b] {
        wait_for_counts(client, torrent, [0, 1, 0]);
    }
}

#[test]
fn clusters_of_different_names_share_nothing() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).start();
    let other = Node::new(Kind::Udp, "b", &server).with("cluster.name = 'other'");
    let (b, c) = (other.start(), Node::new(Kind::Udp, "c", &server).start());
    [&a, &b, &c].into_iter().for_each(wait_until_connected);
    client(Kind::Udp, &a, V4).join(torrent(1), 1, 0);
    wait_for_counts(&mut *client(Kind::Udp, &c, V4), torrent(1), [1, 0, 0]);
    assert_eq!(client(Kind::Udp, &b, V4).scrape(torrent(1)), [0, 0, 0]);
    metrics::wait_for(&b, &[("aquatic_cluster_nodes", 1.0)]);
    metrics::wait_for(&a, &[("aquatic_cluster_nodes", 2.0)]);
}

/// What one node allows is no business of the other.
#[test]
fn a_torrent_that_is_not_allowed_does_not_come_in_by_another_node() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let strict = Node::new(Kind::Http, "strict", &server)
        .with("access_list.mode = 'deny'")
        .with("access_list.path = 'list'");
    strict.place().write("list", torrent(1).to_string());
    let (a, b) = (Node::new(Kind::Http, "a", &server).start(), strict.start());
    [&a, &b].into_iter().for_each(wait_until_connected);
    let mut at_a = client(Kind::Http, &a, V4);
    at_a.join(torrent(1), 1, 0);
    at_a.join(torrent(2), 1, 0);
    wait_for_counts(&mut *client(Kind::Http, &b, V4), torrent(2), [1, 0, 0]);
    metrics::wait_for(
        &b,
        &[
            (
                "aquatic_cluster_records_received_total{outcome=applied}",
                1.0,
            ),
            (
                "aquatic_cluster_records_received_total{outcome=forbidden}",
                1.0,
            ),
            ("aquatic_torrents{ip_version=4}", 1.0),
        ],
    );
}

#[test]
fn there_is_no_room_for_more_than_may_be() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).start();
    let small = Node::new(Kind::Udp, "small", &server).with("limits.max_peers = 3");
    let b = small.start();
    [&a, &b].into_iter().for_each(wait_until_connected);
    let mut at_a = client(Kind::Udp, &a, V4);
    for port in 1..=8 {
        at_a.join(torrent(1), port, 0);
    }
    metrics::wait_for(
        &b,
        &[
            (
                "aquatic_cluster_records_received_total{outcome=applied}",
                3.0,
            ),
            ("aquatic_cluster_records_received_total{outcome=full}", 5.0),
            ("aquatic_peers{ip_version=4}", 3.0),
        ],
    );
}

/// The limit holds for all nodes together, and nobody who is there has to go.
#[test]
fn peers_of_an_address_count_wherever_they_have_announced() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).start();
    let limited = Node::new(Kind::Udp, "b", &server).with("limits.max_peers_per_ip = 3");
    let b = limited.start();
    [&a, &b].into_iter().for_each(wait_until_connected);
    let (mut at_a, mut at_b) = (client(Kind::Udp, &a, V4), client(Kind::Udp, &b, V4));
    for port in 1..=5 {
        at_a.join(torrent(1), port, 0);
    }
    wait_for_counts(&mut *at_b, torrent(1), [5, 0, 0]);
    let refusal = at_b.announce(torrent(1), 6, 5, AnnounceEvent::None);
    assert_eq!(refusal.unwrap_err(), "too many peers from your address");
    for port in 1..=3 {
        at_a.announce(torrent(1), port, 0, AnnounceEvent::Stopped)
            .unwrap();
    }
    wait_for_counts(&mut *at_b, torrent(1), [2, 0, 0]);
    at_b.join(torrent(1), 6, 5);
}

/// What an operator sees.
#[test]
fn what_was_shared_is_counted() {
    if !nats::is_there() {
        return;
    }
    let (_server, [a, b]) = pair([Kind::Udp, Kind::Udp]);
    let mut at_a = client(Kind::Udp, &a, V4);
    at_a.join(torrent(1), 1, 5);
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [0, 0, 1]);
    at_a.join(torrent(1), 1, 0);
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [1, 0, 0]);
    at_a.announce(torrent(1), 1, 0, AnnounceEvent::Stopped)
        .unwrap();
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [0, 0, 0]);
    metrics::wait_for(
        &a,
        &[
            ("aquatic_cluster_nodes", 2.0),
            ("aquatic_cluster_records_published_total{reason=added}", 1.0),
            (
                "aquatic_cluster_records_published_total{reason=changed}",
                1.0,
            ),
            ("aquatic_cluster_records_published_total{reason=left}", 1.0),
            ("aquatic_cluster_batches_missed_total", 0.0),
        ],
    );
    metrics::wait_for(
        &b,
        &[
            (
                "aquatic_cluster_records_received_total{outcome=applied}",
                3.0,
            ),
            ("aquatic_cluster_delivery_seconds_count", 3.0),
            ("aquatic_cluster_messages_invalid_total", 0.0),
        ],
    );
    let sent = |node: &Daemon, direction: &str| {
        let selector = format!("aquatic_cluster_bytes_total{{direction={direction}}}");
        metrics::sum(&metrics::scrape(node), &selector)
    };
    assert!(sent(&a, "sent") > 0.0 && sent(&b, "received") > 0.0);
}

/// Within the refresh interval, whoever goes on announcing is told of once more.
#[test]
fn who_stays_is_told_of_again() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).with("cluster.refresh_interval = 2");
    let (a, b) = (a.start(), Node::new(Kind::Udp, "b", &server).start());
    [&a, &b].into_iter().for_each(wait_until_connected);
    let mut at_a = client(Kind::Udp, &a, V4);
    let published = |reason: &str| {
        let selector = format!("aquatic_cluster_records_published_total{{reason={reason}}}");
        metrics::sum(&metrics::scrape(&a), &selector)
    };
    wait::until("it was told of twice more", || {
        at_a.join(torrent(1), 1, 0);
        (published("refreshed") >= 2.0).then_some(())
    });
    assert_eq!(published("added"), 1.0);
    let applied = "aquatic_cluster_records_received_total{outcome=applied}";
    wait::until("the other has heard it", || {
        (metrics::sum(&metrics::scrape(&b), applied) >= 3.0).then_some(())
    });
    let at_b = &mut *client(Kind::Udp, &b, V4);
    assert_eq!(at_b.scrape(torrent(1)), [1, 0, 0]);
}

#[test]
fn how_long_the_log_was_read_is_told() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let a = Node::new(Kind::Udp, "a", &server).start();
    wait_until_connected(&a);
    let mut at_a = client(Kind::Udp, &a, V4);
    (1..=50).for_each(|port| drop(at_a.join(torrent(1), port, 0)));
    metrics::wait_for(
        &a,
        &[(
            "aquatic_cluster_records_published_total{reason=added}",
            50.0,
        )],
    );
    let nowhere = Node::at(Kind::Udp, "c", &["nats://127.0.0.1:1".to_owned()]).start();
    let b = Node::new(Kind::Udp, "b", &server).start();
    wait_until_connected(&b);
    wait_for_counts(&mut *client(Kind::Udp, &b, V4), torrent(1), [50, 0, 0]);
    metrics::wait_for(&b, &[("aquatic_cluster_replay_records_total", 50.0)]);
    let seconds = |node| metrics::sum(&metrics::scrape(node), "aquatic_cluster_replay_seconds");
    let took = seconds(&b);
    assert!(took > 0.0 && took < wait::DEADLINE.as_secs_f64(), "{took}");
    assert_eq!(seconds(&nowhere), 0.0, "it has read nothing");
}

/// Which client somebody has is known where he has announced only.
#[test]
fn peers_of_other_nodes_are_of_no_known_client() {
    if !nats::is_there() {
        return;
    }
    on_each(&Kind::ALL, |kind| {
        let server = NatsServer::start();
        let line = match kind {
            Kind::Udp => "statistics.peer_clients = true",
            _ => "metrics.peer_clients = true",
        };
        let [a, b] = ["a", "b"].map(|name| Node::new(kind, name, &server).with(line).start());
        [&a, &b].into_iter().for_each(wait_until_connected);
        let (mut at_a, mut at_b) = (client(kind, &a, V4), client(kind, &b, V4));
        (1..=3).for_each(|port| drop(at_a.join(torrent(1), port, 0)));
        wait_for_counts(&mut *at_b, torrent(1), [3, 0, 0]);
        at_b.join(torrent(1), 4, 0);
        wait_for_counts(&mut *at_a, torrent(1), [4, 0, 0]);
        for (node, own, others) in [(&a, 3.0, 1.0), (&b, 1.0, 3.0)] {
            let of_client = ("aquatic_peer_clients{client=Transmission 4.0.6}", own);
            let other = ("aquatic_peer_clients{client=Other}", others);
            metrics::wait_for(node, &[of_client, other]);
        }
    });
}
