//! Taking in what other trackers tell.

use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_swarm::{Applied, BoundedMaps as _, PeerPolicy, Refusal, Told, TorrentKey};
use aquatic_types::CompactAddr;

use super::memory::network_of;
use super::{AddressSwarms, AddressTag, PeerAddr, has_left, ip_of};
use crate::shard::client_stats::{ClientTable, PeerTag};

aquatic_daemon::labels! {
    /// What became of something that another tracker has told of a peer.
    pub enum Taken {
        /// It has changed something.
        Applied = "applied",
        /// It was known, or something newer.
        Known = "known",
        /// Its torrent is not allowed here.
        Forbidden = "forbidden",
        /// There is no room for the peer.
        Full = "full",
        /// No tracker can have meant this.
        Invalid = "invalid",
    }
}

impl<V: AddressTag> AddressSwarms<V> {
    /// Takes in what another tracker has told of a peer. Which client it is, is not known unless it
    /// announces here. It counts among the peers of its address, but is never one too many:
    /// that was decided where it has announced.
    pub fn apply<K: PeerAddr>(&mut self, now: Now, key: &TorrentKey, told: &Told<K>) -> Taken {
        if !self.maps.access_list.is_allowed(&key.info_hash()) {
            return Taken::Forbidden;
        }
        let mut outcome = self.try_apply(now, key, told);
        let network = network_of(&told.peer);
        let is_full = |swarms: &Self| K::swarms(&swarms.maps.swarms).is_full();
        if matches!(outcome, Err(Refusal::MemoryLimit)) && self.make_room(network, key, is_full) {
            outcome = self.try_apply(now, key, told);
        }
        match outcome {
            Ok(Applied::Added) => {
                self.note_added(network);
                Taken::Applied
            }
            Ok(Applied::Updated) => Taken::Applied,
            Ok(Applied::Removed(tag)) => {
                let peers_per_ip = self.maps.peers_per_ip.as_deref();
                has_left(&mut self.maintenance.clients, peers_per_ip, &told.peer, tag);
                Taken::Applied
            }
            Ok(Applied::Nothing) => Taken::Known,
            Ok(Applied::NotAdded) | Err(_) => Taken::Full,
        }
    }

    fn try_apply<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        told: &Told<K>,
    ) -> Result<Applied<V>, Refusal> {
        let policy = &mut OfOthers {
            clients: &mut self.maintenance.clients,
            peers_per_ip: self.maps.peers_per_ip.as_deref(),
        };
        K::swarms_mut(&mut self.maps.swarms).apply(now.seconds, key, told, policy)
    }
}

/// Who may come in of those who have announced elsewhere: everybody.
struct OfOthers<'a> {
    clients: &'a mut ClientTable,
    peers_per_ip: Option<&'a PerClientLimit>,
}

impl<K: CompactAddr, V: PeerTag> PeerPolicy<K, V> for OfOthers<'_> {
    fn admit(&mut self, peer: &K) -> Option<V> {
        if let Some(limit) = self.peers_per_ip {
            limit.count(ip_of(peer));
        }
        Some(V::count_unknown(self.clients))
    }

    fn update(&mut self, _: &mut V) {}
}
