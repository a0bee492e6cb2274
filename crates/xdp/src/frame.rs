//! Ethernet frames with UDP datagrams in them, to values and back.
//!
//! What comes by a queue of an interface ([`af_xdp`](crate::af_xdp)) has not been seen by the
//! kernel's own stack, and what is sent there will not be either. So what the stack would have
//! checked is checked here ([`parse`]), and the headers that it would have written are written here
//! ([`write_headers`]). An answer takes the way by which its request came ([`Link::reversed`]): no
//! table of routes or neighbours is asked.
//!
//! On purpose there are no fragments, options, extension headers or nested tags here: no client of
//! a tracker needs them. A program before the queue had better leave them to the kernel.
//!
//! A tag that the network card has taken off (`rxvlan` of `ethtool -k`) is in no frame, so answers
//! would lack it: where tags are in use, the card has to leave them in.

mod checksum;
#[cfg(test)]
mod tests;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use checksum::Sum;
pub use write::{payload_offset, write_headers};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802.1Q.
const ETHERTYPE_TAG: [u8; 2] = [0x81, 0x00];

const ETHERNET_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;

/// The number of UDP in the headers of IP.
const UDP: u8 = 17;

/// What the sums of no part that is good amount to: all ones is minus zero.
const ALL_ONES: u16 = 0xffff;

/// The bit of a MAC address, in its first byte, that makes it one of several machines.
const GROUP: u8 = 1;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// MAC address of the sender.
    pub from: [u8; 6],
    /// MAC address of the receiver.
    pub to: [u8; 6],
    /// Priority and number of the virtual network (tag control information of IEEE 802.1Q), if the
    /// frame has a tag.
    pub tag: Option<u16>,
}

impl Link {
    /// What the answer to a frame has.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            tag: self.tag,
        }
    }

    fn header_bytes(&self) -> usize {
        match self.tag {
            Some(_) => ETHERNET_BYTES + TAG_BYTES,
            None => ETHERNET_BYTES,
        }
    }
}

/// A UDP datagram in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The header of the frame.
    pub link: Link,
    /// Address and port of the sender. An IPv6 address has neither flow nor scope.
    pub from: SocketAddr,
    /// Address and port of the receiver.
    pub to: SocketAddr,
    /// Which bytes of the frame are the payload.
    pub payload: Range<usize>,
}

/// Why a frame is none with a UDP datagram that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// It ends within a header, or before the packet in it does.
    TooShort,
    /// The frame is from or to a group of machines, not one.
    GroupFrame,
    /// It has neither IPv4 nor IPv6 in it, or more than one tag.
    NotIp,
    /// No UDP directly follows a header of IP without options.
    NotUdp,
    /// It is a part of a packet.
    Fragment,
    /// The lengths in its headers do not agree.
    WrongLength,
    /// The checksum of the IPv4 header is wrong.
    WrongHeaderChecksum,
    /// The checksum of the UDP datagram is wrong, or lacks over IPv6.
    WrongChecksum,
    /// No answer can be sent: an address is a group's, nobody's, the loopback address or, over
    /// IPv6, one of IPv4; or a port is 0.
    WrongAddress,
}

impl Refused {
    /// All reasons, in the order of [`index`](Self::index).
    pub const ALL: [Self; 9] = [
        Self::TooShort,
        Self::GroupFrame,
        Self::NotIp,
        Self::NotUdp,
        Self::Fragment,
        Self::WrongLength,
        Self::WrongHeaderChecksum,
        Self::WrongChecksum,
        Self::WrongAddress,
    ];

    /// The place of this in an array with a counter for each.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Takes a frame apart and checks it.
///
/// A UDP checksum is good if it is complete and right, if there is none over IPv4 (RFC 768), or if
/// it covers the addresses only: that is how frames look whose sums a network card was to complete,
/// and that never passed one, since they come from the same machine.
///
/// # Errors
/// If it is none with a UDP datagram, or a damaged one.
pub fn parse(frame: &[u8]) -> Result<Datagram, Refused> {
    let (to, rest) = take::<6>(frame)?;
    let (from, rest) = take::<6>(rest)?;
    let (mut ethertype, mut rest) = take::<2>(rest)?;
    let mut link = Link {
        from,
        to,
        tag: None,
    };
    if ethertype == ETHERTYPE_TAG {
        let (tag, after) = take::<2>(rest)?;
        link.tag = Some(u16::from_be_bytes(tag));
        (ethertype, rest) = take::<2>(after)?;
    }
    if (from[0] | to[0]) & GROUP != 0 {
        return Err(Refused::GroupFrame);
    }
    let packet = match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(rest)?,
        ETHERTYPE_IPV6 => parse_ipv6(rest)?,
        _ => return Err(Refused::NotIp),
    };
    let (from_port, to_port) = check_udp(&packet)?;
    if !packet.can_be_answered() || from_port == 0 || to_port == 0 {
        return Err(Refused::WrongAddress);
    }
    let start = link.header_bytes() + packet.header_bytes() + UDP_BYTES;
    Ok(Datagram {
        link,
        from: SocketAddr::new(packet.from, from_port),
        to: SocketAddr::new(packet.to, to_port),
        payload: start..start + packet.content.len().saturating_sub(UDP_BYTES),
    })
}

/// What is in a packet of IP.
struct Packet<'a> {
    from: IpAddr,
    to: IpAddr,
    /// Sum of both addresses.
    addresses: Sum,
    content: &'a [u8],
}

impl Packet<'_> {
    fn header_bytes(&self) -> usize {
        match self.from {
            IpAddr::V4(_) => IPV4_BYTES,
            IpAddr::V6(_) => IPV6_BYTES,
        }
    }

    /// What the kernel drops because of its addresses, and what no tracker is reached by.
    fn can_be_answered(&self) -> bool {
        [self.from, self.to].iter().all(|ip| {
            let is_special = ip.is_multicast() || ip.is_unspecified() || ip.is_loopback();
            !is_special && !is_foreign(*ip)
        })
    }
}

/// Addresses that mean something else than what they say: "this network" and "everybody here" of
/// IPv4; and over IPv6, which is checked by other rules, those of IPv4.
fn is_foreign(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    }
}

fn parse_ipv4(bytes: &[u8]) -> Result<Packet<'_>, Refused> {
    let (header, after) = take::<IPV4_BYTES>(bytes)?;
    let [version, _, len @ ..] = header;
    let [len_high, len_low, _, _, fragment_high, fragment_low, ..] = len;
    match version {
        0x45 => {}
        0x46..=0x4f => return Err(Refused::NotUdp),
        _ => return Err(Refused::NotIp),
    }
    if Sum::default().add(&header).fold() != ALL_ONES {
        return Err(Refused::WrongHeaderChecksum);
    }
    // Neither a part that others follow, nor one that follows others.
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(Refused::Fragment);
    }
    if header[9] != UDP {
        return Err(Refused::NotUdp);
    }
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let len = len.checked_sub(IPV4_BYTES).ok_or(Refused::WrongLength)?;
    let (_, addresses) = take::<12>(&header)?;
    let (from, to) = take::<4>(addresses)?;
    let (to, _) = take::<4>(to)?;
    Ok(Packet {
        from: Ipv4Addr::from(from).into(),
        to: Ipv4Addr::from(to).into(),
        addresses: Sum::default().add(&from).add(&to),
        // Short packets are filled up to the least length that a frame has.
        content: after.get(..len).ok_or(Refused::TooShort)?,
    })
}

fn parse_ipv6(bytes: &[u8]) -> Result<Packet<'_>, Refused> {
    let (start, rest) = take::<8>(bytes)?;
    let [version, _, _, _, len_high, len_low, next, _] = start;
    let (from, rest) = take::<16>(rest)?;
    let (to, after) = take::<16>(rest)?;
    if version >> 4 != 6 {
        return Err(Refused::NotIp);
    }
    if next != UDP {
        // Fragments are marked by a header of their own.
        return Err(match next {
            44 => Refused::Fragment,
            _ => Refused::NotUdp,
        });
    }
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    Ok(Packet {
        from: Ipv6Addr::from(from).into(),
        to: Ipv6Addr::from(to).into(),
        addresses: Sum::default().add(&from).add(&to),
        content: after.get(..len).ok_or(Refused::TooShort)?,
    })
}

/// Gives back the ports, of the sender and of the receiver.
fn check_udp(packet: &Packet<'_>) -> Result<(u16, u16), Refused> {
    // The frame is long enough for the packet, so the packet is not for this header.
    let (header, _) = take::<UDP_BYTES>(packet.content).map_err(|_| Refused::WrongLength)?;
    let [from_high, from_low, to_high, to_low, len_high, len_low, ..] = header;
    let len = u16::from_be_bytes([len_high, len_low]);
    if usize::from(len) != packet.content.len() {
        return Err(Refused::WrongLength);
    }
    let checksum = [header[6], header[7]];
    let is_good = match checksum {
        [0, 0] => packet.from.is_ipv4(),
        _ => {
            let pseudo_header = packet.addresses.add(&[0, UDP, len_high, len_low]);
            pseudo_header.add(packet.content).fold() == ALL_ONES
                || pseudo_header.fold().to_ne_bytes() == checksum
        }
    };
    if !is_good {
        return Err(Refused::WrongChecksum);
    }
    Ok((
        u16::from_be_bytes([from_high, from_low]),
        u16::from_be_bytes([to_high, to_low]),
    ))
}

/// The first bytes, and those after them.
fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Refused> {
    match bytes.split_first_chunk::<N>() {
        Some((first, rest)) => Ok((*first, rest)),
        None => Err(Refused::TooShort),
    }
}
