//! Metrics for Prometheus: dashboards are built on their names and labels.

use aquatic_daemon_tests::metrics::{set, values};
use aquatic_daemon_tests::wait::{until, until_ok};
use aquatic_daemon_tests::{metrics, torrents};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, announce, get, scrape};
use super::setup::{Tracker, on_every_case};

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
                ("aquatic_connections_total", "", 1.0),
                ("aquatic_active_connections", "", 0.0),
            ];
            if !tracker.transport.is_tls() {
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
            assert!(total("aquatic_rx_bytes") >= count(sent));
            assert!(total("aquatic_tx_bytes") >= count(received));
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

const REFUSED: [&str; 17] = [
    "malformed",
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
    "torrent_limit",
    "peer_limit",
    "peers_per_ip",
];

#[test]
fn every_metric_has_its_labels_from_the_first_second() {
    const PER_WORKER_AND_FAMILY: [&str; 9] = [
        "aquatic_requests_total",
        "aquatic_responses_total",
        "aquatic_rx_bytes",
        "aquatic_tx_bytes",
        "aquatic_torrents",
        "aquatic_peers",
        "aquatic_active_connections",
        "aquatic_connections_total",
        "aquatic_refused_total",
    ];
    const OTHERS: [&str; 5] = [
        "aquatic_tls_handshakes_total",
        "aquatic_connections_refused_total",
        "aquatic_connections_closed_total",
        "aquatic_queue_batches",
        "aquatic_cleaning_seconds",
    ];
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        let samples = until("all metrics are there", || {
            let samples = metrics::scrape(&tracker);
            let has = |name| samples.iter().any(|sample| sample.name == name);
            let has_all = PER_WORKER_AND_FAMILY.into_iter().chain(OTHERS).all(has);
            has_all.then_some(samples)
        });
        for metric in PER_WORKER_AND_FAMILY {
            let families = values(&samples, metric, "ip_version");
            assert_eq!(families, set([4, 6]), "{metric}");
            let workers = values(&samples, metric, "worker_index");
            assert!(workers.len() >= case.setup.socket_workers, "{metric}");
        }
        let of = |metric, label| values(&samples, metric, label);
        assert_eq!(of("aquatic_refused_total", "reason"), set(REFUSED));
        let types = ["announce", "scrape", "error"];
        assert_eq!(of("aquatic_responses_total", "type"), set(types));
        let types = ["full", "resumed", "failed"];
        assert_eq!(of("aquatic_tls_handshakes_total", "type"), set(types));
        for metric in [
            "aquatic_connections_refused_total",
            "aquatic_connections_closed_total",
        ] {
            assert!(!of(metric, "reason").is_empty(), "{metric}");
        }
        for metric in ["aquatic_queue_batches", "aquatic_cleaning_seconds"] {
            assert!(!of(metric, "worker_index").is_empty(), "{metric}");
        }
    });
}
