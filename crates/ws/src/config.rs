//! What an operator can set: this daemon's sections, their defaults, and how they must fit.

use std::num::NonZeroU32;
use std::time::Duration;

use aquatic_cluster::config::{ClusterConfig, ListConfigs, MemberLives};
use aquatic_config::{
    AccessListConfig, Checks, KeysConfig, LogLevel, OldSpellings, PrivilegeConfig, section,
};
use aquatic_stream::{Bounds, ConnectionLimitsConfig, StreamConfig};
use aquatic_stream_tracker::{CommonClamps, CommonConfig};
use aquatic_swarm::PEER_AGE_MAX_SECONDS;
use aquatic_swarm_log::Contents;
use aquatic_tracker::config::{
    AddressLimitsConfig, CountsPersistenceConfig, MetricsConfig, PeerTimes,
};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::interval::IntervalConfig;
use aquatic_tracker::torrents::export::ScrapeExportsConfig;
use aquatic_ws_protocol::ScrapeResponse;

use crate::frames::HEADER_BYTES_MAX;
use crate::liveness::Patience;
use crate::origins;
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

/// The longest time over which connections are closed at a stop. It leaves time enough for what is
/// written down then: see [`LAST_MAX`](aquatic_daemon::supervisor::LAST_MAX).
const DRAIN_SECONDS_MAX: u32 = 30;

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
        pub scrape_exports: ScrapeExportsConfig,
        pub persistence: CountsPersistenceConfig,
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
        /// Seconds over which connections are closed when the program is told to stop, one after
        /// the other and with code 1012, so that clients do not all come back at once. 0 = all at
        /// once.
        ///
        /// Each works as before until then; no others are accepted meanwhile. A tracker with few
        /// connections stops sooner.
        pub drain_period: u32 = 5,
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
        #[flatten]
        pub intervals: IntervalConfig,
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
            keys: &self.keys,
            persistence: self.persistence.plan(Contents::CompletedWebTorrent),
            exports: &self.scrape_exports,
            more_files: 0,
            stream_front_ends: 1,
            is_one_of_several: false,
            drain: Duration::from_secs(self.network.drain_period.into()),
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

    /// The sections about lists that can be kept in the servers of a cluster.
    #[must_use]
    pub fn lists(&self) -> ListConfigs<'_> {
        ListConfigs {
            access_list: &self.access_list,
            keys: &self.keys,
        }
    }

    /// When other nodes of a cluster are told again of a peer that stays.
    #[must_use]
    pub fn member_lives(&self) -> MemberLives {
        let cleaning = &self.cleaning;
        let interval = cleaning.torrent_cleaning_interval;
        self.cluster.member_lives(interval, cleaning.max_peer_age)
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
        origins::check(&self.network.allowed_origins, checks);
        self.cluster.check(self.member_lives(), checks);
        self.cluster.advise_lists(self.lists(), checks);
        let (intervals, base) = (
            &self.protocol.intervals,
            self.protocol.peer_announce_interval,
        );
        intervals.check(base, checks);
        let torrents = self.protocol.max_torrents_per_connection;
        checks.require(
            (1..=TORRENTS_PER_CONNECTION_MAX).contains(&torrents),
            "protocol.max_torrents_per_connection",
            format!("must be 1 to {TORRENTS_PER_CONNECTION_MAX}"),
        );
    }

    fn inspect(&self, checks: &mut Checks) {
        self.common().inspect(checks);
        self.cluster.inspect(checks);
    }

    /// How much may wait to be sent holds for the life of the workers.
    fn keys_bound_to_start(&self, new: &Self) -> Vec<String> {
        let mut scraping = self.clone();
        scraping.protocol.max_scrape_torrents = new.protocol.max_scrape_torrents;
        if scraping.bounds().output_bytes_max <= self.bounds().output_bytes_max {
            return Vec::new();
        }
        vec!["protocol.max_scrape_torrents".to_owned()]
    }

    /// Connections are looked at at the pace of now, and those that live must not seem silent when
    /// they are: not before two pings of it could have been answered.
    fn keys_bound_at_present(&self, new: &Self) -> Vec<String> {
        let silence_min = self.patience().ping_seconds.saturating_mul(2);
        let (old, new) = (&self.cleaning, &new.cleaning);
        let keys = [
            ("max_peer_age", old.max_peer_age, new.max_peer_age),
            (
                "max_connection_idle",
                old.max_connection_idle,
                new.max_connection_idle,
            ),
        ];
        let is_bound = |(_, old, new): &(&str, u32, u32)| new < old && *new < silence_min;
        let bound = keys.into_iter().filter(is_bound);
        bound.map(|(key, ..)| format!("cleaning.{key}")).collect()
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
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
            let reason = "the least has room for an offer, and the most fits into memory";
            checks.clamp(bytes, MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX, key, reason);
        }
        checks.clamp(
            &mut self.drain_period,
            0..=DRAIN_SECONDS_MAX,
            "network.drain_period",
            "a service manager does not wait for ever",
        );
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
            "no announce has use for more offers",
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

#[cfg(test)]
mod tests;
