//! What is tested: the WebTorrent tracker, on the matrix of runtimes, topologies and transports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};

use aquatic_test_support::cases::{self, Case, Tracker};
use aquatic_test_support::connection::Transport;
use aquatic_test_support::{Client, Program};
use aquatic_types::{InfoHash, IpFamily};
use serde_json::json;

use super::client::{Peer, Socket, binary, failure};
use super::configuration::{KEYS, MISTAKES, OLD_FILE};

pub(crate) static WS: Program = Program {
    name: "aquatic_ws",
    about: "WebTorrent tracker over WebSocket",
    version: env!("CARGO_PKG_VERSION"),
    binary: env!("CARGO_BIN_EXE_aquatic_ws"),
    runtime_key: "network.runtime",
    runtimes,
    shares_swarms: true,
    has_tls: true,
    metrics_section: "metrics",
    metrics_settings: "metrics.interval = 1\n",
    more_threads: &["export"],
    more_threads_settings: "scrape_exports.enable_scrape_exports = true\n\
                            scrape_exports.path = 'export'\n",
    modest_settings: "",
    keys: &KEYS,
    mistakes: &MISTAKES,
    old_file: OLD_FILE,
    client: |ip, tracker| Box::new(Peers::new(ip, tracker)),
    serves: |address: SocketAddr| TcpStream::connect(address).is_ok(),
};

/// A client with one socket for each port: whoever has no port of their own has a socket.
struct Peers {
    ip: IpAddr,
    tracker: SocketAddr,
    by_port: BTreeMap<u16, Peer>,
}

impl Peers {
    fn new(ip: IpAddr, tracker: SocketAddr) -> Self {
        let mut peers = Self {
            ip,
            tracker,
            by_port: BTreeMap::new(),
        };
        // Scrapes come by this one, and connections are kept.
        peers.peer(0);
        peers
    }

    fn peer(&mut self, port: u16) -> &mut Peer {
        let (ip, tracker) = (self.ip, self.tracker);
        self.by_port.entry(port).or_insert_with(|| {
            let socket = Socket::open(ip, tracker, Transport::Plain);
            Peer::new(socket)
        })
    }
}

impl Client for Peers {
    fn join(&mut self, info_hash: InfoHash, port: u16) -> Result<u32, String> {
        let peer = self.peer(port);
        let answer = peer.ask(&peer.announce(info_hash, 1));
        match failure(&answer) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(u32::try_from(answer["incomplete"].as_u64().unwrap()).unwrap()),
        }
    }

    fn leave(&mut self, info_hash: InfoHash, port: u16) {
        let peer = self.peer(port);
        let mut announce = peer.announce(info_hash, 1);
        announce["event"] = json!("stopped");
        peer.ask(&announce);
    }

    fn leechers(&mut self, info_hashes: &[InfoHash]) -> Vec<u32> {
        let answer = self.peer(0).socket.scrape(info_hashes);
        let leechers = |hash: &InfoHash| {
            let file = &answer["files"][binary(&hash.0)];
            u32::try_from(file["incomplete"].as_u64().unwrap()).unwrap()
        };
        info_hashes.iter().map(leechers).collect()
    }
}

/// [`cases::on_every_case`], for this program.
pub(crate) fn on_every_case(scenario: impl Fn(Case) + Sync) {
    cases::on_every_case(&WS, scenario);
}

/// [`cases::on_every_runtime`], for this program.
pub(crate) fn on_every_runtime(scenario: impl Fn(Case) + Sync) {
    cases::on_every_runtime(&WS, scenario);
}

/// [`cases::on_every_case_and_family`], for this program.
pub(crate) fn on_every_case_and_family(
    settings: &str,
    scenario: impl Fn(&Tracker, IpFamily) + Sync,
) {
    cases::on_every_case_and_family(&WS, settings, scenario);
}

/// Values of `network.runtime` that this machine, and this build, can do.
pub(crate) fn runtimes() -> Vec<&'static str> {
    cases::runtimes(cfg!(feature = "glommio"))
}
