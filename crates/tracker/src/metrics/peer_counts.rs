//! Peers by their software, for Prometheus: labels whose values come from peers.
//!
//! Anybody can invent values, so there is a bound on how many are shown. They are put together
//! whenever Prometheus asks, from what shards have reported: what has no peers any more is gone,
//! and takes no room from others.

use std::sync::Arc;

use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_peer_id::{PeerClient, PeerIdPrefix};

use super::sample::{clients_of, prefixes_of};
use crate::metrics::report::ShardReport;

/// Real clients and their versions are a few hundred.
const CLIENTS_SHOWN_MAX: usize = 500;

const PREFIXES_SHOWN_MAX: usize = 10_000;

/// Writes them. `with_prefixes` says whether to write them by prefix of the peer id, too.
pub fn write_peer_counts(reports: &[Arc<ShardReport>], with_prefixes: bool, text: &mut Exposition) {
    let prefixes = prefixes_of(reports);
    let clients = clients_of(&prefixes);
    let clients = clients
        .iter()
        .map(|(client, peers)| (client.to_string(), *peers));
    let by_client = Table {
        metric: "aquatic_peer_clients",
        help: "Peers by client software",
        label: "client",
        other: PeerClient::OTHER.name,
        shown_max: CLIENTS_SHOWN_MAX,
    };
    by_client.write(clients, text);
    if with_prefixes {
        let by_prefix = Table {
            metric: "aquatic_peer_id_prefixes",
            help: "Peers by the first 8 bytes of the peer id, in hexadecimal; other, and all \
                   zeros, stand for what there are too many different ones of",
            label: "prefix_hex",
            other: "other",
            shown_max: PREFIXES_SHOWN_MAX,
        };
        let prefixes = prefixes
            .iter()
            .map(|(prefix, peers)| (PeerIdPrefix(*prefix).to_string(), *peers));
        by_prefix.write(prefixes, text);
    }
}

struct Table {
    metric: &'static str,
    help: &'static str,
    label: &'static str,
    /// The value under which the rest is counted.
    other: &'static str,
    shown_max: usize,
}

impl Table {
    /// Writes counts that are given in descending order, if there are any.
    fn write(&self, counts: impl Iterator<Item = (String, u64)>, text: &mut Exposition) {
        let (mut rows, mut rest) = (Vec::new(), None);
        for (rank, (value, peers)) in counts.enumerate() {
            if rank < self.shown_max && value != self.other {
                rows.push((value, peers));
            } else {
                rest = Some(rest.unwrap_or(0) + peers);
            }
        }
        rows.extend(rest.map(|peers| (self.other.to_owned(), peers)));
        if rows.is_empty() {
            return;
        }
        let mut family = text.family(self.metric, Kind::Gauge, self.help);
        for (value, peers) in rows {
            family.sample(&[(self.label, &value)], peers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::client_stats::ClientPrefix;

    fn lines(counts: &[(&str, u64)]) -> Vec<String> {
        let table = Table {
            metric: "peers",
            help: "Peers",
            label: "client",
            other: "Other",
            shown_max: 2,
        };
        let mut text = Exposition::default();
        let counts = counts.iter();
        table.write(
            counts.map(|(value, peers)| ((*value).to_owned(), *peers)),
            &mut text,
        );
        let text = text.into_text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(str::to_owned).collect()
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        assert_eq!(lines(&[]), [""; 0]);
        assert_eq!(
            lines(&[("b", 4), ("a", 3), ("c", 2), ("d", 1)]),
            [
                "peers{client=\"b\"} 4",
                "peers{client=\"a\"} 3",
                "peers{client=\"Other\"} 3"
            ]
        );
        assert_eq!(
            lines(&[("Other", 9), ("a", 1)]),
            ["peers{client=\"a\"} 1", "peers{client=\"Other\"} 9"]
        );
    }

    fn scraped(report: &Arc<ShardReport>, with_prefixes: bool) -> String {
        let mut text = Exposition::default();
        write_peer_counts(std::slice::from_ref(report), with_prefixes, &mut text);
        text.into_text()
    }

    /// A table that remembers, and is bounded, could be filled with inventions for ever.
    #[test]
    fn inventions_of_before_take_no_room_from_real_clients() {
        let report = Arc::new(ShardReport::default());
        let invented = |number: u64| -> (ClientPrefix, usize) { ((number + 1).to_be_bytes(), 2) };
        report.set_clients((0..60_000).map(invented));
        let prefixes = |text: &str| text.matches("aquatic_peer_id_prefixes{").count();
        assert_eq!(prefixes(&scraped(&report, true)), PREFIXES_SHOWN_MAX + 1);
        report.set_clients([(*b"-TR4060-", 12)].into_iter());
        let text = scraped(&report, true);
        assert_eq!(prefixes(&text), 1, "{text}");
        for line in [
            "aquatic_peer_clients{client=\"Transmission 4.0.6\"} 12",
            "aquatic_peer_id_prefixes{prefix_hex=\"2d5452343036302d\"} 12",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert!(!scraped(&report, false).contains("aquatic_peer_id_prefixes"));
        assert_eq!(scraped(&Arc::default(), true), "", "nothing is counted");
    }
}
