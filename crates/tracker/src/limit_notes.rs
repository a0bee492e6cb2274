//! What an operator is told when requests are refused or dropped at a limit.

use std::sync::Arc;

use aquatic_daemon::limit_watch::{LimitNote, LimitWatch};
use aquatic_types::IpFamily;

use crate::counters::{Label, Protocol, ReasonLabel, WorkerCounters};

/// `limits.max_torrents`.
#[must_use]
pub fn torrents() -> LimitNote {
    LimitNote::new(
        "announces of new torrents refused",
        "see `limits.max_torrents`",
    )
}

/// `limits.max_peers`.
#[must_use]
pub fn peers() -> LimitNote {
    LimitNote::new("announces of new peers refused", "see `limits.max_peers`")
}

/// `limits.max_swarm_memory`.
#[must_use]
pub fn memory() -> LimitNote {
    LimitNote::new(
        "announces of new peers refused, since memory is used up",
        "see `limits.max_swarm_memory`",
    )
}

/// `limits.max_peers_per_ip`.
#[must_use]
pub fn peers_per_ip() -> LimitNote {
    LimitNote::new(
        "announces refused, whose client has too many peers",
        "see `limits.max_peers_per_ip`",
    )
}

/// `limits.max_peers_per_ip_and_torrent`.
#[must_use]
pub fn peers_per_ip_and_torrent() -> LimitNote {
    LimitNote::new(
        "announces answered without keeping the peer, whose address has too many in the torrent",
        "see `limits.max_peers_per_ip_and_torrent`",
    )
}

/// `limits.requests_per_second_per_ip`.
#[must_use]
pub fn request_rate() -> LimitNote {
    LimitNote::new(
        "requests not served, whose client sends too many",
        "see `limits.requests_per_second_per_ip`",
    )
}

/// The queue between two workers.
#[must_use]
pub fn queue() -> LimitNote {
    LimitNote::new(
        "requests not served, since the worker that owns the torrent does not keep up",
        "see `socket_workers` and `swarm_workers`",
    )
}

/// Behind a reverse proxy.
#[must_use]
pub fn proxy_header() -> LimitNote {
    LimitNote::new(
        "requests refused, since the proxy does not tell who the client is",
        "see `network.reverse_proxy_ip_header_name`",
    )
}

/// Behind a reverse proxy, likewise.
#[must_use]
pub fn untrusted_proxy() -> LimitNote {
    LimitNote::new(
        "requests refused, from others than proxies",
        "see `network.trusted_proxies`",
    )
}

/// Lets the limits of all workers be looked after.
pub fn watch<P: Protocol>(watch: &mut LimitWatch, workers: &[Arc<WorkerCounters<P>>]) {
    let workers: Arc<[_]> = workers.into();
    for reason in P::Reason::ALL {
        let Some(note) = reason.limit() else {
            continue;
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
