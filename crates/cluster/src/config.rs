//! What an operator can set.

use std::path::{Path, PathBuf};

use aquatic_config::{AccessListConfig, AccessListMode, Checks, KeyMode, KeysConfig, section};
use aquatic_daemon::counter::Label as _;
use aquatic_swarm::RefreshInterval;

use crate::counters::ListKind;
use crate::server_url::ServerUrl;

pub use self::lives::{Lives, MemberLives, PeerLives};

mod lives;

section! {
    /// One swarm over several trackers: they share peers by way of NATS servers (https://nats.io).
    pub struct ClusterConfig {
        /// The servers: `"tls://nats1.example.org:4222"`, or `"nats://127.0.0.1:4222"` without
        /// encryption. The first that can be reached is used, and another one when that is lost:
        /// name the nearest first. Empty: off.
        ///
        /// Servers that these tell of are not used. With `privileges.drop_privileges`, names are
        /// looked up by `etc/resolv.conf` and `etc/hosts` in the new root directory, if these are
        /// there; addresses need no files.
        pub servers: Vec<String> = Vec::new(),
        /// Trackers with the same name share swarms. Letters, digits, `-` and `_`.
        pub name: String = "main".to_owned(),
        /// The name of this tracker, which no other one may have. Letters, digits, `-` and `_`.
        /// Empty: the name of the host, the protocol and the port, such as `host-udp-3000`.
        pub node: String = String::new(),
        /// File with what the servers know this tracker by: a `.creds` file (JWT and NKey seed), an
        /// NKey seed, a token, or a user in the first and a password in the second line. Readable
        /// by its owner only (`chmod 600`).
        ///
        /// It is read before privileges are dropped. Empty: the servers let everybody in.
        pub credentials_file: PathBuf = PathBuf::new(),
        /// File with the certificates of authorities that servers are trusted by, PEM or DER. It
        /// is used for servers at `nats://`, too, if they ask for TLS. Empty: those of the system.
        pub tls_ca_file: PathBuf = PathBuf::new(),
        /// File with the certificate that this tracker shows to servers that ask for one, PEM with
        /// its chain, or DER.
        pub tls_certificate_file: PathBuf = PathBuf::new(),
        /// File with its private key, PEM or DER.
        pub tls_private_key_file: PathBuf = PathBuf::new(),
        /// Refuse servers at `nats://` unless they are on this machine: addresses of peers would be
        /// sent without encryption.
        pub require_tls: bool = true,
        /// Milliseconds between two looks at what there is to publish, from 10 to 5000. What fills
        /// a message is published earlier.
        pub flush_interval: u64 = 100,
        /// Seconds within which every peer that is alive is published again, a power of two:
        /// replicas would forget it otherwise, and this repairs what was lost. Twice this and the
        /// announce interval must not be more than `cleaning.max_peer_age`. 0: the largest such
        /// number.
        ///
        /// For WebTorrent, 0 is the largest number of which twice, and
        /// `cleaning.torrent_cleaning_interval`, are not more than `cleaning.max_peer_age`; any
        /// other up to 8192 may be set, since nodes tell each other how long what they say holds.
        pub refresh_interval: u32 = 0,
        /// Bytes that wait at most: while there is no connection, and then until the servers are
        /// known to have them, in the log if there is to be one. What does not fit is repaired
        /// within `refresh_interval` and the announce interval.
        pub publish_buffer: usize = 67_108_864,
        /// Keep what was published in the servers, if they have JetStream, for as long as a peer
        /// lives. It is read at the start and after interruptions, so that swarms are complete
        /// within seconds.
        pub history: bool = true,
        /// Seconds for which a start waits at most, before clients are served, until swarms are
        /// complete, and lists have been read that are kept in the servers. 0: it does not wait.
        pub start_complete_within: u64 = 0,
        /// Take the access list from the servers (JetStream), so that a change holds at all
        /// trackers of the cluster at once: the bucket `aquatic_NAME_access`, in which each key is
        /// an info hash in lower case, and values are for people. What is listed there means what
        /// `access_list.mode` says.
        ///
        /// The file that `access_list.path` names has to be there, and can be empty: it is what
        /// holds at a start until the bucket has been read, and is a copy of it from then on. A
        /// reload does not read it. Changes at the operator's endpoint go to the bucket.
        pub access_list_bucket: bool = false,
        /// The same for the keys of users: the bucket `aquatic_NAME_keys`, in which each key is a
        /// user's, and its value is what follows it on its line in a file of keys, such as
        /// `peers=5 # Alice`. `keys.path` is the copy.
        pub keys_bucket: bool = false,
        /// Tell a back end of every announce that limits of request rates, the access list and keys
        /// let pass, with what the client says it has up- and downloaded: in the stream
        /// `AQUATIC-ANNOUNCES_NAME` of the servers (JetStream), which keeps it for three days
        /// unless somebody has made the stream otherwise. It has addresses, and keys of users.
        pub announces: bool = false,
        /// Bytes of these that wait at most while the servers do not take them: some 250 for an
        /// announce. What does not fit is lost, the oldest first.
        pub announces_buffer: usize = 67_108_864,
    }
}

/// The sections about lists that can be kept in the servers.
#[derive(Clone, Copy, Debug)]
pub struct ListConfigs<'a> {
    /// The section `access_list`.
    pub access_list: &'a AccessListConfig,
    /// The section `keys`.
    pub keys: &'a KeysConfig,
}

impl ListConfigs<'_> {
    fn is_used(self, kind: ListKind) -> bool {
        match kind {
            ListKind::AccessList => self.access_list.mode != AccessListMode::Off,
            ListKind::Keys => self.keys.mode != KeyMode::Off,
        }
    }

    /// The file of a list.
    #[must_use]
    pub fn path(self, kind: ListKind) -> PathBuf {
        match kind {
            ListKind::AccessList => self.access_list.path.clone(),
            ListKind::Keys => self.keys.path.clone(),
        }
    }
}

/// Two pieces of what workers tell.
const ANNOUNCES_BUFFER_MIN: usize = 262_144;

/// Names are a part of subjects, which servers limit, and of metrics.
const NAME_LENGTH_MAX: usize = 64;

/// Whether it may be a part of a subject of NATS.
pub(crate) fn is_name(text: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_sign)
}

const NAME_RULE: &str = "must be 1 to 64 letters, digits, `-` and `_`";

impl ClusterConfig {
    /// Whether swarms are shared.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The servers, or which of them is wrong and why.
    ///
    /// # Errors
    /// If one is wrong.
    pub fn server_urls(&self) -> anyhow::Result<Vec<ServerUrl>> {
        let parse = |text: &String| {
            let url = text.parse::<ServerUrl>();
            // What may have a password in it is not shown.
            let shown = if text.contains('@') { "one" } else { text };
            url.map_err(|error| error.context(format!("{shown:?}")))
        };
        self.servers.iter().map(parse).collect()
    }

    /// Whether files about TLS are read. A server at nats:// may ask for it, too: whoever names
    /// an authority expects that.
    #[must_use]
    pub(crate) fn uses_tls(&self) -> bool {
        let urls = self.server_urls().unwrap_or_default();
        let names_authority = !self.tls_ca_file.as_os_str().is_empty();
        names_authority || urls.iter().any(|url| url.is_encrypted)
    }

    /// The name of this tracker. `protocol` and `port` tell it from others of the same host: the
    /// first port at which it listens.
    #[must_use]
    pub fn node_name(&self, protocol: &str, port: u16) -> String {
        match self.node.is_empty() {
            true => node_of(&host_name(), protocol, port),
            false => self.node.clone(),
        }
    }

    /// When others are told again of peers that are still there: what is configured, or else the
    /// longest interval for which nobody is forgotten if one telling is lost.
    #[must_use]
    pub fn refresh(&self, lives: PeerLives) -> RefreshInterval {
        let longest = RefreshInterval::longest(lives.announce_interval, lives.peer_age);
        RefreshInterval::new(self.refresh_interval).unwrap_or(longest)
    }

    /// When others are told again of the members of WebTorrent swarms: what is configured, or else
    /// such that they are believed to be there for not much longer than `peer_age` seconds. There
    /// are `cleaning_interval` seconds between two cleanings.
    #[must_use]
    pub fn member_lives(&self, cleaning_interval: u32, peer_age: u32) -> MemberLives {
        let longest = RefreshInterval::longest(cleaning_interval, peer_age);
        let refresh = RefreshInterval::new(self.refresh_interval).unwrap_or(longest);
        MemberLives {
            refresh: refresh.seconds(),
            cleaning_interval,
        }
    }

    fn is_in_bucket(&self, kind: ListKind) -> bool {
        match kind {
            ListKind::AccessList => self.access_list_bucket,
            ListKind::Keys => self.keys_bucket,
        }
    }

    /// The lists that are kept in the servers.
    #[must_use]
    pub fn lists_in_buckets(&self, lists: ListConfigs<'_>) -> Vec<ListKind> {
        let kinds = ListKind::ALL.iter().copied();
        let kinds = kinds.filter(|kind| self.is_on() && self.is_in_bucket(*kind));
        kinds.filter(|kind| lists.is_used(*kind)).collect()
    }

    /// Whether a back end is told of announces.
    #[must_use]
    pub fn tells_announces(&self) -> bool {
        self.is_on() && self.announces
    }

    /// Advises against lists in the servers that are of no use.
    pub fn advise_lists(&self, lists: ListConfigs<'_>, checks: &mut Checks) {
        for (kind, key, mode) in [
            (
                ListKind::AccessList,
                "cluster.access_list_bucket",
                "access_list.mode",
            ),
            (ListKind::Keys, "cluster.keys_bucket", "keys.mode"),
        ] {
            let is_set = self.is_in_bucket(kind);
            checks.advise(
                !is_set || lists.is_used(kind),
                key,
                format!("is not used, because `{mode}` is off"),
            );
            checks.advise(
                !is_set || self.is_on(),
                key,
                "is not used, because `cluster.servers` is empty",
            );
        }
    }

    /// Checks the keys.
    pub fn check(&self, lives: impl Into<Lives>, checks: &mut Checks) {
        checks.require(is_name(&self.name), "cluster.name", NAME_RULE);
        checks.require(
            self.node.is_empty() || is_name(&self.node),
            "cluster.node",
            format!("{NAME_RULE}, or empty"),
        );
        checks.require(
            (10..=5_000).contains(&self.flush_interval),
            "cluster.flush_interval",
            "must be from 10 to 5000: it is in milliseconds",
        );
        self.check_announces(checks);
        self.check_servers(checks);
        self.check_files(checks);
        let configured = self.refresh_interval;
        checks.require(
            configured == 0 || RefreshInterval::new(configured).is_some(),
            "cluster.refresh_interval",
            "must be a power of two from 2 to 16384, or 0",
        );
        let lives = lives.into();
        if let Some(lives) = lives.peers {
            self.check_refresh(lives, checks);
        }
        if let Some(lives) = lives.members.filter(|_| self.is_on()) {
            lives.check(checks);
        }
    }

    fn check_announces(&self, checks: &mut Checks) {
        checks.advise(
            !self.announces || self.is_on(),
            "cluster.announces",
            "is not used, because `cluster.servers` is empty",
        );
        checks.require(
            !self.announces || self.announces_buffer >= ANNOUNCES_BUFFER_MIN,
            "cluster.announces_buffer",
            format!("must be at least {ANNOUNCES_BUFFER_MIN}: it is in bytes"),
        );
    }

    fn check_servers(&self, checks: &mut Checks) {
        const KEY: &str = "cluster.servers";
        checks.require(
            cfg!(feature = "nats") || !self.is_on(),
            KEY,
            "this program was built without the feature `cluster`: nothing can be shared",
        );
        let Some(urls) = checks.require_ok(self.server_urls(), KEY) else {
            return;
        };
        let is_safe = |url: &ServerUrl| url.is_encrypted || url.is_loopback();
        if let Some(url) = urls.iter().find(|url| self.require_tls && !is_safe(url)) {
            checks.require(
                false,
                KEY,
                format!(
                    "\"{url}\" would be sent addresses of peers without encryption: write \
                     tls://, or set `cluster.require_tls = false` if nobody can listen in"
                ),
            );
        }
    }

    fn check_files(&self, checks: &mut Checks) {
        let is_named = |path: &Path| !path.as_os_str().is_empty();
        for (key, path, other, other_path) in [
            (
                "cluster.tls_certificate_file",
                &self.tls_certificate_file,
                "cluster.tls_private_key_file",
                &self.tls_private_key_file,
            ),
            (
                "cluster.tls_private_key_file",
                &self.tls_private_key_file,
                "cluster.tls_certificate_file",
                &self.tls_certificate_file,
            ),
        ] {
            checks.require(
                is_named(path) || !is_named(other_path),
                key,
                format!("is missing: `{other}` is of no use without it"),
            );
        }
        let is_named = is_named(&self.tls_certificate_file);
        checks.advise(
            !is_named || !self.is_on() || self.uses_tls() || self.server_urls().is_err(),
            "cluster.tls_certificate_file",
            "is not used, because no server is at tls://, and `cluster.tls_ca_file` is empty",
        );
    }

    fn check_refresh(&self, lives: PeerLives, checks: &mut Checks) {
        let PeerLives {
            announce_interval,
            peer_age: max_peer_age,
            ..
        } = lives;
        let used = self.refresh(lives).seconds();
        let needed = u64::from(used) * 2 + u64::from(announce_interval);
        let fits = needed <= u64::from(max_peer_age);
        let (key, advice) = match self.refresh_interval {
            0 => ("cluster.servers", "raise `cleaning.max_peer_age`"),
            _ => ("cluster.refresh_interval", "0 takes the largest that fits"),
        };
        checks.require(
            fits || !self.is_on(),
            key,
            format!(
                "peers would be forgotten before they are published again: twice the refresh \
                 interval ({used}) and the announce interval ({announce_interval}) are {needed} s, \
                 and `cleaning.max_peer_age` is {max_peer_age}: {advice}"
            ),
        );
    }

    /// Looks at the files that the keys name on this machine.
    pub fn inspect(&self, checks: &mut Checks) {
        if !self.is_on() {
            return;
        }
        #[cfg(feature = "nats")]
        {
            use crate::nats::settings;

            if !self.credentials_file.as_os_str().is_empty() {
                let loaded = settings::check_credentials(&self.credentials_file);
                checks.require_ok(loaded, "cluster.credentials_file");
            }
            if let Some((key, error)) = settings::check_tls(self) {
                checks.require(false, key, format!("{error:#}"));
            }
        }
        #[cfg(not(feature = "nats"))]
        let _ = checks;
    }
}

/// A name of a tracker.
fn node_of(host: &str, protocol: &str, port: u16) -> String {
    let suffix = format!("-{protocol}-{port}");
    let length = NAME_LENGTH_MAX.saturating_sub(suffix.len());
    let host: String = host.chars().take(length).collect();
    let is_sign = |sign: &char| sign.is_ascii_alphanumeric() || *sign == '-' || *sign == '_';
    let signs = host.chars().chain(suffix.chars());
    signs
        .map(|it| if is_sign(&it) { it } else { '-' })
        .collect()
}

/// What this machine is called.
fn host_name() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(
        |_| "host".to_owned(),
        |name| name.nodename().to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use aquatic_config::{Config, LogLevel, inspect, load, to_documented_toml};

    use super::*;

    section! {
        /// A tracker.
        pub struct TrackerConfig {
            /// How much is logged.
            pub log_level: LogLevel = LogLevel::default(),
            /// Seconds.
            pub announce_interval: u32 = 120,
            /// Seconds.
            pub max_peer_age: u32 = 1_200,
            pub cluster: ClusterConfig,
        }
    }

    impl Config for TrackerConfig {
        fn check(&self, checks: &mut Checks) {
            let lives = PeerLives {
                announce_interval: self.announce_interval,
                peer_age: self.max_peer_age,
                peer_age_max: self.max_peer_age,
            };
            self.cluster.check(lives, checks);
            self.cluster.inspect(checks);
        }

        fn log_level(&self) -> LogLevel {
            self.log_level
        }
    }

    fn error(text: &str) -> String {
        let result = load::<TrackerConfig>(text);
        result.map_or_else(|error| error.to_string(), |_| String::new())
    }

    const SERVER: &str = "cluster.servers = ['nats://127.0.0.1']\n";

    #[test]
    fn nothing_is_shared_unless_a_server_is_named() {
        let config = load::<TrackerConfig>("").unwrap().config;
        assert!(!config.cluster.is_on());
        let text = to_documented_toml(&TrackerConfig::default());
        assert!(text.contains("[cluster]"), "{text}");
        let config = load::<TrackerConfig>(SERVER).unwrap().config;
        assert!(config.cluster.is_on());
    }

    #[test]
    #[cfg(not(feature = "nats"))]
    fn a_program_that_was_built_without_it_shares_nothing() {
        let error = error(SERVER);
        assert!(error.contains("without the feature `cluster`"), "{error}");
    }

    #[test]
    fn the_interval_that_is_set_is_used() {
        let lives = PeerLives {
            announce_interval: 120,
            peer_age: 1_200,
            peer_age_max: 1_800,
        };
        let refresh = |refresh_interval| {
            let config = ClusterConfig {
                refresh_interval,
                ..ClusterConfig::default()
            };
            config.refresh(lives).seconds()
        };
        assert_eq!((refresh(64), refresh(0)), (64, 512));
    }

    #[test]
    fn keys_that_do_not_fit_are_named() {
        for (lines, key, reason) in [
            ("cluster.name = 'a.b'", "cluster.name", "1 to 64 letters"),
            ("cluster.name = ''", "cluster.name", "1 to 64 letters"),
            ("cluster.node = 'a b'", "cluster.node", "or empty"),
            (
                "cluster.flush_interval = 9",
                "cluster.flush_interval",
                "10 to 5000",
            ),
            (
                "cluster.flush_interval = 5001",
                "cluster.flush_interval",
                "10 to 5000",
            ),
            (
                "cluster.refresh_interval = 48",
                "cluster.refresh_interval",
                "power of two",
            ),
            (
                "cluster.refresh_interval = 1",
                "cluster.refresh_interval",
                "power of two",
            ),
            (
                "cluster.refresh_interval = 1024",
                "cluster.refresh_interval",
                "twice the refresh interval (1024) and the announce interval (120) are 2168 s",
            ),
            (
                "max_peer_age = 123",
                "cluster.servers",
                "raise `cleaning.max_peer_age`",
            ),
            (
                "cluster.tls_certificate_file = 'x'",
                "cluster.tls_private_key_file",
                "`cluster.tls_certificate_file` is of no use without it",
            ),
            (
                "cluster.tls_private_key_file = 'x'",
                "cluster.tls_certificate_file",
                "`cluster.tls_private_key_file` is of no use without it",
            ),
            (
                "cluster.credentials_file = '/nowhere/creds'",
                "cluster.credentials_file",
                "cannot open it",
            ),
            // It is read although the server is at nats://.
            (
                "cluster.tls_ca_file = '/nowhere/ca.pem'",
                "cluster.tls_ca_file",
                "cannot read /nowhere/ca.pem",
            ),
        ] {
            let error = error(&format!("{lines}\n{SERVER}"));
            let short = key.replace("cluster.", "");
            let is_named = [format!("`{key}`"), format!("`{short}` in [cluster]")];
            let is_named = is_named.iter().any(|name| error.contains(name));
            assert!(is_named, "{lines}: {error}");
            assert!(error.contains(reason), "{lines}: {error}");
        }
        assert_eq!(error(&format!("max_peer_age = 124\n{SERVER}")), "");
        assert_eq!(error("max_peer_age = 1"), "", "nothing is shared");
    }

    #[test]
    fn a_certificate_is_of_use_where_tls_may_be_asked_for() {
        let files = "cluster.tls_certificate_file = 'x'\ncluster.tls_private_key_file = 'x'\n";
        let advice = |text: &str| inspect::<TrackerConfig>(&format!("{files}{text}")).advice;
        let told = advice(SERVER).concat();
        let is_named = told.contains("`cluster.tls_certificate_file`: is not used");
        assert!(
            is_named && told.contains("`cluster.tls_ca_file` is empty"),
            "{told}"
        );
        let authority = "cluster.tls_ca_file = 'x'\n";
        assert_eq!(advice(&format!("{SERVER}{authority}")), [""; 0]);
        assert_eq!(advice("cluster.servers = ['tls://127.0.0.1']"), [""; 0]);
        assert_eq!(advice(authority), [""; 0], "nothing is shared");
    }

    #[test]
    fn addresses_of_peers_are_encrypted_unless_the_operator_says_otherwise() {
        let plain = "cluster.servers = ['nats://localhost', 'nats://nats.example.org']";
        let refused = error(plain);
        assert!(refused.contains("`cluster.servers`"), "{refused}");
        let shown = "\"nats://nats.example.org:4222\" would be sent addresses";
        assert!(refused.contains(shown), "{refused}");
        assert_eq!(error(&format!("{plain}\ncluster.require_tls = false")), "");
        assert_eq!(error("cluster.servers = ['nats://[::1]']"), "");
        let secret = error("cluster.servers = ['nats://me:secret@host']");
        assert!(secret.contains("`cluster.credentials_file`"), "{secret}");
    }

    #[test]
    fn a_node_is_called_after_its_host_and_port() {
        assert_eq!(
            node_of("t1.example.org", "udp", 3_000),
            "t1-example-org-udp-3000"
        );
        let long = node_of(&"x".repeat(200), "http", 65_535);
        assert_eq!(long.len(), NAME_LENGTH_MAX);
        assert!(long.ends_with("x-http-65535"), "{long}");
        let own = ClusterConfig::default().node_name("udp", 3_000);
        assert!(is_name(&own) && own.ends_with("-udp-3000"), "{own}");
        let config = ClusterConfig {
            node: "first".to_owned(),
            ..ClusterConfig::default()
        };
        assert_eq!(config.node_name("udp", 3_000), "first");
    }
}
