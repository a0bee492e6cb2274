//! What a relay does when its memory is used up: see [`aquatic_swarm::Room`]. Pure.
//!
//! A part of it is for open offers, beyond those for which every peer has room: so neither can
//! those who fill swarms keep others from answering, nor can those who offer much keep others out
//! of swarms.

use std::num::NonZeroUsize;

use aquatic_swarm::{Among, BoundedMaps, GivenWay, Room, Terms, TorrentKey};
use aquatic_tracker::clients::PeerTag;
use aquatic_types::site_or_client;

use crate::messages::{Evicted, MemberKey};
use crate::open_offers::KEPT_BYTES;
use crate::relay::TaggedRelay;

/// The part of the memory that open offers may take: one of so many.
const OFFERS_PART: usize = 8;

/// What the book of a connection takes for each of its peers, with the room that it grows into: see
/// [`Membership`](crate::membership::Membership).
const MEMBER_BYTES: usize = 64;

/// Each peer that gives way is [told of](crate::messages::Batch::evicted), so that it leaves the
/// book of its connection, too.
impl<V: PeerTag> BoundedMaps for TaggedRelay<V> {
    fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    fn share_memory(&mut self) {
        let per_peer = MEMBER_BYTES + KEPT_BYTES;
        let beside_swarms = self.swarms.peers() * per_peer;
        self.swarms.set_bytes_max(self.room.beside(beside_swarms));
        let bytes = self.swarms.bytes() + beside_swarms;
        if self.room.becomes_scarce(bytes) {
            self.swarms.all_are_old();
        }
    }

    fn peers(&self) -> usize {
        self.swarms.peers()
    }

    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay {
        let Self {
            swarms,
            rng,
            census,
            room,
            evicted,
            ..
        } = self;
        swarms.give_way(
            among,
            except,
            terms,
            rng,
            |key, _| room.count(weighed_network(key)),
            |info_hash, key, peer| {
                census.gives_way(&peer);
                evicted.push(Evicted {
                    member: key.member(),
                    info_hash: *info_hash,
                    peer_id: key.peer_id(),
                });
            },
        )
    }
}

/// What open offers may take of so many bytes.
pub(crate) fn bytes_for_offers(bytes_max: NonZeroUsize) -> usize {
    bytes_max.get() / OFFERS_PART
}

/// What is left of so many bytes for swarms, and the books of their peers.
pub(crate) fn bytes_for_swarms(bytes_max: NonZeroUsize) -> NonZeroUsize {
    let bytes = bytes_max.get() - bytes_for_offers(bytes_max);
    NonZeroUsize::new(bytes).unwrap_or(bytes_max)
}

/// By what a peer's share of the memory is counted: its IPv4 address, or its IPv6 site.
pub(crate) fn weighed_network(key: &MemberKey) -> u64 {
    site_or_client(key.network_number())
}
