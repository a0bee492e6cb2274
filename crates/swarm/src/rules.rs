//! What holds for all swarms of a map.

use crate::hash::{HashKey, PeerKey};
use crate::outcome::Limits;

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
