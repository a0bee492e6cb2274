//! Who asks, and what: random requests, each with what it means.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aquatic_types::{AnnounceEvent, CanonicalAddr, InfoHash, PeerId, PeerStatus};
use aquatic_udp::config::Config;
use aquatic_udp::counters::Reason;
use aquatic_udp::socket_worker::DATAGRAM_BYTES_MAX;
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, PROTOCOL_ID, Request, ScrapeRequest,
    TransactionId, write_url_data,
};
use aquatic_udp_socket::{LocalAddr, ReturnPath};
use fastrand::Rng;

use super::keys::Url;
use super::model::Announce;
use super::states::{CLIENTS, Torrent};

const TORRENTS: u8 = 24;
/// Ports on which peers listen: with six IPv4 addresses, swarms are larger than any small form.
const PORTS: u16 = 25;

/// A datagram on its way to the tracker.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) socket: usize,
    pub(crate) path: ReturnPath,
    pub(crate) bytes: Vec<u8>,
    pub(crate) transaction_id: TransactionId,
    pub(crate) meaning: Meaning,
}

impl Datagram {
    pub(crate) fn from(&self) -> CanonicalAddr {
        CanonicalAddr::new(self.path.peer())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Connect,
    Announce(ConnectionId, Announce, Url),
    Scrape(ConnectionId, Vec<InfoHash>),
    /// To be counted for this reason, and told to whoever has a valid connection id.
    Malformed(Reason, Option<(ConnectionId, &'static str)>),
    TooLong,
}

pub(crate) struct Clients {
    clients: Vec<Client>,
    transactions: u32,
    response_peers_max: usize,
}

struct Client {
    addr: SocketAddr,
    /// The newest connection id that it has got, unless it has been told to get another.
    id: Option<ConnectionId>,
    old_ids: Vec<ConnectionId>,
}

impl Clients {
    pub(crate) fn new(config: &Config) -> Self {
        let v4 = (1..=6).map(|host| Ipv4Addr::new(10, 0, 0, host));
        let mapped = (1..=2).map(|host| Ipv4Addr::new(10, 0, 0, host).to_ipv6_mapped());
        // The last two are in one network of 64 bits, as far apart as can be.
        let v6 = [(1, 1), (2, 1), (3, 1), (3, u64::MAX)].map(|(network, host)| {
            Ipv6Addr::from((0x2a00_0001_0002_0000_u128 | network) << 64 | u128::from(host))
        });
        let ips = v4.map(IpAddr::V4).chain(mapped.chain(v6).map(IpAddr::V6));
        let addrs = ips.flat_map(|ip| [4_001, 4_002].map(|port| SocketAddr::new(ip, port)));
        Self {
            clients: addrs
                .map(|addr| Client {
                    addr,
                    id: None,
                    old_ids: Vec::new(),
                })
                .collect(),
            transactions: 0,
            response_peers_max: config.protocol.max_response_peers,
        }
    }

    /// A client has got a connection id.
    pub(crate) fn connected(&mut self, addr: SocketAddr, id: ConnectionId) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.addr == addr) {
            client.old_ids.extend(client.id.replace(id));
        }
    }

    /// A client has been told that its connection id is no good.
    pub(crate) fn disconnected(&mut self, addr: SocketAddr) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.addr == addr) {
            client.old_ids.extend(client.id.take());
        }
    }

    /// A client sends anything.
    pub(crate) fn send(&mut self, rng: &mut Rng) -> Datagram {
        let client = rng.usize(..self.clients.len());
        let addr = self.clients[client].addr;
        let likely_connects = if self.clients[client].id.is_none() {
            70
        } else {
            3
        };
        if rng.u8(..100) < likely_connects {
            return self.connect(rng, addr);
        }
        match rng.u8(..100) {
            0..2 => self.connect_from_port_zero(rng, addr),
            2..72 => self.announce(rng, client),
            72..90 => self.scrape(rng, client),
            _ => self.malformed(rng, client),
        }
    }

    pub(crate) fn connect(&mut self, rng: &mut Rng, addr: SocketAddr) -> Datagram {
        let transaction_id = self.next_transaction();
        let request = Request::Connect(ConnectRequest { transaction_id });
        datagram(
            rng,
            addr,
            transaction_id,
            bytes_of(&request),
            Meaning::Connect,
        )
    }

    /// An announce that takes a peer out of a swarm, from where the peer is.
    pub(crate) fn stop(
        &mut self,
        rng: &mut Rng,
        id: ConnectionId,
        torrent: Torrent,
        peer: SocketAddr,
    ) -> Datagram {
        let addr = SocketAddr::new(peer.ip(), 4_001);
        let (event, port) = (AnnounceEvent::Stopped, peer.port());
        self.announce_with(
            rng,
            addr,
            id,
            AnnounceParts {
                port,
                event,
                ..parts(torrent.1)
            },
        )
    }

    fn announce(&mut self, rng: &mut Rng, client: usize) -> Datagram {
        let id = self.pick_id(rng, client);
        let wanted = [-1, i32::MIN, 0, 1, 3, 50, 50, 1_000, i32::MAX];
        let event = match rng.u8(..20) {
            0..8 => AnnounceEvent::None,
            8..14 => AnnounceEvent::Started,
            14..17 => AnnounceEvent::Completed,
            _ => AnnounceEvent::Stopped,
        };
        let parts = AnnounceParts {
            port: rng.u16(6_881..6_881 + PORTS),
            event,
            left: [0, 1, u64::MAX][rng.usize(..3)],
            client: rng.usize(..CLIENTS.len()),
            wanted: wanted[rng.usize(..wanted.len())],
            url: Url::any(rng),
            ..parts(torrent(rng))
        };
        self.announce_with(rng, self.clients[client].addr, id, parts)
    }

    fn announce_with(
        &mut self,
        rng: &mut Rng,
        addr: SocketAddr,
        id: ConnectionId,
        parts: AnnounceParts,
    ) -> Datagram {
        let transaction_id = self.next_transaction();
        let AnnounceParts {
            info_hash,
            port,
            event,
            left,
            client,
            wanted,
            url,
        } = parts;
        let mut peer_id = [0; 20];
        rng.fill(&mut peer_id);
        peer_id[..8].copy_from_slice(CLIENTS[client]);
        let mut options = Vec::new();
        if let Some(url) = url.text() {
            write_url_data(url.as_bytes(), &mut options);
        }
        let request = Request::Announce(AnnounceRequest {
            connection_id: id,
            transaction_id,
            info_hash,
            peer_id: PeerId(peer_id),
            bytes_downloaded: rng.u64(..),
            bytes_left: left,
            bytes_uploaded: rng.u64(..),
            event,
            key: [1, 2, 3, 4],
            num_want: wanted,
            port,
            options: &options,
        });
        let from = CanonicalAddr::new(addr);
        let meaning = Announce {
            torrent: (from.family(), info_hash),
            peer: SocketAddr::new(from.ip(), port),
            status: PeerStatus::new(event, left),
            completed: event == AnnounceEvent::Completed,
            client,
            num_want: usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(self.response_peers_max),
        };
        let meaning = Meaning::Announce(id, meaning, url);
        datagram(rng, addr, transaction_id, bytes_of(&request), meaning)
    }

    fn scrape(&mut self, rng: &mut Rng, client: usize) -> Datagram {
        let id = self.pick_id(rng, client);
        let transaction_id = self.next_transaction();
        let info_hashes: Vec<_> = (0..rng.usize(1..20)).map(|_| torrent(rng)).collect();
        let request = Request::Scrape(ScrapeRequest {
            connection_id: id,
            transaction_id,
            info_hashes: info_hashes.as_slice().into(),
        });
        let mut bytes = bytes_of(&request);
        if rng.u8(..4) == 0 {
            bytes.extend_from_slice(b"part of a hash");
        }
        let meaning = Meaning::Scrape(id, info_hashes);
        datagram(
            rng,
            self.clients[client].addr,
            transaction_id,
            bytes,
            meaning,
        )
    }

    fn connect_from_port_zero(&mut self, rng: &mut Rng, addr: SocketAddr) -> Datagram {
        self.connect(rng, SocketAddr::new(addr.ip(), 0))
    }

    fn malformed(&mut self, rng: &mut Rng, client: usize) -> Datagram {
        let mut datagram = self.announce(rng, client);
        let bytes = &mut datagram.bytes;
        let Meaning::Announce(id, ..) = datagram.meaning else {
            return datagram;
        };
        datagram.meaning = match rng.u8(..7) {
            0 => {
                bytes.truncate(rng.usize(..98));
                Meaning::Malformed(Reason::TooShort, None)
            }
            1 => {
                // No action has this many: 4 and up.
                bytes[8..12].copy_from_slice(&rng.u32(4..).to_be_bytes());
                Meaning::Malformed(Reason::UnknownAction, None)
            }
            2 => {
                bytes[8..12].fill(0);
                let not_magic = rng.u64(1_000..).to_be_bytes();
                assert_ne!(not_magic, PROTOCOL_ID);
                bytes[..8].copy_from_slice(&not_magic);
                Meaning::Malformed(Reason::NotConnect, None)
            }
            3 => {
                bytes[96..98].fill(0);
                Meaning::Malformed(Reason::PortZero, Some((id, "port is 0")))
            }
            4 => {
                bytes[11] = 2;
                bytes.truncate(rng.usize(16..36));
                let told = "scrape without an info hash";
                Meaning::Malformed(Reason::NoInfoHash, Some((id, told)))
            }
            5 => {
                bytes.resize(DATAGRAM_BYTES_MAX, 0);
                Meaning::TooLong
            }
            _ => {
                bytes.clear();
                bytes.extend((0..rng.usize(..16)).map(|_| rng.u8(..)));
                Meaning::Malformed(Reason::TooShort, None)
            }
        };
        datagram
    }

    /// Mostly the newest id of a client, but also old, foreign and invented ones.
    fn pick_id(&self, rng: &mut Rng, client: usize) -> ConnectionId {
        let client = match rng.u8(..20) {
            0 => rng.usize(..self.clients.len()),
            _ => client,
        };
        let Client { id, old_ids, .. } = &self.clients[client];
        let Some(newest) = id else {
            return ConnectionId(rng.u64(..).to_be_bytes());
        };
        match rng.u8(..20) {
            0 if !old_ids.is_empty() => old_ids[rng.usize(..old_ids.len())],
            1 => {
                let mut forged = *newest;
                forged.0[rng.usize(..8)] ^= 1 << rng.u8(..8);
                forged
            }
            _ => *newest,
        }
    }

    fn next_transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId(self.transactions.to_be_bytes())
    }
}

struct AnnounceParts {
    info_hash: InfoHash,
    port: u16,
    event: AnnounceEvent,
    left: u64,
    client: usize,
    wanted: i32,
    url: Url,
}

fn parts(info_hash: InfoHash) -> AnnounceParts {
    AnnounceParts {
        info_hash,
        port: 6_881,
        event: AnnounceEvent::None,
        left: 0,
        client: 0,
        wanted: 0,
        url: Url::Free,
    }
}

fn datagram(
    rng: &mut Rng,
    addr: SocketAddr,
    transaction_id: TransactionId,
    bytes: Vec<u8>,
    meaning: Meaning,
) -> Datagram {
    let ip: IpAddr = match (addr.is_ipv4(), rng.bool()) {
        (true, false) => [192, 0, 2, 1].into(),
        (true, true) => [192, 0, 2, 2].into(),
        (false, false) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        (false, true) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into(),
    };
    let local = (rng.u8(..4) > 0).then_some(LocalAddr { ip, interface: 0 });
    let path = ReturnPath::to(addr).from_local(local);
    Datagram {
        socket: usize::from(addr.is_ipv6()),
        path,
        bytes,
        transaction_id,
        meaning,
    }
}

fn bytes_of(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    bytes
}

/// Any torrent, but half of the time the most popular one.
fn torrent(rng: &mut Rng) -> InfoHash {
    info_hash(if rng.bool() { 0 } else { rng.u8(..TORRENTS) })
}

/// A torrent's name.
fn info_hash(number: u8) -> InfoHash {
    let mut name = *b"the torrent number .";
    name[19] = number;
    InfoHash(name)
}

/// Some torrents for an access list.
pub(crate) fn some_torrents(rng: &mut Rng) -> HashSet<InfoHash> {
    (0..TORRENTS)
        .filter(|_| rng.bool())
        .map(info_hash)
        .collect()
}
