//! What an operator can set: this daemon's sections, their defaults, and how they must fit.

mod network;

use std::path::{Path, PathBuf};

use aquatic_cluster::config::{ClusterConfig, ListConfigs, PeerLives};
use aquatic_config::{
    AccessListConfig, Checks, KeysConfig, LimitsConfig, LogLevel, OldSpellings, PrivilegeConfig,
    section,
};
use aquatic_daemon::{access_list, keys, privileges};
use aquatic_tracker::config::{
    AddressLimitsConfig, MetricsConfig, NamedFile, PeerTimes, PersistenceConfig, SnapshotPlan,
    check_peer_lives, check_purposes, clamp_hang_timeout, clamp_workers, lists_in_use,
};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::interval::IntervalConfig;
use aquatic_tracker::shard::addresses::AddressShardConfig;
use aquatic_tracker::torrents::export::ScrapeExportsConfig;
use aquatic_types::{CompactAddr, CompactV4, CompactV6};
use aquatic_udp_protocol::{
    ANNOUNCE_RESPONSE_HEADER_SIZE, SCRAPE_RESPONSE_HEADER_SIZE, SCRAPE_ROW_SIZE,
};
use aquatic_udp_socket::UNFRAGMENTED_BYTES_MAX;

pub use network::{Backend, NetworkConfig, SocketFilterMode, XdpMode, XdpSetting};

use crate::connection_id;
use crate::inspect::inspect_own;

/// Bytes of payload of the largest answer. With all headers it passes any path that carries
/// Ethernet frames in a tunnel, so that it is not fragmented.
pub const ANSWER_BYTES_MAX: usize = 1_400;

/// Peers in the largest answer to an IPv6 client: (1,400 - 20) / 18.
const RESPONSE_PEERS_MAX: usize =
    (ANSWER_BYTES_MAX - ANNOUNCE_RESPONSE_HEADER_SIZE) / CompactV6::SIZE;

/// Torrents in the largest scrape answer: (1,400 - 8) / 12.
const SCRAPE_TORRENTS_MAX: usize =
    (ANSWER_BYTES_MAX - SCRAPE_RESPONSE_HEADER_SIZE) / SCRAPE_ROW_SIZE;

section! {
    /// aquatic_udp configuration.
    pub struct Config {
        /// Threads that receive requests and send answers. 0 = one per CPU.
        ///
        /// One serves some 200,000 requests per second and more before its CPU is busy.
        pub socket_workers: usize = 1,
        /// Threads that own the swarms. 0 = the socket workers own them.
        ///
        /// With 0, the kernel hands each announce to the socket worker that owns the torrent, and
        /// almost nothing is passed between threads. That is faster; set it to
        /// 1 or more where the kernel cannot do so (outside Linux) or where network interrupts
        /// leave CPUs idle.
        pub swarm_workers: usize = 0,
        /// How much is logged: off, error, warn, info, debug or trace.
        pub log_level: LogLevel = LogLevel::Info,
        /// Seconds without any sign of life after which a thread hangs: the program ends, with the
        /// name of the thread in the log, so that a service manager starts it anew. 0 = never.
        ///
        /// Neither waiting for a disk nor a machine that was suspended counts.
        pub hang_timeout: u64 = 60,
        pub network: NetworkConfig,
        pub protocol: ProtocolConfig,
        pub limits: UdpLimitsConfig,
        pub statistics: StatisticsConfig,
        pub cleaning: CleaningConfig,
        pub scrape_exports: ScrapeExportsConfig,
        pub persistence: PersistenceConfig,
        pub cluster: ClusterConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
        pub keys: KeysConfig,
    }
}

section! {
    /// Protocol limits and intervals.
    pub struct ProtocolConfig {
        /// Torrents that one scrape may ask about; the rest of a longer one is not answered. BEP
        /// 15 lets clients ask about 74. At most 116, so that the answer fits into a packet.
        pub max_scrape_torrents: usize = 74,
        /// Peers in an announce answer, whatever the client wants. At most 76, so that the answer
        /// fits into a packet.
        pub max_response_peers: usize = 50,
        /// Peers of one IP address (IPv6: of one /64 network) in an announce answer, as long as
        /// there are others to fill it with. 0 = any number.
        pub max_response_peers_per_ip: u8 = 3,
        /// Seconds between two announces of a client.
        pub peer_announce_interval: u32 = 900,
        #[flatten]
        pub intervals: IntervalConfig,
    }
}

section! {
    /// Bounds on what strangers can make the tracker hold or do. 0 means no limit.
    ///
    /// `max_torrents` and `max_peers` hold for IPv4 and for IPv6 each.
    pub struct UdpLimitsConfig {
        #[flatten]
        pub tracker: LimitsConfig,
        #[flatten]
        pub addresses: AddressLimitsConfig,
    }
}

section! {
    /// What is known about the tracker from outside. Costs next to nothing unless noted.
    pub struct StatisticsConfig {
        #[flatten]
        pub metrics: MetricsConfig,
    }
}

section! {
    /// Expiry and cleaning intervals.
    pub struct CleaningConfig {
        /// Seconds between two cleanings of the swarms.
        pub torrent_cleaning_interval: u32 = 120,
        /// Seconds that a connection id is valid.
        pub max_connection_age: u32 = 120,
        /// Seconds after which a peer that no longer announces is forgotten.
        pub max_peer_age: u32 = 1_200,
    }
}

impl Config {
    /// Bytes of payload of the largest answer to an IPv4 client.
    #[must_use]
    pub fn answer_bytes_max_v4(&self) -> usize {
        let Self { protocol, .. } = self;
        let announce =
            ANNOUNCE_RESPONSE_HEADER_SIZE + protocol.max_response_peers * CompactV4::SIZE;
        let scrape = SCRAPE_RESPONSE_HEADER_SIZE + protocol.max_scrape_torrents * SCRAPE_ROW_SIZE;
        announce.max(scrape)
    }

    /// How many workers of each kind there are.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology::from_config(self.socket_workers, self.swarm_workers)
    }

    /// What the shards are made by.
    pub(crate) fn address_shards(&self) -> AddressShardConfig<'_> {
        AddressShardConfig {
            limits: &self.limits.tracker,
            addresses: &self.limits.addresses,
            metrics: &self.statistics.metrics,
            response_peers_per_ip_max: self.protocol.max_response_peers_per_ip,
            peer_age_seconds_max: self.cleaning.max_peer_age,
            cleaning_interval_seconds: self.cleaning.torrent_cleaning_interval,
        }
    }

    /// Looks at what the keys name on this machine, but for the endpoint: the whole process has
    /// one, and opens it before it gives up the rights of root.
    pub fn inspect_own(&self, checks: &mut Checks) {
        inspect_own(self, checks);
    }

    /// The files that are written from time to time, and the keys that name them.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let tables = &self.statistics.metrics.tables;
        let page = ("statistics.html_file_path", tables.html_file_path.as_path());
        let page = tables.write_html_to_file.then_some(page);
        page.into_iter()
            .chain(self.scrape_exports.output())
            .chain(self.persistence.plan().map(SnapshotPlan::output))
    }
}

impl Config {
    /// That no file has two purposes.
    fn check_files(&self, checks: &mut Checks) {
        let metrics = &self.statistics.metrics;
        let own: [NamedFile<'_>; 3] = [
            (
                "network.connection_secret_file",
                &self.network.connection_secret_file,
            ),
            (
                "statistics.endpoint_token_file",
                &metrics.endpoint_token_file,
            ),
            (
                "statistics.endpoint_unix_socket",
                &metrics.endpoint_unix_socket,
            ),
        ];
        if let Some(plan) = self.persistence.plan() {
            let files: [NamedFile<'_>; 5] = [
                ("access_list.path", &self.access_list.path),
                ("keys.path", &self.keys.path),
                (
                    "access_list.networks_deny_path",
                    &self.access_list.networks_deny_path,
                ),
                ("statistics.html_file_path", &metrics.tables.html_file_path),
                ("scrape_exports.path", &self.scrape_exports.path),
            ];
            plan.check(&[&own[..], &files].concat(), checks);
        }
        let page = metrics.tables.output("statistics.html_file_path");
        let written: Vec<_> = page
            .into_iter()
            .chain(self.scrape_exports.output())
            .collect();
        let lists = lists_in_use(&self.access_list, &self.keys);
        check_purposes(&written, &[&own[..], &lists].concat(), checks);
    }

    fn check_intervals(&self, checks: &mut Checks) {
        let (protocol, base) = (&self.protocol, self.protocol.peer_announce_interval);
        protocol.intervals.check(base, checks);
        let age = self.cleaning.max_peer_age;
        protocol.intervals.check_peer_lives(base, age, checks);
    }

    /// The sections about lists that can be kept in the servers of a cluster.
    #[must_use]
    pub fn lists(&self) -> ListConfigs<'_> {
        ListConfigs {
            access_list: &self.access_list,
            keys: &self.keys,
        }
    }

    /// For how long peers are remembered, and how often they announce.
    #[must_use]
    pub fn peer_lives(&self) -> PeerLives {
        let (protocol, base) = (&self.protocol, self.protocol.peer_announce_interval);
        PeerLives {
            announce_interval: protocol.intervals.longest_seconds(base),
            peer_age: self.cleaning.max_peer_age,
            peer_age_max: self.cleaning.max_peer_age,
        }
    }
}

impl aquatic_config::Config for Config {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.ignore_keys_of_0_8();
        old.rename("metrics", "statistics");
        old.rename("statistics.extended", "statistics.torrent_peer_histograms");
        let batches = "a batch has a size of its own";
        old.ignore("network.poll_event_capacity", batches);
        for key in [
            "cleaning.pending_scrape_cleaning_interval",
            "cleaning.max_pending_scrape_age",
        ] {
            old.ignore(key, "no scrape waits for long");
        }
        old.merge_network_addresses();
        old.replace("network.use_io_uring", "network.backend", |use_io_uring| {
            if use_io_uring { "auto" } else { "mio" }
        });
        PeerTimes::rewrite_old_spellings(old);
    }

    fn clamp(&mut self, checks: &mut Checks) {
        clamp_workers(&mut self.socket_workers, &mut self.swarm_workers, checks);
        clamp_hang_timeout(&mut self.hang_timeout, checks);
        self.network.clamp(checks);
        self.limits.tracker.clamp("limits", checks);
        self.protocol.clamp(checks);
        self.statistics.clamp(checks);
        let times = PeerTimes {
            peer_announce_interval: &mut self.protocol.peer_announce_interval,
            max_peer_age: &mut self.cleaning.max_peer_age,
            torrent_cleaning_interval: &mut self.cleaning.torrent_cleaning_interval,
        };
        times.clamp(checks);
        checks.clamp(
            &mut self.cleaning.max_connection_age,
            1..=connection_id::AGE_MAX_SECONDS,
            "cleaning.max_connection_age",
            "a connection id holds the time for no longer, and must live to be used",
        );
    }

    fn check(&self, checks: &mut Checks) {
        self.network.check(checks);
        self.limits.tracker.check("limits", checks);
        self.limits.addresses.check(checks);
        self.check_files(checks);
        check_peer_lives(
            self.protocol.peer_announce_interval,
            self.cleaning.max_peer_age,
            self.cleaning.torrent_cleaning_interval,
            checks,
        );
        self.check_intervals(checks);
        self.cluster.check(self.peer_lives(), checks);
        self.cluster.advise_lists(self.lists(), checks);
        self.scrape_exports.check(checks);
        self.advise(checks);
    }

    fn inspect(&self, checks: &mut Checks) {
        self.statistics.metrics.inspect("statistics", checks);
        self.cluster.inspect(checks);
        inspect_own(self, checks);
    }

    /// What the kernel was told about the largest answer holds for the life of a socket.
    fn keys_bound_to_start(&self, new: &Self) -> Vec<String> {
        let is_never_fragmented =
            |config: &Self| config.answer_bytes_max_v4() <= UNFRAGMENTED_BYTES_MAX;
        if !is_never_fragmented(self) || is_never_fragmented(new) {
            return Vec::new();
        }
        let (running, new) = (&self.protocol, &new.protocol);
        let keys = [
            (
                new.max_response_peers > running.max_response_peers,
                "protocol.max_response_peers",
            ),
            (
                new.max_scrape_torrents > running.max_scrape_torrents,
                "protocol.max_scrape_torrents",
            ),
        ];
        let grown = keys.into_iter().filter(|(has_grown, _)| *has_grown);
        grown.map(|(_, key)| key.to_owned()).collect()
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

impl Config {
    /// Warns of what is allowed, but hardly meant.
    fn advise(&self, checks: &mut Checks) {
        checks.advise(
            self.protocol.max_response_peers > 0,
            "protocol.max_response_peers",
            "is 0: no client is told of any peer",
        );
        self.network.advise(checks);
        checks.advise(
            self.limits.tracker.requests_per_second_per_ip != 1,
            "limits.requests_per_second_per_ip",
            "is 1, but a client needs two requests to announce: a connect comes first",
        );
        access_list::advise(&self.access_list, checks);
        keys::advise(&self.keys, checks);
        privileges::advise(&self.privileges, checks);
    }
}

impl ProtocolConfig {
    fn clamp(&mut self, checks: &mut Checks) {
        let reason =
            format!("an answer has at most {ANSWER_BYTES_MAX} bytes, to fit into a packet");
        checks.clamp(
            &mut self.max_scrape_torrents,
            1..=SCRAPE_TORRENTS_MAX,
            "protocol.max_scrape_torrents",
            &reason,
        );
        checks.clamp(
            &mut self.max_response_peers,
            0..=RESPONSE_PEERS_MAX,
            "protocol.max_response_peers",
            &reason,
        );
    }
}

impl StatisticsConfig {
    /// An interval of 0 has always meant that there are no statistics at all.
    fn clamp(&mut self, checks: &mut Checks) {
        if self.metrics.interval == 0 {
            for output in [
                &mut self.metrics.run_prometheus_endpoint,
                &mut self.metrics.tables.print_to_stdout,
                &mut self.metrics.tables.write_html_to_file,
            ] {
                *output = false;
            }
            self.metrics.endpoint_unix_socket = PathBuf::new();
            self.metrics.interval = MetricsConfig::default().interval;
            checks.warn(
                "statistics.interval",
                format!(
                    "`statistics.interval` = 0 means no statistics: `run_prometheus_endpoint`, \
                     `print_to_stdout` and `write_html_to_file` are taken as false; {} is used for \
                     what is counted anyway",
                    self.metrics.interval
                ),
            );
        }
        self.metrics.clamp("statistics", checks);
    }
}

#[cfg(test)]
mod tests;
