//! A client's end of a connection: bytes out and bytes in, plain or over TLS, and an HTTP answer
//! read as strictly as can be. Other protocols take what they understand off the bytes themselves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use crate::bencode::Value;
use crate::identity::{NAME, TRUSTING};
use crate::wait::DEADLINE;

/// What lies between HTTP and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Transport {
    /// Whether there is something.
    #[must_use]
    pub fn is_tls(self) -> bool {
        self != Self::Plain
    }
}

/// A connection to a tracker.
pub struct Connection {
    stream: Stream,
    /// What has come and was not looked at yet.
    received: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A whole HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 and its like.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What comes behind the head.
    pub body: Vec<u8>,
}

/// A reset, or an end of which TLS was told nothing.
fn is_abrupt_end(error: &io::Error) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind())
}

/// A TCP connection from an address of this machine.
pub fn tcp(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if !from.is_unspecified() {
        // Else the kernel would look for a port that no connection at all has: slow among many.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// From an address of this machine; with a TLS handshake that is over when this returns.
    #[must_use]
    pub fn open(from: IpAddr, to: SocketAddr, transport: Transport) -> Self {
        Self::over(tcp(from, to).unwrap(), transport)
    }

    /// Over a TCP connection on which something may have been said already.
    pub fn over(tcp: TcpStream, transport: Transport) -> Self {
        let config = match transport {
            Transport::Plain => {
                let (stream, received) = (Stream::Plain(tcp), Vec::new());
                return Self { stream, received };
            }
            Transport::Tls12 => &TRUSTING[0],
            Transport::Tls13 => &TRUSTING[1],
        };
        Self::with_tls(tcp, config).unwrap()
    }

    /// With a TLS handshake, which is over when this returns.
    pub fn with_tls(mut tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = NAME.try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self {
            stream: Stream::Tls(Box::new(StreamOwned::new(tls, tcp))),
            received: Vec::new(),
        })
    }

    /// The TLS side of it.
    pub fn tls(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Plain(_) => panic!("this connection is plain"),
            Stream::Tls(tls) => &tls.conn,
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Where it comes from.
    pub fn local(&self) -> SocketAddr {
        self.tcp().local_addr().unwrap()
    }

    /// Sends all of this.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap();
    }

    /// As [`Self::send`], for a tracker that may have had enough.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Ends its own half of the connection.
    pub fn end(&mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        }
        self.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// Goes away without a word, and without reading what has been answered.
    pub fn reset(self) {
        let linger = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
        linger.unwrap();
    }

    /// Reads more. Nothing is the end.
    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        loop {
            let size = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(&mut bytes),
                Stream::Tls(tls) => tls.read(&mut bytes),
            };
            match size {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(size) => {
                    self.received.extend(&bytes[..size]);
                    return Ok(size);
                }
            }
        }
    }

    /// The next answer, which must be whole.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.read_answer(false)
    }

    /// The next answer, which is to a HEAD request: it has no body.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        self.read_answer(true)
    }

    /// How large the next answer is, head and body.
    #[track_caller]
    pub fn answer_bytes(&mut self) -> usize {
        self.read_sized(false).1
    }

    #[track_caller]
    fn read_answer(&mut self, is_to_head: bool) -> Answer {
        self.read_sized(is_to_head).0
    }

    #[track_caller]
    fn read_sized(&mut self, is_to_head: bool) -> (Answer, usize) {
        self.take(|bytes| {
            Answer::read(bytes, is_to_head).map(|(answer, size)| ((answer, size), size))
        })
    }

    /// What `read` finds at the start of what has come, and how many bytes that is. Waits until
    /// there is something, which must be before the end.
    #[track_caller]
    pub fn take<T>(&mut self, read: impl Fn(&[u8]) -> Option<(T, usize)>) -> T {
        loop {
            if let Some((found, size)) = read(&self.received) {
                self.received.drain(..size);
                return found;
            }
            match self.read() {
                Ok(0) => panic!("no answer, but the end after {self:?}"),
                Ok(_) => {}
                Err(error) => panic!("no answer ({error}) after {self:?}"),
            }
        }
    }

    /// Whether the tracker has ended the connection, of which nothing was looked at yet. Waits
    /// until something comes from it, unless it is slow to do so.
    pub fn has_ended(&mut self) -> bool {
        self.received.is_empty() && !matches!(self.read(), Ok(1..))
    }

    /// Whether nothing comes for so long, not even the end.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.tcp().set_read_timeout(Some(time)).unwrap();
        let silent = match self.read() {
            Ok(_) => false,
            Err(error) => [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
        };
        self.tcp().set_read_timeout(Some(DEADLINE)).unwrap();
        silent
    }

    /// The tracker has nothing more to say, and ends the connection in an orderly way.
    #[track_caller]
    pub fn assert_ends(&mut self) {
        let size = self.read().unwrap();
        assert_eq!(size, 0, "{self:?}");
        assert!(self.received.is_empty(), "{self:?}");
    }

    /// The tracker ends the connection, whatever it says before.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        loop {
            match self.read() {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_abrupt_end(&error) => return,
                Err(error) => panic!("{error} after {self:?}"),
            }
        }
    }

    /// The tracker ends the connection without a further word, in whatever way.
    #[track_caller]
    pub fn assert_dropped(&mut self) {
        match self.read() {
            Ok(0) => {}
            Ok(_) => panic!("{self:?}"),
            Err(error) => assert!(is_abrupt_end(&error), "{error}"),
        }
        assert!(self.received.is_empty(), "{self:?}");
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.received.escape_ascii().to_string())
    }
}

impl Answer {
    /// The answer at the start of `bytes` and its size, if it is whole.
    fn read(bytes: &[u8], is_to_head: bool) -> Option<(Self, usize)> {
        let end = b"\r\n\r\n";
        let head_bytes = bytes.windows(4).position(|window| window == end)?;
        let head = str::from_utf8(&bytes[..head_bytes]).unwrap();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..4)?.strip_suffix(' '))
            .unwrap_or_else(|| panic!("{status_line}"));
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status: status.parse().unwrap(),
            headers,
            body: Vec::new(),
        };
        // What comes behind 101 is no longer HTTP.
        let body_bytes = if is_to_head || answer.status == 101 {
            0
        } else {
            answer.header("content-length").unwrap().parse().unwrap()
        };
        let start = head_bytes + end.len();
        answer.body = bytes.get(start..start + body_bytes)?.to_vec();
        Some((answer, start + body_bytes))
    }

    /// The value of a header that must not be there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|header| header.0 == name);
        let value = values.next().map(|header| header.1.as_str());
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// The body of an answer that a BitTorrent client would read: of any other status than 200 it
    /// would not.
    #[track_caller]
    pub fn value(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        Value::read(&self.body).unwrap()
    }

    /// The tracker's reason not to serve.
    #[track_caller]
    pub fn failure(&self) -> String {
        let value = self.value();
        match value.bytes("failure reason") {
            Some(reason) => String::from_utf8(reason.to_vec()).unwrap(),
            None => panic!("{value:?}"),
        }
    }
}
