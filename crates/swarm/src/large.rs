//! A swarm that is too large to be scanned.

use crate::hash::PeerKey;
use crate::index::{Index, Keys};
use crate::peer::Peer;
use crate::rules::Rules;
use crate::segments::Segments;

/// Peers in segments, and an index over their keys.
pub(crate) struct LargeSwarm<K, V> {
    pub(crate) peers: Segments<Peer<K, V>>,
    pub(crate) seeders: u32,
    pub(crate) index: Index,
}

impl<K: PeerKey, V> LargeSwarm<K, V> {
    pub(crate) fn new(seeders: u32) -> Self {
        Self {
            peers: Segments::new(),
            seeders,
            index: Index::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.peers.len()
    }

    /// Bytes that it takes: a little more rather than less.
    pub(crate) fn bytes(&self) -> usize {
        /// What grows step by step leaves gaps in the heap.
        const GAPS: usize = 640;

        size_of::<Self>() + self.peers.bytes() + self.index.bytes() + GAPS
    }

    pub(crate) fn get(&self, position: u32) -> Option<&Peer<K, V>> {
        self.peers.get(position)
    }

    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut Peer<K, V>> {
        self.peers.get_mut(position)
    }

    pub(crate) fn find(&self, key: &K, rules: &Rules) -> Option<u32> {
        let matches = |position| self.get(position).is_some_and(|peer| peer.key == *key);
        self.index.find(rules.peer_hash(key), matches)
    }

    /// Whether there are `many` peers or more of the announcer's network.
    pub(crate) fn has_as_many(&self, key: &K, network: u64, many: usize, rules: &Rules) -> bool {
        let is_one = |position| {
            let peer = self.get(position);
            peer.is_some_and(|peer| peer.key.network() == Some(network))
        };
        self.index.has_as_many(rules.peer_hash(key), many, is_one)
    }

    pub(crate) fn push(&mut self, peer: Peer<K, V>, rules: &Rules) -> Option<u32> {
        debug_assert_eq!(self.find(&peer.key, rules), None, "a peer is added once");
        let hash = rules.peer_hash(&peer.key);
        let position = self.peers.push(peer)?;
        self.index
            .insert(hash, position, &PeerKeys(&self.peers, rules));
        Some(position)
    }

    pub(crate) fn pop(&mut self, rules: &Rules) -> Option<Peer<K, V>> {
        let last = self.len().checked_sub(1)?;
        debug_assert!(last >= self.seeders, "a leecher is last");
        let keys = PeerKeys(&self.peers, rules);
        self.index.remove(keys.hash_at(last), last, &keys);
        self.peers.pop()
    }

    pub(crate) fn swap(&mut self, a: u32, b: u32, rules: &Rules) {
        let keys = PeerKeys(&self.peers, rules);
        let (hash_a, hash_b) = (keys.hash_at(a), keys.hash_at(b));
        // Through a position that no peer has: the two may have the same hash.
        self.index.reposition(hash_a, a, u32::MAX);
        self.index.reposition(hash_b, b, a);
        self.index.reposition(hash_a, u32::MAX, b);
        self.peers.swap(a, b);
    }
}

/// The keys that the index of a large swarm leads to.
struct PeerKeys<'a, K, V>(&'a Segments<Peer<K, V>>, &'a Rules);

impl<K: PeerKey, V> Keys for PeerKeys<'_, K, V> {
    type Key = K;

    fn key(&self, position: u32) -> Option<K> {
        self.0.get(position).map(|peer| peer.key)
    }

    fn hash(&self, key: &K) -> u64 {
        self.1.peer_hash(key)
    }
}
