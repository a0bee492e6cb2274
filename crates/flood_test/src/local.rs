//! Loopback addresses: nothing here leaves the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use socket2::{Domain, Protocol, Socket, Type};

/// Fails unless the tracker listens at an IPv4 loopback address.
///
/// # Errors
/// If another machine could be hit.
pub fn require_loopback(tracker: SocketAddr) -> anyhow::Result<()> {
    let is_allowed = matches!(tracker.ip(), IpAddr::V4(ip) if ip.is_loopback());
    ensure!(
        is_allowed,
        "the tracker must listen at an IPv4 loopback address, such as 127.0.0.1, not at {tracker}: \
         floods are not for other machines"
    );
    Ok(())
}

/// The address of one of 65,000 honest clients: 127.1.x.y.
#[must_use]
pub fn honest(number: u32) -> Ipv4Addr {
    within(Ipv4Addr::new(127, 1, 0, 0), number)
}

/// The address of one of 65,000 attackers: 127.2.x.y.
#[must_use]
pub fn attacker(number: u32) -> Ipv4Addr {
    within(Ipv4Addr::new(127, 2, 0, 0), number)
}

/// Leaves out x.y.0.0.
fn within(network: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() | (number % 0xfffe + 1))
}

/// A socket at an address of this machine.
///
/// # Errors
/// If the kernel refuses, such as when files have run out.
pub fn socket(from: Ipv4Addr, kind: Type) -> std::io::Result<Socket> {
    let protocol = match kind {
        Type::STREAM => Protocol::TCP,
        _ => Protocol::UDP,
    };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    if kind == Type::STREAM {
        // A reset at the end, so that no ports wait for late segments.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_refused() {
        for address in ["127.0.0.1:1", "127.9.9.9:3000"] {
            require_loopback(address.parse().unwrap()).unwrap();
        }
        for address in ["10.0.0.1:1", "192.0.2.1:80", "0.0.0.0:3", "[2001:db8::1]:1"] {
            let error = require_loopback(address.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(address), "{error}");
        }
    }

    #[test]
    fn attackers_and_honest_clients_never_share_an_address() {
        assert_eq!(attacker(0), Ipv4Addr::new(127, 2, 0, 1));
        assert_eq!(honest(0), Ipv4Addr::new(127, 1, 0, 1));
        for number in [1, 300, 9_999, 65_533, 65_534, 70_000, u32::MAX] {
            assert_eq!(attacker(number).octets()[..2], [127, 2]);
            assert_eq!(honest(number).octets()[..2], [127, 1]);
        }
    }

    #[test]
    fn ten_thousand_sources_are_different() {
        let mut sources: Vec<_> = (0..10_000).map(attacker).collect();
        sources.dedup();
        assert_eq!(sources.len(), 10_000);
    }
}
