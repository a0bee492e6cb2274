//! Who may come when memory is used up, and who gives way.
//!
//! A tracker serves torrents that it has never heard of, so a single stranger can make it hold any
//! number of them. At the bound, **the youngest torrents of networks that have many give way**, so
//! that those who have few are served: see [`TorrentMap::give_way`](crate::TorrentMap::give_way).
//!
//! A [`Room`] knows the bound, and whose networks have how many peers. It costs nothing in peace:
//! only while the maps take more than half of what they may, it keeps a [`Census`]. Each peer that
//! is added counts there, and each pass of cleaning, which looks at every peer anyway, makes a new
//! one. So nobody needs to be struck off who leaves.
//!
//! Who wants to come and for whom there is no room may take the place of a network that has more
//! than twice as many peers, and more than a few, so that equals do not oust each other in turn. A
//! flood has more than anybody, and is refused at the cost of two counters: what the last search
//! has found tells that another one would be in vain.

use std::num::NonZeroUsize;

use crate::census::Census;
use crate::hash::HashKey;

/// Whoever has so many peers or fewer gives way to nobody.
pub(crate) const FEW: u32 = 8;

/// Of so many announces that the last search lets expect to be refused, one searches nevertheless:
/// that search may have been unlucky, or others may have come since.
const REFUSED_UNSEEN: u8 = 16;

/// The memory that the torrents of a shard may take together, in all of its maps.
pub struct Room {
    /// Without what the census takes.
    max_bytes: Option<usize>,
    hash_key: HashKey,
    /// While memory is scarce.
    scarcity: Option<Scarcity>,
}

struct Scarcity {
    census: Census,
    /// The one that the next pass of cleaning makes.
    next: Census,
    /// The most peers that a network was seen to have by the last search.
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
    /// To be called now and then, with what all maps take.
    pub fn becomes_scarce(&mut self, bytes: usize) -> bool {
        let Some(max) = self.max_bytes else {
            return false;
        };
        if self.scarcity.is_none() && bytes > max / 2 {
            self.scarcity = Some(Scarcity {
                census: Census::new(max, self.hash_key),
                next: Census::new(max, self.hash_key),
                most: u32::MAX,
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
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.census.add(network);
            scarcity.next.add(network);
        }
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
            scarcity.most = u32::MAX;
        }
    }

    /// Peers of a network: so many, or fewer. 0 in peace.
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

    /// A search has found no network with more peers than this.
    pub fn searched(&mut self, most: u32) {
        if let Some(scarcity) = &mut self.scarcity {
            scarcity.most = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH_KEY: HashKey = HashKey::new([5, 6]);
    const MAX: usize = 1 << 20;

    /// What is left of [`MAX`]: a census has 8,192 places of 4 bytes, and there are two.
    const LEFT: usize = MAX - 2 * 8_192 * 4;

    /// A room in which memory is scarce.
    fn scarce() -> Room {
        let mut room = Room::new(NonZeroUsize::new(MAX), HASH_KEY);
        assert!(room.becomes_scarce(LEFT));
        room
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
        room.searched(9);
        assert_eq!(room.displaces(7), Some(8), "one with nine would give way");
        room.searched(8);
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
        room.searched(8);
        assert_eq!(room.displaces(8), None);
        room.pass_ended();
        assert_eq!(room.count(7), 3);
        assert_eq!(room.displaces(8), Some(8), "everything may be different");
        room.pass_ended();
        assert_eq!(room.count(7), 0);
    }
}
