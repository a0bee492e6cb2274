use aquatic_types::{CompactAddr, CompactV4, PeerStatus, Seconds};

use super::*;
use crate::{Announce, HashKey, Keep, Limits};

const LEAST: u32 = 20;

struct World {
    map: TorrentMap<CompactV4>,
    rng: fastrand::Rng,
    /// What the map may take while somebody looks for room in it.
    bytes_max: usize,
}

impl World {
    fn new() -> Self {
        Self {
            map: TorrentMap::new(HashKey::new([1, 2]), Limits::default()),
            rng: fastrand::Rng::with_seed(3),
            bytes_max: 0,
        }
    }

    fn key(&self, torrent: u32) -> TorrentKey {
        let mut info_hash = [0; 20];
        info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
        self.map.key(InfoHash(info_hash))
    }

    /// A peer joins whose network has so many peers.
    fn add(&mut self, torrent: u32, weight: u8, port: u16) {
        let announce = Announce {
            peer: CompactV4::new([10, 0, 0, weight].into(), port),
            status: PeerStatus::Leecher,
            completed: false,
            num_want: 0,
        };
        let key = self.key(torrent);
        self.map.set_bytes_max(usize::MAX);
        let rng = &mut self.rng;
        let announced = self.map.announce(
            &key,
            &announce,
            Seconds(1_200),
            &mut Keep(()),
            rng,
            |_, ()| (),
        );
        assert!(announced.is_ok());
    }

    fn search(&mut self, among: Among, except: u32) -> GivenWay {
        self.search_above(LEAST, among, except)
    }

    fn search_above(&mut self, least: u32, among: Among, except: u32) -> GivenWay {
        let except = self.key(except);
        self.map.set_bytes_max(self.bytes_max);
        let weigh = |peer: &CompactV4, (): &()| u32::from(peer.0[3]);
        let rng = &mut self.rng;
        let together = 0;
        let terms = Terms { least, together };
        self.map
            .give_way(among, &except, terms, rng, weigh, |_, _, ()| ())
    }
}

const NOBODY: u32 = u32::MAX;

#[test]
fn it_is_a_dispute_if_nobody_has_gone_who_has_more_than_a_few() {
    let given_way = |removed, heaviest| GivenWay { removed, heaviest };
    assert!(!given_way(1, FEW + 1).is_dispute());
    assert!(given_way(0, FEW + 1).is_dispute());
    assert!(!given_way(0, FEW).is_dispute());
    assert_eq!(given_way(2, 3).and(given_way(3, 2)), given_way(5, 3));
    assert_eq!(given_way(2, 3).and(given_way(3, 4)), given_way(5, 4));
}

#[test]
fn the_heaviest_are_those_who_have_so_many_peers_together() {
    let of = |weight| Candidate {
        torrent: 1,
        peer: None,
        weight,
    };
    let looked_at = [3, 10, 20, EMPTY].map(of);
    // Each stands for ten. The one without peers weighs nothing.
    let expected = [
        (0, 20),
        (10, 20),
        (11, 10),
        (20, 10),
        (21, 3),
        (30, 3),
        (31, 0),
    ];
    for (together, expected) in expected {
        assert_eq!(heaviest(&looked_at, together, 40), expected, "{together}");
    }
    assert_eq!(heaviest(&looked_at[3..], 0, 40), 0);
    assert_eq!(heaviest(&[], 0, 40), 0);
}

/// Maps that are full until some searches have each removed something.
struct Maps {
    room: Room,
    found: GivenWay,
    searches: u32,
    needed: u32,
}

impl BoundedMaps for Maps {
    fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    fn share_memory(&mut self) {}

    fn peers(&self) -> usize {
        0
    }

    fn give_way(&mut self, _: Among, _: &TorrentKey, _: Terms) -> GivenWay {
        self.searches += 1;
        self.found
    }
}

#[test]
fn room_is_made_in_as_many_searches_as_it_takes_if_they_are_few() {
    let hash_key = HashKey::new([1, 2]);
    let key = hash_key.torrent(InfoHash([1; 20]));
    let removing = |removed| GivenWay {
        removed,
        heaviest: 100,
    };
    for (is_scarce, found, needed, expected) in [
        (true, removing(1), 1, (true, 1)),
        (true, removing(1), 4, (true, 4)),
        (true, removing(1), 5, (false, 4)),
        // It was known to be there, and was missed, among torrents of all three kinds.
        (true, removing(0), 13, (false, 12)),
        (false, removing(1), 1, (false, 0)),
    ] {
        let mut room = Room::new(std::num::NonZeroUsize::new(1 << 20), hash_key);
        assert!(!is_scarce || room.becomes_scarce(1 << 20));
        let searches = 0;
        let mut maps = Maps {
            room,
            found,
            searches,
            needed,
        };
        let is_made = maps.make_room(7, &key, |maps| maps.searches < maps.needed);
        assert_eq!((is_made, maps.searches), expected, "{needed} needed");
    }
    // Nobody is known to have more than a few: one search, among torrents of all three kinds.
    let mut maps = Maps {
        room: Room::new(std::num::NonZeroUsize::new(1 << 20), hash_key),
        found: GivenWay::default(),
        searches: 0,
        needed: 4,
    };
    maps.room.becomes_scarce(1 << 20);
    (0..16).for_each(|_| maps.room.searched(8));
    let made = (0..16)
        .filter(|_| maps.make_room(7, &key, |_| true))
        .count();
    assert_eq!((made, maps.searches), (0, 3));
}

#[test]
fn single_peers_of_large_swarms_give_way() {
    let mut world = World::new();
    for port in 1..=100 {
        [1, 30, 50]
            .into_iter()
            .for_each(|weight| world.add(1, weight, port));
    }
    (1..=30).for_each(|port| world.add(2, 50, port));
    let peers = |world: &World| world.map.scrape(&world.key(1)).peers();
    // As many as it takes, though all that were looked at may go.
    world.bytes_max = world.map.bytes() - 40;
    let removed = world.search(Among::Large, NOBODY).removed;
    assert!((3..=6).contains(&removed), "{removed}");
    assert_eq!(peers(&world) as usize, 300 - removed);
    // Those of the one that somebody comes to, too: it may be the flood.
    world.bytes_max = 0;
    for except in [NOBODY, 1].repeat(15) {
        let before = peers(&world) as usize;
        let removed = world.search(Among::Large, except).removed;
        assert_eq!(peers(&world) as usize, before - removed);
    }
    let left = peers(&world);
    assert!(
        (100..130).contains(&left),
        "{left} of 300, 200 of which are heavy"
    );
    for port in 1..=100 {
        let light = CompactV4::new([10, 0, 0, 1].into(), port);
        assert!(world.map.peer(&world.key(1), &light).is_some());
    }
    assert_eq!(world.map.scrape(&world.key(2)).peers(), 30);
    world.map.assert_sound();
}

/// Else those who have less search in vain.
#[test]
fn a_torrent_is_known_to_be_as_heavy_as_its_lightest_peer() {
    for least in [FEW, 30, 60] {
        let mut world = World::new();
        world.add(1, 50, 1);
        world.add(1, 20, 1);
        world.add(1, 40, 1);
        let given_way = world.search_above(least, Among::Young, NOBODY);
        assert_eq!(given_way.heaviest, 20, "{least}");
        assert_eq!(given_way.removed > 0, least < 20);
    }
}

#[test]
fn torrents_without_peers_go_and_are_not_heavy() {
    let mut world = World::new();
    world.add(1, 15, 1);
    world.add(2, 50, 1);
    let peer = CompactV4::new([10, 0, 0, 50].into(), 1);
    assert!(world.map.remove_peer(&world.key(2), &peer).is_some());
    let given_way = world.search(Among::Young, NOBODY);
    assert_eq!((given_way.removed, given_way.heaviest), (1, 15));
    assert_eq!(world.map.torrents(), 1);
}

/// The last ones are not, which are always looked at.
#[test]
fn a_search_finds_one_of_a_flood_nearly_always() {
    let mut world = World::new();
    world.bytes_max = usize::MAX;
    for torrent in 0..1_004 {
        let weight = if torrent % 5 == 0 && torrent < 1_000 {
            50
        } else {
            1
        };
        world.add(torrent, weight, 1);
    }
    let found = (0..1_000).filter(|_| world.search(Among::Young, NOBODY).heaviest == 50);
    let found = found.count();
    assert!(found > 880, "{found} of 1,000");
    // The very last ones are looked at each time.
    world.add(1_004, 60, 1);
    assert!((0..100).all(|_| world.search(Among::Young, NOBODY).heaviest == 60));
}
