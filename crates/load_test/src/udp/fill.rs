//! A worker that fills a tracker: each peer of each torrent announces until it is answered, then
//! never again.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;

use crate::core::kind::RequestKind;
use crate::core::population::{Peer, info_hash, mix};
use crate::core::progress::Reporter;
use crate::core::tally::{Asked, Tally};
use crate::udp::config::{LoadTestConfig, PORT_FIRST, PORTS};
use crate::udp::socket_client::Sockets;

/// How long the worker sleeps when no answer waits. See `load`.
const REST: Duration = Duration::from_micros(200);

/// A tracker that has answered nothing new for so long is gone.
const SILENCE_MICROS_MAX: u64 = 15_000_000;

/// What a worker is to fill in.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    /// Numbers of this worker's torrents. No other worker announces them.
    pub(crate) torrents: Range<u32>,
    pub(crate) config: Arc<LoadTestConfig>,
}

impl Fill {
    /// Numbers of the peers, in all torrents of this worker.
    fn items(&self) -> Range<u32> {
        let peers_per_torrent = self.config.fill.peers_per_torrent;
        let Range { start, end } = self.torrents;
        start * peers_per_torrent..end * peers_per_torrent
    }

    /// The peer of a number, and which socket speaks for it, which decides its IP address. Peers of
    /// one torrent differ in socket or port; which ones a torrent begins with depends on the
    /// torrent.
    fn peer(&self, item: u32, sockets: usize) -> (Peer, usize) {
        let (seed, peers_per_torrent) = (self.config.run.seed, self.config.fill.peers_per_torrent);
        let torrent = item / peers_per_torrent;
        let sockets = u64::try_from(sockets).unwrap_or(1);
        let places = sockets * u64::from(PORTS);
        let first = mix(seed ^ u64::from(torrent)) % places;
        let place = (first + u64::from(item % peers_per_torrent)) % places;
        let port = u64::from(PORT_FIRST) + place / sockets;
        let chance = fastrand::Rng::with_seed(mix(seed) ^ u64::from(item)).f64();
        let peer = Peer {
            torrent,
            port: u16::try_from(port).unwrap_or(u16::MAX),
            is_seeder: chance < self.config.requests.population.seeder_probability,
        };
        (peer, usize::try_from(place % sockets).unwrap_or(0))
    }
}

/// One thread's sockets and what is left to announce.
pub(crate) struct FillWorker {
    fill: Fill,
    clock: Clock,
    sockets: Sockets,
    tally: Tally,
    fresh: Range<u32>,
    /// Those whose announce was lost.
    again: Vec<u32>,
    answered: u64,
}

impl FillWorker {
    pub(crate) fn new(fill: Fill, clock: Clock, sockets: Sockets, progress: Reporter) -> Self {
        let mut tally = Tally::new(0..u64::MAX, fill.config.answers.late_after_micros());
        tally.progress = progress;
        Self {
            clock,
            sockets,
            tally,
            fresh: fill.items(),
            again: Vec::new(),
            answered: 0,
            fill,
        }
    }

    /// Runs until each peer has been answered, be it by an error packet.
    pub(crate) fn run(mut self) -> anyhow::Result<Tally> {
        let total = u64::try_from(self.fill.items().len()).unwrap_or(u64::MAX);
        let mut settled = 0;
        let mut settled_micros = self.clock.micros();
        loop {
            self.reconnect();
            self.send();
            let received = self.receive()?;
            let settled_before = settled;
            settled = self.answered + self.tally.kind(RequestKind::Announce).refused;
            if settled >= total {
                return Ok(self.tally);
            }
            let now_micros = self.clock.micros();
            self.tally.show_progress(now_micros);
            if settled > settled_before {
                settled_micros = now_micros;
            } else if now_micros - settled_micros > SILENCE_MICROS_MAX {
                bail!("the tracker has fallen silent: {settled} of {total} peers were answered");
            }
            if received == 0 {
                thread::sleep(REST);
            }
        }
    }

    fn reconnect(&mut self) {
        let now_micros = self.clock.micros();
        for socket in &mut self.sockets.all {
            if socket.client.must_reconnect(now_micros)
                && socket.client.waiting() < self.fill.config.network.in_flight_per_socket
            {
                socket.write(|client, out| client.connect(now_micros, out, &mut self.tally));
            }
        }
    }

    /// Announces until the next peer's socket has no room: its turn comes with the next answers.
    fn send(&mut self) {
        let now_micros = self.clock.micros();
        while let Some(item) = self.again.last().copied().or(self.fresh.clone().next()) {
            let (peer, socket) = self.fill.peer(item, self.sockets.all.len());
            let socket = &mut self.sockets.all[socket];
            if socket.client.waiting() >= self.fill.config.network.in_flight_per_socket {
                break;
            }
            if self.again.pop().is_none() {
                self.fresh.next();
            }
            let info_hash = info_hash(self.fill.config.run.seed, peer.torrent);
            let lost = socket.write(|client, out| {
                client.announce(info_hash, (item, peer), now_micros, out, &mut self.tally)
            });
            self.again
                .extend(lost.filter(is_announce).map(|lost| lost.item));
        }
        self.sockets.flush(&mut self.tally);
    }

    fn receive(&mut self) -> anyhow::Result<usize> {
        let answered = |asked| self.answered += u64::from(is_announce(&asked));
        let lost = |lost| self.again.extend(is_announce(&lost).then_some(lost.item));
        self.sockets.receive(&mut self.tally, answered, lost)
    }
}

fn is_announce(asked: &Asked) -> bool {
    asked.kind == RequestKind::Announce
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fill(torrents: Range<u32>, peers_per_torrent: u32) -> Fill {
        let mut config = LoadTestConfig::default();
        config.fill.peers_per_torrent = peers_per_torrent;
        config.requests.population.seeder_probability = 0.25;
        Fill {
            torrents,
            config: Arc::new(config),
        }
    }

    #[test]
    fn peers_of_a_torrent_differ() {
        let sockets = 2;
        let fill = fill(3..4, 2 * PORTS);
        let places: HashSet<_> = fill
            .items()
            .map(|item| fill.peer(item, sockets))
            .inspect(|(peer, _)| assert!(peer.torrent == 3 && peer.port >= 1024))
            .map(|(peer, socket)| (socket, peer.port))
            .collect();
        assert_eq!(u32::try_from(places.len()).unwrap(), 2 * PORTS);
    }

    #[test]
    fn lone_peers_are_spread_and_some_are_seeders() {
        let fill = fill(0..10_000, 1);
        let peers: Vec<_> = fill.items().map(|item| fill.peer(item, 4)).collect();
        let torrents: HashSet<_> = peers.iter().map(|(peer, _)| peer.torrent).collect();
        assert_eq!(torrents.len(), 10_000);
        let ports: HashSet<_> = peers.iter().map(|(peer, _)| peer.port).collect();
        assert!(ports.len() > 8_000, "{}", ports.len());
        for socket in 0..4 {
            let peers = peers.iter().filter(|(_, of)| *of == socket).count();
            assert!((2_200..2_800).contains(&peers), "socket {socket}: {peers}");
        }
        let seeders = peers.iter().filter(|(peer, _)| peer.is_seeder).count();
        assert!((2_200..2_800).contains(&seeders), "{seeders}");
    }
}
