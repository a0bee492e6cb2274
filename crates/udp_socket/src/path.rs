//! Where an answer goes and where it comes from.

use std::fmt::{self, Debug, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the largest socket address we meet, `sockaddr_in6`. A `sockaddr_in` takes 16 of them.
pub(crate) const SOCKADDR_BYTES: usize = 28;
#[cfg(target_os = "linux")]
const SOCKADDR_V4_BYTES: usize = 16;

#[expect(
    clippy::cast_possible_truncation,
    reason = "a small number in every C library"
)]
const FAMILY_V4: u16 = libc::AF_INET as u16;
#[expect(
    clippy::cast_possible_truncation,
    reason = "a small number in every C library"
)]
const FAMILY_V6: u16 = libc::AF_INET6 as u16;

/// One of the host's own addresses: the one that a request was sent to, so that its answer can
/// leave from there. A client (or a NAT on the way) drops an answer from any other address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddr {
    /// The address.
    pub ip: IpAddr,
    /// The interface that `ip` belongs to, or 0 to let the routing table choose. Only a link-local
    /// IPv6 address needs it: elsewhere it would forbid an answer to take another way back.
    pub interface: u32,
}

/// The way back to whoever sent a datagram: the peer's address and, if the socket is bound to the
/// unspecified address, the local address that was asked.
///
/// 52 bytes, with the peer already in the form that the kernel reads (on Linux), so that a batch of
/// answers is sent without converting addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReturnPath {
    /// `sockaddr_in` or `sockaddr_in6` as Linux lays them out; what is not used is zero.
    sockaddr: [u8; SOCKADDR_BYTES],
    local: Option<LocalAddr>,
}

impl ReturnPath {
    /// To `peer`, from the address that the socket is bound to or that the kernel chooses.
    #[must_use]
    pub fn to(peer: SocketAddr) -> Self {
        Self {
            sockaddr: encode(peer),
            local: None,
        }
    }

    /// The same way, but leaving from `local`.
    #[must_use]
    pub fn from_local(self, local: Option<LocalAddr>) -> Self {
        Self { local, ..self }
    }

    /// Takes over an address that the kernel wrote. `None` if it is neither IPv4 nor IPv6, or
    /// short.
    #[cfg(target_os = "linux")]
    pub(crate) fn from_sockaddr(bytes: &[u8]) -> Option<Self> {
        let len = sockaddr_len(bytes)?;
        let mut sockaddr = [0; SOCKADDR_BYTES];
        sockaddr.get_mut(..len)?.copy_from_slice(bytes.get(..len)?);
        Some(Self {
            sockaddr,
            local: None,
        })
    }

    /// Who gets the answer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        let [_, _, p0, p1, rest @ ..] = &self.sockaddr;
        let port = u16::from_be_bytes([*p0, *p1]);
        let [a, b, c, d, rest @ ..] = rest;
        if self.is_ipv4() {
            return SocketAddrV4::new(Ipv4Addr::new(*a, *b, *c, *d), port).into();
        }
        let (ip, scope) = rest.split_at(16);
        let ip: [u8; 16] = ip.try_into().unwrap_or_default();
        let scope = u32::from_ne_bytes(scope.try_into().unwrap_or_default());
        SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into()
    }

    /// The local address that the answer leaves from; `None`: the kernel's choice.
    #[must_use]
    pub fn local(&self) -> Option<LocalAddr> {
        self.local
    }

    /// The peer's address as `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes).
    #[cfg(target_os = "linux")]
    pub(crate) fn sockaddr(&self) -> &[u8] {
        let len = if self.is_ipv4() {
            SOCKADDR_V4_BYTES
        } else {
            SOCKADDR_BYTES
        };
        self.sockaddr.get(..len).unwrap_or_default()
    }

    fn is_ipv4(&self) -> bool {
        family(&self.sockaddr) == Some(FAMILY_V4)
    }
}

impl Debug for ReturnPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturnPath")
            .field("peer", &self.peer())
            .field("local", &self.local)
            .finish()
    }
}

fn family(sockaddr: &[u8]) -> Option<u16> {
    sockaddr.first_chunk().copied().map(u16::from_ne_bytes)
}

#[cfg(target_os = "linux")]
fn sockaddr_len(sockaddr: &[u8]) -> Option<usize> {
    match family(sockaddr)? {
        FAMILY_V4 => Some(SOCKADDR_V4_BYTES),
        FAMILY_V6 => Some(SOCKADDR_BYTES),
        _ => None,
    }
}

fn encode(peer: SocketAddr) -> [u8; SOCKADDR_BYTES] {
    let mut bytes = [0; SOCKADDR_BYTES];
    let family = if peer.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 };
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&peer.port().to_be_bytes());
    match peer {
        SocketAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.ip().octets()),
        SocketAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small() {
        assert!(size_of::<ReturnPath>() <= 56);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peer_survives() {
        for text in ["192.0.2.7:6881", "[2001:db8::7]:6881", "[fe80::1%3]:1"] {
            let peer: SocketAddr = text.parse().unwrap();
            let path = ReturnPath::to(peer);
            assert_eq!(path.peer(), peer);
            let again = ReturnPath::from_sockaddr(path.sockaddr()).unwrap();
            assert_eq!(again, path);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn matches_the_layout_of_the_c_library() {
        let v4 = ReturnPath::to("192.0.2.7:258".parse().unwrap());
        assert_eq!(v4.sockaddr().len(), size_of::<libc::sockaddr_in>());
        assert_eq!(v4.sockaddr()[2..8], [1, 2, 192, 0, 2, 7]);
        let v6 = ReturnPath::to("[2001:db8::7]:258".parse().unwrap());
        assert_eq!(v6.sockaddr().len(), size_of::<libc::sockaddr_in6>());
        assert_eq!(v6.sockaddr()[2..4], [1, 2]);
        assert_eq!(v6.sockaddr()[8..12], [0x20, 0x01, 0x0d, 0xb8]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn refuses_what_is_no_internet_address() {
        assert_eq!(ReturnPath::from_sockaddr(&[]), None);
        assert_eq!(ReturnPath::from_sockaddr(&[0; 28]), None);
        let path = ReturnPath::to("[2001:db8::7]:258".parse().unwrap());
        assert_eq!(ReturnPath::from_sockaddr(&path.sockaddr()[..27]), None);
    }
}
