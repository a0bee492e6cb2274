//! Many datagrams per system call: `recvmmsg(2)` and `sendmmsg(2)` (Linux).
//!
//! Both calls take an array of message headers, and every header points to buffers. The arrays live
//! in [`Receiver`] and [`Sender`] and are used again and again; the pointers are written before
//! each call and mean nothing after it, so nothing here refers to itself and everything can be
//! moved. Writing them costs a few nanoseconds per datagram, against 3 µs that the kernel spends on
//! it.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::datagram::{ICMP_ERRORS_PER_RECEIVE_MAX, is_icmp};
use crate::kernel;
use crate::merge::{self, Grouping, is_unsupported};
use crate::wire::{self, CONTROL_BYTES, Control, SOCKADDR_BYTES, SendControl};
use crate::{Datagram, Outbox, SendReport, UdpSocket};

/// What the kernel takes in one call (`UIO_MAXIOV`).
const BATCH_MAX: usize = 1024;

/// Message headers between two calls, when their pointers are dead.
#[derive(Debug)]
struct Headers(Box<[libc::mmsghdr]>);

// Why unsafe: raw pointers are not `Send` by themselves.
// SAFETY: the pointers inside are written before each system call and never followed after it, so
// they are plain numbers when the value moves to another thread.
unsafe impl Send for Headers {}

impl Headers {
    fn new(count: usize) -> Self {
        let empty = libc::mmsghdr {
            msg_hdr: wire::empty_header(),
            msg_len: 0,
        };
        Self(vec![empty; count].into())
    }
}

/// What the kernel writes for one datagram, except its payload.
#[derive(Clone, Copy)]
struct Envelope {
    name: [u8; SOCKADDR_BYTES],
    control: Control,
}

/// Receives datagrams by the batch.
pub struct Receiver {
    headers: Headers,
    iovecs: Iovecs,
    envelopes: Box<[Envelope]>,
    payloads: Box<[u8]>,
    datagram_bytes_max: usize,
    received: usize,
}

impl Receiver {
    /// Up to `batch` datagrams per call, of up to `datagram_bytes_max` bytes each: what is beyond
    /// is cut off, and the datagram marked as truncated.
    #[must_use]
    pub fn new(batch: usize, datagram_bytes_max: usize) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        let envelope = Envelope {
            name: [0; SOCKADDR_BYTES],
            control: Control::default(),
        };
        Self {
            headers: Headers::new(batch),
            iovecs: Iovecs::new(batch),
            envelopes: vec![envelope; batch].into(),
            payloads: vec![0; batch * wire::buffer_stride(datagram_bytes_max)].into(),
            datagram_bytes_max,
            received: 0,
        }
    }

    /// Reads what waits at the socket, up to one batch, without waiting for more. Gives back how
    /// many datagrams there are; 0: none. A full batch means that more may wait.
    ///
    /// Errors that ICMP messages left behind are read past.
    ///
    /// # Errors
    /// If the socket cannot be read, which no datagram and no ICMP message can bring about.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        for _ in 0..ICMP_ERRORS_PER_RECEIVE_MAX {
            match self.receive_once(socket) {
                Ok(received) => {
                    self.received = received;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is_icmp(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.received)
    }

    /// What the last call of [`receive`](Self::receive) read.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let payloads = self
            .payloads
            .chunks_exact(wire::buffer_stride(self.datagram_bytes_max));
        let slots = self.headers.0.iter().zip(&self.envelopes).zip(payloads);
        slots
            .take(self.received)
            .filter_map(|((header, envelope), payload)| {
                let len = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
                let name = usize::try_from(header.msg_hdr.msg_namelen).unwrap_or(usize::MAX);
                // The C libraries do not agree on the type of this length.
                #[allow(clippy::useless_conversion, reason = "an int where libc is musl")]
                let control = usize::try_from(header.msg_hdr.msg_controllen).unwrap_or(0);
                let name = envelope.name.get(..name).unwrap_or(&envelope.name);
                let control = envelope.control.0.get(..control).unwrap_or_default();
                Some(Datagram {
                    path: wire::return_path(name, control)?,
                    bytes: payload.get(..len.min(self.datagram_bytes_max))?,
                    truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                })
            })
    }

    fn receive_once(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let stride = wire::buffer_stride(self.datagram_bytes_max);
        let payloads = self.payloads.chunks_exact_mut(stride);
        let slots = self.headers.0.iter_mut().zip(&mut self.iovecs.0);
        for (((header, iovec), envelope), payload) in slots.zip(&mut self.envelopes).zip(payloads) {
            iovec.iov_base = payload.as_mut_ptr().cast();
            iovec.iov_len = self.datagram_bytes_max;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = envelope.name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = wire::len_as(SOCKADDR_BYTES);
            header.msg_hdr.msg_control = envelope.control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = wire::len_as(CONTROL_BYTES);
            header.msg_hdr.msg_flags = 0;
        }
        // Why unsafe: neither std nor socket2 has recvmmsg.
        // SAFETY: the headers are as many as the call is told. Each points to an iovec, a name and
        // a control buffer of the lengths it gives, which belong to `self`, are borrowed mutably
        // and so by nobody else, and stay where they are until the call returns; so does each
        // iovec's payload, a disjoint chunk of `datagram_bytes_max` or more bytes. No time limit:
        // null.
        let received = unsafe {
            kernel::recvmmsg(
                socket.as_raw_fd(),
                self.headers.0.as_mut_ptr(),
                wire::len_as(self.headers.0.len()),
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

/// Scatter lists of one buffer each, between two calls.
#[derive(Debug)]
struct Iovecs(Box<[libc::iovec]>);

// Why unsafe: raw pointers are not `Send` by themselves.
// SAFETY: as for `Headers`: the pointers are dead between calls.
unsafe impl Send for Iovecs {}

impl Iovecs {
    fn new(count: usize) -> Self {
        Self(vec![wire::part(&[]); count].into())
    }
}

/// Sends packets by the batch, and those to one client that are equally large as one message.
pub struct Sender {
    headers: Headers,
    /// How many packets each message carries.
    packets: Box<[usize]>,
    iovecs: Iovecs,
    controls: Box<[SendControl]>,
    grouping: Grouping,
    /// Until the kernel says that it, or a network interface, cannot cut messages apart.
    merges: bool,
}

impl Sender {
    /// Up to `batch` packets per system call; one call of [`send`](Self::send) makes as many as the
    /// outbox needs.
    #[must_use]
    pub fn new(batch: usize) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        Self {
            headers: Headers::new(batch),
            packets: vec![0; batch].into(),
            iovecs: Iovecs::new(batch),
            controls: vec![SendControl::default(); batch].into(),
            grouping: Grouping::default(),
            merges: true,
        }
    }

    /// Sends each packet by itself.
    #[must_use]
    pub fn without_merging(self) -> Self {
        Self {
            merges: false,
            ..self
        }
    }

    /// Sends all packets of the outbox, without waiting. Packets of different size or destination
    /// may overtake each other.
    ///
    /// A packet that cannot be sent for a reason of its own is given up and the rest goes on. If
    /// there is no room at the moment, the rest stays in the outbox.
    pub fn send(&mut self, socket: &UdpSocket, outbox: &mut Outbox) -> SendReport {
        let mut report = SendReport::default();
        let mut done = 0;
        if self.merges && outbox.len() > 1 {
            self.grouping.group(outbox);
        }
        while done < outbox.len() {
            match self.send_batch(socket, outbox, done) {
                Ok(messages) => {
                    let sent: usize = self.packets.iter().take(messages).sum();
                    let packets = (done..done + sent).filter_map(|place| outbox.get(place));
                    packets.for_each(|(_, bytes)| report.record_sent(bytes.len()));
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The error is that of the first message: had an earlier one been sent, the call
                // would have given back how many.
                Err(error) => {
                    let packets = self.packets.first().copied().unwrap_or(1);
                    if packets > 1 && is_unsupported(&error) {
                        self.merges = false;
                        continue;
                    }
                    if !report.record_error(error) {
                        break;
                    }
                    report.failed += packets - 1;
                    done += packets;
                }
            }
        }
        outbox.remove_front(done);
        report
    }

    /// Sends the packets from `first` on, as many as there are headers. Gives back how many
    /// messages were sent; `self.packets` says how many packets each of them carries.
    fn send_batch(
        &mut self,
        socket: &UdpSocket,
        outbox: &Outbox,
        first: usize,
    ) -> io::Result<usize> {
        let mut place = first;
        let mut iovecs = &mut *self.iovecs.0;
        let mut batch = 0;
        let slots = self.headers.0.iter_mut().zip(&mut self.packets);
        for ((header, packets), control) in slots.zip(&mut self.controls) {
            let Some((path, bytes)) = outbox.get(place).filter(|_| !iovecs.is_empty()) else {
                break;
            };
            *packets = match self.merges {
                true => merge::run(outbox, place, iovecs.len()),
                false => 1,
            };
            let (message, rest) = iovecs.split_at_mut(*packets);
            let segments = (place..).map_while(|place| outbox.get(place));
            for (iovec, (_, bytes)) in message.iter_mut().zip(segments) {
                *iovec = wire::part(bytes);
            }
            let path = Some(path).filter(|_| !socket.is_connected());
            let segment_bytes = (*packets > 1).then_some(bytes.len());
            header.msg_hdr = wire::send_header(message, path, segment_bytes, control);
            place += *packets;
            iovecs = rest;
            batch += 1;
        }
        // Why unsafe: neither std nor socket2 has sendmmsg.
        // SAFETY: the first `batch` headers have just been filled. Each points to iovecs and
        // perhaps control messages of `self`, and those to payloads, and to a name, in the outbox,
        // with their lengths; both are borrowed, so nothing moves before the call returns. The
        // kernel reads all of it and writes the headers' `msg_len` only.
        let sent = unsafe {
            kernel::sendmmsg(
                socket.as_raw_fd(),
                self.headers.0.as_mut_ptr(),
                batch,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
