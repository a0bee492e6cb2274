//! Whether io_uring works on this machine.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use aquatic_udp_socket::{Outbox, ReturnPath, SocketOptions, UdpSocket};

use crate::{Event, Ring, RingOptions};

/// Why io_uring cannot be used here, and what an operator can do about it.
#[derive(Debug)]
pub struct Unsupported {
    /// One sentence without a full stop.
    pub reason: String,
}

impl Display for Unsupported {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unsupported {}

/// Sends a datagram through a small ring and receives it through the same ring. That tries all that
/// a [`Ring`] needs; asking the kernel for its version would not, since containers and sandboxes
/// forbid or imitate parts of it.
///
/// # Errors
/// With the reason, if it does not work.
pub fn probe() -> Result<(), Unsupported> {
    match round_trip() {
        Ok(true) => Ok(()),
        Ok(false) => Err(unsupported("a test datagram was not received".into())),
        Err(error) => Err(Unsupported::because(&error, "6.0")),
    }
}

fn unsupported(reason: String) -> Unsupported {
    Unsupported {
        reason: format!("io_uring cannot be used: {reason}"),
    }
}

impl Unsupported {
    /// Explains what a system call of io_uring has answered. `linux_min` is the first kernel with
    /// all that the caller needs of it.
    #[must_use]
    pub fn because(error: &io::Error, linux_min: &str) -> Self {
        unsupported(explain(error, linux_min))
    }
}

fn explain(error: &io::Error, linux_min: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => format!(
            "the kernel does not have it, or a sandbox hides it (Linux {linux_min} or later is \
             needed; container runtimes need a seccomp profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register)"
        ),
        Some(libc::EPERM | libc::EACCES) => format!(
            "it is forbidden to this process ({}; container runtimes need a seccomp profile \
             that allows io_uring_setup, io_uring_enter and io_uring_register)",
            sysctl()
        ),
        Some(libc::EINVAL) => {
            format!("the kernel is too old: Linux {linux_min} or later is needed")
        }
        Some(libc::ENOMEM) => {
            "not enough memory may be locked: raise the limit (ulimit -l, LimitMEMLOCK= in a \
             systemd unit)"
                .into()
        }
        _ => error.to_string(),
    }
}

fn sysctl() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(value) => format!(
            "sysctl kernel.io_uring_disabled is {}, 0 allows it",
            value.trim()
        ),
        Err(_) => "sysctl kernel.io_uring_disabled does not exist".into(),
    }
}

fn round_trip() -> io::Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const TURNS_MAX: usize = 10;

    let bind = |ip: &str| {
        let addr = ip.parse().map_err(io::Error::other)?;
        UdpSocket::bind(addr, &SocketOptions::default())
    };
    let socket = bind("127.0.0.1:0").or_else(|_| bind("[::1]:0"))?;
    let options = RingOptions {
        entries: 8,
        buffers: 8,
        datagram_bytes_max: 64,
    };
    let mut ring = Ring::new(&options, &[&socket], None)?;
    let mut outbox = Outbox::new();
    outbox.push(ReturnPath::to(socket.local_addr()), b"probe");
    ring.send(0, &mut outbox)?;
    for _ in 0..TURNS_MAX {
        let mut events = ring.wait(Some(PATIENCE))?;
        if events.is_empty() {
            break;
        }
        while let Some(event) = events.next_event() {
            if matches!(event, Event::Datagram { datagram, .. } if datagram.bytes == b"probe") {
                return Ok(true);
            }
        }
    }
    match ring.take_report(0).last_error {
        Some(error) => Err(error),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_say_what_to_do() {
        for (errno, hint) in [
            (libc::ENOSYS, "Linux 6.0"),
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::EINVAL, "too old"),
            (libc::ENOMEM, "LimitMEMLOCK"),
        ] {
            let reason = explain(&io::Error::from_raw_os_error(errno), "6.0");
            assert!(reason.contains(hint), "{reason}");
        }
    }
}
