//! Headers in front of a payload.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_TAG, IPV4_BYTES, IPV6_BYTES, Link, Sum, UDP,
    UDP_BYTES,
};

/// How many routers an answer passes at most: what Linux gives packets.
const HOPS_MAX: u8 = 64;

/// Where in a frame the payload starts that [`write_headers`] writes headers in front of.
#[must_use]
pub fn payload_offset(link: &Link, is_ipv6: bool) -> usize {
    let ip_bytes = match is_ipv6 {
        true => IPV6_BYTES,
        false => IPV4_BYTES,
    };
    link.header_bytes() + ip_bytes + UDP_BYTES
}

/// Writes the headers of Ethernet, IP and UDP in front of a payload, which is already where it
/// belongs ([`payload_offset`]), and gives back how long the frame is. All checksums are complete.
/// Packets of IPv4 must not be fragmented on their way (RFC 791), so they need no identification
/// (RFC 6864).
///
/// Nothing is sent to a `link` other than the one that is named: for an answer that is
/// [the reverse](Link::reversed) of the request's.
///
/// `None`: one address is of IPv4 and the other one of IPv6, or the frame has no room for so much.
#[must_use]
pub fn write_headers(
    frame: &mut [u8],
    link: &Link,
    from: SocketAddr,
    to: SocketAddr,
    payload_len: usize,
) -> Option<usize> {
    let end = payload_offset(link, to.is_ipv6()).checked_add(payload_len)?;
    let frame = frame.get_mut(..end)?;
    let udp_len = u16::try_from(UDP_BYTES.checked_add(payload_len)?).ok()?;
    let rest = put(frame, link.to)?;
    let mut rest = put(rest, link.from)?;
    if let Some(tag) = link.tag {
        rest = put(rest, ETHERTYPE_TAG)?;
        rest = put(rest, tag.to_be_bytes())?;
    }
    let (datagram, addresses) = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let rest = put(rest, ETHERTYPE_IPV4)?;
            put_ipv4(rest, *from.ip(), *to.ip(), udp_len)?
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let rest = put(rest, ETHERTYPE_IPV6)?;
            put_ipv6(rest, *from.ip(), *to.ip(), udp_len)?
        }
        _ => return None,
    };
    put_udp(datagram, addresses, [from.port(), to.port(), udp_len])?;
    Some(end)
}

/// Gives back what is after the header, and the sum of the addresses.
fn put_ipv4(
    rest: &mut [u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
    content_len: u16,
) -> Option<(&mut [u8], Sum)> {
    const DO_NOT_FRAGMENT: u8 = 0x40;
    let header_bytes = u16::try_from(IPV4_BYTES).ok()?;
    let [len_high, len_low] = content_len.checked_add(header_bytes)?.to_be_bytes();
    let start = [
        0x45,
        0,
        len_high,
        len_low,
        0,
        0,
        DO_NOT_FRAGMENT,
        0,
        HOPS_MAX,
        UDP,
    ];
    let (from, to) = (from.octets(), to.octets());
    let addresses = Sum::default().add(&from).add(&to);
    let checksum = !addresses.add(&start).fold();
    let rest = put(rest, start)?;
    let rest = put(rest, checksum.to_ne_bytes())?;
    let rest = put(rest, from)?;
    Some((put(rest, to)?, addresses))
}

/// Gives back what is after the header, and the sum of the addresses.
fn put_ipv6(
    rest: &mut [u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    content_len: u16,
) -> Option<(&mut [u8], Sum)> {
    let [len_high, len_low] = content_len.to_be_bytes();
    let (from, to) = (from.octets(), to.octets());
    let rest = put(rest, [0x60, 0, 0, 0, len_high, len_low, UDP, HOPS_MAX])?;
    let rest = put(rest, from)?;
    let rest = put(rest, to)?;
    Some((rest, Sum::default().add(&from).add(&to)))
}

/// `words` are ports and length.
fn put_udp(datagram: &mut [u8], addresses: Sum, words: [u16; 3]) -> Option<()> {
    let [from, to, len] = words.map(u16::to_be_bytes);
    let header = [from[0], from[1], to[0], to[1], len[0], len[1]];
    let payload = datagram.get(UDP_BYTES..)?;
    let sum = addresses.add(&[0, UDP, len[0], len[1]]);
    let checksum = match !sum.add(&header).add(payload).fold() {
        // 0 says that there is none. It is the same number in one's complement.
        0 => 0xffff,
        checksum => checksum,
    };
    let rest = put(datagram, header)?;
    put(rest, checksum.to_ne_bytes())?;
    Some(())
}

/// Writes the first bytes, and gives back the others.
fn put<const N: usize>(bytes: &mut [u8], value: [u8; N]) -> Option<&mut [u8]> {
    let (first, rest) = bytes.split_first_chunk_mut::<N>()?;
    *first = value;
    Some(rest)
}
