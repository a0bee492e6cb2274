//! What an operator can set: this daemon's sections, their defaults, and how they must fit.

use std::num::NonZeroU32;

use aquatic_config::{AccessListConfig, Checks, LogLevel, OldSpellings, PrivilegeConfig, section};
use aquatic_stream::{Bounds, ConnectionLimitsConfig, StreamConfig};
use aquatic_stream_tracker::{CommonClamps, CommonConfig};
use aquatic_swarm::PEER_AGE_MAX_SECONDS;
use aquatic_swarm_log::Contents;
use aquatic_tracker::config::{
    AddressLimitsConfig, CountsPersistenceConfig, MetricsConfig, PeerTimes,
};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_ws_protocol::ScrapeResponse;

use crate::frames::HEADER_BYTES_MAX;
use crate::liveness::Patience;
use crate::response_writer::ForwardingBounds;
use crate::session::{IN_FLIGHT_MAX, MessageBounds};

/// Bytes of the largest request head: cookies of the page's site may come with it.
pub const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Torrents of the largest scrape.
const SCRAPE_TORRENTS_MAX: usize = 10_000;

/// Offers of an announce that are looked at.
const OFFERS_MAX: usize = 100;

/// Torrents per connection are searched one by one.
const TORRENTS_PER_CONNECTION_MAX: usize = 10_000;

/// Bounds on the size of messages, in bytes. Offers of data channels take 0.5 to 3 KiB each.
const MESSAGE_BYTES_MIN: usize = 1_024;
const MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// The smallest bound on an offer or answer, in bytes.
const OFFER_BYTES_MIN: usize = 512;

/// The highest rate of offers: more than one in a millisecond is as good as no limit.
const OFFERS_PER_SECOND_MAX: u32 = 1_000;

/// Messages of the largest size that can always wait to be sent. One that is passed on to another
/// client has less than 500 bytes (three ids of up to 120, and keys) besides what came in.
const WAITING_MESSAGES_MIN: usize = 4;

section! {
    /// aquatic_ws configuration.
    pub struct Config {
        /// Threads that hold connections. 0 = one per CPU.
        ///
        /// One sends some 200,000 messages per second over TLS before its CPU is busy, if each has
        /// 1 KiB.
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
        pub limits: LimitsConfig,
        pub metrics: MetricsConfig,
        pub cleaning: CleaningConfig,
        pub persistence: CountsPersistenceConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
    }
}

section! {
    /// Connections.
    pub struct NetworkConfig {
        #[flatten]
        pub stream: StreamConfig,
        /// Bytes of the largest message of a client. One that sends a larger one is disconnected.
        ///
        /// An announce carries all of a client's offers, usually 5 to 10, of 0.5 to 3 KiB each.
        pub websocket_max_message_size: usize = 131_072,
        /// The same for a frame. Browsers send a message in one frame.
        pub websocket_max_frame_size: usize = 131_072,
        /// Bytes that may wait to be sent to a client that does not read. When there are more, it
        /// is disconnected.
        ///
        /// Only answers to what a client has asked for itself can be that many: offers and answers
        /// of others are dropped that would make more than a quarter of it wait.
        ///
        /// Less than four times `websocket_max_message_size`, or than four thirds of what the
        /// answer to a scrape of `max_scrape_torrents` takes (200 bytes each), counts as that.
        pub websocket_write_buffer_size: usize = 1_048_576,
        /// Seconds after which a ping goes over a connection over which nothing came.
        ///
        /// Proxies close silent connections: nginx after 60 seconds by default, Cloudflare after
        /// 100. A third of `max_connection_idle` or `max_peer_age` counts as this if it is less.
        pub ping_interval: u32 = 45,
        /// Answer GET /health with status 200, for load balancers.
        pub enable_http_health_checks: bool = true,
        /// Origins of web pages that may use this tracker, such as ["https://example.com"].
        /// Empty: all pages and programs. If it names any, programs that send no origin are
        /// refused.
        pub allowed_origins: Vec<String> = Vec::new(),
    }
}

section! {
    /// Protocol limits and intervals.
    pub struct ProtocolConfig {
        /// Torrents that one scrape may ask about; the rest of a longer one is not answered.
        pub max_scrape_torrents: usize = 255,
        /// Offers of an announce that are passed on; the rest is not.
        pub max_offers: usize = 10,
        /// Bytes of the largest offer or answer, as JSON. A larger offer is not passed on, a larger
        /// answer is refused. Usual ones take 0.5 to 3 KiB.
        pub max_offer_size: usize = 16_384,
        /// Offers per second that are passed on to one client, on average over about four seconds;
        /// more are dropped. 0 = no limit. When a client gets many, half of what it may get at
        /// once is for offers of addresses that have sent it few.
        ///
        /// A browser opens a connection of WebRTC for each, gives it about 30 seconds, and cannot
        /// have more than 500 at a time.
        pub max_offers_per_second_per_receiver: u32 = 16,
        /// Torrents in which one connection may have a peer at a time. With several peer ids in one
        /// torrent it counts as often as that, and there are no more than eight of them.
        pub max_torrents_per_connection: usize = 1_000,
        /// Seconds between two announces of a client.
        pub peer_announce_interval: u32 = 120,
    }
}

section! {
    /// Bounds on what strangers can make the tracker hold or do. 0 means no limit.
    ///
    /// Browsers on IPv4 and IPv6 are in the same swarms, and limits hold for both together.
    pub struct LimitsConfig {
        #[flatten]
        pub connections: ConnectionLimitsConfig,
        #[flatten]
        pub addresses: AddressLimitsConfig,
    }
}

section! {
    /// Expiry and cleaning intervals. The peers of a connection leave when it is closed.
    /// While it lives, that is, while messages, pings or answers to pings come, its peers stay; but
    /// see `limits.max_swarm_memory`.
    pub struct CleaningConfig {
        /// Seconds between two cleanings: of torrents without peers, and of peers in torrents that
        /// the access list no longer allows.
        pub torrent_cleaning_interval: u32 = 30,
        /// Seconds after which a peer is forgotten over whose connection nothing came, not even an
        /// answer to a ping. A peer whose connection lives need not announce again to stay.
        pub max_peer_age: u32 = 180,
        /// Seconds during which an offer that was passed on can be answered.
        pub max_offer_age: u32 = 120,
        /// Seconds after which a connection is closed over which nothing came, not even an answer
        /// to a ping (see `ping_interval`).
        pub max_connection_idle: u32 = 180,
        /// Seconds after a change of the TLS certificate until connections that were opened with an
        /// earlier one are closed.
        pub close_after_tls_update_grace_period: u32 = 3_600,
    }
}

impl Config {
    /// How many workers of each kind there are.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.common().topology()
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
            persistence: self.persistence.plan(Contents::CompletedWebTorrent),
        }
    }

    /// How much and how long a connection may keep a worker busy.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let network = &self.network;
        // Whoever reads what it is sent must never be taken for one that does not.
        let messages = WAITING_MESSAGES_MIN * network.websocket_max_message_size;
        let scrape = ScrapeResponse::size_max(self.protocol.max_scrape_torrents);
        // A quarter may be what others have sent.
        let scrape_and_others = (scrape + HEADER_BYTES_MAX).div_ceil(3) * 4;
        let waiting_min = messages.max(scrape_and_others);
        let frame_bytes_max = network.websocket_max_frame_size + HEADER_BYTES_MAX;
        Bounds {
            handshake_seconds: network.stream.handshake_timeout,
            request_seconds: network.stream.request_timeout,
            idle_seconds: self.cleaning.max_connection_idle,
            input_bytes_max: frame_bytes_max.max(HEAD_BYTES_MAX),
            output_bytes_max: network.websocket_write_buffer_size.max(waiting_min),
        }
    }

    /// How much of what clients have for each other is passed on.
    #[must_use]
    pub fn forwarding_bounds(&self) -> ForwardingBounds {
        ForwardingBounds {
            waiting_bytes_max: self.bounds().output_bytes_reading_max(),
            offers_per_second_max: NonZeroU32::new(
                self.protocol.max_offers_per_second_per_receiver,
            ),
        }
    }

    /// What happens to connections over which nothing comes.
    #[must_use]
    pub fn patience(&self) -> Patience {
        let cleaning = &self.cleaning;
        let shortest = cleaning.max_connection_idle.min(cleaning.max_peer_age);
        // Two pings may go unanswered.
        let ping_seconds = self.network.ping_interval.min(shortest / 3);
        Patience {
            ping_seconds: ping_seconds.max(1),
            peer_age_seconds_max: cleaning.max_peer_age,
        }
    }

    /// How large messages may be.
    #[must_use]
    pub fn message_bounds(&self) -> MessageBounds {
        MessageBounds {
            frame_bytes_max: self.network.websocket_max_frame_size,
            message_bytes_max: self.network.websocket_max_message_size,
            in_flight_max: IN_FLIGHT_MAX,
        }
    }
}

impl aquatic_config::Config for Config {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        CommonConfig::rewrite_old_spellings(old);
    }

    fn clamp(&mut self, checks: &mut Checks) {
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
        self.network.clamp(checks);
        self.protocol.clamp(checks);
        self.cleaning.clamp(checks);
    }

    fn check(&self, checks: &mut Checks) {
        self.common().check(checks);
        self.limits.addresses.check(checks);
        self.check_origins(checks);
        let torrents = self.protocol.max_torrents_per_connection;
        checks.require(
            (1..=TORRENTS_PER_CONNECTION_MAX).contains(&torrents),
            "protocol.max_torrents_per_connection",
            format!("must be 1 to {TORRENTS_PER_CONNECTION_MAX}"),
        );
    }

    fn inspect(&self, checks: &mut Checks) {
        self.common().inspect(checks);
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

impl Config {
    fn check_origins(&self, checks: &mut Checks) {
        for origin in &self.network.allowed_origins {
            checks.require(
                is_origin(origin),
                "network.allowed_origins",
                format!(
                    "{origin:?} is no origin: a scheme and a host, such as https://example.com"
                ),
            );
        }
    }
}

impl NetworkConfig {
    fn clamp(&mut self, checks: &mut Checks) {
        for (bytes, key) in [
            (
                &mut self.websocket_max_message_size,
                "network.websocket_max_message_size",
            ),
            (
                &mut self.websocket_max_frame_size,
                "network.websocket_max_frame_size",
            ),
        ] {
            let reason = "an offer must fit in, and a message into memory";
            checks.clamp(bytes, MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX, key, reason);
        }
    }
}

impl ProtocolConfig {
    fn clamp(&mut self, checks: &mut Checks) {
        checks.clamp(
            &mut self.max_scrape_torrents,
            1..=SCRAPE_TORRENTS_MAX,
            "protocol.max_scrape_torrents",
            "the whole answer must fit into what may wait to be sent",
        );
        checks.clamp(
            &mut self.max_offers,
            0..=OFFERS_MAX,
            "protocol.max_offers",
            "no more offers of an announce are looked at",
        );
        checks.clamp(
            &mut self.max_offer_size,
            OFFER_BYTES_MIN..=MESSAGE_BYTES_MAX,
            "protocol.max_offer_size",
            "an offer takes some hundreds of bytes, and must fit into a message",
        );
        checks.clamp(
            &mut self.max_offers_per_second_per_receiver,
            0..=OFFERS_PER_SECOND_MAX,
            "protocol.max_offers_per_second_per_receiver",
            "no browser opens so many connections",
        );
        checks.advise(
            self.max_offers > 0,
            "protocol.max_offers",
            "is 0: no offer is passed on, so that peers never meet",
        );
    }
}

impl CleaningConfig {
    fn clamp(&mut self, checks: &mut Checks) {
        checks.clamp(
            &mut self.max_offer_age,
            1..=PEER_AGE_MAX_SECONDS,
            "cleaning.max_offer_age",
            "an answer takes time, and the tracker remembers offers for no longer",
        );
        checks.clamp(
            &mut self.max_connection_idle,
            3..=u32::MAX,
            "cleaning.max_connection_idle",
            "a ping and its answer must fit into it",
        );
    }
}

/// Whether browsers could send it (RFC 6454): one with a path, or but a slash, is never sent.
fn is_origin(text: &str) -> bool {
    let has_host = |(_, host): (&str, &str)| !host.is_empty() && !host.contains(['/', '?', '#']);
    text == "null" || text.split_once("://").is_some_and(has_host)
}

#[cfg(test)]
mod tests {
    use aquatic_config::{load, to_documented_toml};

    use super::*;

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
            "socket_workers = 1\nswarm_workers = 1\n[network]\naddress = \"0.0.0.0:3000\"\n\
             only_ipv6 = false\ntcp_backlog = 1024\nwebsocket_max_message_size = 65536\n\
             websocket_max_frame_size = 16384\nwebsocket_write_buffer_size = 8192\n\
             enable_http_health_checks = false\n\
             [protocol]\nmax_scrape_torrents = 255\nmax_offers = 10\n\
             peer_announce_interval = 120\n\
             [cleaning]\ntorrent_cleaning_interval = 30\nconnection_cleaning_interval = 30\n\
             max_peer_age = 180\nmax_offer_age = 120\nmax_connection_idle = 180\n\
             close_after_tls_update_grace_period = 3600\n\
             [metrics]\ntorrent_count_update_interval = 10\npeer_clients = true\n",
        )
        .unwrap();
        let config = &loaded.config;
        assert!(!config.network.enable_http_health_checks && config.metrics.peer_clients);
        assert_eq!(config.metrics.interval, 10);
        assert_eq!(config.bounds().output_bytes_max, 4 * 65_536);
        let mut warnings = loaded.warnings.iter();
        assert!(warnings.any(|warning| warning.contains("connection_cleaning_interval")));
    }

    #[test]
    fn pings_fit_between_whatever_ends_a_silent_connection() {
        let ping_seconds = |interval, idle, age| {
            let mut config = Config::default();
            config.network.ping_interval = interval;
            config.cleaning.max_connection_idle = idle;
            config.cleaning.max_peer_age = age;
            config.patience().ping_seconds
        };
        assert_eq!(Config::default().patience().ping_seconds, 45);
        assert_eq!(ping_seconds(45, 100_000, 180), 45, "whatever may be idle");
        assert_eq!(ping_seconds(45, 30, 180), 10);
        assert_eq!(ping_seconds(45, 180, 60), 20);
        assert_eq!(ping_seconds(0, 180, 180), 1);
        assert_eq!(ping_seconds(45, 3, 1), 1);
    }

    #[test]
    fn origins_are_schemes_and_hosts() {
        let text = "network.allowed_origins = ['https://a.example:8443', 'http://[::1]', 'null']";
        assert!(load::<Config>(text).is_ok());
    }

    #[test]
    fn every_answer_fits_into_what_may_wait() {
        let mut config = Config::default();
        config.network.websocket_write_buffer_size = 0;
        config.network.websocket_max_message_size = MESSAGE_BYTES_MIN;
        for torrents in [1, SCRAPE_TORRENTS_MAX] {
            config.protocol.max_scrape_torrents = torrents;
            let waiting_max = config.bounds().output_bytes_max;
            assert!(waiting_max >= HEADER_BYTES_MAX + ScrapeResponse::size_max(torrents));
            let forwarded_max = HEADER_BYTES_MAX + MESSAGE_BYTES_MIN + 500;
            assert!(waiting_max >= 2 * forwarded_max);
        }
    }

    #[test]
    fn what_0_9_ran_with_is_made_to_fit_with_a_warning() {
        for (text, used) in [
            ("protocol.max_offers = 101", "100 is used"),
            ("protocol.max_scrape_torrents = 0", "1 is used"),
            ("protocol.max_scrape_torrents = 65535", "10000 is used"),
            ("cleaning.max_offer_age = 0", "1 is used"),
            ("cleaning.max_offer_age = 100_000", "32000 is used"),
            ("cleaning.max_connection_idle = 0", "3 is used"),
            ("network.websocket_max_frame_size = 0", "1024 is used"),
            (
                "network.websocket_max_message_size = 100_000_000",
                "16777216 is used",
            ),
            ("metrics.peer_id_prefixes = true", "false is used"),
        ] {
            let warnings = load::<Config>(text).unwrap().warnings;
            let (key, _) = text.split_once(" = ").unwrap();
            let name = key.rsplit('.').next().unwrap();
            let says = |warning: &String| warning.contains(name) && warning.contains(used);
            assert!(warnings.iter().any(says), "{text}: {warnings:?}");
        }
    }

    #[test]
    fn peers_need_not_announce_to_stay() {
        let loaded = load::<Config>("protocol.peer_announce_interval = 1800").unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_is_hardly_meant_is_warned_of() {
        assert_eq!(
            load::<Config>("protocol.max_offers = 0").unwrap().advice,
            [
                "line 1: `protocol.max_offers`: is 0: no offer is passed on, so that peers never \
                 meet"
            ]
        );
        assert!(load::<Config>("").unwrap().advice.is_empty());
    }

    /// Swarms are shared by both IP versions, unlike those of the other trackers.
    #[test]
    fn limits_hold_once() {
        let printed = to_documented_toml(&Config::default());
        let said = "# Bounds on what strangers can make the tracker hold or do. 0 means no limit.\n\
                    #\n\
                    # Browsers on IPv4 and IPv6 are in the same swarms, and limits hold for both \
                    together.\n\
                    [limits]\n";
        assert!(printed.contains(said), "{printed}");
        assert!(!printed.contains("IPv6 each"), "{printed}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, key) in [
            (
                "protocol.max_torrents_per_connection = 0",
                "max_torrents_per_connection",
            ),
            ("network.enable_tls = true", "tls_private_key_path"),
            ("network.keep_alive = true", "keep_alive"),
            ("network.allowed_origins = ['example.com']", "example.com"),
            ("network.allowed_origins = ['https://a.b/']", "https://a.b/"),
            (
                "network.runs_behind_reverse_proxy = true\nlimits.max_connections_per_ip = 1",
                "max_connections_per_ip",
            ),
        ] {
            let error = load::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
