//! `--health`: asks the daemon that runs with this configuration whether it serves, as service
//! managers of containers and monitoring do.
//!
//! The daemon's own operator's endpoint knows best; without one, the daemon is asked what a client
//! would ask. Nothing here depends on what the daemon does besides: it is another process.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, process};

use aquatic_config::Config;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock::Clock;
use crate::endpoint::{HEALTH_PATH, READY};

/// How long a daemon that serves may take to say so.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long the answer to a datagram is waited for before another is sent.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(1);

/// More of an answer over HTTP is not read: what matters is in its first line, and what is said to
/// people in its body.
const ANSWER_MAX_BYTES: usize = 4_096;

/// A configuration that says where its daemon can be asked.
pub trait HealthCheck: Config {
    /// Whom to ask. `None`: the daemon serves nobody.
    fn probe(&self) -> Option<Probe>;
}

/// Where and how a daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Its operator's endpoint at this address.
    Endpoint(SocketAddr),
    /// Its operator's endpoint at this Unix socket.
    EndpointSocket(PathBuf),
    /// A connect request over UDP (BEP 15): the answer must be that to it.
    Udp(SocketAddr),
    /// An HTTP request: any answer will do.
    Http(SocketAddr),
    /// A TCP connection: it must be accepted.
    Tcp(SocketAddr),
}

/// Why a daemon is not healthy, as far as can be seen.
#[derive(Debug)]
pub enum Unhealthy {
    /// There is none, or it cannot be asked.
    Unreachable(io::Error),
    /// It says so itself.
    NotReady(String),
    /// Somebody else answers, or nonsense.
    Strange(&'static str),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) if is_timeout(error) => {
                write!(f, "no answer within {} seconds", TIMEOUT.as_secs())
            }
            Self::Unreachable(error) => error.fmt(f),
            Self::NotReady(answer) => write!(f, "it says: {answer}"),
            Self::Strange(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Unhealthy {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(address) => write!(f, "http://{address}{HEALTH_PATH}"),
            Self::EndpointSocket(path) => write!(f, "{HEALTH_PATH} at {}", path.display()),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Http(address) => write!(f, "http://{address}/"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Probe {
    /// Asks.
    ///
    /// # Errors
    /// If the daemon does not serve, as far as can be seen.
    pub fn ask(&self) -> Result<(), Unhealthy> {
        let clock = Clock::start();
        match self {
            Self::Endpoint(address) => {
                let (status, body) = http(connect(*address)?, HEALTH_PATH, clock)?;
                judge(status, &body)
            }
            Self::EndpointSocket(path) => {
                let (status, body) = http(connect_at(path)?, HEALTH_PATH, clock)?;
                judge(status, &body)
            }
            Self::Udp(address) => udp(reachable(*address)),
            Self::Http(address) => http(connect(*address)?, "/", clock).map(drop),
            Self::Tcp(address) => connect(*address).map(drop).map_err(Unhealthy::from),
        }
    }
}

/// What the operator's endpoint has said.
fn judge(status: u16, body: &str) -> Result<(), Unhealthy> {
    match status {
        200 if body.trim() == READY => Ok(()),
        503 => Err(Unhealthy::NotReady(body.trim().to_owned())),
        _ => Err(Unhealthy::Strange(
            "somebody else serves at the address of the operator's endpoint",
        )),
    }
}

/// What listens at all addresses also does so at that of this machine itself.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => (),
    }
    address
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&reachable(address), TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A socket at which nobody accepts has a queue that is full some day, where one waits for room:
/// no longer than a write may take.
fn connect_at(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// A stream that does not wait for longer than it is told.
trait Patient: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Patient for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

impl Patient for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

/// Returns the status and as much of the body as has come.
fn http(mut stream: impl Patient, path: &str, clock: Clock) -> Result<(u16, String), Unhealthy> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; ANSWER_MAX_BYTES];
    let mut length = 0;
    loop {
        // Zero would mean to wait without end.
        let left = TIMEOUT.saturating_sub(clock.elapsed());
        stream.wait_at_most(left.max(Duration::from_millis(1)))?;
        let room = answer.get_mut(length..).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // A tracker may keep the connection: its answer is there.
            Err(_) if status_of(&answer).is_some() => break,
            Err(error) => return Err(error.into()),
        }
        if left.is_zero() {
            return Err(io::Error::from(ErrorKind::TimedOut).into());
        }
    }
    answer.truncate(length);
    let status = status_of(&answer).ok_or(Unhealthy::Strange("what answers is no HTTP server"))?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// RFC 9112, section 4.
fn status_of(answer: &[u8]) -> Option<u16> {
    let after_name = answer.strip_prefix(b"HTTP/1.")?;
    let digits = after_name.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// BEP 15: a connect request is a magic number, action 0 and a transaction id, and its answer is
/// action 0, the same transaction id and a connection id.
fn udp(address: SocketAddr) -> Result<(), Unhealthy> {
    const MAGIC: u64 = 0x0417_2710_1980;
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local)?;
    // The kernel drops what others send.
    socket.connect(address)?;
    socket.set_read_timeout(Some(DATAGRAM_TIMEOUT))?;
    let mut request = MAGIC.to_be_bytes().to_vec();
    request.extend(0_u32.to_be_bytes());
    request.extend(process::id().to_be_bytes());
    let expected = request.get(8..).unwrap_or_default().to_vec();
    let mut last = io::Error::from(ErrorKind::TimedOut);
    for _ in 0..TIMEOUT.as_secs() / DATAGRAM_TIMEOUT.as_secs() {
        socket.send(&request)?;
        let mut answer = [0; 64];
        match socket.recv(&mut answer) {
            Ok(16) if answer.starts_with(&expected) => return Ok(()),
            Ok(_) => return Err(Unhealthy::Strange("what answers is no UDP tracker")),
            // A full queue loses a datagram.
            Err(error) if is_timeout(&error) => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Answers one request over HTTP with these bytes.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_endpoint_is_believed() {
        let ready = server("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n");
        assert!(Probe::Endpoint(ready).ask().is_ok());
        let stopping = server("HTTP/1.1 503 Service Unavailable\r\n\r\nstopping\n");
        let error = Probe::Endpoint(stopping).ask().unwrap_err();
        assert_eq!(error.to_string(), "it says: stopping");
        for other in ["404 Not Found\r\n\r\n", "200 OK\r\n\r\n<html>"] {
            let other = format!("HTTP/1.1 {other}");
            let error = Probe::Endpoint(server(other.leak())).ask().unwrap_err();
            assert!(matches!(error, Unhealthy::Strange(_)), "{error}");
        }
    }

    #[test]
    fn what_is_no_http_is_not_healthy() {
        for answer in ["", "HTTP/1.1 ", "HTTP/2 200\r\n\r\n", "SSH-2.0\r\n"] {
            let error = Probe::Http(server(answer)).ask().unwrap_err();
            assert_eq!(error.to_string(), "what answers is no HTTP server");
        }
        let refused = Probe::Http(server("HTTP/1.0 404 Not Found\r\n\r\n"));
        assert!(refused.ask().is_ok());
    }

    #[test]
    fn who_does_not_listen_is_not_healthy() {
        let closed = TcpListener::bind(LOCALHOST).unwrap().local_addr().unwrap();
        assert!(Probe::Tcp(closed).ask().is_err());
        assert!(Probe::Endpoint(closed).ask().is_err());
        let closed = UdpSocket::bind(LOCALHOST).unwrap().local_addr().unwrap();
        assert!(Probe::Udp(closed).ask().is_err());
        assert!(Probe::EndpointSocket("/nonexistent".into()).ask().is_err());
    }

    /// The daemon hangs: its queue is full of those who asked before.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_at_which_nobody_accepts_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = SockAddr::unix(&path).unwrap();
        let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&address).unwrap();
        listener.listen(0).unwrap();
        let first = socket();
        first.connect(&address).unwrap();
        let clock = Clock::start();
        let error = Probe::EndpointSocket(path).ask().unwrap_err();
        assert_eq!(error.to_string(), "no answer within 3 seconds");
        assert!(clock.elapsed() < 3 * TIMEOUT);
    }

    #[test]
    fn only_the_answer_to_a_connect_request_is_one() {
        for (change, is_healthy) in [(None, true), (Some(0), false), (Some(7), false)] {
            let tracker = UdpSocket::bind(LOCALHOST).unwrap();
            let address = tracker.local_addr().unwrap();
            thread::spawn(move || {
                let mut request = [0; 64];
                let (length, client) = tracker.recv_from(&mut request).unwrap();
                assert_eq!(length, 16);
                let mut answer = [&request[8..16], &[9; 8]].concat();
                if let Some(index) = change {
                    answer[index] ^= 1;
                }
                tracker.send_to(&answer, client).unwrap();
            });
            assert_eq!(Probe::Udp(address).ask().is_ok(), is_healthy, "{change:?}");
        }
    }

    #[test]
    fn all_addresses_include_that_of_this_machine() {
        for (listening, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(
                reachable(listening.parse().unwrap()),
                asked.parse().unwrap()
            );
        }
    }
}
