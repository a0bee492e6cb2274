//! What holds for all swarms of a map.

use crate::hash::{HashKey, PeerKey};
use crate::outcome::Limits;
use crate::torrent_map::TorrentMap;

/// The secret and the limits of a [`TorrentMap`](crate::TorrentMap).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) hash_key: HashKey,
    pub(crate) limits: Limits,
}

impl Rules {
    /// The hash under which a large swarm keeps a peer.
    ///
    /// Where peers of a network are limited, its lower half is that of the network, so that they
    /// can be counted (see [`Index::has_as_many`](crate::index::Index::has_as_many)). Where they
    /// are not, one network's peers would all come together in one part of the index.
    pub(crate) fn peer_hash<K: PeerKey>(&self, key: &K) -> u64 {
        match (self.limits.max_peers_per_network, key.network()) {
            (Some(_), Some(network)) => self.hash_key.peer_of_network(key, network),
            _ => self.hash_key.peer(key),
        }
    }
}

impl<K, V> TorrentMap<K, V> {
    /// Other limits from now on. Who is there stays, also if they are lower.
    ///
    /// Whether the peers of a network are limited at all stays as it is: large swarms are indexed
    /// by it.
    pub fn set_limits(&mut self, limits: Limits) {
        let own = self.rules.limits.max_peers_per_network;
        self.rules.limits = Limits {
            max_peers_per_network: own.map(|own| limits.max_peers_per_network.unwrap_or(own)),
            ..limits
        };
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroUsize};

    use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus, Seconds};

    use super::*;
    use crate::{Announce, Keep, PeerChange, Refusal};

    struct World(TorrentMap<CompactV4>);

    impl World {
        fn limited_to(peers_per_network: u16) -> Limits {
            Limits {
                max_peers_per_network: NonZeroU16::new(peers_per_network),
                ..Limits::default()
            }
        }

        /// Whether a peer is in its swarm afterwards.
        fn joins(&mut self, torrent: u8, peer: CompactV4) -> Result<bool, Refusal> {
            let key = self.0.key(InfoHash([torrent; 20]));
            let announce = Announce {
                peer,
                status: PeerStatus::Leecher,
                completed: false,
                num_want: 0,
            };
            let rng = &mut fastrand::Rng::with_seed(1);
            let map = &mut self.0;
            let announced = map.announce(
                &key,
                &announce,
                Seconds(1_000),
                &mut Keep(()),
                rng,
                |_, ()| (),
            )?;
            Ok(announced.change != PeerChange::NotAdded)
        }

        /// How many peers of one network come in.
        fn crowd(&mut self, ports: std::ops::Range<u16>) -> usize {
            let ip = [198, 51, 100, 1].into();
            let joins = |port: &u16| self.joins(1, CompactV4::new(ip, *port)) == Ok(true);
            ports.filter(joins).count()
        }
    }

    /// Also in a swarm that is large enough for an index, which keeps all of its peers.
    #[test]
    fn the_limit_of_a_network_changes_while_its_peers_are_there() {
        for others in [0_u16, 1_000] {
            let mut world = World(TorrentMap::new(HashKey::new([1, 2]), World::limited_to(3)));
            let other = |number: u16| {
                let [high, low] = number.to_be_bytes();
                CompactV4::new([10, 0, high, low].into(), 1)
            };
            assert!((0..others).all(|it| world.joins(1, other(it)) == Ok(true)));
            assert_eq!(world.crowd(1..20), 3);
            world.0.set_limits(World::limited_to(5));
            assert_eq!(world.crowd(1..20), 5);
            world.0.set_limits(World::limited_to(2));
            assert_eq!(world.crowd(1..20), 5, "those that are there");
            assert_eq!(world.crowd(20..30), 0);
            // This cannot end.
            world.0.set_limits(Limits::default());
            assert_eq!(world.crowd(20..30), 0);
            assert_eq!(world.0.peers(), usize::from(others) + 5);
            assert!((0..others).all(|it| world.joins(1, other(it)) == Ok(true)));
            assert_eq!(world.0.peers(), usize::from(others) + 5, "all are known");
        }
    }

    #[test]
    fn a_limit_of_networks_does_not_begin_either() {
        let mut world = World(TorrentMap::new(HashKey::new([1, 2]), Limits::default()));
        assert_eq!(world.crowd(1..500), 499);
        world.0.set_limits(World::limited_to(3));
        assert_eq!(world.crowd(1..600), 599);
        assert_eq!(world.0.peers(), 599);
    }

    #[test]
    fn who_is_there_stays_when_limits_are_lowered() {
        let peer = |number: u8| CompactV4::new([10, 0, 0, number].into(), 1);
        let mut world = World(TorrentMap::new(HashKey::new([1, 2]), Limits::default()));
        for torrent in 1..=3 {
            assert_eq!(world.joins(torrent, peer(1)), Ok(true));
        }
        world.0.set_limits(Limits {
            max_torrents: NonZeroUsize::new(2),
            ..Limits::default()
        });
        assert_eq!(world.joins(4, peer(1)), Err(Refusal::TorrentLimit));
        assert_eq!(world.joins(3, peer(1)), Ok(true));
        assert_eq!(world.joins(3, peer(2)), Ok(true));
        world.0.set_limits(Limits {
            max_peers: NonZeroUsize::new(4),
            ..Limits::default()
        });
        assert_eq!(world.joins(3, peer(3)), Err(Refusal::PeerLimit));
        assert_eq!(world.joins(3, peer(2)), Ok(true));
        world.0.set_limits(Limits::default());
        assert_eq!(world.joins(4, peer(3)), Ok(true));
    }
}
