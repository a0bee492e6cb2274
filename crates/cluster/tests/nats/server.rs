//! A server of its own for each test.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// After this, something that should happen does not. Generous, because machines are busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Only root may have /usr/sbin in its PATH.
const PROGRAMS: [&str; 2] = ["nats-server", "/usr/sbin/nats-server"];

fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

/// Whether there is such a program.
pub(crate) fn is_there() -> bool {
    if program().is_some() {
        return true;
    }
    let reason = "nats-server is not installed";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    println!("nothing is tested: {reason}");
    false
}

/// Waits until `condition` gives a value.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(clock.elapsed() < DEADLINE, "not in {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port at which nobody listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A server, or where there will be one.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    process: Option<Child>,
}

impl Server {
    /// One that is not started yet.
    pub(crate) fn absent() -> Self {
        Self {
            port: free_port(),
            folder: TempDir::new().unwrap(),
            process: None,
        }
    }

    /// With a log, and nothing else.
    pub(crate) fn start() -> Self {
        Self::start_with(JETSTREAM)
    }

    /// With these lines of configuration.
    pub(crate) fn start_with(configuration: &str) -> Self {
        let mut server = Self::absent();
        server.run(configuration);
        server
    }

    /// Starts it, again, at the same place.
    pub(crate) fn run(&mut self, configuration: &str) {
        let (port, folder) = (self.port, self.folder.path());
        let text = format!("listen: \"127.0.0.1:{port}\"\n{configuration}\n");
        let text = text.replace("FOLDER", folder.to_str().unwrap());
        let file = folder.join("server.conf");
        fs::write(&file, text).unwrap();
        let child = Command::new(program().unwrap())
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.process = Some(child);
        until("the server listens", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(ended.is_none(), "the server has ended: {}", log());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        let id = Pid::from_raw(process.id().cast_signed());
        kill(id, signal).unwrap();
    }

    /// It says nothing any more, as when a cable is cut.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let id = self.process.as_ref().unwrap().id();
        until("all of its threads stand still", || {
            let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap();
            let mut states = threads.map(|thread| {
                let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
                // After the name, which is in brackets.
                stat.rsplit_once(") ").unwrap().1.starts_with('T')
            });
            states.all(|stands_still| stands_still).then_some(())
        });
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Has it take over a changed configuration.
    pub(crate) fn reload(&self, configuration: &str) {
        let (port, folder) = (self.port, self.folder.path());
        let text = format!("listen: \"127.0.0.1:{port}\"\n{configuration}\n");
        let text = text.replace("FOLDER", folder.to_str().unwrap());
        fs::write(folder.join("server.conf"), text).unwrap();
        self.signal(Signal::SIGHUP);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines for a server that can keep a log.
pub(crate) const JETSTREAM: &str = "jetstream { store_dir: \"FOLDER/js\" }";
