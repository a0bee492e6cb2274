//! What is tested, in the words of its own tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aquatic_types::{InfoHash, IpFamily};

use crate::operations::configuration::{Mistake, OldFile};
use crate::{Daemon, network};

/// A daemon of the family.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it says about itself on `--help`.
    pub about: &'static str,
    /// The version of its crate.
    pub version: &'static str,
    /// The program: `env!("CARGO_BIN_EXE_...")`.
    pub binary: &'static str,
    /// The key that says how it waits for the network.
    pub runtime_key: &'static str,
    /// Values of that key that this machine can do.
    pub runtimes: fn() -> Vec<&'static str>,
    /// Whether peers of both IP families are in the same swarms, which are counted as those of IPv4
    /// then. Otherwise limits hold for each family.
    pub shares_swarms: bool,
    /// Whether connections can be encrypted.
    pub has_tls: bool,
    /// The section of the keys about metrics.
    pub metrics_section: &'static str,
    /// Lines that make it update its metrics each second.
    pub metrics_settings: &'static str,
    /// Threads that only this daemon has, with these settings.
    pub more_threads: &'static [&'static str],
    /// Lines that make it have them.
    pub more_threads_settings: &'static str,
    /// Settings that no machine has a warning for.
    pub modest_settings: &'static str,
    /// Every key that an operator can set, with its section, in the order of the printed file; in
    /// groups, some of which daemons have in common.
    pub keys: &'static [&'static [&'static str]],
    /// Mistakes that can be made in its file only, in groups likewise.
    pub mistakes: &'static [&'static [Mistake]],
    /// Keys that were called otherwise.
    pub old_file: OldFile,
    /// A client at an IP address that will ask at another address.
    pub client: fn(IpAddr, SocketAddr) -> Box<dyn Client>,
    /// Whether a tracker answers there. (The alternative is that the kernel says that no one is.)
    pub serves: fn(SocketAddr) -> bool,
}

/// The least that a client can do, whatever the protocol. All of its peers are leechers.
pub trait Client {
    /// Announces a peer at this port: how many leechers there are then, or why it was refused.
    ///
    /// # Errors
    /// The tracker's reason.
    fn join(&mut self, info_hash: InfoHash, port: u16) -> Result<u32, String>;

    /// Announces that it leaves.
    fn leave(&mut self, info_hash: InfoHash, port: u16);

    /// How many leechers each of these torrents has, by a scrape.
    fn leechers(&mut self, info_hashes: &[InfoHash]) -> Vec<u32>;
}

impl Program {
    /// Whether operators can set this key.
    #[must_use]
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.iter().any(|group| group.contains(&key))
    }

    /// The families that have swarms of their own.
    #[must_use]
    pub fn swarm_families(&self) -> &'static [IpFamily] {
        if self.shares_swarms {
            &[IpFamily::V4]
        } else {
            &IpFamily::ALL
        }
    }

    /// A client of a tracker that runs, at a loopback address.
    #[must_use]
    pub fn client_of(&self, daemon: &Daemon, family: IpFamily) -> Box<dyn Client> {
        (self.client)(localhost(family), daemon.address(family))
    }
}

/// The loopback address, or the one of a [network with queues](crate::network::with_queues).
#[must_use]
pub fn localhost(family: IpFamily) -> IpAddr {
    let loopback = match family {
        IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
        IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    network::address_of_queues(family).unwrap_or(loopback)
}

/// One of many IPv4 addresses of this machine.
#[must_use]
pub fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}
