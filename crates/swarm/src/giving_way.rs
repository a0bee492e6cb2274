//! Making room for those who have few torrents, where those who have many fill the memory.

use std::ops::Range;

use aquatic_types::InfoHash;
use arrayvec::ArrayVec;

use crate::hash::{PeerKey, TorrentKey};
use crate::room::{FEW, Room};
use crate::torrent_map::{Torrent, TorrentMap};

/// Torrents that one search looks at, each of them a cache miss or two. While a flood holds one
/// torrent in five, 97 of 100 searches find one of it.
const LOOKED_AT: usize = 16;

/// Of those, the last ones of the map: they are among the youngest.
const YOUNGEST: usize = 4;

/// Peers of a large swarm that one search looks at, each time that it meets the swarm.
const LARGE_LOOKED_AT: usize = 4;

/// Who fills the memory: those who together have one in so many of all peers.
const MUCH: usize = 8;

/// The weight of a torrent that has lost its last peer and waits for cleaning: nobody misses it.
const EMPTY: u32 = u32::MAX;

/// Where a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Torrents that have come since others were [old](TorrentMap::all_are_old): some of the very
    /// last ones, and some by chance.
    Young,
    /// Some large swarms, the larger the more likely.
    Large,
    /// The other torrents.
    Old,
}

impl Among {
    /// Each after the one before it, unless somebody has gone.
    pub const IN_ORDER: [Self; 3] = [Self::Young, Self::Large, Self::Old];
}

/// Somebody who may have to go.
struct Candidate {
    torrent: u32,
    /// One peer of a large swarm; otherwise the torrent as a whole.
    peer: Option<u32>,
    weight: u32,
}

/// Those that a search has looked at.
type Found = ArrayVec<Candidate, { LOOKED_AT * LARGE_LOOKED_AT }>;

/// Who has to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Those who weigh more than this,
    pub least: u32,
    /// if they have so many peers together, about.
    pub together: usize,
}

/// What a search for torrents to give way has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenWay {
    /// Torrents that were removed, and single peers of large swarms.
    pub removed: usize,
    /// The greatest weight that was met; of those only that have enough [together](Terms).
    pub heaviest: u32,
}

impl GivenWay {
    /// Whether those that were met have more than a few, but not enough to go. It may be a flood
    /// that has come from many networks, each of which has as much as the others. Those that were
    /// there before are not to pay for a dispute among them, unless they fill the memory, too.
    fn is_dispute(self) -> bool {
        self.removed == 0 && self.heaviest > FEW
    }

    /// Both searches together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            removed: self.removed + other.removed,
            heaviest: self.heaviest.max(other.heaviest),
        }
    }
}

/// Searches for one announce. The first one is enough, but where it has missed those who are known
/// to be there, or where the room for one swarm that grows has to be put together from many
/// torrents.
const SEARCHES_MAX: usize = 4;

/// The maps of a shard, which share the bound of a [`Room`].
pub trait BoundedMaps {
    /// The room that all of them share.
    fn room(&mut self) -> &mut Room;

    /// Lets each map know what the others leave of the memory, and counts whose peers there are
    /// while it is scarce. To be called now and then, for what has left;
    /// [`Self::note_added`] sees to what has come.
    fn share_memory(&mut self);

    /// A peer of this network was added.
    fn note_added(&mut self, network: u64) {
        self.room().added(network);
        if self.room().is_to_look() {
            self.share_memory();
        }
    }

    /// Peers in all of them.
    fn peers(&self) -> usize;

    /// Looks in the maps with [`TorrentMap::give_way`].
    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay;

    /// Looks among one kind after the other, until somebody has gone.
    fn search(&mut self, except: &TorrentKey, least: u32) -> GivenWay {
        let mut all = GivenWay::default();
        for among in Among::IN_ORDER {
            if all.removed == 0 {
                let together = match all.is_dispute() {
                    true => self.peers() / MUCH,
                    false => 0,
                };
                let terms = Terms { least, together };
                all = all.and(self.give_way(among, except, terms));
            }
        }
        all
    }

    /// Has torrents, but not the one named, and single peers of large ones give way to a peer of
    /// this network that found its map [full](TorrentMap::is_full): whether it is so no longer.
    #[cold]
    fn make_room(
        &mut self,
        network: u64,
        except: &TorrentKey,
        is_full: impl Fn(&Self) -> bool,
    ) -> bool {
        self.share_memory();
        let Some(least) = self.room().displaces(network) else {
            return false;
        };
        for _ in 0..SEARCHES_MAX {
            let given_way = self.search(except, least);
            match given_way.removed {
                0 => self.room().searched(given_way.heaviest),
                _ => self.room().found(given_way.heaviest),
            }
            self.share_memory();
            if !is_full(self) {
                return true;
            }
            // An unlucky search is no reason to refuse somebody.
            if given_way.removed == 0 && !self.room().expects(least) {
                return false;
            }
        }
        false
    }
}

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// The torrents that are there now are old. Those that come later give way first.
    pub fn all_are_old(&mut self) {
        self.old_torrents = self.torrents.len();
    }

    /// Looks at a few torrents, and removes those that `terms` are about, the heaviest first, until
    /// there is [room](Self::is_full). Not the one named `except`, unless it is large.
    ///
    /// `weigh` says how many peers a peer's network has. A torrent is as heavy as the lightest of
    /// its peers: so one that serves anybody who has little stays. Of a large swarm, only single
    /// peers are removed: it belongs to many.
    ///
    /// Young and old are told by position. That is about true: torrents that leave move others to
    /// their places. The work is bounded: of 16 torrents, up to 64 peers each are weighed, and one
    /// or two nearly always.
    pub fn give_way(
        &mut self,
        among: Among,
        except: &TorrentKey,
        terms: Terms,
        rng: &mut fastrand::Rng,
        weigh: impl Fn(&K, &V) -> u32,
        mut removed: impl FnMut(&InfoHash, &K, V),
    ) -> GivenWay {
        let mut found = Found::new();
        for torrent in self.draw(among, rng) {
            if self.may_give_way(torrent, except) {
                self.look_at(torrent, terms.least, rng, &weigh, &mut found);
            }
        }
        // Of those that are equally heavy, the youngest goes first.
        found.sort_unstable_by_key(|it| (it.weight, it.torrent, it.peer));
        let mut given_way = GivenWay {
            removed: 0,
            heaviest: heaviest(&found, terms.together, self.stand_for(among)),
        };
        let least = match given_way.heaviest > terms.least {
            true => terms.least,
            false => EMPTY - 1,
        };
        while self.is_full()
            && let Some(candidate) = found.pop().filter(|it| it.weight > least)
        {
            given_way.removed += 1;
            self.remove_candidate(&candidate, &mut found, &mut removed);
        }
        given_way
    }

    /// Where torrents of a kind are that are told by position.
    fn positions(&self, among: Among) -> Range<u32> {
        let torrents = self.torrents.len();
        let old = self.old_torrents.min(torrents);
        match among {
            Among::Young => old..torrents,
            Among::Large | Among::Old => 0..old,
        }
    }

    /// Torrents of a kind, or peers of large ones.
    fn stand_for(&self, among: Among) -> u64 {
        match among {
            Among::Young | Among::Old => self.positions(among).len() as u64,
            Among::Large => self.large_sample.peers(),
        }
    }

    /// Positions of torrents of a kind. The same one may be there several times.
    fn draw(&self, among: Among, rng: &mut fastrand::Rng) -> ArrayVec<u32, LOOKED_AT> {
        let places = self.positions(among);
        let any = |count, rng: &mut fastrand::Rng| {
            let count = if places.is_empty() { 0 } else { count };
            let draw = (0..count).map(|_| rng.u32(places.clone()));
            draw.collect::<ArrayVec<_, LOOKED_AT>>()
        };
        match among {
            Among::Young => {
                let others = any(LOOKED_AT - YOUNGEST, rng);
                let youngest = places.clone().rev().take(YOUNGEST);
                youngest.chain(others).collect()
            }
            Among::Large => {
                let drawn = self.large_sample.draw(LOOKED_AT, rng);
                let position = |info_hash| self.position(&self.key(info_hash));
                drawn.filter_map(position).collect()
            }
            Among::Old => any(LOOKED_AT, rng),
        }
    }

    /// All but the one named; that one, too, if it only loses single peers. It may be the flood.
    fn may_give_way(&self, torrent: u32, except: &TorrentKey) -> bool {
        let entry = self.torrents.get(torrent);
        entry.is_some_and(|it| it.info_hash != except.info_hash() || !it.swarm.is_small())
    }

    /// Weighs a torrent, or some peers of a large swarm.
    fn look_at(
        &self,
        torrent: u32,
        least: u32,
        rng: &mut fastrand::Rng,
        weigh: impl Fn(&K, &V) -> u32,
        found: &mut Found,
    ) {
        let Some(Torrent { swarm, .. }) = self.torrents.get(torrent) else {
            return;
        };
        let weight_at = |at| {
            let peer = swarm.get(at);
            peer.map_or(0, |peer| weigh(&peer.key, &peer.value))
        };
        let peers = swarm.len();
        if !swarm.is_small() {
            let some = (0..LARGE_LOOKED_AT).map(|_| rng.u32(..peers));
            found.extend(some.map(|at| Candidate {
                torrent,
                peer: Some(at),
                weight: weight_at(at),
            }));
            return;
        }
        let mut weight = EMPTY;
        for at in 0..peers {
            weight = weight.min(weight_at(at));
            // It gives way to nobody then. Else others, for whom it is heavy, hear how heavy it is.
            if weight <= FEW.min(least) {
                break;
            }
        }
        found.push(Candidate {
            torrent,
            peer: None,
            weight,
        });
    }

    fn remove_candidate(
        &mut self,
        candidate: &Candidate,
        others: &mut Found,
        mut removed: impl FnMut(&InfoHash, &K, V),
    ) {
        let Some(info_hash) = self.torrents.get(candidate.torrent).map(|it| it.info_hash) else {
            return;
        };
        // It may have been met several times. Peers before the one that goes do not move.
        others.retain(|it| it.torrent != candidate.torrent || it.peer < candidate.peer);
        if let Some(at) = candidate.peer {
            if let Some(peer) = self.remove_at(candidate.torrent, at) {
                removed(&info_hash, &peer.key, peer.value);
            }
            return;
        }
        while let Some(last) = self
            .torrents
            .get(candidate.torrent)
            .and_then(|entry| entry.swarm.len().checked_sub(1))
            && let Some(peer) = self.remove_at(candidate.torrent, last)
        {
            removed(&info_hash, &peer.key, peer.value);
        }
        self.remove_torrent(candidate.torrent);
        // The last torrent has taken its place.
        let last = self.torrents.len();
        for other in others.iter_mut().filter(|it| it.torrent == last) {
            other.torrent = candidate.torrent;
        }
    }
}

/// The greatest weight that gives way: those who have that or more have so many peers `together`.
///
/// Those that were looked at are in order of their weights, and all of them together stand for so
/// many torrents or peers: so each stands for its share of them. A torrent counts as one peer,
/// whatever it has. Else a single one that is met could seem to be an eighth of all.
fn heaviest(looked_at: &[Candidate], together: usize, stand_for: u64) -> u32 {
    let together = together as u64 * looked_at.len() as u64;
    let mut peers = 0;
    let heavy = looked_at.iter().rev().filter(|it| it.weight < EMPTY);
    let mut heavy = heavy.skip_while(|_| {
        peers += stand_for;
        peers < together
    });
    heavy.next().map_or(0, |it| it.weight)
}

#[cfg(test)]
mod tests;
