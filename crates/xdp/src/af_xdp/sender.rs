//! What goes out.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls;
use super::memory::{FRAME_BYTES, Half};
use super::receiver::is_passing;
use super::ring::{Address, Consumer, Descriptor, Producer};

/// The least length of a frame without its checksum (IEEE 802.3). Most network cards fill up
/// shorter ones, but not all drivers tell them to.
const LEN_MIN: usize = 60;

/// The length of a header without tag. No less can be sent.
const HEADER_BYTES: usize = 14;

/// The half of a [`Queue`](super::Queue) that sends.
#[derive(Debug)]
pub struct Sender {
    transmit: Producer<Descriptor>,
    sent: Consumer<Address>,
    frames: Half,
    /// Places that are not the kernel's. The last one is used first, as it is the likeliest to be
    /// in the processor's cache.
    free: Vec<usize>,
    /// The same by place, so that the kernel cannot give back a place twice.
    is_free: Box<[bool]>,
    socket: Arc<OwnedFd>,
}

impl Sender {
    pub(super) fn new(
        transmit: Producer<Descriptor>,
        sent: Consumer<Address>,
        frames: Half,
        socket: Arc<OwnedFd>,
    ) -> Self {
        Self {
            transmit,
            sent,
            free: (0..frames.count()).rev().collect(),
            is_free: vec![true; frames.count()].into(),
            frames,
            socket,
        }
    }

    /// A frame to write to, of [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX) bytes that may be
    /// anything. `None`: all are on their way. Never waits.
    ///
    /// Nothing becomes of it if it is not [committed](TransmitFrame::commit).
    pub fn frame(&mut self) -> Option<TransmitFrame<'_>> {
        if self.free.is_empty() {
            self.take_back();
        }
        let place = *self.free.last()?;
        Some(TransmitFrame {
            sender: self,
            place,
        })
    }

    /// Hands all frames to the kernel that were committed, and takes those back that have been
    /// sent. If it cannot take all, the others are [waiting](Self::waiting), and go out by a later
    /// call: its buffers are full, or the interface is down. Never waits.
    ///
    /// # Errors
    /// If the interface is gone, or its driver cannot send by this queue.
    pub fn flush(&mut self) -> io::Result<()> {
        self.transmit.publish();
        let result = self.wake();
        self.take_back();
        result
    }

    /// How many frames have been handed to the kernel that it has not taken yet. With zero-copy
    /// that is the driver's matter; else [`flush`](Self::flush) has to be called again.
    #[must_use]
    pub fn waiting(&self) -> usize {
        usize::try_from(self.transmit.waiting()).unwrap_or(usize::MAX)
    }

    /// Without zero-copy it is these calls that send: 32 frames each, or all since Linux 6.17. What
    /// they say:
    ///
    /// | error | meaning |
    /// |---|---|
    /// | `EAGAIN` | there are more; or the socket's or the driver's buffers are full |
    /// | `EBUSY` | the driver has dropped a frame, or is about to change something |
    /// | `ENOBUFS` | there is no memory for a buffer now |
    /// | `ENETDOWN` | the interface is down |
    fn wake(&self) -> io::Result<()> {
        let mut waiting = self.transmit.waiting();
        while waiting > 0 && self.transmit.needs_wakeup() {
            let result = calls::wake_sender(&self.socket);
            match result {
                Ok(()) => break,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            let before = mem::replace(&mut waiting, self.transmit.waiting());
            // Each further call has taken some, so it ends.
            if waiting >= before {
                break;
            }
        }
        Ok(())
    }

    fn take_back(&mut self) {
        for _ in 0..self.sent.ready() {
            let address = self.sent.pop(|entry| entry.load(Ordering::Relaxed));
            let place = self.frames.place(address).map(|(place, _)| place);
            // Anything else is nonsense, which no kernel says.
            if let Some(place) = place
                && let Some(is_free @ false) = self.is_free.get_mut(place)
            {
                *is_free = true;
                self.free.push(place);
            }
        }
        self.sent.release();
    }

    /// Puts the first `len` bytes of the free place that is the last into the ring.
    fn commit(&mut self, place: usize, len: usize) -> bool {
        let address = self.frames.address(place);
        let Ok(bytes) = u32::try_from(len) else {
            return false;
        };
        let is_in = self.transmit.push(|descriptor| {
            descriptor.address.store(address, Ordering::Relaxed);
            descriptor.len.store(bytes, Ordering::Relaxed);
            descriptor.options.store(0, Ordering::Relaxed);
        });
        if is_in {
            self.free.pop();
            if let Some(is_free) = self.is_free.get_mut(place) {
                *is_free = false;
            }
        }
        is_in
    }
}

/// A frame that is being written.
#[derive(Debug)]
pub struct TransmitFrame<'a> {
    sender: &'a mut Sender,
    /// The last one of those that are free.
    place: usize,
}

impl TransmitFrame<'_> {
    /// What is to be written to: [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX) bytes, with what an
    /// earlier frame has left in them.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the place is free, and stays so as long as this borrows the sender.
        let bytes = unsafe { self.sender.frames.bytes(self.place, 0, FRAME_BYTES) };
        bytes.unwrap_or_default()
    }

    /// Has the first `len` bytes sent by the next [`flush`](Sender::flush). Short frames are filled
    /// up by zeros, so that nothing of an earlier frame is sent.
    ///
    /// False: there is no frame of such a length, so nothing is sent.
    pub fn commit(mut self, len: usize) -> bool {
        let bytes = self.bytes();
        if len < HEADER_BYTES || len > bytes.len() {
            return false;
        }
        if let Some(rest) = bytes.get_mut(len..LEN_MIN) {
            rest.fill(0);
        }
        self.sender.commit(self.place, len.max(LEN_MIN))
    }
}
