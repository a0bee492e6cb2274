//! Metrics for Prometheus: dashboards are built on their names and labels.

use aquatic_test_support::metrics::{self, Sample};
use aquatic_test_support::{Daemon, torrent, torrents};
use aquatic_types::{AnnounceEvent, IpFamily};
use aquatic_udp_protocol::AnnounceRequest;

use super::client::Client;
use super::setup::{SIMPLE, on_every_setup};

/// Bytes of what [`ask`] sends and gets, in each family.
const SENT_BYTES: f64 = 16.0 + 3.0 * 12.0 * 98.0 + (16.0 + 12.0 * 20.0);
const RECEIVED_BYTES: [f64; 2] = [
    16.0 + 3.0 * 12.0 * 20.0 + 12.0 * 6.0 + (8.0 + 12.0 * 12.0),
    16.0 + 3.0 * 12.0 * 20.0 + 12.0 * 18.0 + (8.0 + 12.0 * 12.0),
];

/// 1 connect, 36 announces, 1 scrape: 12 torrents have two leechers for a while, then one; only one
/// answer in three has a peer in it.
fn ask(daemon: &Daemon, family: IpFamily) {
    let mut client = Client::new(daemon, family);
    for info_hash in torrents() {
        client.join(info_hash, 1, 1);
        let seeder = AnnounceRequest {
            num_want: 1,
            ..client.peer(info_hash, 2, 1)
        };
        client.announce(&seeder);
        let event = AnnounceEvent::Stopped;
        let stopped = AnnounceRequest {
            event,
            ..client.peer(info_hash, 2, 1)
        };
        client.announce(&stopped);
    }
    client.scrape(&torrents().collect::<Vec<_>>());
}

#[test]
fn counts_are_those_of_what_was_done() {
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        for family in IpFamily::ALL {
            ask(&daemon, family);
        }
        for (ip_version, received_bytes) in ["4", "6"].into_iter().zip(RECEIVED_BYTES) {
            let counts = [
                ("aquatic_requests_total", "", 38.0),
                ("aquatic_responses_total", "type=connect", 1.0),
                ("aquatic_responses_total", "type=announce", 36.0),
                ("aquatic_responses_total", "type=scrape", 1.0),
                ("aquatic_responses_total", "type=error", 0.0),
                ("aquatic_rx_bytes_total", "", SENT_BYTES),
                ("aquatic_tx_bytes_total", "", received_bytes),
                ("aquatic_rx_bytes", "", SENT_BYTES),
                ("aquatic_tx_bytes", "", received_bytes),
                ("aquatic_torrents", "", 12.0),
                ("aquatic_peers", "", 12.0),
                ("aquatic_seeders", "", 0.0),
                ("aquatic_leechers", "", 12.0),
                ("aquatic_dropped_total", "", 0.0),
                ("aquatic_refused_total", "", 0.0),
            ];
            let selectors = counts.map(|(name, labels, count)| {
                (format!("{name}{{ip_version={ip_version},{labels}}}"), count)
            });
            let expected: Vec<_> = selectors
                .iter()
                .map(|(selector, count)| (selector.as_str(), *count))
                .collect();
            metrics::wait_for(&daemon, &expected);
        }
    });
}

/// Each torrent has a leecher that finishes, a seeder that leaves, and one that stays.
#[test]
fn seeders_and_finished_downloads_are_counted() {
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            for info_hash in torrents() {
                client.join(info_hash, 1, 1);
                client.join(info_hash, 2, 0);
                client.join(info_hash, 3, 0);
            }
            metrics::wait_for_swarms(&daemon, family, [24.0, 12.0, 0.0]);
            for info_hash in torrents() {
                for (port, event) in [
                    (1, AnnounceEvent::Completed),
                    (1, AnnounceEvent::Completed),
                    (2, AnnounceEvent::Stopped),
                ] {
                    let peer = client.peer(info_hash, port, 0);
                    client.announce(&AnnounceRequest { event, ..peer });
                }
                client.join(info_hash, 3, 1);
            }
            metrics::wait_for_swarms(&daemon, family, [12.0, 12.0, 12.0]);
        }
    });
}

const DROPPED: [&str; 15] = [
    "too_short",
    "damaged",
    "too_long",
    "unknown_action",
    "not_connect",
    "unconnected",
    "forged_id",
    "answer_rate",
    "source_port_zero",
    "request_rate",
    "network_denied",
    "receive_buffer_full",
    "queue_full",
    "send_failed",
    "send_buffer_full",
];

const REFUSED: [&str; 14] = [
    "connection_id",
    "port_zero",
    "no_info_hash",
    "info_hash_denied",
    "key_missing",
    "key_unknown",
    "key_expired",
    "key_peer_limit",
    "peer_id_denied",
    "torrent_limit",
    "peer_limit",
    "memory_limit",
    "peers_per_ip",
    "peers_per_ip_and_torrent",
];

#[test]
fn every_metric_has_its_labels_from_the_first_second() {
    const PER_WORKER_AND_FAMILY: [&str; 14] = [
        "aquatic_requests_total",
        "aquatic_responses_total",
        "aquatic_rx_bytes_total",
        "aquatic_tx_bytes_total",
        "aquatic_handled_in_kernel_total",
        "aquatic_rx_bytes",
        "aquatic_tx_bytes",
        "aquatic_torrents",
        "aquatic_peers",
        "aquatic_seeders",
        "aquatic_leechers",
        "aquatic_completed_downloads_total",
        "aquatic_evicted_peers_total",
        "aquatic_dropped_total",
    ];
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        let families = || metrics::set([4, 6]);
        let workers = || metrics::set(0..setup.socket_workers + setup.swarm_workers);
        let mut expected = Vec::new();
        for metric in PER_WORKER_AND_FAMILY {
            expected.push((metric, "ip_version", families()));
            expected.push((metric, "worker_index", workers()));
        }
        for metric in ["aquatic_queue_batches", "aquatic_cleaning_seconds"] {
            expected.push((metric, "worker_index", workers()));
        }
        let types = metrics::set(["connect", "announce", "scrape", "error"]);
        expected.push(("aquatic_responses_total", "type", types));
        expected.push(("aquatic_dropped_total", "reason", metrics::set(DROPPED)));
        expected.push(("aquatic_refused_total", "reason", metrics::set(REFUSED)));
        metrics::wait_for_labels(&daemon, &expected);
    });
}

/// In the fused topology the kernel delivers an announce to the worker that owns the torrent,
/// whichever port it comes from, but not by queues of an interface; in the split one, socket
/// workers own none.
#[test]
fn announces_reach_the_owner_of_the_torrent() {
    const TORRENTS: u32 = 100;
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            (0..TORRENTS).for_each(|number| drop(client.join(torrent(number), 1, 1)));
        }
        let all = f64::from(2 * TORRENTS);
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_requests_by_type_total{type=announce}", all),
                ("aquatic_torrents", all),
            ],
        );
        let samples = metrics::scrape(&daemon);
        let of_worker = |name: &str, labels: &str, index: usize| {
            metrics::sum(
                &samples,
                &format!("{name}{{worker_index={index},{labels}}}"),
            )
        };
        let workers = setup.socket_workers + setup.swarm_workers;
        for index in 0..workers {
            let announces = of_worker("aquatic_requests_by_type_total", "type=announce", index);
            let torrents = of_worker("aquatic_torrents", "", index);
            let is_socket_worker = index < setup.socket_workers;
            match (is_socket_worker, setup.swarm_workers) {
                (true, 0) if setup.has_queues => {}
                (true, 0) => assert_eq!(announces, torrents, "worker {index}"),
                (true, _) => assert_eq!(torrents, 0.0, "worker {index}"),
                (false, _) => assert_eq!(announces, 0.0, "worker {index}"),
            }
            let is_owner = setup.swarm_workers == 0 || !is_socket_worker;
            assert!(!is_owner || torrents > 0.0, "worker {index} has its share");
        }
    });
}

#[test]
fn sizes_of_swarms_are_counted_after_a_cleaning() {
    let settings = "statistics.torrent_peer_histograms = true\n\
                    cleaning.torrent_cleaning_interval = 1";
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics(settings);
        for (family, peers_max) in IpFamily::ALL.into_iter().zip([3_u16, 5]) {
            let mut client = Client::new(&daemon, family);
            for (info_hash, peers) in torrents().zip((1..=peers_max).cycle()) {
                (1..=peers).for_each(|port| drop(client.join(info_hash, port, 1)));
            }
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_peers_per_torrent{ip_version=4,type=min}", 1.0),
                ("aquatic_peers_per_torrent{ip_version=4,type=mean}", 2.0),
                ("aquatic_peers_per_torrent{ip_version=4,type=p50}", 2.0),
                ("aquatic_peers_per_torrent{ip_version=4,type=max}", 3.0),
                ("aquatic_peers_per_torrent{ip_version=6,type=max}", 5.0),
            ],
        );
        let samples = metrics::scrape(&daemon);
        let cleaning = |sample: &&Sample| sample.name == "aquatic_cleaning_seconds";
        assert!(
            samples
                .iter()
                .filter(cleaning)
                .any(|sample| sample.value > 0.0)
        );
    });
}

#[test]
fn clients_are_counted_by_their_peer_ids() {
    let settings = "statistics.peer_clients = true\n\
                    statistics.prometheus_peer_id_prefixes = true";
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics(settings);
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            for info_hash in torrents() {
                client.join(info_hash, 1, 1);
                for port in [2, 3] {
                    let mut peer = client.peer(info_hash, port, 1);
                    peer.peer_id.0[..8].copy_from_slice(b"-qB4650-");
                    client.announce(&peer);
                }
                let event = AnnounceEvent::Stopped;
                let gone = AnnounceRequest {
                    event,
                    ..client.peer(info_hash, 3, 1)
                };
                client.announce(&gone);
            }
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_peer_clients{client=Transmission 4.0.6}", 24.0),
                ("aquatic_peer_clients{client=qBittorrent 4.6.5}", 24.0),
                ("aquatic_peer_clients", 48.0),
                (
                    "aquatic_peer_id_prefixes{prefix_hex=2d5452343036302d}",
                    24.0,
                ),
                (
                    "aquatic_peer_id_prefixes{prefix_hex=2d7142343635302d}",
                    24.0,
                ),
            ],
        );
    });
}

#[test]
fn clients_are_not_counted_unless_wanted() {
    let daemon = SIMPLE.start_with_metrics("");
    ask(&daemon, IpFamily::V4);
    metrics::wait_for(&daemon, &[("aquatic_peers", 12.0)]);
    let samples = metrics::scrape(&daemon);
    for metric in [
        "aquatic_peer_clients",
        "aquatic_peer_id_prefixes",
        "aquatic_peers_per_torrent",
    ] {
        assert!(
            !samples.iter().any(|sample| sample.name == metric),
            "{metric}"
        );
    }
}
