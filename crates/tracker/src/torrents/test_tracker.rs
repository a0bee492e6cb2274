//! A tracker without sockets and threads: shards that are filled, and worked off by the test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::Now;
use aquatic_swarm::{Announce, HashKey, Limits};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, PeerStatus, ShardKey};

use super::reading::ShardReaders;
use crate::dispatch::shard_set::ShardSet;
use crate::dispatch::topology::Topology;
use crate::shard::addresses::kinds::in_each;
use crate::shard::addresses::{AddressShard, AddressSwarmsParts, AddressSwarmsSettings, PeerAddr};
use crate::shard::maintenance::{MaintenanceSettings, Reporting};
use crate::shard::swarm_worker::SwarmWorker;

/// How long peers live, from second 0.
pub(super) const PEER_AGE_SECONDS: u32 = 1_200;

/// A torrent of this number.
pub(super) fn info_hash(number: u32) -> InfoHash {
    let mut bytes = [0; 20];
    // The number comes last, so that the order of numbers is that of info hashes.
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    InfoHash(bytes)
}

/// Shards that are to be filled.
pub(super) struct Filling {
    shards: Vec<AddressShard>,
    key: ShardKey,
}

impl Filling {
    pub(super) fn new(shards: usize, counts_clients: bool) -> Self {
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let settings = AddressSwarmsSettings {
            limits: Limits::default(),
            peer_age_seconds_max: PEER_AGE_SECONDS,
            maintenance: MaintenanceSettings {
                bytes_max: None,
                cleaning_interval_seconds: 120,
                report_interval_seconds: 5,
                peer_histograms: false,
            },
        };
        let parts = |rng_seed| AddressSwarmsParts {
            hash_key: HashKey::new([1, 2]),
            rng_seed,
            access_list: access_list.reader(),
            peers_per_ip: None,
            reporting: Reporting::default(),
        };
        let seeds = 0..shards as u64;
        Self {
            shards: seeds
                .map(|seed| AddressShard::new(counts_clients, None, settings, parts(seed)))
                .collect(),
            key: ShardKey::new(std::array::from_fn(|at| u8::try_from(at).unwrap())),
        }
    }

    pub(super) fn announce<K: PeerAddr>(
        &mut self,
        number: u32,
        peer: K,
        status: PeerStatus,
        completed: bool,
    ) {
        let (info_hash, deadline) = (info_hash(number), Now::default().seconds + PEER_AGE_SECONDS);
        let announce = Announce {
            peer,
            status,
            completed,
            num_want: 0,
        };
        let shard = self.key.shard_of(&info_hash, self.shards.len());
        let client = *b"-TR4060-";
        in_each!(&mut self.shards[shard], swarms => {
            let key = swarms.key(info_hash);
            let outcome = swarms.announce(deadline, &key, client, &announce, |_| ());
            outcome.unwrap();
        });
    }

    /// So many seeders and leechers of each family.
    pub(super) fn fill(&mut self, number: u32, v4: [u16; 2], v6: [u16; 2]) {
        for port in 1..=v4[0] + v4[1] {
            let peer = CompactV4::new([192, 0, 2, 1].into(), port);
            self.announce(number, peer, status(port <= v4[0]), false);
        }
        for port in 1..=v6[0] + v6[1] {
            let peer = CompactV6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), port);
            self.announce(number, peer, status(port <= v6[0]), false);
        }
    }

    /// The tracker, in which each worker owns a shard.
    pub(super) fn start(self) -> Tracker {
        let wakers: Vec<_> = (0..=self.shards.len())
            .map(|_| waker_pair(|| ()).1)
            .collect();
        let topology = Topology::Split {
            socket_workers: 1,
            swarm_workers: self.shards.len(),
        };
        let mut set = ShardSet::new(self.key, topology, &wakers, self.shards);
        let readers = ShardReaders::attach(&mut set);
        Tracker {
            readers,
            workers: set.into_owners().swarm_workers,
        }
    }
}

fn status(is_seeder: bool) -> PeerStatus {
    match is_seeder {
        true => PeerStatus::Seeder,
        false => PeerStatus::Leecher,
    }
}

pub(super) struct Tracker {
    pub(super) readers: ShardReaders<AddressShard>,
    pub(super) workers: Vec<SwarmWorker<AddressShard>>,
}

impl Tracker {
    /// Lets the workers work until `act` is over, in another thread.
    pub(super) fn while_working<R: Send>(&mut self, act: impl FnOnce() -> R + Send) -> R {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                let result = act();
                is_over.store(true, Ordering::Relaxed);
                result
            });
            while !acting.is_finished() && !is_over.load(Ordering::Relaxed) {
                self.work();
                thread::yield_now();
            }
            acting.join().unwrap()
        })
    }

    /// A round of each worker.
    pub(super) fn work(&mut self) {
        for worker in &mut self.workers {
            worker.maintain(Now::default());
        }
    }
}
