//! Processes that do not outlive this one, however it ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::pin;

/// How often a process is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a process may take to end when it is told to.
const END_MAX: Duration = Duration::from_secs(5);

/// What is shown of the log of a process that has failed, in bytes.
const LOG_TAIL_BYTES: usize = 600;

/// Whether somebody wants us to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// A process that is ended when this is dropped, with all that it has started.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: process::Child,
    log: PathBuf,
}

impl Interrupt {
    /// From now on, a signal that asks us to end (Ctrl-C) only sets this.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn on_signals() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))
                .context("cannot wait for signals")?;
        }
        Ok(interrupt)
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if it has come.
    ///
    /// # Errors
    /// If it has.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.is_set() {
            bail!("interrupted");
        }
        Ok(())
    }
}

impl Child {
    /// Starts a program on some CPUs. What it prints to standard output goes to `output`, if that
    /// is a file, and all else to `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        mut command: Command,
        cpus: Option<&[usize]>,
        output: Option<&Path>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        let errors = create(log)?;
        let output = match output {
            Some(path) => create(path)?,
            None => errors.try_clone().context("no more files can be open")?,
        };
        // A group of its own: a Ctrl-C at the terminal is for us, who then end it in order.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let start = || {
            let child = command.spawn();
            child.with_context(|| format!("cannot start {name}"))
        };
        let child = pin::with_cpus(cpus, start)?;
        let log = log.to_owned();
        Ok(Self { name, child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended, with what it last said.
    ///
    /// # Errors
    /// If it has ended.
    pub fn require_running(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended ({status}){}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it fails, takes longer than that, or we are to end.
    pub fn wait(&mut self, seconds_max: u64, interrupt: &Interrupt) -> anyhow::Result<()> {
        let clock = Clock::start();
        loop {
            interrupt.check()?;
            if let Some(status) = self.child.try_wait()? {
                return self.judge(status);
            }
            if clock.elapsed() > Duration::from_secs(seconds_max) {
                bail!("{} has not ended within {seconds_max} s", self.name);
            }
            thread::sleep(PAUSE);
        }
    }

    fn judge(&self, status: ExitStatus) -> anyhow::Result<()> {
        if !status.success() {
            bail!("{} has failed ({status}){}", self.name, self.last_words());
        }
        Ok(())
    }

    /// The end of its log, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let start = log.len().saturating_sub(LOG_TAIL_BYTES);
        let tail = String::from_utf8_lossy(log.get(start..).unwrap_or_default());
        match tail.trim() {
            "" => String::new(),
            tail => format!(": {tail}"),
        }
    }

    /// Ends it as a failure of power would, without a word to anybody.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        // Then it is not there any more, and `drop` has nothing to end.
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        // It may have ended meanwhile, but has not been waited for: the id is still its own.
        let _ = killpg(group, signal);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Once it has been waited for, its id may be somebody else's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::SIGTERM);
        let clock = Clock::start();
        while matches!(self.child.try_wait(), Ok(None)) {
            if clock.elapsed() > END_MAX {
                self.signal(Signal::SIGKILL);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::start(command, None, None, log).unwrap()
    }

    #[test]
    fn a_failure_is_told_with_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = shell("echo no such port >&2; exit 3", &log);
        let error = child.wait(10, &Interrupt::default()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("no such port") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn what_is_dropped_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = shell("sleep 600 & echo $!; wait", &log);
        let grandchild = loop {
            child.require_running().unwrap();
            if let Ok(pid) = fs::read_to_string(&log).unwrap().trim().parse::<u32>() {
                break pid;
            }
            thread::sleep(PAUSE);
        };
        let is_there = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") S") || stat.contains(") R")
        };
        assert!(is_there(grandchild));
        let pid = child.pid();
        drop(child);
        assert!(!is_there(pid));
        let clock = Clock::start();
        while is_there(grandchild) && clock.elapsed() < END_MAX {
            thread::sleep(PAUSE);
        }
        assert!(!is_there(grandchild));
    }

    #[test]
    fn what_is_killed_cannot_say_anything() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "trap 'echo farewell; exit' TERM; echo ready; while :; do sleep 0.05; done";
        let mut child = shell(script, &log);
        while !fs::read_to_string(&log).unwrap().contains("ready") {
            child.require_running().unwrap();
            thread::sleep(PAUSE);
        }
        let pid = child.pid();
        child.kill();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(fs::read_to_string(&log).unwrap().trim(), "ready");
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("sleep 600", &folder.path().join("log"));
        let interrupt = Interrupt::default();
        interrupt.0.store(true, Ordering::Relaxed);
        let error = child.wait(600, &interrupt).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }
}
