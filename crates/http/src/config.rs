//! What an operator can set: this daemon's sections, their defaults, and how they must fit.

use std::time::Duration;

use aquatic_cluster::config::{ClusterConfig, ListConfigs, PeerLives};
use aquatic_config::{
    AccessListConfig, Checks, KeysConfig, LogLevel, OldSpellings, PrivilegeConfig, section,
};
use aquatic_stream::{Bounds, ConnectionLimitsConfig, READ_CHUNK_BYTES, StreamConfig};
use aquatic_stream_tracker::{CommonClamps, CommonConfig};
use aquatic_tracker::config::{
    AddressLimitsConfig, MetricsConfig, PeerTimes, PersistenceConfig, check_peer_lives,
};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::interval::IntervalConfig;
use aquatic_tracker::shard::addresses::AddressShardConfig;
use aquatic_tracker::torrents::export::ScrapeExportsConfig;

/// Over this time idle connections are closed when the process is about to stop. Their clients have
/// no reason to come back at once; but a reverse proxy opens all of its connections anew.
const DRAIN: Duration = Duration::from_millis(300);

/// Bytes of the largest request head: what clients and proxies are known to send, 16 KiB, and a
/// little more.
pub const HEAD_BYTES_MAX: usize = 17 * 1_024;

/// Peers in the largest answer.
const RESPONSE_PEERS_MAX: usize = 1_000;

/// Torrents of the largest scrape that fits into a request head, 17 KiB: each takes
/// `info_hash=` and 20 bytes or more.
const SCRAPE_TORRENTS_MAX: usize = HEAD_BYTES_MAX / 30;

/// Torrents of the largest full scrape.
const FULL_SCRAPE_TORRENTS_MAX: usize = 1_000;

/// Bytes of a torrent in the answer to a scrape: an info hash, four keys and four numbers of ten
/// digits.
const SCRAPE_ROW_BYTES_MAX: usize = 123;

/// Bytes of the largest answer, which is that to a full scrape. A list of 1,000 IPv6 peers as
/// dictionaries has half as many.
const ANSWER_BYTES_MAX: usize = 200 + FULL_SCRAPE_TORRENTS_MAX * SCRAPE_ROW_BYTES_MAX;

/// Bytes that may be refused in one go: those kept from before, and what is read then.
const INPUT_BYTES_MAX: usize = HEAD_BYTES_MAX + READ_CHUNK_BYTES;

/// A request of 16 bytes, the shortest, may be refused in 191 bytes.
const REFUSAL_BYTES_PER_BYTE: usize = 12;

/// Answers that may wait to be sent over one connection, some 680 KiB: of one input full of
/// requests that are refused, and the largest answer, on top of the quarter at which reading stops.
const OUTPUT_BYTES_MAX: usize =
    (INPUT_BYTES_MAX * REFUSAL_BYTES_PER_BYTE + ANSWER_BYTES_MAX) * 4 / 3;

section! {
    /// aquatic_http configuration.
    pub struct Config {
        /// Threads that hold connections. 0 = one per CPU.
        ///
        /// One serves some 100,000 requests per second over connections that are kept open, with
        /// TLS or without, or 9,000 that each open a TLS connection, before its CPU is busy.
        pub socket_workers: usize = 1,
        /// Threads that own the swarms. 0 = the socket workers own them.
        ///
        /// Swarms take a small part of the time, so threads of their own are seldom worth it.
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
        pub limits: HttpLimitsConfig,
        pub metrics: MetricsConfig,
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
    /// Connections.
    pub struct NetworkConfig {
        #[flatten]
        pub stream: StreamConfig,
        /// Keep connections open after an answer, if the client wants that.
        ///
        /// Behind a reverse proxy this saves most of the work. Where clients connect by themselves
        /// each sends few requests, so that open connections are mostly idle.
        pub keep_alive: bool = true,
        /// Answer GET /health with status 200, for load balancers, and GET / with a line that says
        /// what this is. Whoever asks, no proxy needs to say who that is.
        pub enable_http_health_checks: bool = true,
    }
}

section! {
    /// Protocol limits and intervals.
    pub struct ProtocolConfig {
        /// Torrents that one scrape may ask about; the rest of a longer one is not answered.
        pub max_scrape_torrents: usize = 100,
        /// Torrents in the answer to a scrape that names none (a full scrape): any of those that
        /// have peers and are allowed, at most 1000. 0 = such scrapes are refused.
        ///
        /// Anyone can ask; an answer has some 100 bytes per torrent.
        pub max_full_scrape_torrents: usize = 0,
        /// Peers in an announce answer, of both IP versions together, whatever the client wants.
        pub max_peers: usize = 50,
        /// Peers of one IP address (IPv6: of one /64 network) in an announce answer, as long as
        /// there are others to fill it with. 0 = any number.
        pub max_response_peers_per_ip: u8 = 3,
        /// Seconds between two announces of a client.
        ///
        /// The traffic is in inverse proportion to it. Lists of trackers take those that say 300 to
        /// 10800.
        pub peer_announce_interval: u32 = 900,
        /// Seconds that a client should wait before it announces again, even if it has a reason
        /// to; never more than `peer_announce_interval`. 0 = it is told nothing about that.
        pub min_announce_interval: u32 = 300,
        #[flatten]
        pub intervals: IntervalConfig,
    }
}

section! {
    /// Bounds on what strangers can make the tracker hold or do. 0 means no limit.
    ///
    /// `max_torrents` and `max_peers` hold for IPv4 and for IPv6 each.
    pub struct HttpLimitsConfig {
        #[flatten]
        pub connections: ConnectionLimitsConfig,
        #[flatten]
        pub addresses: AddressLimitsConfig,
    }
}

section! {
    /// Expiry and cleaning intervals.
    pub struct CleaningConfig {
        /// Seconds between two cleanings of the swarms.
        pub torrent_cleaning_interval: u32 = 30,
        /// Seconds after which a peer that no longer announces is forgotten. Twice
        /// `protocol.peer_announce_interval` lets it miss one announce.
        pub max_peer_age: u32 = 1_800,
        /// Seconds after which a connection over which nothing is asked is closed.
        pub max_connection_idle: u32 = 180,
    }
}

/// When clients are told to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Seconds until the next announce.
    pub announce_seconds: u32,
    /// Seconds until the next announce, even if there is a reason for it.
    pub min_seconds: Option<u32>,
}

impl Config {
    /// How many workers of each kind there are.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.common().topology()
    }

    /// What the shards are made by.
    pub(crate) fn address_shards(&self) -> AddressShardConfig<'_> {
        AddressShardConfig {
            limits: &self.limits.connections.tracker,
            addresses: &self.limits.addresses,
            metrics: &self.metrics,
            response_peers_per_ip_max: self.protocol.max_response_peers_per_ip,
            peer_age_seconds_max: self.cleaning.max_peer_age,
            cleaning_interval_seconds: self.cleaning.torrent_cleaning_interval,
        }
    }

    /// What all trackers over TCP have.
    #[must_use]
    pub fn common(&self) -> CommonConfig<'_> {
        CommonConfig {
            socket_workers: self.socket_workers,
            swarm_workers: self.swarm_workers,
            stream: &self.network.stream,
            limits: &self.limits.connections,
            metrics: &self.metrics,
            privileges: &self.privileges,
            access_list: &self.access_list,
            keys: &self.keys,
            persistence: self.persistence.plan(),
            exports: &self.scrape_exports,
            more_files: 0,
            stream_front_ends: 1,
            is_one_of_several: false,
            drain: DRAIN,
        }
    }

    /// When clients are told to come again.
    #[must_use]
    pub fn intervals(&self) -> Intervals {
        let ProtocolConfig {
            peer_announce_interval,
            min_announce_interval,
            ..
        } = self.protocol;
        // Who asks for short intervals alone shall not have to set both.
        let min_seconds = min_announce_interval.min(peer_announce_interval);
        Intervals {
            announce_seconds: peer_announce_interval,
            min_seconds: (min_seconds > 0).then_some(min_seconds),
        }
    }

    /// How much and how long a connection may keep a worker busy.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            handshake_seconds: self.network.stream.handshake_timeout,
            request_seconds: self.network.stream.request_timeout,
            idle_seconds: self.cleaning.max_connection_idle,
            input_bytes_max: HEAD_BYTES_MAX,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }
}

impl Config {
    /// A file that shortens the lives of peers may come from a time when the default interval was
    /// 120 s, with which they announced often enough.
    fn shorten_default_interval(&mut self, checks: &mut Checks) {
        let interval = &mut self.protocol.peer_announce_interval;
        let age = self.cleaning.max_peer_age;
        if *interval == ProtocolConfig::default().peer_announce_interval && age <= *interval {
            let (default, used) = (*interval, (age / 2).max(1));
            *interval = used;
            checks.warn(
                "cleaning.max_peer_age",
                format!(
                    "`cleaning.max_peer_age` = {age} is not more than the default of \
                     `protocol.peer_announce_interval` = {default}, {used} is used for that"
                ),
            );
        }
    }
}

impl Config {
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
        CommonConfig::rewrite_old_spellings(old);
    }

    fn clamp(&mut self, checks: &mut Checks) {
        self.shorten_default_interval(checks);
        let common = CommonClamps {
            socket_workers: &mut self.socket_workers,
            swarm_workers: &mut self.swarm_workers,
            hang_timeout: &mut self.hang_timeout,
            stream: &mut self.network.stream,
            limits: &mut self.limits.connections.tracker,
            metrics: &mut self.metrics,
            times: PeerTimes {
                peer_announce_interval: &mut self.protocol.peer_announce_interval,
                max_peer_age: &mut self.cleaning.max_peer_age,
                torrent_cleaning_interval: &mut self.cleaning.torrent_cleaning_interval,
            },
        };
        common.clamp(checks);
        let protocol = &mut self.protocol;
        checks.clamp(
            &mut protocol.max_scrape_torrents,
            1..=SCRAPE_TORRENTS_MAX,
            "protocol.max_scrape_torrents",
            "a request asks about at least one torrent, and has no room for more than the most",
        );
        checks.clamp(
            &mut protocol.max_peers,
            0..=RESPONSE_PEERS_MAX,
            "protocol.max_peers",
            "no answer has room for more",
        );
        checks.clamp(
            &mut self.cleaning.max_connection_idle,
            1..=u32::MAX,
            "cleaning.max_connection_idle",
            "a client needs time to ask",
        );
    }

    fn check(&self, checks: &mut Checks) {
        self.common().check(checks);
        self.limits.addresses.check(checks);
        check_peer_lives(
            self.protocol.peer_announce_interval,
            self.cleaning.max_peer_age,
            self.cleaning.torrent_cleaning_interval,
            checks,
        );
        self.check_intervals(checks);
        self.cluster.check(self.peer_lives(), checks);
        self.cluster.advise_lists(self.lists(), checks);
        checks.require(
            self.protocol.max_full_scrape_torrents <= FULL_SCRAPE_TORRENTS_MAX,
            "protocol.max_full_scrape_torrents",
            format!("must be at most {FULL_SCRAPE_TORRENTS_MAX}: no answer has room for more"),
        );
        checks.advise(
            self.protocol.max_peers > 0,
            "protocol.max_peers",
            "is 0: no client is told of any peer",
        );
        let min_interval = self.protocol.min_announce_interval;
        checks.advise(
            // Whoever asks for a short interval alone has not asked for this one.
            min_interval <= self.protocol.peer_announce_interval
                || min_interval == ProtocolConfig::default().min_announce_interval,
            "protocol.min_announce_interval",
            "is more than `protocol.peer_announce_interval`, and counts as that",
        );
    }

    fn inspect(&self, checks: &mut Checks) {
        self.cluster.inspect(checks);
        self.common().inspect(checks);
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::{load, to_documented_toml};
    use aquatic_http_protocol::{Framing, Head, RequestError, ScrapeFile, ScrapeResponse};
    use aquatic_types::InfoHash;

    use super::*;
    use crate::counters::TrafficCounters;
    use crate::refusal::Refusal;

    #[test]
    fn printed_default_loads_to_the_default() {
        let printed = to_documented_toml(&Config::default());
        let loaded = load::<Config>(&printed).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn a_file_of_aquatic_0_9_loads_with_warnings() {
        let loaded = load::<Config>(
            "swarm_workers = 1\n[network]\nuse_ipv6 = false\naddress_ipv4 = \"127.0.0.1:3001\"\n\
             enable_tls = true\ntls_certificate_path = \"cert.pem\"\n\
             tls_private_key_path = \"key.pem\"\nkeep_alive = false\n\
             runs_behind_reverse_proxy = true\nreverse_proxy_ip_header_name = \"X-Real-IP\"\n\
             reverse_proxy_ip_header_format = \"last_address\"\n\
             [protocol]\npeer_announce_interval = 120\n\
             [cleaning]\nconnection_cleaning_interval = 60\nmax_connection_idle = 180\n\
             [statistics]\nrun_prometheus_endpoint = true\n",
        )
        .unwrap();
        let network = &loaded.config.network;
        assert_eq!(
            network.stream.address.as_slice(),
            ["127.0.0.1:3001".parse().unwrap()]
        );
        assert!(network.stream.enable_tls && !network.keep_alive);
        assert!(loaded.config.metrics.run_prometheus_endpoint);
        let intervals = loaded.config.intervals();
        assert_eq!(
            (intervals.announce_seconds, intervals.min_seconds),
            (120, Some(120))
        );
        let about =
            |warning: &&String| warning.contains("interval`") && warning.contains("announce");
        assert_eq!(loaded.warnings.iter().find(about), None);
        for hint in [
            "network.address",
            "`metrics`",
            "connection_cleaning_interval",
            "every second; `cleaning.max_connection_idle`",
        ] {
            let mut warnings = loaded.warnings.iter();
            assert!(warnings.any(|warning| warning.contains(hint)), "{hint}");
        }
    }

    #[test]
    fn what_is_hardly_meant_is_warned_of() {
        for (text, expected) in [
            (
                "protocol.max_peers = 0",
                "line 1: `protocol.max_peers`: is 0: no client is told of any peer",
            ),
            (
                "protocol.min_announce_interval = 1000",
                "line 1: `protocol.min_announce_interval`: is more than \
                 `protocol.peer_announce_interval`, and counts as that",
            ),
        ] {
            assert_eq!(load::<Config>(text).unwrap().advice, [expected]);
        }
        for nothing in ["", "protocol.peer_announce_interval = 120"] {
            assert_eq!(load::<Config>(nothing).unwrap().advice, [""; 0]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, key) in [
            (
                "protocol.max_full_scrape_torrents = 1001",
                "max_full_scrape_torrents",
            ),
            ("network.enable_tls = true", "tls_private_key_path"),
            ("network.ring_size = 128", "ring_size"),
            (
                "network.runs_behind_reverse_proxy = true\nlimits.max_connections_per_ip = 1",
                "max_connections_per_ip",
            ),
        ] {
            let error = load::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        load::<Config>(
            "protocol.max_peers = 1000\nprotocol.max_scrape_torrents = 500\n\
             protocol.max_full_scrape_torrents = 1000",
        )
        .unwrap();
    }

    #[test]
    fn what_0_9_ran_with_is_made_to_fit_with_a_warning() {
        for (text, used) in [
            ("protocol.max_peers = 1001", "1000 is used"),
            ("protocol.max_scrape_torrents = 0", "1 is used"),
            ("protocol.max_scrape_torrents = 1000", "is used"),
            ("protocol.peer_announce_interval = 0", "1 is used"),
            ("cleaning.max_peer_age = 600", "300 is used for that"),
            (
                "protocol.peer_announce_interval = 7200",
                "forgotten between",
            ),
            ("cleaning.max_peer_age = 100_000", "31970 is used: the sum"),
            ("cleaning.max_connection_idle = 0", "1 is used"),
            ("metrics.interval = 0", "1 is used"),
            (
                "metrics.prometheus_peer_id_prefixes = true",
                "false is used",
            ),
            ("network.tcp_backlog = -1", "2147483647 is used"),
        ] {
            let warnings = load::<Config>(text).unwrap().warnings;
            let key = text.split(" = ").next().unwrap();
            let says = |warning: &String| warning.contains(key) && warning.contains(used);
            assert!(warnings.iter().any(says), "{text}: {warnings:?}");
        }
    }

    #[test]
    fn no_answer_is_larger_than_reckoned() {
        let file = |number: usize| ScrapeFile {
            info_hash: InfoHash(std::array::from_fn(|at| number.to_le_bytes()[at % 8])),
            seeders: u32::MAX,
            completed: u32::MAX,
            leechers: u32::MAX,
            downloaders: u32::MAX,
        };
        let mut answer = Vec::new();
        let mut files: Vec<_> = (0..FULL_SCRAPE_TORRENTS_MAX).map(file).collect();
        ScrapeResponse::new(&mut files).write(Framing::CLOSE, &mut answer);
        let size = answer.len();
        assert!((ANSWER_BYTES_MAX - 200..=ANSWER_BYTES_MAX).contains(&size));

        let traffic = TrafficCounters::default();
        for (request, refusal) in [
            ("GET / HTTP/1.1\n\n", Refusal::UNTRUSTED_PROXY),
            ("GET / HTTP/1.1\n\n", Refusal::PROXY_HEADER),
            ("GET / HTTP/1.1\n\n", Refusal::REQUEST_RATE),
            ("GET /scrape HTTP/1.1\n\n", Refusal::FULL_SCRAPE),
            (
                "GET /announce HTTP/1.1\n\n",
                RequestError::InfoHashMissing.into(),
            ),
        ] {
            answer.clear();
            let head = Head::parse(request.as_bytes()).unwrap().unwrap();
            let intervals = Intervals {
                announce_seconds: i32::MAX.unsigned_abs(),
                min_seconds: Some(i32::MAX.unsigned_abs()),
            };
            refusal.write(intervals, head.framing, &traffic, &mut answer);
            let bytes_max = REFUSAL_BYTES_PER_BYTE * request.len();
            assert!(answer.len() <= bytes_max, "{request:?} {refusal:?}");
        }

        let bounds = Config::default().bounds();
        let refused = REFUSAL_BYTES_PER_BYTE * INPUT_BYTES_MAX;
        let most = bounds.output_bytes_reading_max() + refused + size;
        assert!(most <= bounds.output_bytes_max, "{most}");
    }

    /// A configuration in which clients could be told to come when they have been forgotten.
    #[test]
    fn intervals_fit_each_other_and_the_age_of_peers() {
        let refused = |text: &str| load::<Config>(text).unwrap_err().to_string();
        for (text, said) in [
            (
                "protocol.announce_interval_spread = 101",
                "`protocol.announce_interval_spread`: must be 0 to 100",
            ),
            (
                "protocol.announce_interval_max = 899",
                "must be 0, or at least `protocol.peer_announce_interval` = 900",
            ),
            (
                "protocol.announce_interval_spread = 50\ncleaning.max_peer_age = 1379",
                "is 1379, must be at least 1380",
            ),
            (
                "protocol.announce_interval_max = 1800\n\
                 protocol.announce_interval_spread = 10\ncleaning.max_peer_age = 2009",
                "is 2009, must be at least 2010",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in [
            "protocol.announce_interval_spread = 50\ncleaning.max_peer_age = 1380",
            "protocol.announce_interval_max = 900\ncleaning.max_peer_age = 910",
            "protocol.announce_interval_max = 1800\n\
             protocol.announce_interval_spread = 10\ncleaning.max_peer_age = 2010",
        ] {
            assert!(load::<Config>(text).is_ok(), "{text}");
        }
    }
}
