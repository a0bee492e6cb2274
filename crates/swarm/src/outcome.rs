//! What goes into an announce and what comes out.

use std::fmt::{self, Display, Formatter};
use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};
use std::ops::Add;

use aquatic_types::PeerStatus;

use crate::refresh::Previous;

/// What a peer announces to one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<K> {
    /// Who announces.
    pub peer: K,
    /// Seeder, leecher or leaving.
    pub status: PeerStatus,
    /// The download has just finished (`event=completed`).
    pub completed: bool,
    /// How many other peers to hand out at most.
    pub num_want: u16,
}

/// Who may join a swarm, and what is kept with whom.
pub trait PeerPolicy<K, V> {
    /// A peer that is not in the swarm wants to join, and there is room for it. Returns what to
    /// keep with it until it leaves; `None` refuses it.
    ///
    /// Asked last of all: whoever is admitted joins. So this may count.
    fn admit(&mut self, peer: &K) -> Option<V>;

    /// A peer announces again. This may change what is kept with it.
    fn update(&mut self, value: &mut V);

    /// The same peer: what was known of it until now.
    fn replaces(&mut self, _previous: Previous) {}
}

/// Admits everybody, and keeps this with each peer that announces.
#[derive(Clone, Copy, Debug)]
pub struct Keep<V>(pub V);

impl<K, V: Clone> PeerPolicy<K, V> for Keep<V> {
    fn admit(&mut self, _: &K) -> Option<V> {
        Some(self.0.clone())
    }

    fn update(&mut self, value: &mut V) {
        value.clone_from(&self.0);
    }
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

impl Add for Counts {
    type Output = Self;

    /// Of two swarms together, such as those of both IP families.
    fn add(self, other: Self) -> Self {
        Self {
            seeders: self.seeders.saturating_add(other.seeders),
            leechers: self.leechers.saturating_add(other.leechers),
            completed: self.completed.saturating_add(other.completed),
        }
    }
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
    /// So many of the peers handed out, the last ones, are of networks that had their
    /// [share](Limits::max_response_peers_per_network) of the answer already. They are there
    /// because no others were to be had, or met in 256 draws. 0 where the answer has all peers
    /// there are.
    pub surplus: u32,
}

/// What an announce did to the announcer's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange<V = ()> {
    /// It was unknown and is now in the swarm.
    Added,
    /// It was known.
    Updated,
    /// It has left; this was kept with it.
    Removed(V),
    /// It said that it leaves, but it was not in the swarm.
    Absent,
    /// It was unknown and still is, since its network has [as many
    /// peers](Limits::max_peers_per_network) in the swarm as are allowed. It got its answer
    /// nevertheless.
    NotAdded,
}

/// Why an announce was refused. Nothing was changed and no peer was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The torrent is unknown, and there are as many torrents as allowed.
    TorrentLimit,
    /// The peer is unknown, and there are as many peers as allowed.
    PeerLimit,
    /// The peer is unknown, and memory is used up. The caller may [make
    /// room](crate::TorrentMap::give_way), and ask again.
    MemoryLimit,
    /// The peer is unknown, and was not [admitted](PeerPolicy::admit).
    NotAdmitted,
}

impl Refusal {
    /// What clients are told.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::TorrentLimit => "tracker is full: no new torrents for now",
            Self::PeerLimit => "tracker is full: no new peers for now",
            Self::MemoryLimit => "tracker is out of memory: nothing new for now",
            Self::NotAdmitted => "too many peers from your address",
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
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
    /// Peers of one [network](crate::PeerKey::network) in one swarm, at most
    /// [`PEERS_PER_NETWORK_MAX`](crate::PEERS_PER_NETWORK_MAX).
    pub max_peers_per_network: Option<NonZeroU16>,
    /// Peers of one network that an answer has before it has others, if there are any.
    pub max_response_peers_per_network: Option<NonZeroU8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_words_of_their_own() {
        for (refusal, words) in [
            (Refusal::TorrentLimit, "no new torrents"),
            (Refusal::PeerLimit, "no new peers"),
            (Refusal::MemoryLimit, "out of memory"),
            (Refusal::NotAdmitted, "your address"),
        ] {
            assert!(refusal.text().contains(words), "{refusal}");
        }
    }
}
