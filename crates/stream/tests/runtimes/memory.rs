//! Clients that make connections hold much, over real sockets.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use aquatic_stream::Closed;
use socket2::{Domain, Socket, Type};

use crate::RUNTIMES;
use crate::clients::{connect_with, exchange, until};
use crate::server::{Server, Settings};

const MEMORY_MAX: usize = 4 * 1024 * 1024;

/// A connection whose own end keeps next to nothing, so that the server's end has to. (What has
/// been promised when a connection is made is not taken back.)
fn connect_with_little_room(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"E").unwrap();
    stream
}

/// A client that has sent as much as it could, and does not read what comes back.
fn deaf(address: SocketAddr) -> TcpStream {
    let mut stream = connect_with_little_room(address);
    stream.set_nonblocking(true).unwrap();
    let bytes = [b'x'; 16 * 1024];
    for _ in 0..64 {
        match stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // It has been closed already.
            Err(_) => break,
        }
    }
    stream
}

#[test]
fn clients_that_do_not_read_are_bounded_together() {
    const DEAF: usize = 150;
    for runtime in RUNTIMES {
        let settings = Settings {
            memory_max: MEMORY_MAX,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let mut honest = connect_with(server.address, b"E");
        let held = || server.counters.held_bytes.get();
        let mut deaf_ones = Vec::new();
        for _ in 0..DEAF {
            deaf_ones.push(deaf(server.address));
            assert_eq!(exchange(&mut honest, b"hello"), b"hello", "{runtime:?}");
            assert!(held() <= u64::try_from(MEMORY_MAX).unwrap(), "{runtime:?}");
        }
        // Each holds more than the kernel's part of it.
        let most = MEMORY_MAX / (128 * 1024) + 2;
        until("most have been closed", || {
            server.active() <= u64::try_from(most).unwrap()
        });
        let closed = server.counters.closed.of(Closed::Memory).get();
        assert!(
            closed >= u64::try_from(DEAF - most).unwrap(),
            "{runtime:?}: {closed}"
        );
        assert_eq!(exchange(&mut honest, b"still here"), b"still here");
    }
}

/// A client that has sent little enough for the kernel to take all of what comes back, and does not
/// read it.
fn talkative(address: SocketAddr) -> TcpStream {
    let mut stream = connect_with_little_room(address);
    let _ = stream.write_all(&[b'x'; TALK]);
    stream
}

/// What comes back to one of them.
const TALK: usize = 48 * 1024;

/// That somebody goes on sending does not mean that it reads.
#[test]
fn clients_that_go_on_sending_and_do_not_read_are_bounded_together() {
    const TALKATIVE: usize = 150;
    for runtime in RUNTIMES {
        let settings = Settings {
            memory_max: MEMORY_MAX,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let mut honest = connect_with(server.address, b"E");
        let mut talkative_ones = Vec::new();
        for _ in 0..TALKATIVE {
            talkative_ones.push(talkative(server.address));
            assert_eq!(exchange(&mut honest, b"hello"), b"hello", "{runtime:?}");
        }
        let most = u64::try_from(MEMORY_MAX / TALK).unwrap() + 2;
        until("most have been closed", || {
            for stream in &mut talkative_ones {
                let _ = stream.write(b"x");
            }
            server.active() <= most
        });
        assert_eq!(exchange(&mut honest, b"still here"), b"still here");
    }
}

/// A client that has read everything holds nothing, however much that was.
#[test]
fn clients_that_read_are_not_closed_for_what_others_hold() {
    const READERS: usize = 40;
    for runtime in RUNTIMES {
        let settings = Settings {
            memory_max: MEMORY_MAX,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let mut readers: Vec<_> = (0..READERS)
            .map(|_| connect_with(server.address, b"E"))
            .collect();
        let much = vec![b'x'; 16 * 1024];
        for reader in &mut readers {
            for _ in 0..8 {
                assert_eq!(exchange(reader, &much), much, "{runtime:?}");
            }
        }
        let mut talkative_ones = Vec::new();
        for _ in 0..150 {
            talkative_ones.push(talkative(server.address));
        }
        let closed = || server.counters.closed.of(Closed::Memory).get();
        until("some have been closed", || closed() > 0);
        for reader in &mut readers {
            assert_eq!(exchange(reader, b"still here"), b"still here");
        }
    }
}
