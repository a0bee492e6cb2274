//! Floods of datagrams, each source with a socket and a connection id of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_types::IpFamily;
use aquatic_udp_protocol::{ConnectRequest, ConnectionId, Response, TransactionId};
use fastrand::Rng;
use socket2::{SockRef, Type};

use crate::local;
use crate::pace::Pace;

/// How a source is asked to look for its answers: hardly. The kernel drops what does not fit.
const RECEIVE_BUFFER_BYTES: usize = 2_048;

/// How long a connection id is waited for, and how often it is asked for.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const CONNECT_ATTEMPTS_MAX: usize = 5;

const PAUSE: Duration = Duration::from_micros(200);

/// Datagrams from many sources.
#[derive(Clone, Copy, Debug)]
pub struct DatagramFlood {
    /// Addresses that send, in turn.
    pub sources: u32,
    /// Datagrams per second.
    pub rate: u64,
    /// Makes one, for a source with this connection id.
    pub make: fn(ConnectionId, &mut Rng) -> Vec<u8>,
}

/// Attackers that have what they need.
#[derive(Debug)]
pub struct Attackers {
    flood: DatagramFlood,
    sources: Vec<(UdpSocket, ConnectionId)>,
}

impl DatagramFlood {
    /// Opens the sockets, and gets each a connection id.
    ///
    /// # Errors
    /// If sockets run out, or the tracker does not answer.
    pub fn prepare(self, tracker: SocketAddr) -> anyhow::Result<Attackers> {
        let mut rng = Rng::with_seed(1);
        let sources = (0..self.sources)
            .map(|number| {
                let (socket, id) = connect(local::attacker(number), tracker, &mut rng)?;
                SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
                Ok((socket, id))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Attackers {
            flood: self,
            sources,
        })
    }
}

/// A socket that does not block, and its connection id.
pub(crate) fn connect(
    from: Ipv4Addr,
    tracker: SocketAddr,
    rng: &mut Rng,
) -> anyhow::Result<(UdpSocket, ConnectionId)> {
    let socket = local::socket(from, Type::DGRAM)
        .with_context(|| format!("cannot open a socket at {from}: raise the limit (ulimit -n)"))?;
    socket.connect(&tracker.into())?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    for _ in 0..CONNECT_ATTEMPTS_MAX {
        if let Some(id) = ask_for_id(&socket, rng) {
            socket.set_nonblocking(true)?;
            return Ok((socket, id));
        }
    }
    bail!("the tracker at {tracker} gives no connection id");
}

/// Asks once.
pub(crate) fn ask_for_id(socket: &UdpSocket, rng: &mut Rng) -> Option<ConnectionId> {
    let transaction_id = TransactionId(rng.u32(..).to_be_bytes());
    let mut bytes = Vec::new();
    ConnectRequest { transaction_id }.write(&mut bytes);
    socket.send(&bytes).ok()?;
    let mut answer = [0; 2_048];
    loop {
        let size = socket.recv(&mut answer).ok()?;
        // Answers to what was given up before may come first.
        if let Ok(Response::Connect(answer)) = Response::parse(answer.get(..size)?, IpFamily::V4)
            && answer.transaction_id == transaction_id
        {
            return Some(answer.connection_id);
        }
    }
}

impl Attackers {
    /// Sends until it is told to stop. Gives back how many datagrams were sent.
    pub fn run(&self, rate: u64, stop: &AtomicBool) -> u64 {
        let (clock, mut pace, mut rng) = (Clock::start(), Pace::new(rate), Rng::with_seed(2));
        let (mut sent, mut turns) = (0, self.sources.iter().cycle());
        while !stop.load(Ordering::Relaxed) {
            let due = pace.due(clock.elapsed());
            if due == 0 {
                thread::sleep(PAUSE);
            }
            for (socket, id) in turns.by_ref().take(usize::try_from(due).unwrap_or(0)) {
                let datagram = (self.flood.make)(*id, &mut rng);
                sent += u64::from(socket.send(&datagram).is_ok());
            }
        }
        sent
    }
}
