//! Hashing with a secret: strangers choose the keys of our tables.

use std::fmt::{self, Debug, Formatter};

use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash};
use siphasher::sip::SipHasher13;

/// What names a peer within a swarm: its compact address (UDP, HTTP) or its connection and peer id
/// (WebTorrent).
pub trait PeerKey: Copy + Eq {
    /// The bytes that tell this peer from any other.
    fn as_bytes(&self) -> &[u8];

    /// The network from which it announces: whoever owns that can announce any number of peers.
    /// Peers without one are never too many of one network.
    fn network(&self) -> Option<u64> {
        None
    }

    /// What tells it from most others of its network: they may choose it so that it does not.
    fn within_network(&self) -> u64 {
        0
    }
}

impl PeerKey for CompactV4 {
    fn as_bytes(&self) -> &[u8] {
        CompactAddr::as_bytes(self)
    }

    /// The IPv4 address.
    fn network(&self) -> Option<u64> {
        let [ip @ .., _, _] = self.0;
        Some(u64::from(u32::from_ne_bytes(ip)))
    }

    /// The port.
    fn within_network(&self) -> u64 {
        let [.., high, low] = self.0;
        u64::from(u16::from_ne_bytes([high, low]))
    }
}

impl PeerKey for CompactV6 {
    fn as_bytes(&self) -> &[u8] {
        CompactAddr::as_bytes(self)
    }

    /// The first 64 bits of the IPv6 address: a customer of a provider has all the rest.
    fn network(&self) -> Option<u64> {
        let [network @ .., _, _, _, _, _, _, _, _, _, _] = self.0;
        Some(u64::from_be_bytes(network))
    }

    /// The rest of the address, and the port.
    fn within_network(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, host @ .., high, low] = self.0;
        let port = u16::from_ne_bytes([high, low]);
        u64::from_ne_bytes(host) ^ u64::from(port).rotate_left(32)
    }
}

/// The secret of the hash tables, drawn at random when the daemon starts.
///
/// Info hashes and peer ids are chosen by whoever announces. Whoever could foresee their hashes
/// could make them collide and turn each look-up into a scan. SipHash-1-3 with a secret key denies
/// them that.
///
/// Maps that share one `HashKey` can share [`TorrentKey`]s. Do not derive the shard of a torrent
/// from this hash as well: each shard would then see hashes that agree in some bits.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 2]);

impl HashKey {
    /// `secret` must be unpredictable to strangers.
    #[must_use]
    pub const fn new(secret: [u64; 2]) -> Self {
        Self(secret)
    }

    /// Hashes an info hash once for all that a request will do with it.
    #[must_use]
    pub fn torrent(&self, info_hash: InfoHash) -> TorrentKey {
        TorrentKey {
            info_hash,
            hash: self.hash(&info_hash.0),
        }
    }

    pub(crate) fn peer<K: PeerKey>(&self, key: &K) -> u64 {
        self.hash(key.as_bytes())
    }

    /// Hashes a peer so that the lower half of the hash is that of its network.
    ///
    /// Whoever owns the network can make its peers collide in the upper half, too. That is no use
    /// where there cannot be many, so a multiplication is enough to scatter them.
    pub(crate) fn peer_of_network<K: PeerKey>(&self, key: &K, network: u64) -> u64 {
        const LOWER_HALF: u64 = 0xffff_ffff;
        // Four bytes are hashed faster than eight.
        let hash = match u32::try_from(network) {
            Ok(network) => self.hash(&network.to_ne_bytes()),
            Err(_) => self.hash(&network.to_ne_bytes()),
        };
        let scattered = key.within_network().wrapping_mul(self.multiplier());
        (hash ^ scattered) & !LOWER_HALF | hash & LOWER_HALF
    }

    /// Hashes a network, to count its peers.
    pub(crate) fn network(&self, network: u64) -> u64 {
        self.hash(&network.to_ne_bytes())
    }

    /// A secret odd number, to scatter numbers by a multiplication where a collision costs only
    /// time.
    pub(crate) fn multiplier(&self) -> u64 {
        const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
        let [first, _] = self.0;
        first ^ GOLDEN_RATIO | 1
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let [first, second] = self.0;
        SipHasher13::new_with_keys(first, second).hash(bytes)
    }
}

impl Debug for HashKey {
    /// Keeps the secret.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

/// An info hash together with its keyed hash. Made by [`HashKey::torrent`] or
/// [`TorrentMap::key`](crate::TorrentMap::key).
#[derive(Clone, Copy, Debug)]
pub struct TorrentKey {
    pub(crate) info_hash: InfoHash,
    pub(crate) hash: u64,
}

impl TorrentKey {
    /// The torrent that is meant.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey::new([0x0123_4567_89ab_cdef, 7]);

    fn v6(network: [u8; 8], host: [u8; 8], port: u16) -> CompactV6 {
        let ip = [network, host].concat();
        CompactV6::new(<[u8; 16]>::try_from(ip).unwrap().into(), port)
    }

    /// Of numbers, each of the upper 32 bits is set in about half.
    #[track_caller]
    fn assert_scattered(hashes: &[u64]) {
        for bit in 32..64 {
            let set = hashes.iter().filter(|hash| *hash >> bit & 1 == 1).count();
            let percent = set * 100 / hashes.len();
            assert!((40..=60).contains(&percent), "bit {bit}: {percent} %");
        }
    }

    #[test]
    fn keys_without_an_address_have_no_network() {
        #[derive(Clone, Copy, PartialEq, Eq)]
        struct Name([u8; 4]);
        impl PeerKey for Name {
            fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }
        let name = Name([1; 4]);
        assert_eq!(name.network(), None);
        assert_eq!(name.within_network(), 0);
    }

    #[test]
    fn an_ipv4_network_is_an_address() {
        let of = |ip: [u8; 4], port| {
            let peer = CompactV4::new(ip.into(), port);
            (peer.network().unwrap(), peer.within_network())
        };
        let (network, within) = of([192, 0, 2, 1], 6_881);
        assert_eq!(network, of([192, 0, 2, 1], 1).0);
        assert_ne!(within, of([192, 0, 2, 1], 1).1);
        assert_ne!(network, of([192, 0, 2, 2], 6_881).0);
        assert_eq!(within, of([192, 0, 2, 2], 6_881).1);
    }

    #[test]
    fn an_ipv6_network_is_64_bits() {
        let peer = v6([0x20, 1, 0x0d, 0xb8, 0, 7, 0, 1], [9; 8], 1);
        let neighbour = v6([0x20, 1, 0x0d, 0xb8, 0, 7, 0, 2], [9; 8], 1);
        let stranger = v6([0x20, 2, 0x0d, 0xb8, 0, 7, 0, 1], [9; 8], 1);
        assert_ne!(peer.network(), neighbour.network());
        assert_ne!(peer.network(), stranger.network());
        assert_eq!(
            peer.network(),
            v6([0x20, 1, 0x0d, 0xb8, 0, 7, 0, 1], [1; 8], 2).network()
        );
    }

    #[test]
    fn all_of_an_address_is_hashed() {
        let peer = v6([1; 8], [2; 8], 3);
        assert_eq!(PeerKey::as_bytes(&peer), peer.0);
        let peer = CompactV4::new([192, 0, 2, 1].into(), 6_881);
        assert_eq!(PeerKey::as_bytes(&peer), peer.0);
    }

    #[test]
    fn host_and_port_tell_peers_of_an_ipv6_network_apart() {
        for host in [0, 0x5a, 0xff] {
            let within = |host, port| v6([1; 8], host, port).within_network();
            let first = within([host; 8], 6_881);
            for bit in 0..16 {
                assert_ne!(first, within([host; 8], 6_881 ^ 1 << bit));
            }
            for bit in 0..64 {
                let other = u64::from_ne_bytes([host; 8]) ^ 1 << bit;
                assert_ne!(first, within(other.to_ne_bytes(), 6_881));
            }
        }
    }

    #[test]
    fn peers_of_a_network_share_the_lower_half_of_their_hashes() {
        let lower_half = |hash| hash & 0xffff_ffff;
        let hashes = |ip: [u8; 4]| -> Vec<u64> {
            let peers = (0..=u16::MAX).map(|port| CompactV4::new(ip.into(), port));
            let hash = |peer: CompactV4| KEY.peer_of_network(&peer, peer.network().unwrap());
            peers.map(hash).collect()
        };
        let (some, others) = (hashes([192, 0, 2, 1]), hashes([192, 0, 2, 2]));
        assert!(
            some.iter()
                .all(|hash| lower_half(*hash) == lower_half(some[0]))
        );
        assert_ne!(lower_half(some[0]), lower_half(others[0]));
        assert_scattered(&some);
        assert_scattered(&others);

        let [wide, narrow] = [1 << 32 | 7, 7].map(|network| {
            let peer = CompactV4::new([192, 0, 2, 1].into(), 1);
            lower_half(KEY.peer_of_network(&peer, network))
        });
        assert_ne!(wide, narrow);
    }

    #[test]
    fn nobody_can_foresee_a_hash_without_the_key() {
        let other_key = HashKey::new([0x0123_4567_89ab_cdef, 8]);
        let hashes: Vec<u64> = (0..2_000).map(|network| KEY.network(network)).collect();
        assert_scattered(&hashes);
        let same =
            (0..2_000).filter(|network| KEY.network(*network) == other_key.network(*network));
        assert_eq!(same.count(), 0);

        let peers = (0..2_000).map(|port| CompactV4::new([192, 0, 2, 1].into(), port));
        assert_scattered(&peers.map(|peer| KEY.peer(&peer)).collect::<Vec<_>>());
        let info_hash = InfoHash([7; 20]);
        assert_eq!(KEY.torrent(info_hash).info_hash(), info_hash);
        assert_ne!(
            KEY.torrent(info_hash).hash,
            other_key.torrent(info_hash).hash
        );
    }

    #[test]
    fn multipliers_are_odd_and_depend_on_all_of_the_secret() {
        for secret in [0, 0x5a5a_5a5a_5a5a_5a5a, u64::MAX] {
            let multiplier = HashKey::new([secret, 1]).multiplier();
            assert_eq!(multiplier % 2, 1);
            for bit in 1..64 {
                let other = HashKey::new([secret ^ 1 << bit, 1]).multiplier();
                assert_eq!(other % 2, 1);
                assert_ne!(multiplier, other, "bit {bit}");
            }
        }
        assert_eq!(HashKey::new([1, 1]).multiplier() % 2, 1);
    }
}
