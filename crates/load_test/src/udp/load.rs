//! A worker that applies load: a mix of requests, at the tracker's pace or at a fixed rate.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::InfoHash;
use fastrand::Rng;

use crate::core::arrivals::Arrivals;
use crate::core::kind::{Mix, RequestKind};
use crate::core::population::Population;
use crate::core::tally::Tally;
use crate::udp::KINDS;
use crate::udp::config::LoadTestConfig;
use crate::udp::socket_client::Sockets;

/// How long a worker at the tracker's pace sleeps when few answers wait. Short enough for the
/// tracker to find requests meanwhile, long enough to gather a batch of answers. It sleeps by the
/// clock and not on its sockets, because then the tracker's sends have nobody to wake, which would
/// cost the tracker more than an answer does.
const REST: Duration = Duration::from_micros(200);

/// Answers per round, of all sockets together, from which on the worker does not sleep.
const BUSY_ANSWERS: usize = 64;

/// Requests that are written before they are sent, per socket.
const BURST: u32 = 64;

/// One thread's sockets and choices.
pub(crate) struct LoadWorker {
    pub(crate) config: Arc<LoadTestConfig>,
    pub(crate) mix: Mix,
    pub(crate) population: Arc<Population>,
    /// At a fixed rate, requests are due from then on, even if the worker begins later.
    pub(crate) start_micros: u64,
    /// No request is due from then on.
    pub(crate) end_micros: u64,
    pub(crate) clock: Clock,
    pub(crate) sockets: Sockets,
    pub(crate) rng: Rng,
    pub(crate) tally: Tally,
    /// Those of the next scrape.
    pub(crate) torrents: Vec<InfoHash>,
}

impl LoadWorker {
    /// Runs until the window and the grace after it are over.
    pub(crate) fn run(mut self) -> anyhow::Result<Tally> {
        match self.config.run.rate_per_worker() {
            Some(rate_per_second) => self.keep_rate(rate_per_second)?,
            None => self.keep_in_flight()?,
        }
        self.drain()?;
        Ok(self.tally)
    }

    /// Keeps `in_flight_per_socket` requests of each socket waiting.
    fn keep_in_flight(&mut self) -> anyhow::Result<()> {
        let requests = self.config.network.in_flight_per_socket;
        // A socket is topped up when it has room for a batch worth sending.
        let burst_min = (requests / 2).clamp(1, BURST);
        loop {
            let now_micros = self.clock.micros();
            self.tally.show_progress(now_micros);
            if now_micros >= self.end_micros {
                return Ok(());
            }
            let received = self.receive()?;
            for place in 0..self.sockets.all.len() {
                let room = requests.saturating_sub(self.sockets.all[place].client.waiting());
                if room >= burst_min {
                    self.send_burst(place, room);
                }
            }
            if received < BUSY_ANSWERS {
                thread::sleep(REST);
            }
        }
    }

    /// Writes kind by kind: packets of one size travel together.
    fn send_burst(&mut self, place: usize, requests: u32) {
        let now_micros = self.clock.micros();
        let mut counts = [0; RequestKind::COUNT];
        for _ in 0..requests {
            counts[self.mix.sample(&mut self.rng) as usize] += 1;
        }
        if self.sockets.all[place].client.must_reconnect(now_micros) {
            counts[RequestKind::Connect as usize] += 1;
        }
        for kind in KINDS.iter().copied() {
            for _ in 0..counts[kind as usize] {
                self.write(place, kind, now_micros);
            }
        }
        self.sockets.all[place].flush(&mut self.tally);
    }

    /// Never sleeps: whoever sleeps wakes too late, and would count the delay as the tracker's.
    fn keep_rate(&mut self, rate_per_second: f64) -> anyhow::Result<()> {
        let given_up_micros = self.end_micros + self.config.answers.lost_after_micros();
        let mut arrivals = Arrivals::new(rate_per_second, self.start_micros, &mut self.rng);
        loop {
            let now_micros = self.clock.micros();
            self.tally.stalls.look(now_micros);
            self.tally.show_progress(now_micros);
            // A worker that was kept from running until after the end still owes what was due
            // before, as long as that can be answered in time.
            let until_micros = now_micros.min(self.end_micros.saturating_sub(1));
            let mut written = 0;
            while written < BURST
                && let Some(due_micros) = arrivals.due(until_micros, &mut self.rng)
            {
                let place = self.rng.usize(..self.sockets.all.len());
                let kind = if self.sockets.all[place].client.must_reconnect(now_micros) {
                    RequestKind::Connect
                } else {
                    self.mix.sample(&mut self.rng)
                };
                self.write(place, kind, due_micros);
                written += 1;
            }
            self.sockets.flush(&mut self.tally);
            self.receive()?;
            let is_behind = written == BURST && now_micros < given_up_micros;
            if now_micros >= self.end_micros && !is_behind {
                return Ok(());
            }
        }
    }

    /// Waits for the answers that are still to come.
    fn drain(&mut self) -> anyhow::Result<()> {
        let end_micros = self.clock.micros() + self.config.answers.lost_after_micros();
        loop {
            let received = self.receive()?;
            let mut sockets = self.sockets.all.iter();
            let is_settled = sockets.all(|socket| socket.client.is_settled());
            if is_settled || self.clock.micros() > end_micros {
                return Ok(());
            }
            if received == 0 {
                thread::sleep(REST);
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<usize> {
        self.sockets.receive(&mut self.tally, |_| {}, |_| {})
    }

    fn write(&mut self, place: usize, kind: RequestKind, due_micros: u64) {
        let (population, tally) = (&self.population, &mut self.tally);
        let socket = &mut self.sockets.all[place];
        match kind {
            RequestKind::Scrape => {
                let torrents = &mut self.torrents;
                let number = self.config.requests.population.scrape_torrents;
                population.draw_torrents(number, &mut self.rng, torrents);
                socket.write(|client, out| client.scrape(torrents, due_micros, out, tally));
            }
            RequestKind::Announce => {
                let number = self.rng.u32(socket.peers.clone());
                let peer = population.peer(number);
                let info_hash = population.info_hash(peer.torrent);
                socket.write(|client, out| {
                    client.announce(info_hash, (number, peer), due_micros, out, tally)
                });
            }
            RequestKind::Connect => {
                socket.write(|client, out| client.connect(due_micros, out, tally));
            }
            RequestKind::Offer | RequestKind::Answer | RequestKind::AnswerReply => {
                debug_assert!(false, "{kind:?} is not of UDP");
            }
        }
    }
}
