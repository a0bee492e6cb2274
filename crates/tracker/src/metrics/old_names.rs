//! Metrics under the names that they had in aquatic 0.9, for dashboards that are built on them.
//!
//! They lack a type, because a counter would have to be called `..._total`.

use std::sync::Arc;

use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_types::IpFamily;

use crate::metrics::counters::{Counter, Protocol, TrafficCounters, WorkerCounters};

/// Writes how many bytes have been received and sent. The order of `workers` is their
/// `worker_index`.
pub fn write_old_names<P: Protocol>(workers: &[Arc<WorkerCounters<P>>], text: &mut Exposition) {
    let mut write = |name, help: &str, count: fn(&TrafficCounters<P>) -> &Counter| {
        let mut metric = text.family(name, Kind::Untyped, help);
        for (index, worker) in workers.iter().enumerate() {
            let index = index.to_string();
            for family in IpFamily::ALL {
                let labels = [("ip_version", family.digit()), ("worker_index", &index)];
                metric.sample(&labels, count(worker.traffic(family)).get());
            }
        }
    };
    write(
        "aquatic_rx_bytes",
        "The old name of aquatic_rx_bytes_total",
        |traffic| &traffic.received_bytes,
    );
    write(
        "aquatic_tx_bytes",
        "The old name of aquatic_tx_bytes_total",
        |traffic| &traffic.sent_bytes,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::test_protocol::Bees;

    #[test]
    fn bytes_are_still_found_where_they_were() {
        let workers: [Arc<WorkerCounters<Bees>>; 2] = Default::default();
        workers[1].traffic(IpFamily::V6).received_bytes.add(6);
        workers[0].traffic(IpFamily::V4).sent_bytes.add(7);
        let mut text = Exposition::default();
        write_old_names(&workers, &mut text);
        let text = text.into_text();
        for line in [
            "# TYPE aquatic_rx_bytes untyped",
            "aquatic_rx_bytes{ip_version=\"6\",worker_index=\"1\"} 6",
            "aquatic_rx_bytes{ip_version=\"4\",worker_index=\"0\"} 0",
            "aquatic_tx_bytes{ip_version=\"4\",worker_index=\"0\"} 7",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
