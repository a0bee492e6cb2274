//! A steady load on one node over UDP, beside which other things are measured.
//!
//! The load testers of this workspace never sleep while they keep a rate. Several of them, the
//! nodes and whoever measures would take the time from each other; so here is one that sleeps
//! between milliseconds, and whose peers announce one after the other: each again after the same
//! time.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp_protocol::{ConnectRequest, ConnectionId, Response, TransactionId};

use crate::cluster::udp::{Client, DATAGRAM_BYTES_MAX, RENEW_AFTER, write_announce};

/// How long the sender sleeps.
const REST: Duration = Duration::from_millis(1);

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(2);

/// Requests that may wait for their answers; a power of two.
const PLACES: usize = 1 << 20;

/// The transaction of connect requests. Those of announces are smaller.
const CONNECTING: u32 = u32::MAX;

/// Peers in a torrent.
const PEERS_PER_TORRENT: u32 = 10;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Announces per second.
    pub(crate) rate: u32,
    /// Numbers of the peers, which announce in turn.
    pub(crate) peers: Range<u32>,
    /// Where the peers are: other nodes have others.
    pub(crate) from: Ipv4Addr,
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    sender: JoinHandle<std::io::Result<()>>,
    receiver: JoinHandle<Answers>,
}

#[derive(Debug)]
struct Shared {
    is_ending: AtomicBool,
    has_ended: AtomicBool,
    connection_id: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    /// When the request of a transaction was due, plus one; 0: there is none.
    due: Vec<AtomicU64>,
    clock: Clock,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) sent: u64,
    /// Microseconds from when each request was due to its answer.
    pub(crate) micros: Vec<f64>,
    pub(crate) refused: u64,
}

/// The torrent of a peer, and where it listens.
fn peer(number: u32) -> (InfoHash, u32, u16) {
    let port = 1_024 + number % PEERS_PER_TORRENT;
    let port = u16::try_from(port).unwrap_or(1_024);
    (info_hash(1, number / PEERS_PER_TORRENT), number, port)
}

/// How many requests were due after so long.
fn due(rate: u32, micros: u64) -> u64 {
    u64::from(rate) * micros / 1_000_000
}

impl Load {
    /// Begins.
    pub(crate) fn start(to: SocketAddr, demand: Demand) -> anyhow::Result<Self> {
        let client = Client::connect(demand.from, to)?;
        let shared = Arc::new(Shared {
            is_ending: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            connection_id: AtomicU64::new(u64::from_be_bytes(client.connection_id().0)),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            due: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            clock: Clock::start(),
        });
        let socket = client
            .socket
            .try_clone()
            .context("no more files can be open")?;
        let of_sender = Arc::clone(&shared);
        let sender = thread::spawn(move || of_sender.send(&client, &demand));
        let of_receiver = Arc::clone(&shared);
        let receiver = thread::spawn(move || of_receiver.receive(&socket));
        Ok(Self {
            shared,
            sender,
            receiver,
        })
    }

    /// Answers that have come.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Relaxed)
    }

    /// Ends it, and waits for the last answers.
    pub(crate) fn end(self) -> anyhow::Result<Answers> {
        self.shared.is_ending.store(true, Relaxed);
        let sent = self.sender.join();
        thread::sleep(GRACE);
        self.shared.has_ended.store(true, Relaxed);
        let answers = self.receiver.join();
        let failed = || anyhow::anyhow!("a thread of the load has failed");
        sent.map_err(|_| failed())?
            .context("cannot send to a node")?;
        answers.map_err(|_| failed())
    }
}

impl Shared {
    fn send(&self, client: &Client, demand: &Demand) -> std::io::Result<()> {
        let mut packet = Vec::new();
        let (mut sent, mut renewed) = (0u64, Clock::start());
        let mut numbers = demand.peers.clone().cycle();
        while !self.is_ending.load(Relaxed) {
            let now = self.clock.micros();
            while sent < due(demand.rate, now)
                && let Some(number) = numbers.next()
            {
                let place = usize::try_from(sent).unwrap_or(0) % PLACES;
                let Some(slot) = self.due.get(place) else {
                    break;
                };
                slot.store(now + 1, Relaxed);
                let id = ConnectionId(self.connection_id.load(Relaxed).to_be_bytes());
                let transaction = u32::try_from(place).unwrap_or(0);
                write_announce(id, transaction, peer(number), &mut packet);
                client.socket.send(&packet)?;
                sent += 1;
            }
            self.sent.store(sent, Relaxed);
            if renewed.elapsed() > RENEW_AFTER {
                renewed = Clock::start();
                packet.clear();
                let transaction_id = TransactionId(CONNECTING.to_be_bytes());
                ConnectRequest { transaction_id }.write(&mut packet);
                client.socket.send(&packet)?;
            }
            thread::sleep(REST);
        }
        Ok(())
    }

    fn receive(&self, socket: &std::net::UdpSocket) -> Answers {
        let mut answers = Answers::default();
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        while !self.has_ended.load(Relaxed) {
            let Ok(size) = socket.recv(&mut bytes) else {
                continue;
            };
            let datagram = bytes.get(..size).unwrap_or_default();
            match Response::parse(datagram, IpFamily::V4) {
                Ok(Response::Connect(answer)) => {
                    let id = u64::from_be_bytes(answer.connection_id.0);
                    self.connection_id.store(id, Relaxed);
                }
                Ok(Response::Announce(answer)) => {
                    if let Some(micros) = self.waited(answer.header.transaction_id) {
                        answers.micros.push(micros);
                        self.answered.fetch_add(1, Relaxed);
                    }
                }
                Ok(_) | Err(_) => answers.refused += 1,
            }
        }
        answers.sent = self.sent.load(Relaxed);
        answers
    }

    /// How long a request has waited, which is answered now for the first time.
    fn waited(&self, transaction: TransactionId) -> Option<f64> {
        let place = usize::try_from(u32::from_be_bytes(transaction.0)).ok()?;
        let due = self.due.get(place)?.swap(0, Relaxed).checked_sub(1)?;
        let micros = self.clock.micros().saturating_sub(due);
        Some(u32::try_from(micros).map_or(f64::MAX, f64::from))
    }
}

impl Answers {
    /// Requests that were never answered.
    pub(crate) fn lost(&self) -> u64 {
        let answered = u64::try_from(self.micros.len()).unwrap_or(u64::MAX);
        self.sent.saturating_sub(answered)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn peers_differ() {
        let peers: BTreeSet<_> = (0..1_000).map(|it| (peer(it).0.0, peer(it).2)).collect();
        assert_eq!(peers.len(), 1_000);
        let torrents: BTreeSet<_> = (0..1_000).map(|number| peer(number).0.0).collect();
        assert_eq!(torrents.len(), 100);
    }

    #[test]
    fn a_rate_is_kept_over_time() {
        assert_eq!(due(20_000, 1_000), 20);
        assert_eq!(due(3, 999_999), 2);
        assert_eq!(due(100_000, 3_600_000_000), 360_000_000);
    }

    #[test]
    fn what_was_not_answered_is_lost() {
        let answers = Answers {
            sent: 5,
            micros: vec![1.0, 2.0],
            refused: 1,
        };
        assert_eq!(answers.lost(), 3);
    }
}
