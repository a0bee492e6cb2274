//! Memory that is shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use libc::c_int;

use crate::map::Shared;

/// Bytes of a frame's place: the least that the kernel allows, and a divisor of any page. It puts
/// what it receives behind [`HEADROOM_BYTES`], so 1,792 bytes are left: enough for an MTU of 1,500
/// and two tags, while places of 4,096 bytes would take twice the memory.
pub(super) const FRAME_BYTES: usize = 2_048;

/// `XDP_PACKET_HEADROOM`: room for headers that a program may put before a frame.
#[cfg(test)]
pub(super) const HEADROOM_BYTES: usize = 256;

/// A mapping that is this one's alone.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: memory belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference gives nothing but addresses and atomic numbers.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New memory, all zeros.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What the kernel shows of a socket.
    pub(super) fn of_socket(socket: &OwnedFd, offset: u64, len: usize) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, socket.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: c_int, descriptor: c_int, offset: u64) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // Why unsafe: memory that is shared with the kernel.
        // SAFETY: a new mapping, at whatever address, replaces none.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                descriptor,
                offset,
            )
        };
        match NonNull::new(start).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Self {
                start: start.cast(),
                len,
            }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// The address, as the kernel takes it.
    pub(super) fn address(&self) -> u64 {
        u64::try_from(self.start.as_ptr().expose_provenance()).unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// So many elements at an offset, if they are within it and aligned. They stay valid as long as
    /// this does.
    pub(super) fn elements<T: Shared>(&self, offset: u64, count: usize) -> Option<NonNull<[T]>> {
        let offset = usize::try_from(offset).ok()?;
        let end = size_of::<T>().checked_mul(count)?.checked_add(offset)?;
        if end > self.len {
            return None;
        }
        // SAFETY: the offset is within the mapping.
        let start = unsafe { self.start.add(offset) }.cast::<T>();
        match start.is_aligned() {
            true => Some(NonNull::slice_from_raw_parts(start, count)),
            false => None,
        }
    }

    /// So many bytes at an offset, if they are within it.
    fn bytes(&self, offset: usize, len: usize) -> Option<NonNull<[u8]>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: the offset is within the mapping.
        let start = unsafe { self.start.add(offset) };
        Some(NonNull::slice_from_raw_parts(start, len))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The places of one half of the memory for frames.
#[derive(Debug)]
pub(super) struct Half {
    memory: Arc<Mapping>,
    first: usize,
    count: usize,
}

impl Half {
    /// Both halves of memory for `2 * count` frames.
    pub(super) fn both(memory: Mapping) -> (Self, Self) {
        let memory = Arc::new(memory);
        let count = memory.len() / FRAME_BYTES / 2;
        let second = Self {
            memory: Arc::clone(&memory),
            first: count,
            count,
        };
        let first = Self {
            memory,
            first: 0,
            count,
        };
        (first, second)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What the kernel calls a place.
    pub(super) fn address(&self, place: usize) -> u64 {
        u64::try_from((self.first + place) * FRAME_BYTES).unwrap_or(u64::MAX)
    }

    /// The place that the kernel means, and the offset in it, if it is one of these.
    pub(super) fn place(&self, address: u64) -> Option<(usize, usize)> {
        let address = usize::try_from(address).ok()?;
        let place = (address / FRAME_BYTES).checked_sub(self.first)?;
        (place < self.count).then_some((place, address % FRAME_BYTES))
    }

    /// A part of a place, if it does not go beyond it.
    ///
    /// # Safety
    /// The place must not be the kernel's at the moment.
    pub(super) unsafe fn bytes(
        &mut self,
        place: usize,
        offset: usize,
        len: usize,
    ) -> Option<&mut [u8]> {
        if place >= self.count || offset.checked_add(len)? > FRAME_BYTES {
            return None;
        }
        let start = (self.first + place) * FRAME_BYTES + offset;
        let mut bytes = self.memory.bytes(start, len)?;
        // Why unsafe: memory that the kernel writes to at other times.
        // SAFETY: it is within the mapping, which was zeros at first and stays until this is
        // dropped. There are two halves of it, so the other one has no reference to these bytes,
        // and this one none but that which borrows it. The kernel has none, as the caller promises.
        Some(unsafe { bytes.as_mut() })
    }
}
