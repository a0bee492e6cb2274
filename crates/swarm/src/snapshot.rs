//! Telling of all torrents and peers a slice at a time, as for a file from which they can be
//! [applied](TorrentMap::apply) again.
//!
//! Like every [walk](crate::cleaning), this one goes from the last torrent to the first, and from
//! the last peer of a swarm to the first, since entries that are removed are replaced by the last
//! ones. One kind of move remains that could carry a peer past the walk between two slices: where
//! seeders and leechers meet, two peers change places when one becomes a seeder, or ceases to be
//! one. Those two are remembered while the walk is within their swarm, and told of at its end. So
//! the walk misses no peer that was there when it began and stays; some it shows twice.

use std::collections::BTreeMap;

use aquatic_types::{InfoHash, Seconds};

use crate::hash::PeerKey;
use crate::rules::Rules;
use crate::swarm::Swarm;
use crate::torrent_map::TorrentMap;

/// A peer that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivePeer<K> {
    /// Its name.
    pub key: K,
    /// Whether it has everything.
    pub is_seeder: bool,
    /// Whether its download was counted, or need not be: see [`Told::is_finished`](crate::Told).
    pub is_finished: bool,
    /// For how many seconds it is alive if it announces no more, not counting the present one: 0
    /// to [`PEER_AGE_MAX_SECONDS`](crate::PEER_AGE_MAX_SECONDS), or one more.
    pub seconds_left: u16,
}

/// Is told of all torrents and peers.
pub trait SnapshotVisitor<K> {
    /// A torrent, and how many downloads of it were completed. Its peers follow.
    fn torrent(&mut self, info_hash: &InfoHash, completed: u32);

    /// A peer of it.
    fn peer(&mut self, info_hash: &InfoHash, peer: &LivePeer<K>);
}

/// How far a pass of [`TorrentMap::snapshot`] has come.
pub(crate) struct SnapshotProgress<K> {
    /// The torrents before this position are still to be shown; `None` between two passes.
    torrents_left: Option<u32>,
    /// A large swarm that was begun.
    begun: Option<Begun<K>>,
}

struct Begun<K> {
    info_hash: InfoHash,
    /// The peers before this position are still to be shown.
    peers_left: u32,
    /// Those that may have been moved past the walk, by their hash: each once.
    moved: BTreeMap<u64, K>,
}

impl<K> SnapshotProgress<K> {
    pub(crate) const fn new() -> Self {
        Self {
            torrents_left: None,
            begun: None,
        }
    }
}

impl<K: PeerKey> SnapshotProgress<K> {
    /// The announcer is about to become a seeder in this swarm, or to cease to be one. It changes
    /// places with the peer at the border then.
    #[inline]
    pub(crate) fn note_move<V>(
        &mut self,
        info_hash: &InfoHash,
        swarm: &Swarm<K, V>,
        (announcer, becomes_seeder): (&K, bool),
        rules: &Rules,
    ) {
        if let Some(begun) = &mut self.begun
            && begun.info_hash == *info_hash
            // Nobody is left who could be moved past the walk otherwise.
            && begun.peers_left > 0
        {
            let seeders = swarm.seeders();
            let border = if becomes_seeder {
                Some(seeders)
            } else {
                seeders.checked_sub(1)
            };
            let displaced = border.and_then(|border| swarm.get(border));
            let moved = [displaced.map(|peer| peer.key), Some(*announcer)];
            let moved = moved.into_iter().flatten();
            let moved = moved.map(|key| (rules.peer_hash(&key), key));
            begun.moved.extend(moved);
        }
    }
}

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// Does one slice of a pass over all torrents and their peers, and shows those that are alive
    /// to `visitor`. Returns `true` when the pass is over; the next call begins another one.
    ///
    /// `budget` bounds the slice: a torrent or peer counts 1. A swarm of up to 64 peers is shown in
    /// one go.
    ///
    /// Whoever was there when the pass began and stays, is shown at least once. Who comes meanwhile
    /// may be shown or not.
    pub fn snapshot(
        &mut self,
        now: Seconds,
        budget: usize,
        visitor: &mut impl SnapshotVisitor<K>,
    ) -> bool {
        let torrents = self.torrents.len();
        let mut left = self
            .snapshot
            .torrents_left
            .unwrap_or(torrents)
            .min(torrents);
        let mut budget = budget.max(1);
        if let Some(begun) = self.snapshot.begun.take() {
            self.snapshot.begun = self.show_more(begun, now, &mut budget, visitor);
        }
        while self.snapshot.begun.is_none() {
            let Some(position) = left.checked_sub(1) else {
                self.snapshot = SnapshotProgress::new();
                return true;
            };
            if budget == 0 {
                break;
            }
            left = position;
            budget -= 1;
            self.snapshot.begun = self.show(position, now, &mut budget, visitor);
        }
        self.snapshot.torrents_left = Some(left);
        false
    }

    /// Gives a pass up: the next slice begins another one.
    pub fn abandon_snapshot(&mut self) {
        self.snapshot = SnapshotProgress::new();
    }

    /// Shows a torrent until it is done or the budget is used up. In the latter case returns what
    /// is left.
    fn show(
        &self,
        position: u32,
        now: Seconds,
        budget: &mut usize,
        visitor: &mut impl SnapshotVisitor<K>,
    ) -> Option<Begun<K>> {
        let torrent = self.torrents.get(position)?;
        visitor.torrent(&torrent.info_hash, torrent.completed());
        let begun = Begun {
            info_hash: torrent.info_hash,
            peers_left: torrent.swarm.len(),
            moved: BTreeMap::new(),
        };
        self.show_peers(position, begun, now, budget, visitor)
    }

    /// The same for a torrent that was begun in an earlier slice. It may be at another position by
    /// now, or gone.
    fn show_more(
        &self,
        begun: Begun<K>,
        now: Seconds,
        budget: &mut usize,
        visitor: &mut impl SnapshotVisitor<K>,
    ) -> Option<Begun<K>> {
        let position = self.position(&self.key(begun.info_hash))?;
        self.show_peers(position, begun, now, budget, visitor)
    }

    fn show_peers(
        &self,
        position: u32,
        mut begun: Begun<K>,
        now: Seconds,
        budget: &mut usize,
        visitor: &mut impl SnapshotVisitor<K>,
    ) -> Option<Begun<K>> {
        let torrent = self.torrents.get(position)?;
        let swarm = &torrent.swarm;
        let mut show = |at: u32| {
            let Some(peer) = swarm.get(at) else {
                return;
            };
            if let Some(seconds_left) = peer.state.seconds_left(now) {
                let peer = LivePeer {
                    key: peer.key,
                    is_seeder: at < swarm.seeders(),
                    is_finished: peer.state.is_finished(),
                    seconds_left,
                };
                visitor.peer(&torrent.info_hash, &peer);
            }
        };
        let mut left = begun.peers_left.min(swarm.len());
        while let Some(at) = left.checked_sub(1) {
            if *budget == 0 && !swarm.is_small() {
                begun.peers_left = left;
                return Some(begun);
            }
            show(at);
            *budget = budget.saturating_sub(1);
            left = at;
        }
        begun.peers_left = 0;
        while let Some((hash, key)) = begun.moved.pop_first() {
            if *budget == 0 {
                begun.moved.insert(hash, key);
                return Some(begun);
            }
            if let Some(at) = swarm.find(&key, &self.rules) {
                show(at);
            }
            *budget = budget.saturating_sub(1);
        }
        None
    }
}
