//! The layouts in which Linux hands over addresses and packet info, for every backend that talks to
//! the kernel in messages (`recvmsg(2)`, `sendmsg(2)` and their kin).
//!
//! Everything here is bytes in and out: no pointer is followed and no alignment assumed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{LocalAddr, ReturnPath};

/// Room for the address of a peer of either family (`sockaddr_in6`).
pub const SOCKADDR_BYTES: usize = crate::path::SOCKADDR_BYTES;

/// Room for one control message with packet info of either family.
pub const CONTROL_BYTES: usize = aligned(HEADER_BYTES + IN6_PKTINFO_BYTES);

// `struct cmsghdr`: total length (a C long), level, type (ints); then the data; each part aligned
// to a C long. See cmsg(3).
const LEN_BYTES: usize = size_of::<usize>();
const HEADER_BYTES: usize = aligned(LEN_BYTES + 8);
// `struct in_pktinfo`: interface, local address, destination. See ip(7).
const IN_PKTINFO_BYTES: usize = 12;
// `struct in6_pktinfo`: address, interface. See RFC 3542, section 6.
const IN6_PKTINFO_BYTES: usize = 20;

const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(LEN_BYTES)
}

/// A buffer for control messages, aligned as the kernel's interface asks.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Control(pub [u8; CONTROL_BYTES]);

impl Default for Control {
    fn default() -> Self {
        Self([0; CONTROL_BYTES])
    }
}

fn write_packet_info(out: &mut [u8], local: LocalAddr) -> usize {
    let (level, kind, data_bytes) = match local.ip {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, IN_PKTINFO_BYTES),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, IN6_PKTINFO_BYTES),
    };
    let data = write_header(out, level, kind, data_bytes);
    let interface = local.interface.to_ne_bytes();
    match local.ip {
        IpAddr::V4(ip) => {
            data[..4].copy_from_slice(&interface);
            data[4..8].copy_from_slice(&ip.octets());
            data[8..12].fill(0);
        }
        IpAddr::V6(ip) => {
            data[..16].copy_from_slice(&ip.octets());
            data[16..20].copy_from_slice(&interface);
        }
    }
    aligned(HEADER_BYTES + data_bytes)
}

/// Writes a `cmsghdr`, and gives back the room for its data.
fn write_header(out: &mut [u8], level: i32, kind: i32, data_bytes: usize) -> &mut [u8] {
    let (header, data) = out.split_at_mut(HEADER_BYTES);
    let (len, rest) = header.split_at_mut(LEN_BYTES);
    len.copy_from_slice(&(HEADER_BYTES + data_bytes).to_ne_bytes());
    rest[..4].copy_from_slice(&level.to_ne_bytes());
    rest[4..8].copy_from_slice(&kind.to_ne_bytes());
    data
}

/// Room for all control messages that a packet can be sent with: where it leaves from, and the size
/// of the packets that a message is to be cut into.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct SendControl(pub [u8; CONTROL_BYTES + SEGMENT_BYTES]);

// The size of a segment is a 16-bit number. See udp(7).
const SEGMENT_BYTES: usize = aligned(HEADER_BYTES + size_of::<u16>());

impl Default for SendControl {
    fn default() -> Self {
        Self([0; CONTROL_BYTES + SEGMENT_BYTES])
    }
}

impl SendControl {
    /// Writes what is wanted, and gives back how many bytes of it are to be passed on.
    /// `segment_bytes` must be less than 65,536.
    pub fn write(&mut self, local: Option<LocalAddr>, segment_bytes: Option<usize>) -> usize {
        let local_bytes = local.map_or(0, |local| write_packet_info(&mut self.0, local));
        let Some(segment_bytes) = segment_bytes else {
            return local_bytes;
        };
        let segment_bytes = u16::try_from(segment_bytes).unwrap_or(u16::MAX);
        let rest = &mut self.0[local_bytes..];
        let data = write_header(rest, libc::SOL_UDP, libc::UDP_SEGMENT, size_of::<u16>());
        data[..2].copy_from_slice(&segment_bytes.to_ne_bytes());
        local_bytes + SEGMENT_BYTES
    }
}

/// The address of the peer, as the kernel reads it: 16 or 28 bytes.
#[must_use]
pub fn sockaddr(path: &ReturnPath) -> &[u8] {
    path.sockaddr()
}

/// The way back to the sender of a datagram, from the name and the control messages that came with
/// it. `None` if the name is no IPv4 or IPv6 address.
#[must_use]
pub fn return_path(name: &[u8], control: &[u8]) -> Option<ReturnPath> {
    let path = ReturnPath::from_sockaddr(name)?;
    Some(path.from_local(local_addr(control)))
}

/// The local address that a datagram was sent to. `None` if the kernel did not tell, or if an
/// answer cannot leave from there (multicast).
fn local_addr(mut control: &[u8]) -> Option<LocalAddr> {
    while let Some((header, rest)) = control.split_at_checked(HEADER_BYTES) {
        let len = usize::from_ne_bytes(*header.first_chunk()?);
        let level = int_at(header, LEN_BYTES)?;
        let kind = int_at(header, LEN_BYTES + 4)?;
        let data = rest.get(..len.checked_sub(HEADER_BYTES)?)?;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => return local_v4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => return local_v6(data),
            _ => control = control.get(aligned(len)..)?,
        }
    }
    None
}

fn int_at(bytes: &[u8], place: usize) -> Option<libc::c_int> {
    let bytes = bytes.get(place..)?.first_chunk()?;
    Some(libc::c_int::from_ne_bytes(*bytes))
}

fn local_v4(data: &[u8]) -> Option<LocalAddr> {
    // The second field, not the third: the destination of a broadcast is no address of ours, but
    // the kernel has already put one of ours here.
    let octets: [u8; 4] = *data.get(4..)?.first_chunk()?;
    let ip = Ipv4Addr::from(octets);
    (!ip.is_unspecified()).then_some(LocalAddr {
        ip: ip.into(),
        interface: 0,
    })
}

fn local_v6(data: &[u8]) -> Option<LocalAddr> {
    let octets: [u8; 16] = *data.first_chunk()?;
    let interface: [u8; 4] = *data.get(16..)?.first_chunk()?;
    let ip = Ipv6Addr::from(octets);
    (!ip.is_unspecified() && !ip.is_multicast()).then_some(LocalAddr {
        ip: ip.into(),
        interface: if ip.is_unicast_link_local() {
            u32::from_ne_bytes(interface)
        } else {
            0
        },
    })
}

/// What a scatter list says about `bytes`. The pointer is good for as long as they are borrowed.
#[inline]
#[must_use]
pub fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// A header for sending `parts` to the end of a path, from the local address that the path names;
/// and for having them cut into packets of `segment_bytes`. `control` is where that is written.
///
/// `None` for a connected socket, which has its route at hand and would look it up again for a
/// name. The pointers are good for as long as all of this is borrowed.
#[inline]
#[must_use]
pub fn send_header(
    parts: &mut [libc::iovec],
    path: Option<&ReturnPath>,
    segment_bytes: Option<usize>,
    control: &mut SendControl,
) -> libc::msghdr {
    let mut header = empty_header();
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = len_as(parts.len());
    if let Some(path) = path {
        let name = path.sockaddr();
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = len_as(name.len());
    }
    let control_bytes = control.write(path.and_then(ReturnPath::local), segment_bytes);
    if control_bytes > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = len_as(control_bytes);
    }
    header
}

/// A `msghdr` that points nowhere.
#[must_use]
pub fn empty_header() -> libc::msghdr {
    // Why unsafe: some C libraries have private padding in this structure, so it has no literal.
    // SAFETY: all zero is a valid `msghdr`: null pointers with lengths of zero.
    unsafe { std::mem::zeroed() }
}

/// A length in the type that a field of these structures has, which differs between C libraries.
/// None of ours comes near the end of the smallest; if one did, zero would be the safe answer.
#[must_use]
pub fn len_as<T: TryFrom<usize> + Default>(len: usize) -> T {
    T::try_from(len).unwrap_or_default()
}

/// How far apart receive buffers of `bytes` bytes should lie: an odd number of cache lines. At a
/// power of two, the first lines of all buffers, which hold most requests whole, would fight for
/// the same few sets of the processor's caches.
#[must_use]
pub fn buffer_stride(bytes: usize) -> usize {
    const CACHE_LINE_BYTES: usize = 64;
    (bytes.div_ceil(CACHE_LINE_BYTES) | 1) * CACHE_LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ip: &str, interface: u32) -> Vec<u8> {
        let mut control = SendControl([0xff; CONTROL_BYTES + SEGMENT_BYTES]);
        let ip = ip.parse().unwrap();
        let len = control.write(Some(LocalAddr { ip, interface }), None);
        control.0[..len].to_vec()
    }

    #[test]
    fn matches_the_layout_of_the_c_library() {
        assert_eq!(HEADER_BYTES, size_of::<libc::cmsghdr>());
        assert_eq!(IN_PKTINFO_BYTES, size_of::<libc::in_pktinfo>());
        assert_eq!(IN6_PKTINFO_BYTES, size_of::<libc::in6_pktinfo>());
        assert_eq!(written("192.0.2.1", 0).len(), 32);
        assert_eq!(written("2001:db8::1", 0).len(), 40);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = local_addr(&written("192.0.2.1", 0)).unwrap();
        assert_eq!(read.ip, IpAddr::from([192, 0, 2, 1]));
        let read = local_addr(&written("2001:db8::1", 0)).unwrap();
        assert_eq!(read.ip, "2001:db8::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_link_local_addresses_keep_their_interface() {
        assert_eq!(local_addr(&written("fe80::1", 3)).unwrap().interface, 3);
        assert_eq!(local_addr(&written("2001:db8::1", 3)).unwrap().interface, 0);
        assert_eq!(local_addr(&written("192.0.2.1", 3)).unwrap().interface, 0);
    }

    #[test]
    fn no_answer_leaves_from_a_multicast_address() {
        assert_eq!(local_addr(&written("ff02::1", 3)), None);
        assert_eq!(local_addr(&written("0.0.0.0", 0)), None);
    }

    #[test]
    fn other_control_messages_are_skipped() {
        let mut control = written("192.0.2.1", 0);
        let kind = HEADER_BYTES - 4..HEADER_BYTES;
        control[kind].copy_from_slice(&libc::IP_TTL.to_ne_bytes());
        control.extend(written("192.0.2.9", 0));
        let read = local_addr(&control).unwrap();
        assert_eq!(read.ip, IpAddr::from([192, 0, 2, 9]));
    }

    #[test]
    fn broken_control_messages_are_no_harm() {
        let whole = written("2001:db8::1", 1);
        for len in 0..HEADER_BYTES + IN6_PKTINFO_BYTES {
            assert_eq!(local_addr(&whole[..len]), None);
        }
        for len in [0usize, 1, 15, usize::MAX] {
            let mut broken = whole.clone();
            broken[..LEN_BYTES].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(local_addr(&broken), None);
        }
    }
}
