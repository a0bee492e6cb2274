//! What happens when: requests, turns of workers, faults, and the passing of time.

use super::clients::Datagram;
use super::tracker::{SOCKETS, Sending};
use super::world::World;

const CALM_STEPS: usize = 300;
const WILD_STEPS: usize = 400;

/// Datagrams on their way; more are lost.
const NETWORK_MAX: usize = 1_000;

/// Datagrams on their way, with their numbers in the order in which they were sent.
#[derive(Default)]
struct Network {
    datagrams: Vec<(u64, Datagram)>,
    sent: u64,
    /// The newest that has arrived.
    newest: u64,
}

impl World {
    /// A whole life of a tracker.
    pub(crate) fn run(&mut self) {
        for _ in 0..3 {
            for _ in 0..CALM_STEPS {
                self.calm_step();
                self.snapshot_step();
            }
            self.is_calm = false;
            let mut network = Network::default();
            for _ in 0..WILD_STEPS {
                self.wild_step(&mut network);
                self.snapshot_step();
                self.check_counts();
            }
            self.quiesce();
            self.send_all();
            self.is_calm = true;
            // Else all calm would be about when the crowd of before expires.
            if self.rng.u8(..4) > 0 {
                self.conclude();
            }
            self.remove_doubts();
        }
        self.conclude();
        self.check_counts();
    }

    /// One request at a time, so that its answer is known for certain.
    fn calm_step(&mut self) {
        let datagram = self.clients.send(&mut self.rng);
        self.serve(&datagram);
        let pause = self.rng.u64(..30_000);
        self.advance(pause);
        match self.rng.u8(..) {
            0..2 => self.advance_far(),
            2..4 => self.replace_access_list(),
            4..24 => {
                let shard = self.rng.usize(..self.tracker.shards());
                self.maintain(shard);
                return;
            }
            _ => return,
        }
        // Otherwise it is unknown for a while what has been cleaned away.
        if self.rng.u8(..8) > 0 {
            self.settle();
        }
    }

    /// Delivers a datagram and lets it be answered.
    fn serve(&mut self, datagram: &Datagram) {
        let worker = self.pick_core(datagram);
        self.deliver(worker, datagram);
        self.quiesce();
        self.send_all();
    }

    /// Anything, in any order.
    fn wild_step(&mut self, network: &mut Network) {
        let worker = self.rng.usize(..self.tracker.socket_workers());
        match self.rng.u8(..100) {
            0..40 => self.clients_send(network),
            40..60 => {
                let count = [1, 4, 16, 400][self.rng.usize(..4)];
                self.receive(worker, count, network);
            }
            60..76 => self.finish(worker),
            76..84 => self.send_some(worker),
            84..90 => {
                let workers = self.tracker.swarm_workers();
                if workers > 0 {
                    let worker = self.rng.usize(..workers);
                    self.tracker.answer(worker, self.now());
                }
            }
            90..95 => {
                let shard = self.rng.usize(..self.tracker.shards());
                self.maintain(shard);
            }
            95..98 => {
                let pause = self.rng.u64(..2_000_000);
                self.advance(pause);
            }
            98 => match self.rng.u8(..8) {
                0 => self.advance_far(),
                1..4 => self.replace_access_list(),
                _ => self.overload(worker, network),
            },
            _ => {
                self.quiesce();
                self.send_all();
            }
        }
    }

    /// Some requests leave; some of them are lost, some are doubled.
    fn clients_send(&mut self, network: &mut Network) {
        let count = if self.rng.u8(..50) == 0 {
            300
        } else {
            self.rng.usize(..8)
        };
        for _ in 0..count {
            let datagram = self.clients.send(&mut self.rng);
            let copies = match self.rng.u8(..20) {
                0 => 0,
                1 => 2,
                _ => 1,
            };
            let tally = &mut self.coverage.tally;
            tally.note_if("requests lost on their way", copies == 0);
            tally.note_if("requests doubled on their way", copies == 2);
            network.sent += 1;
            let numbered = (network.sent, datagram);
            network
                .datagrams
                .extend(std::iter::repeat_n(numbered, copies));
        }
        network.datagrams.truncate(NETWORK_MAX);
    }

    /// A worker receives some of what the kernel has steered to it, in any order.
    fn receive(&mut self, worker: usize, count: usize, network: &mut Network) {
        for _ in 0..count.min(network.datagrams.len()) {
            let place = self.rng.usize(..network.datagrams.len());
            let (_, datagram) = &network.datagrams[place];
            if self.pick_core(datagram) == worker && !self.is_copy(worker, datagram) {
                let (number, datagram) = network.datagrams.swap_remove(place);
                let is_late = number < network.newest;
                network.newest = network.newest.max(number);
                let tally = &mut self.coverage.tally;
                tally.note_if("requests overtaken on their way", is_late);
                self.deliver(worker, &datagram);
            }
        }
    }

    /// The socket worker that gets a datagram: mostly the one that the kernel should choose.
    fn pick_core(&mut self, datagram: &Datagram) -> usize {
        let any = self.rng.usize(..self.tracker.socket_workers());
        let steered = self.tracker.steered_to(&datagram.bytes);
        let worker = steered.filter(|_| self.rng.u8(..8) > 0).unwrap_or(any);
        let is_misled = steered.is_some_and(|it| it != worker);
        let tally = &mut self.coverage.tally;
        tally.note_if("requests steered to another worker", is_misled);
        worker
    }

    /// A worker gets more than the others deal with, one small batch after the other.
    fn overload(&mut self, worker: usize, network: &mut Network) {
        for _ in 0..200 {
            self.clients_send(network);
            for _ in 0..6 {
                if let Some((_, datagram)) = network.datagrams.pop()
                    && !self.is_copy(worker, &datagram)
                {
                    self.deliver(worker, &datagram);
                }
            }
            self.finish(worker);
        }
    }

    /// The kernel sends some of the answers, refuses some, and has no room for the rest.
    fn send_some(&mut self, worker: usize) {
        for socket in 0..SOCKETS.len() {
            let unsent = self.tracker.unsent(worker, socket);
            let sending = match self.rng.u8(..8) {
                0 => Sending {
                    sent: self.rng.usize(..=unsent),
                    failed: self.rng.usize(..3),
                    resend_len_max: self.rng.usize(..4) * 20,
                },
                1 => Sending {
                    sent: unsent / 2,
                    failed: unsent,
                    resend_len_max: 0,
                },
                _ => Sending {
                    sent: unsent,
                    ..Sending::default()
                },
            };
            self.send(worker, socket, sending);
        }
    }

    /// Time for connection ids or peers to expire.
    fn advance_far(&mut self) {
        let seconds = [10, 130, 131, 600, 1_199, 1_201, 3_000][self.rng.usize(..7)];
        self.advance(seconds * 1_000_000);
    }

    /// Lets everything expire.
    fn conclude(&mut self) {
        self.advance(u64::from(self.config.cleaning.max_peer_age + 1) * 1_000_000);
        self.settle();
        for family in SOCKETS {
            assert_eq!(
                self.tracker.gauges(family),
                (0, 0),
                "all peers have expired"
            );
        }
    }

    /// Removes doubts about who is in which swarm: so the reports must agree exactly.
    fn remove_doubts(&mut self) {
        self.settle();
        // As time goes on, more of them may or may not have expired.
        while !self.model.uncertain_peers().is_empty() {
            self.stop_uncertain_peers();
            self.settle();
        }
    }

    fn stop_uncertain_peers(&mut self) {
        for (torrent, peer) in self.model.uncertain_peers() {
            let connect = self
                .clients
                .connect(&mut self.rng, (peer.ip(), 4_001).into());
            // Slower than any limit on the rate of requests.
            self.advance(500_000);
            self.serve(&connect);
            let id = self
                .newest_id(peer.ip())
                .expect("a connect is always answered");
            let stop = self.clients.stop(&mut self.rng, id, torrent, peer);
            self.serve(&stop);
        }
    }
}
