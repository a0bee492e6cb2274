//! What the operator may choose.

use aquatic_config::{Checks, Config, LogLevel, OldSpellings, section};

use crate::core::config::{AnswersConfig, PopulationConfig, RunConfig, require_within};
use crate::stream::config::{ConnectConfig, IdleConfig, WeightsConfig, check_head};

section! {
    /// aquatic_http_load_test configuration
    ///
    /// Without a change, this keeps a tracker on this machine as busy as it can be for half a
    /// minute, over connections that stay open. Give the tester a processor core of its own
    /// (taskset).
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
    /// Connections.
    pub struct NetworkConfig {
        /// Connections, all workers together. Each speaks for some of the peers.
        pub connections: usize = 128,
        /// Keep connections open. Otherwise, each request gets a connection of its own, and
        /// `connections` is how many there are at a time, at most.
        pub keep_alive: bool = true,
        /// Requests of each connection that may wait for their answers.
        pub pipelining_depth: usize = 1,
        #[flatten]
        pub connect: ConnectConfig,
    }
}

section! {
    /// Who sends what.
    ///
    /// Each peer belongs to one torrent. The requests name peers at random.
    pub struct RequestsConfig {
        #[flatten]
        pub population: PopulationConfig,
        #[flatten]
        pub weights: WeightsConfig,
        /// The path of the announce URL. That of scrapes follows from it.
        pub path: String = "/announce".to_owned(),
        /// Further header lines of each request, as clients send them.
        pub headers: Vec<String> = vec![
            "User-Agent: aquatic_http_load_test".to_owned(),
            "Accept-Encoding: gzip".to_owned(),
        ],
    }
}

impl Config for LoadTestConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("requests.peers_wanted", "requests.num_want");
    }

    fn check(&self, checks: &mut Checks) {
        let connections = self.network.connections;
        self.run.check(checks);
        self.requests.population.check(connections, checks);
        self.answers.check(checks);
        self.network.check(&self.run, checks);
        self.requests.check(checks);
        checks.require(
            !self.idle.enabled || self.network.keep_alive,
            "idle.enabled",
            "needs `network.keep_alive`",
        );
    }

    fn log_level(&self) -> LogLevel {
        self.run.log_level
    }
}

impl NetworkConfig {
    fn check(&self, run: &RunConfig, checks: &mut Checks) {
        let depth = self.pipelining_depth;
        require_within(checks, "network.pipelining_depth", depth, 1..=1024);
        checks.require(
            self.keep_alive || depth == 1,
            "network.pipelining_depth",
            "must be 1 unless `network.keep_alive` is set",
        );
        self.connect.check(self.connections, run, checks);
    }
}

impl RequestsConfig {
    fn check(&self, checks: &mut Checks) {
        self.weights.check(checks);
        checks.require(
            self.population.scrape_torrents <= 100,
            "requests.scrape_torrents",
            "must be at most 100: trackers leave out more",
        );
        checks.require(
            self.path.contains("announce") || self.weights.weight_scrape == 0,
            "requests.path",
            "must contain \"announce\", or scrapes have no path: set `requests.weight_scrape` to 0",
        );
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
    fn the_number_of_peers_wanted_has_an_old_name() {
        let loaded = load::<LoadTestConfig>("requests.peers_wanted = 6").unwrap();
        assert_eq!(loaded.config.requests.population.num_want, 6);
        assert!(loaded.warnings[0].contains("`requests.num_want`"));
    }

    #[test]
    fn each_number_is_checked() {
        for (text, key) in [
            ("workers = 0", "workers"),
            ("duration_seconds = 0", "duration_seconds"),
            ("server_address = \"127.0.0.1:0\"", "server_address"),
            ("network.connections = 0", "network.connections"),
            (
                "workers = 3\nnetwork.connections = 2",
                "network.connections",
            ),
            ("network.pipelining_depth = 0", "network.pipelining_depth"),
            (
                "network = { pipelining_depth = 2, keep_alive = false }",
                "network.pipelining_depth",
            ),
            (
                "network.tls_server_name = \"a b\"",
                "network.tls_server_name",
            ),
            ("network.client_ips = [\"::1\"]", "network.client_ips"),
            ("requests.number_of_peers = 127", "requests.number_of_peers"),
            ("requests.scrape_torrents = 101", "requests.scrape_torrents"),
            (
                "requests = { weight_announce = 0, weight_scrape = 0 }",
                "requests.weight_announce",
            ),
            ("requests.path = \"announce\"", "requests.path"),
            ("requests.path = \"/a nnounce\"", "requests.path"),
            ("requests.path = \"/\"", "requests.path"),
            ("requests.headers = [\"nonsense\"]", "requests.headers"),
            (
                "idle.enabled = true\nnetwork.keep_alive = false",
                "idle.enabled",
            ),
            ("answers.late_after_ms = 4000", "lost_after_ms"),
        ] {
            let error = load::<LoadTestConfig>(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{text}: {error}");
        }
        load::<LoadTestConfig>("requests = { path = \"/\", weight_scrape = 0 }").unwrap();
    }
}
