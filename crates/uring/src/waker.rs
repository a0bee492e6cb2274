//! Ending a ring's wait from another thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Wakes the thread that waits at a [`Ring`](crate::Ring), now or when it next waits.
///
/// Made before the ring, so that it can be given to other threads before the worker starts. Cheap
/// to clone. Each use is a system call: call it only if the other side really sleeps.
#[derive(Clone, Debug)]
pub struct Waker {
    /// An eventfd. It is never read: the ring notices each write, and the number in it, which each
    /// write adds one to, does not overflow within a lifetime.
    eventfd: Arc<File>,
}

impl Waker {
    /// A waker that is not yet connected to a ring.
    ///
    /// # Errors
    /// If the process has too many open files.
    pub fn new() -> io::Result<Self> {
        // Why unsafe: std has no eventfd.
        // SAFETY: no pointer is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been opened, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            eventfd: Arc::new(fd.into()),
        })
    }

    /// Makes the ring report [`Event::Woken`](crate::Event::Woken). Several calls may be reported
    /// as one.
    ///
    /// # Errors
    /// None that can be named.
    pub fn wake(&self) -> io::Result<()> {
        (&*self.eventfd).write_all(&1u64.to_ne_bytes())
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
    use std::io::Read;

    use super::*;

    #[test]
    fn each_use_is_seen_once() {
        let waker = Waker::new().unwrap();
        let other = waker.clone();
        std::thread::spawn(move || other.wake().unwrap())
            .join()
            .unwrap();
        waker.wake().unwrap();
        let mut number = [0; 8];
        (&*waker.eventfd).read_exact(&mut number).unwrap();
        assert_eq!(u64::from_ne_bytes(number), 2);
    }
}
