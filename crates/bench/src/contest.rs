//! One tracker under load once.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_udp_protocol::{ConnectRequest, TransactionId};

use crate::child::{Child, Interrupt};
use crate::figures::{Figures, peak_bytes};
use crate::materials::{self, Certificate};
use crate::plan::{Contender, Set};
use crate::trackers::{Protocol, Tracker, fill_in};

/// How long a tracker may take until it serves.
const READY_MAX: Duration = Duration::from_secs(20);

/// How long a tracker is waited for before it is asked once more.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// What a load tester may take beyond the times of its run, in seconds: for filling, too.
const TESTER_GRACE_SECONDS: u64 = 900;

/// One tracker under one load.
#[derive(Clone, Debug)]
pub struct Contest<'a> {
    /// What it is measured by.
    pub set: &'a Set,
    /// How it takes part.
    pub contender: &'a Contender,
    /// How it is configured and started.
    pub tracker: &'a Tracker,
    /// Its program.
    pub program: &'a Path,
    /// The load tester's program.
    pub tester: &'a Path,
    /// How long is measured, in seconds.
    pub seconds: u32,
    /// How long the load lasts before, in seconds.
    pub warm_up_seconds: u32,
    /// The tracker's.
    pub tracker_cpus: Option<Vec<usize>>,
    /// The load tester's.
    pub tester_cpus: Option<Vec<usize>>,
    /// Where the tracker listens, if it is not told where to: it then has a configuration that is
    /// not ours.
    pub address: Option<SocketAddr>,
}

/// Files of a run.
struct Files {
    config: PathBuf,
    tracker_log: PathBuf,
    tester_config: PathBuf,
    tester_log: PathBuf,
    report: PathBuf,
}

impl Contest<'_> {
    /// Runs it: starts the tracker, loads it, and ends it.
    ///
    /// # Errors
    /// Why there are no figures: tracker or load tester do not start, fail, or answer nobody.
    pub fn run(&self, interrupt: &Interrupt) -> anyhow::Result<Figures> {
        let folder = materials::folder()?;
        let file = |name: &str| folder.path().join(name);
        let files = Files {
            config: file("tracker.conf"),
            tracker_log: file("tracker.log"),
            tester_config: file("tester.toml"),
            tester_log: file("tester.log"),
            report: file("report.json"),
        };
        let address = match self.address {
            Some(address) => address,
            None => materials::address(self.set.protocol)?,
        };
        let values = self.values(folder.path(), &files, address)?;
        fs::write(&files.config, fill_in(&self.tracker.config, &values))?;

        let mut tracker = self.start_tracker(&values, &files)?;
        self.wait_until_ready(&mut tracker, address, interrupt)?;
        if let Some(settings) = &self.set.before {
            self.load(&mut tracker, settings, address, &files, interrupt)
                .context("before the measurement")?;
        }
        let report = self.load(&mut tracker, &self.set.load, address, &files, interrupt)?;
        let status = fs::read_to_string(format!("/proc/{}/status", tracker.pid()));
        Ok(Figures {
            peak_bytes: status.ok().and_then(|status| peak_bytes(&status)),
            ..Figures::parse(&report)?
        })
    }

    fn values(
        &self,
        folder: &Path,
        files: &Files,
        address: SocketAddr,
    ) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let path = |path: &Path| path.display().to_string();
        let mut values = BTreeMap::from([
            ("address", address.to_string()),
            ("ip", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("protocol", self.set.protocol.to_string()),
            ("config", path(&files.config)),
            ("folder", path(folder)),
            ("workers", self.contender.workers.to_string()),
            ("swarm_workers", self.contender.swarm_workers.to_string()),
            ("answer", materials::static_answer()),
            ("ssl", String::new()),
            ("tls_lines", String::new()),
        ]);
        if self.set.tls {
            let made = Certificate::make(folder)?;
            values.insert("ssl", "ssl".to_owned());
            values.insert("tls_lines", self.tracker.tls_lines.clone());
            values.insert("certificate", path(&made.certificate));
            values.insert("key", path(&made.key));
            values.insert("certificate_der", path(&made.certificate_der));
            values.insert("key_der", path(&made.key_der));
        }
        if self
            .tracker
            .arguments
            .iter()
            .any(|text| text == "@allowed@")
        {
            // Relative to the folder, which is the root folder of who reads it.
            materials::write_allowed(&folder.join("allowed"), &self.set.load)?;
            values.insert("allowed", "allowed".to_owned());
        }
        Ok(values)
    }

    fn start_tracker(
        &self,
        values: &BTreeMap<&'static str, String>,
        files: &Files,
    ) -> anyhow::Result<Child> {
        let mut command = self.command(self.program);
        let arguments = self.tracker.arguments.iter();
        command.args(arguments.map(|text| fill_in(text, values)));
        for (name, value) in &self.tracker.environment {
            command.env(name, fill_in(value, values));
        }
        // Whoever wrote a configuration of their own has named files from where they are.
        if let (None, Some(folder)) = (self.address, values.get("folder")) {
            command.current_dir(folder);
        }
        Child::start(
            command,
            self.tracker_cpus.as_deref(),
            None,
            &files.tracker_log,
        )
    }

    /// A program that becomes another keeps its process id.
    fn command(&self, program: &Path) -> Command {
        if self.set.real_time {
            let mut command = Command::new("chrt");
            command.args(["-r", "1"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }

    fn wait_until_ready(
        &self,
        tracker: &mut Child,
        address: SocketAddr,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let clock = Clock::start();
        while !answers(self.set.protocol, address) {
            interrupt.check()?;
            tracker.require_running()?;
            if clock.elapsed() > READY_MAX {
                let seconds = READY_MAX.as_secs();
                let words = tracker.last_words();
                bail!("it does not serve at {address} within {seconds} s{words}");
            }
            thread::sleep(READY_PAUSE);
        }
        // Somebody else may have taken the port.
        tracker.require_running()
    }

    /// Runs the load tester to its end, and gives back its report.
    fn load(
        &self,
        tracker: &mut Child,
        settings: &toml::Table,
        address: SocketAddr,
        files: &Files,
        interrupt: &Interrupt,
    ) -> anyhow::Result<String> {
        let config = self.tester_config(settings, address, tracker.pid());
        fs::write(&files.tester_config, config.to_string())?;
        let mut command = self.command(self.tester);
        command.arg("-c").arg(&files.tester_config);
        let cpus = self.tester_cpus.as_deref();
        let mut tester = Child::start(command, cpus, Some(&files.report), &files.tester_log)?;
        let times = u64::from(self.seconds) + u64::from(self.warm_up_seconds);
        let ended = tester.wait(times + TESTER_GRACE_SECONDS, interrupt);
        // If both have ended, the tracker is the cause.
        tracker.require_running()?;
        ended?;
        fs::read_to_string(&files.report).context("the load tester's report")
    }

    fn tester_config(&self, settings: &toml::Table, address: SocketAddr, pid: u32) -> toml::Table {
        let mut config = settings.clone();
        let mut set = |key: &str, value: toml::Value| config.insert(key.to_owned(), value);
        set("server_address", address.to_string().into());
        set("duration_seconds", i64::from(self.seconds).into());
        set("warm_up_seconds", i64::from(self.warm_up_seconds).into());
        set("tracker_pid", i64::from(pid).into());
        set("print_json", true.into());
        set("show_progress", false.into());
        if self.set.tls
            && let toml::Value::Table(network) = config
                .entry("network")
                .or_insert_with(|| toml::Table::new().into())
        {
            network.insert("enable_tls".to_owned(), true.into());
        }
        config
    }
}

/// Whether somebody serves there: answers a connect request, or accepts a connection.
pub(crate) fn answers(protocol: Protocol, address: SocketAddr) -> bool {
    match protocol {
        Protocol::Http | Protocol::Ws => TcpStream::connect_timeout(&address, READY_PAUSE).is_ok(),
        Protocol::Udp => connects(address).is_ok_and(|bytes| bytes == 16),
    }
}

fn connects(address: SocketAddr) -> std::io::Result<usize> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(READY_PAUSE))?;
    let mut packet = Vec::new();
    let request = ConnectRequest {
        transaction_id: TransactionId(*b"wake"),
    };
    request.write(&mut packet);
    socket.send(&packet)?;
    socket.recv(&mut [0; 64])
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    /// The folder in which a tracker is started that listens there.
    fn folder_of_tracker(address: Option<SocketAddr>) -> (String, String) {
        let set = Set::of_two(Protocol::Http, toml::Table::new());
        let contest = Contest {
            set: &set,
            contender: &set.contenders[0],
            tracker: &Tracker::default(),
            program: Path::new("/bin/pwd"),
            tester: Path::new("/bin/false"),
            seconds: 1,
            warm_up_seconds: 0,
            tracker_cpus: None,
            tester_cpus: None,
            address,
        };
        let folder = materials::folder().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let log = path.join("log");
        let files = Files {
            config: path.join("config"),
            tracker_log: log.clone(),
            tester_config: PathBuf::new(),
            tester_log: PathBuf::new(),
            report: PathBuf::new(),
        };
        let own = path.display().to_string();
        let values = BTreeMap::from([("folder", own.clone())]);
        let mut tracker = contest.start_tracker(&values, &files).unwrap();
        tracker.wait(10, &Interrupt::default()).unwrap();
        let printed = fs::read_to_string(&log).unwrap();
        (printed.trim().to_owned(), own)
    }

    #[test]
    fn paths_in_a_configuration_of_somebody_else_are_seen_from_where_they_are() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 3000)));
        let here = env::current_dir().unwrap();
        assert_eq!(folder_of_tracker(address).0, here.display().to_string());
        let (folder, own) = folder_of_tracker(None);
        assert_eq!(folder, own, "what the run has written is there");
    }
}
