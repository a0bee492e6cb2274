//! What a shard shows to those who [read](super::reading) its torrents.

use std::net::SocketAddr;

use aquatic_daemon::clock::Now;
use aquatic_swarm::{Counts, WalkCursor};
use aquatic_types::{InfoHash, IpFamily, PerFamily};

use crate::shard::Shard;
use crate::shard::client_stats::{ClientPrefix, ClientStats};

/// A shard whose torrents can be looked at.
pub trait Readable: Shard {
    /// The maps that its torrents are in: a torrent can be in several.
    const MAPS: usize;

    /// The family under which a line of text shows what is in this map, below [`Self::MAPS`].
    fn family(map: usize) -> IpFamily;

    /// Shows about `budget` torrents of one map, and says whether all have been shown: see
    /// [`TorrentMap::walk`](aquatic_swarm::TorrentMap::walk).
    fn walk(
        &self,
        map: usize,
        cursor: &mut WalkCursor,
        budget: usize,
        show: impl FnMut(&InfoHash, Counts),
    ) -> bool;

    /// How large the swarms of a torrent are; zeros if it is unknown.
    fn counts(&self, info_hash: &InfoHash) -> TorrentCounts;

    /// The same of a torrent that was met in this map with these counts: only the others are looked
    /// at.
    fn counts_besides(&self, map: usize, info_hash: &InfoHash, counts: Counts) -> TorrentCounts;

    /// Shows up to `peers_max` living peers of a torrent: of each of its swarms in turn, seeders
    /// first.
    fn peers(
        &self,
        now: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        show: impl FnMut(TorrentPeer),
    );
}

/// How large the swarms of a torrent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorrentCounts {
    /// Each IP family has a swarm of its own, in a map of its own: first that of IPv4.
    ByFamily(PerFamily<Counts>),
    /// Both have one.
    Whole(Counts),
}

impl TorrentCounts {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> Counts {
        match self {
            Self::ByFamily(PerFamily { v4, v6 }) => *v4 + *v6,
            Self::Whole(counts) => *counts,
        }
    }

    /// Whether there is neither a peer nor a completed download.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total() == Counts::default()
    }

    /// The map where there is most, by `value`; of several the first.
    #[must_use]
    pub fn main_map(&self, value: impl Fn(Counts) -> u32) -> usize {
        match self {
            Self::ByFamily(PerFamily { v4, v6 }) => usize::from(value(*v6) > value(*v4)),
            Self::Whole(_) => 0,
        }
    }
}

/// A peer, as it is shown to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorrentPeer {
    /// The family of its address.
    pub family: IpFamily,
    /// Where other peers reach it; `None` if they meet by other means (WebTorrent).
    pub address: Option<SocketAddr>,
    /// Whether it has everything.
    pub is_seeder: bool,
    /// The beginning of its peer id, if that is known.
    pub client: Option<ClientPrefix>,
    /// For how many seconds it is remembered if it announces no more; `None`: as long as its
    /// connection.
    pub seconds_left: Option<u16>,
}

impl<S: Readable, C: Readable> Readable for ClientStats<S, C> {
    const MAPS: usize = S::MAPS;

    fn family(map: usize) -> IpFamily {
        S::family(map)
    }

    fn walk(
        &self,
        map: usize,
        cursor: &mut WalkCursor,
        budget: usize,
        show: impl FnMut(&InfoHash, Counts),
    ) -> bool {
        match self {
            Self::Off(shard) => shard.walk(map, cursor, budget, show),
            Self::On(shard) => shard.walk(map, cursor, budget, show),
        }
    }

    fn counts(&self, info_hash: &InfoHash) -> TorrentCounts {
        match self {
            Self::Off(shard) => shard.counts(info_hash),
            Self::On(shard) => shard.counts(info_hash),
        }
    }

    fn counts_besides(&self, map: usize, info_hash: &InfoHash, counts: Counts) -> TorrentCounts {
        match self {
            Self::Off(shard) => shard.counts_besides(map, info_hash, counts),
            Self::On(shard) => shard.counts_besides(map, info_hash, counts),
        }
    }

    fn peers(
        &self,
        now: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        show: impl FnMut(TorrentPeer),
    ) {
        match self {
            Self::Off(shard) => shard.peers(now, info_hash, peers_max, show),
            Self::On(shard) => shard.peers(now, info_hash, peers_max, show),
        }
    }
}
