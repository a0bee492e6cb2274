//! Interfaces that a program may be attached to, and what speaks against it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::af_xdp::receive_queues;
use crate::kernel;
use crate::told::AttachMode;

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    /// The one of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> io::Result<Self> {
        let index = kernel::interface_index(name)?;
        Ok(Self {
            name: name.to_owned(),
            index,
        })
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many queues it receives by: it spreads datagrams over them.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn receive_queues(&self) -> io::Result<u32> {
        receive_queues(&self.name)
    }

    /// Bytes of the largest packet that it sends.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn mtu(&self) -> io::Result<usize> {
        let text = fs::read_to_string(self.path().join("mtu"))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// The modes to be tried, the best one first. The driver of a card runs a program itself; that
    /// of an interface without one (veth, bridge, tunnel, loopback) may say that it does and lose
    /// the answers, as veth does whose other end has no program.
    #[must_use]
    pub fn modes(&self) -> &'static [AttachMode] {
        match self.path().join("device").exists() {
            true => &[AttachMode::Native, AttachMode::Generic],
            false => &[AttachMode::Generic],
        }
    }

    /// Whether its driver is known to lose answers of a native program, without a program at its
    /// other end.
    #[must_use]
    pub fn is_veth(&self) -> bool {
        kernel::driver(&self.name).is_ok_and(|driver| driver == "veth")
    }

    /// An interface for a VLAN above this one whose tags the card takes off: a program would answer
    /// what comes there without the tag.
    #[must_use]
    pub fn stripped_vlan(&self) -> Option<String> {
        let vlan = self.vlans().into_iter().next()?;
        // If it cannot be asked it is not the driver of a card.
        let strips = kernel::strips_tags(&self.name).unwrap_or(false);
        strips.then_some(vlan)
    }

    /// Interfaces for VLANs above this one.
    fn vlans(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path()) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let above = names.filter_map(|name| Some(name.strip_prefix("upper_")?.to_owned()));
        above.filter(|name| is_vlan(&path_of(name))).collect()
    }

    fn path(&self) -> PathBuf {
        path_of(&self.name)
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn is_vlan(path: &Path) -> bool {
    let event = fs::read_to_string(path.join("uevent"));
    event.is_ok_and(|text| says_vlan(&text))
}

fn says_vlan(event: &str) -> bool {
    event.lines().any(|line| line == "DEVTYPE=vlan")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_for_a_vlan_says_so() {
        let event = "DEVTYPE=vlan\nINTERFACE=eth0.7\nIFINDEX=5\n";
        assert!(says_vlan(event));
        assert!(!says_vlan("INTERFACE=vlan\nIFINDEX=5\n"));
    }

    #[test]
    fn interfaces_are_known_by_name() {
        let loopback = Interface::named("lo").unwrap();
        assert_eq!(loopback.modes(), [AttachMode::Generic]);
        assert!(!loopback.is_veth());
        assert_eq!(loopback.stripped_vlan(), None);
        assert_eq!(loopback.receive_queues().unwrap(), 1);
        assert_eq!(loopback.mtu().unwrap(), 65_536);
        for name in ["", "no-such-one", "../lo", "a\0b", &"x".repeat(100)] {
            assert!(Interface::named(name).is_err(), "{name:?}");
        }
    }
}
