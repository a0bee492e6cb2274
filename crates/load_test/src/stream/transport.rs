//! A TCP connection to the tracker, with or without TLS, that never blocks.
//!
//! Bytes in, bytes out: nothing is known here of what they say.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConnection, HandshakeKind};
use socket2::{Domain, Protocol, Socket, Type};

use crate::stream::tls::TlsClient;

/// Bytes that one system call reads at most.
const READ_BYTES: usize = 64 * 1024;

/// Where bytes are read into; one serves all connections of a worker.
pub(crate) struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            raw: vec![0; READ_BYTES],
            plain: vec![0; READ_BYTES],
        }
    }
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is nothing more at the moment.
    Paused,
    /// The tracker has closed the connection.
    Ended,
}

/// A connection that may still be in the making. What is written meanwhile is kept.
pub(crate) struct Transport {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Bytes, encrypted if they have to be, that the system would not take yet.
    unsent: Vec<u8>,
}

impl Transport {
    /// Begins to connect.
    pub(crate) fn open(
        server: SocketAddr,
        from: Option<IpAddr>,
        tls: Option<&TlsClient>,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(ip) = from {
            // Else the kernel would look for a port that no connection at all has: slow among many,
            // and there are fewer of them.
            #[cfg(target_os = "linux")]
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        match socket.connect(&server.into()) {
            Err(error) if !is_in_progress(&error) => return Err(error),
            _ => {}
        }
        let tls = tls.map(TlsClient::start).transpose();
        let mut transport = Self {
            stream: TcpStream::from_std(socket.into()),
            tls: tls.map_err(io::Error::other)?.map(Box::new),
            unsent: Vec::new(),
        };
        transport.encrypt()?;
        Ok(transport)
    }

    /// What the event loop waits for.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the tracker has answered, and TLS, if any, is established.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.tls {
            Some(tls) => !tls.is_handshaking(),
            None => self.stream.peer_addr().is_ok(),
        }
    }

    /// How the TLS session came about, once it is there.
    pub(crate) fn handshake(&self) -> Option<HandshakeKind> {
        self.tls.as_ref()?.handshake_kind()
    }

    /// Sends bytes, or keeps what cannot be sent yet.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.encrypt();
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = send(&mut self.stream, bytes)?;
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what has been kept.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = send(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Reads all there is. Whether that includes the end, the event has told.
    pub(crate) fn read(
        &mut self,
        has_ended: bool,
        scratch: &mut Scratch,
        mut receive: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Reading> {
        loop {
            let read = match self.stream.read(&mut scratch.raw) {
                Ok(0) => return Ok(Reading::Ended),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_not_yet(&error) => return Ok(Reading::Paused),
                Err(error) => return Err(error),
            };
            let raw = &scratch.raw[..read];
            match &mut self.tls {
                None => receive(raw)?,
                Some(tls) => {
                    decrypt(tls, raw, &mut scratch.plain, &mut receive)?;
                    self.encrypt()?;
                }
            }
            // Less than there was room for: what comes after will raise an event.
            if read < READ_BYTES && !has_ended {
                return Ok(Reading::Paused);
            }
        }
    }

    /// Sends what TLS has to say.
    fn encrypt(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.unsent)?;
            }
        }
        self.flush()
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_not_yet(&error) => return Ok(0),
            result => return result,
        }
    }
}

/// What comes after TLS has said goodbye is not looked at: next, the connection ends. Who closes it
/// first is left with a port that cannot be used for a while, and that should be the tracker.
fn decrypt(
    tls: &mut ClientConnection,
    mut raw: &[u8],
    plain: &mut [u8],
    receive: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    while !raw.is_empty() {
        tls.read_tls(&mut raw)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let read = tls.reader().read(plain)?;
            receive(&plain[..read])?;
            left -= read;
        }
        if state.peer_has_closed() {
            break;
        }
    }
    Ok(())
}

/// Whether an operation has to wait for an event; `NotConnected` while the connection is made.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
}
