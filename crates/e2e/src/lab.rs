//! A few hosts on one bridge, out of nothing: network namespaces with addresses of their own.
//!
//! ```text
//!            namespace "hub": the tracker
//!            bridge 10.77.0.1, 2001:db8:77::1
//!              ┌───────────┴───────────┐            veth pairs
//!     namespace "guest0"       namespace "guest1"
//!     10.77.0.2                10.77.0.3
//!     2001:db8:77::2           2001:db8:77::3
//! ```
//!
//! Some clients take no peer at a loopback address, and two clients at one address are a special
//! case for all of them. In a lab every party has an address like in the world. Nothing of it is
//! visible outside: the addresses exist only in the namespaces, and there is no way out of them.
//!
//! The IPv6 addresses are those reserved for documentation (RFC 3849), because Transmission
//! believes in IPv6 only where it finds an address in 2000::/3: a unique local one will not do.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use tempfile::NamedTempFile;

use crate::host::Host;
use crate::{Family, wait};

/// Labs in one process: their namespaces need different names.
static LABS_MADE: AtomicU32 = AtomicU32::new(0);

/// Announce URLs have host names in the world; and Transmission 3 takes an IPv6 address in
/// brackets for a host name, which it then cannot find.
pub(crate) const HUB_NAME_V4: &str = "hub4.test";
pub(crate) const HUB_NAME_V6: &str = "hub6.test";

/// Second address of the hub, for tests of hosts that have several.
const HUB_SECOND: u8 = 99;

/// Until all links of a lab are up.
const WAYS_LIMIT: Duration = Duration::from_secs(30);

/// Namespaces that are removed with the test.
#[derive(Debug)]
pub struct Lab {
    names_file: NamedTempFile,
    namespaces: Vec<String>,
    hosts: Vec<Host>,
}

impl Lab {
    /// A hub and `guests` more hosts, or nothing when this user may not make namespaces. Under
    /// CI (`CI=true`) that is a failure: a test that nobody sees skipped is no test.
    ///
    /// # Errors
    /// When not root under CI, or when `ip` fails.
    pub fn new(guests: u8) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            let reason = "network namespaces need root: run this test by `sudo`";
            ensure!(env::var("CI").as_deref() != Ok("true"), "{reason}");
            eprintln!("SKIPPED: {reason}");
            return Ok(None);
        }
        let number = LABS_MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("aquatic-{}-{number}", process::id());
        let names_file = NamedTempFile::new().context("make a file of host names")?;
        let hub_names = format!("{} {HUB_NAME_V4}\n{} {HUB_NAME_V6}\n", v4(1), v6(1));
        fs::write(names_file.path(), hub_names).context("write a file of host names")?;
        let mut lab = Self {
            names_file,
            namespaces: Vec::new(),
            hosts: Vec::new(),
        };
        lab.add_hub(&format!("{prefix}-hub"))?;
        for guest in 0..guests {
            lab.add_guest(&format!("{prefix}-guest{guest}"), guest)?;
        }
        lab.wait_for_ways()?;
        Ok(Some(lab))
    }

    /// The same, where programs can be attached to interfaces, which takes more than to be root in
    /// a namespace of users.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_programs(guests: u8) -> Result<Option<Self>> {
        if geteuid().is_root() && !may_load_programs()? {
            let reason = "programs in the kernel need CAP_BPF and CAP_NET_ADMIN, of the machine";
            ensure!(env::var("CI").as_deref() != Ok("true"), "{reason}");
            eprintln!("SKIPPED: {reason}");
            return Ok(None);
        }
        Self::new(guests)
    }

    /// The kernel brings up a link some time after it was told to, a second or more on a busy
    /// machine, and drops what is sent before. A client whose first packet to the tracker is
    /// dropped may try again after a minute.
    fn wait_for_ways(&self) -> Result<()> {
        let [hub, guests @ ..] = self.hosts.as_slice() else {
            return Ok(());
        };
        for guest in guests {
            for family in [Family::V4, Family::V6] {
                let (guest_ip, hub_ip) = (guest.ip(family), hub.ip(family));
                let what = format!("{guest_ip} reaches {hub_ip}");
                wait::until(&what, WAYS_LIMIT, || {
                    Ok(guest.reaches(hub_ip)?.then_some(()))
                })?;
            }
        }
        Ok(())
    }

    /// The host in the middle.
    #[must_use]
    pub fn hub(&self) -> &Host {
        &self.hosts[0]
    }

    /// One of the others, counted from 0.
    #[must_use]
    pub fn guest(&self, number: usize) -> &Host {
        &self.hosts[1 + number]
    }

    /// The name by which every host of the lab finds the hub's first address of one family.
    #[must_use]
    pub fn hub_name(family: Family) -> &'static str {
        match family {
            Family::V4 => HUB_NAME_V4,
            Family::V6 => HUB_NAME_V6,
        }
    }

    /// The hub by its other address: it has two of each family.
    #[must_use]
    pub fn hub_by_second_address(&self) -> Host {
        self.host(&self.namespaces[0], HUB_SECOND)
    }

    fn add_hub(&mut self, name: &str) -> Result<()> {
        self.add_namespace(name, 1)?;
        ip(name, "link add bridge0 type bridge")?;
        add_addresses(name, "bridge0", 1)?;
        add_addresses(name, "bridge0", HUB_SECOND)?;
        ip(name, "link set bridge0 up")
    }

    fn add_guest(&mut self, name: &str, guest: u8) -> Result<()> {
        let hub = self.namespaces[0].clone();
        let host_number = 2 + guest;
        self.add_namespace(name, host_number)?;
        ip(
            &hub,
            &format!("link add guest{guest} type veth peer name eth0 netns {name}"),
        )?;
        ip(&hub, &format!("link set guest{guest} master bridge0 up"))?;
        add_addresses(name, "eth0", host_number)?;
        ip(name, "link set eth0 up")?;
        // Clients look for their own address by the way that leads out, so there must be one.
        ip(name, &format!("route add default via {}", v4(1)))?;
        ip(name, &format!("-6 route add default via {}", v6(1)))
    }

    fn add_namespace(&mut self, name: &str, host_number: u8) -> Result<()> {
        run(&["netns", "add", name])?;
        self.namespaces.push(name.to_owned());
        self.hosts.push(self.host(name, host_number));
        ip(name, "link set lo up")
    }

    fn host(&self, namespace: &str, host_number: u8) -> Host {
        let names_file = self.names_file.path().to_owned();
        Host::in_namespace(
            namespace.to_owned(),
            names_file,
            v4(host_number),
            v6(host_number),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.namespaces {
            if let Err(error) = run(&["netns", "delete", name]) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn may_load_programs() -> Result<bool> {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_BPF: u32 = 39;
    let users = fs::read_to_string("/proc/self/uid_map").context("read a map of users")?;
    let users: Vec<&str> = users.split_whitespace().collect();
    let status = fs::read_to_string("/proc/self/status").context("read what this process may")?;
    let mut lines = status.lines();
    let rights = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.context("no line of capabilities")?;
    let rights = u64::from_str_radix(rights.trim(), 16).context("read capabilities")?;
    let has = |capability: u32| rights >> capability & 1 == 1;
    Ok(users == ["0", "0", "4294967295"] && has(CAP_NET_ADMIN) && has(CAP_BPF))
}

fn v4(host_number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host_number)
}

fn v6(host_number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, host_number.into())
}

/// `nodad`: without it an IPv6 address is unusable for seconds (duplicate address detection).
fn add_addresses(name: &str, interface: &str, host_number: u8) -> Result<()> {
    ip(
        name,
        &format!("address add {}/24 dev {interface}", v4(host_number)),
    )?;
    ip(
        name,
        &format!("address add {}/64 dev {interface} nodad", v6(host_number)),
    )
}

fn ip(namespace: &str, arguments: &str) -> Result<()> {
    let words: Vec<&str> = ["-n", namespace]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    run(&words)
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot start `ip` (package iproute2; scripts/test.sh installs it)")?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ip {}: {reason}",
        arguments.join(" ")
    );
    Ok(())
}
