//! The tracker as a child process.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use aquatic_types::IpFamily;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::Place;
use crate::wait::{until, until_end, until_ok};

/// A tracker that runs. It is killed at the end of its test.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Where.
    pub place: Place,
}

impl Daemon {
    pub(crate) fn new(child: Child, place: Place) -> Self {
        Self { child, place }
    }

    /// Fails the test if it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the tracker has ended: {status}");
        }
    }

    /// Where it listens, unless its settings say otherwise.
    #[must_use]
    pub fn address(&self, family: IpFamily) -> SocketAddr {
        self.place.address(family)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log has a line with this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        until_ok(|| {
            let log = self.place.log();
            let line = log.lines().find(|line| line.contains(text));
            line.map(str::to_owned)
                .ok_or_else(|| format!("no {text:?} in\n{log}"))
        })
    }

    /// Waits for a warning that says this, and what to do.
    #[track_caller]
    pub fn wait_for_warning(&self, text: &str, advice: &str) {
        let line = self.wait_for_log(text);
        assert!(line.contains("WARN") && line.contains(advice), "{line}");
    }

    /// Sends SIGUSR1 and waits until the tracker has reloaded.
    pub fn reload(&self) {
        self.reload_by(Signal::SIGUSR1);
    }

    /// Sends a signal and waits until the tracker has reloaded.
    pub fn reload_by(&self, signal: Signal) {
        self.signal(signal);
        let mut told = Vec::new();
        until("the tracker has reloaded", || {
            told.extend(self.place.notifications());
            (told.len() >= 2).then_some(())
        });
        assert!(told[0].starts_with("RELOADING=1\n"), "{told:?}");
        assert_eq!(told[1..], ["READY=1"]);
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        until_end(&mut self.child)
    }

    /// A file of the tracker's folder in /proc.
    #[must_use]
    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// What its file descriptors are.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.proc("fd")).unwrap();
        files
            .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
            .collect()
    }

    /// Whether it has a ring at this moment.
    #[must_use]
    pub fn has_io_uring(&self) -> bool {
        let ring = Path::new("anon_inode:[io_uring]");
        self.files().iter().any(|file| file == ring)
    }

    /// The folders in /proc of all threads, but for those that are about to end: a thread that
    /// another one has waited for is there for a while still, and may vanish while it is read of.
    #[must_use]
    pub fn threads(&self) -> Vec<PathBuf> {
        fs::read_dir(self.proc("task"))
            .unwrap()
            .map(|thread| thread.unwrap().path())
            .filter(|thread| !is_ending(thread))
            .collect()
    }

    /// How many different names of threads begin like this. (A thread may have threads of its own
    /// that are called the same.)
    #[must_use]
    pub fn count_threads(&self, prefix: &str) -> usize {
        let names = self.threads().into_iter();
        let names = names.map(|thread| fs::read_to_string(thread.join("comm")).unwrap());
        let names: BTreeSet<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.len()
    }

    /// Memory that it has at this moment, without what it shares with others, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// How many times threads have begun to wait for something.
    #[must_use]
    pub fn wake_ups(&self) -> u64 {
        let of_thread = |thread: PathBuf| -> u64 {
            let status = fs::read_to_string(thread.join("status")).unwrap();
            let mut lines = status.lines();
            let number = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            number.unwrap().trim().parse().unwrap()
        };
        self.threads().into_iter().map(of_thread).sum()
    }

    /// CPU time of all threads, user and system.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let nanoseconds = |thread: PathBuf| -> u64 {
            let text = fs::read_to_string(thread.join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        Duration::from_nanos(self.threads().into_iter().map(nanoseconds).sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of the tracker:\n{}", self.place.log());
        }
    }
}

/// Whether the thread with this folder in /proc runs no code of its own any more (proc(5), `flags`
/// in `stat`).
fn is_ending(thread: &Path) -> bool {
    /// In the kernel's `include/linux/sched.h`.
    const PF_EXITING: u32 = 0x4;
    /// Behind the name, which is in brackets and may have spaces: state, parent, group, session,
    /// terminal, its group, flags.
    const FLAGS: usize = 6;
    let Ok(stat) = fs::read_to_string(thread.join("stat")) else {
        return true;
    };
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let flags: u32 = fields.split(' ').nth(FLAGS).unwrap().parse().unwrap();
    flags & PF_EXITING != 0
}
