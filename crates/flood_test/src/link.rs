//! TCP connections that never block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use socket2::Socket;

/// Bytes that one system call reads at most.
const READ_BYTES: usize = 16_384;

/// Begins to connect.
pub(crate) fn connect(socket: Socket, tracker: SocketAddr) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    match socket.connect(&tracker.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Writes what waits, as far as the kernel takes it.
pub(crate) fn flush(stream: &mut TcpStream, waiting: &mut Vec<u8>) -> io::Result<()> {
    while !waiting.is_empty() {
        match stream.write(waiting) {
            Ok(size) => drop(waiting.drain(..size)),
            Err(error) if is_not_ready(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads all there is. False at the end.
pub(crate) fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(size) => input.extend(buffer.get(..size).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_not_ready(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Whether an operation has to wait for an event; `NotConnected` while the connection is made.
pub(crate) fn is_not_ready(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}
