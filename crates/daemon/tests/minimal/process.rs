//! The daemon as a child process, with its files in a folder of its own.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// Info hashes that tests put into lists.
pub(crate) const HASH_A: [u8; 20] = [0xaa; 20];
pub(crate) const HASH_B: [u8; 20] = [0xbb; 20];

/// A line of an access list.
pub(crate) fn hex(info_hash: [u8; 20]) -> String {
    info_hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The example, which cargo builds next to the tests.
pub(crate) fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/minimal");
    assert!(
        path.exists(),
        "{} is missing: test the whole package",
        path.display()
    );
    path
}

/// Runs the program to its end: exit code, standard output, standard error.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Files, a free address and a service manager for one daemon.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    systemd: UnixDatagram,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The daemon may run as a user to whom the folder does not belong.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let systemd = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(DEADLINE)).unwrap();
        let address = SocketAddr::new(own_loopback_ip().into(), 3000);
        Self {
            folder,
            address,
            systemd,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// The command that starts the daemon; `sections` is what follows the address in its file.
    pub(crate) fn command(&self, sections: &str) -> Command {
        self.prepare(Command::new(binary()), sections)
    }

    /// Adds to the program its file, its log and its service manager.
    pub(crate) fn prepare(&self, mut program: Command, sections: &str) -> Command {
        let log_level = if sections.contains("log_level") {
            ""
        } else {
            "log_level = 'info'\n"
        };
        let text = format!("address = '{}'\n{log_level}{sections}", self.address);
        program
            .arg("-c")
            .arg(self.write("config.toml", &text))
            .current_dir(self.folder.path())
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap());
        program
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) fn start(&self, sections: &str) -> Daemon<'_> {
        self.start_command(&mut self.command(sections))
    }

    pub(crate) fn start_command(&self, command: &mut Command) -> Daemon<'_> {
        let daemon = self.attend(command.spawn().unwrap());
        assert_eq!(self.notification(), "READY=1", "{}", self.log());
        daemon
    }

    /// A daemon that has just been started.
    pub(crate) fn attend(&self, child: Child) -> Daemon<'_> {
        Daemon { child, setup: self }
    }

    /// Starts a daemon that is to fail: its exit code and its log.
    pub(crate) fn fail(&self, sections: &str) -> (Option<i32>, String) {
        let mut child = self.command(sections).spawn().unwrap();
        (wait(&mut child).code(), self.log())
    }

    /// What the daemon tells systemd next, unless it asks for more time, as it does when a machine
    /// is slow.
    pub(crate) fn notification(&self) -> String {
        let mut bytes = [0; 256];
        loop {
            let message = match uninterrupted(|| self.systemd.recv(&mut bytes)) {
                Ok(size) => String::from_utf8(bytes[..size].to_vec()).unwrap(),
                Err(error) => panic!("nothing from the daemon: {error}\n{}", self.log()),
            };
            if !message.starts_with("EXTEND_TIMEOUT_USEC=") {
                return message;
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

/// A running daemon, killed when it goes out of scope.
pub(crate) struct Daemon<'setup> {
    pub(crate) child: Child,
    setup: &'setup Setup,
}

impl Daemon<'_> {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Sends SIGUSR1 and waits until the daemon has reloaded.
    pub(crate) fn reload(&self) {
        self.signal(Signal::SIGUSR1);
        let message = self.setup.notification();
        assert!(
            message.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{message}"
        );
        assert_eq!(self.setup.notification(), "READY=1");
    }

    /// Waits until the daemon has logged this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let clock = Clock::start();
        while !self.setup.log().contains(text) {
            let log = self.setup.log();
            assert!(clock.elapsed() < DEADLINE, "no {text:?} in\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the daemon says that this info hash is served.
    pub(crate) fn serves(&self, info_hash: [u8; 20]) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send_to(&info_hash, self.setup.address).unwrap();
        let mut answer = [0; 64];
        let size = uninterrupted(|| socket.recv(&mut answer)).unwrap();
        match &answer[..size] {
            b"served" => true,
            b"not served" => false,
            other => panic!("{}", other.escape_ascii()),
        }
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(datagram, self.setup.address).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// A file of the daemon's folder in /proc.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address in 127.0.0.0/8 that no other test uses, so that all can have the same ports.
fn own_loopback_ip() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(
        127,
        1 + high % 128,
        low,
        COUNT.fetch_add(1, Ordering::Relaxed),
    )
}

/// Unlike others, a call with a time limit is not resumed after a signal (signal(7)).
fn uninterrupted(mut receive: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match receive() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let clock = Clock::start();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(clock.elapsed() < DEADLINE, "the daemon does not end");
        thread::sleep(Duration::from_millis(5));
    }
}
