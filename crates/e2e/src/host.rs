//! Where a program runs: this machine, or a network namespace with addresses of its own.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::Family;

/// Ports are taken from below the range that Linux hands out by itself (32768 and up), so that
/// no passing client socket sits on a port between our look at it and its use, and from below
/// those of `aquatic_test_support::Place`, whose tests may run at the same time.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// Looks for a free port before giving up.
const PORT_ATTEMPTS_MAX: usize = 100;

/// For one attempt to connect: longer than the way to any host of a lab takes.
const REACH_LIMIT: Duration = Duration::from_secs(1);

/// For an answer by HTTP.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// A network address pair, and the network namespace in which it is a local address.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: Option<Namespace>,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

#[derive(Clone, Debug)]
struct Namespace {
    name: String,
    /// What is `/etc/hosts` for programs that run there.
    names_file: PathBuf,
}

impl Host {
    /// This machine by its loopback addresses.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            namespace: None,
            v4: Ipv4Addr::LOCALHOST,
            v6: Ipv6Addr::LOCALHOST,
        }
    }

    /// The namespace `name`, which exists already ([`crate::lab`] makes them). Programs there
    /// find `names_file` in the place of `/etc/hosts`.
    #[must_use]
    pub fn in_namespace(name: String, names_file: PathBuf, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        Self {
            namespace: Some(Namespace { name, names_file }),
            v4,
            v6,
        }
    }

    /// Its address of one family.
    #[must_use]
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// A command that will run here. Each program on the way replaces itself by the next one, so
    /// the child's pid is the program's own and signals reach it. `ip netns exec` has made a mount
    /// namespace too, so that the names file covers `/etc/hosts` for this program alone.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", &namespace.name])
                    .args(["sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#])
                    .arg(&namespace.names_file)
                    .arg(program);
                command
            }
        }
    }

    /// A UDP socket that lives here, bound to one of the local addresses.
    ///
    /// # Errors
    /// When the address is not free, or the namespace cannot be entered.
    pub fn bind_udp(&self, address: SocketAddr) -> Result<UdpSocket> {
        self.enter(|| UdpSocket::bind(address))?
            .with_context(|| format!("cannot bind {address}"))
    }

    /// A TCP socket that listens here, at one of the local addresses.
    ///
    /// # Errors
    /// When the address is not free, or the namespace cannot be entered.
    pub(crate) fn bind_tcp(&self, address: SocketAddr) -> Result<TcpListener> {
        self.enter(|| TcpListener::bind(address))?
            .with_context(|| format!("cannot bind {address}"))
    }

    /// A TCP connection from here.
    ///
    /// # Errors
    /// When nobody accepts it, or the namespace cannot be entered.
    pub fn connect_tcp(&self, address: SocketAddr) -> Result<TcpStream> {
        self.enter(|| TcpStream::connect(address))?
            .with_context(|| format!("cannot connect to {address}"))
    }

    /// What is served here by HTTP at an address.
    ///
    /// # Errors
    /// When it is not.
    pub fn fetch(&self, address: SocketAddr, path: &str) -> Result<String> {
        let mut stream = self.connect_tcp(address)?;
        stream.set_read_timeout(Some(FETCH_LIMIT))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no body")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        Ok(body.to_owned())
    }

    /// A port that is free here for UDP and TCP in both families.
    ///
    /// # Errors
    /// When none is found in many attempts.
    pub fn free_port(&self) -> Result<u16> {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = fastrand::u16(PORTS);
            let is_free = self.enter(|| {
                [Family::V4, Family::V6].iter().all(|family| {
                    let address = SocketAddr::new(self.ip(*family), port);
                    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
                })
            })?;
            if is_free {
                return Ok(port);
            }
        }
        bail!("no free port among {PORT_ATTEMPTS_MAX}: does this host lack IPv4 or IPv6?")
    }

    /// Whether packets go from here to a host at `ip` and back: it accepts a connection to some
    /// port, or refuses it, which only it can do.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub(crate) fn reaches(&self, ip: IpAddr) -> Result<bool> {
        let discard = SocketAddr::new(ip, 9);
        let answer = self.enter(|| TcpStream::connect_timeout(&discard, REACH_LIMIT))?;
        Ok(match answer {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        })
    }

    /// Runs `work` in this host's namespace. A namespace belongs to a thread, and a socket stays
    /// in the one that it was made in; so a short-lived thread goes there and brings it back.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let Some(namespace) = &self.namespace else {
            return Ok(work());
        };
        let path = Path::new("/run/netns").join(&namespace.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        thread::scope(|scope| {
            let guest = scope.spawn(|| -> Result<T> {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter {}", path.display()))?;
                Ok(work())
            });
            guest.join().map_err(|_| anyhow!("a thread panicked"))?
        })
    }
}
