//! A hub with a loop that moves bytes between vectors.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_stream::{
    Admission, Bounds, ConnectionId, Hub, HubOptions, Refused, Settled, StreamCounters,
};

use crate::lines::Lines;

pub(crate) const BOUNDS: Bounds = Bounds {
    handshake_seconds: 10,
    request_seconds: 20,
    idle_seconds: 60,
    input_bytes_max: 1_000,
    output_bytes_max: 40_000,
};

pub(crate) const PEER: &str = "192.0.2.1:50000";
const LOCAL: &str = "0.0.0.0:3000";

pub(crate) struct World {
    pub(crate) hub: Hub<Lines>,
    pub(crate) now: Now,
    pub(crate) counters: Arc<StreamCounters>,
    /// What has become of each connection, by the order of their acceptance.
    pub(crate) wires: Vec<Wire>,
}

/// The network's side of a connection.
pub(crate) struct Wire {
    pub(crate) id: ConnectionId,
    /// What has been sent.
    pub(crate) sent: Vec<u8>,
    /// Bytes that the client's side takes before it is full.
    pub(crate) room: usize,
    pub(crate) state: Settled,
    /// Bytes that have come and have not been read.
    pub(crate) rest: Vec<u8>,
    /// The socket holds more than has been read.
    pub(crate) has_unread: bool,
}

pub(crate) fn options() -> HubOptions {
    HubOptions {
        bounds: BOUNDS,
        memory_max: usize::MAX,
        admission: Arc::new(Admission::new(0, 0)),
        proxies: None,
        tls: None,
        counters: Arc::default(),
    }
}

impl World {
    pub(crate) fn new(options: HubOptions) -> Self {
        Self {
            counters: Arc::clone(&options.counters),
            hub: Hub::new(Lines::default(), options),
            now: Now::from_micros(1_000_000),
            wires: Vec::new(),
        }
    }

    pub(crate) fn plain() -> Self {
        Self::new(options())
    }

    /// Connects from `peer`. Returns the number of the wire.
    pub(crate) fn connect_from(&mut self, peer: &str) -> Result<usize, Refused> {
        let local = LOCAL.parse().unwrap();
        let id = self.hub.accept(self.now, peer.parse().unwrap(), local)?;
        self.wires.push(Wire {
            id,
            sent: Vec::new(),
            room: usize::MAX,
            state: Settled::Read,
            rest: Vec::new(),
            has_unread: false,
        });
        Ok(self.wires.len() - 1)
    }

    pub(crate) fn connect(&mut self) -> usize {
        self.connect_from(PEER).unwrap()
    }

    /// Bytes come, and the batch ends.
    pub(crate) fn receive(&mut self, wire: usize, bytes: &[u8]) {
        self.hub
            .receive(self.now, self.wires[wire].id, &mut bytes.to_vec());
        self.check_account();
        self.finish();
    }

    pub(crate) fn end_input(&mut self, wire: usize) {
        self.hub.read_ended(self.now, self.wires[wire].id);
        self.finish();
    }

    /// Lets whole seconds go by.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = Now::from_micros(self.now.micros + 1_000_000);
            self.finish();
        }
    }

    /// The rest of a loop's round.
    pub(crate) fn finish(&mut self) {
        loop {
            self.hub.finish(self.now);
            let has_more = self.hub.background(self.now);
            while let Some(id) = self.hub.next_dirty() {
                self.look_after(id);
            }
            if !has_more {
                break;
            }
        }
        self.check_account();
    }

    /// What connections hold is known at each moment.
    pub(crate) fn check_account(&self) {
        assert_eq!(self.hub.held_bytes(), self.hub.count_held_bytes());
    }

    /// The client reads `bytes`, which makes room for as many.
    pub(crate) fn make_room(&mut self, wire: usize, bytes: usize) {
        self.wires[wire].room = self.wires[wire].room.saturating_add(bytes);
        let id = self.wires[wire].id;
        self.look_after(id);
        self.finish();
    }

    fn look_after(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.id == id) else {
            panic!("a connection that was never accepted is dirty");
        };
        let output = self.hub.output(id);
        if !output.is_empty() {
            let bytes = output.len().min(wire.room);
            wire.sent.extend_from_slice(&output[..bytes]);
            wire.room -= bytes;
            self.hub.sent(now, id, bytes);
        }
        let mut settled = self.hub.settle(now, id, wire.has_unread);
        if settled == Settled::ReadRest {
            let mut rest = std::mem::take(&mut wire.rest);
            self.hub.receive(now, id, &mut rest);
            settled = self.hub.settle(now, id, wire.has_unread);
        }
        wire.state = settled;
    }

    pub(crate) fn sent(&self, wire: usize) -> String {
        String::from_utf8_lossy(&self.wires[wire].sent).into_owned()
    }

    pub(crate) fn state(&self, wire: usize) -> Settled {
        self.wires[wire].state
    }
}
