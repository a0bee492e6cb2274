//! What the configuration is in the words of each protocol's crate: the whole of a program that
//! serves nothing else.

use aquatic_config::{Checks, Config as _, LimitsConfig, MemoryLimit};
use aquatic_http::config as http;
use aquatic_stream::{ConnectionLimitsConfig, Runtime};
use aquatic_stream_tracker::{CommonConfig, overlap};
use aquatic_tracker::config::MetricsConfig;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::shard::addresses::AddressShardConfig;
use aquatic_udp::config as udp;
use aquatic_ws::config as ws;

use crate::config::Config;

/// Sections that stand once, for all protocols.
const SHARED_SECTIONS: [&str; 8] = [
    "limits",
    "metrics",
    "scrape_exports",
    "persistence",
    "cluster",
    "privileges",
    "access_list",
    "keys",
];

/// Keys that do.
const SHARED_KEYS: [&str; 2] = ["log_level", "hang_timeout"];

/// What is added to the names of files that are about WebTorrent, and that others have, too.
const OF_WEBTORRENT: &str = ".webtorrent";

/// Files that a socket worker of UDP has open: its sockets, a ring or a poll, and a waker.
const FILES_PER_UDP_WORKER: usize = 16;

/// A protocol, as its section is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Http,
    Ws,
}

impl Protocol {
    /// In the order in which they are looked at: what UDP reads as root comes first.
    pub(crate) const ALL: [Self; 3] = [Self::Udp, Self::Http, Self::Ws];

    fn section(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Ws => "ws",
        }
    }

    /// From a key of the protocol's own program to the one that stands in this file.
    pub(crate) fn names(self) -> impl Fn(&str) -> String {
        move |key| {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            if section == "statistics" {
                return format!("metrics.{name}");
            }
            match SHARED_SECTIONS.contains(&section) || SHARED_KEYS.contains(&key) {
                true => key.to_owned(),
                false => format!("{}.{key}", self.section()),
            }
        }
    }
}

/// The configuration of one protocol, to be looked at.
pub(crate) enum Part {
    Udp(udp::Config),
    Http(http::Config),
    Ws(ws::Config),
}

impl Part {
    pub(crate) fn check(&self, checks: &mut Checks) {
        match self {
            Self::Udp(part) => part.check(checks),
            Self::Http(part) => part.check(checks),
            Self::Ws(part) => part.check(checks),
        }
    }

    /// `process` is what it runs in, and looks at its endpoint itself.
    pub(crate) fn inspect(&self, process: &Config, checks: &mut Checks) {
        match self {
            Self::Udp(part) => part.inspect_own(checks),
            Self::Http(part) => process.in_this_process(part.common()).inspect_own(checks),
            Self::Ws(part) => process.in_this_process(part.common()).inspect_own(checks),
        }
    }
}

impl Config {
    /// What a protocol's own program would be given, if the protocol is enabled.
    pub(crate) fn part(&self, protocol: Protocol) -> Option<Part> {
        match protocol {
            Protocol::Udp => self.udp_part().map(Part::Udp),
            Protocol::Http => self.http_part().map(Part::Http),
            Protocol::Ws => self.ws_part().map(Part::Ws),
        }
    }

    /// What `aquatic_udp` would be given, if UDP is enabled.
    pub(crate) fn udp_part(&self) -> Option<udp::Config> {
        let own = self.udp.enabled.then_some(&self.udp)?;
        Some(udp::Config {
            socket_workers: own.socket_workers,
            swarm_workers: self.swarm_workers(),
            log_level: self.log_level,
            hang_timeout: self.hang_timeout,
            network: own.network.clone(),
            protocol: own.protocol.clone(),
            limits: udp::UdpLimitsConfig {
                tracker: self.limits_of_swarms(),
                addresses: self.limits.addresses.clone(),
            },
            statistics: udp::StatisticsConfig {
                metrics: self.metrics.clone(),
            },
            cleaning: own.cleaning.clone(),
            scrape_exports: self.scrape_exports.clone(),
            persistence: self.persistence.clone(),
            cluster: self.cluster.clone(),
            privileges: self.privileges.clone(),
            access_list: self.access_list.clone(),
            keys: self.keys.clone(),
        })
    }

    /// What `aquatic_http` would be given, if HTTP is enabled.
    pub(crate) fn http_part(&self) -> Option<http::Config> {
        let own = self.http.enabled.then_some(&self.http)?;
        Some(http::Config {
            socket_workers: own.socket_workers,
            swarm_workers: self.swarm_workers(),
            log_level: self.log_level,
            hang_timeout: self.hang_timeout,
            network: own.network.clone(),
            protocol: own.protocol.clone(),
            limits: http::HttpLimitsConfig {
                connections: self.limits_over_tcp(),
                addresses: self.limits.addresses.clone(),
            },
            metrics: self.metrics.clone(),
            cleaning: own.cleaning.clone(),
            scrape_exports: self.scrape_exports.clone(),
            persistence: self.persistence.clone(),
            cluster: self.cluster.clone(),
            privileges: self.privileges.clone(),
            access_list: self.access_list.clone(),
            keys: self.keys.clone(),
        })
    }

    /// What `aquatic_ws` would be given, if WebTorrent is enabled.
    pub(crate) fn ws_part(&self) -> Option<ws::Config> {
        let own = self.ws.enabled.then_some(&self.ws)?;
        let mut persistence = self.persistence.counts.clone();
        // Whoever wants to keep swarms wants to keep this, too: they cannot be kept.
        persistence.completed_counts |= self.persistence.swarms;
        // Always, so that the file is the same whatever else is enabled.
        persistence.path.as_mut_os_string().push(OF_WEBTORRENT);
        let mut scrape_exports = self.scrape_exports.clone();
        if scrape_exports.enable_scrape_exports {
            scrape_exports.path.as_mut_os_string().push(OF_WEBTORRENT);
        }
        Some(ws::Config {
            socket_workers: own.socket_workers,
            swarm_workers: own.swarm_workers,
            log_level: self.log_level,
            hang_timeout: self.hang_timeout,
            network: own.network.clone(),
            protocol: own.protocol.clone(),
            limits: ws::LimitsConfig {
                connections: self.limits_over_tcp(),
                addresses: self.limits.addresses.clone(),
            },
            metrics: self.metrics.clone(),
            cleaning: own.cleaning.clone(),
            scrape_exports,
            persistence,
            cluster: self.cluster.clone(),
            privileges: self.privileges.clone(),
            access_list: self.access_list.clone(),
            keys: self.keys.clone(),
        })
    }

    /// `[limits]` for one protocol over TCP.
    fn limits_over_tcp(&self) -> ConnectionLimitsConfig {
        ConnectionLimitsConfig {
            tracker: self.limits_of_swarms(),
            ..self.limits.connections.clone()
        }
    }

    /// Threads that talk to clients, and threads that own swarms and do nothing else. Guests are no
    /// threads.
    pub(crate) fn threads(&self) -> (usize, usize) {
        let of = |is_enabled: bool, socket_workers| {
            let topology = Topology::from_config(socket_workers, 0);
            usize::from(is_enabled) * topology.socket_workers()
        };
        let udp = of(self.udp.enabled, self.udp.socket_workers);
        let http = of(self.http.enabled, self.http.socket_workers);
        let can_be_guests = self.http.network.stream.runtime != Runtime::Glommio;
        let of_addresses = match self.swarm_workers() {
            0 if can_be_guests => udp.max(http),
            _ => udp + http,
        };
        let of_web_torrent = of(self.ws.enabled, self.ws.socket_workers);
        let ws_swarm_workers = usize::from(self.ws.enabled) * self.ws.swarm_workers;
        (
            of_addresses + of_web_torrent,
            self.swarm_workers() + ws_swarm_workers,
        )
    }

    /// A front end over TCP has to share the open files with others.
    pub(crate) fn in_this_process<'a>(&self, mut common: CommonConfig<'a>) -> CommonConfig<'a> {
        let udp = self.udp.enabled.then(|| self.address_topology()).flatten();
        let udp_workers = udp.map_or(0, Topology::socket_workers);
        common.more_files = udp_workers * FILES_PER_UDP_WORKER;
        common.is_one_of_several = true;
        common.stream_front_ends = usize::from(self.http.enabled) + usize::from(self.ws.enabled);
        common
    }

    /// Takes back what has been made to fit.
    pub(crate) fn take_udp(&mut self, part: udp::Config) {
        self.take_metrics(part.statistics.metrics);
        self.take_limits(part.limits.tracker);
        self.hang_timeout = part.hang_timeout;
        let own = &mut self.udp;
        own.socket_workers = part.socket_workers;
        // The part has the larger number of both sections.
        own.swarm_workers = own.swarm_workers.min(part.swarm_workers);
        own.network = part.network;
        own.protocol = part.protocol;
        own.cleaning = part.cleaning;
    }

    /// The same.
    pub(crate) fn take_http(&mut self, part: http::Config) {
        self.take_metrics(part.metrics);
        self.take_limits(part.limits.connections.tracker);
        self.hang_timeout = part.hang_timeout;
        let own = &mut self.http;
        own.socket_workers = part.socket_workers;
        own.swarm_workers = own.swarm_workers.min(part.swarm_workers);
        own.network = part.network;
        own.protocol = part.protocol;
        own.cleaning = part.cleaning;
    }

    /// The same.
    pub(crate) fn take_ws(&mut self, part: ws::Config) {
        self.take_metrics(part.metrics);
        self.take_limits(part.limits.connections.tracker);
        self.hang_timeout = part.hang_timeout;
        let own = &mut self.ws;
        own.socket_workers = part.socket_workers;
        own.swarm_workers = part.swarm_workers;
        own.network = part.network;
        own.protocol = part.protocol;
        own.cleaning = part.cleaning;
    }

    fn take_metrics(&mut self, metrics: MetricsConfig) {
        self.metrics = metrics;
    }

    /// All but the memory, of which the part may have been given a half.
    fn take_limits(&mut self, limits: LimitsConfig) {
        let memory = self.limits.connections.tracker.max_swarm_memory;
        self.limits.connections.tracker = limits;
        self.limits.connections.tracker.max_swarm_memory = memory;
    }

    /// Whether there are swarms of peers that have addresses.
    pub(crate) fn has_address_swarms(&self) -> bool {
        self.udp.enabled || self.http.enabled
    }

    /// Threads that own the swarms of UDP and HTTP, and do nothing else.
    fn swarm_workers(&self) -> usize {
        let udp = self.udp.enabled.then_some(self.udp.swarm_workers);
        let http = self.http.enabled.then_some(self.http.swarm_workers);
        udp.unwrap_or(0).max(http.unwrap_or(0))
    }

    /// `[limits]`, as far as it is about swarms, for one kind of them.
    fn limits_of_swarms(&self) -> LimitsConfig {
        let mut limits = self.limits.connections.tracker.clone();
        if let MemoryLimit::Bytes(bytes) = limits.max_swarm_memory
            && self.ws.enabled
            && self.has_address_swarms()
        {
            limits.max_swarm_memory = MemoryLimit::Bytes(bytes / 2);
        }
        limits
    }

    /// Who owns the swarms of UDP and HTTP, if there are any.
    pub(crate) fn address_topology(&self) -> Option<Topology> {
        let socket_workers = match (self.udp.enabled, self.http.enabled) {
            (true, _) => self.udp.socket_workers,
            (false, true) => self.http.socket_workers,
            (false, false) => return None,
        };
        Some(Topology::from_config(socket_workers, self.swarm_workers()))
    }

    /// What the shards of UDP and HTTP are made by. `limits` is what [`Self::udp_part`] and
    /// [`Self::http_part`] have.
    pub(crate) fn address_shards<'a>(&'a self, limits: &'a LimitsConfig) -> AddressShardConfig<'a> {
        let (udp, http) = (&self.udp, &self.http);
        let of_udp = udp.enabled.then_some(&udp.cleaning);
        let of_http = http.enabled.then_some(&http.cleaning);
        let of_both = |of_udp: Option<u32>, of_http: Option<u32>| of_udp.into_iter().chain(of_http);
        let ages = of_both(
            of_udp.map(|it| it.max_peer_age),
            of_http.map(|it| it.max_peer_age),
        );
        let intervals = of_both(
            of_udp.map(|it| it.torrent_cleaning_interval),
            of_http.map(|it| it.torrent_cleaning_interval),
        );
        AddressShardConfig {
            limits,
            addresses: &self.limits.addresses,
            metrics: &self.metrics,
            response_peers_per_ip_max: match udp.enabled {
                true => udp.protocol.max_response_peers_per_ip,
                false => http.protocol.max_response_peers_per_ip,
            },
            // Each protocol lets its peers live as long as its own section says.
            peer_age_seconds_max: ages.max().unwrap_or(0),
            cleaning_interval_seconds: intervals.min().unwrap_or(1),
        }
    }

    /// The limits of the swarms of UDP and HTTP.
    pub(crate) fn address_limits(&self) -> LimitsConfig {
        self.limits_of_swarms()
    }

    /// Checks that both protocols want the same of the swarms that they share.
    pub(crate) fn check_swarms(&self, checks: &mut Checks) {
        let (udp, http) = (&self.udp, &self.http);
        if !(udp.enabled && http.enabled) {
            return;
        }
        checks.require(
            udp.swarm_workers == http.swarm_workers
                || udp.swarm_workers == 0
                || http.swarm_workers == 0,
            "http.swarm_workers",
            "must be the same as `udp.swarm_workers`, or 0: the swarms of UDP and HTTP are one",
        );
        checks.require(
            udp.protocol.max_response_peers_per_ip == http.protocol.max_response_peers_per_ip,
            "http.protocol.max_response_peers_per_ip",
            "must be the same as `udp.protocol.max_response_peers_per_ip`: the swarms of UDP and \
             HTTP are one",
        );
    }

    /// Checks that nobody listens where another one does.
    pub(crate) fn check_addresses(&self, checks: &mut Checks) {
        let (http, ws) = (&self.http, &self.ws);
        if !(http.enabled && ws.enabled) {
            return;
        }
        let taken = http.network.stream.address.iter();
        for one in taken {
            let mut others = ws.network.stream.address.iter();
            if let Some(other) = others.find(|other| overlap(one, *other)) {
                checks.require(
                    false,
                    "ws.network.address",
                    format!("{other} is taken by `http.network.address`: choose another port"),
                );
                return;
            }
        }
    }
}
