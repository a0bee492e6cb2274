//! Interfaces that a program may be attached to, and what speaks against it.

use std::fs;
use std::io;

use crate::kernel::{self, QueueNumbers};
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

    /// How many queues it has: it spreads datagrams over them. `None`: it does not say.
    #[must_use]
    pub fn queues(&self) -> Option<QueueNumbers> {
        let queues = kernel::queues(&self.name).ok();
        queues.filter(|queues| queues.receive > 0)
    }

    /// Whether its frames begin with a header of Ethernet. Those of tunnels of IP, or of a modem,
    /// do not: a program understands none of them.
    #[must_use]
    pub fn has_ethernet(&self) -> bool {
        let hardware = kernel::hardware(&self.name);
        hardware.is_ok_and(|it| matches!(it, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK))
    }

    /// Bytes of the largest packet that it sends.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn mtu(&self) -> io::Result<usize> {
        usize::try_from(kernel::mtu(&self.name)?).map_err(io::Error::other)
    }

    /// The modes to be tried, the best one first. The driver of a card runs a program itself; that
    /// of an interface without one (veth, bridge, tunnel, loopback) may say that it does and lose
    /// the answers, as veth does whose other end has no program.
    #[must_use]
    pub fn modes(&self) -> &'static [AttachMode] {
        match kernel::driver(&self.name) {
            Ok(driver) if is_place(&driver.bus) => &[AttachMode::Native, AttachMode::Generic],
            _ => &[AttachMode::Generic],
        }
    }

    /// Whether its driver is known to lose answers of a native program, without a program at its
    /// other end.
    #[must_use]
    pub fn is_veth(&self) -> bool {
        kernel::driver(&self.name).is_ok_and(|driver| driver.name == "veth")
    }

    /// An interface for a VLAN above this one whose tags the card takes off: a program would answer
    /// what comes there without the tag.
    #[must_use]
    pub fn stripped_vlan(&self) -> Option<String> {
        // Without the kernel's part for VLANs there is no such file.
        let vlans = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
        let vlan = vlan_above(&self.name, &vlans)?;
        // If it cannot be asked it is not the driver of a card.
        let strips = kernel::strips_tags(&self.name).unwrap_or(false);
        strips.then(|| vlan.to_owned())
    }
}

/// Whether a driver names the place of a card, such as `0000:00:04.0` or `virtio0`. Others say
/// nothing, `N/A` (bridge), or `tun`.
fn is_place(bus: &str) -> bool {
    bus.contains(|it: char| it.is_ascii_digit())
}

/// An interface for a VLAN above this one, in the list of all: `eth0.7 | 7 | eth0`.
fn vlan_above<'a>(name: &str, vlans: &'a str) -> Option<&'a str> {
    vlans.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let vlan = columns.next()?;
        (columns.nth(1)? == name).then_some(vlan)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_for_a_vlan_is_in_the_list() {
        let vlans = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                     eth0.7         | 7  | eth0\neth1.8         | 8  | eth1\n";
        assert_eq!(vlan_above("eth1", vlans), Some("eth1.8"));
        assert_eq!(vlan_above("eth0", vlans), Some("eth0.7"));
        assert_eq!(vlan_above("eth", vlans), None);
        assert_eq!(vlan_above("eth0", ""), None);
    }

    #[test]
    fn a_card_has_a_place() {
        let places = ["0000:00:04.0", "virtio0", "vif-0", "", "N/A", "tun", "tap"];
        let expected = [true, true, true, false, false, false, false];
        assert_eq!(places.map(is_place), expected);
    }

    #[test]
    fn interfaces_are_known_by_name() {
        let loopback = Interface::named("lo").unwrap();
        assert_eq!(loopback.modes(), [AttachMode::Generic]);
        assert!(!loopback.is_veth());
        assert_eq!(loopback.stripped_vlan(), None);
        assert!(loopback.has_ethernet());
        assert_eq!(loopback.mtu().unwrap(), 65_536);
        for name in ["", "no-such-one", "../lo", "a\0b", &"x".repeat(100)] {
            assert!(Interface::named(name).is_err(), "{name:?}");
        }
    }
}
