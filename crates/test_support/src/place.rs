//! Where a tracker runs: a folder, ports that no other test has, and a service manager.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aquatic_types::IpFamily;
use tempfile::TempDir;

use crate::program::localhost;
use crate::service_manager::{Named, ServiceManager};
use crate::wait::{until, until_end};
use crate::{Daemon, Program, Setup};

/// Makes a tracker listen at its default addresses: a line that names none. To be used in
/// [a network of its own](crate::network) only, since others want these addresses, too.
pub const DEFAULT_ADDRESSES: &str = "# network.address is the default\n";

/// A program, with standard output and standard error in files of a folder.
fn command(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    set_up(&mut command, folder);
    command
}

fn set_up(command: &mut Command, folder: &Path) {
    command
        .current_dir(folder)
        .env_remove("JOURNAL_STREAM")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("stdout")).unwrap())
        .stderr(File::create(folder.join("log")).unwrap());
}

/// How a run of the program has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// What it has printed.
    pub stdout: String,
    /// What it has written to standard error.
    pub log: String,
}

/// A folder, a block of ports, and a service manager.
#[derive(Clone, Debug)]
pub struct Place {
    folder: Arc<TempDir>,
    ports: Arc<Ports>,
    service_manager: Arc<ServiceManager>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The tracker may run as a user to whom the folder does not belong.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let service_manager = ServiceManager::bind(&folder.path().join("notify"));
        Self {
            folder: Arc::new(folder),
            ports: Arc::new(Ports::reserve()),
            service_manager: Arc::new(service_manager),
        }
    }

    /// One whose service manager keeps the sockets of trackers, and passes them to the next one.
    #[must_use]
    pub fn with_kept_sockets() -> Self {
        let place = Self::new();
        place.service_manager.keep();
        place
    }

    /// Of a file in the folder, which is the tracker's working directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// What a file in the folder says.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What the tracker has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// The tracker's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.first
    }

    /// A port for another program that belongs to the test.
    #[must_use]
    pub fn second_port(&self) -> u16 {
        self.ports.first + 1
    }

    /// Where the tracker listens unless its settings say otherwise.
    #[must_use]
    pub fn address(&self, family: IpFamily) -> SocketAddr {
        SocketAddr::new(localhost(family), self.port())
    }

    /// Where the tracker serves metrics, if its settings say so.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(localhost(IpFamily::V4), self.ports.first + 2)
    }

    /// Settings that make the tracker serve metrics, each second anew.
    #[must_use]
    pub fn metrics_settings(&self, program: &Program) -> String {
        let section = program.metrics_section;
        format!(
            "{}{section}.run_prometheus_endpoint = true\n\
             {section}.prometheus_endpoint_address = '{}'\n",
            program.metrics_settings,
            self.metrics_address(),
        )
    }

    /// Starts a tracker and waits until it says that it is ready. `settings` are lines of dotted
    /// keys (`limits.max_peers = 3`).
    #[must_use]
    pub fn start(self, setup: Setup, settings: &str) -> Daemon {
        let mut command = self.command(setup, settings);
        let daemon = self.start_by(&mut command);
        // Otherwise the first requests would come by the sockets.
        if setup.has_queues && !settings.contains("log_level") {
            until("requests come by queues", || {
                daemon.place.log().contains("xdp: in use").then_some(())
            });
        }
        daemon
    }

    /// The same with all sockets that are kept, and those of a unit.
    #[must_use]
    pub fn start_with_sockets(self, setup: Setup, settings: &str, units: Vec<Named>) -> Daemon {
        let mut command = self.command_with_sockets(setup, settings, units);
        self.start_by(&mut command)
    }

    /// The command that starts a tracker with all sockets that are kept, and those of a unit.
    #[must_use]
    pub fn command_with_sockets(&self, setup: Setup, settings: &str, units: Vec<Named>) -> Command {
        self.with_sockets(&self.command(setup, settings), units)
    }

    /// A command that does what `tracker` does, with all sockets that are kept, and those of a
    /// unit.
    #[must_use]
    pub fn with_sockets(&self, tracker: &Command, units: Vec<Named>) -> Command {
        let mut command = self.after("export LISTEN_PID=$$", tracker);
        self.service_manager.pass(&mut command, units);
        command
    }

    /// Starts a tracker by this command and waits until it says that it is ready.
    #[must_use]
    pub fn start_by(self, command: &mut Command) -> Daemon {
        self.wait_for(command.spawn().unwrap())
    }

    /// The tracker that `child` is, ready or not.
    #[must_use]
    pub fn attend(self, child: Child) -> Daemon {
        Daemon::new(child, self)
    }

    /// The tracker that `child` is about to be.
    #[must_use]
    pub fn wait_for(self, child: Child) -> Daemon {
        let mut daemon = self.attend(child);
        until("the tracker is ready", || {
            daemon.assert_running();
            daemon
                .place
                .notifications()
                .contains(&"READY=1".to_owned())
                .then_some(())
        });
        daemon
    }

    /// Runs a tracker that is to end by itself.
    #[must_use]
    pub fn fail(&self, setup: Setup, settings: &str) -> Ended {
        self.end(self.command(setup, settings).spawn().unwrap())
    }

    /// Waits for the end of `child`.
    #[must_use]
    pub fn end(&self, mut child: Child) -> Ended {
        let status = until_end(&mut child);
        // Sockets that nobody has received yet are open, and the next one may want the address.
        let _ = self.notifications();
        Ended {
            code: status.code(),
            stdout: self.read("stdout"),
            log: self.log(),
        }
    }

    /// Runs the program with these arguments to its end.
    #[must_use]
    pub fn run(&self, program: &Program, arguments: &[&str]) -> Ended {
        let mut command = command(program.binary.as_ref(), self.folder.path());
        self.end(command.args(arguments).spawn().unwrap())
    }

    /// The command that runs `binary` with these arguments here.
    #[must_use]
    pub fn command_with(&self, binary: &str, arguments: &[&str]) -> Command {
        let mut command = command(binary.as_ref(), self.folder.path());
        command
            .args(arguments)
            .env("NOTIFY_SOCKET", self.path("notify"));
        command
    }

    /// The command that starts a tracker.
    #[must_use]
    pub fn command(&self, setup: Setup, settings: &str) -> Command {
        self.command_of(Command::new(setup.program.binary), setup, settings)
    }

    /// The command that starts a tracker which may have this many files open.
    #[must_use]
    pub fn command_with_files(&self, setup: Setup, settings: &str, files: u32) -> Command {
        self.command_after(&format!("ulimit -n {files} || exit"), setup, settings)
    }

    /// The same, started by a shell after it has run these lines. `$0` and what follows are the
    /// command: `exec "$0" "$@"` is appended.
    #[must_use]
    pub fn command_after(&self, lines: &str, setup: Setup, settings: &str) -> Command {
        self.after(lines, &self.command(setup, settings))
    }

    fn after(&self, lines: &str, tracker: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{lines}\nexec \"$0\" \"$@\"")])
            .arg(tracker.get_program())
            .args(tracker.get_args());
        set_up(&mut shell, self.folder.path());
        shell.env("NOTIFY_SOCKET", self.path("notify"));
        shell
    }

    /// The same for any user: the program may have been built where only its owner can look.
    #[must_use]
    pub fn command_for_anyone(&self, setup: Setup, settings: &str) -> Command {
        let copy = self.path("program");
        fs::copy(setup.program.binary, &copy).unwrap();
        self.command_of(Command::new(copy), setup, settings)
    }

    /// What a tracker with default settings and these has in its configuration file.
    #[must_use]
    pub fn config_text(&self, setup: Setup, settings: &str) -> String {
        let mut lines = settings.to_owned();
        let mut default = |key: &str, value: String| {
            if !settings.contains(key) {
                lines += &format!("\n{key} = {value}");
            }
        };
        default("socket_workers", setup.socket_workers.to_string());
        default("swarm_workers", setup.swarm_workers.to_string());
        default("log_level", "'info'".to_owned());
        // Who tests something else does not wait until WebSockets have been closed one by one.
        if setup.program.has_key("network.drain_period") {
            default("network.drain_period", "0".to_owned());
        }
        default(setup.program.runtime_key, format!("'{}'", setup.runtime));
        if setup.has_queues {
            default("network.xdp", "'full'".to_owned());
            default("network.xdp_interfaces", "['lo']".to_owned());
            default("network.xdp_required", "true".to_owned());
        }
        let addresses = IpFamily::ALL.map(|family| self.address(family).to_string());
        default("network.address", format!("{addresses:?}"));
        lines
    }

    fn command_of(&self, mut command: Command, setup: Setup, settings: &str) -> Command {
        self.set_up(&mut command);
        let config = self.write("config.toml", self.config_text(setup, settings));
        command.arg("-c").arg(config);
        command
    }

    /// Has a command run here.
    pub fn set_up(&self, command: &mut Command) {
        set_up(command, self.folder.path());
        command.env("NOTIFY_SOCKET", self.path("notify"));
    }

    /// What the tracker has told systemd since the last call.
    #[must_use]
    pub fn notifications(&self) -> Vec<String> {
        self.service_manager.notifications()
    }

    /// The names of all sockets that the service manager keeps.
    #[must_use]
    pub fn kept_sockets(&self) -> Vec<String> {
        self.service_manager.kept()
    }

    /// Whether a client of this family waits at a socket that is kept.
    #[must_use]
    pub fn has_waiting(&self, family: IpFamily) -> bool {
        self.service_manager.has_waiting(family == IpFamily::V6)
    }
}

/// Port numbers that no other test uses, in this process or another: the tracker's, two more, and
/// one that only stands for the others.
#[derive(Debug)]
struct Ports {
    first: u16,
    /// While this is open, at the last number, no other test can reserve the same block.
    _reservation: TcpListener,
}

impl Ports {
    const COUNT: u16 = 4;
    /// Below the ports that Linux gives to clients, so that none of them takes one by chance, and
    /// above those of `aquatic_e2e`, which reserves nothing.
    const RANGE: std::ops::Range<u16> = 20_000..32_000;

    fn reserve() -> Self {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let blocks = (Self::RANGE.end - Self::RANGE.start) / Self::COUNT;
        // Processes start at different places, so that they seldom try the same numbers.
        let [.., high, low] = std::process::id().to_be_bytes();
        let start = u16::from_be_bytes([high, low]).wrapping_mul(97);
        for _ in 0..blocks {
            let block = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % blocks;
            if let Ok(ports) = Self::try_reserve(Self::RANGE.start + Self::COUNT * block) {
                return ports;
            }
        }
        panic!("no ports are free");
    }

    fn try_reserve(first: u16) -> io::Result<Self> {
        let last = first + Self::COUNT - 1;
        let reservation = TcpListener::bind((Ipv4Addr::LOCALHOST, last))?;
        for port in first..last {
            drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?);
            drop(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?);
            drop(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?);
            drop(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?);
        }
        Ok(Self {
            first,
            _reservation: reservation,
        })
    }
}
