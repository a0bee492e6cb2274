//! What an operator can set for any tracker over TCP.

use std::net::SocketAddr;

use aquatic_config::{
    AccessListConfig, AccessListMode, Checks, LimitsConfig, OldSpellings, PrivilegeConfig,
};
use aquatic_daemon::memory_at_hand::{self, MemoryAtHand};
use aquatic_daemon::{access_list, privileges};
use aquatic_stream::{ConnectionLimitsConfig, StreamConfig, check_tls};
use aquatic_tracker::config::{
    MetricsConfig, PeerTimes, SnapshotPlan, clamp_hang_timeout, clamp_workers, too_many_workers,
};
use aquatic_tracker::dispatch::topology::Topology;

/// Keys of all these trackers, while they are made to fit.
#[derive(Debug)]
pub struct CommonClamps<'a> {
    /// `socket_workers`.
    pub socket_workers: &'a mut usize,
    /// `swarm_workers`.
    pub swarm_workers: &'a mut usize,
    /// `hang_timeout`, in seconds.
    pub hang_timeout: &'a mut u64,
    /// Most of the section `network`.
    pub stream: &'a mut StreamConfig,
    /// Most of the section `limits`.
    pub limits: &'a mut LimitsConfig,
    /// The section `metrics`.
    pub metrics: &'a mut MetricsConfig,
    /// Keys of the sections `protocol` and `cleaning`.
    pub times: PeerTimes<'a>,
}

impl CommonClamps<'_> {
    /// Makes the keys fit.
    pub fn clamp(self, checks: &mut Checks) {
        clamp_workers(self.socket_workers, self.swarm_workers, checks);
        clamp_hang_timeout(self.hang_timeout, checks);
        self.stream.clamp(checks);
        self.limits.clamp("limits", checks);
        self.metrics.clamp("metrics", checks);
        self.times.clamp(checks);
    }
}

/// The keys that the configurations of all these trackers have.
#[derive(Clone, Copy, Debug)]
pub struct CommonConfig<'a> {
    /// `socket_workers`.
    pub socket_workers: usize,
    /// `swarm_workers`.
    pub swarm_workers: usize,
    /// Most of the section `network`.
    pub stream: &'a StreamConfig,
    /// Most of the section `limits`.
    pub limits: &'a ConnectionLimitsConfig,
    /// The section `metrics`.
    pub metrics: &'a MetricsConfig,
    /// The section `privileges`.
    pub privileges: &'a PrivilegeConfig,
    /// The section `access_list`.
    pub access_list: &'a AccessListConfig,
    /// What the section `persistence` says.
    pub persistence: Option<SnapshotPlan<'a>>,
}

/// Whether only one of two sockets can listen at these addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_wide = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    // With port 0 each gets one of its own.
    let same_port = one.port() == other.port() && one.port() != 0;
    same_port && (one.ip() == other.ip() || is_wide && same_family)
}

impl CommonConfig<'_> {
    /// Accepts keys as they were called before.
    pub fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.ignore_keys_of_0_8();
        old.rename("statistics", "metrics");
        old.rename("metrics.torrent_count_update_interval", "metrics.interval");
        old.rename(
            "metrics.peer_id_prefixes",
            "metrics.prometheus_peer_id_prefixes",
        );
        old.merge_network_addresses();
        // To listen(2), that is more than the system allows.
        old.replace_negative("network.tcp_backlog", "2147483647");
        PeerTimes::rewrite_old_spellings(old);
        old.ignore(
            "cleaning.connection_cleaning_interval",
            "connections are looked after every second; `cleaning.max_connection_idle` says how \
             long one may be idle",
        );
    }

    /// Checks that the keys fit each other.
    pub fn check(&self, checks: &mut Checks) {
        self.stream.check(checks);
        self.limits.tracker.check("limits", checks);
        if let Some(plan) = self.persistence {
            plan.check(checks);
        }
        let default = ConnectionLimitsConfig::default();
        checks.require(
            self.max_connections_per_ip() == self.limits.max_connections_per_ip
                || self.limits.max_connections_per_ip == default.max_connections_per_ip,
            "limits.max_connections_per_ip",
            "must be 0 with `network.runs_behind_reverse_proxy`: all connections are the proxy's",
        );
        if self.metrics.run_prometheus_endpoint {
            let endpoint = self.metrics.prometheus_endpoint_address;
            let taken = self
                .stream
                .address
                .iter()
                .find(|own| overlap(*own, endpoint));
            if let Some(own) = taken {
                checks.require(
                    false,
                    "metrics.prometheus_endpoint_address",
                    format!("is taken by `network.address`, {own}: choose another port"),
                );
            }
        }
        access_list::advise(self.access_list, checks);
        privileges::advise(self.privileges, checks);
    }

    /// Looks at what the keys name on this machine, as the start does, but for sockets.
    pub fn inspect(&self, checks: &mut Checks) {
        let other_files = self.metrics.endpoint_files_max();
        let workers = self.topology().socket_workers();
        self.stream.inspect(workers, other_files, checks);
        let too_many = too_many_workers(self.socket_workers, self.swarm_workers);
        if let Some(reason) = too_many {
            checks.advise(false, "socket_workers", reason);
        }
        let mut files = Vec::new();
        if self.access_list.mode != AccessListMode::Off {
            files.push("access list");
        }
        if self.stream.enable_tls {
            files.extend(["certificate", "private key"]);
        }
        if privileges::check(self.privileges, &files, checks) {
            access_list::check(self.access_list, checks);
            check_tls(self.stream, checks);
        }
    }

    /// Connections per client; 0 = no limit. There is none where all of them are a proxy's.
    #[must_use]
    pub fn max_connections_per_ip(&self) -> usize {
        match self.stream.runs_behind_reverse_proxy {
            true => 0,
            false => self.limits.max_connections_per_ip,
        }
    }

    /// Bytes that all connections may hold together, if that is bounded; told in the log.
    #[must_use]
    pub fn connection_memory(&self, at_hand: Option<MemoryAtHand>) -> Option<u64> {
        let limit = self.stream.max_connection_memory;
        memory_at_hand::resolve("network.max_connection_memory", limit, at_hand)
    }

    /// How many workers of each kind there are.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology::from_config(self.socket_workers, self.swarm_workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_sockets_is_too_many() {
        for (one, other, expected) in [
            ("127.0.0.1:9000", "127.0.0.1:9000", true),
            ("0.0.0.0:9000", "127.0.0.1:9000", true),
            ("[::1]:9000", "[::]:9000", true),
            ("127.0.0.1:9000", "127.0.0.1:9001", false),
            ("127.0.0.1:9000", "127.0.0.2:9000", false),
            // Sockets of IPv6 accept IPv6 only.
            ("0.0.0.0:9000", "[::]:9000", false),
            // Each gets a free port of its own.
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
