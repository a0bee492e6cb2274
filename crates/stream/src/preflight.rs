//! Whether glommio can run on this machine.
//!
//! Where it cannot, glommio panics or ends the process by itself, with words that help nobody. So a
//! daemon asks here first, in its main thread and before it has dropped privileges, and an operator
//! who has asked for glommio is told what to change.

use std::fs;
use std::io;

use aquatic_uring::Unsupported;
use io_uring::{IoUring, Probe, opcode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Major and minor version of the first kernel that has all that glommio uses.
const LINUX_MIN: (u32, u32) = (5, 8);

/// What glommio asks the kernel for when it starts, whether it will be used or not.
const OPERATIONS: [u8; 23] = [
    opcode::Nop::CODE,
    opcode::Readv::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::ReadFixed::CODE,
    opcode::WriteFixed::CODE,
    opcode::PollAdd::CODE,
    opcode::PollRemove::CODE,
    opcode::SendMsg::CODE,
    opcode::RecvMsg::CODE,
    opcode::Timeout::CODE,
    opcode::TimeoutRemove::CODE,
    opcode::Accept::CODE,
    opcode::LinkTimeout::CODE,
    opcode::Connect::CODE,
    opcode::Fallocate::CODE,
    opcode::OpenAt::CODE,
    opcode::Close::CODE,
    opcode::Statx::CODE,
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Send::CODE,
    opcode::Recv::CODE,
];

/// Bytes that one executor may want to lock in memory: three rings (where the kernel is older than
/// 5.12) and buffers that it registers with them. glommio does not start with less.
const LOCKED_BYTES_PER_EXECUTOR: u64 = 512 * 1024;

/// Makes sure that this process can run so many executors.
///
/// Raises the soft limit of locked memory as far as the hard limit allows it.
///
/// # Errors
/// With the reason and what to change, if it cannot.
pub fn check(executors: usize) -> Result<(), Unsupported> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_kernel(release.trim())?;
    allow_locked_memory(executors)?;
    check_operations()
}

fn unsupported(reason: String) -> Unsupported {
    Unsupported {
        reason: format!("glommio cannot be used: {reason}"),
    }
}

/// `release` is a kernel's name for itself: `6.1.0-18-amd64`, say. One that is not understood may
/// be new enough.
fn check_kernel(release: &str) -> Result<(), Unsupported> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    match (next(), next()) {
        (Some(major), Some(minor)) if (major, minor) < LINUX_MIN => Err(unsupported(format!(
            "the kernel is Linux {release}, {} or later is needed",
            linux_min()
        ))),
        _ => Ok(()),
    }
}

fn linux_min() -> String {
    let (major, minor) = LINUX_MIN;
    format!("{major}.{minor}")
}

fn allow_locked_memory(executors: usize) -> Result<(), Unsupported> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)
        .map_err(|error| unsupported(format!("no limit of locked memory: {error}")))?;
    let executors = u64::try_from(executors).unwrap_or(u64::MAX);
    let wanted = LOCKED_BYTES_PER_EXECUTOR.saturating_mul(executors);
    if soft >= wanted {
        return Ok(());
    }
    let raised = wanted <= hard && setrlimit(Resource::RLIMIT_MEMLOCK, wanted, hard).is_ok();
    raised.then_some(()).ok_or_else(|| too_little(wanted, hard))
}

fn too_little(wanted: u64, granted: u64) -> Unsupported {
    let (wanted, granted) = (wanted / 1_024, granted / 1_024);
    unsupported(format!(
        "its workers may have to lock {wanted} KiB of memory (512 KiB each), and only {granted} \
         KiB are allowed. Under systemd, set LimitMEMLOCK={wanted}K in the [Service] section of \
         the unit; for a login, write `* - memlock {wanted}` into /etc/security/limits.conf; for a \
         container, use --ulimit memlock={}",
        wanted * 1_024
    ))
}

/// Sets up a ring, since nothing else tells whether that is allowed.
fn check_operations() -> Result<(), Unsupported> {
    let explain = |error: &io::Error| Unsupported::because(error, &linux_min());
    let ring = IoUring::new(8).map_err(|error| explain(&error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error))?;
    if OPERATIONS.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(unsupported(format!(
            "the kernel's io_uring lacks operations of Linux {}",
            linux_min()
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for release in [
            "5.8.0",
            "5.10.0-28-amd64",
            "6.1",
            "6.18.44-fc-v657",
            "10.0",
            "?",
            "",
        ] {
            assert_eq!(check_kernel(release).map_err(|error| error.reason), Ok(()));
        }
        for release in [
            "5.7.19",
            "5.4.0-150-generic",
            "4.19.0",
            "3.10.0-1160.el7.x86_64",
        ] {
            let reason = check_kernel(release).unwrap_err().reason;
            assert!(
                reason.contains(release) && reason.contains("5.8"),
                "{reason}"
            );
        }
    }

    #[test]
    fn too_little_memory_names_every_place_to_set_it() {
        let reason = too_little(1 << 20, 64 << 10).reason;
        for hint in [
            "only 64 KiB",
            "LimitMEMLOCK=1024K",
            "* - memlock 1024",
            "/etc/security/limits.conf",
            "--ulimit memlock=1048576",
        ] {
            assert!(reason.contains(hint), "{reason}");
        }
    }

    #[test]
    fn more_executors_than_memory_can_serve_are_refused() {
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        if hard < u64::MAX / 2 {
            let reason = check(usize::MAX).unwrap_err().reason;
            assert!(reason.contains("LimitMEMLOCK"), "{reason}");
        }
    }

    #[test]
    fn a_sandbox_that_forbids_io_uring_is_named() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register] {
                // The filter stays with the thread.
                let sandboxed = thread::spawn(move || {
                    forbid(call, errno);
                    check_operations()
                });
                let reason = sandboxed.join().unwrap().unwrap_err().reason;
                assert!(reason.contains("seccomp profile"), "{reason}");
            }
        }
    }

    fn forbid(call: i64, errno: i32) {
        let filter: BpfProgram = SeccompFilter::new(
            [(call, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.unsigned_abs()),
            std::env::consts::ARCH.try_into().unwrap(),
        )
        .unwrap()
        .try_into()
        .unwrap();
        seccompiler::apply_filter(&filter).unwrap();
    }
}
