//! Receive buffers that the kernel and we pass back and forth.
//!
//! A *buffer ring* is a queue in shared memory: we append the addresses of free buffers, the kernel
//! takes them from the other end, fills them, and names the buffer in a completion. From being
//! appended until being named, a buffer is the kernel's; from being named until being appended
//! again, it is ours. [`BufferPool`] keeps book of that, so that no reference to a buffer of the
//! kernel's can be made.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use aquatic_udp_socket::wire::{self, CONTROL_BYTES, SOCKADDR_BYTES};
use io_uring::Submitter;

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// The most that the kernel takes.
pub(crate) const BUFFERS_MAX: u16 = 1 << 15;

/// `struct io_uring_recvmsg_out`, which precedes each datagram: the lengths of name, control
/// messages and payload, and flags; 32 bits each.
const RECVMSG_OUT_BYTES: usize = 16;

const PAGE_BYTES: usize = 4096;

/// `struct io_uring_buf`, of which the queue consists. Only accessed field by field: a reference to
/// a whole first entry would claim the tail as well, which the kernel reads at any time.
#[repr(C)]
struct BufferEntry {
    addr: u64,
    len: u32,
    buffer: u16,
    /// In the first entry, how many buffers were appended to the queue, modulo 2^16.
    tail: u16,
}

// As in linux/io_uring.h.
const _: () = {
    assert!(size_of::<BufferEntry>() == size_of::<io_uring::types::BufRingEntry>());
    assert!(offset_of!(BufferEntry, addr) == 0);
    assert!(offset_of!(BufferEntry, len) == 8);
    assert!(offset_of!(BufferEntry, buffer) == 12);
    assert!(offset_of!(BufferEntry, tail) == 14);
};

/// What the kernel writes of a datagram besides its payload.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) truncated: bool,
}

pub(crate) struct BufferPool {
    /// Tells the kernel how much room to leave for name and control messages.
    layout: Box<libc::msghdr>,
    entries: Pages,
    buffers: Pages,
    stride: usize,
    buffer_bytes: u32,
    /// How many buffers there are: a power of two.
    count: u16,
    tail: u16,
    /// Whether we, not the kernel, own the buffer.
    ours: Box<[bool]>,
    ours_count: usize,
}

impl BufferPool {
    /// `count` buffers (rounded up to a power of two) for datagrams of up to `datagram_bytes_max`
    /// bytes, all ours at first.
    pub(crate) fn new(count: u16, datagram_bytes_max: usize) -> io::Result<Self> {
        let count = count.clamp(1, BUFFERS_MAX).next_power_of_two();
        let bytes = RECVMSG_OUT_BYTES + SOCKADDR_BYTES + CONTROL_BYTES + datagram_bytes_max;
        let stride = wire::buffer_stride(bytes);
        let mut layout = Box::new(wire::empty_header());
        layout.msg_namelen = u32::try_from(SOCKADDR_BYTES).map_err(io::Error::other)?;
        layout.msg_controllen = wire::len_as(CONTROL_BYTES);
        Ok(Self {
            layout,
            entries: Pages::new(usize::from(count) * size_of::<BufferEntry>())?,
            buffers: Pages::new(usize::from(count) * stride)?,
            stride,
            buffer_bytes: u32::try_from(bytes).map_err(io::Error::other)?,
            count,
            tail: 0,
            ours: vec![true; usize::from(count)].into(),
            ours_count: usize::from(count),
        })
    }

    /// Makes the pool known to the ring and gives all buffers to the kernel.
    ///
    /// # Safety
    /// The pool must be dropped only after the last request of the ring that takes buffers has
    /// ended, and must be registered once.
    pub(crate) unsafe fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        // Why unsafe: the kernel will read the queue, and write to the buffers in it, at any time.
        // SAFETY: the memory is page-aligned, has room for `count` entries, and stays until the
        // pool is dropped, which the caller delays until the ring is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(self.entries.expose(), self.count, GROUP, 0)?;
        };
        self.give_all();
        Ok(())
    }

    fn give_all(&mut self) {
        for buffer in 0..self.count {
            self.give_back(buffer);
        }
    }

    /// What a multishot receive takes as its `msghdr`: lengths only.
    pub(crate) fn layout(&self) -> *const libc::msghdr {
        &raw const *self.layout
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Whether the kernel has any buffer to receive into.
    pub(crate) fn has_free(&self) -> bool {
        self.ours_count < usize::from(self.count)
    }

    /// Takes over a buffer that the kernel has filled.
    ///
    /// # Safety
    /// A completion of this ring must have named the buffer, and each completion counts once.
    pub(crate) unsafe fn take_over(&mut self, buffer: u16) {
        if let Some(ours) = self.ours.get_mut(usize::from(buffer))
            && !*ours
        {
            *ours = true;
            self.ours_count += 1;
        }
    }

    /// Reads the datagram whose receipt was reported with the result `len`. `None` if the buffer is
    /// not ours or is too short to hold the lengths that precede a datagram.
    pub(crate) fn read(&self, buffer: u16, len: u32) -> Option<Received<'_>> {
        let place = usize::from(buffer);
        if !self.ours.get(place).copied()? {
            return None;
        }
        let len = usize::try_from(len.min(self.buffer_bytes)).ok()?;
        // Why unsafe: the memory as a whole is shared with the kernel, so it is no Rust slice.
        // SAFETY: `place` is below `count`, since `ours` has that length; the buffer lies within
        // the allocation, which was zeroed and so is initialised; and it is ours, so the kernel
        // leaves it alone until `give_back`, which needs `&mut self` and so waits for the result to
        // be dropped.
        let bytes = unsafe {
            let start = self.buffers.start.as_ptr().add(place * self.stride);
            std::slice::from_raw_parts(start, len)
        };
        let (header, rest) = bytes.split_first_chunk::<RECVMSG_OUT_BYTES>()?;
        let (name, rest) = rest.split_at_checked(SOCKADDR_BYTES)?;
        let (control, payload) = rest.split_at_checked(CONTROL_BYTES)?;
        let [name_len, control_len, _payload_len, flags] = [0, 4, 8, 12].map(|at| {
            header
                .get(at..)?
                .first_chunk()
                .map(|b| u32::from_ne_bytes(*b))
        });
        Some(Received {
            name: cut(name, name_len?),
            control: cut(control, control_len?),
            payload,
            truncated: flags? & libc::MSG_TRUNC.cast_unsigned() != 0,
        })
    }

    /// Gives a buffer (back) to the kernel. Does nothing if it is the kernel's already.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let place = usize::from(buffer);
        match self.ours.get_mut(place) {
            Some(ours) if *ours => *ours = false,
            _ => return,
        }
        self.ours_count -= 1;
        let slot = usize::from(self.tail & (self.count - 1));
        // Why unsafe: this is the queue that the kernel reads.
        // SAFETY: `slot` is below `count`, so the entry lies within the allocation; and so does the
        // buffer, since `place` is, too. The kernel does not read the slot before the tail
        // says so, because at most `count` buffers are its at a time; it never writes here. The
        // tail is aligned for 16 bits, and only accessed as an atomic.
        unsafe {
            let entries = self.entries.start.as_ptr().cast::<BufferEntry>();
            let entry = entries.add(slot);
            let addr = self.buffers.expose() + (place * self.stride) as u64;
            (&raw mut (*entry).addr).write(addr);
            (&raw mut (*entry).len).write(self.buffer_bytes);
            (&raw mut (*entry).buffer).write(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = &raw mut (*entries).tail;
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the memory up without freeing it: the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.entries.leaked = true;
        self.buffers.leaked = true;
    }
}

/// The kernel reports the length that it had, which may be more than there was room for.
fn cut(bytes: &[u8], len: u32) -> &[u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    bytes.get(..len).unwrap_or(bytes)
}

/// Zeroed, page-aligned memory that is shared with the kernel and so never borrowed as a whole.
struct Pages {
    /// What the allocator gave, somewhat more than is needed.
    allocation: NonNull<u8>,
    /// The first page in it.
    start: NonNull<u8>,
    layout: Layout,
    leaked: bool,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Self> {
        // Allocators clear memory of a large alignment by writing to all of it, and then it is
        // resident before it is used. Without that wish they get it cleared from the system.
        let bytes = bytes.saturating_add(PAGE_BYTES);
        let layout = Layout::from_size_align(bytes, 1).map_err(io::Error::other)?;
        // Why unsafe: no safe container gives up its claim to be the only one that writes.
        // SAFETY: the size is not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        let Some(allocation) = NonNull::new(allocation) else {
            handle_alloc_error(layout);
        };
        let unused_bytes =
            allocation.addr().get().next_multiple_of(PAGE_BYTES) - allocation.addr().get();
        Ok(Self {
            allocation,
            // SAFETY: less than a page, by which the allocation is larger than what is needed.
            start: unsafe { allocation.add(unused_bytes) },
            layout,
            leaked: false,
        })
    }

    /// The address of the first page, for the kernel. From now on it may make a pointer of it,
    /// which is why `addr()`, of which nobody may, would not do.
    fn expose(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated in `new` with this layout, and freed once.
            unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
#[path = "pool/tests.rs"]
mod tests;
