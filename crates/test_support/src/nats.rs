//! Servers that trackers share their swarms by: the real `nats-server`, of the Debian package of
//! this name.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aquatic_types::IpFamily;

use crate::{Place, wait};

/// A server with a log (JetStream) on disk. It is killed when this is dropped.
pub struct NatsServer {
    child: Option<Child>,
    place: Place,
}

impl NatsServer {
    /// One that lets everybody in.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One that has this in its configuration besides.
    #[must_use]
    pub fn start_with(configuration: &str) -> Self {
        let mut server = Self::stopped(configuration);
        server.go_on();
        server
    }

    /// One that does not run yet.
    #[must_use]
    pub fn stopped(configuration: &str) -> Self {
        let server = Self {
            child: None,
            place: Place::new(),
        };
        server.configure(configuration);
        server
    }

    /// What it will have in its configuration at the next start.
    pub fn configure(&self, configuration: &str) {
        let store = self.path("store");
        let text = format!(
            "listen: \"{}\"\njetstream {{ store_dir: \"{}\" }}\n{configuration}\n",
            self.address(),
            store.display()
        );
        fs::write(self.path("nats.conf"), text).unwrap();
    }

    /// Of a file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address(IpFamily::V4)
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Starts it (again), with what it has stored.
    pub fn go_on(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(self.path("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("`nats-server` can be started: it is in Debian's package of this name");
        self.child = Some(child);
        wait::until_ok(|| {
            let connected = TcpStream::connect(self.address());
            connected.map_err(|error| format!("{error}: {}", self.log()))
        });
    }

    /// Ends it, without a word to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it has logged since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian has it among the programs of administrators.
fn program() -> &'static Path {
    let of_debian = Path::new("/usr/sbin/nats-server");
    match of_debian.exists() {
        true => of_debian,
        false => Path::new("nats-server"),
    }
}
