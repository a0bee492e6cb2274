//! Walking through all torrents a slice at a time: to clean them, or to export them.
//!
//! Both walks go from the last torrent to the first, and from the last peer of a swarm to the
//! first. Removing an entry fills its place with the last one, which has been visited by then: so a
//! walk that removes as it goes misses nothing.
//!
//! **Between two slices** announces go on. New torrents and peers are added at the end, behind the
//! walk, and are met in the next pass. A peer that changes its status or leaves may move another
//! one of its swarm from before the walk to behind it: should that one have expired, it survives
//! until the next pass. The opposite cannot happen: a peer is removed only after a look at its own
//! deadline.

use aquatic_types::{InfoHash, Seconds};

use crate::hash::PeerKey;
use crate::outcome::Counts;
use crate::torrent_map::TorrentMap;

/// Removing a peer costs about as much as looking at this many.
const REMOVAL_WORK: usize = 8;

/// Decides about torrents and learns what becomes of them in [`TorrentMap::clean`].
pub trait CleaningVisitor<K, V> {
    /// Whether the torrent is (still) allowed. If not, it goes with all its peers.
    fn keep(&mut self, info_hash: &InfoHash) -> bool;

    /// Whether a peer stays whose deadline has not passed.
    #[inline]
    fn stays(&mut self, _peer: &K, _value: &V) -> bool {
        true
    }

    /// A peer stays. What is kept with it may be changed.
    fn peer_remains(&mut self, _peer: &K, _value: &mut V) {}

    /// A peer was removed; `value` was kept with it.
    fn peer_removed(&mut self, peer: &K, value: V);

    /// The torrent has been cleaned and still has peers. Called once per torrent and pass.
    fn torrent_remains(&mut self, info_hash: &InfoHash, counts: Counts);
}

/// How far a pass of [`TorrentMap::clean`] has come. `default()` begins a pass.
#[derive(Debug, Default)]
pub struct CleaningCursor {
    /// The torrents before this position are still to be cleaned; `None` before the first slice.
    torrents_left: Option<u32>,
    /// The same for the peers of the last of these torrents, if it was begun.
    peers_left: Option<u32>,
}

/// How far a pass of [`TorrentMap::walk`] has come. `default()` begins a pass.
#[derive(Debug, Default)]
pub struct WalkCursor {
    torrents_left: Option<u32>,
}

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// Does one slice of a cleaning pass: removes peers whose deadline is before `now`, torrents
    /// without peers, and torrents and peers that `visitor` does not keep. Returns `true` when the
    /// pass is finished; `cursor` is ready for the next one then.
    ///
    /// `budget` bounds the slice: a torrent or peer looked at counts 1, a peer removed 8 more. A
    /// unit takes some 10 to 100 nanoseconds. A swarm of up to 64 peers is done in one go.
    pub fn clean(
        &mut self,
        cursor: &mut CleaningCursor,
        now: Seconds,
        budget: usize,
        visitor: &mut impl CleaningVisitor<K, V>,
    ) -> bool {
        let torrents = self.torrents.len();
        let mut left = cursor.torrents_left.unwrap_or(torrents).min(torrents);
        let mut budget = budget.max(1);
        while let Some(position) = left.checked_sub(1) {
            if budget == 0 {
                cursor.torrents_left = Some(left);
                return false;
            }
            cursor.peers_left =
                self.clean_swarm(position, cursor.peers_left, now, &mut budget, visitor);
            if cursor.peers_left.is_none() {
                left = position;
                budget = budget.saturating_sub(1);
            }
        }
        self.large_sample.pass_ends();
        *cursor = CleaningCursor::default();
        true
    }

    /// Cleans one torrent until it is done or the budget is used up. In the latter case returns how
    /// many peers are left.
    fn clean_swarm(
        &mut self,
        position: u32,
        peers_left: Option<u32>,
        now: Seconds,
        budget: &mut usize,
        visitor: &mut impl CleaningVisitor<K, V>,
    ) -> Option<u32> {
        let torrent = self.torrents.get_mut(position)?;
        let keep = visitor.keep(&torrent.info_hash);
        let peers = torrent.swarm.len();
        let mut left = peers_left.unwrap_or(peers).min(peers);
        while let Some(at) = left.checked_sub(1) {
            if *budget == 0 && !torrent.swarm.is_small() {
                return Some(left);
            }
            left = at;
            *budget = budget.saturating_sub(1);
            let peer = torrent.swarm.get_mut(at)?;
            if keep && !peer.state.has_passed(now) && visitor.stays(&peer.key, &peer.value) {
                visitor.peer_remains(&peer.key, &mut peer.value);
                continue;
            }
            let was_seeder = at < torrent.swarm.seeders();
            let bytes = torrent.swarm.heap_bytes();
            if let Some(peer) = torrent.swarm.remove(at, &self.rules) {
                self.swarm_bytes = self.swarm_bytes + torrent.swarm.heap_bytes() - bytes;
                self.peers -= 1;
                self.seeders -= usize::from(was_seeder);
                *budget = budget.saturating_sub(REMOVAL_WORK);
                visitor.peer_removed(&peer.key, peer.value);
            }
        }
        if !torrent.swarm.is_small() {
            let peers = torrent.swarm.len();
            self.large_sample.meets(&torrent.info_hash, peers);
        }
        let counts = torrent.counts();
        let keeps_counts = self.counts_kept_until.is_some_and(|until| now <= until)
            && keep
            && counts.completed > 0;
        if counts.peers() == 0 {
            if !keeps_counts {
                self.remove_torrent(position);
            }
        } else {
            visitor.torrent_remains(&torrent.info_hash, counts);
        }
        None
    }

    /// Shows about `budget` torrents to `f`. Returns `true` when all have been shown; `cursor` is
    /// ready for the next pass then.
    ///
    /// If a cleaning pass removes torrents between two slices, some may be shown twice; none that
    /// was there at the beginning and stays is missed. Torrents added meanwhile are not shown.
    pub fn walk(
        &self,
        cursor: &mut WalkCursor,
        budget: usize,
        mut f: impl FnMut(&InfoHash, Counts),
    ) -> bool {
        let torrents = self.torrents.len();
        let mut left = cursor.torrents_left.unwrap_or(torrents).min(torrents);
        for _ in 0..budget.max(1) {
            let Some(position) = left.checked_sub(1) else {
                break;
            };
            if let Some(torrent) = self.torrents.get(position) {
                f(&torrent.info_hash, torrent.counts());
            }
            left = position;
        }
        cursor.torrents_left = (left > 0).then_some(left);
        left == 0
    }
}

#[cfg(test)]
mod tests {
    use aquatic_types::{CompactAddr, CompactV4, PeerStatus};

    use super::*;
    use crate::{Announce, HashKey, Keep, Limits};

    /// So many torrents of so many peers, which are alive until second 100.
    fn map(torrents: u8, peers: u16) -> TorrentMap<CompactV4> {
        let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
        (0..torrents).for_each(|torrent| fill(&mut map, torrent, peers));
        map
    }

    fn fill(map: &mut TorrentMap<CompactV4>, torrent: u8, peers: u16) {
        let mut rng = fastrand::Rng::with_seed(3);
        let key = map.key(InfoHash([torrent; 20]));
        for port in 1..=peers {
            let announce = Announce {
                peer: CompactV4::new([192, 0, 2, 1].into(), port),
                status: PeerStatus::Leecher,
                completed: false,
                num_want: 0,
            };
            let announced = map.announce(
                &key,
                &announce,
                Seconds(100),
                &mut Keep(()),
                &mut rng,
                |_, ()| (),
            );
            assert!(announced.is_ok());
        }
    }

    #[derive(Default)]
    struct Seen {
        remaining: usize,
        removed: usize,
        torrents: usize,
    }

    impl CleaningVisitor<CompactV4, ()> for Seen {
        fn keep(&mut self, _: &InfoHash) -> bool {
            true
        }

        fn peer_remains(&mut self, _: &CompactV4, (): &mut ()) {
            self.remaining += 1;
        }

        fn peer_removed(&mut self, _: &CompactV4, (): ()) {
            self.removed += 1;
        }

        fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {
            self.torrents += 1;
        }
    }

    /// What each slice of a pass does: peers that remain, peers that are removed, and torrents that
    /// remain.
    fn slices(
        map: &mut TorrentMap<CompactV4>,
        now: u32,
        budget: usize,
    ) -> Vec<(usize, usize, usize)> {
        let (mut cursor, mut slices) = (CleaningCursor::default(), Vec::new());
        loop {
            let mut seen = Seen::default();
            let is_over = map.clean(&mut cursor, Seconds(now), budget, &mut seen);
            slices.push((seen.remaining, seen.removed, seen.torrents));
            if is_over {
                return slices;
            }
        }
    }

    #[test]
    fn a_large_swarm_is_cleaned_in_slices() {
        let mut large = map(1, 1_000);
        let mut expected = vec![(300, 0, 0); 3];
        expected.push((100, 0, 1));
        assert_eq!(slices(&mut large, 50, 300), expected);
        // A peer that is removed counts nine, as long as the swarm is large.
        let removed = slices(&mut large, 200, 90);
        assert_eq!(removed[..90], [(0, 10, 0); 90]);
        assert_eq!(removed.iter().map(|slice| slice.1).sum::<usize>(), 1_000);
        assert_eq!(large.torrents(), 0);
    }

    #[test]
    fn a_small_swarm_is_cleaned_in_one_go() {
        let mut small = map(3, 64);
        assert_eq!(slices(&mut small, 50, 1), [(64, 0, 1); 3]);
        assert_eq!(slices(&mut small, 200, 1), [(0, 64, 0); 3]);
        assert_eq!(small.torrents(), 0);
    }

    /// Lets only peers at even ports stay.
    struct Even(Seen);

    impl CleaningVisitor<CompactV4, ()> for Even {
        fn keep(&mut self, _: &InfoHash) -> bool {
            true
        }

        fn stays(&mut self, peer: &CompactV4, (): &()) -> bool {
            peer.socket_addr().port().is_multiple_of(2)
        }

        fn peer_remains(&mut self, peer: &CompactV4, (): &mut ()) {
            assert!(peer.socket_addr().port().is_multiple_of(2));
            self.0.remaining += 1;
        }

        fn peer_removed(&mut self, peer: &CompactV4, (): ()) {
            assert!(!peer.socket_addr().port().is_multiple_of(2));
            self.0.removed += 1;
        }

        fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {
            self.0.torrents += 1;
        }
    }

    #[test]
    fn the_visitor_can_have_peers_go() {
        for (peers, stay, torrents) in [(2, 1, 1), (64, 32, 1), (1_000, 500, 1), (1, 0, 0)] {
            let mut map = map(1, peers);
            let mut visitor = Even(Seen::default());
            let now = Seconds(50);
            while !map.clean(
                &mut CleaningCursor::default(),
                now,
                usize::MAX,
                &mut visitor,
            ) {}
            let Even(seen) = visitor;
            assert_eq!((seen.remaining, seen.torrents), (stay, torrents));
            assert_eq!(seen.remaining + seen.removed, usize::from(peers));
            assert_eq!(map.peers(), stay);
        }
    }

    #[test]
    fn large_swarms_are_sampled_and_no_others() {
        let mut map = map(3, 64);
        fill(&mut map, 7, 100);
        fill(&mut map, 8, 10_000);
        let larger = |map: &TorrentMap<CompactV4>| {
            let mut rng = fastrand::Rng::with_seed(3);
            let drawn = map.large_sample.draw(100, &mut rng).collect::<Vec<_>>();
            let is = |torrent| {
                drawn
                    .iter()
                    .filter(move |it| **it == InfoHash([torrent; 20]))
            };
            assert_eq!((is(7).count() + is(8).count(), drawn.len()), (100, 100));
            is(8).count()
        };
        assert!(larger(&map) > 80);
        for _ in 0..3 {
            slices(&mut map, 50, 1_000);
            assert!(larger(&map) > 80);
        }
    }

    #[test]
    fn torrents_and_their_peers_use_up_the_budget() {
        let mut lone = map(10, 1);
        assert_eq!(
            slices(&mut lone, 50, 6),
            [(3, 0, 3), (3, 0, 3), (3, 0, 3), (1, 0, 1)]
        );
        assert_eq!(slices(&mut lone, 50, 100), [(10, 0, 10)]);
    }

    #[test]
    fn a_walk_shows_as_many_as_it_may_and_begins_again() {
        let map = map(10, 1);
        let mut cursor = WalkCursor::default();
        for _ in 0..2 {
            for (shown, is_over) in [(4, false), (4, false), (2, true)] {
                let mut seen = 0;
                assert_eq!(map.walk(&mut cursor, 4, |_, _| seen += 1), is_over);
                assert_eq!(seen, shown);
            }
        }
        let mut seen = 0;
        assert!(!map.walk(&mut cursor, 0, |_, _| seen += 1));
        assert_eq!(seen, 1, "there is always some progress");
        let empty = TorrentMap::<CompactV4>::new(HashKey::new([1, 2]), Limits::default());
        assert!(empty.walk(&mut WalkCursor::default(), 4, |_, _| ()));
    }
}
