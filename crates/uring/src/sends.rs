//! Answers on their way to the kernel.
//!
//! # Why this is sound
//!
//! A send request refers to memory in two steps. The kernel copies message header, name and scatter
//! list when it takes the request from the queue (`IORING_FEAT_SUBMIT_STABLE`), and it reads control
//! message and payload when it executes it. Both happen inside the `io_uring_enter` call that takes the
//! request: there is no kernel-side polling thread (`IORING_SETUP_SQPOLL`), and a request with
//! `MSG_DONTWAIT` may neither wait for room nor be handed to a worker thread (`REQ_F_NOWAIT`): it
//! succeeds or fails at once. A UDP send has copied the payload into a packet when it succeeds
//! (`MSG_ZEROCOPY` is not used). Therefore memory that only *taken* requests refer to is free again,
//! although successful ones never report.
//!
//! Until then it must not change, whatever the caller does. So the ring takes the caller's outbox
//! (leaving an empty one), keeps it where nobody can reach it, and reuses it only after a call that
//! has emptied the submission queue.

use std::io;

use aquatic_udp_socket::wire::{self, Control};
use aquatic_udp_socket::{Outbox, SendReport, UdpSocket};
use io_uring::opcode::SendMsg;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fixed;

use crate::pool::empty_header;

/// Send requests that have been built since the queue was last empty, and what they refer to.
pub(crate) struct Sends {
    messages: Box<[Message]>,
    used: usize,
    in_flight: Vec<InFlight>,
    /// Empty outboxes that keep their memory.
    spare: Vec<Outbox>,
    /// Per socket, what found no room.
    unsent: Box<[Outbox]>,
    connected: Box<[bool]>,
    /// Per socket, what became of its packets since it was last asked.
    reports: Box<[SendReport]>,
}

/// What one request refers to besides its packet.
struct Message {
    header: libc::msghdr,
    iovec: libc::iovec,
    control: Control,
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
    pub(crate) fn new(requests_max: usize, sockets: &[&UdpSocket]) -> Self {
        let message = || Message {
            header: empty_header(),
            iovec: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            control: Control::default(),
        };
        Self {
            messages: std::iter::repeat_with(message).take(requests_max).collect(),
            used: 0,
            in_flight: Vec::new(),
            spare: Vec::new(),
            unsent: sockets.iter().map(|_| Outbox::new()).collect(),
            connected: sockets.iter().map(|socket| socket.is_connected()).collect(),
            reports: sockets.iter().map(|_| SendReport::default()).collect(),
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

    /// Builds the request that sends a packet. `None` if all messages are in use, until
    /// [`queue_is_empty`](Self::queue_is_empty), or if there is no such packet.
    ///
    /// What it points to stays in place until [`queue_is_empty`](Self::queue_is_empty) is called.
    pub(crate) fn request(&mut self, id: PacketId) -> Option<Entry> {
        let message = self.messages.get_mut(self.used)?;
        let in_flight = self.in_flight.get(index(id.outbox))?;
        let (path, bytes) = in_flight.outbox.get(index(id.place))?;
        let Message {
            header,
            iovec,
            control,
        } = message;
        iovec.iov_base = bytes.as_ptr().cast_mut().cast();
        iovec.iov_len = bytes.len();
        *header = empty_header();
        header.msg_iov = iovec;
        header.msg_iovlen = 1;
        if !self.connected.get(index(in_flight.socket)).copied()? {
            let name = wire::sockaddr(path);
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = u32::try_from(name.len()).ok()?;
            if let Some(local) = path.local() {
                header.msg_controllen = control.write(local) as _;
                header.msg_control = control.0.as_mut_ptr().cast();
            }
        }
        let request = SendMsg::new(Fixed(in_flight.socket), &raw const *header)
            .flags(libc::MSG_DONTWAIT.cast_unsigned())
            .build()
            .flags(Flags::SKIP_SUCCESS);
        self.used += 1;
        Some(request)
    }

    /// A packet was not sent.
    pub(crate) fn failed(&mut self, id: PacketId, error: io::Error) {
        let Some(in_flight) = self.in_flight.get_mut(index(id.outbox)) else {
            return;
        };
        let Some((path, bytes)) = in_flight.outbox.get(index(id.place)) else {
            return;
        };
        in_flight.failed += 1;
        in_flight.bytes = in_flight.bytes.saturating_sub(bytes.len());
        let socket = index(in_flight.socket);
        if let (Some(report), Some(unsent)) =
            (self.reports.get_mut(socket), self.unsent.get_mut(socket))
            && !report.record_error(error)
        {
            unsent.push(*path, bytes);
        }
    }

    /// All requests have been taken and executed, and their failures reported: what they referred
    /// to is free again.
    pub(crate) fn queue_is_empty(&mut self) {
        self.used = 0;
    }

    /// Nothing of what was taken over remains to be sent.
    pub(crate) fn all_done(&mut self) {
        for mut done in self.in_flight.drain(..) {
            if let Some(report) = self.reports.get_mut(index(done.socket)) {
                report.sent += done.outbox.len().saturating_sub(done.failed);
                report.sent_bytes += done.bytes;
            }
            done.outbox.clear();
            self.spare.push(done.outbox);
        }
    }

    pub(crate) fn take_report(&mut self, socket: usize) -> SendReport {
        self.reports
            .get_mut(socket)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    pub(crate) fn unsent(&mut self, socket: usize) -> Option<&mut Outbox> {
        self.unsent.get_mut(socket)
    }

    /// Gives up what the caller did not want back.
    pub(crate) fn give_up_unsent(&mut self) {
        for (outbox, report) in self.unsent.iter_mut().zip(&mut self.reports) {
            report.failed += outbox.len();
            outbox.clear();
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
