//! Socket options that the standard library and socket2 do not offer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an integer option.
#[cfg(target_os = "linux")]
pub(crate) fn set_int(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: an integer holds no pointer.
    unsafe { set(socket, level, name, &value) }
}

/// Attaches a classic BPF program.
#[cfg(target_os = "linux")]
pub(crate) fn attach_filter(
    socket: &impl AsFd,
    name: libc::c_int,
    filter: &[libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` holds the address and the length of a borrowed slice, which the kernel
    // copies.
    unsafe { set(socket, libc::SOL_SOCKET, name, &program) }
}

/// Sets an option whose value is a C type.
///
/// # Safety
/// If `T` holds pointers, they must be valid for what the option `name` makes the kernel do.
#[cfg(target_os = "linux")]
unsafe fn set<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let bytes =
        libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Why unsafe: neither std nor socket2 knows these options.
    // SAFETY: `value` is valid for reads of `bytes` bytes during the call, the kernel only reads
    // it, and the descriptor is open because it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            bytes,
        )
    };
    check(result)
}

/// Waits until the socket can be read. `false`: the time was over or a signal came.
pub(crate) fn poll_readable(socket: &impl AsFd, timeout_ms: libc::c_int) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: socket.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Why unsafe: std has no poll.
    // SAFETY: `poll` is one valid structure, and the count says so.
    let ready = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
    match check(ready.min(0)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(ready > 0),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
