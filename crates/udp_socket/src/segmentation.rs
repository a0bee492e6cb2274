//! Many packets of one size to one destination in one go: UDP generic segmentation offload (Linux).
//!
//! One message carries up to 64 packets through the kernel's send path, which is most of the cost
//! of sending, and is cut apart at the very end. A load tester whose requests all have 98 bytes and
//! all go to one tracker gets several times as many out of a core. For the answers of a tracker,
//! see [`Sender`].
//!
//! There is no counterpart for receiving (`UDP_GRO`): datagrams that were sent one by one are not
//! merged on loopback (64 equal ones took 64 reads), and over a network answers differ in size.

use std::io;
use std::os::fd::AsRawFd;

use crate::kernel;
use crate::merge::{MESSAGE_BYTES_MAX, PACKETS_PER_MESSAGE_MAX, is_unsupported};
use crate::mmsg::Sender;
use crate::wire::{self, SendControl};
use crate::{Outbox, SendReport, UdpSocket};

/// Sends runs of equally large packets through a connected socket.
pub struct SegmentSender {
    single: Sender,
    /// Until the kernel says that it, or the network interface, cannot.
    supported: bool,
}

impl Default for SegmentSender {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentSender {
    /// Ready to send.
    #[must_use]
    pub fn new() -> Self {
        Self {
            single: Sender::new(PACKETS_PER_MESSAGE_MAX),
            supported: true,
        }
    }

    /// Sends all packets of the outbox to the peer that `socket` is connected to, without waiting;
    /// their return paths are not looked at. Neighbours of the same size travel together, so sort
    /// them by size if there are several.
    ///
    /// Packets are given up or kept as [`Sender::send`] does it, but by the message.
    pub fn send(&mut self, socket: &UdpSocket, outbox: &mut Outbox) -> SendReport {
        let mut report = SendReport::default();
        let mut done = 0;
        while self.supported && done < outbox.len() {
            let run = Run::at(outbox, done);
            match run.send(socket) {
                Ok(()) => {
                    report.sent += run.packets;
                    report.sent_bytes += run.bytes.len();
                    done += run.packets;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if run.packets > 1 && is_unsupported(&error) => self.supported = false,
                Err(error) => {
                    if !report.record_error(error) {
                        break;
                    }
                    report.failed += run.packets - 1;
                    done += run.packets;
                }
            }
        }
        outbox.remove_front(done);
        if !self.supported {
            report.absorb(self.single.send(socket, outbox));
        }
        report
    }
}

/// Neighbouring packets of one size.
struct Run<'a> {
    bytes: &'a [u8],
    packet_bytes: usize,
    packets: usize,
}

impl<'a> Run<'a> {
    fn at(outbox: &'a Outbox, first: usize) -> Self {
        let packet_bytes = outbox.get(first).map_or(0, |(_, bytes)| bytes.len());
        let packets_max = match packet_bytes {
            // Nothing marks where one empty packet ends and the next begins.
            0 => 1,
            bytes => (MESSAGE_BYTES_MAX / bytes).clamp(1, PACKETS_PER_MESSAGE_MAX),
        };
        let same = |place: &usize| {
            outbox
                .get(*place)
                .is_some_and(|(_, bytes)| bytes.len() == packet_bytes)
        };
        let packets = (first..).take(packets_max).take_while(same).count();
        Self {
            bytes: outbox.bytes_of(first, packets),
            packet_bytes,
            packets,
        }
    }

    fn send(&self, socket: &UdpSocket) -> io::Result<()> {
        let mut parts = [wire::part(self.bytes)];
        let mut control = SendControl::default();
        let segment_bytes = (self.packets > 1).then_some(self.packet_bytes);
        let header = wire::send_header(&mut parts, None, segment_bytes, &mut control);
        // Why unsafe: neither std nor (without raw pointers) socket2 sends control messages.
        // SAFETY: the header points to one iovec and perhaps one control message, which live in
        // this function, and to the bytes that `self` borrows, with their lengths. The kernel reads
        // them before the call returns.
        let sent =
            unsafe { kernel::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
