//! A BitTorrent client as the tracker sees it: a socket, a connection id, requests and answers.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use aquatic_daemon::clock::Clock;
use aquatic_test_support::Daemon;
use aquatic_test_support::program::localhost;
use aquatic_test_support::wait::DEADLINE;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, PROTOCOL_ID, Request, Response,
    ScrapeRequest, ScrapeRow, TransactionId,
};

/// Where the event is in an announce (BEP 15).
pub(crate) const EVENT_PLACE: std::ops::Range<usize> = 80..84;
/// Where the IP address is in an announce (BEP 15).
pub(crate) const IP_PLACE: std::ops::Range<usize> = 84..88;

/// What a client learns from an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) interval_seconds: u32,
    pub(crate) seeders: u32,
    pub(crate) leechers: u32,
    /// Ports of the peers, in ascending order; all have the client's own IP address.
    pub(crate) ports: Vec<u16>,
}

/// A row of a scrape.
pub(crate) fn row(seeders: u32, completed: u32, leechers: u32) -> ScrapeRow {
    ScrapeRow {
        seeders,
        completed,
        leechers,
    }
}

/// A socket that talks to one tracker, and what is needed to be understood.
pub(crate) struct Client {
    socket: UdpSocket,
    family: IpFamily,
    connection_id: ConnectionId,
    requests: u32,
}

impl Client {
    /// A client that has connected.
    pub(crate) fn new(daemon: &Daemon, family: IpFamily) -> Self {
        let mut client = Self::stranger(daemon, family);
        client.connect();
        client
    }

    /// A client that has not connected.
    pub(crate) fn stranger(daemon: &Daemon, family: IpFamily) -> Self {
        Self::between(localhost(family), daemon.address(family))
    }

    /// A client at `ip` that asks at `tracker`, has not connected, and hears nobody else.
    pub(crate) fn between(ip: IpAddr, tracker: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(tracker).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let connection_id = ConnectionId([0xee; 8]);
        Self {
            socket,
            family: IpFamily::of(&tracker),
            connection_id,
            requests: 0,
        }
    }

    /// A client at `ip` that has connected to `tracker`.
    pub(crate) fn connected(ip: IpAddr, tracker: SocketAddr) -> Self {
        let mut client = Self::between(ip, tracker);
        client.connect();
        client
    }

    /// As its peers see it.
    pub(crate) fn ip(&self) -> IpAddr {
        self.socket.local_addr().unwrap().ip()
    }

    pub(crate) fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    pub(crate) fn set_connection_id(&mut self, id: ConnectionId) {
        self.connection_id = id;
    }

    /// Gets a connection id.
    pub(crate) fn connect(&mut self) {
        let answer = self.ask(&self.connect_request());
        match self.parse(&answer) {
            Response::Connect(response) => self.connection_id = response.connection_id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn connect_request(&self) -> Vec<u8> {
        let connect = ConnectRequest {
            transaction_id: TransactionId([0; 4]),
        };
        bytes(&Request::Connect(connect))
    }

    /// A peer of the torrent, at a port of its own; a seeder if nothing is `left`. Wants as many
    /// peers as it can get.
    pub(crate) fn peer(
        &self,
        info_hash: InfoHash,
        port: u16,
        left: u64,
    ) -> AnnounceRequest<'static> {
        AnnounceRequest {
            connection_id: self.connection_id,
            transaction_id: TransactionId([0; 4]),
            info_hash,
            peer_id: PeerId(*b"-TR4060-abcdefghijkl"),
            bytes_downloaded: 0,
            bytes_left: left,
            bytes_uploaded: 0,
            event: AnnounceEvent::None,
            key: [0; 4],
            num_want: -1,
            port,
            options: &[],
        }
    }

    /// Announces a peer.
    #[track_caller]
    pub(crate) fn announce(&mut self, request: &AnnounceRequest<'_>) -> Announced {
        self.announce_bytes(&announce_bytes(request))
    }

    /// See [`Self::peer`].
    #[track_caller]
    pub(crate) fn join(&mut self, info_hash: InfoHash, port: u16, left: u64) -> Announced {
        let request = self.peer(info_hash, port, left);
        self.announce(&request)
    }

    /// Sends an announce that has been tampered with.
    #[track_caller]
    pub(crate) fn announce_bytes(&mut self, request: &[u8]) -> Announced {
        let answer = self.ask(request);
        let Response::Announce(response) = self.parse(&answer) else {
            panic!("{:?}", self.parse(&answer));
        };
        let row_bytes = match self.family {
            IpFamily::V4 => 6,
            IpFamily::V6 => 18,
        };
        assert_eq!((answer.len() - 20) % row_bytes, 0, "whole rows of peers");
        let mut ports: Vec<_> = response
            .peers
            .iter()
            .map(|peer| {
                assert_eq!(peer.ip(), self.ip());
                peer.port()
            })
            .collect();
        ports.sort_unstable();
        Announced {
            interval_seconds: response.header.interval_seconds,
            seeders: response.header.seeders,
            leechers: response.header.leechers,
            ports,
        }
    }

    /// Asks for the size of swarms.
    #[track_caller]
    pub(crate) fn scrape(&mut self, info_hashes: &[InfoHash]) -> Vec<ScrapeRow> {
        let answer = self.ask(&self.scrape_request(info_hashes));
        match self.parse(&answer) {
            Response::Scrape(response) => {
                assert_eq!(answer.len(), 8 + 12 * response.rows.len(), "whole rows");
                response.rows.iter().collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn scrape_request(&self, info_hashes: &[InfoHash]) -> Vec<u8> {
        bytes(&Request::Scrape(ScrapeRequest {
            connection_id: self.connection_id,
            transaction_id: TransactionId([0; 4]),
            info_hashes: InfoHashes::from(info_hashes),
        }))
    }

    /// Sends a request that is to be refused: the reason in words.
    #[track_caller]
    pub(crate) fn refusal(&mut self, request: &[u8]) -> String {
        let answer = self.ask(request);
        match self.parse(&answer) {
            Response::Error(error) => String::from_utf8(error.message.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request with a transaction id of its own, and returns the answer, which has the
    /// same.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.requests += 1;
        let transaction_id = self.requests.to_be_bytes();
        let mut request = request.to_vec();
        request[12..16].copy_from_slice(&transaction_id);
        self.send(&request);
        let answer = self.receive();
        assert_eq!(
            answer[4..8],
            transaction_id,
            "of the request that is answered"
        );
        answer
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        assert_eq!(self.socket.send(datagram).unwrap(), datagram.len());
    }

    /// The next datagram that comes from the tracker.
    #[track_caller]
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut bytes = [0; 4096];
        let clock = Clock::start();
        while clock.elapsed() < DEADLINE {
            match self.socket.recv(&mut bytes) {
                Ok(size) => return bytes[..size].to_vec(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("no answer: {error}"),
            }
        }
        panic!("no answer");
    }

    /// Datagrams that have come already.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let mut datagrams = Vec::new();
        while let Ok(size) = self.socket.recv(&mut bytes) {
            datagrams.push(bytes[..size].to_vec());
        }
        self.socket.set_nonblocking(false).unwrap();
        datagrams
    }

    #[track_caller]
    pub(crate) fn parse<'a>(&self, answer: &'a [u8]) -> Response<'a> {
        Response::parse(answer, self.family).unwrap()
    }
}

/// The datagram of an announce.
pub(crate) fn announce_bytes(request: &AnnounceRequest<'_>) -> Vec<u8> {
    bytes(&Request::Announce(request.clone()))
}

fn bytes(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    bytes
}

/// Whether a tracker answers at `address`. The alternative is that the kernel says that no one is
/// there.
pub(crate) fn serves(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind((localhost(IpFamily::of(&address)), 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = PROTOCOL_ID.to_vec();
    request.extend([0; 8]);
    socket.send(&request).unwrap();
    match socket.recv(&mut [0; 16]) {
        Ok(size) => size == 16,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => false,
        Err(error) => panic!("{error}"),
    }
}
