//! A tracker without sockets, and clients whose every byte a test moves.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::Now;
use aquatic_stream::{ConnectionKey, IoAction};
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::IpFamily;
use aquatic_ws::config::Config;
use aquatic_ws::counters::{Reason, WebTorrent};
use aquatic_ws::frames::HEADER_BYTES_MAX;
use aquatic_ws::workers::build_workers;
use serde_json::{Value, json};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Everything that takes part.
pub(crate) struct Town {
    pub(crate) tracker: Simulation<WebTorrent>,
    pub(crate) now: Now,
    clients: Vec<Client>,
}

/// A client, by its place in the [`Town`].
pub(crate) type Name = usize;

struct Client {
    worker: usize,
    id: ConnectionKey,
    is_open: bool,
    /// Output is taken off its connection.
    reads: bool,
    received: Vec<u8>,
}

impl Town {
    pub(crate) fn new(config: &Config) -> Self {
        Self::with_memory(config, usize::MAX)
    }

    /// The connections of each worker may hold so many bytes.
    pub(crate) fn with_memory(config: &Config, memory_max: usize) -> Self {
        let workers = config.topology().workers();
        let wakers: Vec<_> = (0..workers).map(|_| waker_pair(|| ()).1).collect();
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let entropy = &mut fastrand::Rng::with_seed(1);
        let limits =
            ClientLimits::from_config(&config.limits.connections.tracker, entropy).unwrap();
        let workers = build_workers(
            config,
            &access_list,
            None,
            &wakers,
            limits,
            Persistence::default(),
            entropy,
        )
        .unwrap();
        Self {
            tracker: Simulation::with_memory(workers, config.bounds(), memory_max),
            now: Now::from_micros(1_000_000),
            clients: Vec::new(),
        }
    }

    /// Somebody opens a WebSocket at a worker.
    pub(crate) fn come(&mut self, worker: usize) -> Name {
        self.come_from(worker, [192, 0, 2, 1].into())
    }

    /// Somebody with this address opens a WebSocket at a worker.
    pub(crate) fn come_from(&mut self, worker: usize, ip: IpAddr) -> Name {
        let name = self.clients.len();
        let port = u16::try_from(name + 1).unwrap();
        let address = SocketAddr::new(ip, port);
        let id = self.tracker.accept(worker, self.now, address).unwrap();
        self.clients.push(Client {
            worker,
            id,
            is_open: true,
            reads: true,
            received: Vec::new(),
        });
        self.send_bytes(name, UPGRADE);
        self.finish();
        let head = std::mem::take(&mut self.clients[name].received);
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        name
    }

    /// A client goes without a word.
    pub(crate) fn vanish(&mut self, name: Name) {
        let Client { worker, id, .. } = self.clients[name];
        self.tracker.hubs[worker].failed(self.now, id);
        self.look_after(name);
    }

    pub(crate) fn stop_reading(&mut self, name: Name) {
        self.clients[name].reads = false;
    }

    pub(crate) fn go_on_reading(&mut self, name: Name) {
        self.clients[name].reads = true;
        self.look_after(name);
    }

    pub(crate) fn is_open(&self, name: Name) -> bool {
        self.clients[name].is_open
    }

    pub(crate) fn send_bytes(&mut self, name: Name, bytes: &[u8]) {
        let Client { worker, id, .. } = self.clients[name];
        let hub = &mut self.tracker.hubs[worker];
        hub.receive(self.now, id, &mut bytes.to_vec());
    }

    /// A message comes to its worker, which has not ended the round.
    pub(crate) fn send(&mut self, name: Name, message: &Value) {
        self.send_bytes(name, &frame(message.to_string().as_bytes()));
    }

    /// Bytes that come in one piece.
    pub(crate) fn send_together(&mut self, name: Name, messages: &[&str]) {
        let frames = messages.iter().flat_map(|it| frame(it.as_bytes()));
        self.send_bytes(name, &frames.collect::<Vec<_>>());
    }

    /// Every socket worker ends a round, and those who read get what there is for them.
    pub(crate) fn finish(&mut self) {
        for hub in &mut self.tracker.hubs {
            hub.finish(self.now);
        }
        self.tracker.check_account();
        for name in 0..self.clients.len() {
            self.look_after(name);
        }
    }

    /// Time passes, and what is due happens.
    pub(crate) fn pass_time(&mut self, micros: u64) {
        self.now = Now::from_micros(self.now.micros + micros);
        for worker in 0..self.tracker.counters.len() {
            // What is left over from a round is no more than that: it waits for the next one.
            let mut slices = 0..1_000;
            while self.tracker.maintain(worker, self.now) && slices.next().is_some() {}
        }
        self.finish();
    }

    /// All workers work until nothing is left to do.
    pub(crate) fn rest(&mut self) {
        loop {
            self.finish();
            for worker in 0..self.tracker.swarm_workers.len() {
                self.tracker.answer(worker, self.now);
            }
            if !self.tracker.has_pending() {
                return;
            }
        }
    }

    fn look_after(&mut self, name: Name) {
        let client = &mut self.clients[name];
        if !client.is_open {
            return;
        }
        let bytes_max = if client.reads { usize::MAX } else { 0 };
        let Client { worker, id, .. } = *client;
        let (bytes, settled) = self.tracker.look_after(worker, self.now, id, bytes_max);
        client.received.extend(bytes);
        client.is_open = matches!(settled, IoAction::Read | IoAction::DoNotRead);
        if settled == IoAction::CloseSendingHalf {
            // The client does the same.
            let hub = &mut self.tracker.hubs[worker];
            hub.read_ended(self.now, id);
            assert_eq!(hub.next_action(self.now, id, false), IoAction::Close);
        }
    }

    /// The messages that a client has read since the last time.
    pub(crate) fn received(&mut self, name: Name) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.clients[name].received);
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while let [first, short, after @ ..] = rest {
            let (size, after) = match (short, after) {
                (126, [a, b, after @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), after),
                (127, [0, 0, 0, 0, a, b, c, d, after @ ..]) => {
                    let size = u32::from_be_bytes([*a, *b, *c, *d]);
                    (usize::try_from(size).unwrap(), after)
                }
                _ => (usize::from(*short), after),
            };
            let (payload, after) = after.split_at(size);
            if first & 0x0f == 1 {
                messages.push(serde_json::from_slice(payload).unwrap());
            }
            rest = after;
        }
        messages
    }

    /// Asks, and lets everybody work until nothing is left to do: what has come of it.
    pub(crate) fn ask(&mut self, name: Name, message: &Value) -> Vec<Value> {
        self.send(name, message);
        self.rest();
        self.received(name)
    }

    /// How much was refused or dropped for a reason.
    pub(crate) fn count(&self, reason: Reason) -> u64 {
        let workers = self.tracker.counters.iter();
        let traffic = workers.map(|it| it.traffic(IpFamily::V4));
        traffic.map(|it| it.reason(reason).get()).sum()
    }
}

/// A text frame of a client.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    bytes.push(0x81);
    match u16::try_from(payload.len()) {
        Ok(size @ 0..126) => bytes.push(0x80 | u8::try_from(size).unwrap()),
        Ok(size) => {
            bytes.push(0x80 | 126);
            bytes.extend(size.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Twenty characters.
pub(crate) fn name_of(number: usize) -> String {
    format!("{number:020}")
}

pub(crate) fn announce(name: Name, torrent: usize) -> Value {
    json!({
        "action": "announce",
        "info_hash": name_of(torrent),
        "peer_id": name_of(name),
        "left": 1,
    })
}

/// An announce with one offer, whose JSON is as long as that.
pub(crate) fn announce_with_offer(name: Name, torrent: usize, offer_bytes: usize) -> Value {
    let mut message = announce(name, torrent);
    let offer = "x".repeat(offer_bytes - 2);
    message["offers"] = json!([{"offer_id": name_of(name), "offer": offer}]);
    message
}

/// An announce with offers of these numbers, which are their names.
pub(crate) fn announce_with_offers(name: Name, torrent: usize, numbers: Range<usize>) -> Value {
    let mut message = announce(name, torrent);
    let offer = |number| json!({"offer_id": name_of(number), "offer": "x"});
    message["offers"] = numbers.map(offer).collect();
    message
}

/// The answer to an offer that has come.
pub(crate) fn answer_to(offer: &Value, name: Name, answer_bytes: usize) -> Value {
    json!({
        "action": "announce",
        "info_hash": offer["info_hash"],
        "peer_id": name_of(name),
        "to_peer_id": offer["peer_id"],
        "offer_id": offer["offer_id"],
        "answer": "y".repeat(answer_bytes - 2),
    })
}
