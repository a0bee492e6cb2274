//! What a shard does when its memory is used up: see [`aquatic_swarm::Room`].

use aquatic_swarm::{Among, BoundedMaps, GivenWay, Room, Terms, TorrentKey};
use aquatic_tracker::shard::client_stats::PeerTag;
use aquatic_tracker::shard::maintenance::Maintenance;

use super::SignallingSwarms;
use crate::members::Members;
use crate::memory::weighed_network;
use crate::messages::Evicted;
use crate::open_offers::KEPT_BYTES;

/// What the book of a connection takes for each of its peers, with the room that it grows into: see
/// [`Membership`](crate::membership::Membership).
const MEMBER_BYTES: usize = 64;

/// Each peer that gives way is [told of](crate::messages::Batch::evicted), so that it leaves the
/// book of its connection, too.
impl<V: PeerTag> BoundedMaps for SignallingSwarms<V> {
    fn room(&mut self) -> &mut Room {
        &mut self.maintenance.room
    }

    fn share_memory(&mut self) {
        let here = self.peers() - self.members.counts.others().min(self.peers());
        let swarms = &mut self.members.swarms;
        let room = &mut self.maintenance.room;
        let beside_swarms = swarms.peers() * KEPT_BYTES + here * MEMBER_BYTES;
        swarms.set_bytes_max(room.beside(beside_swarms));
        if room.becomes_scarce(swarms.bytes() + beside_swarms) {
            swarms.all_are_old();
        }
    }

    fn peers(&self) -> usize {
        self.members.swarms.peers()
    }

    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay {
        let Members { swarms, counts } = &mut self.members;
        let Maintenance {
            clients,
            room,
            evicted,
            ..
        } = &mut self.maintenance;
        swarms.give_way(
            among,
            except,
            terms,
            &mut self.rng,
            |key, _| room.count(weighed_network(key)),
            |info_hash, key, peer| {
                *evicted.get_mut(peer.family) += 1;
                counts.has_left(self.now, clients, (info_hash, key), &peer);
                // Another node's is not told: there, it may stay.
                if key.is_here() {
                    self.evicted.push(Evicted {
                        member: key.member(),
                        info_hash: *info_hash,
                        peer_id: key.peer_id(),
                    });
                }
            },
        )
    }
}
