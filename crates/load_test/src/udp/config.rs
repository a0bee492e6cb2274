//! What the operator may choose.

use aquatic_config::{Checks, Config, LogLevel, OldSpellings, section};

use crate::core::client_ips::{self, IpRange};
use crate::core::config::{
    AnswersConfig, PopulationConfig, RunConfig, require_some, require_within,
};
/// The first port that a peer listens on: those below are privileged.
pub(crate) const PORT_FIRST: u32 = 1024;

/// Ports that peers listen on.
pub(crate) const PORTS: u32 = 65_536 - PORT_FIRST;

section! {
    /// aquatic_udp_load_test configuration
    ///
    /// Without a change, this keeps a tracker on this machine as busy as it can be for half a
    /// minute. Give the tester a processor core of its own (taskset).
    pub struct LoadTestConfig {
        #[flatten]
        pub run: RunConfig,
        pub network: NetworkConfig,
        pub requests: RequestsConfig,
        pub answers: AnswersConfig,
        pub fill: FillConfig,
    }
}

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Sockets that each worker opens.
        pub sockets_per_worker: usize = 4,
        /// Addresses that the sockets are bound to in turn: "127.0.0.1", or a range such as
        /// "127.0.0.1-127.0.0.20". Several addresses are several peers, and a tracker with
        /// several workers spreads them. Empty: the system chooses.
        pub client_ips: Vec<IpRange> = vec![IpRange::LOOPBACK],
        /// Bytes of answers that may wait to be read at each socket. 0: the system's default.
        ///
        /// Without root's rights, `net.core.rmem_max` is the limit.
        pub socket_recv_buffer_size: usize = 8_000_000,
        /// Requests of each socket that may wait for their answers while `rate_per_second` is 0.
        ///
        /// Enough of them keep the tracker busy while the tester does something else: it looks for
        /// answers every 0.2 milliseconds.
        pub in_flight_per_socket: u32 = 128,
        /// Hand several requests to the kernel as one (UDP generic segmentation offload, Linux):
        /// the tester then needs less CPU time.
        ///
        /// Turn it off if the tracker has several workers and chooses among them by what is in the
        /// packet, as aquatic_udp with `swarm_workers = 0` does: on the loopback interface, that
        /// choice is made once for all requests that travel together.
        pub segmentation_offload: bool = true,
    }
}

section! {
    /// Who sends what.
    ///
    /// Each peer belongs to one torrent. The requests name peers at random.
    pub struct RequestsConfig {
        #[flatten]
        pub population: PopulationConfig,
        /// How often a request is a connect request, in proportion to the other weights.
        pub weight_connect: u32 = 50,
        /// How often a request is an announce.
        pub weight_announce: u32 = 50,
        /// How often a request is a scrape.
        pub weight_scrape: u32 = 1,
    }
}

section! {
    /// Filling instead of loading: each peer announces once, again until it is answered, and the
    /// tracker's memory is measured before and after.
    ///
    /// `requests.seeder_probability` and `requests.num_want` apply. The torrents are those
    /// which the load uses, so that a filled tracker may be loaded next.
    pub struct FillConfig {
        /// Fill.
        pub enabled: bool = false,
        /// Torrents.
        pub number_of_torrents: u32 = 1_000_000,
        /// Peers in each torrent. Peers of one torrent differ by IP address (one per socket, see
        /// `network.client_ips`) and port (up to 64,512).
        pub peers_per_torrent: u32 = 1,
    }
}

impl LoadTestConfig {
    /// Sockets of all workers.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.run.workers * self.network.sockets_per_worker
    }
}

impl Config for LoadTestConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        for (former, name) in [
            ("duration", "duration_seconds"),
            ("network.recv_buffer", "network.socket_recv_buffer_size"),
            ("requests.scrape_max_torrents", "requests.scrape_torrents"),
            ("requests.announce_peers_wanted", "requests.num_want"),
            ("requests.peers_wanted", "requests.num_want"),
            (
                "requests.peer_seeder_probability",
                "requests.seeder_probability",
            ),
        ] {
            old.rename(former, name);
        }
        old.ignore(
            "summarize_last",
            "set `warm_up_seconds` and `duration_seconds`",
        );
        old.ignore("extra_statistics", "the report is always complete");
        old.ignore("network.multiple_client_ipv4s", "set `network.client_ips`");
    }

    fn check(&self, checks: &mut Checks) {
        self.run.check(checks);
        self.requests.population.check(self.sockets(), checks);
        self.answers.check(checks);
        self.check_requests(checks);
        self.check_network(checks);
        if self.fill.enabled {
            self.check_fill(checks);
        }
    }

    fn log_level(&self) -> LogLevel {
        self.run.log_level
    }
}

impl LoadTestConfig {
    fn check_requests(&self, checks: &mut Checks) {
        let requests = &self.requests;
        checks.require(
            requests.weight_connect > 0
                || requests.weight_announce > 0
                || requests.weight_scrape > 0,
            "requests.weight_announce",
            "one of the three weights must be more than 0",
        );
        // A scrape of 70 torrents, which aquatic 0.9 answers at most, has 1,416 bytes.
        checks.require(
            requests.population.scrape_torrents <= 70,
            "requests.scrape_torrents",
            "must be at most 70: trackers leave out more",
        );
    }

    fn check_network(&self, checks: &mut Checks) {
        let network = &self.network;
        let sockets = network.sockets_per_worker;
        require_within(checks, "network.sockets_per_worker", sockets, 1..=1024);
        let requests = network.in_flight_per_socket;
        require_within(checks, "network.in_flight_per_socket", requests, 1..=16_384);
        let server = self.run.server_address.ip();
        client_ips::check(&network.client_ips, "network.client_ips", server, checks);
    }

    fn check_fill(&self, checks: &mut Checks) {
        let FillConfig {
            number_of_torrents,
            peers_per_torrent,
            ..
        } = self.fill;
        require_some(checks, "fill.number_of_torrents", number_of_torrents);
        require_some(checks, "fill.peers_per_torrent", peers_per_torrent);
        checks.require(
            number_of_torrents.checked_mul(peers_per_torrent).is_some(),
            "fill.peers_per_torrent",
            "times `fill.number_of_torrents` must be less than 2^32",
        );
        // The sockets of one worker must not speak for the same peers.
        let addresses = client_ips::count(&self.network.client_ips).max(1);
        let sockets = self.network.sockets_per_worker;
        checks.require(
            u64::try_from(sockets).is_ok_and(|sockets| sockets <= addresses),
            "network.sockets_per_worker",
            format!(
                "must be at most {addresses} to fill: each socket of a worker needs an address of \
                 its own in `network.client_ips`"
            ),
        );
        let peers_max = u64::try_from(sockets).unwrap_or(0) * u64::from(PORTS);
        checks.require(
            u64::from(peers_per_torrent) <= peers_max,
            "fill.peers_per_torrent",
            format!(
                "must be at most {peers_max} (`network.sockets_per_worker` times {PORTS} ports): \
                 add sockets and `network.client_ips`"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::{load, to_documented_toml};

    use super::*;

    fn refused(text: &str) -> String {
        load::<LoadTestConfig>(text).unwrap_err().to_string()
    }

    fn accepted(text: &str) -> LoadTestConfig {
        load::<LoadTestConfig>(text).unwrap().config
    }

    #[test]
    fn the_printed_default_loads_to_the_default() {
        let text = to_documented_toml(&LoadTestConfig::default());
        assert_eq!(accepted(&text), LoadTestConfig::default());
        assert!(text.contains("127.0.0.1-127.0.0.4"), "{text}");
    }

    #[test]
    fn the_keys_of_aquatics_tester_load() {
        let text = "
            duration = 7
            summarize_last = 5
            extra_statistics = true
            [network]
            multiple_client_ipv4s = true
            recv_buffer = 9
            [requests]
            scrape_max_torrents = 8
            announce_peers_wanted = 6
            peer_seeder_probability = 0.5
        ";
        let loaded = load::<LoadTestConfig>(text).unwrap();
        let config = loaded.config;
        assert_eq!(loaded.warnings.len(), 8, "{:?}", loaded.warnings);
        assert_eq!(config.run.duration_seconds, 7);
        assert_eq!(config.network.socket_recv_buffer_size, 9);
        assert_eq!(config.requests.population.scrape_torrents, 8);
        assert_eq!(config.requests.population.num_want, 6);
        assert!((config.requests.population.seeder_probability - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_number_of_peers_wanted_has_two_old_names() {
        for former in ["announce_peers_wanted", "peers_wanted"] {
            let text = format!("requests.{former} = 6");
            let loaded = load::<LoadTestConfig>(&text).unwrap();
            assert_eq!(loaded.config.requests.population.num_want, 6);
            assert!(
                loaded.warnings[0].contains("`requests.num_want`"),
                "{former}"
            );
        }
    }

    #[test]
    fn each_number_is_checked() {
        for (text, key) in [
            ("duration_seconds = 0", "duration_seconds"),
            ("workers = 0", "workers"),
            ("server_address = \"127.0.0.1:0\"", "server_address"),
            (
                "network.sockets_per_worker = 0",
                "network.sockets_per_worker",
            ),
            (
                "network.in_flight_per_socket = 0",
                "network.in_flight_per_socket",
            ),
            (
                "requests.number_of_torrents = 0",
                "requests.number_of_torrents",
            ),
            ("requests.number_of_peers = 3", "requests.number_of_peers"),
            ("requests.scrape_torrents = 71", "requests.scrape_torrents"),
            ("requests.scrape_torrents = 0", "requests.scrape_torrents"),
            (
                "requests.seeder_probability = 1.5",
                "requests.seeder_probability",
            ),
            (
                "requests.torrent_popularity_exponent = -1.0",
                "requests.torrent_popularity_exponent",
            ),
            (
                "requests = { weight_connect = 0, weight_announce = 0, weight_scrape = 0 }",
                "requests.weight_announce",
            ),
            ("answers.late_after_ms = 4000", "lost_after_ms"),
            (
                "fill = { enabled = true, number_of_torrents = 0 }",
                "fill.number_of_torrents",
            ),
            (
                "fill = { enabled = true, number_of_torrents = 65536, peers_per_torrent = 65536 }",
                "fill.peers_per_torrent",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(&format!("`{key}`")), "{text}: {error}");
        }
    }

    #[test]
    fn client_addresses_must_reach_the_tracker() {
        let v6 = "server_address = \"[::1]:3000\"\n";
        assert!(
            refused(v6).contains("give addresses of IPv6, or none"),
            "{}",
            refused(v6)
        );
        accepted(&format!("{v6}network.client_ips = [\"::1\"]"));
        accepted(&format!("{v6}network.client_ips = []"));
        let remote = "server_address = \"192.0.2.1:3000\"\n";
        assert!(refused(remote).contains("loopback"), "{}", refused(remote));
        accepted(&format!("{remote}network.client_ips = [\"192.0.2.7\"]"));
    }

    #[test]
    fn a_swarm_to_fill_needs_addresses() {
        let fill = |addresses: u8, sockets: u8, peers: u32| {
            format!(
                "network = {{ client_ips = [\"127.0.0.1-127.0.0.{addresses}\"], \
                 sockets_per_worker = {sockets} }}\n\
                 fill = {{ enabled = true, number_of_torrents = 1, peers_per_torrent = {peers} }}"
            )
        };
        accepted(&fill(16, 16, 1_000_000));
        assert!(refused(&fill(4, 4, 1_000_000)).contains("must be at most 258048"));
        assert!(refused(&fill(4, 5, 1)).contains("must be at most 4 to fill"));
    }
}
