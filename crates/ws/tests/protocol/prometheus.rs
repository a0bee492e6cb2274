//! Metrics for Prometheus: dashboards are built on their names and labels.

use aquatic_daemon_tests::metrics::{set, values};
use aquatic_daemon_tests::wait::until;
use aquatic_daemon_tests::{metrics, torrents};
use aquatic_types::IpFamily;
use serde_json::json;

use super::client::Peer;
use super::setup::on_every_case;

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
        for name in ["aquatic_rx_bytes", "aquatic_tx_bytes"] {
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

#[test]
fn every_metric_has_its_labels_from_the_first_second() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let samples = until("metrics are there", || {
            let samples = metrics::scrape(&tracker);
            let mut names = samples.iter().map(|sample| sample.name.as_str());
            let has_last = names.any(|name| name == "aquatic_active_connections");
            has_last.then_some(samples)
        });
        for metric in ["aquatic_requests_total", "aquatic_responses_total"] {
            assert_eq!(
                values(&samples, metric, "ip_version"),
                set([4, 6]),
                "{metric}"
            );
        }
        let types = ["announce", "offer", "answer", "scrape", "error"];
        let found = values(&samples, "aquatic_responses_total", "type");
        assert_eq!(found, set(types));
        let reasons = values(&samples, "aquatic_refused_total", "reason");
        assert!(reasons.contains("offer_unknown"), "{reasons:?}");
        assert!(reasons.contains("origin"), "{reasons:?}");
    });
}
