//! A UDP socket with the options that a tracker wants.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use aquatic_types::IpFamily;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::options;

/// Payload that passes every path in one piece: 1,280 bytes with the headers of IPv6 (RFC 8200,
/// section 5) and of UDP. Paths that carry only IPv4 and less than that are not met any more.
pub const UNFRAGMENTED_BYTES_MAX: usize = 1_280 - 48;

/// What may be chosen about a socket.
#[derive(Clone, Debug, Default)]
pub struct SocketOptions {
    /// How many bytes of datagrams may wait to be read, by the kernel's own (generous) measure.
    /// 0: the system's default.
    pub recv_buffer_bytes: usize,
    /// How many bytes of packets may wait to be sent, by the same measure. 0: the system's default.
    ///
    /// A packet leaves this buffer when the network interface has taken it, which for a host of the
    /// same network can take seconds: it waits until its hardware address is known, or is known not
    /// to exist.
    pub send_buffer_bytes: usize,
    /// Several sockets, of several workers, share one address; the kernel spreads the datagrams.
    pub reuse_port: bool,
    /// No packet has more than [`UNFRAGMENTED_BYTES_MAX`] bytes of payload, so IPv4 packets can be
    /// marked as not to be fragmented. Then they need no identification (RFC 6864, section 4.1),
    /// and finding one for each took some 5 % of a busy tracker's profile.
    pub never_fragmented: bool,
}

/// A nonblocking UDP socket, IPv4 or IPv6 but never both.
///
/// Bound to the unspecified address (`0.0.0.0`, `[::]`), it asks the kernel for each datagram's
/// destination (packet info), so that the answer can leave from there. Bound to one address, it
/// does not: every answer leaves from that address anyway, and packet info costs time.
#[derive(Debug)]
pub struct UdpSocket {
    socket: StdUdpSocket,
    local_addr: SocketAddr,
    connected: bool,
    /// What the kernel had thrown away before, modulo 2^32; `None` if somebody else counts it.
    dropped_before: Option<u32>,
}

impl UdpSocket {
    /// Opens a socket and binds it to `addr`.
    ///
    /// # Errors
    /// Whatever the kernel says; most often that the address is in use, not the host's, or that the
    /// port needs privileges.
    pub fn bind(addr: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // IPv4 has sockets of its own: peers of both families never mix.
            socket.set_only_v6(true)?;
        }
        set_options(&socket, addr, options)?;
        socket.bind(&addr.into())?;
        let socket = StdUdpSocket::from(socket);
        Ok(Self {
            local_addr: socket.local_addr()?,
            socket,
            connected: false,
            dropped_before: Some(0),
        })
    }

    /// Takes a socket that somebody else has bound, and sets its options as [`bind`](Self::bind)
    /// would have done. Datagrams that wait in it are kept. It is not connected, and if it is an
    /// IPv6 socket, takes no IPv4 datagrams.
    ///
    /// # Errors
    /// If the kernel does not let an option be set, or it is not a socket.
    pub fn adopt(socket: OwnedFd, options: &SocketOptions) -> io::Result<Self> {
        let socket = StdUdpSocket::from(socket);
        let local_addr = socket.local_addr()?;
        set_options(&SockRef::from(&socket), local_addr, options)?;
        let mut adopted = Self {
            socket,
            local_addr,
            connected: false,
            dropped_before: Some(0),
        };
        // Whoever had it before has counted those. Where the kernel does not tell, it never will.
        adopted.dropped_before = adopted.unreceived().ok();
        Ok(adopted)
    }

    /// The same socket once more. [`unreceived`](Self::unreceived) is told by the first one only.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            local_addr: self.local_addr,
            connected: self.connected,
            dropped_before: None,
        })
    }

    /// Whether this is the one of its [duplicates](Self::duplicate) that counts for the socket.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.dropped_before.is_some()
    }

    /// Not a socket, for tests that play the kernel.
    #[cfg(all(test, miri))]
    pub(crate) fn unplugged() -> Self {
        let (end, _) = io::pipe().unwrap();
        Self {
            socket: OwnedFd::from(end).into(),
            local_addr: ([127, 0, 0, 1], 3_000).into(),
            connected: false,
            dropped_before: Some(0),
        }
    }

    /// Fixes the peer: only its datagrams are received, and packets go to it whatever their
    /// [`ReturnPath`](crate::ReturnPath) says. For clients such as load testers.
    ///
    /// # Errors
    /// If there is no route to `peer`, or it is of the other family.
    pub fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        if self.local_addr.ip().is_unspecified() {
            set_packet_info(&SockRef::from(&self.socket), self.family(), false)?;
        }
        self.socket.connect(peer)?;
        self.local_addr = self.socket.local_addr()?;
        self.connected = true;
        Ok(())
    }

    /// The address that it is bound to, with the port that the kernel chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Which IP version it speaks.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        IpFamily::of(&self.local_addr)
    }

    /// Whether its peer is fixed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The size of the receive buffer that the kernel granted, in the unit of
    /// [`SocketOptions::recv_buffer_bytes`]. Without the privilege to force it, that is at most
    /// `net.core.rmem_max` on Linux.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn recv_buffer_bytes(&self) -> io::Result<usize> {
        SockRef::from(&self.socket).recv_buffer_size().map(granted)
    }

    /// The size of the send buffer that the kernel granted, see
    /// [`recv_buffer_bytes`](Self::recv_buffer_bytes).
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn send_buffer_bytes(&self) -> io::Result<usize> {
        SockRef::from(&self.socket).send_buffer_size().map(granted)
    }

    /// How many datagrams for this socket the kernel has thrown away since it was opened, or
    /// [adopted](Self::adopt), modulo 2^32: nearly always because the receive buffer was full (a
    /// wrong checksum counts, too).
    ///
    /// # Errors
    /// If the kernel does not tell; only Linux (4.12 or later) does.
    pub fn unreceived(&self) -> io::Result<u32> {
        let before = self.dropped_before.ok_or(io::ErrorKind::Unsupported)?;
        Ok(options::drops(self)?.wrapping_sub(before))
    }

    /// Waits until a datagram can be read; `None` waits for ever. `false`: the time was over or a
    /// signal came. For programs with one socket; a tracker waits for several things at once.
    ///
    /// # Errors
    /// If the kernel lacks memory.
    pub fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout_ms = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
        });
        options::poll_readable(self, timeout_ms)
    }

    pub(crate) fn std(&self) -> &StdUdpSocket {
        &self.socket
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// All options that can still be changed when a socket is bound.
fn set_options(socket: &Socket, addr: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_buffers(socket, options);
    ignore_path_mtu(socket, IpFamily::of(&addr), options.never_fragmented);
    if addr.ip().is_unspecified() {
        set_packet_info(socket, IpFamily::of(&addr), true)?;
    }
    Ok(())
}

/// Linux doubles what it is asked for, to pay for its bookkeeping, and reports the double.
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") {
        reported / 2
    } else {
        reported
    }
}

/// A system that does not grant a size leaves the buffer as it was: a tracker with small buffers is
/// better than none. [`UdpSocket::recv_buffer_bytes`] and its sibling tell.
fn set_buffers(socket: &Socket, options: &SocketOptions) {
    let (recv_bytes, send_bytes) = (options.recv_buffer_bytes, options.send_buffer_bytes);
    if recv_bytes > 0 && !force_buffer(socket, Buffer::Recv, recv_bytes) {
        let _ = socket.set_recv_buffer_size(recv_bytes);
    }
    if send_bytes > 0 && !force_buffer(socket, Buffer::Send, send_bytes) {
        let _ = socket.set_send_buffer_size(send_bytes);
    }
}

/// What waits in the kernel: on its way in, on its way out.
enum Buffer {
    Recv,
    Send,
}

/// Tries to exceed `net.core.rmem_max` or `wmem_max`, which only a privileged process may.
#[cfg(target_os = "linux")]
fn force_buffer(socket: &Socket, buffer: Buffer, bytes: usize) -> bool {
    let name = match buffer {
        Buffer::Recv => libc::SO_RCVBUFFORCE,
        Buffer::Send => libc::SO_SNDBUFFORCE,
    };
    libc::c_int::try_from(bytes)
        .is_ok_and(|bytes| options::set_int(socket, libc::SOL_SOCKET, name, bytes).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn force_buffer(_socket: &Socket, _buffer: Buffer, _bytes: usize) -> bool {
    false
}

/// Makes answers independent of what ICMP says about the path.
///
/// Answers have at most 1,400 bytes and go out once. Path MTU discovery could only lose the first
/// of them, and a forged "fragmentation needed" would shrink or block all that follow. So: never
/// believe such messages, and set the don't-fragment bit only where packets are so small that it
/// makes no difference on the way ([`SocketOptions::never_fragmented`]). IPv6 routers do not
/// fragment, so there the host does, at 1,280 bytes, which every IPv6 path carries (RFC 8200,
/// section 5; name servers do the same, RFC 3542, section 11.1). Only answers over 1,232 bytes are
/// concerned.
///
/// A system without these options (some container sandboxes) is left as it is: that costs this
/// protection and nothing else.
#[cfg(target_os = "linux")]
fn ignore_path_mtu(socket: &Socket, family: IpFamily, never_fragmented: bool) {
    use libc::{IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE, IPPROTO_IP};
    use libc::{IPPROTO_IPV6, IPV6_MTU, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT};

    let settings: &[_] = match family {
        // Sets the bit, and takes no notice of what the path is said to carry.
        IpFamily::V4 if never_fragmented => &[(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)],
        IpFamily::V4 => &[(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)],
        IpFamily::V6 => &[
            (IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT),
            (IPPROTO_IPV6, IPV6_MTU, 1280),
        ],
    };
    for (level, name, value) in settings {
        let _ = options::set_int(socket, *level, *name, *value);
    }
}

#[cfg(not(target_os = "linux"))]
fn ignore_path_mtu(_socket: &Socket, _family: IpFamily, _never_fragmented: bool) {}

#[cfg(target_os = "linux")]
fn set_packet_info(socket: &Socket, family: IpFamily, on: bool) -> io::Result<()> {
    let (level, name) = match family {
        IpFamily::V4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpFamily::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    options::set_int(socket, level, name, on.into())
}

/// The portable backend has no way to read or use packet info.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can fail here")]
fn set_packet_info(_socket: &Socket, _family: IpFamily, _on: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_where_it_is_bound() {
        for text in ["127.0.0.1:0", "[::1]:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            let socket = UdpSocket::bind(addr, &SocketOptions::default()).unwrap();
            assert_eq!(socket.local_addr().ip(), addr.ip());
            assert_ne!(socket.local_addr().port(), 0);
            assert_eq!(socket.family(), IpFamily::of(&addr));
        }
    }

    #[test]
    fn both_families_share_a_port() {
        let v4 = UdpSocket::bind("0.0.0.0:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        let v6: SocketAddr = ([0u16; 8], v4.local_addr().port()).into();
        UdpSocket::bind(v6, &SocketOptions::default()).unwrap();
    }

    #[test]
    fn an_address_is_shared_only_on_request() {
        let options = SocketOptions::default();
        let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let error = UdpSocket::bind(first.local_addr(), &options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

        let options = SocketOptions {
            reuse_port: true,
            ..options
        };
        let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        UdpSocket::bind(first.local_addr(), &options).unwrap();
    }

    /// The next process has other settings, and more workers.
    #[test]
    fn a_socket_with_datagrams_can_be_adopted_and_joined() {
        for text in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let alone = SocketOptions::default();
            let first = UdpSocket::bind(text.parse().unwrap(), &alone).unwrap();
            let address = first.local_addr();
            let client = StdUdpSocket::bind((address.ip(), 0)).unwrap();
            client.send_to(b"hello", address).unwrap();
            let shared = SocketOptions {
                recv_buffer_bytes: 100_000,
                reuse_port: true,
                ..alone
            };
            let adopted = UdpSocket::adopt(first.socket.into(), &shared).unwrap();
            assert_eq!(adopted.local_addr(), address);
            assert_eq!(adopted.recv_buffer_bytes().unwrap(), 100_000);
            let joined = UdpSocket::bind(address, &shared).unwrap();
            assert_eq!(joined.local_addr(), address);
            assert_eq!(adopted.std().recv(&mut [0; 8]).unwrap(), 5);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_what_was_lost_since_then_is_counted_and_only_once() {
        let options = SocketOptions {
            recv_buffer_bytes: 10_000,
            ..SocketOptions::default()
        };
        let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let client = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let flood = |socket: &UdpSocket| {
            for _ in 0..100 {
                client.send_to(b"hello", socket.local_addr()).unwrap();
            }
        };
        flood(&first);
        assert!(first.unreceived().unwrap() > 0);
        let adopted = UdpSocket::adopt(first.socket.into(), &options).unwrap();
        assert_eq!(adopted.unreceived().unwrap(), 0);
        flood(&adopted);
        assert_eq!(adopted.unreceived().unwrap(), 100);
        assert!(adopted.duplicate().unwrap().unreceived().is_err());
    }

    #[test]
    fn buffers_are_as_large_as_asked_for() {
        let options = SocketOptions {
            recv_buffer_bytes: 100_000,
            send_buffer_bytes: 50_000,
            ..SocketOptions::default()
        };
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        assert_eq!(socket.recv_buffer_bytes().unwrap(), 100_000);
        assert_eq!(socket.send_buffer_bytes().unwrap(), 50_000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_found_no_room_is_counted() {
        const SENT: u32 = 500;
        let options = SocketOptions {
            recv_buffer_bytes: 10_000,
            ..SocketOptions::default()
        };
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        assert_eq!(socket.unreceived().unwrap(), 0);
        let client = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..SENT {
            client.send_to(b"hello", socket.local_addr()).unwrap();
        }
        let received = std::iter::from_fn(|| socket.std().recv(&mut [0; 8]).ok());
        let received = u32::try_from(received.count()).unwrap();
        assert!(received > 0 && received < SENT, "{received}");
        assert_eq!(socket.unreceived().unwrap(), SENT - received);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_small_packets_are_marked_as_not_to_be_fragmented() {
        for (never_fragmented, expected) in [
            (true, libc::IP_PMTUDISC_PROBE),
            (false, libc::IP_PMTUDISC_OMIT),
        ] {
            let options = SocketOptions {
                never_fragmented,
                ..SocketOptions::default()
            };
            let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
            let set = options::get_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER).unwrap();
            assert_eq!(set, expected);
        }
    }

    #[test]
    fn waiting_ends_when_the_time_is_over() {
        let socket =
            UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
        assert!(
            !socket
                .wait_readable(Some(Duration::from_millis(1)))
                .unwrap()
        );
    }
}
