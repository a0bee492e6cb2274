//! More than somebody can take: clients that read hardly anything, and queues that are full.

use aquatic_types::InfoHash;
use aquatic_ws_protocol::ScrapeRequest;

use super::World;
use crate::simulation::keys::FREE;

/// Clients that come together. What they ask about are more torrents than all batches of a worker
/// have room for.
const CROWD: usize = 60;

const SCRAPED: usize = 250;

impl World {
    /// A client begins or ceases to be lazy; or, seldom, a crowd comes.
    pub(super) fn crowd(&mut self, client: usize) {
        if self.is_pressed || self.rng.u8(..8) > 0 {
            let is_lazy = &mut self.clients[client].is_lazy;
            *is_lazy = !*is_lazy;
            return;
        }
        let worker = self.clients[client].worker;
        let first = self.clients.len();
        for number in 0..CROWD {
            let port = u16::try_from(first + number + 1).unwrap();
            self.come_to(worker, ([192, 0, 2, 1], port).into(), FREE);
        }
        self.rest();
        let last = self.clients.len();
        for client in first..last {
            let info_hashes = (0..SCRAPED).map(|_| {
                let mut name = [0; 20];
                self.rng.fill(&mut name);
                InfoHash(name)
            });
            let request = ScrapeRequest {
                info_hashes: info_hashes.collect(),
            };
            self.clients[client].send(&request, &mut self.rng);
            self.deliver(client, usize::MAX);
            self.work(worker, true);
        }
        // Who asks now waits.
        let here = |it: &usize| self.clients[*it].worker == worker;
        for client in self.open().filter(here).collect::<Vec<_>>() {
            if client < first {
                self.announce(client);
                self.deliver(client, usize::MAX);
            }
        }
        self.work(worker, true);
        let has_waiting = self.tracker.hubs[worker].handler().has_waiting();
        let what = "queues so full that requests waited";
        self.tally.note_if(what, has_waiting);
        if self.rng.bool() {
            self.change_access_list();
        }
        for client in first..last {
            if self.rng.bool() {
                self.close(client);
            }
        }
        self.rest();
        for client in first..last {
            self.close(client);
        }
    }
}
