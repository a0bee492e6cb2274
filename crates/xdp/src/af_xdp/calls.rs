//! The system calls on AF_XDP sockets.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_int, socklen_t};

/// libc has the number for glibc only.
const AF_XDP: c_int = 44;

/// Of Linux 6.17. libc does not have it yet.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

/// Types that may be any bytes, so that the kernel can write one.
///
/// # Safety
/// All bytes must be a value, without padding between them.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: numbers without padding, as for all of these.
unsafe impl Plain for u32 {}
// SAFETY: four numbers of 64 bits each, in four structures.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six numbers of 64 bits.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: one number.
unsafe impl Plain for libc::xdp_options {}

/// A new socket, of no queue yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let descriptor = unsafe { libc::socket(AF_XDP, kind, 0) };
    check(descriptor)?;
    // SAFETY: a descriptor that the kernel has just opened, and nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Makes `memory` the one in which frames are.
pub(super) fn register(socket: &OwnedFd, memory: &libc::xdp_umem_reg) -> io::Result<()> {
    // Why unsafe: it holds an address.
    // SAFETY: the kernel pins the pages that are there, or fails: they stay its own until it closes
    // the socket, even if they are unmapped here. What it writes to them, and when, is what `Half`
    // is about.
    unsafe { set(socket, libc::XDP_UMEM_REG, memory) }
}

/// Sets the size of a ring.
pub(super) fn set_entries(socket: &OwnedFd, ring: c_int, entries: u32) -> io::Result<()> {
    // SAFETY: a number holds no pointer.
    unsafe { set(socket, ring, &entries) }
}

/// Sets how many frames one [`wake_sender`] sends at most where the kernel copies them.
pub(super) fn set_budget(socket: &OwnedFd, frames: u32) -> io::Result<()> {
    // SAFETY: a number holds no pointer.
    unsafe { set(socket, XDP_MAX_TX_SKB_BUDGET, &frames) }
}

/// # Safety
/// If `T` holds addresses, they must be valid for what the option makes the kernel do.
unsafe fn set<T>(socket: &OwnedFd, name: c_int, value: &T) -> io::Result<()> {
    let bytes = socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // Why unsafe: std does not know these options.
    // SAFETY: `value` is valid for reads of so many bytes, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            name,
            (&raw const *value).cast(),
            bytes,
        )
    };
    check(result)
}

/// Asks for an option.
pub(super) fn get<T: Plain>(socket: &OwnedFd, name: c_int) -> io::Result<T> {
    let mut bytes = socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut value = MaybeUninit::<T>::zeroed();
    // Why unsafe: std does not know these options.
    // SAFETY: `value` is valid for writes of so many bytes, and the kernel writes no more.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            name,
            value.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    check(result)?;
    // Old kernels know less of it.
    if usize::try_from(bytes) != Ok(size_of::<T>()) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: it was all zeros, and any bytes that the kernel has written are a value, too.
    Ok(unsafe { value.assume_init() })
}

/// Gives the socket a queue of an interface.
pub(super) fn bind(socket: &OwnedFd, interface: u32, queue: u32, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(AF_XDP).map_err(io::Error::other)?,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let bytes = socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // Why unsafe: std does not know this kind of address.
    // SAFETY: `address` is valid for reads of so many bytes, and the kernel only reads it.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
    check(result)
}

/// Has the kernel look at the ring of frames that are to be sent.
pub(super) fn wake_sender(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: neither data nor address is passed.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null(),
            0,
        )
    };
    check(c_int::try_from(result).unwrap_or(0))
}

/// Has the kernel look at the ring of frames that it may fill.
pub(super) fn wake_receiver(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: there is room neither for data nor for an address.
    let result = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(c_int::try_from(result).unwrap_or(0))
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
