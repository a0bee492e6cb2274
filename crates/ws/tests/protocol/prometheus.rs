//! Metrics for Prometheus: dashboards are built on their names and labels.

use aquatic_test_support::metrics::set;
#[cfg(target_os = "linux")]
use aquatic_test_support::operations::monitoring;
use aquatic_test_support::wait::until;
use aquatic_test_support::{metrics, torrent, torrents};
use aquatic_types::IpFamily;
use serde_json::json;

use super::client::Peer;
use super::setup::{WS, on_every_case, on_every_runtime};

#[test]
fn counts_are_those_of_what_was_done() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("metrics.peer_clients = true\n");
        let mut first = Peer::at(&tracker, IpFamily::V4);
        let mut second = Peer::at(&tracker, IpFamily::V4);
        for info_hash in torrents() {
            second.join(info_hash, 1);
            let announce = first.announce_with(info_hash, &[json!({})]);
            first.ask(&announce);
            let offer = second.socket.receive();
            let answer = second.answer_to(&offer, &json!({}));
            second.socket.send(&answer.to_string());
            first.socket.receive();
        }
        first.socket.scrape(&torrents().collect::<Vec<_>>());
        first.socket.send("rubbish");
        first.socket.receive();
        metrics::wait_for(
            &tracker,
            &[
                (
                    "aquatic_requests_by_type_total{type=announce,ip_version=4}",
                    24.0,
                ),
                (
                    "aquatic_requests_by_type_total{type=answer,ip_version=4}",
                    12.0,
                ),
                (
                    "aquatic_requests_by_type_total{type=scrape,ip_version=4}",
                    1.0,
                ),
                ("aquatic_responses_total{type=announce,ip_version=4}", 24.0),
                ("aquatic_responses_total{type=offer,ip_version=4}", 12.0),
                ("aquatic_responses_total{type=answer,ip_version=4}", 12.0),
                ("aquatic_responses_total{type=scrape,ip_version=4}", 1.0),
                ("aquatic_responses_total{type=error,ip_version=4}", 1.0),
                ("aquatic_refused_total{reason=json,ip_version=4}", 1.0),
                ("aquatic_dropped_total", 0.0),
                ("aquatic_torrents", 12.0),
                ("aquatic_peers", 24.0),
                ("aquatic_active_connections{ip_version=4}", 2.0),
                ("aquatic_requests_total{ip_version=6}", 0.0),
            ],
        );
        let samples = metrics::scrape(&tracker);
        for name in [
            "aquatic_rx_bytes_total",
            "aquatic_tx_bytes_total",
            "aquatic_rx_bytes",
            "aquatic_tx_bytes",
        ] {
            assert!(metrics::sum(&samples, name) > 1_000.0, "{name}");
        }
        until("clients are counted", || {
            let samples = metrics::scrape(&tracker);
            let peers = metrics::sum(&samples, "aquatic_peer_clients");
            (peers == 24.0).then_some(())
        });
        drop((first, second));
        metrics::wait_for(
            &tracker,
            &[("aquatic_peers", 0.0), ("aquatic_active_connections", 0.0)],
        );
    });
}

/// Each torrent has a leecher, which finishes, and a seeder, which goes with its connection.
#[test]
fn seeders_and_finished_downloads_are_counted() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut leecher = Peer::at(&tracker, family);
            let mut seeder = Peer::at(&tracker, family);
            for info_hash in torrents() {
                leecher.join(info_hash, 1);
                seeder.join(info_hash, 0);
            }
            metrics::wait_for_swarms(&tracker, family, [12.0, 12.0, 0.0]);
            for info_hash in torrents() {
                for _ in 0..2 {
                    let mut finished = leecher.announce(info_hash, 0);
                    finished["event"] = json!("completed");
                    leecher.ask(&finished);
                }
            }
            metrics::wait_for_swarms(&tracker, family, [24.0, 0.0, 12.0]);
            drop(seeder);
            metrics::wait_for_swarms(&tracker, family, [12.0, 0.0, 12.0]);
        }
    });
}

#[test]
fn what_is_counted_on_request_is_there() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics(
            "metrics.peer_clients = true\n\
             metrics.torrent_peer_histograms = true\n\
             metrics.prometheus_peer_id_prefixes = true\n\
             cleaning.torrent_cleaning_interval = 1\n",
        );
        let mut peers = [IpFamily::V4, IpFamily::V6].map(|family| Peer::at(&tracker, family));
        for peer in &mut peers {
            peer.join(torrent(1), 1);
        }
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_peer_id_prefixes{prefix_hex=2d5757303230322d}", 2.0),
                // A torrent has no family: it is counted once, with all its peers.
                ("aquatic_torrents{ip_version=4}", 1.0),
                ("aquatic_torrents{ip_version=6}", 0.0),
                ("aquatic_peers_per_torrent{ip_version=4,type=max}", 2.0),
                ("aquatic_peers{ip_version=4}", 1.0),
                ("aquatic_peers{ip_version=6}", 1.0),
            ],
        );
        let samples = metrics::scrape(&tracker);
        for name in [
            "aquatic_peer_clients",
            "aquatic_cleaning_seconds",
            "aquatic_queue_batches",
        ] {
            assert!(samples.iter().any(|sample| sample.name == name), "{name}");
        }
    });
}

/// Why messages and connections are refused.
const REFUSED: [&str; 30] = [
    "answer_size",
    "not_websocket",
    "timed_out",
    "origin",
    "untrusted_proxy",
    "proxy_header",
    "frame",
    "message_size",
    "json",
    "action",
    "info_hash",
    "peer_id",
    "answer",
    "offer_unknown",
    "not_in_swarm",
    "torrents_per_connection",
    "request_rate",
    "queue_full",
    "info_hash_denied",
    "key_missing",
    "key_unknown",
    "key_expired",
    "key_peer_limit",
    "peer_id_denied",
    "network_denied",
    "torrent_limit",
    "peer_limit",
    "memory_limit",
    "peers_per_ip",
    "peers_per_ip_and_torrent",
];

#[test]
fn every_metric_has_its_labels_from_the_first_second() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let families = || set([4, 6]);
        let types = ["announce", "offer", "answer", "scrape", "error"];
        metrics::wait_for_labels(
            &tracker,
            &[
                ("aquatic_requests_total", "ip_version", families()),
                ("aquatic_responses_total", "ip_version", families()),
                ("aquatic_responses_total", "type", set(types)),
                ("aquatic_active_connections", "ip_version", families()),
                ("aquatic_refused_total", "reason", set(REFUSED)),
            ],
        );
    });
}

#[cfg(target_os = "linux")]
#[test]
fn reloads_of_the_certificate_are_told() {
    monitoring::reloads_of_the_certificate_are_told(&WS);
}
