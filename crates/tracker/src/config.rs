//! What an operator can set for any tracker, besides [`aquatic_config`]'s own sections.

use std::net::SocketAddr;

use aquatic_config::{Checks, section};
use aquatic_daemon::metrics_endpoint::MetricsEndpoint;
use aquatic_swarm::PEER_AGE_MAX_SECONDS;

/// Workers of one kind. A guard against typing errors, not a recommendation.
const WORKERS_MAX: usize = 1_024;

section! {
    /// What is known about the tracker from outside. Costs next to nothing unless noted.
    pub struct MetricsConfig {
        /// Seconds between two updates.
        pub interval: u64 = 5,
        /// Count how many peers torrents have (minimum, mean, percentiles, maximum). Updated after
        /// each cleaning, which takes longer by it.
        pub torrent_peer_histograms: bool = false,
        /// Count peers by client software. Takes 2 bytes more per peer.
        pub peer_clients: bool = false,
        /// Serve metrics to Prometheus.
        pub run_prometheus_endpoint: bool = false,
        /// Where to serve them, at `/metrics`: keep it away from the public. At most 16 connections
        /// are held, and those that ask for nothing make room for others.
        pub prometheus_endpoint_address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9_000)),
        /// Serve the number of peers for each peer id prefix (needs `peer_clients`).
        ///
        /// There can be tens of thousands of different ones, since anyone can invent some.
        pub prometheus_peer_id_prefixes: bool = false,
    }
}

impl MetricsConfig {
    /// Binds the address where Prometheus is to be served, if it is.
    ///
    /// # Errors
    /// See [`MetricsEndpoint::bind`].
    pub fn bind_endpoint(&self) -> anyhow::Result<Option<MetricsEndpoint>> {
        self.run_prometheus_endpoint
            .then(|| MetricsEndpoint::bind(self.prometheus_endpoint_address))
            .transpose()
    }

    /// Checks that the keys fit each other. `section` is what their table is called.
    pub fn check(&self, section: &str, checks: &mut Checks) {
        checks.require(
            self.interval >= 1,
            format!("{section}.interval"),
            "must be at least 1",
        );
        checks.require(
            self.peer_clients || !self.prometheus_peer_id_prefixes,
            format!("{section}.prometheus_peer_id_prefixes"),
            format!("needs `{section}.peer_clients`"),
        );
    }
}

/// Checks the keys `socket_workers` and `swarm_workers`.
pub fn check_workers(socket_workers: usize, swarm_workers: usize, checks: &mut Checks) {
    for (workers, key) in [
        (socket_workers, "socket_workers"),
        (swarm_workers, "swarm_workers"),
    ] {
        let at_most = format!("must be at most {WORKERS_MAX}");
        checks.require(workers <= WORKERS_MAX, key, at_most);
    }
}

/// When peers announce and when they are forgotten, as configured by keys of these names.
#[derive(Clone, Copy, Debug)]
pub struct PeerTimes {
    /// `protocol.peer_announce_interval`, in seconds.
    pub peer_announce_interval: u32,
    /// `cleaning.max_peer_age`, in seconds.
    pub max_peer_age: u32,
    /// `cleaning.torrent_cleaning_interval`, in seconds.
    pub torrent_cleaning_interval: u32,
}

impl PeerTimes {
    /// Checks that they fit each other, and what a swarm can keep.
    pub fn check(self, checks: &mut Checks) {
        checks.require(
            (1..=i32::MAX.unsigned_abs()).contains(&self.peer_announce_interval),
            "protocol.peer_announce_interval",
            "must be at least 1 and fit into 31 bits",
        );
        checks.require(
            self.peer_announce_interval < self.max_peer_age,
            "protocol.peer_announce_interval",
            "must be less than `cleaning.max_peer_age`, or peers are forgotten between announces",
        );
        checks.require(
            self.torrent_cleaning_interval >= 1,
            "cleaning.torrent_cleaning_interval",
            "must be at least 1",
        );
        let sum = self
            .max_peer_age
            .saturating_add(self.torrent_cleaning_interval);
        checks.require(
            sum <= PEER_AGE_MAX_SECONDS,
            "cleaning.max_peer_age",
            format!(
                "must be at most {PEER_AGE_MAX_SECONDS} together with \
                 `cleaning.torrent_cleaning_interval`"
            ),
        );
    }
}
