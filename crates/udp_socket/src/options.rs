//! Socket options that the standard library and socket2 do not offer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::kernel;

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
        kernel::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            bytes,
        )
    };
    check(result)
}

/// Reads an integer option.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn get_int(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut bytes =
        libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for writes of `bytes` bytes during the call, and any bytes are an
    // integer; the descriptor is open because it is borrowed.
    let result = unsafe {
        kernel::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    check(result).map(|()| value)
}

/// How many datagrams for this socket the kernel has thrown away since it was opened, modulo 2^32.
#[cfg(target_os = "linux")]
pub(crate) fn drops(socket: &impl AsFd) -> io::Result<u32> {
    // An array of 32-bit numbers, which newer kernels make longer; see sock_diag(7).
    const DROPS: usize = libc::SK_MEMINFO_DROPS.unsigned_abs() as usize;
    let mut info = [0_u32; DROPS + 1];
    let mut bytes =
        libc::socklen_t::try_from(size_of_val(&info)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Why unsafe: neither std nor socket2 knows this option.
    // SAFETY: `info` is valid for writes of `bytes` bytes, which is all that the kernel writes; any
    // bytes are valid numbers; and the descriptor is open because it is borrowed.
    let result = unsafe {
        kernel::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    check(result)?;
    Ok(info[DROPS])
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn drops(_socket: &impl AsFd) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
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
    let ready = unsafe { kernel::poll(&raw mut poll, 1, timeout_ms) };
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
