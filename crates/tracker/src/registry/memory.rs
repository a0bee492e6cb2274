//! What a registry does when its memory is used up: see [`aquatic_swarm::Room`].

use aquatic_swarm::{Among, BoundedMaps, GivenWay, PeerKey, Room, Terms, TorrentKey};
use aquatic_types::{CompactV4, CompactV6, IpFamily, site_or_client};

use super::{PeerAddr, Registry};
use crate::clients::PeerTag;

impl<V: PeerTag> BoundedMaps for Registry<V> {
    fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    fn share_memory(&mut self) {
        let (v4, v6) = (self.swarms.v4.bytes(), self.swarms.v6.bytes());
        self.swarms.v4.set_bytes_max(self.room.beside(v6));
        self.swarms.v6.set_bytes_max(self.room.beside(v4));
        if self.room.becomes_scarce(v4 + v6) {
            self.swarms.v4.all_are_old();
            self.swarms.v6.all_are_old();
        }
    }

    fn peers(&self) -> usize {
        self.swarms.v4.peers() + self.swarms.v6.peers()
    }

    /// First in the larger family, and in the other one if nobody goes there.
    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay {
        let v4_is_larger = self.swarms.v4.bytes() >= self.swarms.v6.bytes();
        let order = match v4_is_larger {
            true => [IpFamily::V4, IpFamily::V6],
            false => [IpFamily::V6, IpFamily::V4],
        };
        let mut all = GivenWay::default();
        for family in order {
            if all.removed == 0 {
                all = all.and(match family {
                    IpFamily::V4 => self.give_way_in::<CompactV4>(among, except, terms),
                    IpFamily::V6 => self.give_way_in::<CompactV6>(among, except, terms),
                });
            }
        }
        all
    }
}

impl<V: PeerTag> Registry<V> {
    fn give_way_in<K: PeerAddr>(
        &mut self,
        among: Among,
        except: &TorrentKey,
        terms: Terms,
    ) -> GivenWay {
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
            except,
            terms,
            rng,
            |peer, _| room.count(network_of(peer)),
            |_, peer, tag| {
                peers += 1;
                doorkeeper.has_left(peer, tag);
            },
        );
        *evicted.get_mut(K::FAMILY) += peers;
        given_way
    }
}

/// By what a peer's share of the memory is counted: its IPv4 address, or its IPv6 site.
pub(super) fn network_of<K: PeerKey>(peer: &K) -> u64 {
    site_or_client(peer.network().unwrap_or_default())
}
