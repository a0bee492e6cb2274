//! The CPU time of one thread, as other threads read it.
//!
//! Linux has a clock for each thread (`pthread_getcpuclockid(3)`). To read one is a system call
//! without a file: so it works with another root directory and in the sandbox, where `/proc` may be
//! out of reach, and it disturbs the thread in nothing.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The clock of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(ClockId);

impl CpuClock {
    /// That of the thread that calls; `None` where the system has none.
    pub(crate) fn of_this_thread() -> Option<Self> {
        /// The clock of a thread, as against that of a process.
        #[cfg(target_os = "linux")]
        const PER_THREAD: i32 = 4;
        /// In nanoseconds, as the scheduler counts them.
        #[cfg(target_os = "linux")]
        const SCHEDULER_TIME: i32 = 2;
        #[cfg(target_os = "linux")]
        {
            // The encoding is part of the kernel's interface: include/linux/posix-timers_types.h.
            let thread = nix::unistd::gettid().as_raw();
            let id = (!thread << 3) | PER_THREAD | SCHEDULER_TIME;
            Some(Self(ClockId::from_raw(id)))
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// What the thread has used since it began; `None` when it has ended.
    pub(crate) fn read(self) -> Option<Duration> {
        clock_gettime(self.0).ok().map(Duration::from)
    }
}
