//! What goes into an announce and what comes out.

use std::fmt::{self, Display, Formatter};
use std::num::NonZeroUsize;

use aquatic_types::{PeerStatus, Seconds};

/// What a peer announces to one torrent.
#[derive(Clone, Copy, Debug)]
pub struct Announce<K, V = ()> {
    /// Who announces.
    pub peer: K,
    /// What to keep with the peer until it leaves. Replaces what was kept so far.
    pub value: V,
    /// Seeder, leecher or leaving.
    pub status: PeerStatus,
    /// The download has just finished (`event=completed`).
    pub completed: bool,
    /// How many other peers to hand out at most.
    pub peers_wanted: usize,
    /// The peer is forgotten at the first cleaning after this second. At most
    /// [`PEER_AGE_MAX_SECONDS`](crate::PEER_AGE_MAX_SECONDS) from now.
    pub deadline: Seconds,
}

/// How large a swarm is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// Peers that still lack something.
    pub leechers: u32,
    /// Downloads finished since the torrent became known.
    pub completed: u32,
}

impl Counts {
    /// Seeders and leechers together.
    #[must_use]
    pub fn peers(&self) -> u32 {
        self.seeders + self.leechers
    }
}

/// The outcome of an announce that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced<V = ()> {
    /// The swarm after the announce: the announcer is included, unless it has left.
    pub counts: Counts,
    /// What became of the announcer.
    pub change: PeerChange<V>,
}

/// What an announce did to the announcer's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange<V = ()> {
    /// It was unknown and is now in the swarm.
    Added,
    /// It was known; this was kept with it before.
    Updated(V),
    /// It has left; this was kept with it.
    Removed(V),
    /// It said that it leaves, but it was not in the swarm.
    Absent,
}

/// Why an announce was refused. Nothing was changed and no peer was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The torrent is unknown, and there are as many torrents as allowed.
    TorrentLimit,
    /// The peer is unknown, and there are as many peers as allowed.
    PeerLimit,
    /// The peer is unknown, and the caller did not admit it.
    NotAdmitted,
}

impl Refusal {
    /// The value of the metric label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TorrentLimit => "torrent_limit",
            Self::PeerLimit => "peer_limit",
            Self::NotAdmitted => "not_admitted",
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TorrentLimit => "tracker is full: no new torrents for now",
            Self::PeerLimit => "tracker is full: no new peers for now",
            Self::NotAdmitted => "too many peers from your address",
        })
    }
}

impl std::error::Error for Refusal {}

/// How much one [`TorrentMap`](crate::TorrentMap) may hold; `None` means no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Torrents, counting those whose peers have left but which have not been cleaned away yet.
    pub max_torrents: Option<NonZeroUsize>,
    /// Peers over all torrents.
    pub max_peers: Option<NonZeroUsize>,
}
