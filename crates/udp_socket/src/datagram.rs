//! What receiving and sending report, whatever the backend.

use std::io;

use crate::ReturnPath;

/// A datagram that has just been received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The way back to its sender.
    pub path: ReturnPath,
    /// Its payload, or as much of it as the receive buffer holds.
    pub bytes: &'a [u8],
    /// Whether it was larger than the receive buffer.
    pub truncated: bool,
}

/// What became of the packets of an [`Outbox`](crate::Outbox).
#[derive(Debug, Default)]
pub struct SendReport {
    /// Packets that the kernel took.
    pub sent: usize,
    /// Their payload, in bytes.
    pub sent_bytes: usize,
    /// Packets that were given up because of an error that concerns each of them: no route, a
    /// firewall rule, too large, a forbidden address.
    pub failed: usize,
    /// The last of these errors.
    pub last_error: Option<io::Error>,
    /// The socket's send buffer or a queue behind it is full. What could not be sent is still
    /// there to be sent again, in order.
    pub would_block: bool,
}

impl SendReport {
    pub(crate) fn record_sent(&mut self, bytes: usize) {
        self.sent += 1;
        self.sent_bytes += bytes;
    }

    /// Adds what a later call reported.
    pub fn absorb(&mut self, other: Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.failed += other.failed;
        self.last_error = other.last_error.or(self.last_error.take());
        self.would_block |= other.would_block;
    }

    /// Sorts an error of one packet: either it gave up that packet, or (`false`) no packet can be
    /// sent at the moment.
    pub fn record_error(&mut self, error: io::Error) -> bool {
        if is_full(&error) {
            self.would_block = true;
            return false;
        }
        self.failed += 1;
        self.last_error = Some(error);
        true
    }
}

/// Whether a send found no room: the packet may be sent again later.
#[must_use]
pub(crate) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Whether a receive failed because of an ICMP message about a packet that was sent earlier. Such
/// an error says nothing about the socket, and reading it clears it.
#[must_use]
pub(crate) fn is_icmp(error: &io::Error) -> bool {
    const FROM_ICMP: [i32; 9] = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ENOPROTOOPT,
        libc::EMSGSIZE,
        libc::EOPNOTSUPP,
        libc::EACCES,
        libc::EPROTO,
    ];
    // ENONET (ICMP "source host isolated") exists on Linux only.
    #[cfg(target_os = "linux")]
    if error.raw_os_error() == Some(libc::ENONET) {
        return true;
    }
    error
        .raw_os_error()
        .is_some_and(|errno| FROM_ICMP.contains(&errno))
}

/// How many pending ICMP errors one call of `receive` reads past before it gives up until the next
/// call. Each holds up the datagrams behind it, and a stranger can cause as many as it likes.
pub(crate) const ICMP_ERRORS_PER_RECEIVE_MAX: usize = 64;
