//! What an operator can set: this daemon's sections, their defaults, and how they must fit.

use std::path::PathBuf;

use aquatic_config::{
    AccessListConfig, Addresses, Checks, LimitsConfig, LogLevel, OldSpellings, PrivilegeConfig,
    section,
};
use aquatic_tracker::arrangement::Layout;
use aquatic_tracker::config::{MetricsConfig, PeerTimes, check_workers};
use aquatic_types::{CompactAddr, CompactV6};
use aquatic_udp_protocol::{
    ANNOUNCE_RESPONSE_HEADER_SIZE, SCRAPE_RESPONSE_HEADER_SIZE, SCRAPE_ROW_SIZE,
};
use serde::{Deserialize, Serialize};

use crate::connection_id;

/// Bytes of payload of the largest answer. With all headers it passes any path that carries
/// Ethernet frames in a tunnel, so that it is not fragmented.
pub const ANSWER_BYTES_MAX: usize = 1_400;

/// Peers in the largest answer to an IPv6 client: (1,400 - 20) / 18.
const RESPONSE_PEERS_MAX: usize =
    (ANSWER_BYTES_MAX - ANNOUNCE_RESPONSE_HEADER_SIZE) / CompactV6::SIZE;

/// Torrents in the largest scrape answer: (1,400 - 8) / 12.
const SCRAPE_TORRENTS_MAX: usize =
    (ANSWER_BYTES_MAX - SCRAPE_RESPONSE_HEADER_SIZE) / SCRAPE_ROW_SIZE;

/// What fits into the C int that systems are asked with.
const BUFFER_BYTES_MAX: usize = (1 << 31) - 1;

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
        pub network: NetworkConfig,
        pub protocol: ProtocolConfig,
        pub limits: LimitsConfig,
        pub statistics: StatisticsConfig,
        pub cleaning: CleaningConfig,
        pub scrape_exports: ScrapeExportsConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
    }
}

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Where to listen: one address and port or a list of them.
        ///
        /// Each gets a socket in each socket worker. IPv6 sockets accept IPv6 only, so that both
        /// kinds can use the same port.
        pub address: Addresses = Addresses::default(),
        /// How datagrams are received and sent: auto, mio (batched system calls) or io_uring (Linux
        /// 6.0 or later).
        ///
        /// auto takes mio, which measured faster and works everywhere. io_uring ends the program at
        /// start, with the reason, where the system does not allow it: many container runtimes
        /// forbid it, and its buffers need locked memory.
        pub backend: Backend = Backend::Auto,
        /// Bytes of receive buffer per socket. 0 = the system's default.
        ///
        /// What arrives while it is full is lost, so make it large on a busy tracker. The system's
        /// limit may have to be raised (Linux: sysctl net.core.rmem_max).
        pub socket_recv_buffer_size: usize = 8_000_000,
        /// Bytes of send buffer per socket. 0 = the system's default.
        ///
        /// Answers are dropped while it is full. Those to hosts of the tracker's own network that
        /// do not exist stay in it for some seconds, so with a small one, strangers who forge such
        /// addresses can silence the tracker. The system's limit may have to be raised (Linux:
        /// sysctl net.core.wmem_max).
        pub socket_send_buffer_size: usize = 8_000_000,
        /// Milliseconds after which an idle worker looks after its timers (cleaning, statistics).
        pub poll_timeout_ms: u64 = 50,
        /// Microseconds that a busy worker may wait to gather a batch of requests. 0 = never waits.
        ///
        /// Saves CPU time at moderate load, and adds at most this to the time of an answer. An idle
        /// worker does not wait: it is woken by the first request.
        pub batch_wait_us: u64 = 200,
        /// Answers per socket that are kept when the send buffer is full, to be sent again. 0 =
        /// none: they are dropped (and counted).
        ///
        /// Useful on systems without a send buffer for UDP, such as FreeBSD.
        pub resend_buffer_max_len: usize = 0,
        /// Requests that the kernel can hold for one worker (io_uring only). Rounded up to a power
        /// of two.
        pub ring_size: u16 = 128,
    }
}

/// How datagrams are received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The fastest that works here.
    #[default]
    Auto,
    /// io_uring, or an error at start.
    IoUring,
    /// epoll (or what the system has instead) and batched system calls.
    Mio,
}

section! {
    /// What clients are told and allowed.
    pub struct ProtocolConfig {
        /// Torrents that one scrape may ask about; the rest of a longer one is not answered. At
        /// most 116, so that the answer fits into a packet.
        pub max_scrape_torrents: usize = 70,
        /// Peers in an announce answer, whatever the client wants. At most 76, so that the answer
        /// fits into a packet.
        pub max_response_peers: usize = 50,
        /// Seconds between two announces of a client.
        pub peer_announce_interval: u32 = 900,
    }
}

section! {
    /// What is known about the tracker from outside. Costs next to nothing unless noted.
    pub struct StatisticsConfig {
        #[flatten]
        pub metrics: MetricsConfig,
        /// Print to standard output.
        pub print_to_stdout: bool = false,
        /// Write an HTML page.
        pub write_html_to_file: bool = false,
        /// Where to write the HTML page.
        ///
        /// With `privileges.drop_privileges`, this is relative to the new root.
        pub html_file_path: PathBuf = PathBuf::from("tmp/statistics.html"),
    }
}

section! {
    /// When things are forgotten.
    pub struct CleaningConfig {
        /// Seconds between two cleanings of the swarms.
        pub torrent_cleaning_interval: u32 = 120,
        /// Seconds that a connection id is valid.
        pub max_connection_age: u32 = 120,
        /// Seconds after which a peer that no longer announces is forgotten.
        pub max_peer_age: u32 = 1_200,
    }
}

section! {
    /// A list of all torrents, written to a file from time to time.
    ///
    /// Each line is `4|6 <info hash> <seeders> <leechers>`: the IP version, 40 hexadecimal digits
    /// and two numbers. A new list replaces the old one at once, when it is complete.
    pub struct ScrapeExportsConfig {
        /// Write the list.
        pub enable_scrape_exports: bool = false,
        /// Seconds between two lists.
        pub frequency: u64 = 600,
        /// Where to write the list.
        ///
        /// With `privileges.drop_privileges`, this is relative to the new root.
        pub path: PathBuf = PathBuf::from("./scrape-export.txt"),
    }
}

impl Config {
    /// How many workers of each kind there are.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout::new(self.socket_workers, self.swarm_workers)
    }
}

impl aquatic_config::Config for Config {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("metrics", "statistics");
        old.merge_network_addresses();
        old.replace("network.use_io_uring", "network.backend", |use_io_uring| {
            if use_io_uring { "auto" } else { "mio" }
        });
    }

    fn check(&self, checks: &mut Checks) {
        self.check_workers(checks);
        self.check_protocol(checks);
        self.check_cleaning(checks);
        self.check_outputs(checks);
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

impl Config {
    fn check_workers(&self, checks: &mut Checks) {
        check_workers(self.socket_workers, self.swarm_workers, checks);
        let network = &self.network;
        checks.require(
            (1..=1_000).contains(&network.poll_timeout_ms),
            "network.poll_timeout_ms",
            "must be 1 to 1000",
        );
        checks.require(
            network.batch_wait_us < 1_000,
            "network.batch_wait_us",
            "must be less than 1000: it is added to the time of an answer",
        );
        for (bytes, key) in [
            (
                network.socket_recv_buffer_size,
                "network.socket_recv_buffer_size",
            ),
            (
                network.socket_send_buffer_size,
                "network.socket_send_buffer_size",
            ),
        ] {
            let at_most = format!("must be at most {BUFFER_BYTES_MAX}");
            checks.require(bytes <= BUFFER_BYTES_MAX, key, at_most);
        }
        checks.require(
            (16..=16_384).contains(&network.ring_size),
            "network.ring_size",
            "must be 16 to 16384",
        );
        checks.require(
            network.address.iter().len() <= usize::from(u8::MAX),
            "network.address",
            "must be at most 255 addresses",
        );
    }

    fn check_protocol(&self, checks: &mut Checks) {
        let protocol = &self.protocol;
        checks.require(
            (1..=SCRAPE_TORRENTS_MAX).contains(&protocol.max_scrape_torrents),
            "protocol.max_scrape_torrents",
            format!("must be 1 to {SCRAPE_TORRENTS_MAX}: an answer has {ANSWER_BYTES_MAX} bytes"),
        );
        checks.require(
            protocol.max_response_peers <= RESPONSE_PEERS_MAX,
            "protocol.max_response_peers",
            format!("must be at most {RESPONSE_PEERS_MAX}: an answer has {ANSWER_BYTES_MAX} bytes"),
        );
    }

    fn check_cleaning(&self, checks: &mut Checks) {
        let cleaning = &self.cleaning;
        let times = PeerTimes {
            peer_announce_interval: self.protocol.peer_announce_interval,
            max_peer_age: cleaning.max_peer_age,
            torrent_cleaning_interval: cleaning.torrent_cleaning_interval,
        };
        times.check(checks);
        let age_max = connection_id::AGE_MAX_SECONDS;
        checks.require(
            (1..=age_max).contains(&cleaning.max_connection_age),
            "cleaning.max_connection_age",
            format!("must be 1 to {age_max}"),
        );
    }

    fn check_outputs(&self, checks: &mut Checks) {
        self.statistics.metrics.check("statistics", checks);
        let exports = &self.scrape_exports;
        checks.require(
            exports.frequency >= 1,
            "scrape_exports.frequency",
            "must be at least 1",
        );
    }
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
            "socket_workers = 2\n[network]\naddress = \"0.0.0.0:3000\"\nonly_ipv6 = false\n\
             use_io_uring = false\nring_size = 128\n[protocol]\nmax_response_peers = 30\n",
        )
        .unwrap();
        assert_eq!(loaded.config.network.backend, Backend::Mio);
        assert_eq!(
            loaded.config.network.address.as_slice(),
            ["0.0.0.0:3000".parse().unwrap()]
        );
        assert!(
            loaded
                .warnings
                .iter()
                .any(|warning| warning.contains("network.backend"))
        );
    }

    #[test]
    fn answers_that_do_not_fit_are_refused() {
        for (text, key) in [
            ("protocol.max_response_peers = 77", "max_response_peers"),
            ("protocol.max_scrape_torrents = 117", "max_scrape_torrents"),
            (
                "protocol.peer_announce_interval = 1200",
                "peer_announce_interval",
            ),
            ("cleaning.max_peer_age = 32000", "max_peer_age"),
            ("cleaning.max_connection_age = 0", "max_connection_age"),
            ("network.batch_wait_us = 1000", "batch_wait_us"),
            (
                "network.socket_recv_buffer_size = 2147483648",
                "socket_recv_buffer_size",
            ),
            (
                "network.socket_send_buffer_size = 2147483648",
                "socket_send_buffer_size",
            ),
            (
                "statistics.prometheus_peer_id_prefixes = true",
                "prometheus_peer_id_prefixes",
            ),
        ] {
            let error = load::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        load::<Config>("protocol.max_response_peers = 76\nprotocol.max_scrape_torrents = 116")
            .unwrap();
    }
}
