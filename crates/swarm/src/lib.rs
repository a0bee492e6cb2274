//! In-memory BitTorrent swarm state: torrent map, peers, fair peer selection, expiry, counts.
//!
//! The heart of all aquatic trackers, in memory only, and pure: time, randomness and the hash key
//! come in as arguments. One [`TorrentMap`] is one shard, owned by one thread; there are no locks.
//! It is generic over what names a peer (compact address; connection and peer id for WebTorrent)
//! and over what is kept with a peer.
//!
//! ```
//! use aquatic_swarm::{Announce, HashKey, Keep, Limits, TorrentMap};
//! use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};
//!
//! let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
//! let mut rng = fastrand::Rng::with_seed(3);
//! let torrent = map.key(InfoHash([7; 20]));
//! let mut answer = Vec::new();
//! for host in 1..=3 {
//!     let announce = Announce {
//!         peer: CompactV4([192, 0, 2, host, 0x1a, 0xe1]),
//!         status: PeerStatus::Leecher,
//!         completed: false,
//!         num_want: 50,
//!     };
//!     answer.clear();
//!     let deadline = Seconds(1_200);
//!     let select = |peer: &CompactV4, (): &()| answer.push(*peer);
//!     map.announce(&torrent, &announce, deadline, &mut Keep(()), &mut rng, select)?;
//! }
//! assert_eq!(answer.len(), 2);
//! assert_eq!(map.scrape(&torrent).leechers, 3);
//! # Ok::<(), aquatic_swarm::Refusal>(())
//! ```
//!
//! # How it is built
//!
//! ```text
//! TorrentMap ── Index: hash → position      parts of cache-line buckets, 6 bytes per torrent
//!            └─ Segments: position → Torrent (48 bytes: info hash, completed, Swarm)
//!                                                    │
//!                  Swarm = up to 2 peers inline │ list of up to 64 │ large: Index + Segments
//! ```
//!
//! - [`TorrentMap::announce`], [`TorrentMap::introduce`], [`TorrentMap::scrape`]: in `torrent_map`
//! - [`TorrentMap::clean`], [`TorrentMap::walk`]: in `cleaning`, a slice at a time
//! - [`TorrentMap::snapshot`], [`TorrentMap::apply`]: what is written down, and what was
//! - when others are told again of a peer: in `refresh`
//! - [`TorrentMap::show_peers_of`]: in `inspection`
//! - who may come when memory is used up: in `room`, and who gives way: in `giving_way`
//! - who is handed out: in `selection`, and how many of one network: in `restraint`
//!
//! # What it does not do
//!
//! It does not know intervals, access lists, connection ids, numbers of peers per address over all
//! torrents, or metrics: whoever calls decides and counts, from outcomes ([`Announced`],
//! [`Refusal`], [`CleaningVisitor`]).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod apply;
mod bucket;
mod census;
mod cleaning;
#[cfg(test)]
mod fairness_test;
mod giving_way;
#[cfg(test)]
mod giving_way_test;
mod hash;
mod index;
mod inspection;
mod large;
mod large_sample;
#[cfg(test)]
mod memory_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod network_test;
mod outcome;
mod peer;
mod refresh;
mod restraint;
mod room;
mod rules;
mod segments;
mod selection;
mod snapshot;
#[cfg(test)]
mod snapshot_test;
#[cfg(test)]
mod soundness;
mod swarm;
mod torrent_map;

pub use apply::{Applied, Told};
pub use cleaning::{CleaningCursor, CleaningVisitor, WalkCursor};
pub use giving_way::{Among, BoundedMaps, GivenWay, Terms};
pub use hash::{HashKey, PeerKey, TorrentKey};
pub use outcome::{Announce, Announced, Counts, Keep, Limits, PeerChange, PeerPolicy, Refusal};
pub use refresh::{Previous, RefreshInterval};
pub use room::Room;
pub use snapshot::{LivePeer, SnapshotVisitor};
pub use torrent_map::{PREFETCH_BATCH, TorrentKeys, TorrentMap};

/// How far ahead a deadline may lie, and how long an expired peer may wait for cleaning: so
/// `max_peer_age` and the cleaning interval (with the time that a pass takes) must each stay below.
///
/// Deadlines are kept modulo 2^16 seconds and compared over distances below 2^15; this leaves a
/// margin of twelve minutes.
pub const PEER_AGE_MAX_SECONDS: u32 = 32_000;

/// The highest [`Limits::max_peers_per_network`]. The peers of a network are kept together in a
/// large swarm, in a part of its index that must not become too large to be rebuilt in one go.
pub const PEERS_PER_NETWORK_MAX: u16 = 1_000;
