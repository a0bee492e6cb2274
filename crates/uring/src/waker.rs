//! Ending a ring's wait from another thread.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes the thread that waits at a [`Ring`](crate::Ring), now or when it next waits.
///
/// Made before the ring, so that it can be given to other threads before the worker starts. Cheap
/// to clone. Each use is a system call: call it only if the other side really sleeps.
#[derive(Clone, Debug)]
pub struct Waker {
    /// It is never read: the ring notices each write, and the number in it, which each
    /// write adds one to, does not overflow within a lifetime.
    eventfd: Arc<EventFd>,
}

impl Waker {
    /// A waker that is not yet connected to a ring.
    ///
    /// # Errors
    /// If the process has too many open files.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            eventfd: Arc::new(EventFd::from_flags(flags)?),
        })
    }

    /// Makes the ring report [`Event::Woken`](crate::Event::Woken). Several calls may be reported
    /// as one.
    ///
    /// # Errors
    /// None that can be named.
    pub fn wake(&self) -> io::Result<()> {
        self.eventfd.write(1)?;
        Ok(())
    }
}

/// For an event loop of another kind: readable from the first use on, for ever. So it has to be
/// watched for edges.
impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_is_seen_once() {
        let waker = Waker::new().unwrap();
        let other = waker.clone();
        std::thread::spawn(move || other.wake().unwrap())
            .join()
            .unwrap();
        waker.wake().unwrap();
        assert_eq!(waker.eventfd.read(), Ok(2));
    }
}
