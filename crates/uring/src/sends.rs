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
//! Packets to one client that are equally large travel as one message
//! ([`merge`](aquatic_udp_socket::merge)). A packet is named by its outbox and its place there, a
//! message by its first packet.
//!
//! Requests do not linger: with `MSG_DONTWAIT` they may neither wait for room nor be handed to a
//! worker thread, so in practice the call that submits them also completes them.

use std::io;

use aquatic_udp_socket::merge::{self, Grouping, PACKETS_PER_MESSAGE_MAX, is_unsupported};
use aquatic_udp_socket::wire::{self, SendControl};
use aquatic_udp_socket::{Outbox, SendReport};
use io_uring::opcode::{Send, SendMsg};
use io_uring::squeue::Entry;
use io_uring::types::Fixed;

/// Send requests that have not reported yet, and what they refer to.
pub(crate) struct Sends {
    messages: Box<[Message]>,
    /// Messages that requests refer to. They become free all at once, and so do the parts.
    used: usize,
    /// What messages consist of.
    parts: Parts,
    grouping: Grouping,
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
    /// Until the kernel says that it, or a network interface, cannot cut messages apart.
    merges: bool,
    /// What was refused for that reason, and is to be sent again packet by packet.
    refused: Outbox,
}

/// What one request refers to besides its packets.
struct Message {
    header: libc::msghdr,
    control: SendControl,
}

/// Scatter lists of all messages, one after another.
struct Parts {
    iovecs: Box<[libc::iovec]>,
    used: usize,
}

impl Parts {
    fn new(messages_max: usize) -> Self {
        // So that there is always room for one large message among small ones.
        let count = messages_max.saturating_add(4 * PACKETS_PER_MESSAGE_MAX);
        Self {
            iovecs: vec![wire::part(&[]); count].into(),
            used: 0,
        }
    }

    /// Whether there is room for any message.
    fn has_room(&self) -> bool {
        self.used + PACKETS_PER_MESSAGE_MAX <= self.iovecs.len()
    }

    /// A list of `packets`.
    fn list<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) -> &mut [libc::iovec] {
        let free = self.iovecs.get_mut(self.used..).unwrap_or_default();
        let mut count = 0;
        for (iovec, bytes) in free.iter_mut().zip(packets) {
            *iovec = wire::part(bytes);
            count += 1;
        }
        self.used += count;
        free.get_mut(..count).unwrap_or_default()
    }
}

struct InFlight {
    socket: u32,
    outbox: Outbox,
    bytes: usize,
    failed: usize,
    /// Whether its packets may travel together.
    merged: bool,
}

impl InFlight {
    /// How many packets, from `first` on, travel together.
    fn run(&self, first: usize) -> usize {
        match self.merged {
            true => merge::run(&self.outbox, first, PACKETS_PER_MESSAGE_MAX),
            false => 1,
        }
    }
}

/// Names a packet that is in flight, and perhaps those that travel with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketId {
    pub(crate) outbox: u32,
    pub(crate) place: u32,
}

impl Sends {
    /// `connected` tells of each socket whether its peer is fixed.
    pub(crate) fn new(
        requests_max: usize,
        connected: impl Iterator<Item = bool>,
        plain_to_address: bool,
    ) -> Self {
        let message = || Message {
            header: wire::empty_header(),
            control: SendControl::default(),
        };
        Self {
            messages: std::iter::repeat_with(message).take(requests_max).collect(),
            used: 0,
            parts: Parts::new(requests_max),
            grouping: Grouping::default(),
            outstanding: 0,
            plain_to_address,
            in_flight: Vec::new(),
            spare: Vec::new(),
            sockets: connected.map(Socket::new).collect(),
        }
    }

    /// Takes the packets of `outbox` over. Gives back their number and the name of the first; the
    /// others follow.
    pub(crate) fn take_over(&mut self, socket: u32, outbox: &mut Outbox) -> (u32, PacketId) {
        let mut taken = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut taken, outbox);
        let merged = taken.len() > 1 && self.sockets.get(index(socket)).is_some_and(|it| it.merges);
        if merged {
            self.grouping.group(&mut taken);
        }
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
            merged,
        });
        (packets, id)
    }

    /// How many requests have not reported.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether one more request can be built.
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.messages.len() && self.parts.has_room()
    }

    /// Builds the request that sends a packet, and those that travel with it; and how many these
    /// are. `None` if there is no [room](Self::has_room), or no such packet.
    ///
    /// What it points to stays in place until its completion is passed to
    /// [`completed`](Self::completed).
    pub(crate) fn request(&mut self, id: PacketId) -> Option<(Entry, u32)> {
        let message = self.messages.get_mut(self.used)?;
        let in_flight = self.in_flight.get(index(id.outbox))?;
        let first = index(id.place);
        let (path, bytes) = in_flight.outbox.get(first)?;
        let socket = Fixed(in_flight.socket);
        let connected = self.sockets.get(index(in_flight.socket))?.connected;
        let packets = in_flight.run(first);
        let is_plain = connected || (self.plain_to_address && path.local().is_none());
        let request = if packets == 1 && is_plain {
            let len = u32::try_from(bytes.len()).ok()?;
            let mut send = Send::new(socket, bytes.as_ptr(), len).flags(libc::MSG_DONTWAIT);
            if !connected {
                let name = wire::sockaddr(path);
                let name_len = u32::try_from(name.len()).ok()?;
                send = send.dest_addr(name.as_ptr().cast()).dest_addr_len(name_len);
            }
            send.build()
        } else {
            let together = (first..first + packets).map_while(|it| in_flight.outbox.get(it));
            let list = self.parts.list(together.map(|(_, bytes)| bytes));
            let path = Some(path).filter(|_| !connected);
            let segment_bytes = (packets > 1).then_some(bytes.len());
            message.header = wire::send_header(list, path, segment_bytes, &mut message.control);
            SendMsg::new(socket, &raw const message.header)
                .flags(libc::MSG_DONTWAIT.cast_unsigned())
                .build()
        };
        self.used += 1;
        self.outstanding += 1;
        Some((request, u32::try_from(packets).ok()?))
    }

    /// A request has reported: the kernel is done with it.
    pub(crate) fn completed(&mut self, id: PacketId, result: i32) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if result < 0 {
            self.failed(id, io::Error::from_raw_os_error(-result));
        }
        if self.outstanding == 0 {
            self.used = 0;
            self.parts.used = 0;
        }
    }

    /// A message was not sent.
    fn failed(&mut self, id: PacketId, error: io::Error) {
        let Some(in_flight) = self.in_flight.get_mut(index(id.outbox)) else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(index(in_flight.socket)) else {
            return;
        };
        let first = index(id.place);
        let packets = in_flight.run(first);
        let again = if packets > 1 && is_unsupported(&error) {
            socket.merges = false;
            Some(&mut socket.refused)
        } else if socket.report.record_error(error) {
            socket.report.failed += packets - 1;
            None
        } else {
            Some(&mut socket.unsent)
        };
        let lost = (first..first + packets).map_while(|place| in_flight.outbox.get(place));
        in_flight.failed += packets;
        let lost_bytes: usize = lost.clone().map(|(_, bytes)| bytes.len()).sum();
        in_flight.bytes = in_flight.bytes.saturating_sub(lost_bytes);
        if let Some(again) = again {
            lost.for_each(|(path, bytes)| again.push(*path, bytes));
        }
    }

    /// Packets that were refused because they travelled together; there are none but once.
    pub(crate) fn take_refused(&mut self, socket: usize) -> Option<Outbox> {
        let refused = &mut self.sockets.get_mut(socket)?.refused;
        (!refused.is_empty()).then(|| std::mem::take(refused))
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
    fn new(connected: bool) -> Self {
        Self {
            connected,
            report: SendReport::default(),
            unsent: Outbox::new(),
            offered: 0,
            merges: true,
            refused: Outbox::new(),
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "sends/grouping_tests.rs"]
mod grouping_tests;
#[cfg(test)]
#[path = "sends/tests.rs"]
mod tests;
