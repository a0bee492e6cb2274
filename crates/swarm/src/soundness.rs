//! What every operation relies on, for tests to check after each.

use crate::TorrentMap;
use crate::hash::PeerKey;
use crate::peer::Peer;
use crate::swarm::Swarm;

impl<K: PeerKey + std::fmt::Debug, V> TorrentMap<K, V> {
    /// Checks everything that the operations rely on.
    pub(crate) fn assert_sound(&self) {
        let torrents = || (0..self.torrents.len()).map(|at| self.torrents.get(at).unwrap());
        let hashes: Vec<_> = torrents()
            .map(|torrent| self.key(torrent.info_hash).hash)
            .collect();
        self.index.assert_sound(&hashes);
        let peers: u32 = torrents().map(|torrent| torrent.swarm.len()).sum();
        assert_eq!(self.peers, peers as usize);
        self.assert_bytes_sound();
        for torrent in torrents() {
            let swarm = &torrent.swarm;
            assert!(swarm.seeders() <= swarm.len());
            let all = || (0..swarm.len()).map(|at| swarm.get(at).unwrap());
            let hash_of = |peer: &Peer<K, V>| self.rules.peer_hash(&peer.key);
            match swarm {
                Swarm::Inline { .. } => assert!(swarm.len() <= 2),
                Swarm::List { .. } => assert!((2..=64).contains(&swarm.len())),
                Swarm::Large(large) => {
                    assert!(swarm.len() > 32);
                    large
                        .index
                        .assert_sound(&all().map(hash_of).collect::<Vec<_>>());
                }
            }
            for (at, peer) in (0..).zip(all()) {
                assert_eq!(
                    swarm.find(&peer.key, &self.rules),
                    Some(at),
                    "twice the same peer"
                );
            }
        }
    }
}
