//! A child process that is ended with the test, and its log.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Folder;
use crate::wait;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A program is gone that should be there.
#[derive(Debug)]
pub struct EndedEarly {
    name: String,
    status: ExitStatus,
    log: String,
}

impl EndedEarly {
    /// Whether it is one of the programs with these names, and has crashed.
    #[must_use]
    pub fn is_crash_of(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str()) && self.status.signal().is_some()
    }
}

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, log } = self;
        write!(f, "{name} has ended early: {status}\n{log}")
    }
}

impl Error for EndedEarly {}

impl Process {
    /// Starts `command`; what it prints goes to `<name>.log` in the test's folder.
    ///
    /// # Errors
    /// When the program cannot be started, for instance because it is not installed.
    pub fn start(name: &str, folder: &Folder, mut command: Command) -> Result<Self> {
        let log = folder.path().join(format!("{name}.log"));
        let stdout = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let stderr = stdout.try_clone().context("duplicate a log's handle")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {command:?} (scripts/test.sh installs it)"))?;
        let name = name.to_owned();
        Ok(Self { name, child, log })
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes =
            std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fails if it has ended: whoever waits for something of it would wait in vain.
    ///
    /// # Errors
    /// When it has ended, with its exit status.
    pub fn check_alive(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .context("look after a child process")?
        {
            None => Ok(()),
            Some(status) => bail!(EndedEarly {
                name: self.name.clone(),
                status,
                log: self.log()?,
            }),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid beyond the range of pids")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to end, by SIGTERM or another signal that it understands, and waits until it has.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is what is wanted here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
