//! What an operator can set for any tracker over TCP.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aquatic_config::{
    AccessListConfig, AccessListMode, Checks, KeyMode, KeysConfig, LimitsConfig, MemoryLimit,
    OldSpellings, PrivilegeConfig,
};
use aquatic_daemon::memory_at_hand::{self, MemoryAtHand};
use aquatic_daemon::{access_list, denied_networks, keys, privileges, replace_file};
use aquatic_stream::{ConnectionLimitsConfig, StreamConfig, check_tls};
use aquatic_tracker::config::{
    MetricsConfig, NamedFile, PeerTimes, SnapshotPlan, check_purposes, clamp_hang_timeout,
    clamp_workers, lists_in_use, too_many_workers,
};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::torrents::export::ScrapeExportsConfig;

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
    /// The section `keys`.
    pub keys: &'a KeysConfig,
    /// Over this time connections are closed when the process is about to stop.
    pub drain: Duration,
    /// What the section `persistence` says.
    pub persistence: Option<SnapshotPlan<'a>>,
    /// The section `scrape_exports`.
    pub exports: &'a ScrapeExportsConfig,
    /// Files that others in this process need.
    pub more_files: usize,
    /// Trackers over TCP that run in this process: each may have an equal share of the open files.
    pub stream_front_ends: usize,
    /// The process serves other protocols, too: metrics say which one they are about.
    pub is_one_of_several: bool,
}

/// Whether only one of two sockets can listen at these addresses.
#[must_use]
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
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
        self.check_files(checks);
        self.exports.check(checks);
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
        keys::advise(self.keys, checks);
        privileges::advise(self.privileges, checks);
    }

    /// That no file has two purposes.
    fn check_files(&self, checks: &mut Checks) {
        let (metrics, stream) = (self.metrics, self.stream);
        let own: [NamedFile<'_>; 4] = [
            ("network.tls_certificate_path", &stream.tls_certificate_path),
            ("network.tls_private_key_path", &stream.tls_private_key_path),
            ("metrics.endpoint_token_file", &metrics.endpoint_token_file),
            (
                "metrics.endpoint_unix_socket",
                &metrics.endpoint_unix_socket,
            ),
        ];
        if let Some(plan) = self.persistence {
            let files: [NamedFile<'_>; 5] = [
                ("metrics.html_file_path", &metrics.tables.html_file_path),
                ("access_list.path", &self.access_list.path),
                ("keys.path", &self.keys.path),
                (
                    "access_list.networks_deny_path",
                    &self.access_list.networks_deny_path,
                ),
                ("scrape_exports.path", &self.exports.path),
            ];
            plan.check(&[&own[..], &files].concat(), checks);
        }
        let written: Vec<_> = self
            .page()
            .into_iter()
            .chain(self.exports.output())
            .collect();
        let lists = lists_in_use(self.access_list, self.keys);
        check_purposes(&written, &[&own[..], &lists].concat(), checks);
    }

    /// Looks at what the keys name on this machine, as the start does, but for sockets.
    pub fn inspect(&self, checks: &mut Checks) {
        self.metrics.inspect("metrics", checks);
        self.inspect_own(checks);
    }

    /// The same without what the whole process has once, and opens before it gives up the rights of
    /// root: its endpoint.
    pub fn inspect_own(&self, checks: &mut Checks) {
        let other_files = self.other_files();
        let workers = self.topology().socket_workers();
        let front_ends = self.stream_front_ends;
        self.stream
            .inspect(workers, other_files, front_ends, checks);
        let too_many = too_many_workers(self.socket_workers, self.swarm_workers);
        if let Some(reason) = too_many {
            checks.advise(false, "socket_workers", reason);
        }
        let mut files = Vec::new();
        if self.access_list.mode != AccessListMode::Off {
            files.push("access list");
        }
        if self.keys.mode != KeyMode::Off {
            files.push("keys");
        }
        if denied_networks::file(self.access_list).is_some() {
            files.push("list of denied networks");
        }
        if self.stream.enable_tls {
            files.extend(["certificate", "private key"]);
        }
        if self.exports.enable_scrape_exports {
            files.push("folder of the scrape export");
        }
        if self.persistence.is_some() {
            files.push("folder of the swarms");
        }
        if self.page().is_some() {
            files.push("folder of the HTML page");
        }
        if privileges::check(self.privileges, &files, checks) {
            access_list::check(self.access_list, checks);
            keys::check(self.keys, checks);
            check_tls(self.stream, checks);
            if let Some((key, path)) = self.exports.output() {
                checks.require_ok(replace_file::check(path), key);
            }
            if let Some(plan) = self.persistence {
                plan.inspect(checks);
            }
            if let Some((key, path)) = self.page() {
                checks.require_ok(replace_file::check(path), key);
            }
        }
    }

    /// The HTML page that is written, if one is, and the key that names it.
    pub(crate) fn page(&self) -> Option<(&'static str, &Path)> {
        self.metrics.tables.output("metrics.html_file_path")
    }

    /// Files that the process has open besides those of these workers.
    pub(crate) fn other_files(&self) -> usize {
        self.metrics.endpoint_files_max() + self.more_files
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
        let bytes = memory_at_hand::resolve("network.max_connection_memory", limit, at_hand)?;
        let front_ends = self.stream_front_ends.max(1) as u64;
        if front_ends == 1 || !matches!(limit, MemoryLimit::Share(_)) {
            return Some(bytes);
        }
        // The share is one of the whole process.
        let part = bytes / front_ends;
        log::info!("of `network.max_connection_memory`, each protocol over TCP has {part} bytes");
        Some(part)
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
