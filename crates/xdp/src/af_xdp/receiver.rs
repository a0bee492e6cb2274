//! What comes in.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls;
use super::memory::Half;
use super::ring::{Address, Consumer, Descriptor, Producer};

/// The half of a [`Queue`](super::Queue) that receives.
#[derive(Debug)]
pub struct Receiver {
    received: Consumer<Descriptor>,
    fill: Producer<Address>,
    frames: Half,
    socket: Arc<OwnedFd>,
}

impl Receiver {
    /// With all frames in the kernel's hands.
    pub(super) fn new(
        received: Consumer<Descriptor>,
        fill: Producer<Address>,
        frames: Half,
        socket: Arc<OwnedFd>,
    ) -> Self {
        let mut receiver = Self {
            received,
            fill,
            frames,
            socket,
        };
        for place in 0..receiver.frames.count() {
            receiver.give_back(place);
        }
        receiver.fill.publish();
        receiver
    }

    /// Hands frames to `each` that have come, `max` of them at most, and gives their places back to
    /// the kernel. How many there were. Never waits.
    ///
    /// # Errors
    /// If the interface is gone, or its driver cannot receive by this queue. What has come was
    /// handed over nonetheless.
    pub fn receive(&mut self, max: usize, mut each: impl FnMut(&mut [u8])) -> io::Result<usize> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let count = self.received.ready().min(max);
        for _ in 0..count {
            let (address, len) = self.received.pop(|descriptor| {
                let address = descriptor.address.load(Ordering::Relaxed);
                (address, descriptor.len.load(Ordering::Relaxed))
            });
            // Anything else is nonsense, which no kernel says.
            if let Some((place, offset)) = self.frames.place(address) {
                // Before `each`, which may panic. The kernel does not see it yet.
                self.give_back(place);
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                // SAFETY: the kernel has named the place, so it has done with it, and sees that it
                // is given back only when `publish` is called, after this borrow.
                let bytes = unsafe { self.frames.bytes(place, offset, len) };
                bytes.into_iter().for_each(&mut each);
            }
        }
        self.received.release();
        self.fill.publish();
        self.wake()?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn give_back(&mut self, place: usize) {
        let address = self.frames.address(place);
        // There is room for all.
        self.fill
            .push(|entry| entry.store(address, Ordering::Relaxed));
    }

    /// A driver that had no place left stops, and waits for this.
    fn wake(&self) -> io::Result<()> {
        if !self.fill.needs_wakeup() {
            return Ok(());
        }
        match calls::wake_receiver(&self.socket) {
            // The interface is down, or the driver changes something, or a signal came: it is woken
            // again by the next call, as the flag stays.
            Err(error) if is_passing(&error) => Ok(()),
            result => result,
        }
    }
}

/// Whether an error ends by itself.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENETDOWN | libc::EINTR)
    )
}
