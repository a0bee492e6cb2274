//! Sections and values that several daemons have in common.

use std::path::PathBuf;

use aquatic_access_list::{AccessListMode, PeerIdPrefixes};
use aquatic_keys::KeyMode;
use serde::{Deserialize, Serialize};

use crate::{Checks, MemoryLimit, section};

/// How much is logged: each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What needs someone to act.
    Error,
    /// What someone should know.
    #[default]
    Warn,
    /// What happens seldom and is as it should be: start, reload, stop.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

section! {
    /// Giving up rights once all sockets are bound.
    pub struct PrivilegeConfig {
        /// Change to the root directory, group and user below after binding the sockets. The
        /// program must be started as root.
        pub drop_privileges: bool = false,
        /// Directory that becomes the root directory (chroot). Paths that are opened later are
        /// looked up inside it.
        pub chroot_path: PathBuf = PathBuf::from("."),
        /// Group to run as.
        pub group: String = "nogroup".to_owned(),
        /// User to run as.
        pub user: String = "nobody".to_owned(),
        /// Confine the program, once it has started: it can open only what is in the folders of
        /// this file and of files that it names, and below, and make only the system calls of a
        /// tracker (Linux: Landlock and seccomp; what the kernel cannot do is left out, with a
        /// warning).
        ///
        /// Files that are read again may be replaced, also by way of symbolic links, in the folders
        /// where they were at the start.
        pub sandbox: bool = true,
    }
}

section! {
    /// Serving some torrents, or some clients, only.
    ///
    /// The files are read at start and again whenever the program gets the signal SIGHUP or
    /// SIGUSR1. A file that cannot be used ends the program at start; later it is logged as an
    /// error and the previous list is kept.
    pub struct AccessListConfig {
        /// off: serve all torrents. allow: only those in the list. deny: all but those in the
        /// list.
        pub mode: AccessListMode = AccessListMode::Off,
        /// File with one info hash per line, in 40 hexadecimal digits; what follows a hash is a
        /// comment. Empty lines and lines that start with # are skipped.
        ///
        /// With `drop_privileges`, the file is opened after the change of root directory and user:
        /// the path is looked up inside `chroot_path`, and the user must be allowed to read it.
        pub path: PathBuf = PathBuf::from("./access-list.txt"),
        /// File with one network per line whose clients are not served: an address such as
        /// 192.0.2.1, or a prefix in CIDR notation such as 10.0.0.0/8 or 2001:db8::/32; what
        /// follows # or ; is a comment. Empty = none. It holds whatever `mode` is, and is opened as
        /// `path`.
        pub networks_deny_path: PathBuf = PathBuf::new(),
        /// Software that is not served: announces of peer ids that begin with one of these are
        /// refused. Up to 20 bytes each, as text such as "-XL", or in hexadecimal digits such as
        /// "hex:2d584c".
        pub peer_id_prefixes_deny: PeerIdPrefixes = PeerIdPrefixes::default(),
        /// If any are listed, announces of all other peer ids are refused.
        pub peer_id_prefixes_allow: PeerIdPrefixes = PeerIdPrefixes::default(),
    }
}

section! {
    /// Serving only clients whose announce URL has a key: a private tracker.
    ///
    /// A key stands in the path or the query of the announce URL: `/KEY/announce`, `/announce/KEY`
    /// or `/announce?passkey=KEY`. The file is read when the access list is, and a file that cannot
    /// be used is treated alike.
    pub struct KeysConfig {
        /// off: serve everybody. require: only clients with a key of the file.
        pub mode: KeyMode = KeyMode::Off,
        /// File with one key per line: 1 to 64 letters, digits, - and _. Behind a key there may be,
        /// in any order, peers=N (a limit of peers over all torrents), until=2027-01-31 (the last
        /// day, UTC; or a time such as 2027-01-31T18:00:00Z) and # with a name.
        ///
        /// Where the path is looked up, and by which user, is the same as for the access list.
        pub path: PathBuf = PathBuf::from("./keys.txt"),
    }
}

section! {
    /// Bounds on what strangers can make the tracker hold or do. 0 means no limit; of memory,
    /// "off" does.
    ///
    /// `max_torrents` and `max_peers` hold for IPv4 and for IPv6 each.
    pub struct LimitsConfig {
        /// Torrents held at once. At the limit, announces of further torrents are refused.
        ///
        /// This and `max_peers` are divided evenly among the workers that own torrents.
        pub max_torrents: usize = 0,
        /// Peers held at once, over all torrents. At the limit, further peers are refused.
        pub max_peers: usize = 0,
        /// Memory that torrents and their peers may take, of both families together: a share of the
        /// memory at hand such as "50%", a size such as "512 MiB" or "4 GiB" (at least "64 KiB"),
        /// or "off".
        ///
        /// The memory at hand is what the machine has, or what the control group of the program or
        /// its RLIMIT_AS allows, if that is less. The bound is divided evenly among the workers
        /// that own torrents.
        /// At the bound, the youngest torrents of addresses that have many give way to addresses
        /// that have few; who has many is refused.
        pub max_swarm_memory: MemoryLimit = MemoryLimit::Share(50),
        /// Peers held at once from one IP address, over all torrents.
        pub max_peers_per_ip: usize = 0,
        /// Requests served per second from one IP address, 10,000,000 at most. More are counted,
        /// and refused (over UDP: dropped). In aquatic_http and aquatic_ws, a new connection counts
        /// as a request, and a TLS handshake as another.
        pub requests_per_second_per_ip: u32 = 0,
    }
}

/// The highest rate of requests that is kept. Higher ones would soon not be told apart from each
/// other, and no client sends so many.
pub const REQUESTS_PER_SECOND_MAX: u32 = 10_000_000;

/// The smallest bound on memory: some 1,000 torrents. Less is a typing error.
const SWARM_MEMORY_MIN: u64 = 64 << 10;

impl LimitsConfig {
    /// Checks the keys. `section` is what their table is called.
    pub fn check(&self, section: &str, checks: &mut Checks) {
        let is_enough = match self.max_swarm_memory {
            MemoryLimit::Bytes(bytes) => bytes >= SWARM_MEMORY_MIN,
            MemoryLimit::Share(_) | MemoryLimit::Off => true,
        };
        let key = format!("{section}.max_swarm_memory");
        checks.require(is_enough, key, "must be at least \"64 KiB\"");
    }

    /// Makes the keys fit. `section` is what their table is called.
    pub fn clamp(&mut self, section: &str, checks: &mut Checks) {
        checks.clamp(
            &mut self.requests_per_second_per_ip,
            0..=REQUESTS_PER_SECOND_MAX,
            &format!("{section}.requests_per_second_per_ip"),
            "no client sends so many, and 0 means no limit",
        );
    }
}
