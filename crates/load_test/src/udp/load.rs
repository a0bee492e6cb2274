//! A worker that applies load: a mix of requests, at the tracker's pace or at a fixed rate.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::{AnnounceEvent, InfoHash};
use aquatic_udp_socket::Receiver;
use fastrand::Rng;

use crate::core::arrivals::Arrivals;
use crate::core::kind::{Kind, Mix};
use crate::core::population::{Population, peer_id};
use crate::udp::client::Announce;
use crate::udp::kinds::{RequestKind, Tally};
use crate::udp::socket_client::{self, SocketClient};

/// How long a worker at the tracker's pace sleeps when few answers wait. Short enough for the
/// tracker to find requests meanwhile, long enough to gather a batch of answers. It sleeps by the
/// clock and not on its sockets, because then the tracker's sends have nobody to wake, which would
/// cost the tracker more than an answer does.
const REST: Duration = Duration::from_micros(200);

/// Answers per round, of all sockets together, from which on the worker does not sleep.
const BUSY_ANSWERS: usize = 64;

/// Requests that are written before they are sent, per socket.
const BURST: u32 = 64;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So that each socket has this many waiting.
    InFlight(u32),
    /// At this many per second, by this worker.
    Rate(f64),
}

/// What a worker is to do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) pace: Pace,
    pub(crate) mix: Mix<RequestKind>,
    pub(crate) scrape_torrents: u8,
    pub(crate) population: Arc<Population>,
    /// Requests are counted if they are due within it; none is sent after it.
    pub(crate) window_micros: Range<u64>,
    /// How long after the window answers are waited for.
    pub(crate) grace_micros: u64,
    /// Seed of the worker's choices.
    pub(crate) seed: u64,
}

/// One thread's sockets and choices.
pub(crate) struct LoadWorker {
    load: Load,
    clock: Clock,
    sockets: Vec<LoadSocket>,
    receiver: Receiver,
    rng: Rng,
    tally: Tally,
    torrents: Vec<InfoHash>,
}

/// A socket and the peers that it speaks for: a peer's address must not change.
struct LoadSocket {
    socket: SocketClient,
    peers: Range<u32>,
}

impl LoadWorker {
    /// `sockets`: connected sockets, each with the numbers of its peers.
    pub(crate) fn new(load: Load, clock: Clock, sockets: Vec<(SocketClient, Range<u32>)>) -> Self {
        let sockets = sockets
            .into_iter()
            .map(|(socket, peers)| LoadSocket { socket, peers });
        Self {
            clock,
            sockets: sockets.collect(),
            receiver: socket_client::receiver(),
            rng: Rng::with_seed(load.seed),
            tally: Tally::new(load.window_micros.clone()),
            torrents: Vec::new(),
            load,
        }
    }

    /// Runs until the window and the grace after it are over.
    pub(crate) fn run(mut self) -> anyhow::Result<Tally> {
        match self.load.pace {
            Pace::InFlight(requests) => self.keep_in_flight(requests)?,
            Pace::Rate(rate_per_second) => self.keep_rate(rate_per_second)?,
        }
        self.drain()?;
        Ok(self.tally)
    }

    fn keep_in_flight(&mut self, requests: u32) -> anyhow::Result<()> {
        // A socket is topped up when it has room for a batch worth sending.
        let burst_min = (requests / 2).clamp(1, BURST);
        while self.clock.micros() < self.load.window_micros.end {
            let received = self.receive()?;
            for place in 0..self.sockets.len() {
                let room = requests.saturating_sub(self.sockets[place].socket.client.waiting());
                if room >= burst_min {
                    self.send_burst(place, room);
                }
            }
            if received < BUSY_ANSWERS {
                thread::sleep(REST);
            }
        }
        Ok(())
    }

    /// Writes kind by kind: packets of one size travel together.
    fn send_burst(&mut self, place: usize, requests: u32) {
        let now_micros = self.clock.micros();
        let mut counts = [0; 3];
        for _ in 0..requests {
            counts[self.load.mix.sample(&mut self.rng).index()] += 1;
        }
        if self.sockets[place].socket.client.must_reconnect(now_micros) {
            counts[RequestKind::Connect.index()] += 1;
        }
        for kind in RequestKind::ALL.iter().copied() {
            for _ in 0..counts[kind.index()] {
                self.write(place, kind, now_micros);
            }
        }
        self.sockets[place].socket.flush(&mut self.tally);
    }

    /// Never sleeps: whoever sleeps wakes too late, and would count the delay as the tracker's.
    fn keep_rate(&mut self, rate_per_second: f64) -> anyhow::Result<()> {
        let mut arrivals = Arrivals::new(rate_per_second, self.clock.micros(), &mut self.rng);
        loop {
            let now_micros = self.clock.micros();
            self.tally.stalls.look(now_micros);
            if now_micros >= self.load.window_micros.end {
                return Ok(());
            }
            for _ in 0..BURST {
                let Some(due_micros) = arrivals.due(now_micros, &mut self.rng) else {
                    break;
                };
                let place = self.rng.usize(..self.sockets.len());
                let kind = if self.sockets[place].socket.client.must_reconnect(now_micros) {
                    RequestKind::Connect
                } else {
                    self.load.mix.sample(&mut self.rng)
                };
                self.write(place, kind, due_micros);
            }
            for socket in &mut self.sockets {
                socket.socket.flush(&mut self.tally);
            }
            self.receive()?;
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let end_micros = self.clock.micros() + self.load.grace_micros;
        loop {
            let received = self.receive()?;
            let is_over = self.clock.micros() > end_micros;
            if is_over
                || self
                    .sockets
                    .iter()
                    .all(|socket| socket.socket.client.is_settled())
            {
                return Ok(());
            }
            if received == 0 {
                thread::sleep(REST);
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<usize> {
        let mut received = 0;
        for LoadSocket { socket, .. } in &mut self.sockets {
            received += socket.receive(self.clock, &mut self.receiver, &mut self.tally, |_| {})?;
            let now_micros = self.clock.micros();
            self.tally.stalls.look(now_micros);
            socket.client.expire(now_micros, &mut self.tally, |_| {});
        }
        Ok(received)
    }

    fn write(&mut self, place: usize, kind: RequestKind, due_micros: u64) {
        let (population, tally) = (&self.load.population, &mut self.tally);
        let LoadSocket { socket, peers } = &mut self.sockets[place];
        match kind {
            RequestKind::Connect => {
                socket.write(|client, out| client.connect(due_micros, out, tally));
            }
            RequestKind::Announce => {
                let number = self.rng.u32(peers.clone());
                let peer = population.peer(number);
                let announce = Announce {
                    info_hash: population.info_hash(peer.torrent),
                    peer_id: peer_id(number),
                    port: peer.port,
                    is_seeder: peer.is_seeder,
                    event: AnnounceEvent::None,
                };
                socket.write(|client, out| client.announce(&announce, 0, due_micros, out, tally));
            }
            RequestKind::Scrape => {
                let torrents = &mut self.torrents;
                population.draw_torrents(self.load.scrape_torrents, &mut self.rng, torrents);
                socket.write(|client, out| client.scrape(torrents, due_micros, out, tally));
            }
        }
    }
}
