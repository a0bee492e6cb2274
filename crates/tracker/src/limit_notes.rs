//! What an operator is told when requests are refused or dropped at a limit.

use std::sync::Arc;

use aquatic_daemon::limit_watch::{LimitNote, LimitWatch};
use aquatic_types::IpFamily;

use crate::launch::Counted;
use crate::metrics::counters::{Label, Protocol, ReasonLabel};

/// What is told about a limit that trackers of several protocols have, by the label of its
/// [reason](ReasonLabel).
fn of_several_protocols(label: &str) -> Option<LimitNote> {
    let (what, advice) = match label {
        "proxy_header" => (
            "requests refused, since the proxy does not tell who the client is",
            "see `network.reverse_proxy_ip_header_name`",
        ),
        "untrusted_proxy" => (
            "requests refused, from others than proxies",
            "see `network.trusted_proxies`",
        ),
        "request_rate" => (
            "requests not served, whose client sends too many",
            "see `limits.requests_per_second_per_ip`",
        ),
        "queue_full" => (
            "requests not served, since the worker that owns the torrent does not keep up",
            "see `socket_workers` and `swarm_workers`",
        ),
        "torrent_limit" => (
            "announces of new torrents refused",
            "see `limits.max_torrents`",
        ),
        "peer_limit" => ("announces of new peers refused", "see `limits.max_peers`"),
        "memory_limit" => (
            "announces of new peers refused, since memory is used up",
            "see `limits.max_swarm_memory`",
        ),
        "peers_per_ip" => (
            "announces refused, whose client has too many peers",
            "see `limits.max_peers_per_ip`",
        ),
        "peers_per_ip_and_torrent" => (
            "announces answered without keeping the peer, whose address has too many in the \
             torrent",
            "see `limits.max_peers_per_ip_and_torrent`",
        ),
        _ => return None,
    };
    Some(LimitNote::new(what, advice))
}

/// Lets the limits of all workers be looked after.
pub fn watch<P: Protocol>(watch: &mut LimitWatch, counted: &Counted<P>) {
    let workers: Arc<[_]> = counted.workers.as_slice().into();
    for reason in P::Reason::ALL {
        let note = reason.limit();
        let Some(note) = note.or_else(|| of_several_protocols(reason.label())) else {
            continue;
        };
        let note = match counted.is_one_of_several {
            true => LimitNote::new(format!("{}: {}", P::NAME, note.what), note.advice),
            false => note,
        };
        let workers = Arc::clone(&workers);
        watch.add(note, move || {
            let counts = workers.iter().flat_map(|worker| {
                IpFamily::ALL.map(|family| worker.traffic(family).reason(*reason).get())
            });
            counts.sum()
        });
    }
}
