//! The life of a UDP tracker: what clients, the network and the clock may do to it.

use std::net::SocketAddr;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::{CanonicalAddr, IpFamily};
use aquatic_udp::Now;
use aquatic_udp::config::Config;
use aquatic_udp::workers::{Dependencies, Workers, build_workers};
use aquatic_udp_protocol::Response;
use aquatic_udp_socket::{ReturnPath, SendReport};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

use crate::entropy;

/// Bytes of the largest answer that is never fragmented on its way.
const ANSWER_BYTES_MAX: usize = 1_400;

/// What may happen next. Small numbers choose among what there is.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A client sends bytes.
    Send(Client, Vec<u8>),
    /// A client asks for a connection id.
    Connect(Client),
    /// A client announces, with the last connection id that it was given.
    Announce(Client, Announce),
    /// A client scrapes these torrents.
    Scrape(Client, Vec<u8>),
    /// A worker finishes its batch, and sends.
    Finish(u8),
    /// Time passes.
    Pass {
        /// Milliseconds.
        millis: u32,
    },
}

/// Who sends something.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Client {
    host: u8,
    is_v6: bool,
    port: u8,
}

/// An announce, but for the ids of the client.
#[derive(Arbitrary, Debug)]
pub struct Announce {
    torrent: u8,
    left: u8,
    event: u8,
    wanted: i32,
    port: u16,
    /// What follows the fixed part.
    options: Vec<u8>,
}

/// A UDP tracker with two socket workers.
pub struct Tracker {
    workers: Workers,
    micros: u64,
    /// The last connection id that was given to anyone, and to whom.
    connection_ids: Vec<(SocketAddr, [u8; 8])>,
}

impl Default for Tracker {
    fn default() -> Self {
        let config = Config {
            socket_workers: 2,
            ..Config::default()
        };
        let torrent = aquatic_types::InfoHash([3; 20]);
        let denied = [torrent].into_iter().collect();
        let dependencies = Dependencies {
            access_list: SharedAccessList::new(AccessListMode::Deny, denied),
            wakers: (0..2).map(|_| waker_pair(|| ()).1).collect(),
            persistence: Persistence::default(),
            sockets: IpFamily::ALL.len(),
            connection_secret: None,
            unix_micros: 1_800_000_000_000_000,
        };
        let workers = build_workers(&config, dependencies, &mut entropy());
        Self {
            workers: workers.expect("this entropy never fails"),
            micros: 0,
            connection_ids: Vec::new(),
        }
    }
}

impl Tracker {
    /// Lives through all steps, and until everything is answered.
    pub fn live(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
        self.micros += 24 * 3_600 * 1_000_000;
        for round in 0.. {
            let now = Now::from_micros(self.micros);
            let mut is_busy = false;
            for worker in 0..self.workers.socket_workers.len() {
                self.finish(worker);
                let worker = &mut self.workers.socket_workers[worker];
                is_busy |= worker.maintain(now) || worker.has_pending();
            }
            if !is_busy {
                break;
            }
            assert!(round < 10_000, "there is no end to it");
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(client, bytes) => self.receive(client, &bytes),
            Step::Connect(client) => {
                let mut bytes = 0x417_2710_1980_u64.to_be_bytes().to_vec();
                bytes.extend([0, 0, 0, 0, 1, 2, 3, client.host]);
                self.receive(client, &bytes);
            }
            Step::Announce(client, announce) => {
                let mut bytes = self.request(client, 1);
                bytes.extend([announce.torrent % 8; 20]);
                bytes.extend([b'p', client.host, 0, client.port].repeat(5));
                bytes.extend([0; 8]);
                bytes.extend([0, 0, 0, 0, 0, 0, 0, announce.left]);
                bytes.extend([0; 8]);
                bytes.extend([0, 0, 0, announce.event % 5]);
                bytes.extend([0; 8]);
                bytes.extend(announce.wanted.to_be_bytes());
                bytes.extend(announce.port.to_be_bytes());
                bytes.extend(announce.options);
                self.receive(client, &bytes);
            }
            Step::Scrape(client, torrents) => {
                let mut bytes = self.request(client, 2);
                for torrent in torrents {
                    bytes.extend([torrent % 8; 20]);
                }
                self.receive(client, &bytes);
            }
            Step::Finish(worker) => {
                self.finish(usize::from(worker) % self.workers.socket_workers.len());
            }
            Step::Pass { millis } => {
                self.micros += u64::from(millis) * 1_000;
                let now = Now::from_micros(self.micros);
                for worker in &mut self.workers.socket_workers {
                    worker.maintain(now);
                }
            }
        }
    }

    /// The first 16 bytes of a request.
    fn request(&self, client: Client, action: u8) -> Vec<u8> {
        let address = client.address();
        let mut ids = self.connection_ids.iter();
        let known = ids.rfind(|(known, _)| known.ip() == address.ip());
        let mut bytes = known.map_or([0; 8], |(_, id)| *id).to_vec();
        bytes.extend([0, 0, 0, action, 9, 9, 9, client.port]);
        bytes
    }

    fn receive(&mut self, client: Client, bytes: &[u8]) {
        let now = Now::from_micros(self.micros);
        let worker = usize::from(client.host) % self.workers.socket_workers.len();
        let path = ReturnPath::to(client.address());
        let worker = &mut self.workers.socket_workers[worker];
        let before: usize = worker.outboxes().iter().map(|outbox| outbox.len()).sum();
        worker.receive(now, u8::from(client.is_v6), path, bytes);
        // Before the batch is over only those are answered who need not own their address.
        for outbox in worker.outboxes().iter() {
            for (_, answer) in outbox.iter().skip(before) {
                let is_amplified = answer.len() > bytes.len();
                let is_error = answer.starts_with(&[0, 0, 0, 3]);
                let is_known = !self.connection_ids.is_empty();
                assert!(!is_amplified || is_error && is_known, "amplification");
            }
        }
    }

    fn finish(&mut self, worker: usize) {
        let now = Now::from_micros(self.micros);
        let worker = &mut self.workers.socket_workers[worker];
        worker.finish(now);
        for (socket, family) in IpFamily::ALL.into_iter().enumerate() {
            let outbox = &mut worker.outboxes()[socket];
            let mut report = SendReport::default();
            for (path, bytes) in outbox.iter() {
                assert!(bytes.len() <= ANSWER_BYTES_MAX, "{} bytes", bytes.len());
                let peer = CanonicalAddr::new(path.peer());
                let answer = Response::parse(bytes, peer.family()).expect("an answer");
                if let Response::Connect(connect) = answer {
                    let id = connect.connection_id.0;
                    self.connection_ids.push((path.peer(), id));
                }
                report.sent += 1;
                report.sent_bytes += bytes.len();
            }
            outbox.remove_front(report.sent);
            worker.account(family, socket, &report, 0);
        }
    }
}

impl Client {
    fn address(self) -> SocketAddr {
        let port = 1_000 * u16::from(self.port % 8);
        match self.is_v6 {
            false => ([192, 0, 2, self.host % 4], port).into(),
            true => (
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(self.host % 4)],
                port,
            )
                .into(),
        }
    }
}
