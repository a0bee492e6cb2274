//! The matrix of combinations, and clients of both protocols.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use aquatic_test_support::bencode::Value;
use aquatic_test_support::program::localhost;
use aquatic_test_support::wait::DEADLINE;
use aquatic_test_support::{Daemon, Place};
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, Request, Response, ScrapeRequest,
    TransactionId, write_url_data,
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_aquatic");

/// How UDP and HTTP do their work. No client should notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Combination {
    pub(crate) backend: &'static str,
    pub(crate) runtime: &'static str,
    pub(crate) udp_workers: usize,
    pub(crate) http_workers: usize,
    pub(crate) swarm_workers: usize,
}

pub(crate) const SIMPLE: Combination = Combination {
    backend: "mio",
    runtime: "mio",
    udp_workers: 1,
    http_workers: 1,
    swarm_workers: 0,
};

impl Combination {
    /// In one thread and in several; as many workers of one protocol as of the other, and more of
    /// either; fused and split.
    pub(crate) fn all() -> Vec<Self> {
        let has_io_uring = aquatic_uring::probe().is_ok();
        let mut all = Vec::new();
        for (backend, runtime) in [
            ("mio", "mio"),
            ("io_uring", "mio"),
            ("mio", "glommio"),
            ("io_uring", "glommio"),
        ] {
            if runtime == "glommio" && !cfg!(feature = "glommio") {
                continue;
            }
            if !has_io_uring && (backend, runtime) != ("mio", "mio") {
                eprintln!("not tested, for want of io_uring: {backend} and {runtime}");
                continue;
            }
            for (udp_workers, http_workers, swarm_workers) in
                [(1, 1, 0), (2, 2, 0), (3, 1, 0), (1, 2, 0), (2, 1, 2)]
            {
                all.push(Self {
                    backend,
                    runtime,
                    udp_workers,
                    http_workers,
                    swarm_workers,
                });
            }
        }
        all
    }

    /// Settings in the file of a place.
    pub(crate) fn settings(&self, place: &Place, more: &str) -> String {
        let address = |family| place.address(family).to_string();
        let addresses = IpFamily::ALL.map(address);
        format!(
            "udp.enabled = true\nudp.socket_workers = {}\nudp.swarm_workers = {}\n\
             udp.network.backend = '{}'\nudp.network.address = {addresses:?}\n\
             http.enabled = true\nhttp.socket_workers = {}\nhttp.network.runtime = '{}'\n\
             http.network.address = {addresses:?}\n{more}\n",
            self.udp_workers, self.swarm_workers, self.backend, self.http_workers, self.runtime,
        )
    }

    pub(crate) fn start(&self, more: &str) -> Daemon {
        self.start_in(Place::new(), more)
    }

    pub(crate) fn start_in(&self, place: Place, more: &str) -> Daemon {
        let settings = self.settings(&place, more);
        start(place, &settings)
    }
}

impl Display for Combination {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            runtime,
            udp_workers,
            http_workers,
            swarm_workers,
        } = self;
        write!(
            f,
            "{backend} {udp_workers}, {runtime} {http_workers}, {swarm_workers}"
        )
    }
}

/// Starts `aquatic serve` with these settings.
pub(crate) fn start(place: Place, settings: &str) -> Daemon {
    place.write("config.toml", settings);
    let mut command = place.command_with(BINARY, &["serve", "-c", "config.toml"]);
    place.start_by(&mut command)
}

/// Settings that make it serve metrics.
pub(crate) fn metrics_settings(place: &Place) -> String {
    format!(
        "metrics.interval = 1\nmetrics.run_prometheus_endpoint = true\n\
         metrics.prometheus_endpoint_address = '{}'\n",
        place.metrics_address()
    )
}

/// WebTorrent at the second port of a place.
pub(crate) fn ws_settings(place: &Place) -> String {
    let address = SocketAddr::new(place.address(IpFamily::V4).ip(), place.second_port());
    format!("ws.enabled = true\nws.network.address = '{address}'\n")
}

/// What a client learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) seeders: u32,
    pub(crate) leechers: u32,
    /// In ascending order. All have the client's own IP address.
    pub(crate) ports: Vec<u16>,
}

/// Somebody who asks at a tracker over one protocol.
pub(crate) trait Client {
    /// Announces a peer of a torrent; a seeder if nothing is `left`.
    fn announce(
        &mut self,
        torrent: InfoHash,
        port: u16,
        left: u64,
        event: AnnounceEvent,
    ) -> Result<Answer, String>;

    /// Seeders, completed downloads, leechers.
    fn scrape(&mut self, torrent: InfoHash) -> [u32; 3];

    fn join(&mut self, torrent: InfoHash, port: u16, left: u64) -> Answer {
        let answer = self.announce(torrent, port, left, AnnounceEvent::None);
        answer.unwrap()
    }
}

/// Over UDP.
pub(crate) struct Udp {
    socket: UdpSocket,
    connection_id: ConnectionId,
    /// The path of the announce URL.
    pub(crate) path: &'static str,
}

impl Udp {
    pub(crate) fn new(daemon: &Daemon, family: IpFamily) -> Self {
        Self::between(localhost(family), daemon, family)
    }

    pub(crate) fn between(ip: IpAddr, daemon: &Daemon, family: IpFamily) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(daemon.address(family)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self {
            socket,
            connection_id: ConnectionId([0; 8]),
            path: "",
        };
        let answer = client.ask(&Request::Connect(ConnectRequest {
            transaction_id: TransactionId([1; 4]),
        }));
        match Response::parse(&answer, IpFamily::V4).unwrap() {
            Response::Connect(response) => client.connection_id = response.connection_id,
            other => panic!("{other:?}"),
        }
        client
    }

    /// Asks for the size of a swarm, and does not listen.
    pub(crate) fn scrape_without_answer(&self, torrent: InfoHash) {
        self.send(&Request::Scrape(ScrapeRequest {
            connection_id: self.connection_id,
            transaction_id: TransactionId([4; 4]),
            info_hashes: InfoHashes::from(&[torrent][..]),
        }));
    }

    fn send(&self, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        self.socket.send(&bytes).unwrap();
    }

    fn ask(&self, request: &Request<'_>) -> Vec<u8> {
        self.send(request);
        let mut answer = vec![0; 2_048];
        let size = self.socket.recv(&mut answer).unwrap();
        answer.truncate(size);
        answer
    }

    fn family(&self) -> IpFamily {
        IpFamily::of(&self.socket.local_addr().unwrap())
    }
}

impl Client for Udp {
    fn announce(
        &mut self,
        torrent: InfoHash,
        port: u16,
        left: u64,
        event: AnnounceEvent,
    ) -> Result<Answer, String> {
        let mut options = Vec::new();
        write_url_data(self.path.as_bytes(), &mut options);
        let answer = self.ask(&Request::Announce(AnnounceRequest {
            connection_id: self.connection_id,
            transaction_id: TransactionId([2; 4]),
            info_hash: torrent,
            peer_id: PeerId(*b"-TR4060-abcdefghijkl"),
            bytes_downloaded: 0,
            bytes_left: left,
            bytes_uploaded: 0,
            event,
            key: [0; 4],
            num_want: -1,
            port,
            options: &options,
        }));
        let ip = self.socket.local_addr().unwrap().ip();
        match Response::parse(&answer, self.family()).unwrap() {
            Response::Announce(response) => {
                let peers = response.peers.iter();
                let mut ports: Vec<_> = peers
                    .map(|peer| {
                        assert_eq!(peer.ip(), ip);
                        peer.port()
                    })
                    .collect();
                ports.sort_unstable();
                Ok(Answer {
                    seeders: response.header.seeders,
                    leechers: response.header.leechers,
                    ports,
                })
            }
            Response::Error(error) => Err(String::from_utf8(error.message.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn scrape(&mut self, torrent: InfoHash) -> [u32; 3] {
        let answer = self.ask(&Request::Scrape(ScrapeRequest {
            connection_id: self.connection_id,
            transaction_id: TransactionId([3; 4]),
            info_hashes: InfoHashes::from(&[torrent][..]),
        }));
        match Response::parse(&answer, self.family()).unwrap() {
            Response::Scrape(response) => {
                let row = response.rows.iter().next().unwrap();
                [row.seeders, row.completed, row.leechers]
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Over HTTP, with a connection for each request, so that all socket workers have their share.
pub(crate) struct Http {
    ip: IpAddr,
    tracker: SocketAddr,
    /// The path of the announce URL.
    pub(crate) path: &'static str,
}

impl Http {
    pub(crate) fn new(daemon: &Daemon, family: IpFamily) -> Self {
        Self {
            ip: localhost(family),
            tracker: daemon.address(family),
            path: "/announce",
        }
    }

    /// The connection may be refused, too.
    pub(crate) fn scrape_if_served(&self, torrent: InfoHash) {
        drop(self.try_get(&format!("/scrape?info_hash={}", escaped(torrent))));
    }

    fn try_get(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.tracker)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.try_get(path).unwrap();
        let body = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        Value::read(&answer[body..]).unwrap()
    }
}

fn escaped(torrent: InfoHash) -> String {
    torrent
        .0
        .iter()
        .map(|byte| format!("%{byte:02x}"))
        .collect()
}

impl Client for Http {
    fn announce(
        &mut self,
        torrent: InfoHash,
        port: u16,
        left: u64,
        event: AnnounceEvent,
    ) -> Result<Answer, String> {
        let event = match event {
            AnnounceEvent::None => "",
            AnnounceEvent::Started => "&event=started",
            AnnounceEvent::Completed => "&event=completed",
            AnnounceEvent::Stopped => "&event=stopped",
        };
        let answer = self.get(&format!(
            "{}?info_hash={}&peer_id=-TR4060-abcdefghijkl&port={port}&uploaded=0\
             &downloaded=0&left={left}&compact=1&numwant=50{event}",
            self.path,
            escaped(torrent)
        ));
        if let Some(reason) = answer.bytes("failure reason") {
            return Err(String::from_utf8(reason.to_vec()).unwrap());
        }
        let (key, size) = match self.ip {
            IpAddr::V4(_) => ("peers", 6),
            IpAddr::V6(_) => ("peers6", 18),
        };
        let rows = answer.bytes(key).unwrap_or_default().chunks(size);
        let mut ports: Vec<_> = rows
            .map(|row| u16::from_be_bytes([row[size - 2], row[size - 1]]))
            .collect();
        ports.sort_unstable();
        let number = |key| u32::try_from(answer.integer(key)).unwrap();
        Ok(Answer {
            seeders: number("complete"),
            leechers: number("incomplete"),
            ports,
        })
    }

    fn scrape(&mut self, torrent: InfoHash) -> [u32; 3] {
        let answer = self.get(&format!("/scrape?info_hash={}", escaped(torrent)));
        let row = answer.get("files").and_then(|files| files.get(torrent.0));
        let number = |key| u32::try_from(row.unwrap().integer(key)).unwrap();
        [
            number("complete"),
            number("downloaded"),
            number("incomplete"),
        ]
    }
}
