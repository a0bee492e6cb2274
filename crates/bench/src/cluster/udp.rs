//! A client of one node over UDP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::peer_id;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, Response, ScrapeRequest,
    TransactionId,
};
use nix::sys::socket::{setsockopt, sockopt};

/// How long an answer is waited for before the request is sent again.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// How often a request is sent before the node is taken for gone.
const TRIES: u32 = 10;

/// Bytes of answers that may wait.
const RECV_BUFFER_BYTES: usize = 8_000_000;

/// A connection id is good for two minutes (BEP 15).
pub(crate) const RENEW_AFTER: Duration = Duration::from_secs(60);

/// The largest datagram over an Ethernet.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1_500;

/// A socket with a connection id.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    connection_id: ConnectionId,
    clock: Clock,
    last: u32,
}

/// Size of a swarm, as a node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swarm(pub(crate) u32);

/// An announce of a leecher.
pub(crate) fn write_announce(
    connection_id: ConnectionId,
    transaction: u32,
    (info_hash, number, port): (InfoHash, u32, u16),
    packet: &mut Vec<u8>,
) {
    let request = AnnounceRequest {
        connection_id,
        transaction_id: TransactionId(transaction.to_be_bytes()),
        info_hash,
        peer_id: peer_id(number),
        bytes_downloaded: 0,
        bytes_left: 1,
        bytes_uploaded: 0,
        event: AnnounceEvent::None,
        key: [0; 4],
        num_want: 30,
        port,
        options: &[],
    };
    packet.clear();
    request.write(packet);
}

impl Client {
    /// One with this loopback address.
    pub(crate) fn connect(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((from, 0)).context("cannot open a socket")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        // The system may allow less, which is said when the limit is read.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECV_BUFFER_BYTES);
        let mut client = Self {
            socket,
            connection_id: ConnectionId([0; 8]),
            clock: Clock::start(),
            last: 0,
        };
        client.renew()?;
        Ok(client)
    }

    pub(crate) fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    fn renew(&mut self) -> anyhow::Result<()> {
        let write = |transaction_id, packet: &mut Vec<u8>| {
            ConnectRequest { transaction_id }.write(packet);
        };
        self.connection_id = self.ask(write, |response| match response {
            Response::Connect(answer) => Some(answer.connection_id),
            _ => None,
        })?;
        self.clock = Clock::start();
        Ok(())
    }

    fn renew_in_time(&mut self) -> anyhow::Result<()> {
        if self.clock.elapsed() > RENEW_AFTER {
            self.renew()?;
        }
        Ok(())
    }

    /// Announces a leecher.
    pub(crate) fn announce(&mut self, torrent: InfoHash, port: u16) -> anyhow::Result<()> {
        self.renew_in_time()?;
        let id = self.connection_id;
        let write = |transaction: TransactionId, packet: &mut Vec<u8>| {
            let number = u32::from_be_bytes(transaction.0);
            write_announce(id, number, (torrent, number, port), packet);
        };
        self.ask(write, |response| {
            matches!(response, Response::Announce(_)).then_some(())
        })
    }

    /// How many peers the node knows in a torrent.
    pub(crate) fn scrape(&mut self, torrent: InfoHash) -> anyhow::Result<Swarm> {
        self.renew_in_time()?;
        let connection_id = self.connection_id;
        let write = |transaction_id, packet: &mut Vec<u8>| {
            let request = ScrapeRequest {
                connection_id,
                transaction_id,
                info_hashes: InfoHashes::from_bytes(&torrent.0),
            };
            request.write(packet);
        };
        self.ask(write, |response| match response {
            Response::Scrape(answer) => {
                let row = answer.rows.iter().next()?;
                Some(Swarm(row.seeders + row.leechers))
            }
            _ => None,
        })
    }

    /// Asks until there is an answer.
    fn ask<T>(
        &mut self,
        write: impl Fn(TransactionId, &mut Vec<u8>),
        read: impl Fn(Response<'_>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut packet = Vec::new();
        let mut answer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..TRIES {
            self.last = self.last.wrapping_add(1);
            let transaction_id = TransactionId(self.last.to_be_bytes());
            packet.clear();
            write(transaction_id, &mut packet);
            self.socket.send(&packet)?;
            while let Ok(size) = self.socket.recv(&mut answer) {
                let bytes = answer.get(..size).unwrap_or_default();
                let Ok(response) = Response::parse(bytes, IpFamily::V4) else {
                    bail!("a node sends what is no response");
                };
                if response.transaction_id() != transaction_id {
                    continue;
                }
                if let Response::Error(refusal) = response {
                    bail!("refused: {}", String::from_utf8_lossy(refusal.message));
                }
                return read(response).context("a node answers something else");
            }
        }
        bail!("a node does not answer any more")
    }
}
