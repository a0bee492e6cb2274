//! What an operator can set: a section for each protocol, and those that hold for all.

use aquatic_cluster::config::{ClusterConfig, ListConfigs, Lives, PeerLives};
use aquatic_config::{
    AccessListConfig, Checks, KeysConfig, LogLevel, OldSpellings, PrivilegeConfig, section, values,
};
use aquatic_daemon::privileges;
use aquatic_http::config as http;
use aquatic_stream::ConnectionLimitsConfig;
use aquatic_tracker::config::{AddressLimitsConfig, MetricsConfig, PersistenceConfig};
use aquatic_tracker::torrents::export::ScrapeExportsConfig;
use aquatic_udp::config as udp;
use aquatic_ws::config as ws;

use crate::parts::Protocol;

section! {
    /// Configuration of `aquatic serve`: trackers over UDP, HTTP and WebSocket in one process.
    ///
    /// UDP and HTTP have one swarm: who announces over one of them is handed out over both.
    pub struct Config {
        /// How much is logged: off, error, warn, info, debug or trace.
        pub log_level: LogLevel = LogLevel::Info,
        /// Seconds without any sign of life after which a thread hangs: the program ends, with the
        /// name of the thread in the log, so that a service manager starts it anew. 0 = never.
        ///
        /// Neither waiting for a disk nor a machine that was suspended counts.
        pub hang_timeout: u64 = 60,
        pub udp: UdpConfig,
        pub http: HttpConfig,
        pub ws: WsConfig,
        pub limits: SharedLimitsConfig,
        pub metrics: MetricsConfig,
        pub scrape_exports: ScrapeExportsConfig,
        pub persistence: PersistenceConfig,
        pub cluster: ClusterConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
        pub keys: KeysConfig,
    }
}

section! {
    /// The tracker over UDP.
    pub struct UdpConfig {
        /// Serve clients over UDP.
        pub enabled: bool = false,
        /// Threads that receive requests and send answers. 0 = one per CPU.
        ///
        /// One serves some 200,000 requests per second and more before its CPU is busy.
        pub socket_workers: usize = 1,
        /// Threads that own the swarms of UDP and HTTP. 0 = the socket workers own them: those of
        /// UDP if that is enabled.
        ///
        /// With 0, the kernel hands each announce to the socket worker that owns the torrent, and
        /// almost nothing is passed between threads.
        pub swarm_workers: usize = 0,
        pub network: udp::NetworkConfig,
        pub protocol: udp::ProtocolConfig,
        pub cleaning: udp::CleaningConfig,
    }
}

section! {
    /// The tracker over HTTP and HTTPS.
    pub struct HttpConfig {
        /// Serve clients over HTTP.
        pub enabled: bool = false,
        /// Threads that hold connections. 0 = one per CPU.
        ///
        /// With `runtime` = auto or mio, and `swarm_workers` = 0, they share the threads of the
        /// socket workers of UDP, so that no request is passed between threads; if there are more
        /// of them, the rest has threads of its own.
        pub socket_workers: usize = 1,
        /// Threads that own the swarms of UDP and HTTP: see `udp.swarm_workers`. To be set here if
        /// UDP is not enabled.
        pub swarm_workers: usize = 0,
        pub network: http::NetworkConfig,
        pub protocol: http::ProtocolConfig,
        pub cleaning: http::CleaningConfig,
    }
}

section! {
    /// The tracker over WebSocket, for WebTorrent. It has swarms of its own: browsers cannot use
    /// the addresses of other clients.
    pub struct WsConfig {
        /// Serve clients over WebSocket.
        pub enabled: bool = false,
        /// Threads that hold connections. 0 = one per CPU.
        ///
        /// One sends some 200,000 messages per second over TLS before its CPU is busy, if each has
        /// 1 KiB.
        pub socket_workers: usize = 1,
        /// Threads that own the swarms of WebTorrent. 0 = the socket workers own them.
        pub swarm_workers: usize = 0,
        pub network: ws::NetworkConfig,
        pub protocol: ws::ProtocolConfig,
        pub cleaning: ws::CleaningConfig,
    }
}

section! {
    /// Bounds on what strangers can make the tracker hold or do. 0 means no limit.
    ///
    /// Requests and peers of an IP address are counted over all protocols together. `max_torrents`
    /// and `max_peers` hold for the swarms of IPv4, of IPv6 and of WebTorrent each, and
    /// `max_connections_per_ip` for HTTP and for WebSocket. If WebTorrent is served beside UDP or
    /// HTTP, its swarms may take half of `max_swarm_memory`, and the others the other half.
    pub struct SharedLimitsConfig {
        #[flatten]
        pub connections: ConnectionLimitsConfig,
        #[flatten]
        pub addresses: AddressLimitsConfig,
    }
}

impl Config {
    /// The sections about lists that can be kept in the servers of a cluster.
    #[must_use]
    pub fn lists(&self) -> ListConfigs<'_> {
        ListConfigs {
            access_list: &self.access_list,
            keys: &self.keys,
        }
    }

    /// What is shared with a cluster, and how long it lives.
    #[must_use]
    pub fn lives(&self) -> Lives {
        Lives {
            peers: self.peer_lives(),
            members: self.ws_part().map(|part| part.member_lives()),
        }
    }

    /// For how long peers are remembered at least, and how rarely they announce at most, over UDP
    /// or HTTP: what is shared with others has to suit both.
    #[must_use]
    pub fn peer_lives(&self) -> Option<PeerLives> {
        let udp = self.udp_part().map(|part| part.peer_lives());
        let http = self.http_part().map(|part| part.peer_lives());
        let lives = udp.into_iter().chain(http);
        lives.reduce(|all, lives| PeerLives {
            announce_interval: all.announce_interval.max(lives.announce_interval),
            peer_age: all.peer_age.min(lives.peer_age),
            peer_age_max: all.peer_age_max.max(lives.peer_age_max),
        })
    }
}

impl aquatic_config::Config for Config {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("statistics", "metrics");
        old.rename("udp.scrape_exports", "scrape_exports");
    }

    fn clamp(&mut self, checks: &mut Checks) {
        if let Some(mut part) = self.udp_part() {
            checks.of_part(Protocol::Udp.names(), |checks| part.clamp(checks));
            self.take_udp(part);
        }
        if let Some(mut part) = self.http_part() {
            checks.of_part(Protocol::Http.names(), |checks| part.clamp(checks));
            self.take_http(part);
        }
        if let Some(mut part) = self.ws_part() {
            checks.of_part(Protocol::Ws.names(), |checks| part.clamp(checks));
            self.take_ws(part);
        }
    }

    fn check(&self, checks: &mut Checks) {
        checks.require(
            self.udp.enabled || self.http.enabled || self.ws.enabled,
            "udp.enabled",
            "no protocol is enabled: set `udp.enabled`, `http.enabled` or `ws.enabled` to true",
        );
        for protocol in Protocol::ALL {
            if let Some(part) = self.part(protocol) {
                checks.of_part(protocol.names(), |checks| part.check(checks));
            }
        }
        self.check_swarms(checks);
        self.check_addresses(checks);
    }

    fn inspect(&self, checks: &mut Checks) {
        let was_root = privileges::is_root();
        self.metrics.inspect("metrics", checks);
        self.cluster.inspect(checks);
        let mut config = self.clone();
        for protocol in Protocol::ALL {
            if let Some(part) = config.part(protocol) {
                checks.of_part(protocol.names(), |checks| part.inspect(self, checks));
            }
            // The first one gives up the rights of root, and the others find it done.
            if was_root && !privileges::is_root() {
                config.privileges.drop_privileges = false;
            }
        }
    }

    fn keys_bound_to_start(&self, new: &Self) -> Vec<String> {
        let new = &self.with_its_protocols(new);
        let mut bound = Vec::new();
        if let (Some(own), Some(new)) = (self.udp_part(), new.udp_part()) {
            let keys = own.keys_bound_to_start(&new).into_iter();
            bound.extend(keys.map(|key| Protocol::Udp.names()(&key)));
        }
        if let (Some(own), Some(new)) = (self.ws_part(), new.ws_part()) {
            let keys = own.keys_bound_to_start(&new).into_iter();
            bound.extend(keys.map(|key| Protocol::Ws.names()(&key)));
        }
        // Nobody is there who could go by them.
        for (is_enabled, section) in [
            (self.udp.enabled, "udp."),
            (self.http.enabled, "http."),
            (self.ws.enabled, "ws."),
        ] {
            let keys = values(new).into_iter().map(|(key, _)| key);
            bound.extend(keys.filter(|key| !is_enabled && key.starts_with(section)));
        }
        bound
    }

    fn keys_bound_at_present(&self, new: &Self) -> Vec<String> {
        let new = &self.with_its_protocols(new);
        match (self.ws_part(), new.ws_part()) {
            (Some(own), Some(new)) => {
                let keys = own.keys_bound_at_present(&new).into_iter();
                keys.map(|key| Protocol::Ws.names()(&key)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

impl Config {
    /// What is new, with the protocols that run: which ones do is decided at a start, and until
    /// then they go by whatever their sections say.
    fn with_its_protocols(&self, new: &Self) -> Self {
        let mut new = new.clone();
        new.udp.enabled = self.udp.enabled;
        new.http.enabled = self.http.enabled;
        new.ws.enabled = self.ws.enabled;
        new
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::{Config as _, reloading, values};

    use super::*;

    /// A protocol that the new file disables runs until the next start, with what is bound to it.
    #[test]
    fn a_protocol_that_will_end_keeps_what_is_bound_to_its_start() {
        let mut old = Config::default();
        old.udp.enabled = true;
        old.http.enabled = true;
        old.ws.enabled = true;
        let mut new = old.clone();
        new.udp.protocol.max_scrape_torrents = 116;
        new.ws.cleaning.max_peer_age = 1;
        let bound = |new: &Config| (old.keys_bound_to_start(new), old.keys_bound_at_present(new));
        let expected = bound(&new);
        assert_eq!(expected.0, ["udp.protocol.max_scrape_torrents"]);
        assert_eq!(expected.1, ["ws.cleaning.max_peer_age"]);
        new.udp.enabled = false;
        new.ws.enabled = false;
        assert_eq!(bound(&new), expected);
    }

    #[test]
    fn each_key_says_what_a_reload_does() {
        for (key, _) in values(&Config::default()) {
            assert!(reloading::of(&key).is_some(), "{key}");
        }
    }
}
