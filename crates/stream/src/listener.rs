//! Sockets that accept connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aquatic_config::Addresses;
use aquatic_daemon::kept_sockets::{KeptSockets, Kind};
use aquatic_daemon::socket_groups::{Binder, bind_for_workers};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::memory::{KERNEL_BYTES_MAX, SOCKET_BUFFER_BYTES};

/// Binds every address once per worker: the result has one list per worker, in the order of the
/// addresses. The kernel spreads connections over the workers.
///
/// To be called before workers are started and privileges are dropped. A port of 0 becomes the same
/// free port for all workers. Default addresses of an IP version that the host lacks are left out.
///
/// # Errors
/// If an address cannot be bound, or somebody else (a second instance, say) listens there.
pub fn bind_listeners(
    addresses: &Addresses,
    workers: usize,
    backlog: u32,
) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    take_or_bind_listeners(&KeptSockets::default(), addresses, workers, backlog)
}

/// The same with listeners that an earlier process has left, in place of new ones. Behind those of
/// the addresses are some for which there were more workers then.
pub(crate) fn take_or_bind_listeners(
    kept: &KeptSockets,
    addresses: &Addresses,
    workers: usize,
    backlog: u32,
) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let listeners = bind_for_workers(kept, addresses, workers, &TcpBinder { backlog })?;
    if listeners.iter().flatten().any(has_large_buffers) {
        log::warn!(
            "the system does not let the buffers of sockets be bounded (SO_SNDBUF, SO_RCVBUF): it \
             may keep more of each connection than counts in `network.max_connection_memory`"
        );
    }
    Ok(listeners)
}

/// Listeners for whom so many connections may wait.
struct TcpBinder {
    backlog: i32,
}

impl Binder for TcpBinder {
    type Socket = TcpListener;
    const KIND: Kind = Kind::Stream;

    /// By a socket that does not listen: it would lose the clients that come just now.
    fn probe(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let bound = bind_socket(address, false)?.local_addr()?;
        Ok(bound.as_socket().unwrap_or(address))
    }

    fn bind(&self, address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
        let socket = bind_socket(address, is_shared)?;
        socket.listen(self.backlog)?;
        Ok(socket.into())
    }

    fn adopt(&self, socket: OwnedFd, is_shared: bool) -> io::Result<TcpListener> {
        let socket = Socket::from(socket);
        set_options(&socket, is_shared)?;
        // One that listens already only takes note of another backlog.
        socket.listen(self.backlog)?;
        Ok(socket.into())
    }

    fn duplicate(&self, socket: &TcpListener) -> io::Result<TcpListener> {
        socket.try_clone()
    }
}

fn has_large_buffers(listener: &TcpListener) -> bool {
    let socket = SockRef::from(listener);
    let sizes = [socket.send_buffer_size(), socket.recv_buffer_size()];
    let is_large = |size: io::Result<usize>| size.is_ok_and(|size| size > KERNEL_BYTES_MAX);
    sizes.into_iter().any(is_large)
}

fn bind_socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has sockets of its own.
        socket.set_only_v6(true)?;
    }
    set_options(&socket, is_shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn set_options(socket: &Socket, is_shared: bool) -> io::Result<()> {
    // After a restart, connections of the process before may linger.
    socket.set_reuse_address(true)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit this. Each answer is written at once, so nothing is to be gathered.
    socket.set_tcp_nodelay(true)?;
    // Nor does the kernel keep any amount for clients that do not read, or are not read from.
    // A host that refuses that is good enough.
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES as usize);
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES as usize);
    socket.set_nonblocking(true)
}

/// Makes the kernel forget what a client has not read when its connection is closed: it would go on
/// offering that for minutes, and keep it as long.
pub(crate) fn forget_unsent(socket: &impl AsFd) {
    // It fails only if there is no socket any more.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Whether accepting has failed for what has happened to one connection before, so that the next
/// one can be accepted at once (accept(2)). Anything else, a shortage of files or a listener that
/// has gone, will be the same a moment later.
pub(crate) fn concerns_one_connection(error: &io::Error) -> bool {
    [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPERM, // A firewall's rule.
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENETDOWN,
        libc::ENETUNREACH,
    ]
    .iter()
    .any(|code| error.raw_os_error() == Some(*code))
}

/// Whether the limit on open files, of this process or of the system, has been reached.
pub(crate) fn is_shortage_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    fn bind(address: &str, workers: usize) -> anyhow::Result<Vec<Vec<TcpListener>>> {
        let addresses = Addresses::new(vec![address.parse().unwrap()]).unwrap();
        bind_listeners(&addresses, workers, 16)
    }

    #[test]
    fn workers_share_a_port() {
        let listeners = bind("127.0.0.1:0", 3).unwrap();
        let address = listeners[0][0].local_addr().unwrap();
        for worker in &listeners {
            assert_eq!(worker.len(), 1);
            assert_eq!(worker[0].local_addr().unwrap(), address);
        }
        let refusal = bind(&address.to_string(), 3).unwrap_err();
        assert!(refusal.to_string().contains("another program"), "{refusal}");
        let refusal = bind(&address.to_string(), 1).unwrap_err();
        assert!(refusal.to_string().contains("another program"), "{refusal}");
    }

    #[test]
    fn families_share_a_port() {
        // A port that is free for IPv4 may be taken for IPv6, by whatever else runs here.
        let share = || {
            let v4 = bind("0.0.0.0:0", 1).unwrap();
            let port = v4[0][0].local_addr().unwrap().port();
            bind(&format!("[::]:{port}"), 1).is_ok()
        };
        assert!((0..5).any(|_| share()));
    }

    #[test]
    fn accepted_sockets_send_at_once_and_keep_little() {
        let listeners = bind("127.0.0.1:0", 1).unwrap();
        let listener = &listeners[0][0];
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        // The kernel doubles it.
        assert_eq!(accepted.send_buffer_size().unwrap(), KERNEL_BYTES_MAX);
        assert_eq!(accepted.recv_buffer_size().unwrap(), KERNEL_BYTES_MAX);
    }

    /// The kernel lets the buffer of a socket grow that is read from quickly, unless its size was
    /// set.
    #[test]
    fn what_comes_quickly_makes_no_room_for_more() {
        const BYTES: usize = 64 << 20;
        let listeners = bind("127.0.0.1:0", 1).unwrap();
        let listener = &listeners[0][0];
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let send = || (0..BYTES >> 20).try_for_each(|_| client.write_all(&[0; 1 << 20]));
        thread::scope(|scope| {
            let sender = scope.spawn(send);
            let mut buffer = vec![0; 1 << 20];
            let mut left = BYTES;
            while left > 0 {
                left -= accepted.read(&mut buffer).unwrap();
            }
            sender.join().unwrap().unwrap();
        });
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.recv_buffer_size().unwrap(), KERNEL_BYTES_MAX);
    }
}
