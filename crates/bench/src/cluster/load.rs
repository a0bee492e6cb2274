//! A steady load on nodes over UDP, beside which other things are measured.
//!
//! The load testers of this workspace never sleep while they keep a rate. Several of them, the
//! nodes and whoever measures would take the time from each other; so here is one that sleeps
//! between milliseconds, and whose peers announce one after the other: each again after the same
//! time. The torrents of a node are its own, so that swarms, and answers with them, are of one
//! size whether nodes share them or not.

use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp_protocol::{ConnectRequest, ConnectionId, Response, TransactionId};

use crate::child::Interrupt;
use crate::cluster::answers::{Answer, Answers};
use crate::cluster::node::Node;
use crate::cluster::udp::{Client, DATAGRAM_BYTES_MAX, RENEW_AFTER, write_announce};

/// How long the sender sleeps.
const REST: Duration = Duration::from_millis(1);

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(2);

/// How long a receiver waits before it looks whether there is an end.
const RECEIVE_MAX: Duration = Duration::from_millis(50);

/// How often it is looked whether all has been sent, or answered.
const PAUSE: Duration = Duration::from_millis(10);

/// Requests that may wait for their answers; a power of two.
const PLACES: usize = 1 << 20;

/// The transaction of connect requests. Those of announces are smaller.
const CONNECTING: u32 = u32::MAX;

/// Peers in a torrent.
const PEERS_PER_TORRENT: u32 = 10;

/// The seed of the first node's torrents; that of the next is one more.
const SEED: u64 = 0x6c6f_6164;

/// What is asked for, of each node.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Announces per second.
    pub(crate) rate: u32,
    /// Numbers of the peers, which announce in turn, and then again from the first one.
    pub(crate) peers: Range<u32>,
}

/// A load on each of some nodes, which goes on until it is ended.
#[derive(Debug)]
pub(crate) struct Load {
    demand: Demand,
    parts: Vec<Part>,
    clock: Clock,
}

/// That on one node.
#[derive(Debug)]
struct Part {
    shared: Arc<Shared>,
    sender: JoinHandle<std::io::Result<()>>,
    receiver: JoinHandle<Vec<Answer>>,
}

#[derive(Debug)]
struct Shared {
    /// Which torrents its peers have.
    seed: u64,
    is_ending: AtomicBool,
    has_ended: AtomicBool,
    connection_id: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    /// In all answers together.
    peers: AtomicU64,
    refused: AtomicU64,
    /// When the request of a transaction was due, plus one; 0: there is none.
    due: Vec<AtomicU64>,
    clock: Clock,
}

/// What has happened so far, at all nodes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// In all answers together.
    pub(crate) peers: u64,
}

/// The torrent of a peer, its number, and where it listens.
fn peer(seed: u64, number: u32) -> (InfoHash, u32, u16) {
    let port = 1_024 + number % PEERS_PER_TORRENT;
    let port = u16::try_from(port).unwrap_or(1_024);
    (info_hash(seed, number / PEERS_PER_TORRENT), number, port)
}

/// When a request is due, in microseconds: the first one at once.
fn due(rate: u32, number: u64) -> u64 {
    number * 1_000_000 / u64::from(rate)
}

impl Load {
    /// Begins at all of these nodes. Each has peers at an address of its own.
    pub(crate) fn start(nodes: &[Node], demand: Demand) -> anyhow::Result<Self> {
        Self::start_with(nodes, demand, SEED..)
    }

    /// Announces all of these peers once at each node, but those of the node itself: then it knows
    /// as many as a node of a cluster does.
    pub(crate) fn tell_of_others(
        nodes: &[Node],
        demand: &Demand,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let seeds = SEED..SEED + u64::try_from(nodes.len()).unwrap_or(0);
        for other in 1..nodes.len() {
            let seeds = seeds.clone().cycle().skip(other);
            let load = Self::start_with(nodes, demand.clone(), seeds)?;
            load.wait_until_sent(demand.peers.end, interrupt)?;
            load.end()?;
        }
        Ok(())
    }

    /// Begins with the torrents of these seeds, one for each node.
    fn start_with(
        nodes: &[Node],
        demand: Demand,
        seeds: impl Iterator<Item = u64>,
    ) -> anyhow::Result<Self> {
        let clients = nodes
            .iter()
            .zip(1u8..)
            .map(|(node, number)| Client::connect(Ipv4Addr::new(127, 0, 1, number), node.address));
        let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
        let clock = Clock::start();
        let parts = clients.into_iter().zip(seeds).map(|(client, seed)| {
            let socket = client.socket.try_clone();
            let socket = socket.context("no more files can be open")?;
            socket.set_read_timeout(Some(RECEIVE_MAX))?;
            let shared = Arc::new(Shared::new(seed, client.connection_id(), clock));
            let (of_sender, of_receiver) = (Arc::clone(&shared), Arc::clone(&shared));
            let demand = demand.clone();
            Ok(Part {
                shared,
                sender: thread::spawn(move || of_sender.send(&client, &demand)),
                receiver: thread::spawn(move || of_receiver.receive(&socket)),
            })
        });
        let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            demand,
            parts,
            clock,
        })
    }

    /// Now, in the time of its answers.
    pub(crate) fn millis(&self) -> u32 {
        u32::try_from(self.clock.micros() / 1_000).unwrap_or(u32::MAX)
    }

    pub(crate) fn counts(&self) -> Counts {
        let sum = |count: fn(&Shared) -> &AtomicU64| {
            let counts = self.parts.iter().map(|part| count(&part.shared));
            counts.map(|count| count.load(Relaxed)).sum()
        };
        Counts {
            sent: sum(|shared| &shared.sent),
            answered: sum(|shared| &shared.answered),
            peers: sum(|shared| &shared.peers),
        }
    }

    /// Waits until each node was sent so many announces; fails if that takes much longer than it
    /// should.
    pub(crate) fn wait_until_sent(&self, count: u32, interrupt: &Interrupt) -> anyhow::Result<()> {
        let expected = Duration::from_micros(due(self.demand.rate, count.into()));
        let max = expected * 3 / 2 + Duration::from_secs(10);
        let is_behind = |part: &Part| part.shared.sent.load(Relaxed) < u64::from(count);
        while self.parts.iter().any(is_behind) {
            interrupt.check()?;
            if self.clock.elapsed() > max {
                let sent = self.counts().sent;
                bail!(
                    "the load falls behind: {sent} of {count} announces for each node were sent \
                     in {} s: ask for a lower rate",
                    max.as_secs()
                );
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends it, and waits for the last answers.
    pub(crate) fn end(self) -> anyhow::Result<Answers> {
        for part in &self.parts {
            part.shared.is_ending.store(true, Relaxed);
        }
        let failed = || anyhow::anyhow!("a thread of the load has failed");
        let (mut sent, mut receivers) = (Vec::new(), Vec::new());
        for part in self.parts {
            let ended = part.sender.join().map_err(|_| failed())?;
            ended.context("cannot send to a node")?;
            sent.push(part.shared.sent.load(Relaxed));
            receivers.push((part.shared, part.receiver));
        }
        let clock = Clock::start();
        let is_waiting = |(shared, _): &(Arc<Shared>, _)| {
            shared.answered.load(Relaxed) < shared.sent.load(Relaxed)
        };
        while receivers.iter().any(is_waiting) && clock.elapsed() < GRACE {
            thread::sleep(PAUSE);
        }
        for (shared, _) in &receivers {
            shared.has_ended.store(true, Relaxed);
        }
        let mut answers = Answers {
            rate: self.demand.rate,
            sent,
            ..Answers::default()
        };
        for (shared, receiver) in receivers {
            answers.list.extend(receiver.join().map_err(|_| failed())?);
            answers.refused += shared.refused.load(Relaxed);
        }
        Ok(answers)
    }
}

impl Shared {
    fn new(seed: u64, connection_id: ConnectionId, clock: Clock) -> Self {
        Self {
            seed,
            is_ending: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            connection_id: AtomicU64::new(u64::from_be_bytes(connection_id.0)),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            peers: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            due: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            clock,
        }
    }

    fn send(&self, client: &Client, demand: &Demand) -> std::io::Result<()> {
        let mut packet = Vec::new();
        let (mut sent, mut renewed) = (0u64, Clock::start());
        let mut numbers = demand.peers.clone().cycle();
        while !self.is_ending.load(Relaxed) {
            let now = self.clock.micros();
            while let due = due(demand.rate, sent)
                && due <= now
                && let Some(number) = numbers.next()
            {
                let place = usize::try_from(sent).unwrap_or(0) % PLACES;
                let Some(slot) = self.due.get(place) else {
                    break;
                };
                // A sender that has slept for too long sends late: that is not to be left out.
                slot.store(due + 1, Relaxed);
                let id = ConnectionId(self.connection_id.load(Relaxed).to_be_bytes());
                let transaction = u32::try_from(place).unwrap_or(0);
                write_announce(id, transaction, peer(self.seed, number), &mut packet);
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

    fn receive(&self, socket: &UdpSocket) -> Vec<Answer> {
        let mut answers = Vec::new();
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
                    if let Some(answered) = self.answered(answer.header.transaction_id) {
                        answers.push(answered);
                        self.answered.fetch_add(1, Relaxed);
                        let peers = u64::try_from(answer.peers.len()).unwrap_or(0);
                        self.peers.fetch_add(peers, Relaxed);
                    }
                }
                Ok(_) | Err(_) => {
                    self.refused.fetch_add(1, Relaxed);
                }
            }
        }
        answers
    }

    /// The answer to a request that has none yet.
    fn answered(&self, transaction: TransactionId) -> Option<Answer> {
        let place = usize::try_from(u32::from_be_bytes(transaction.0)).ok()?;
        let due = self.due.get(place)?.swap(0, Relaxed).checked_sub(1)?;
        let micros = self.clock.micros().saturating_sub(due);
        Some(Answer {
            due_millis: u32::try_from(due / 1_000).unwrap_or(u32::MAX),
            micros: u32::try_from(micros).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn peers_differ_and_nodes_share_no_torrent() {
        let peers = (0..1_000).map(|number| peer(1, number));
        let peers: BTreeSet<_> = peers.map(|(torrent, _, port)| (torrent.0, port)).collect();
        assert_eq!(peers.len(), 1_000);
        let torrents = |seed| (0..1_000).map(move |number| peer(seed, number).0.0);
        let of_one: BTreeSet<_> = torrents(1).collect();
        assert_eq!(of_one.len(), 100);
        assert!(torrents(2).all(|torrent| !of_one.contains(&torrent)));
    }

    #[test]
    fn a_rate_is_kept_over_time() {
        assert_eq!(due(20_000, 0), 0);
        assert_eq!(due(20_000, 1), 50);
        assert_eq!(due(3, 2), 666_666);
        assert_eq!(due(100_000, 360_000_000), 3_600_000_000);
    }

    #[test]
    fn time_counts_from_when_a_request_was_due() {
        let shared = Shared::new(1, ConnectionId([0; 8]), Clock::start());
        thread::sleep(Duration::from_millis(20));
        // Due at 3 ms, and sent by a sender that has slept until now.
        shared.due[7].store(3_001, Relaxed);
        let transaction = TransactionId(7u32.to_be_bytes());
        let answer = shared.answered(transaction).unwrap();
        assert_eq!(answer.due_millis, 3);
        assert!(answer.micros >= 17_000, "{answer:?}");
        assert!(shared.answered(transaction).is_none(), "twice");
    }
}
