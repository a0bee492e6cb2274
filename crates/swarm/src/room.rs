//! Who may come when memory is used up, and who gives way.
//!
//! A tracker serves torrents that it has never heard of, so a single stranger can make it hold any
//! number of them. At the bound, **the youngest torrents of networks that have many give way**, so
//! that those who have few are served: see [`TorrentMap::give_way`](crate::TorrentMap::give_way).
//!
//! A [`Room`] knows the bound, and whose networks have how many peers. It costs nothing in peace:
//! only while the maps take more than half of what they may, it keeps a [`Census`]. Each peer that
//! is added counts there, and each pass of cleaning, which looks at every peer anyway, makes a new
//! one. So nobody needs to be struck off who leaves. Until the first whole pass has ended, not all
//! of those are counted that were there before; and whoever comes to a torrent that a pass has not
//! met yet counts twice until the next one, as does who leaves and comes back.
//!
//! Who wants to come and for whom there is no room may take the place of a network that has more
//! than twice as many peers, and more than a few, so that equals do not oust each other in turn. A
//! flood has more than anybody, and is refused at the cost of two counters: what the last searches
//! have found tells that another one would be in vain.

use std::num::NonZeroUsize;

use crate::census::Census;
use crate::hash::HashKey;

/// Whoever has so many peers or fewer gives way to nobody.
pub(crate) const FEW: u32 = 8;

/// Of so many announces that the last searches let expect to be refused, one searches nevertheless:
/// those searches may have been unlucky, or others may have come since.
const REFUSED_UNSEEN: u8 = 16;

/// The most peers that a network is ever known to have.
const MOST_MAX: u32 = 65_535;

/// The memory that the torrents of a shard may take together, in all of its maps.
pub struct Room {
    /// Without what the census takes.
    max_bytes: Option<usize>,
    hash_key: HashKey,
    /// While memory is scarce.
    scarcity: Option<Scarcity>,
    /// Peers added since it was last time to look.
    not_looked_at: u8,
}

/// So many peers are added between two looks at what all maps take.
const NOT_LOOKED_AT_MAX: u8 = 32;

struct Scarcity {
    census: Census,
    /// The one that the next pass of cleaning makes.
    next: Census,
    /// The most peers that a network was seen to have by the last searches.
    most: u32,
    unseen: u8,
}

impl Room {
    /// For so many bytes; `None` means no bound.
    #[must_use]
    pub fn new(max_bytes: Option<NonZeroUsize>, hash_key: HashKey) -> Self {
        let census = |max| 2 * Census::bytes(max);
        Self {
            max_bytes: max_bytes.map(|max| max.get().saturating_sub(census(max.get()))),
            hash_key,
            scarcity: None,
            not_looked_at: 0,
        }
    }

    /// What is left of the bound for a map when others take so many bytes; no bound = all there is.
    #[must_use]
    pub fn beside(&self, others: usize) -> usize {
        self.max_bytes.unwrap_or(usize::MAX).saturating_sub(others)
    }

    /// Whether memory has just become scarce, so that peers are counted from now on. The torrents
    /// that are there are the old ones then: see
    /// [`TorrentMap::all_are_old`](crate::TorrentMap::all_are_old).
    ///
    /// To be called with what all maps take, whenever some have been [added](Self::added): whoever
    /// comes before it is noticed that memory is scarce has not been counted.
    pub fn becomes_scarce(&mut self, bytes: usize) -> bool {
        let Some(max) = self.max_bytes else {
            return false;
        };
        if self.scarcity.is_none() && bytes > max / 2 {
            self.scarcity = Some(Scarcity {
                census: Census::new(max, self.hash_key),
                next: Census::new(max, self.hash_key),
                most: MOST_MAX,
                unseen: 0,
            });
            return true;
        }
        if bytes < max / 8 * 3 {
            self.scarcity = None;
        }
        false
    }

    /// A peer of this network was added.
    pub fn added(&mut self, network: u64) {
        self.not_looked_at = self.not_looked_at.saturating_add(1);
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.census.add(network);
            scarcity.next.add(network);
        }
    }

    /// Whether so many have been added that it is time to look at what all maps take again. A burst
    /// must not fill the memory before anybody is counted.
    pub(crate) fn is_to_look(&mut self) -> bool {
        let is_due = self.not_looked_at >= NOT_LOOKED_AT_MAX;
        if is_due {
            self.not_looked_at = 0;
        }
        is_due
    }

    /// A peer of this network was met by a pass of cleaning, and stays.
    pub fn remains(&mut self, network: u64) {
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.next.add(network);
        }
    }

    /// A pass of cleaning over all maps has ended.
    pub fn pass_ended(&mut self) {
        if let (Some(max), Some(scarcity)) = (self.max_bytes, &mut self.scarcity) {
            let empty = Census::new(max, self.hash_key);
            scarcity.census = std::mem::replace(&mut scarcity.next, empty);
            scarcity.most = MOST_MAX;
        }
    }

    /// Peers of a network, about: see [above](self). 0 in peace.
    #[must_use]
    pub fn count(&self, network: u64) -> u32 {
        let scarcity = self.scarcity.as_ref();
        scarcity.map_or(0, |scarcity| scarcity.census.count(network).into())
    }

    /// There is no room for a peer of this network. Who has more peers than the number returned
    /// gives way to it. `None`: nobody will be found who does.
    pub fn displaces(&mut self, network: u64) -> Option<u32> {
        let least = self.count(network).saturating_mul(2).max(FEW);
        let scarcity = self.scarcity.as_mut()?;
        if least < scarcity.most {
            return Some(least);
        }
        scarcity.unseen += 1;
        if scarcity.unseen < REFUSED_UNSEEN {
            return None;
        }
        scarcity.unseen = 0;
        Some(least)
    }

    /// Whether somebody is known who has more peers than that.
    pub(crate) fn expects(&self, least: u32) -> bool {
        let scarcity = self.scarcity.as_ref();
        scarcity.is_some_and(|scarcity| least < scarcity.most)
    }

    /// A search has made room, where the heaviest had so many peers. It has not looked at all kinds
    /// of torrents: so it tells nothing about those who have more.
    pub fn found(&mut self, heaviest: u32) {
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.most = scarcity.most.max(heaviest);
        }
    }

    /// A search in vain has found no network with more peers than this. It has looked at a few
    /// torrents only, and may have missed the heaviest: so what was found before is halved, not
    /// forgotten.
    pub fn searched(&mut self, most: u32) {
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.most = most.max(scarcity.most / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIGHT: u64 = 1;
    const HASH_KEY: HashKey = HashKey::new([5, 6]);
    const MAX: usize = 1 << 20;

    /// What is left of [`MAX`]: a census has 4,096 places of 8 bytes, and there are two.
    const LEFT: usize = MAX - 2 * 4_096 * 8;

    /// A room in which memory is scarce.
    fn scarce() -> Room {
        let mut room = Room::new(NonZeroUsize::new(MAX), HASH_KEY);
        assert!(room.becomes_scarce(LEFT));
        room
    }

    /// How many of so many newcomers search, if each search finds this.
    fn searches(room: &mut Room, newcomers: usize, most: u32) -> usize {
        let mut searches = 0;
        for _ in 0..newcomers {
            if room.displaces(LIGHT).is_some() {
                room.searched(most);
                searches += 1;
            }
        }
        searches
    }

    #[test]
    fn others_leave_less_of_the_bound() {
        let room = Room::new(NonZeroUsize::new(MAX), HASH_KEY);
        assert_eq!((room.beside(0), room.beside(1_000)), (LEFT, LEFT - 1_000));
        assert_eq!(room.beside(MAX), 0);
        assert_eq!(Room::new(None, HASH_KEY).beside(1_000), usize::MAX - 1_000);
        assert!(!Room::new(None, HASH_KEY).becomes_scarce(usize::MAX));
    }

    #[test]
    fn memory_is_scarce_from_half_of_the_bound_down_to_three_eighths() {
        let mut room = Room::new(NonZeroUsize::new(MAX), HASH_KEY);
        assert!(!room.becomes_scarce(LEFT / 2));
        room.added(7);
        assert_eq!(room.count(7), 0, "nobody is counted in peace");
        assert!(room.becomes_scarce(LEFT / 2 + 1));
        assert!(!room.becomes_scarce(LEFT), "it is already");
        room.added(7);
        assert!(!room.becomes_scarce(LEFT / 8 * 3));
        assert_eq!(room.count(7), 1);
        assert!(!room.becomes_scarce(LEFT / 8 * 3 - 1));
        assert_eq!(room.count(7), 0);
    }

    #[test]
    fn those_with_more_than_twice_as_many_give_way_and_more_than_a_few() {
        assert_eq!(Room::new(None, HASH_KEY).displaces(7), None);
        let mut room = scarce();
        assert_eq!(room.displaces(7), Some(8));
        (0..4).for_each(|_| room.added(7));
        assert_eq!(room.displaces(7), Some(8));
        room.added(7);
        assert_eq!((room.displaces(7), room.displaces(8)), (Some(10), Some(8)));
    }

    #[test]
    fn a_search_that_would_be_in_vain_is_made_once_in_sixteen_times() {
        let mut room = scarce();
        assert!(room.expects(FEW));
        (0..16).for_each(|_| room.searched(9));
        assert_eq!(room.displaces(7), Some(8), "one with nine would give way");
        (0..16).for_each(|_| room.searched(8));
        assert_eq!((room.expects(7), room.expects(8)), (true, false));
        for _ in 0..3 {
            for _ in 0..15 {
                assert_eq!(room.displaces(7), None);
            }
            assert_eq!(room.displaces(7), Some(8));
        }
    }

    #[test]
    fn a_pass_of_cleaning_counts_who_remains_and_who_comes() {
        let mut room = scarce();
        (0..9).for_each(|_| room.added(7));
        room.pass_ended();
        assert_eq!(room.count(7), 9, "they came during the pass");
        (0..2).for_each(|_| room.remains(7));
        room.added(7);
        assert_eq!(room.count(7), 10);
        (0..16).for_each(|_| room.searched(8));
        assert_eq!(room.displaces(8), None);
        room.pass_ended();
        assert_eq!(room.count(7), 3);
        assert_eq!(room.displaces(8), Some(8), "everything may be different");
        room.pass_ended();
        assert_eq!(room.count(7), 0);
    }

    #[test]
    fn one_unlucky_search_refuses_nobody() {
        let mut room = scarce();
        assert_eq!(searches(&mut room, 20, 1_000), 20);
        assert_eq!(
            searches(&mut room, 3, 2),
            3,
            "they have missed the heavy ones"
        );
        assert_eq!(searches(&mut room, 100, 1_000), 100);
    }

    #[test]
    fn who_finds_somebody_hides_nobody_who_has_more() {
        let mut room = scarce();
        (0..20).for_each(|_| room.searched(9));
        room.found(1_000);
        (0..100).for_each(|_| room.found(9));
        assert!(room.expects(999) && !room.expects(1_000));
    }

    #[test]
    fn where_nobody_is_heavy_few_search() {
        let mut room = scarce();
        let refused = |searches| 1_600 - searches;
        assert!(refused(searches(&mut room, 1_600, 8)) >= 1_480);
    }

    #[test]
    fn who_has_most_searches_for_nobody() {
        let mut room = scarce();
        (0..600).for_each(|_| room.added(LIGHT));
        searches(&mut room, 10, 1_000);
        assert!(searches(&mut room, 160, 1_000) <= 10);
    }
}
