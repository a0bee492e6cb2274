//! A way to a server that takes its time, as between machines that are far from each other.
//!
//! Where the kernel has it, `tc qdisc add ... netem delay` does the same for all packets of a
//! machine; many kernels have not. Here each piece of what is sent waits for itself, in both
//! directions, so that many of them can be on their way. Only the first packets of a connection,
//! which the kernel answers by itself, do not wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::Host;

/// How often it is looked whether there is a new connection, or the end.
const PAUSE: Duration = Duration::from_millis(5);

const PIECE_BYTES: usize = 65_536;

/// So many pieces can be on their way in one direction; then senders have to wait.
const PIECES_MAX: usize = 1_024;

/// It takes no new connections when this is dropped. Those from before last as long as both ends.
#[derive(Debug)]
pub struct SlowWay {
    address: SocketAddr,
    has_ended: Arc<AtomicBool>,
}

/// When it is to arrive, and what.
type Piece = (Instant, Vec<u8>);

impl SlowWay {
    /// Listens at an address of a host (port 0 is any that is free), and leads to a server that
    /// this host reaches. What is sent arrives so much later.
    ///
    /// # Errors
    /// When the address is not free, or the namespace of the host cannot be entered.
    pub fn start(host: &Host, from: SocketAddr, to: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = host.bind_tcp(from)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let (until, host) = (Arc::clone(&has_ended), host.clone());
        thread::spawn(move || {
            while !until.load(Relaxed) {
                match listener.accept() {
                    // If there is no server, who has come sees the end of the connection.
                    Ok((client, _)) => drop(lead(&host, client, to, delay)),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        });
        Ok(Self { address, has_ended })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SlowWay {
    fn drop(&mut self) {
        self.has_ended.store(true, Relaxed);
    }
}

fn lead(host: &Host, client: TcpStream, to: SocketAddr, delay: Duration) -> Result<()> {
    let server = host.connect_tcp(to)?;
    for end in [&client, &server] {
        end.set_nonblocking(false)?;
        end.set_nodelay(true)?;
    }
    let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
    for (from, to) in [(client, server), (from_server, to_client)] {
        let (pieces, due) = mpsc::sync_channel(PIECES_MAX);
        thread::spawn(move || take(from, &pieces, delay));
        thread::spawn(move || bring(to, &due));
    }
    Ok(())
}

/// Reads what is sent, as soon as it is.
#[expect(
    clippy::disallowed_methods,
    reason = "other people's programs are at both ends, which live in real time"
)]
fn take(mut from: TcpStream, pieces: &SyncSender<Piece>, delay: Duration) {
    let mut bytes = vec![0; PIECE_BYTES];
    loop {
        let piece = match from.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
            Ok(size) => bytes.get(..size).unwrap_or_default().to_vec(),
        };
        if pieces.send((Instant::now() + delay, piece)).is_err() {
            return;
        }
    }
}

/// Passes on what is due.
#[expect(
    clippy::disallowed_methods,
    reason = "other people's programs are at both ends, which live in real time"
)]
fn bring(mut to: TcpStream, due: &Receiver<Piece>) {
    while let Ok((at, piece)) = due.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // If it has closed the connection itself, it does not mind.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const DELAY: Duration = Duration::from_millis(50);

    /// Long, and not for ever.
    const LIMIT: Duration = Duration::from_secs(10);

    fn send(from: &mut TcpStream, to: &mut TcpStream, sent: &[u8]) {
        #[expect(clippy::disallowed_methods, reason = "sockets live in real time")]
        let start = Instant::now();
        from.write_all(sent).unwrap();
        let mut arrived = vec![0; sent.len()];
        to.read_exact(&mut arrived).unwrap();
        assert!(start.elapsed() >= DELAY, "{:?}", start.elapsed());
        assert!(arrived == sent, "{} bytes", sent.len());
    }

    #[test]
    fn all_that_is_sent_arrives_later_in_both_directions_and_then_the_end() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = TcpListener::bind(any).unwrap();
        let to = server.local_addr().unwrap();
        let way = SlowWay::start(&Host::loopback(), any, to, DELAY).unwrap();
        let mut client = TcpStream::connect(way.address()).unwrap();
        let (mut served, _) = server.accept().unwrap();
        for end in [&client, &served] {
            end.set_read_timeout(Some(LIMIT)).unwrap();
        }
        let long: Vec<u8> = (0..=255).cycle().take(3 * PIECE_BYTES + 1).collect();
        for text in [b"one".as_slice(), b"two", &long] {
            send(&mut client, &mut served, text);
            send(&mut served, &mut client, text);
        }
        drop(client);
        assert_eq!(served.read(&mut [0; 1]).unwrap(), 0, "the end");
    }
}
