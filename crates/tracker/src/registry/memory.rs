//! What a registry does when its memory is used up: see [`aquatic_swarm::Room`].

use aquatic_swarm::{Among, GivenWay, PeerKey, TorrentKey};
use aquatic_types::{CompactV4, CompactV6, IpFamily};

use super::{PeerAddr, Registry};
use crate::clients::PeerTag;

/// Searches for one announce. The first one is enough, but where the room for one swarm that grows
/// has to be put together from many torrents.
const SEARCHES_MAX: usize = 4;

impl<V: PeerTag> Registry<V> {
    /// Lets each family know what the other one leaves of the memory, and counts whose peers there
    /// are while it is scarce.
    pub(super) fn share_memory(&mut self) {
        let (v4, v6) = (self.swarms.v4.bytes(), self.swarms.v6.bytes());
        self.swarms.v4.set_bytes_max(self.room.beside(v6));
        self.swarms.v6.set_bytes_max(self.room.beside(v4));
        if self.room.becomes_scarce(v4 + v6) {
            self.swarms.v4.all_are_old();
            self.swarms.v6.all_are_old();
        }
    }

    /// Has torrents give way to a peer, of whatever family: whether there is room for it now.
    #[cold]
    pub(super) fn make_room<K: PeerAddr>(&mut self, peer: &K, key: &TorrentKey) -> bool {
        self.share_memory();
        let Some(least) = self.room.displaces(network_of(peer)) else {
            return false;
        };
        for _ in 0..SEARCHES_MAX {
            let given_way = self.give_way(key, least);
            self.room.searched(given_way.heaviest);
            self.share_memory();
            if !K::swarms(&self.swarms).is_full() {
                return true;
            }
            if given_way.removed == 0 {
                return false;
            }
        }
        false
    }

    /// One search: first in the larger family, and in the other one if nobody goes there.
    fn give_way(&mut self, key: &TorrentKey, least: u32) -> GivenWay {
        let v4_is_larger = self.swarms.v4.bytes() >= self.swarms.v6.bytes();
        let order = match v4_is_larger {
            true => [IpFamily::V4, IpFamily::V6],
            false => [IpFamily::V6, IpFamily::V4],
        };
        let mut all = GivenWay::default();
        for among in Among::IN_ORDER {
            for family in order {
                if all.removed == 0 {
                    all = all.and(match family {
                        IpFamily::V4 => self.give_way_in::<CompactV4>(among, key, least),
                        IpFamily::V6 => self.give_way_in::<CompactV6>(among, key, least),
                    });
                }
            }
            if all.is_enough() {
                break;
            }
        }
        all
    }

    fn give_way_in<K: PeerAddr>(&mut self, among: Among, key: &TorrentKey, least: u32) -> GivenWay {
        let Self {
            swarms,
            rng,
            doorkeeper,
            room,
            evicted,
            ..
        } = self;
        let mut peers = 0;
        let given_way = K::swarms_mut(swarms).give_way(
            among,
            key,
            least,
            rng,
            |peer, _| room.count(network_of(peer)),
            |peer, tag| {
                peers += 1;
                doorkeeper.has_left(peer, tag);
            },
        );
        *evicted.get_mut(K::FAMILY) += peers;
        given_way
    }
}

/// By what a peer's share of the memory is counted.
pub(super) fn network_of<K: PeerKey>(peer: &K) -> u64 {
    peer.wide_network().unwrap_or_default()
}
