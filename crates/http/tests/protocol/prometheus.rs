//! Metrics for Prometheus: dashboards are built on their names and labels.

use aquatic_test_support::metrics::set;
#[cfg(target_os = "linux")]
use aquatic_test_support::operations::monitoring;
use aquatic_test_support::wait::until_ok;
use aquatic_test_support::{metrics, torrents};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, SEEDER, announce, get, scrape};
use super::setup::{HTTP, Tracker, on_every_case};

/// 36 announces, 1 scrape, 1 refusal, 1 unknown path: 12 torrents have two leechers for a while,
/// then one. What was sent and received, in bytes above TCP and TLS.
fn ask(tracker: &Tracker, family: IpFamily) -> (usize, usize) {
    let mut client = Client::new(tracker, family);
    let mut targets = Vec::new();
    for info_hash in torrents() {
        targets.push(announce(info_hash, 1, LEECHER));
        targets.push(announce(info_hash, 2, LEECHER));
        targets.push(announce(info_hash, 2, LEECHER) + "&event=stopped");
    }
    targets.push(scrape(&torrents().collect::<Vec<_>>()));
    targets.push("/announce".to_owned());
    targets.push("/nowhere".to_owned());
    let mut bytes = (0, 0);
    for target in targets {
        bytes.0 += get(&target).len();
        client.connection.send(get(&target));
        bytes.1 += client.connection.answer_bytes();
    }
    bytes
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

#[test]
fn counts_are_those_of_what_was_done() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for (family, ip_version) in IpFamily::ALL.into_iter().zip([4, 6]) {
            let (sent, received) = ask(&tracker, family);
            let mut counts = vec![
                ("aquatic_requests_by_type_total", "type=announce", 36.0),
                ("aquatic_requests_by_type_total", "type=scrape", 1.0),
                ("aquatic_responses_total", "type=announce", 36.0),
                ("aquatic_responses_total", "type=scrape", 1.0),
                ("aquatic_responses_total", "type=error", 2.0),
                ("aquatic_refused_total", "", 2.0),
                ("aquatic_dropped_total", "", 0.0),
                ("aquatic_torrents", "", 12.0),
                ("aquatic_peers", "", 12.0),
                ("aquatic_seeders", "", 0.0),
                ("aquatic_leechers", "", 12.0),
                ("aquatic_connections_total", "", 1.0),
                ("aquatic_active_connections", "", 0.0),
            ];
            if !tracker.transport.is_tls() {
                counts.push(("aquatic_rx_bytes_total", "", count(sent)));
                counts.push(("aquatic_tx_bytes_total", "", count(received)));
                counts.push(("aquatic_rx_bytes", "", count(sent)));
                counts.push(("aquatic_tx_bytes", "", count(received)));
            }
            for (name, labels, count) in counts {
                let selector = format!("{name}{{ip_version={ip_version},{labels}}}");
                metrics::wait_for(&tracker, &[(&selector, count)]);
            }
            let samples = metrics::scrape(&tracker);
            let total =
                |name: &str| metrics::sum(&samples, &format!("{name}{{ip_version={ip_version}}}"));
            assert!(total("aquatic_requests_total") >= 37.0);
            for old in ["", "_total"] {
                assert!(total(&format!("aquatic_rx_bytes{old}")) >= count(sent));
                assert!(total(&format!("aquatic_tx_bytes{old}")) >= count(received));
            }
        }
    });
}

/// Each torrent has a leecher that finishes, a seeder that leaves, and one that stays.
#[test]
fn seeders_and_finished_downloads_are_counted() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            for info_hash in torrents() {
                client.join(info_hash, 1, LEECHER);
                client.join(info_hash, 2, SEEDER);
                client.join(info_hash, 3, SEEDER);
            }
            metrics::wait_for_swarms(&tracker, family, [24.0, 12.0, 0.0]);
            for info_hash in torrents() {
                client.announce((info_hash, 1, SEEDER), "&event=completed");
                client.announce((info_hash, 1, SEEDER), "&event=completed");
                client.announce((info_hash, 2, SEEDER), "&event=stopped");
                client.join(info_hash, 3, LEECHER);
            }
            metrics::wait_for_swarms(&tracker, family, [12.0, 12.0, 12.0]);
        }
    });
}

#[test]
fn times_of_answers_are_a_histogram() {
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for family in IpFamily::ALL {
            ask(&tracker, family);
        }
        let name = "aquatic_response_time_seconds";
        until_ok(|| {
            let samples = metrics::scrape(&tracker);
            let [total, infinite, slow, fast, seconds] = [
                "count",
                "bucket{le=+Inf}",
                "bucket{le=1}",
                "bucket{le=0.00005}",
                "sum",
            ]
            .map(|part| metrics::sum(&samples, &format!("{name}_{part}")));
            // They are not all of the same moment.
            let is_consistent = total == 74.0 && infinite == total && slow <= total && fast <= slow;
            match is_consistent && seconds < 74.0 {
                true => Ok(()),
                false => Err(format!(
                    "{fast}, {slow}, {infinite} of {total}, {seconds} s"
                )),
            }
        });
    });
}

const REFUSED: [&str; 26] = [
    "malformed",
    "timed_out",
    "request_body",
    "path",
    "method",
    "head_too_large",
    "info_hash",
    "peer_id",
    "port",
    "full_scrape",
    "proxy_header",
    "untrusted_proxy",
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

/// Why connections end.
const CLOSED: [&str; 14] = [
    "client",
    "session",
    "restart",
    "handshake_deadline",
    "request_deadline",
    "idle_deadline",
    "send_deadline",
    "output_full",
    "evicted",
    "network_denied",
    "proxy_header",
    "refused",
    "max_connection_memory",
    "tls",
];

#[test]
fn every_metric_has_its_labels_from_the_first_second() {
    const PER_WORKER: [&str; 13] = [
        "aquatic_requests_total",
        "aquatic_responses_total",
        "aquatic_rx_bytes_total",
        "aquatic_tx_bytes_total",
        "aquatic_rx_bytes",
        "aquatic_tx_bytes",
        "aquatic_torrents",
        "aquatic_peers",
        "aquatic_seeders",
        "aquatic_leechers",
        "aquatic_completed_downloads_total",
        "aquatic_evicted_peers_total",
        "aquatic_refused_total",
    ];
    const PER_SOCKET_WORKER: [&str; 2] =
        ["aquatic_active_connections", "aquatic_connections_total"];
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let socket_workers = set(0..case.setup.socket_workers);
        let workers = set(0..case.setup.socket_workers + case.setup.swarm_workers);
        let mut expected = Vec::new();
        for metric in PER_WORKER {
            expected.push((metric, "worker_index", workers.clone()));
        }
        for metric in PER_SOCKET_WORKER {
            expected.push((metric, "worker_index", socket_workers.clone()));
        }
        for metric in PER_WORKER.into_iter().chain(PER_SOCKET_WORKER) {
            expected.push((metric, "ip_version", set([4, 6])));
        }
        let held = "aquatic_connection_memory_bytes";
        expected.push((held, "worker_index", socket_workers));
        for metric in ["aquatic_queue_batches", "aquatic_cleaning_seconds"] {
            expected.push((metric, "worker_index", workers.clone()));
        }
        expected.push(("aquatic_refused_total", "reason", set(REFUSED)));
        let types = set(["announce", "scrape", "error"]);
        expected.push(("aquatic_responses_total", "type", types));
        let types = set(["full", "resumed", "failed"]);
        expected.push(("aquatic_tls_handshakes_total", "type", types));
        let reasons = set([
            "max_connections",
            "max_connections_per_ip",
            "requests_per_second_per_ip",
            "untrusted_proxy",
            "network_denied",
        ]);
        expected.push(("aquatic_connections_refused_total", "reason", reasons));
        expected.push(("aquatic_connections_closed_total", "reason", set(CLOSED)));
        metrics::wait_for_labels(&tracker, &expected);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn reloads_of_the_certificate_are_told() {
    monitoring::reloads_of_the_certificate_are_told(&HTTP);
}
