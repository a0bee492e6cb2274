//! Addresses of peers: canonical (for deciding) and compact (for the wire and for the swarm).

use std::fmt::{self, Debug, Display, Formatter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::{IpFamily, PerFamily};

/// A socket address in which an IPv4-mapped IPv6 address has become the IPv4 address it stands for.
///
/// Every address that comes from outside passes through here once, so that an IPv4 client of an
/// IPv6 socket is an IPv4 peer everywhere: in logs, counts and answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanonicalAddr(SocketAddr);

impl CanonicalAddr {
    /// Undoes an IPv4-mapped address; leaves any other as it is.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(_) => Self(addr),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => Self(SocketAddr::V4(SocketAddrV4::new(v4, v6.port()))),
                None => Self(addr),
            },
        }
    }

    /// The address, never IPv4-mapped.
    #[must_use]
    pub fn get(self) -> SocketAddr {
        self.0
    }

    /// The host part, never IPv4-mapped.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// Which family the peer belongs to.
    #[must_use]
    pub fn family(self) -> IpFamily {
        IpFamily::of(&self.0)
    }
}

impl From<SocketAddr> for CanonicalAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}

impl Debug for CanonicalAddr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Display for CanonicalAddr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// Who counts as one client where something is limited per client: an IPv4 address, or the /64
/// network of an IPv6 address.
///
/// A /64 is what one subscriber gets: each of its 2^64 addresses would be a client of its own
/// otherwise. An IPv4-mapped address is the IPv4 address.
#[must_use]
pub fn client_network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IPV4_PREFIX | u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u64::try_from(u128::from(ip) >> 64).unwrap_or(u64::MAX),
    }
}

/// How many times as much as one client the /48 network of an IPv6 client may have, where something
/// is limited per client ([`client_site`]).
///
/// Providers delegate a /56 or a /48 to a customer, of 256 or 65,536 /64 networks (RFC 6177, RIPE
/// 690), and hosters give away a /48 with a server. Without a limit on those, whoever has one is
/// 65,536 clients. But an office, or the telephones of a cell, can share a /48, too: so it has room
/// for several clients that use all they may, and for many that do not.
pub const CLIENTS_PER_SITE: u32 = 16;

/// The /48 network that a client belongs to, if its address is IPv6. `client` is what
/// [`client_network`] says, and both numbers may be kept in one table: they never meet.
#[must_use]
pub fn client_site(client: u64) -> Option<u64> {
    let is_ipv4 = client >> 32 == IPV4_PREFIX >> 32;
    // As the number of a client, the result would be in ::/16, which is not routed: ::1 is there,
    // which has no site.
    let is_routed = client >> 48 != 0;
    (is_routed && !is_ipv4).then_some(client >> 16)
}

/// The widest network that a client can be known by: its [site](client_site), or its own number.
#[must_use]
pub fn site_or_client(client: u64) -> u64 {
    client_site(client).unwrap_or(client)
}

/// The documentation prefix of IPv6 cannot send packets, so it is free to hold IPv4.
const IPV4_PREFIX: u64 = 0x2001_0db8_0000_0000;

/// A peer's address in the form that goes over the wire, so that an answer is made by copying.
///
/// Implemented by [`CompactV4`] and [`CompactV6`].
pub trait CompactAddr: Copy + Eq + Ord + Hash + Debug + Send + 'static {
    /// The host part.
    type Ip: Copy + Into<IpAddr>;

    /// Bytes on the wire: 6 for IPv4, 18 for IPv6.
    const SIZE: usize;

    /// Host and port, both in network byte order when written.
    fn new(ip: Self::Ip, port: u16) -> Self;

    /// The address as a standard library value.
    fn socket_addr(&self) -> SocketAddr;

    /// The [`Self::SIZE`] bytes of the wire form.
    fn as_bytes(&self) -> &[u8];
}

/// An IPv4 peer: 4 bytes of address, 2 of port, big endian (BEP 23).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactV4(pub [u8; 6]);

impl CompactAddr for CompactV4 {
    type Ip = Ipv4Addr;

    const SIZE: usize = 6;

    fn new(ip: Ipv4Addr, port: u16) -> Self {
        let [a, b, c, d] = ip.octets();
        let [hi, lo] = port.to_be_bytes();
        Self([a, b, c, d, hi, lo])
    }

    fn socket_addr(&self) -> SocketAddr {
        let [a, b, c, d, hi, lo] = self.0;
        SocketAddr::new(
            Ipv4Addr::new(a, b, c, d).into(),
            u16::from_be_bytes([hi, lo]),
        )
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for CompactV4 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.socket_addr(), f)
    }
}

/// An IPv6 peer: 16 bytes of address, 2 of port, big endian (BEP 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactV6(pub [u8; 18]);

impl CompactAddr for CompactV6 {
    type Ip = Ipv6Addr;

    const SIZE: usize = 18;

    fn new(ip: Ipv6Addr, port: u16) -> Self {
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..].copy_from_slice(&port.to_be_bytes());
        Self(bytes)
    }

    fn socket_addr(&self) -> SocketAddr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&self.0[..16]);
        let port = u16::from_be_bytes([self.0[16], self.0[17]]);
        SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, 0))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for CompactV6 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.socket_addr(), f)
    }
}

impl<'a> PerFamily<&'a [u8]> {
    /// The addresses in rows of [`CompactV4`] and of [`CompactV6`]; partial rows at the end are
    /// ignored.
    #[inline]
    pub fn socket_addrs(self) -> impl Iterator<Item = SocketAddr> + Clone + use<'a> {
        let v4 = self.v4.as_chunks().0.iter();
        let v6 = self.v6.as_chunks().0.iter();
        v4.map(|row| CompactV4(*row).socket_addr())
            .chain(v6.map(|row| CompactV6(*row).socket_addr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_address_becomes_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:6881".parse().unwrap();
        let canonical = CanonicalAddr::new(mapped);
        assert_eq!(canonical.get(), "192.0.2.7:6881".parse().unwrap());
        assert_eq!(canonical.family(), IpFamily::V4);
    }

    #[test]
    fn other_addresses_stay() {
        // "::192.0.2.7" is the deprecated IPv4-compatible form, which is an IPv6 address.
        for text in ["192.0.2.7:1", "[2001:db8::1]:2", "[::192.0.2.7]:3"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(CanonicalAddr::new(addr).get(), addr);
        }
    }

    #[test]
    fn compact_forms_round_trip() {
        let v4 = CompactV4::new(Ipv4Addr::new(192, 0, 2, 7), 0x1234);
        assert_eq!(v4.as_bytes(), [192, 0, 2, 7, 0x12, 0x34]);
        assert_eq!(v4.socket_addr(), "192.0.2.7:4660".parse().unwrap());

        let v6 = CompactV6::new("2001:db8::1".parse().unwrap(), 0x1234);
        assert_eq!(v6.as_bytes().len(), CompactV6::SIZE);
        assert_eq!(v6.as_bytes()[16..], [0x12, 0x34]);
        assert_eq!(v6.socket_addr(), "[2001:db8::1]:4660".parse().unwrap());
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let client = |ip: &str| client_network(ip.parse().unwrap());
        assert_eq!(client("2001:4860:1:2::1"), client("2001:4860:1:2:ffff::"));
        assert_ne!(client("2001:4860:1:2::1"), client("2001:4860:1:3::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("::192.0.2.1"));
    }

    #[test]
    fn a_site_is_an_ipv6_network_of_many_clients() {
        let site = |ip: &str| client_site(client_network(ip.parse().unwrap()));
        assert_eq!(site("2001:4860:1:2::1"), site("2001:4860:1:ffff::1"));
        assert_ne!(site("2001:4860:1:2::1"), site("2001:4860:2:2::1"));
        assert_eq!(site("192.0.2.1"), None);
        assert_eq!(site("::ffff:192.0.2.1"), None);
        assert_eq!(site("::1"), None);
        let first_of_site = client_network("2001:4860:1::1".parse().unwrap());
        assert_ne!(site("2001:4860:1::1"), Some(first_of_site));
    }
}
