//! A hub with a loop that moves bytes between vectors.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_stream::{
    Admission, Bounds, ConnectionKey, Hub, HubOptions, IoAction, KernelBytes, Refused,
    StreamCounters,
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
/// What the kernel keeps at most for one direction of a connection.
pub(crate) const KERNEL: usize = 128 * 1024;

/// What a connection may hold in the middle of a round without being counted.
pub(crate) const LIGHT: usize = 2 * 1024;

/// Over this time connections are closed at a stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

const LOCAL: &str = "0.0.0.0:3000";

pub(crate) struct World {
    pub(crate) hub: Hub<Lines>,
    pub(crate) now: Now,
    pub(crate) counters: Arc<StreamCounters>,
    /// What has become of each connection, by the order of their acceptance.
    pub(crate) wires: Vec<Wire>,
    /// How often the kernel was asked what it keeps.
    pub(crate) asked: usize,
}

/// The network's side of a connection.
pub(crate) struct Wire {
    pub(crate) id: ConnectionKey,
    /// What has been sent.
    pub(crate) sent: Vec<u8>,
    /// Bytes that the client's side takes before it is full.
    pub(crate) room: usize,
    pub(crate) state: IoAction,
    /// Bytes that have come and have not been read.
    pub(crate) rest: Vec<u8>,
    /// The socket holds more than has been read.
    pub(crate) has_unread: bool,
    /// The client leaves with the kernel what it is sent.
    pub(crate) leaves: bool,
    /// What the kernel keeps of what has come.
    pub(crate) unread: usize,
}

impl Wire {
    /// What the kernel keeps for it.
    pub(crate) fn kernel(&self) -> KernelBytes {
        let is_full = self.room < usize::MAX / 2;
        let unsent = match (is_full, self.leaves) {
            (true, _) => KERNEL,
            (false, true) => self.sent.len().min(KERNEL),
            (false, false) => 0,
        };
        KernelBytes {
            unsent: u32::try_from(unsent).unwrap(),
            unread: u32::try_from(self.unread).unwrap(),
        }
    }
}

pub(crate) fn options() -> HubOptions {
    HubOptions {
        bounds: BOUNDS,
        memory_max: usize::MAX,
        admission: Arc::new(Admission::new(0, 0)),
        proxies: None,
        tls: None,
        drain: DRAIN,
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
            asked: 0,
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
            state: IoAction::Read,
            rest: Vec::new(),
            has_unread: false,
            leaves: false,
            unread: 0,
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

    /// Lets less than a second go by.
    pub(crate) fn pass_micros(&mut self, micros: u64) {
        self.now = Now::from_micros(self.now.micros + micros);
        self.finish();
    }

    /// The rest of a loop's round.
    pub(crate) fn finish(&mut self) {
        loop {
            self.hub.finish(self.now);
            self.ask_kernel();
            let has_more = self.hub.maintain(self.now);
            while let Some(id) = self.hub.next_queued() {
                self.flush(id);
            }
            if !has_more {
                break;
            }
        }
        self.check_account();
        // Everything has been sent, or waits for its client.
        assert_eq!(self.hub.uncounted_bytes(), 0);
    }

    fn ask_kernel(&mut self) {
        while let Some(id) = self.hub.next_unknown(self.now) {
            self.asked += 1;
            if let Some(wire) = self.wires.iter().find(|wire| wire.id == id) {
                self.hub.kernel_holds(self.now, id, wire.kernel());
            }
        }
    }

    /// The end of all connections goes on. Returns whether it is over.
    pub(crate) fn stop(&mut self) -> bool {
        let is_over = self.hub.stop(self.now);
        self.finish();
        is_over
    }

    /// What connections hold is known at each moment.
    pub(crate) fn check_account(&self) {
        let [kept, counted] = self.hub.accounts();
        assert_eq!(kept, counted);
    }

    /// What the kernel keeps for all of them.
    pub(crate) fn kernel_bytes(&self) -> usize {
        let is_open = |wire: &&Wire| !matches!(wire.state, IoAction::Close | IoAction::Reset);
        let open = self.wires.iter().filter(is_open);
        open.map(|wire| wire.kernel())
            .map(|kernel| kernel.unsent as usize + kernel.unread as usize)
            .sum()
    }

    /// The client reads `bytes`, which makes room for as many.
    pub(crate) fn make_room(&mut self, wire: usize, bytes: usize) {
        self.wires[wire].room = self.wires[wire].room.saturating_add(bytes);
        let id = self.wires[wire].id;
        self.flush(id);
        self.finish();
    }

    fn flush(&mut self, id: ConnectionKey) {
        let now = self.now;
        let Some(wire) = self.wires.iter_mut().find(|wire| wire.id == id) else {
            panic!("a connection that was never accepted is queued");
        };
        let output = self.hub.output(id);
        if !output.is_empty() {
            let bytes = output.len().min(wire.room);
            wire.sent.extend_from_slice(&output[..bytes]);
            wire.room -= bytes;
            self.hub.sent(now, id, bytes);
        }
        let mut rest = std::mem::take(&mut wire.rest);
        self.hub
            .take_rest(now, id, &mut vec![0; 16 * 1024], |buffer| {
                let bytes = rest.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&rest[..bytes]);
                rest.drain(..bytes);
                Ok(bytes)
            });
        wire.rest = rest;
        wire.state = self.hub.next_action(now, id, wire.has_unread);
    }

    pub(crate) fn sent(&self, wire: usize) -> String {
        String::from_utf8_lossy(&self.wires[wire].sent).into_owned()
    }

    pub(crate) fn state(&self, wire: usize) -> IoAction {
        self.wires[wire].state
    }
}
