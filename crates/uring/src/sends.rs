//! Answers on their way to the kernel.
//!
//! # Why this is sound
//!
//! From the moment when a send request is queued until its completion is read, the kernel may look
//! at the message header, the control message, the address and the payload. So the ring takes the
//! caller's outbox (leaving an empty one), keeps it where nobody can reach it, and reuses it and
//! the headers only when every request has reported. The kernel could be told to report failures
//! only (`IOSQE_CQE_SKIP_SUCCESS`), but then nothing would say when a success is over, and
//! measured, the reports cost nothing.
//!
//! Requests do not linger: with `MSG_DONTWAIT` they may neither wait for room nor be handed to a
//! worker thread, so in practice the call that submits them also completes them.

use std::io;

use aquatic_udp_socket::wire::{self, Control};
use aquatic_udp_socket::{Outbox, ReturnPath, SendReport, UdpSocket};
use io_uring::opcode::{Send, SendMsg};
use io_uring::squeue::Entry;
use io_uring::types::Fixed;

/// Send requests that have not reported yet, and what they refer to.
pub(crate) struct Sends {
    messages: Box<[Message]>,
    /// Messages that requests refer to. They become free all at once.
    used: usize,
    /// Requests that have not reported.
    outstanding: usize,
    in_flight: Vec<InFlight>,
    /// Empty outboxes that keep their memory.
    spare: Vec<Outbox>,
    /// Whether the kernel sends to an address without a message header around it (Linux 6.1).
    plain_to_address: bool,
    sockets: Box<[Socket]>,
}

/// How sending through one socket goes.
struct Socket {
    connected: bool,
    /// What became of its packets since it was last asked.
    report: SendReport,
    /// What found no room, oldest first.
    unsent: Outbox,
    /// How many of these the caller could have taken back.
    offered: usize,
}

/// What one request refers to besides its packet.
struct Message {
    header: libc::msghdr,
    iovec: libc::iovec,
    control: Control,
}

impl Message {
    fn fill(&mut self, path: &ReturnPath, bytes: &[u8]) {
        let name = wire::sockaddr(path);
        self.iovec.iov_base = bytes.as_ptr().cast_mut().cast();
        self.iovec.iov_len = bytes.len();
        self.header = wire::empty_header();
        self.header.msg_iov = &raw mut self.iovec;
        self.header.msg_iovlen = 1;
        self.header.msg_name = name.as_ptr().cast_mut().cast();
        self.header.msg_namelen = u32::try_from(name.len()).unwrap_or(0);
        if let Some(local) = path.local() {
            self.header.msg_controllen = wire::len_as(self.control.write(local));
            self.header.msg_control = self.control.0.as_mut_ptr().cast();
        }
    }
}

struct InFlight {
    socket: u32,
    outbox: Outbox,
    bytes: usize,
    failed: usize,
}

/// Names a packet that is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketId {
    pub(crate) outbox: u32,
    pub(crate) place: u32,
}

impl Sends {
    pub(crate) fn new(requests_max: usize, sockets: &[&UdpSocket], plain_to_address: bool) -> Self {
        let message = || Message {
            header: wire::empty_header(),
            iovec: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            control: Control::default(),
        };
        Self {
            messages: std::iter::repeat_with(message).take(requests_max).collect(),
            used: 0,
            outstanding: 0,
            plain_to_address,
            in_flight: Vec::new(),
            spare: Vec::new(),
            sockets: sockets.iter().map(|socket| Socket::new(socket)).collect(),
        }
    }

    /// Takes the packets of `outbox` over. Gives back their number and the name of the first; the
    /// others follow.
    pub(crate) fn take_over(&mut self, socket: u32, outbox: &mut Outbox) -> (u32, PacketId) {
        let mut taken = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut taken, outbox);
        let id = PacketId {
            outbox: u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX),
            place: 0,
        };
        let packets = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        self.in_flight.push(InFlight {
            socket,
            bytes: taken.iter().map(|(_, bytes)| bytes.len()).sum(),
            outbox: taken,
            failed: 0,
        });
        (packets, id)
    }

    /// How many requests have not reported.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether one more request can be built.
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.messages.len()
    }

    /// Builds the request that sends a packet. `None` if there is no [room](Self::has_room), or no
    /// such packet.
    ///
    /// What it points to stays in place until its completion is passed to
    /// [`completed`](Self::completed).
    pub(crate) fn request(&mut self, id: PacketId) -> Option<Entry> {
        let message = self.messages.get_mut(self.used)?;
        let in_flight = self.in_flight.get(index(id.outbox))?;
        let (path, bytes) = in_flight.outbox.get(index(id.place))?;
        let socket = Fixed(in_flight.socket);
        let connected = self.sockets.get(index(in_flight.socket))?.connected;
        let plain = connected || (self.plain_to_address && path.local().is_none());
        let request = if plain {
            let len = u32::try_from(bytes.len()).ok()?;
            let mut send = Send::new(socket, bytes.as_ptr(), len).flags(libc::MSG_DONTWAIT);
            if !connected {
                let name = wire::sockaddr(path);
                let name_len = u32::try_from(name.len()).ok()?;
                send = send.dest_addr(name.as_ptr().cast()).dest_addr_len(name_len);
            }
            send.build()
        } else {
            message.fill(path, bytes);
            SendMsg::new(socket, &raw const message.header)
                .flags(libc::MSG_DONTWAIT.cast_unsigned())
                .build()
        };
        self.used += 1;
        self.outstanding += 1;
        Some(request)
    }

    /// A request has reported: the kernel is done with it.
    pub(crate) fn completed(&mut self, id: PacketId, result: i32) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if result < 0 {
            self.failed(id, io::Error::from_raw_os_error(-result));
        }
        if self.outstanding == 0 {
            self.used = 0;
        }
    }

    /// A packet was not sent.
    fn failed(&mut self, id: PacketId, error: io::Error) {
        let Some(in_flight) = self.in_flight.get_mut(index(id.outbox)) else {
            return;
        };
        let Some((path, bytes)) = in_flight.outbox.get(index(id.place)) else {
            return;
        };
        in_flight.failed += 1;
        in_flight.bytes = in_flight.bytes.saturating_sub(bytes.len());
        if let Some(socket) = self.sockets.get_mut(index(in_flight.socket))
            && !socket.report.record_error(error)
        {
            socket.unsent.push(*path, bytes);
        }
    }

    /// Frees the outboxes, if nothing of them remains to be sent.
    pub(crate) fn reuse(&mut self) {
        if self.outstanding > 0 {
            return;
        }
        for mut done in self.in_flight.drain(..) {
            if let Some(socket) = self.sockets.get_mut(index(done.socket)) {
                socket.report.sent += done.outbox.len().saturating_sub(done.failed);
                socket.report.sent_bytes += done.bytes;
            }
            done.outbox.clear();
            self.spare.push(done.outbox);
        }
    }

    pub(crate) fn take_report(&mut self, socket: usize) -> SendReport {
        let socket = self.sockets.get_mut(socket);
        socket.map_or_else(SendReport::default, |socket| {
            std::mem::take(&mut socket.report)
        })
    }

    pub(crate) fn take_unsent(&mut self, socket: usize, outbox: &mut Outbox) {
        if let Some(socket) = self.sockets.get_mut(socket) {
            outbox.append(&mut socket.unsent);
            socket.offered = 0;
        }
    }

    /// From now on the caller can take back what was not sent. What it could have taken before and
    /// did not is given up.
    pub(crate) fn offer_unsent(&mut self) {
        for socket in &mut self.sockets {
            socket.unsent.remove_front(socket.offered);
            socket.report.failed += socket.offered;
            socket.offered = socket.unsent.len();
        }
    }
}

impl Socket {
    fn new(socket: &UdpSocket) -> Self {
        Self {
            connected: socket.is_connected(),
            report: SendReport::default(),
            unsent: Outbox::new(),
            offered: 0,
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
