//! An array that a program and this process share.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::kernel;

/// Types that the kernel may write to at any time while they are borrowed here.
///
/// # Safety
/// All zeros must be a value, and every field be an atomic number.
pub(crate) unsafe trait Shared {}

/// Some of these, all zeros at first, in memory of the kernel's.
#[derive(Debug)]
pub(crate) struct Array<T> {
    descriptor: OwnedFd,
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
}

// SAFETY: it is a box of atomic numbers, which any thread may use and drop.
unsafe impl<T: Shared + Send> Send for Array<T> {}
// SAFETY: the same.
unsafe impl<T: Shared + Sync> Sync for Array<T> {}

impl<T: Shared> Array<T> {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        const {
            // The kernel rounds sizes of elements up to this.
            assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0);
            assert!(align_of::<T>() <= 8);
        }
        let entries = u32::try_from(len).map_err(io::Error::other)?;
        let value_bytes = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
        let descriptor = kernel::create_array(value_bytes, entries)?;
        let start = map(&descriptor, size_of::<T>() * len)?;
        Ok(Self {
            descriptor,
            start: start.cast(),
            len,
            owns: PhantomData,
        })
    }

    pub(crate) fn elements(&self) -> &[T] {
        // SAFETY: the mapping has room for so many, is aligned to a page, was all zeros, which is a
        // value, and stays until this is dropped. What the kernel writes to it are atomic numbers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> AsFd for Array<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn map(descriptor: &OwnedFd, bytes: usize) -> io::Result<NonNull<libc::c_void>> {
    // Why unsafe: memory that is shared with the kernel.
    // SAFETY: a new mapping, at whatever address, replaces none.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            descriptor.as_raw_fd(),
            0,
        )
    };
    match NonNull::new(start).filter(|_| start != libc::MAP_FAILED) {
        Some(start) => Ok(start),
        None => Err(io::Error::last_os_error()),
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), size_of::<T>() * self.len) };
    }
}
