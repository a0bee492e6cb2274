//! Single threads of a tracker, as a debugger sees them: they can be made to stand still, and to do
//! something that they would not do.

use std::ffi::CString;
use std::fs;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Daemon;
use crate::wait::until;

/// A thread is stopped within this, if it is not about to end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A thread that stands still. The thread of the test that has stopped it has to let it go, too.
#[derive(Debug)]
pub struct Frozen(Pid);

/// An argument of a system call.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// As it is.
    Number(i64),
    /// Where a text ends with a zero.
    Path(&'a str),
    /// Where these bytes are.
    Bytes(&'a [u8]),
}

impl Frozen {
    /// Stops the thread of this name; `main` is the one that the process has begun with.
    #[must_use]
    pub fn named(daemon: &Daemon, name: &str) -> Self {
        until(&format!("a thread {name}"), || {
            let mut threads = daemon.threads().into_iter();
            let found = threads.find(|thread| {
                let comm = fs::read_to_string(thread.join("comm")).unwrap_or_default();
                let is_main = thread.ends_with(daemon.pid().to_string());
                (name == "main" && is_main) || (comm.trim_end() == name && !is_main)
            })?;
            Some(Self::new(found.file_name()?.to_str()?.parse().ok()?))
        })
    }

    /// Stops the thread of this name while it waits for something to do. Elsewhere it may hold a
    /// lock that others need, or wait for a file, which is no fault of its own.
    #[must_use]
    pub fn at_rest(daemon: &Daemon, name: &str) -> Self {
        until(&format!("the thread {name} rests"), || {
            let thread = Self::named(daemon, name);
            let call = daemon.proc(&format!("task/{}/syscall", thread.0));
            // The number of the system call that it is in, or -1, and what it was given.
            let call = fs::read_to_string(call).unwrap();
            let number = call.split(' ').next().unwrap().parse().unwrap_or(-1);
            let rests = number >= 0 && ![libc::SYS_write, libc::SYS_fsync].contains(&number);
            if rests {
                return Some(thread);
            }
            thread.let_go();
            None
        })
    }

    /// Stops the thread with this id.
    #[must_use]
    pub fn new(id: i32) -> Self {
        let thread = Pid::from_raw(id);
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(thread).unwrap();
        wait(thread);
        Self(thread)
    }

    /// The same, if it does not end meanwhile.
    #[must_use]
    pub fn if_alive(id: i32) -> Option<Self> {
        let thread = Pid::from_raw(id);
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).ok()?;
        ptrace::interrupt(thread).ok()?;
        // Of a process that ends, but has other threads, nothing is heard.
        let clock = Clock::start();
        while clock.elapsed() < ENDS_WITHIN {
            let flags = WaitPidFlag::from_bits_retain(libc::__WALL) | WaitPidFlag::WNOHANG;
            match waitpid(thread, Some(flags)).ok()? {
                WaitStatus::StillAlive => thread::sleep(Duration::from_millis(1)),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return None,
                _ => return Some(Self(thread)),
            }
        }
        None
    }

    /// Lets it go on.
    pub fn let_go(self) {
        self.let_go_if_alive().expect("it has been ended meanwhile");
    }

    /// Lets it go on, if it has not been ended meanwhile.
    ///
    /// # Errors
    /// When it has.
    pub fn let_go_if_alive(self) -> Result<(), Errno> {
        let done = ptrace::detach(self.0, None);
        if done.is_err() {
            // Its process does not end before somebody has taken note of the end of the thread.
            wait(self.0);
        }
        done
    }

    /// Waits until its process has ended, while it stands still; how that has ended, if it is the
    /// main thread.
    pub fn bury(self) -> WaitStatus {
        loop {
            let status = wait(self.0);
            if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                return status;
            }
        }
    }

    /// Has it make a system call. `None`: the process has been killed for it.
    ///
    /// The call takes the place of the one that the thread sleeps in, which it makes again later.
    #[cfg(target_arch = "x86_64")]
    pub fn call(&self, number: i64, arguments: &[Argument<'_>]) -> Option<i64> {
        ptrace::syscall(self.0, None).unwrap();
        assert!(matches!(wait(self.0), WaitStatus::PtraceSyscall(_)));
        let entry = ptrace::getregs(self.0).unwrap();
        let mut changed = entry;
        changed.orig_rax = number.cast_unsigned();
        let places = [
            &mut changed.rdi,
            &mut changed.rsi,
            &mut changed.rdx,
            &mut changed.r10,
            &mut changed.r8,
            &mut changed.r9,
        ];
        // Below what the thread uses of its stack.
        let mut free = entry.rsp - 4_096;
        for (place, argument) in places.into_iter().zip(arguments) {
            *place = match argument {
                Argument::Number(number) => number.cast_unsigned(),
                Argument::Path(path) => {
                    let text = CString::new(*path).unwrap().into_bytes_with_nul();
                    let at = free;
                    free += self.write(at, &text);
                    at
                }
                Argument::Bytes(bytes) => {
                    let at = free;
                    free += self.write(at, bytes);
                    at
                }
            };
        }
        ptrace::setregs(self.0, changed).unwrap();
        ptrace::syscall(self.0, None).unwrap();
        if !matches!(wait(self.0), WaitStatus::PtraceSyscall(_)) {
            return None;
        }
        let result = ptrace::getregs(self.0).unwrap().rax.cast_signed();
        // The kernel takes a deadly call back, before it sends the signal.
        if result == number {
            let _ = ptrace::cont(self.0, None);
            while let WaitStatus::Stopped(thread, signal) = wait(self.0) {
                let _ = ptrace::cont(thread, signal);
            }
            return None;
        }
        let mut again = entry;
        again.rip -= 2; // The size of the instruction.
        again.rax = entry.orig_rax;
        again.orig_rax = u64::MAX;
        ptrace::setregs(self.0, again).unwrap();
        Some(result)
    }

    /// Returns the size.
    #[cfg(target_arch = "x86_64")]
    fn write(&self, at: u64, bytes: &[u8]) -> u64 {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        for (place, word) in (at..).step_by(8).zip(bytes.chunks_exact(8)) {
            let word = i64::from_ne_bytes(word.try_into().unwrap());
            ptrace::write(self.0, place as ptrace::AddressType, word).unwrap();
        }
        u64::try_from(bytes.len()).unwrap()
    }
}

fn wait(thread: Pid) -> WaitStatus {
    let flags = WaitPidFlag::from_bits_retain(libc::__WALL);
    match waitpid(thread, Some(flags)) {
        // The process of a thread that has gone meanwhile.
        Err(Errno::ECHILD) => WaitStatus::Exited(thread, 0),
        status => status.unwrap(),
    }
}
