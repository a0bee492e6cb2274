//! A BitTorrent client as the tracker sees it.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use aquatic_test_support::bencode::Value;
use aquatic_test_support::program::localhost;
use aquatic_types::{InfoHash, IpFamily};

use super::connection::{Answer, Connection, Transport};
use super::setup::Tracker;

pub(crate) const SEEDER: u64 = 0;
pub(crate) const LEECHER: u64 = 1;

/// Each byte in hexadecimal, which is always right.
pub(crate) fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02x}").unwrap();
        text
    })
}

/// The target of an announce: of a peer at a port of its own.
pub(crate) fn announce(info_hash: InfoHash, port: u16, left: u64) -> String {
    format!(
        "/announce?info_hash={}&peer_id=-TR4060-abcdefghijkl&port={port}&uploaded=0&downloaded=0\
         &left={left}&compact=1",
        percent(&info_hash.0)
    )
}

/// The target of a scrape.
pub(crate) fn scrape(info_hashes: &[InfoHash]) -> String {
    let hash = |hash: &InfoHash| format!("info_hash={}", percent(&hash.0));
    let hashes: Vec<_> = info_hashes.iter().map(hash).collect();
    format!("/scrape?{}", hashes.join("&"))
}

/// A request of an HTTP/1.1 client that has more to ask.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: tracker\r\nUser-Agent: test\r\n\r\n")
}

/// What a client learns from an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) interval_seconds: i64,
    pub(crate) min_interval_seconds: Option<i64>,
    pub(crate) seeders: i64,
    pub(crate) completed: i64,
    pub(crate) leechers: i64,
    pub(crate) external_ip: Option<IpAddr>,
    /// Those of IPv4 first, otherwise sorted.
    pub(crate) peers: Vec<SocketAddr>,
}

impl Announced {
    /// Reads an answer, in which there must be these keys, the optional ones included that are
    /// there, and no others.
    #[track_caller]
    pub(crate) fn read(value: &Value) -> Self {
        const KEYS: [&str; 8] = [
            "complete",
            "downloaded",
            "external ip",
            "incomplete",
            "interval",
            "min interval",
            "peers",
            "peers6",
        ];
        for key in value.keys() {
            assert!(KEYS.contains(&key.as_str()), "{key} in {value:?}");
        }
        let mut peers = match value.get("peers") {
            Some(Value::Bytes(rows)) => rows_of::<4>(rows),
            Some(Value::List(peers)) => peers.iter().map(listed_peer).collect(),
            _ => panic!("no peers in {value:?}"),
        };
        peers.extend(rows_of::<16>(value.bytes("peers6").unwrap_or_default()));
        peers.sort_unstable();
        Self {
            interval_seconds: value.integer("interval"),
            min_interval_seconds: value
                .get("min interval")
                .map(|_| value.integer("min interval")),
            seeders: value.integer("complete"),
            completed: value.integer("downloaded"),
            leechers: value.integer("incomplete"),
            external_ip: value.bytes("external ip").map(ip),
            peers,
        }
    }

    /// The ports of the peers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.peers.iter().map(SocketAddr::port).collect()
    }
}

fn ip(bytes: &[u8]) -> IpAddr {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.unwrap_or_else(|_| <[u8; 16]>::try_from(bytes).unwrap().into())
}

/// Peers in rows of an IP address and a port.
fn rows_of<const IP_BYTES: usize>(rows: &[u8]) -> Vec<SocketAddr> {
    let rows = rows.chunks(IP_BYTES + 2).map(|row| {
        assert_eq!(row.len(), IP_BYTES + 2, "whole rows");
        let (address, port) = row.split_at(IP_BYTES);
        SocketAddr::new(ip(address), u16::from_be_bytes(port.try_into().unwrap()))
    });
    rows.collect()
}

fn listed_peer(peer: &Value) -> SocketAddr {
    assert_eq!(peer.keys(), ["ip", "port"]);
    let ip = str::from_utf8(peer.bytes("ip").unwrap()).unwrap();
    let port = u16::try_from(peer.integer("port")).unwrap();
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A row of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seeders: i64,
    pub(crate) completed: i64,
    pub(crate) leechers: i64,
}

pub(crate) fn row(seeders: i64, completed: i64, leechers: i64) -> Row {
    Row {
        seeders,
        completed,
        leechers,
    }
}

/// A client with one connection, which stays open.
pub(crate) struct Client {
    pub(crate) connection: Connection,
}

impl Client {
    pub(crate) fn new(tracker: &Tracker, family: IpFamily) -> Self {
        let address = tracker.address(family);
        Self::between(localhost(family), address, tracker.transport)
    }

    /// A client at `ip` that asks at `tracker`.
    pub(crate) fn between(ip: IpAddr, tracker: SocketAddr, transport: Transport) -> Self {
        let connection = Connection::open(ip, tracker, transport);
        Self { connection }
    }

    /// As its peers see it.
    pub(crate) fn ip(&self) -> IpAddr {
        self.connection.local().ip()
    }

    /// Asks and waits for the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.connection.send(get(target));
        let answer = self.connection.answer();
        assert_ne!(answer.header("connection"), Some("close"), "{answer:?}");
        answer
    }

    /// Announces as [`announce`] says, with something added to the target.
    #[track_caller]
    pub(crate) fn announce(
        &mut self,
        (info_hash, port, left): (InfoHash, u16, u64),
        more: &str,
    ) -> Announced {
        let target = announce(info_hash, port, left) + more;
        Announced::read(&self.get(&target).value())
    }

    #[track_caller]
    pub(crate) fn join(&mut self, info_hash: InfoHash, port: u16, left: u64) -> Announced {
        self.announce((info_hash, port, left), "")
    }

    /// Rows in the order of the request.
    #[track_caller]
    pub(crate) fn scrape(&mut self, info_hashes: &[InfoHash]) -> Vec<Row> {
        rows(&self.get(&scrape(info_hashes)).value(), info_hashes)
    }

    /// Asks for something that is to be refused: the reason in words.
    #[track_caller]
    pub(crate) fn refusal(&mut self, target: &str) -> String {
        self.get(target).failure()
    }
}

/// What a scrape says about these torrents, and no others.
#[track_caller]
pub(crate) fn rows(value: &Value, info_hashes: &[InfoHash]) -> Vec<Row> {
    assert_eq!(value.keys(), ["files"]);
    let files = value.get("files").unwrap();
    let mut asked = info_hashes.to_vec();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(files.keys().len(), asked.len(), "{value:?}");
    let row_of = |hash: &InfoHash| {
        let file = files.get(hash.0).unwrap();
        let keys = ["complete", "downloaded", "downloaders", "incomplete"];
        assert_eq!(file.keys(), keys);
        assert_eq!(file.integer("downloaders"), file.integer("incomplete"));
        row(
            file.integer("complete"),
            file.integer("downloaded"),
            file.integer("incomplete"),
        )
    };
    info_hashes.iter().map(row_of).collect()
}
