//! The server that nodes reach each other by: the real `nats-server`, of Debian's package of this
//! name.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::process::Usage;
use aquatic_test_support::nats;

use crate::child::{Child, Interrupt};
use crate::materials;
use crate::trackers::Protocol;

/// How long it may take until it listens: it reads what it has stored before.
const READY_MAX: Duration = Duration::from_secs(30);
const READY_PAUSE: Duration = Duration::from_millis(20);

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    folder: PathBuf,
    address: SocketAddr,
    cpus: Option<Vec<usize>>,
}

/// Whether a server keeps a log (JetStream) on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    Kept,
    Absent,
}

impl Server {
    /// Starts one that keeps its files in this folder.
    pub(crate) fn start(
        folder: &Path,
        log: Log,
        cpus: Option<&[usize]>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let mut server = Self {
            child: None,
            folder: folder.to_owned(),
            address: materials::address(Protocol::Http)?,
            cpus: cpus.map(<[usize]>::to_vec),
        };
        fs::write(server.config(), config(server.address, log, folder))?;
        server.go_on(interrupt)?;
        Ok(server)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("nats.conf")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where trackers find it.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// What it has used so far: not a part of what nodes use.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let child = self.child.as_ref().context("there is no server")?;
        Usage::of_process(child.pid())
    }

    /// Starts it (again), with what it has stored.
    pub(crate) fn go_on(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut command = Command::new(nats::program());
        command.arg("-c").arg(self.config());
        let log = self.folder.join("nats.log");
        let child = Child::start(command, self.cpus.as_deref(), None, &log);
        let mut child = child.context("a cluster needs Debian's package nats-server")?;
        let clock = Clock::start();
        while TcpStream::connect(self.address).is_err() {
            interrupt.check()?;
            child.require_running()?;
            if clock.elapsed() > READY_MAX {
                bail!("nats-server does not listen{}", child.last_words());
            }
            thread::sleep(READY_PAUSE);
        }
        // Somebody else may have taken the port.
        child.require_running()?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it, without a word to anybody.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

/// It looks for connections that have died as often as documents/clustering.md says.
fn config(address: SocketAddr, log: Log, folder: &Path) -> String {
    let log = match log {
        Log::Kept => "jetstream { store_dir: \"FOLDER/store\", max_file: 8G }",
        Log::Absent => "",
    };
    nats::configuration(address, folder, &format!("ping_interval: \"5s\"\n{log}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_log_is_in_the_folder_of_the_run() {
        let address = "127.0.0.1:42".parse().unwrap();
        let text = config(address, Log::Kept, Path::new("/run/x"));
        assert!(text.starts_with("listen: \"127.0.0.1:42\"\n"), "{text}");
        assert!(text.contains("store_dir: \"/run/x/store\""), "{text}");
        let text = config(address, Log::Absent, Path::new("/run/x"));
        assert!(!text.contains("jetstream"), "{text}");
    }
}
