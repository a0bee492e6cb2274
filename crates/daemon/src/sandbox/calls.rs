//! Which system calls there are: seccomp filters (seccomp(2)).
//!
//! The kernel remembers which calls are allowed whatever their arguments, so the filters cost those
//! that a tracker lives on (sending, receiving, waiting) next to nothing. They see the calls only:
//! what a ring of io_uring is asked to do is confined by Landlock, and rings can only be had where
//! workers use them.

use std::collections::BTreeMap;

use anyhow::Context;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use super::Needs;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// No tracker ever does this: who makes it try has taken it over. The process is killed (SIGSYS),
/// which the kernel notes in its log.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// What a tracker, its allocator and its threads do.
const ALLOWED: &[i64] = &[
    // Sockets that exist. There are no new ones but accepted ones, unless it is a client, too.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Files: which ones is another matter.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // A file that is rewritten keeps its owner, as far as the process may.
    libc::SYS_fchown,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_getrandom,
    // Threads and signals.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // For the thread that writes the log, which may come to it later than others. It can only lose
    // by this.
    libc::SYS_landlock_restrict_self,
    // What is known about the machine and the process.
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The same under the names of before.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_accept,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = &[];

/// For workers that wait with io_uring.
const IO_URING: &[i64] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// About the socket or terminal that a file is: FIOCLEX, FIONBIO, FIONREAD, TIOCOUTQ, TCGETS and
/// TIOCGWINSZ.
const IOCTLS: &[u32] = &[0x5451, 0x5421, 0x541b, 0x5411, 0x5401, 0x5413];

/// Namespaces that a new process could have.
const CLONE_NEW: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// From now on there are only the system calls of a tracker, in all threads.
///
/// # Errors
/// If the kernel cannot do it, with the reason.
pub(super) fn confine(needs: &Needs) -> anyhow::Result<()> {
    let errno = |number: i32| SeccompAction::Errno(number.cast_unsigned());
    let filters = [
        (
            without_arguments(DEADLY),
            SeccompAction::Allow,
            SeccompAction::KillProcess,
        ),
        // Its flags are in memory, where no filter looks. The C library does without it then.
        (
            without_arguments(&[libc::SYS_clone3]),
            SeccompAction::Allow,
            errno(libc::ENOSYS),
        ),
        // The last one, since it forbids further ones. The strictest answer of all filters counts.
        (allowed(needs)?, errno(libc::EPERM), SeccompAction::Allow),
    ];
    for (rules, otherwise, matched) in filters {
        let architecture = std::env::consts::ARCH
            .try_into()
            .context("there are no filters for this architecture")?;
        let filter = SeccompFilter::new(rules, otherwise, matched, architecture)?;
        let program: BpfProgram = filter.try_into()?;
        apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn without_arguments(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn allowed(needs: &Needs) -> anyhow::Result<Rules> {
    let mut rules = without_arguments(ALLOWED);
    rules.extend(without_arguments(ALLOWED_OLD));
    if needs.io_uring {
        rules.extend(without_arguments(IO_URING));
    }
    if !needs.connects.is_empty() {
        rules.insert(libc::SYS_socket, internet_sockets()?);
        // Which address is in memory, where no filter looks: Landlock knows the ports.
        rules.extend(without_arguments(&[libc::SYS_connect]));
    }
    let ioctls = IOCTLS.iter().map(|request| when(1, Eq, *request));
    rules.insert(libc::SYS_ioctl, ioctls.collect::<Result<_, _>>()?);
    // Threads, not processes.
    let thread = libc::CLONE_THREAD.cast_unsigned();
    let thread_alone = MaskedEq((libc::CLONE_THREAD | CLONE_NEW).cast_unsigned().into());
    rules.insert(libc::SYS_clone, vec![when(0, thread_alone, thread)?]);
    // Memory that can be executed is there already.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let executable = MaskedEq(libc::PROT_EXEC.cast_unsigned().into());
        rules.insert(call, vec![when(2, executable, 0)?]);
    }
    // A mode, and no right to be another user.
    let more_than_mode = MaskedEq(0o7000);
    rules.insert(libc::SYS_fchmod, vec![when(1, more_than_mode, 0)?]);
    let names = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS];
    let names = names.map(|option| when(0, Eq, option.cast_unsigned()));
    let names = names.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_prctl, names);
    // Of this process (0), read only.
    let own = SeccompCondition::new(0, Dword, Eq, 0)?;
    let no_limit = SeccompCondition::new(2, Qword, Eq, 0)?;
    rules.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![own, no_limit])?],
    );
    Ok(rules)
}

/// Sockets for TCP, and for UDP, by which the C library looks up names. It asks first which
/// addresses the machine has, and whether there is a name service daemon; for that it would need
/// sockets of other kinds, and does without: by these a stranger could talk to the services of the
/// machine.
fn internet_sockets() -> Result<Vec<SeccompRule>, BackendError> {
    // The rest are flags.
    const TYPES: u64 = 0xf;
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let kind = u64::from(kind.cast_unsigned());
            rules.push(SeccompRule::new(vec![
                SeccompCondition::new(0, Dword, Eq, family.cast_unsigned().into())?,
                SeccompCondition::new(1, Dword, MaskedEq(TYPES), kind)?,
            ])?);
        }
    }
    Ok(rules)
}

/// Allows a call if the argument at this position is such.
fn when(position: u8, operator: SeccompCmpOp, value: u32) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(position, Dword, operator, value.into())?;
    SeccompRule::new(vec![condition])
}
