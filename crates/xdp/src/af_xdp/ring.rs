//! Rings between this process and the kernel: one writes entries, the other one reads them.
//!
//! Each side has an index of its own, which it alone writes to, and which counts up for ever. What
//! the other side's index says is never trusted further than that it may lead to a wrong entry.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::memory::Mapping;
use crate::map::Shared;

/// A frame to be received into, or one that was sent: its address.
pub(super) type Address = AtomicU64;

/// A frame that was received, or is to be sent (`struct xdp_desc`).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Descriptor {
    pub(super) address: AtomicU64,
    pub(super) len: AtomicU32,
    pub(super) options: AtomicU32,
}

// SAFETY: it is an atomic number.
unsafe impl Shared for AtomicU64 {}
// SAFETY: it is an atomic number.
unsafe impl Shared for AtomicU32 {}
// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for Descriptor {}

/// One of both sides'.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// What all the others point into.
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<[T]>,
    /// The number of entries, a power of two.
    count: u32,
}

// SAFETY: it is a box of atomic numbers, which any thread may use.
unsafe impl<T: Shared + Send> Send for Ring<T> {}

/// How much memory a ring of so many entries takes.
pub(super) fn bytes<T>(offsets: &libc::xdp_ring_offset, entries: u32) -> Option<usize> {
    let entries = usize::try_from(entries).ok()?;
    let start = usize::try_from(offsets.desc).ok()?;
    size_of::<T>().checked_mul(entries)?.checked_add(start)
}

impl<T: Shared> Ring<T> {
    pub(super) fn new(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Self> {
        let wrong = || io::Error::other("the kernel tells of a ring that cannot be");
        let entries = usize::try_from(count).map_err(io::Error::other)?;
        if !count.is_power_of_two() {
            return Err(wrong());
        }
        let number = |offset| mapping.elements::<AtomicU32>(offset, 1).map(NonNull::cast);
        Ok(Self {
            producer: number(offsets.producer).ok_or_else(wrong)?,
            consumer: number(offsets.consumer).ok_or_else(wrong)?,
            flags: number(offsets.flags).ok_or_else(wrong)?,
            entries: mapping.elements(offsets.desc, entries).ok_or_else(wrong)?,
            _mapping: mapping,
            count,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it is in the mapping, which stays as long as this.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: it is in the mapping, which stays as long as this.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: it is in the mapping, which stays as long as this.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> &T {
        // SAFETY: it is in the mapping, which stays as long as this, was all zeros, which is a
        // value, and what the kernel writes to it are atomic numbers.
        let entries = unsafe { self.entries.as_ref() };
        let slot = usize::try_from(index & (self.count - 1)).unwrap_or_default();
        // There are `count`.
        &entries[slot]
    }
}

/// A ring that this process writes to.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    next: u32,
    published: u32,
    /// The other side's index, as it was at some time.
    consumed: u32,
}

impl<T: Shared> Producer<T> {
    pub(super) fn new(ring: Ring<T>) -> Self {
        let next = ring.producer().load(Ordering::Relaxed);
        Self {
            next,
            published: next,
            consumed: ring.consumer().load(Ordering::Acquire),
            ring,
        }
    }

    /// Writes an entry, which the kernel does not see yet. False: the ring is full.
    pub(super) fn push(&mut self, write: impl FnOnce(&T)) -> bool {
        if self.next.wrapping_sub(self.consumed) >= self.ring.count {
            // The kernel has read what is before its index: the entries may be written to.
            self.consumed = self.ring.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumed) >= self.ring.count {
                return false;
            }
        }
        write(self.ring.entry(self.next));
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Lets the kernel see all entries.
    pub(super) fn publish(&mut self) {
        if self.published != self.next {
            self.ring.producer().store(self.next, Ordering::Release);
            self.published = self.next;
        }
    }

    /// Entries that the kernel has seen, or could, but has not taken.
    pub(super) fn waiting(&self) -> u32 {
        let consumed = self.ring.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(consumed).min(self.ring.count)
    }

    /// Whether the kernel looks at the ring only if it is told to.
    pub(super) fn needs_wakeup(&self) -> bool {
        // It says that it will not look any more, then looks once more. If the flag were read
        // before the index is written, neither would notice the other.
        fence(Ordering::SeqCst);
        self.ring.needs_wakeup()
    }
}

/// A ring that this process reads.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    next: u32,
    released: u32,
}

impl<T: Shared> Consumer<T> {
    pub(super) fn new(ring: Ring<T>) -> Self {
        let next = ring.consumer().load(Ordering::Relaxed);
        Self {
            next,
            released: next,
            ring,
        }
    }

    /// How many entries can be read.
    pub(super) fn ready(&self) -> u32 {
        // What the kernel has written before it was counted is seen from here on.
        let produced = self.ring.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.next).min(self.ring.count)
    }

    /// Reads the next entry. If none is [ready](Self::ready) that is an old one.
    pub(super) fn pop<R>(&mut self, read: impl FnOnce(&T) -> R) -> R {
        let value = read(self.ring.entry(self.next));
        self.next = self.next.wrapping_add(1);
        value
    }

    /// Lets the kernel write to what was read.
    pub(super) fn release(&mut self) {
        if self.released != self.next {
            self.ring.consumer().store(self.next, Ordering::Release);
            self.released = self.next;
        }
    }
}
