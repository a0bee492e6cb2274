//! What the operator may choose.

use aquatic_config::{Checks, Config, LogLevel, section};

use crate::core::config::{AnswersConfig, PopulationConfig, RunConfig, require_within};
use crate::stream::config::{ConnectConfig, IdleConfig, WeightsConfig, check_head};

section! {
    /// aquatic_ws_load_test configuration
    ///
    /// Without a change, this keeps a tracker on this machine as busy as it can be for half a
    /// minute. Give the tester a processor core of its own (taskset).
    pub struct LoadTestConfig {
        #[flatten]
        pub run: RunConfig,
        pub network: NetworkConfig,
        pub requests: RequestsConfig,
        pub answers: AnswersConfig,
        pub idle: IdleConfig,
    }
}

section! {
    /// Connections. Each is a browser, and has one announce or scrape that waits for its reply.
    pub struct NetworkConfig {
        /// Connections, all workers together.
        pub connections: usize = 1_000,
        #[flatten]
        pub connect: ConnectConfig,
    }
}

section! {
    /// What browsers send, besides an answer to each offer that reaches them.
    pub struct RequestsConfig {
        /// Torrents.
        pub number_of_torrents: u32 = 1_000,
        /// How unequally browsers are spread over torrents (Zipf's law): the torrent of rank k gets
        /// a number of them in proportion to 1 / k^exponent. 0: all torrents are equally popular.
        pub torrent_popularity_exponent: f64 = 1.0,
        /// Torrents that each browser takes part in, less those that were drawn twice. Each
        /// announce is for one of them.
        pub torrents_per_connection: u32 = 10,
        /// Probability that a browser is a seeder of a torrent.
        pub seeder_probability: f64 = 0.25,
        /// Offers in each announce. It asks for as many peers.
        pub offers_per_announce: u8 = 10,
        /// Size of the session description in each offer and each answer, in bytes.
        pub session_description_bytes: usize = 1_000,
        /// Torrents that a scrape asks about.
        pub scrape_torrents: u8 = 10,
        #[flatten]
        pub weights: WeightsConfig,
        /// The path of the tracker's URL.
        pub path: String = "/".to_owned(),
        /// Further header lines of the request that becomes a WebSocket, as browsers send them.
        pub headers: Vec<String> = vec![
            "Origin: https://webtorrent.example".to_owned(),
            "User-Agent: aquatic_ws_load_test".to_owned(),
        ],
    }
}

impl Config for LoadTestConfig {
    fn check(&self, checks: &mut Checks) {
        let network = &self.network;
        self.run.check(checks);
        self.answers.check(checks);
        network
            .connect
            .check(network.connections, &self.run, checks);
        self.requests.check(checks);
    }

    fn log_level(&self) -> LogLevel {
        self.run.log_level
    }
}

impl RequestsConfig {
    /// Who takes part in what: the peers are all memberships of these many connections.
    #[must_use]
    pub fn population(&self, connections: usize) -> PopulationConfig {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        PopulationConfig {
            number_of_torrents: self.number_of_torrents,
            number_of_peers: connections.saturating_mul(self.torrents_per_connection),
            torrent_popularity_exponent: self.torrent_popularity_exponent,
            seeder_probability: self.seeder_probability,
            num_want: self.offers_per_announce.into(),
            scrape_torrents: self.scrape_torrents,
        }
    }

    fn check(&self, checks: &mut Checks) {
        // The number of peers is in order if there is one per connection.
        self.population(1).check(0, checks);
        let key = "requests.torrents_per_connection";
        require_within(checks, key, self.torrents_per_connection, 1..=10_000);
        checks.require(
            self.session_description_bytes <= 16_384,
            "requests.session_description_bytes",
            "must be at most 16384: no browser's is larger",
        );
        self.weights.check(checks);
        check_head(&self.path, &self.headers, checks);
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::{load, to_documented_toml};

    use super::*;

    #[test]
    fn the_printed_default_loads_to_the_default() {
        let text = to_documented_toml(&LoadTestConfig::default());
        let loaded = load::<LoadTestConfig>(&text).unwrap().config;
        assert_eq!(loaded, LoadTestConfig::default());
    }

    #[test]
    fn each_number_is_checked() {
        for (text, key) in [
            ("workers = 0", "workers"),
            ("network.connections = 0", "network.connections"),
            (
                "network.tls_server_name = \"a b\"",
                "network.tls_server_name",
            ),
            ("network.client_ips = [\"::1\"]", "network.client_ips"),
            (
                "requests.number_of_torrents = 0",
                "requests.number_of_torrents",
            ),
            (
                "requests.torrents_per_connection = 0",
                "requests.torrents_per_connection",
            ),
            (
                "requests.seeder_probability = 1.5",
                "requests.seeder_probability",
            ),
            (
                "requests.session_description_bytes = 16385",
                "requests.session_description_bytes",
            ),
            (
                "requests = { weight_announce = 0, weight_scrape = 0 }",
                "requests.weight_announce",
            ),
            ("requests.path = \"announce\"", "requests.path"),
            ("requests.headers = [\"nonsense\"]", "requests.headers"),
            ("answers.late_after_ms = 4000", "lost_after_ms"),
        ] {
            let error = load::<LoadTestConfig>(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{text}: {error}");
        }
    }
}
