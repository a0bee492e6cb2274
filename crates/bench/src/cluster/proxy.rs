//! The network between a node and its server, which can be cut.
//!
//! While it is, nothing arrives any more and nobody is told: connections stay open, and new ones
//! are made to nowhere. What was on its way then never arrives.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// How often it is looked whether something has changed.
const PAUSE: Duration = Duration::from_millis(10);

/// A way to one server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    is_cut: AtomicBool,
    has_ended: AtomicBool,
    /// Both ends of each connection that was made.
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens, and leads to a server.
    pub(crate) fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            std::io::Result::Ok((listener, address))
        };
        let (listener, address) = listen().context("there is no free port")?;
        let shared = Arc::new(Shared {
            to,
            is_cut: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            ends: Mutex::new(Vec::new()),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || of_thread.accept(&listener));
        Ok(Self { address, shared })
    }

    /// From now on nothing arrives.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.store(true, Relaxed);
    }

    /// New connections are made again. Those from before have died meanwhile.
    pub(crate) fn heal(&self) {
        self.shared.close();
        self.shared.is_cut.store(false, Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Relaxed);
        self.shared.close();
    }
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        for end in self.ends().drain(..) {
            // Whoever has closed it before was faster.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.has_ended.load(Relaxed) {
            let Ok((node, _)) = listener.accept() else {
                thread::sleep(PAUSE);
                continue;
            };
            let of_thread = Arc::clone(self);
            thread::spawn(move || {
                // Nobody hears of a connection that fails: its node makes another one.
                let _ = of_thread.lead(node);
            });
        }
    }

    fn lead(self: &Arc<Self>, node: TcpStream) -> std::io::Result<()> {
        self.wait_until_whole();
        let server = TcpStream::connect(self.to)?;
        for end in [&node, &server] {
            end.set_nonblocking(false)?;
            end.set_nodelay(true)?;
        }
        self.ends().extend([node.try_clone()?, server.try_clone()?]);
        let of_thread = Arc::clone(self);
        let (from_server, to_node) = (server.try_clone()?, node.try_clone()?);
        thread::spawn(move || of_thread.copy(from_server, to_node));
        self.copy(node, server);
        Ok(())
    }

    fn wait_until_whole(&self) {
        while self.is_cut.load(Relaxed) && !self.has_ended.load(Relaxed) {
            thread::sleep(PAUSE);
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 65_536];
        loop {
            let size = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            // If it was cut, this connection is closed when it is whole again.
            self.wait_until_whole();
            if to.write_all(bytes.get(..size).unwrap_or_default()).is_err() {
                break;
            }
        }
        // A node that gives up during a cut cannot tell its server.
        self.wait_until_whole();
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of the proxy, and the server's end of its connection.
    fn connect(proxy: &Proxy, server: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.address).unwrap();
        let (served, _) = server.accept().unwrap();
        for end in [&client, &served] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (client, served)
    }

    fn arrives(from: &mut TcpStream, to: &mut TcpStream, text: &[u8; 3]) {
        from.write_all(text).unwrap();
        let mut heard = [0; 3];
        to.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, text);
    }

    #[test]
    fn what_is_sent_arrives_until_it_is_cut_and_never_after() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap()).unwrap();
        let (mut client, mut served) = connect(&proxy, &server);
        arrives(&mut client, &mut served, b"one");
        arrives(&mut served, &mut client, b"two");

        proxy.cut();
        client.write_all(b"lost").unwrap();
        served.set_read_timeout(Some(20 * PAUSE)).unwrap();
        let error = served.read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is not told");
        let waiting = TcpStream::connect(proxy.address).unwrap();
        server.set_nonblocking(true).unwrap();
        thread::sleep(10 * PAUSE);
        assert!(server.accept().is_err(), "nobody gets through");
        server.set_nonblocking(false).unwrap();

        proxy.heal();
        served
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(served.read(&mut [0; 4]).unwrap_or(0), 0, "lost");
        assert_eq!(client.read(&mut [0; 4]).unwrap_or(0), 0, "closed");
        drop(waiting);
        let (_late, _) = server.accept().unwrap();
        let (mut client, mut served) = connect(&proxy, &server);
        arrives(&mut client, &mut served, b"six");
    }
}
