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

    /// The network that is looked at where it matters who holds most of the memory, if this key
    /// tells: a larger one than [`Self::network`] where that costs nothing to speak of.
    fn wide_network(&self) -> Option<u64> {
        self.network()
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

    /// The first 48 bits: what a site gets from its provider (RFC 6177).
    fn wide_network(&self) -> Option<u64> {
        self.network().map(|network| network >> 16)
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
