//! Writing the swarms down, and taking them in again.

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_swarm::{Applied, BoundedMaps as _, PeerPolicy, Told};
use aquatic_swarm_log::Contents;
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily};

use super::memory::network_of;
use super::{AddressSwarms, AddressTag, PeerAddr, ip_of};
use crate::persistence::persistent::{Entry, Persistent, Records, Restored};
use crate::shard::client_stats::{ClientTable, PeerTag};

impl<V: AddressTag> Persistent for AddressSwarms<V> {
    const MAPS: usize = IpFamily::ALL.len();

    fn snapshot(&mut self, now: Now, map: usize, budget: usize, records: &mut Records) -> bool {
        let swarms = &mut self.maps.swarms;
        match map {
            0 => swarms.v4.snapshot(now.seconds, budget, &mut records.v4()),
            _ => swarms.v6.snapshot(now.seconds, budget, &mut records.v6()),
        }
    }

    fn abandon_snapshot(&mut self) {
        self.maps.swarms.v4.abandon_snapshot();
        self.maps.swarms.v6.abandon_snapshot();
    }

    fn accepts(contents: Contents) -> bool {
        matches!(contents, Contents::Swarms | Contents::Completed)
    }

    fn restore(&mut self, now: Now, entry: Entry) -> Restored {
        match entry {
            Entry::PeerV4(info_hash, told) => self.restore_peer(now, info_hash, &told),
            Entry::PeerV6(info_hash, told) => self.restore_peer(now, info_hash, &told),
            Entry::CompletedV4(count) => {
                self.restore_completed::<CompactV4>(now, count.info_hash, count.downloads)
            }
            Entry::CompletedV6(count) => {
                self.restore_completed::<CompactV6>(now, count.info_hash, count.downloads)
            }
            Entry::CompletedWebTorrent(_) => Restored::Nothing,
        }
    }
}

impl<V: AddressTag> AddressSwarms<V> {
    /// Takes a peer in, as if it had announced. Its client is not known until it does.
    fn restore_peer<K: PeerAddr>(
        &mut self,
        now: Now,
        info_hash: InfoHash,
        told: &Told<K>,
    ) -> Restored {
        let key = self.key(info_hash);
        let policy = &mut UnknownClient {
            clients: &mut self.maintenance.clients,
            peers_per_ip: self.maps.peers_per_ip.as_deref(),
        };
        let swarms = K::swarms_mut(&mut self.maps.swarms);
        match swarms.apply(now.seconds, &key, told, policy) {
            Ok(Applied::Added) => {
                self.note_added(network_of(&told.peer));
                Restored::Yes
            }
            Ok(Applied::Updated) => Restored::Yes,
            Ok(Applied::NotAdded) => Restored::NotAdded,
            Ok(Applied::Nothing | Applied::Removed(_)) => Restored::Nothing,
            Err(refusal) => Restored::Refused(refusal),
        }
    }

    fn restore_completed<K: PeerAddr>(
        &mut self,
        now: Now,
        info_hash: InfoHash,
        downloads: u32,
    ) -> Restored {
        let until = now.seconds + self.peer_age_seconds_max;
        let swarms = K::swarms_mut(&mut self.maps.swarms);
        match swarms.apply_completed(info_hash, downloads, until) {
            Ok(()) => Restored::Yes,
            Err(refusal) => Restored::Refused(refusal),
        }
    }
}

/// Who may come in of those that were written down.
struct UnknownClient<'a> {
    clients: &'a mut ClientTable,
    peers_per_ip: Option<&'a PerClientLimit>,
}

impl<K: CompactAddr, V: PeerTag> PeerPolicy<K, V> for UnknownClient<'_> {
    fn admit(&mut self, peer: &K) -> Option<V> {
        let is_admitted = |limit: &PerClientLimit| limit.admit(ip_of(peer));
        let is_admitted = self.peers_per_ip.is_none_or(is_admitted);
        is_admitted.then(|| V::count_unknown(self.clients))
    }

    fn update(&mut self, _: &mut V) {}
}
