//! What a relay does when its memory is used up: see [`aquatic_swarm::Room`]. Pure.

use std::net::IpAddr;

use aquatic_swarm::{Among, BoundedMaps, GivenWay, Room, TorrentKey};
use aquatic_tracker::clients::PeerTag;

use crate::relay::TaggedRelay;

/// What the book of a connection takes for each of its peers, with the room that it grows into: see
/// [`Membership`](crate::membership::Membership).
const MEMBER_BYTES: usize = 64;

/// A peer that gives way is in the book of its connection until it leaves, or announces again, when
/// it comes back or is refused: connections are not told.
impl<V: PeerTag> BoundedMaps for TaggedRelay<V> {
    fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    fn share_memory(&mut self) {
        let beside_swarms = self.swarms.peers() * MEMBER_BYTES + self.census.offer_bytes();
        self.swarms.set_bytes_max(self.room.beside(beside_swarms));
        let bytes = self.swarms.bytes() + beside_swarms;
        if self.room.becomes_scarce(bytes) {
            self.swarms.all_are_old();
        }
    }

    fn give_way(&mut self, among: Among, except: &TorrentKey, least: u32) -> GivenWay {
        let Self {
            swarms,
            rng,
            census,
            room,
            ..
        } = self;
        swarms.give_way(
            among,
            except,
            least,
            rng,
            |_, peer| room.count(peer.network.into()),
            |_, peer| census.gives_way(&peer),
        )
    }
}

/// By what a peer's share of the memory is counted: its IPv4 address, or the first 48 bits of its
/// IPv6 address, which are what a site gets from its provider (RFC 6177); in 32 bits, since a peer
/// has so many to spare. An IPv6 network may have the number of another one by chance, and those
/// that one stranger can choose from are too few to be that of somebody he dislikes.
#[must_use]
pub(crate) fn network_of(ip: IpAddr) -> u32 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    match ip {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments().map(u64::from);
            let network = a << 32 | b << 16 | c;
            (network.wrapping_mul(GOLDEN_RATIO) >> 32 & 0xffff_ffff) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_or_sites() {
        let network = |ip: &str| network_of(ip.parse().unwrap());
        assert_eq!(network("192.0.2.1"), 0xc000_0201);
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8:1::1"), network("2001:db8:1:ffff::2"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
    }
}
