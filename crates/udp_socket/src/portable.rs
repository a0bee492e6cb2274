//! One datagram per system call, with the standard library alone: for Unix systems that have no
//! `recvmmsg`.
//!
//! It does the same as [`mmsg`](crate::mmsg) with two exceptions: it is slower, and it knows no
//! packet info, so an answer leaves from the address that the kernel chooses. On a host with
//! several addresses, bind a socket to each of them.
//!
//! Linux compiles and tests it too, so that it does not rot.

use std::io;
use std::net::SocketAddr;

use crate::datagram::{ICMP_ERRORS_PER_RECEIVE_MAX, is_icmp};
use crate::{Datagram, Outbox, ReturnPath, SendReport, UdpSocket};

/// Receives datagrams by the batch.
pub struct Receiver {
    payloads: Box<[u8]>,
    datagrams: Vec<(SocketAddr, usize)>,
    datagram_bytes_max: usize,
}

impl Receiver {
    /// Up to `batch` datagrams per call, of up to `datagram_bytes_max` bytes each: what is beyond
    /// is cut off, and the datagram marked as truncated.
    #[must_use]
    pub fn new(batch: usize, datagram_bytes_max: usize) -> Self {
        let batch = batch.max(1);
        Self {
            payloads: vec![0; batch * slot_bytes(datagram_bytes_max)].into(),
            datagrams: Vec::with_capacity(batch),
            datagram_bytes_max,
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
        self.datagrams.clear();
        let mut icmp_errors = 0;
        let mut slots = self
            .payloads
            .chunks_exact_mut(slot_bytes(self.datagram_bytes_max));
        let mut slot = slots.next();
        while let Some(payload) = slot.as_deref_mut() {
            match socket.std().recv_from(payload) {
                Ok((len, peer)) => {
                    self.datagrams.push((peer, len));
                    slot = slots.next();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is_icmp(&error) => {
                    icmp_errors += 1;
                    if icmp_errors == ICMP_ERRORS_PER_RECEIVE_MAX {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.datagrams.len())
    }

    /// What the last call of [`receive`](Self::receive) read.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let slots = self
            .payloads
            .chunks_exact(slot_bytes(self.datagram_bytes_max));
        self.datagrams.iter().zip(slots).map(|((peer, len), slot)| {
            let bytes_max = self.datagram_bytes_max.min(slot.len());
            Datagram {
                path: ReturnPath::to(*peer),
                bytes: slot.get(..(*len).min(bytes_max)).unwrap_or(slot),
                truncated: *len > bytes_max,
            }
        })
    }
}

/// `recv_from` does not say that it cut a datagram off: one byte more tells.
fn slot_bytes(datagram_bytes_max: usize) -> usize {
    datagram_bytes_max + 1
}

/// Sends packets one after the other.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sender {}

impl Sender {
    /// `batch` has no meaning here.
    #[must_use]
    pub fn new(_batch: usize) -> Self {
        Self {}
    }

    /// Sends all packets of the outbox, without waiting.
    ///
    /// A packet that cannot be sent for a reason of its own is given up and the rest goes on. If
    /// there is no room at the moment, the rest stays in the outbox.
    pub fn send(&mut self, socket: &UdpSocket, outbox: &mut Outbox) -> SendReport {
        let mut report = SendReport::default();
        let mut done = 0;
        while let Some((path, bytes)) = outbox.get(done) {
            let result = if socket.is_connected() {
                socket.std().send(bytes)
            } else {
                socket.std().send_to(bytes, path.peer())
            };
            match result {
                Ok(_) => report.record_sent(bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    if !report.record_error(error) {
                        break;
                    }
                }
            }
            done += 1;
        }
        outbox.remove_front(done);
        report
    }
}
