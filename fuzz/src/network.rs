//! The lives of connections: what clients, the network and the clock may do to a hub.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_stream::{
    Admission, Bounds, ConnectionKey, Handler, Hub, HubOptions, IoAction, StreamCounters,
    TlsConfig, TrustedProxies,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// Connections at once.
const WIRES_MAX: usize = 8;

/// What may happen next. Small numbers choose among what there is.
#[derive(Arbitrary, Debug)]
pub enum Step<T> {
    /// Somebody connects.
    Connect {
        /// Over IPv6.
        is_v6: bool,
        /// The end of the address.
        host: u8,
    },
    /// A client says something sensible, which comes in pieces of this size.
    Say(u8, T, u16),
    /// A client sends bytes.
    Send(u8, Vec<u8>),
    /// A client ends its sending half.
    End(u8),
    /// A client resets its connection.
    Reset(u8),
    /// A client stops reading, or goes on after so many bytes.
    Read(u8, Option<u16>),
    /// A worker finishes its batch, and writes.
    Finish(u8),
    /// Time passes.
    Pass {
        /// Milliseconds.
        millis: u32,
    },
}

/// The workers of a tracker, and the connections that they hold.
pub struct Network<H: Handler> {
    hubs: Vec<Hub<H>>,
    bounds: Bounds,
    counters: Arc<StreamCounters>,
    micros: u64,
    wires: Vec<Wire>,
}

/// The network's side of a connection.
pub struct Wire {
    worker: usize,
    id: ConnectionKey,
    /// Bytes that the client still reads; `None` = whatever comes.
    room: Option<usize>,
    has_ended: bool,
    /// What the tracker has sent.
    pub received: Vec<u8>,
    /// Only sensible things have been said.
    pub is_sensible: bool,
    /// It has said something.
    pub has_spoken: bool,
}

impl<H: Handler> Network<H> {
    /// Of these workers, which hold connections.
    pub fn new(
        workers: Vec<H>,
        bounds: Bounds,
        proxies: Option<TrustedProxies>,
        tls: Option<TlsConfig>,
    ) -> Self {
        let admission = Arc::new(Admission::new(0, 3));
        let counters = Arc::new(StreamCounters::default());
        let hubs = workers.into_iter().map(|worker| {
            let options = HubOptions {
                memory_max: usize::MAX,
                bounds,
                admission: Arc::clone(&admission),
                proxies: proxies.clone(),
                tls: tls.clone(),
                drain: Duration::ZERO,
                counters: Arc::clone(&counters),
            };
            Hub::new(worker, options)
        });
        Self {
            hubs: hubs.collect(),
            bounds,
            counters,
            micros: 0,
            wires: Vec::new(),
        }
    }

    /// Lives through all steps; then nothing more happens, until everything must be over. `say`
    /// writes what a client says; `check` looks at all that a client has got.
    pub fn live<T>(
        &mut self,
        steps: Vec<Step<T>>,
        mut say: impl FnMut(&mut Wire, T) -> Vec<u8>,
        check: impl Fn(&Wire),
    ) {
        for step in steps {
            self.step(step, &mut say, &check);
        }
        self.finish_all(&check);
        // Whatever they wait for, one of the deadlines ends it; closing may take another moment.
        for _ in 0..3 {
            self.micros += 24 * 3_600 * 1_000_000;
            self.finish_all(&check);
        }
        assert!(self.wires.is_empty(), "connections outlive all deadlines");
        let active = self.counters.active.v4.get() + self.counters.active.v6.get();
        // Each hub sets the same gauge: the last one has nothing.
        assert_eq!(active, 0);
    }

    fn now(&self) -> Now {
        Now::from_micros(self.micros)
    }

    fn step<T>(
        &mut self,
        step: Step<T>,
        say: &mut impl FnMut(&mut Wire, T) -> Vec<u8>,
        check: &impl Fn(&Wire),
    ) {
        match step {
            Step::Connect { is_v6, host } => self.connect(is_v6, host),
            Step::Say(wire, what, piece) => {
                if let Some(index) = self.index(wire) {
                    let bytes = say(&mut self.wires[index], what);
                    self.wires[index].has_spoken = true;
                    self.send(index, &bytes, usize::from(piece).max(1));
                }
            }
            Step::Send(wire, bytes) => {
                if let Some(index) = self.index(wire) {
                    self.wires[index].is_sensible = false;
                    self.send(index, &bytes, usize::MAX);
                }
            }
            Step::End(wire) => {
                if let Some(index) = self.index(wire) {
                    let (worker, id) = (self.wires[index].worker, self.wires[index].id);
                    self.wires[index].has_ended = true;
                    let now = self.now();
                    self.hubs[worker].read_ended(now, id);
                }
            }
            Step::Reset(wire) => {
                if let Some(index) = self.index(wire) {
                    let (worker, id) = (self.wires[index].worker, self.wires[index].id);
                    let now = self.now();
                    self.hubs[worker].failed(now, id);
                }
            }
            Step::Read(wire, room) => {
                if let Some(index) = self.index(wire) {
                    self.wires[index].room = room.map(usize::from);
                    self.flush(index, check);
                }
            }
            Step::Finish(worker) => {
                let worker = usize::from(worker) % self.hubs.len();
                self.finish(worker, check);
            }
            Step::Pass { millis } => {
                self.micros += u64::from(millis) * 1_000;
                self.finish_all(check);
            }
        }
    }

    fn index(&self, wire: u8) -> Option<usize> {
        let count = self.wires.len();
        (count > 0).then(|| usize::from(wire) % count)
    }

    fn connect(&mut self, is_v6: bool, host: u8) {
        if self.wires.len() >= WIRES_MAX {
            return;
        }
        let worker = usize::from(host) % self.hubs.len();
        let peer: SocketAddr = match is_v6 {
            false => ([192, 0, 2, host], 40_000).into(),
            true => ([0x2001, 0xdb8, 0, u16::from(host), 0, 0, 0, 1], 40_000).into(),
        };
        let now = self.now();
        let accepted = self.hubs[worker].accept(now, peer, ([0, 0, 0, 0], 3_000).into());
        if let Ok(id) = accepted {
            self.wires.push(Wire {
                worker,
                id,
                room: None,
                has_ended: false,
                received: Vec::new(),
                is_sensible: true,
                has_spoken: false,
            });
        }
    }

    /// As long as the tracker reads.
    fn send(&mut self, index: usize, bytes: &[u8], piece: usize) {
        let now = self.now();
        let wire = &mut self.wires[index];
        let hub = &mut self.hubs[wire.worker];
        for piece in bytes.chunks(piece.min(aquatic_stream::READ_CHUNK_BYTES)) {
            if wire.has_ended || !hub.wants_input(wire.id) {
                // The rest never comes, so that what comes next need not make sense.
                wire.is_sensible = false;
                return;
            }
            hub.receive(now, wire.id, &mut piece.to_vec());
        }
    }

    fn finish(&mut self, worker: usize, check: &impl Fn(&Wire)) {
        let now = self.now();
        self.hubs[worker].finish(now);
        self.hubs[worker].maintain(now);
        while let Some(id) = self.hubs[worker].next_queued() {
            let is_it = |wire: &Wire| wire.worker == worker && wire.id == id;
            if let Some(index) = self.wires.iter().position(is_it) {
                self.flush(index, check);
            }
        }
    }

    /// Until nobody has anything to do.
    fn finish_all(&mut self, check: &impl Fn(&Wire)) {
        for round in 0.. {
            for worker in 0..self.hubs.len() {
                self.finish(worker, check);
            }
            let now = self.now();
            let mut is_busy = self.hubs.iter().any(Hub::has_pending);
            for hub in &mut self.hubs {
                is_busy |= hub.maintain(now);
            }
            if !is_busy {
                break;
            }
            assert!(round < 10_000, "there is no end to it");
        }
    }

    fn flush(&mut self, index: usize, check: &impl Fn(&Wire)) {
        let now = self.now();
        let wire = &mut self.wires[index];
        let hub = &mut self.hubs[wire.worker];
        let output = hub.output(wire.id);
        // A last message, with a little more if it is encrypted, goes over the bound, and ends it.
        let bytes = wire.room.unwrap_or(usize::MAX).min(output.len());
        wire.received.extend_from_slice(&output[..bytes]);
        if let Some(room) = &mut wire.room {
            *room -= bytes;
        }
        if !output.is_empty() {
            hub.sent(now, wire.id, bytes);
        }
        // All that the client has sent has been received.
        let settled = hub.next_action(now, wire.id, false);
        let waiting = hub.output(wire.id).len();
        check(wire);
        if matches!(settled, IoAction::Close | IoAction::Reset) {
            self.wires.swap_remove(index);
        } else {
            assert!(waiting <= self.bounds.output_bytes_max, "{waiting} bytes");
        }
    }
}
