//! What an operator can set for any tracker, besides [`aquatic_config`]'s own sections.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aquatic_config::{
    AccessListConfig, AccessListMode, Checks, KeyMode, KeysConfig, OldSpellings, PrivilegeConfig,
    section,
};
use aquatic_daemon::endpoint::{Token, UnixSocket};
use aquatic_daemon::health_check::Probe;
use aquatic_daemon::metrics_endpoint::{EndpointSettings, MetricsEndpoint};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_swarm::{PEER_AGE_MAX_SECONDS, PEERS_PER_NETWORK_MAX};
use aquatic_swarm_log::Contents;

use crate::persistence::file;

/// Workers of one kind. A guard against typing errors, not a recommendation.
const WORKERS_MAX: usize = 1_024;

/// The longest pause between two cleanings: half of what a swarm can remember, so that the other
/// half is left for the age of peers.
const CLEANING_INTERVAL_MAX_SECONDS: u32 = PEER_AGE_MAX_SECONDS / 2;

section! {
    /// What is known about the tracker from outside. Costs next to nothing unless noted.
    pub struct MetricsConfig {
        /// Seconds between two updates.
        pub interval: u64 = 5,
        /// Count how many peers torrents have (minimum, mean, percentiles, maximum). Updated after
        /// each cleaning, which takes longer by it.
        pub torrent_peer_histograms: bool = false,
        /// Count peers by client software. Takes 2 bytes more per peer.
        pub peer_clients: bool = false,
        /// Serve metrics to Prometheus.
        pub run_prometheus_endpoint: bool = false,
        /// Where to serve them, at `/metrics`: keep it away from the public. At most 16 connections
        /// are held, and those that ask for nothing make room for others.
        pub prometheus_endpoint_address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9_000)),
        /// Serve the same at a Unix socket with this path, for the user and group of the program;
        /// with or without `run_prometheus_endpoint`. Empty: no socket.
        pub endpoint_unix_socket: PathBuf = PathBuf::new(),
        /// File with the operator's token: at least 16 characters in one line, readable by its
        /// owner only (`chmod 600`). Clients show it by `Authorization: Bearer TOKEN`.
        ///
        /// Empty: the endpoint changes nothing and names no peers, whoever asks. The file is read
        /// before privileges are dropped, and again at a reload.
        pub endpoint_token_file: PathBuf = PathBuf::new(),
        /// Names by which the endpoint may be asked, besides IP addresses and `localhost`: those
        /// that a proxy, a container network or Prometheus uses, without ports. Requests for other
        /// names are refused, since a page of somebody else may have sent them.
        pub endpoint_allowed_hosts: Vec<String> = Vec::new(),
        /// Serve the number of peers for each peer id prefix (needs `peer_clients`).
        ///
        /// There can be tens of thousands of different ones, since anyone can invent some.
        pub prometheus_peer_id_prefixes: bool = false,
        #[flatten]
        pub tables: TablesConfig,
    }
}

section! {
    /// Requests, swarms and clients as tables, for people.
    pub struct TablesConfig {
        /// Print tables of requests, swarms and clients to standard output.
        pub print_to_stdout: bool = false,
        /// Write them as an HTML page.
        pub write_html_to_file: bool = false,
        /// Where to write the HTML page.
        ///
        /// Its folder is created if it is missing. With `privileges.drop_privileges`, this is
        /// relative to the new root.
        pub html_file_path: PathBuf = PathBuf::from("tmp/statistics.html"),
    }
}

impl TablesConfig {
    /// Whether tables are shown anywhere.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.print_to_stdout || self.write_html_to_file
    }

    /// The file, if one is written, after the `key` that names it.
    #[must_use]
    pub fn output(&self, key: &'static str) -> Option<(&'static str, &Path)> {
        self.write_html_to_file
            .then_some((key, &*self.html_file_path))
    }

    /// Warns of a path that is not used. `section` is what the table of the keys is called.
    fn advise(&self, section: &str, checks: &mut Checks) {
        let is_default = self.html_file_path == Self::default().html_file_path;
        checks.advise(
            self.write_html_to_file || is_default,
            format!("{section}.html_file_path"),
            format!("is not used, because `{section}.write_html_to_file` is false"),
        );
    }
}

section! {
    /// What outlives the program. It is written to a file at the end and from time to time, and
    /// read at the start; writing delays no answer.
    pub struct CountsPersistenceConfig {
        /// Write down how many downloads of each torrent were completed: 24 bytes per torrent. Only
        /// torrents that have peers are remembered.
        pub completed_counts: bool = false,
        /// The file. One that cannot be used is renamed, and the reason is logged.
        pub path: PathBuf = PathBuf::from("./swarms.aqs"),
        /// Seconds between two times when it is written: what is lost at most if the machine fails.
        /// 0 = only when the program is told to stop.
        pub interval: u64 = 300,
    }
}

section! {
    /// What outlives the program. It is written to a file at the end and from time to time, and
    /// read at the start; writing delays no answer.
    pub struct PersistenceConfig {
        /// Write down who is in which swarm, and how many downloads were completed: 29 bytes per
        /// IPv4 peer, 41 per IPv6 peer, 24 per torrent.
        ///
        /// After a restart clients find each other at once, instead of when all have announced
        /// again. The file holds addresses of people; only the user of the program can read it.
        pub swarms: bool = false,
        #[flatten]
        pub counts: CountsPersistenceConfig,
    }
}

impl CountsPersistenceConfig {
    /// What is written where, if anything: counts are `contents`.
    #[must_use]
    pub fn plan(&self, contents: Contents) -> Option<SnapshotPlan<'_>> {
        self.completed_counts.then(|| self.plan_of(contents))
    }

    fn plan_of(&self, contents: Contents) -> SnapshotPlan<'_> {
        SnapshotPlan {
            contents,
            path: &self.path,
            interval: Duration::from_secs(self.interval),
        }
    }
}

impl PersistenceConfig {
    /// What is written where, if anything.
    #[must_use]
    pub fn plan(&self) -> Option<SnapshotPlan<'_>> {
        let swarms = self.swarms.then_some(Contents::Swarms);
        let swarms = swarms.map(|contents| self.counts.plan_of(contents));
        swarms.or_else(|| self.counts.plan(Contents::Completed))
    }
}

/// What is written down, where and when.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPlan<'a> {
    /// What.
    pub contents: Contents,
    /// Where.
    pub path: &'a Path,
    /// How often, besides at the end; zero: not at all.
    pub interval: Duration,
}

impl<'a> SnapshotPlan<'a> {
    /// The key that names the file, and the file.
    #[must_use]
    pub fn output(self) -> (&'static str, &'a Path) {
        ("persistence.path", self.path)
    }

    /// Checks what the plan was made of. `others` are files that have another purpose, by the keys
    /// that name them: whatever is there would be set aside, and replaced.
    pub fn check(self, others: &[NamedFile<'_>], checks: &mut Checks) {
        let (key, path) = self.output();
        let has_name = !path.as_os_str().is_empty();
        checks.require(has_name, key, "must name a file");
        check_purposes(&[(key, path)], others, checks);
    }

    /// Looks at the file.
    pub fn inspect(self, checks: &mut Checks) {
        let (key, path) = self.output();
        checks.require_ok(file::check(path), key);
    }
}

/// A file, after the key that names it. The path may be empty.
pub type NamedFile<'a> = (&'a str, &'a Path);

/// Refuses a file that is `written` by the tracker and has another purpose, too: whatever is there
/// for that would be lost.
pub fn check_purposes(written: &[NamedFile<'_>], others: &[NamedFile<'_>], checks: &mut Checks) {
    // `./a` is the same as `a`.
    let normal = |path: &Path| std::path::absolute(path).ok();
    for (index, (key, path)) in written.iter().enumerate() {
        let before = written.iter().take(index);
        for (other_key, other) in others.iter().chain(before) {
            let path = normal(path);
            checks.require(
                path.is_none() || path != normal(other),
                *key,
                format!("is also `{other_key}`: choose another file"),
            );
        }
    }
}

/// The lists that are read, as far as they are.
#[must_use]
pub fn lists_in_use<'a>(
    access_list: &'a AccessListConfig,
    keys: &'a KeysConfig,
) -> Vec<NamedFile<'a>> {
    let lists = [
        (
            access_list.mode != AccessListMode::Off,
            "access_list.path",
            &access_list.path,
        ),
        (
            true,
            "access_list.networks_deny_path",
            &access_list.networks_deny_path,
        ),
        (keys.mode != KeyMode::Off, "keys.path", &keys.path),
    ];
    let used = lists.into_iter().filter(|(is_used, ..)| *is_used);
    used.map(|(_, key, path)| (key, path.as_path())).collect()
}

section! {
    /// What strangers may have of one swarm. 0 means no limit.
    pub struct AddressLimitsConfig {
        /// Peers held at once in one torrent from one IP address (IPv6: from one /64 network), at
        /// most 1000.
        ///
        /// At the limit a further client of that address is answered (and its offers are passed
        /// on, over WebTorrent), but it is not told to others. Those that are there stay. So the
        /// limit should suit a provider that has many customers behind one address; without it,
        /// one client can be a hundred times in each answer that others get. With some hundreds,
        /// others are hardly met among them, whatever an answer may have of one address.
        pub max_peers_per_ip_and_torrent: u16 = 64,
    }
}

impl AddressLimitsConfig {
    /// Checks the keys.
    pub fn check(&self, checks: &mut Checks) {
        checks.require(
            self.max_peers_per_ip_and_torrent <= PEERS_PER_NETWORK_MAX,
            "limits.max_peers_per_ip_and_torrent",
            format!("must be at most {PEERS_PER_NETWORK_MAX}, or 0 for no limit"),
        );
    }
}

impl MetricsConfig {
    /// Binds the address where Prometheus is to be served, if it is.
    ///
    /// # Errors
    /// See [`MetricsEndpoint::bind`].
    pub fn bind_endpoint(
        &self,
        privileges: &PrivilegeConfig,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Option<MetricsEndpoint>> {
        let address = self.prometheus_endpoint_address;
        let settings = EndpointSettings {
            address: self.run_prometheus_endpoint.then_some(address),
            unix_socket: named(&self.endpoint_unix_socket),
            token_file: named(&self.endpoint_token_file),
            allowed_hosts: &self.endpoint_allowed_hosts,
            privileges,
        };
        self.has_endpoint()
            .then(|| MetricsEndpoint::bind(settings, supervisor))
            .transpose()
    }

    /// Whether there is an endpoint: at an address, at a Unix socket, or at both.
    #[must_use]
    pub fn has_endpoint(&self) -> bool {
        self.run_prometheus_endpoint || named(&self.endpoint_unix_socket).is_some()
    }

    /// Where the endpoint can be asked whether the tracker serves, if there is one.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let at_socket = || named(&self.endpoint_unix_socket).map(Path::to_owned);
        let address = self.prometheus_endpoint_address;
        let at_address = self.run_prometheus_endpoint.then_some(address);
        let at_address = at_address.map(Probe::Endpoint);
        at_address.or_else(|| at_socket().map(Probe::EndpointSocket))
    }

    /// Looks at the files that the keys name on this machine. `section` is what their table is
    /// called.
    pub fn inspect(&self, section: &str, checks: &mut Checks) {
        if let Some(path) = named(&self.endpoint_token_file).filter(|_| self.has_endpoint()) {
            let key = format!("{section}.endpoint_token_file");
            checks.require_ok(Token::load(path), &key);
        }
        if let Some(path) = named(&self.endpoint_unix_socket) {
            let key = format!("{section}.endpoint_unix_socket");
            let is_served = checks.require_ok(UnixSocket::check(path), &key);
            checks.advise(
                is_served != Some(true),
                key,
                "a process serves there now: another one cannot start before that has ended",
            );
        }
    }

    /// Files that the endpoint has open at most, if there is one.
    #[must_use]
    pub fn endpoint_files_max(&self) -> usize {
        if self.has_endpoint() {
            MetricsEndpoint::FILES_MAX
        } else {
            0
        }
    }

    /// Makes the keys fit. `section` is what their table is called.
    pub fn clamp(&mut self, section: &str, checks: &mut Checks) {
        let key = format!("{section}.interval");
        checks.clamp(&mut self.interval, 1..=u64::MAX, &key, "it is in seconds");
        if self.prometheus_peer_id_prefixes && !self.peer_clients {
            self.prometheus_peer_id_prefixes = false;
            let key = format!("{section}.prometheus_peer_id_prefixes");
            let needs =
                format!("`{key}` = true needs `{section}.peer_clients` = true, false is used");
            checks.warn(key, needs);
        }
        self.check_endpoint(section, checks);
        let address = self.prometheus_endpoint_address;
        checks.advise(
            !self.run_prometheus_endpoint || !is_public(address.ip()),
            format!("{section}.prometheus_endpoint_address"),
            "can be reached by strangers, unless a firewall keeps them away",
        );
        self.tables.advise(section, checks);
    }

    fn check_endpoint(&self, section: &str, checks: &mut Checks) {
        for (is_default, key) in [
            (
                self.endpoint_token_file.as_os_str().is_empty(),
                "endpoint_token_file",
            ),
            (
                self.endpoint_allowed_hosts.is_empty(),
                "endpoint_allowed_hosts",
            ),
        ] {
            checks.advise(
                is_default || self.has_endpoint(),
                format!("{section}.{key}"),
                "is not used, because there is no endpoint: set `run_prometheus_endpoint` or \
                 `endpoint_unix_socket`",
            );
        }
        let is_name = |name: &String| {
            let is_sign = |sign: char| sign.is_alphanumeric() || "-._".contains(sign);
            !name.is_empty() && name.chars().all(is_sign)
        };
        if let Some(wrong) = self
            .endpoint_allowed_hosts
            .iter()
            .find(|name| !is_name(name))
        {
            checks.require(
                false,
                format!("{section}.endpoint_allowed_hosts"),
                format!("{wrong:?} is no name: write for example \"tracker.example.org\""),
            );
        }
    }
}

/// A path, if there is one.
fn named(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Makes the keys `socket_workers` and `swarm_workers` fit.
pub fn clamp_workers(socket_workers: &mut usize, swarm_workers: &mut usize, checks: &mut Checks) {
    for (workers, key) in [
        (socket_workers, "socket_workers"),
        (swarm_workers, "swarm_workers"),
    ] {
        let reason = "no machine has use for more threads";
        checks.clamp(workers, 0..=WORKERS_MAX, key, reason);
    }
}

/// Threads show a sign of life each second, if nobody takes the CPU from them.
const HANG_TIMEOUT_MIN_SECONDS: u64 = 3;

/// Makes the key `hang_timeout` fit.
pub fn clamp_hang_timeout(seconds: &mut u64, checks: &mut Checks) {
    if *seconds != 0 {
        let reason = "threads show a sign of life each second only";
        let range = HANG_TIMEOUT_MIN_SECONDS..=u64::MAX;
        checks.clamp(seconds, range, "hang_timeout", reason);
    }
}

/// Whether strangers may reach an address of this machine: its network does not say otherwise.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// Threads for each CPU from which on they only take time from each other.
const WORKERS_PER_CPU_MAX: usize = 4;

/// What is wrong with the numbers of workers on this machine, if anything: how `socket_workers`
/// goes on.
#[must_use]
pub fn too_many_workers(socket_workers: usize, swarm_workers: usize) -> Option<String> {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = socket_workers.saturating_add(swarm_workers);
    (workers > cpus.saturating_mul(WORKERS_PER_CPU_MAX)).then(|| {
        format!(
            "and `swarm_workers` make {workers} threads for {cpus} CPUs, which only take time from \
             each other: `socket_workers = 0` makes one per CPU"
        )
    })
}

/// When peers announce and when they are forgotten, as configured by keys of these names.
#[derive(Debug)]
pub struct PeerTimes<'a> {
    /// `protocol.peer_announce_interval`, in seconds.
    pub peer_announce_interval: &'a mut u32,
    /// `cleaning.max_peer_age`, in seconds.
    pub max_peer_age: &'a mut u32,
    /// `cleaning.torrent_cleaning_interval`, in seconds.
    pub torrent_cleaning_interval: &'a mut u32,
}

/// By how much clients are late with an announce, usually: they announce their torrents in turn.
pub(crate) const ANNOUNCE_DELAY_SECONDS: u32 = 30;

impl PeerTimes<'_> {
    /// Accepts an announce interval below 0, which UDP trackers once could be given, and intervals
    /// that say "never": they once had 64 bits.
    pub fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.replace_negative("protocol.peer_announce_interval", "1");
        old.replace_beyond_32_bits("protocol.peer_announce_interval", "2147483647");
        old.replace_beyond_32_bits("cleaning.torrent_cleaning_interval", "16000");
    }

    /// Makes them fit each other, and what a swarm can keep.
    pub fn clamp(self, checks: &mut Checks) {
        let Self {
            peer_announce_interval,
            max_peer_age,
            torrent_cleaning_interval,
        } = self;
        checks.clamp(
            peer_announce_interval,
            1..=i32::MAX.unsigned_abs(),
            "protocol.peer_announce_interval",
            "clients wait at least a second, and read 31 bits",
        );
        checks.clamp(
            torrent_cleaning_interval,
            1..=CLEANING_INTERVAL_MAX_SECONDS,
            "cleaning.torrent_cleaning_interval",
            "peers that are gone would stay for hours",
        );
        let age_max = PEER_AGE_MAX_SECONDS - *torrent_cleaning_interval;
        checks.clamp(
            max_peer_age,
            1..=age_max,
            "cleaning.max_peer_age",
            &format!(
                "the sum of `cleaning.max_peer_age` and `cleaning.torrent_cleaning_interval` \
                 (which is {torrent_cleaning_interval}) can be {PEER_AGE_MAX_SECONDS} at most, \
                 since the tracker remembers times for so many seconds"
            ),
        );
    }
}

/// Warns if peers that announce when they are told to are forgotten meanwhile, or stay for long
/// when they are gone. For trackers that know nothing of a peer but its announces. The arguments
/// are the keys of these names, in seconds.
pub fn check_peer_lives(
    peer_announce_interval: u32,
    max_peer_age: u32,
    torrent_cleaning_interval: u32,
    checks: &mut Checks,
) {
    checks.advise(
        torrent_cleaning_interval <= max_peer_age,
        "cleaning.torrent_cleaning_interval",
        "is more than `cleaning.max_peer_age`: peers that are gone stay in memory for long",
    );
    let slack = max_peer_age.saturating_sub(peer_announce_interval);
    if slack == 0 {
        checks.warn(
            "protocol.peer_announce_interval",
            format!(
                "`protocol.peer_announce_interval` = {peer_announce_interval} is not less than \
                 `cleaning.max_peer_age` = {max_peer_age}: peers are forgotten between two \
                 announces"
            ),
        );
        return;
    }
    checks.advise(
        slack >= ANNOUNCE_DELAY_SECONDS,
        "cleaning.max_peer_age",
        format!(
            "is only {slack} s more than `protocol.peer_announce_interval`: clients that are a \
             little late are forgotten meanwhile"
        ),
    );
}
