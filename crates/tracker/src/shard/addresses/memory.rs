//! What swarms do when their memory is used up: see [`aquatic_swarm::Room`].

use aquatic_swarm::{Among, BoundedMaps, GivenWay, PeerKey, Room, Terms, TorrentKey};
use aquatic_types::{CompactV4, CompactV6, IpFamily, PerFamily, site_or_client};

use super::{AddressMaps, AddressSwarms, AddressTag, PeerAddr, Swarms, has_left};
use crate::shard::maintenance::Maintenance;

impl<V: AddressTag> BoundedMaps for AddressSwarms<V> {
    fn room(&mut self) -> &mut Room {
        &mut self.maintenance.room
    }

    fn share_memory(&mut self) {
        let Swarms { v4, v6 } = &mut self.maps.swarms;
        let room = &mut self.maintenance.room;
        let bytes = PerFamily {
            v4: v4.bytes(),
            v6: v6.bytes(),
        };
        v4.set_bytes_max(room.beside(bytes.v6));
        v6.set_bytes_max(room.beside(bytes.v4));
        if room.becomes_scarce(bytes.v4 + bytes.v6) {
            v4.all_are_old();
            v6.all_are_old();
        }
    }

    fn peers(&self) -> usize {
        self.maps.swarms.v4.peers() + self.maps.swarms.v6.peers()
    }

    /// First in the larger family, and in the other one if nobody goes there.
    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay {
        let v4_is_larger = self.maps.swarms.v4.bytes() >= self.maps.swarms.v6.bytes();
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

impl<V: AddressTag> AddressSwarms<V> {
    fn give_way_in<K: PeerAddr>(
        &mut self,
        among: Among,
        except: &TorrentKey,
        terms: Terms,
    ) -> GivenWay {
        let AddressMaps {
            swarms,
            peers_per_ip,
            ..
        } = &mut self.maps;
        let Maintenance {
            clients,
            room,
            evicted,
            ..
        } = &mut self.maintenance;
        let mut peers = 0;
        let given_way = K::swarms_mut(swarms).give_way(
            among,
            except,
            terms,
            &mut self.rng,
            |peer, _| room.count(network_of(peer)),
            |_, peer, tag| {
                peers += 1;
                has_left(clients, peers_per_ip.as_deref(), peer, tag);
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
