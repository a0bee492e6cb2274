//! Connections, encrypted or not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use aquatic_load_test::stream::config::ConnectConfig;
use aquatic_load_test::stream::tls::TlsClient;
use rustls::{ClientConnection, StreamOwned};
use socket2::Type;

use super::ANSWER_TIMEOUT;
use crate::local;

/// Opens connections from one address.
pub(super) struct Opener {
    number: u32,
    tracker: SocketAddr,
    tls: Option<TlsClient>,
    /// Whether connections are kept.
    pub(super) keeps: bool,
}

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Opener {
    pub(super) fn new(number: u32, tracker: SocketAddr, is_tls: bool) -> anyhow::Result<Self> {
        let config = ConnectConfig::default();
        Ok(Self {
            number,
            tracker,
            tls: is_tls.then(|| TlsClient::new(&config)).transpose()?,
            keeps: number.is_multiple_of(2),
        })
    }

    pub(super) fn open(&self) -> io::Result<Stream> {
        let socket = local::socket(local::honest(self.number), Type::STREAM)?;
        socket.connect_timeout(&self.tracker.into(), ANSWER_TIMEOUT)?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        socket.set_tcp_nodelay(true)?;
        let stream = TcpStream::from(socket);
        Ok(match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let session = tls.start().map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        })
    }
}

impl Stream {
    /// Whether the tracker has closed it, before anything is asked.
    pub(super) fn is_closed(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        };
        let is_closed = || -> io::Result<bool> {
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            match peeked {
                Ok(size) => Ok(size == 0),
                Err(error) => Ok(error.kind() != io::ErrorKind::WouldBlock),
            }
        };
        is_closed().unwrap_or(true)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
