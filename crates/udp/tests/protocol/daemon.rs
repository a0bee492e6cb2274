//! The tracker as a child process, with its files in a folder and its ports to itself.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::IpFamily;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::setup::Setup;

/// After this, something that should happen does not. Generous, because machines are busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const BINARY: &str = env!("CARGO_BIN_EXE_aquatic_udp");

/// Waits until `condition` gives a value.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    until_ok(|| condition().ok_or_else(|| what.to_owned()))
}

/// Waits until `condition` gives a value; what is missing last is told at the deadline.
#[track_caller]
pub(crate) fn until_ok<T>(mut condition: impl FnMut() -> Result<T, String>) -> T {
    let clock = Clock::start();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(missing) => {
                assert!(clock.elapsed() < DEADLINE, "not in {DEADLINE:?}: {missing}");
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program, with standard output and standard error in files of a folder.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .current_dir(folder)
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("stdout")).unwrap())
        .stderr(File::create(folder.join("log")).unwrap());
    command
}

/// How a run of the program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) log: String,
}

/// Where a tracker runs: a folder, and a port number that no other test has.
pub(crate) struct Place {
    folder: TempDir,
    port: Port,
    /// Where systemd would listen.
    systemd: UnixDatagram,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The tracker may run as a user to whom the folder does not belong.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let systemd = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            folder,
            port: Port::reserve(),
            systemd,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder, which is the tracker's working directory.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    /// Where the tracker listens unless its settings say otherwise.
    pub(crate) fn address(&self, family: IpFamily) -> SocketAddr {
        let ip = match family {
            IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
            IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, self.port())
    }

    /// Where the tracker serves metrics, if its settings say so.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), self.port())
    }

    /// Settings that make the tracker serve metrics, each second anew.
    pub(crate) fn metrics_settings(&self) -> String {
        format!(
            "statistics.interval = 1\nstatistics.run_prometheus_endpoint = true\n\
             statistics.prometheus_endpoint_address = '{}'\n",
            self.metrics_address(),
        )
    }

    /// Starts a tracker and waits until it says that it is ready. `settings` are lines of dotted
    /// keys (`limits.max_peers = 3`).
    pub(crate) fn start(self, setup: Setup, settings: &str) -> Daemon {
        let child = self.command(setup, settings).spawn().unwrap();
        self.wait_for(child)
    }

    /// The tracker that `child` is about to be.
    pub(crate) fn wait_for(self, child: Child) -> Daemon {
        let mut daemon = Daemon { child, place: self };
        until("the tracker is ready", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the tracker has ended: {status}");
            }
            daemon
                .place
                .notifications()
                .contains(&"READY=1".to_owned())
                .then_some(())
        });
        daemon
    }

    /// Runs a tracker that is to end by itself.
    pub(crate) fn fail(&self, setup: Setup, settings: &str) -> Ended {
        self.end(self.command(setup, settings).spawn().unwrap())
    }

    /// Waits for the end of `child`.
    pub(crate) fn end(&self, mut child: Child) -> Ended {
        let status = wait_for_end(&mut child);
        Ended {
            code: status.code(),
            stdout: self.read("stdout"),
            log: self.log(),
        }
    }

    /// Runs the program with these arguments to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.end(command(self.folder.path()).args(arguments).spawn().unwrap())
    }

    /// The command that starts a tracker.
    pub(crate) fn command(&self, setup: Setup, settings: &str) -> Command {
        let Setup {
            backend,
            socket_workers,
            swarm_workers,
        } = setup;
        let mut lines = settings.to_owned();
        let mut default = |key: &str, value: String| {
            if !settings.contains(key) {
                lines += &format!("\n{key} = {value}");
            }
        };
        default("socket_workers", socket_workers.to_string());
        default("swarm_workers", swarm_workers.to_string());
        default("log_level", "'info'".to_owned());
        default("network.backend", format!("'{backend}'"));
        let addresses = IpFamily::ALL.map(|family| self.address(family).to_string());
        default("network.address", format!("{addresses:?}"));
        let mut command = command(self.folder.path());
        command
            .arg("-c")
            .arg(self.write("config.toml", &lines))
            .env("NOTIFY_SOCKET", self.path("notify"));
        command
    }

    /// What the tracker has logged.
    pub(crate) fn log(&self) -> String {
        self.read("log")
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What the tracker has told systemd since the last call.
    fn notifications(&self) -> Vec<String> {
        let mut told = Vec::new();
        self.systemd.set_nonblocking(true).unwrap();
        let mut bytes = [0; 256];
        loop {
            match self.systemd.recv(&mut bytes) {
                Ok(size) => told.push(String::from_utf8(bytes[..size].to_vec()).unwrap()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return told,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A tracker that runs. It is killed at the end of its test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) place: Place,
}

impl Daemon {
    pub(crate) fn address(&self, family: IpFamily) -> SocketAddr {
        self.place.address(family)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Sends SIGUSR1 and waits until the tracker has reloaded.
    pub(crate) fn reload(&self) {
        self.signal(Signal::SIGUSR1);
        let mut told = Vec::new();
        until("the tracker has reloaded", || {
            told.extend(self.place.notifications());
            (told.len() >= 2).then_some(())
        });
        assert!(told[0].starts_with("RELOADING=1\n"), "{told:?}");
        assert_eq!(told[1..], ["READY=1"]);
    }

    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        wait_for_end(&mut self.child)
    }

    /// A file of the tracker's folder in /proc.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// Whether it has a ring at this moment.
    pub(crate) fn has_io_uring(&self) -> bool {
        let files = fs::read_dir(self.proc("fd")).unwrap();
        let mut targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        targets.any(|target| target == Path::new("anon_inode:[io_uring]"))
    }

    /// The folders in /proc of all threads.
    pub(crate) fn threads(&self) -> Vec<PathBuf> {
        fs::read_dir(self.proc("task"))
            .unwrap()
            .map(|thread| thread.unwrap().path())
            .collect()
    }

    /// How many threads have a name that begins like this.
    pub(crate) fn count_threads(&self, prefix: &str) -> usize {
        let names = self.threads().into_iter();
        let names = names.map(|thread| fs::read_to_string(thread.join("comm")).unwrap());
        names.filter(|name| name.starts_with(prefix)).count()
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

fn wait_for_end(child: &mut Child) -> ExitStatus {
    let clock = Clock::start();
    while clock.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("the tracker does not end");
}

/// A port number that no other test uses, in this process or another.
struct Port {
    number: u16,
    /// While this is open, no other test can reserve the same number. (The tracker's own TCP port,
    /// for metrics, is at another address.)
    _reservation: TcpListener,
}

impl Port {
    /// Below the ports that Linux gives to clients, so that none of them takes it by chance.
    const RANGE: std::ops::Range<u16> = 10_000..32_000;

    fn reserve() -> Self {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let span = Self::RANGE.end - Self::RANGE.start;
        // Processes start at different places, so that they seldom try the same numbers.
        let [.., high, low] = std::process::id().to_be_bytes();
        let start = u16::from_be_bytes([high, low]).wrapping_mul(97);
        for _ in 0..span {
            let offset = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % span;
            if let Ok(port) = Self::try_reserve(Self::RANGE.start + offset) {
                return port;
            }
        }
        panic!("no port is free");
    }

    fn try_reserve(number: u16) -> io::Result<Self> {
        let reservation = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        drop(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number))?);
        drop(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, number))?);
        Ok(Self {
            number,
            _reservation: reservation,
        })
    }
}
