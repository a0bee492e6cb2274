//! Who gives way, and that the books are right afterwards.

use std::collections::HashMap;

use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus, Seconds};
use proptest::prelude::*;

use crate::{
    Among, Announce, BoundedMaps, CleaningCursor, CleaningVisitor, Counts, GivenWay, HashKey, Keep,
    Limits, PeerChange, PeerKey, Refusal, Room, Terms, TorrentKey, TorrentMap, WalkCursor,
};

const HASH_KEY: HashKey = HashKey::new([5, 6]);

/// A map with a bound, and who must be in it.
struct Shard {
    map: TorrentMap<CompactV4>,
    room: Room,
    rng: fastrand::Rng,
    peers: HashMap<(InfoHash, CompactV4), ()>,
    searches: usize,
}

fn torrent(number: u16) -> InfoHash {
    let mut info_hash = [1; 20];
    info_hash[..2].copy_from_slice(&number.to_be_bytes());
    InfoHash(info_hash)
}

fn peer(host: u8, port: u16) -> CompactV4 {
    CompactV4::new([10, 0, 0, host].into(), port)
}

fn network(peer: &CompactV4) -> u64 {
    peer.network().unwrap()
}

impl BoundedMaps for Shard {
    fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    fn share_memory(&mut self) {
        self.map.set_bytes_max(self.room.beside(0));
        if self.room.becomes_scarce(self.map.bytes()) {
            self.map.all_are_old();
        }
    }

    fn peers(&self) -> usize {
        self.map.peers()
    }

    fn give_way(&mut self, among: Among, except: &TorrentKey, terms: Terms) -> GivenWay {
        let Self {
            map,
            room,
            rng,
            peers,
            searches,
        } = self;
        *searches += usize::from(among == Among::Young);
        let before = map.peers();
        let except_is_large = map.scrape(except).peers() > 64;
        let mut gone = Vec::new();
        let weigh = |peer: &CompactV4, (): &()| room.count(network(peer));
        let note = |_: &InfoHash, peer: &CompactV4, ()| gone.push(*peer);
        let given_way = map.give_way(among, except, terms, rng, weigh, note);
        assert_eq!(before - map.peers(), gone.len());
        // Who it was is known by address only: those that are no longer found must be these.
        let mut missing = Vec::new();
        peers.retain(|(info_hash, peer), ()| {
            let stays = map.peer(&map.key(*info_hash), peer).is_some();
            if !stays {
                assert!(*info_hash != except.info_hash() || except_is_large);
                missing.push(*peer);
            }
            stays
        });
        gone.sort_unstable();
        missing.sort_unstable();
        assert_eq!(gone, missing);
        given_way
    }
}

impl Shard {
    fn new(bytes_max: usize) -> Self {
        Self {
            map: TorrentMap::new(HASH_KEY, Limits::default()),
            room: Room::new(bytes_max.try_into().ok(), HASH_KEY),
            rng: fastrand::Rng::with_seed(7),
            peers: HashMap::new(),
            searches: 0,
        }
    }

    fn tell(
        &mut self,
        info_hash: InfoHash,
        peer: CompactV4,
        status: PeerStatus,
        deadline: u32,
    ) -> Result<PeerChange, Refusal> {
        let key = self.map.key(info_hash);
        let announce = Announce {
            peer,
            status,
            completed: false,
            num_want: 5,
        };
        let announced = self.map.announce(
            &key,
            &announce,
            Seconds(deadline),
            &mut Keep(()),
            &mut self.rng,
            |_, ()| (),
        );
        announced.map(|announced| announced.change)
    }

    fn announce(
        &mut self,
        info_hash: InfoHash,
        peer: CompactV4,
        status: PeerStatus,
        deadline: u32,
    ) {
        self.share_memory();
        let mut outcome = self.tell(info_hash, peer, status, deadline);
        if outcome == Err(Refusal::MemoryLimit) {
            let key = self.map.key(info_hash);
            if self.make_room(network(&peer), &key, |world| world.map.is_full()) {
                outcome = self.tell(info_hash, peer, status, deadline);
                assert!(outcome.is_ok(), "there is room");
            }
        }
        match outcome {
            Ok(PeerChange::Added) => {
                self.room.added(network(&peer));
                self.peers.insert((info_hash, peer), ());
            }
            Ok(PeerChange::Removed(())) => {
                self.peers.remove(&(info_hash, peer));
            }
            _ => {}
        }
    }

    fn search(&mut self, except: InfoHash, least: u32) -> GivenWay {
        let except = self.map.key(except);
        BoundedMaps::search(self, &except, least)
    }

    fn clean(&mut self, now: u32) {
        let mut cursor = CleaningCursor::default();
        while !self
            .map
            .clean(&mut cursor, Seconds(now), 50, &mut Cleaner(&mut self.room))
        {}
        self.room.pass_ended();
        let map = &self.map;
        self.peers
            .retain(|(info_hash, peer), ()| map.peer(&map.key(*info_hash), peer).is_some());
    }

    fn assert_sound(&self) {
        assert_eq!(self.map.peers(), self.peers.len());
        let mut counted = 0;
        let mut seeders = 0;
        self.map.walk(
            &mut WalkCursor::default(),
            usize::MAX,
            |info_hash, counts| {
                counted += counts.peers() as usize;
                seeders += counts.seeders as usize;
                let of_torrent = self
                    .peers
                    .keys()
                    .filter(|(torrent, _)| torrent == info_hash);
                assert_eq!(of_torrent.count(), counts.peers() as usize);
            },
        );
        assert_eq!((counted, seeders), (self.map.peers(), self.map.seeders()));
        self.map.assert_sound();
    }
}

struct Cleaner<'a>(&'a mut Room);

impl CleaningVisitor<CompactV4, ()> for Cleaner<'_> {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_remains(&mut self, peer: &CompactV4, (): &mut ()) {
        self.0.remains(network(peer));
    }

    fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

    fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
}

/// What a map takes at once at most: a swarm that gets an index, and the parts of an index that are
/// made anew.
const STEP_BYTES: usize = 4 << 10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_bound_holds_and_the_books_are_right(seed: u64, torrents in 1_u16..2_000) {
        const BYTES_MAX: usize = 48 << 10;
        let mut shard = Shard::new(BYTES_MAX);
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..4_000 {
            // Few hosts have most of the peers.
            let host = rng.u8(..) >> rng.u32(..8);
            let status = match rng.u8(..10) {
                0 => PeerStatus::Stopped,
                1..4 => PeerStatus::Seeder,
                _ => PeerStatus::Leecher,
            };
            let number = rng.u16(..torrents) >> rng.u32(..4);
            let deadline = 10 + round / 4;
            shard.announce(torrent(number), peer(host, rng.u16(1..400)), status, deadline);
            prop_assert!(shard.map.bytes() <= BYTES_MAX + STEP_BYTES, "{}", shard.map.bytes());
            if round % 400 == 399 {
                shard.clean(round / 8);
                shard.assert_sound();
            }
        }
    }
}

/// A map of lone torrents, one of each host of `hosts`, all of whose peers are counted.
fn lone(hosts: &[u8]) -> Shard {
    let mut shard = Shard::new(64 << 10);
    for (number, host) in (0..).zip(hosts) {
        shard.announce(
            torrent(number),
            peer(*host, number + 1),
            PeerStatus::Leecher,
            100,
        );
    }
    // Full, whatever it holds.
    let bytes = shard.map.bytes();
    assert!(shard.room.becomes_scarce(64 << 10));
    shard.clean(0);
    shard.map.set_bytes_max(bytes);
    shard
}

/// Hosts of the torrents that are left, by number.
fn left(shard: &Shard, torrents: u16) -> Vec<u16> {
    let is_left = |number: &u16| shard.map.scrape(&shard.map.key(torrent(*number))).peers() > 0;
    (0..torrents).filter(is_left).collect()
}

#[test]
fn the_youngest_of_the_heaviest_gives_way() {
    let mut shard = lone(&[1, 2, 2, 1, 2, 3]);
    assert_eq!(
        shard.search(torrent(99), 1),
        GivenWay {
            removed: 1,
            heaviest: 3
        }
    );
    assert_eq!(left(&shard, 6), [0, 1, 2, 3, 5]);
}

#[test]
fn nobody_gives_way_to_who_has_as_many() {
    let mut shard = lone(&[1, 2, 2, 1, 2, 3]);
    assert_eq!(
        shard.search(torrent(99), 3),
        GivenWay {
            removed: 0,
            heaviest: 3
        }
    );
    assert_eq!(left(&shard, 6), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_peer_that_has_little_protects_its_torrent() {
    let mut shard = lone(&[1, 2, 2, 1, 2, 3]);
    let joins = shard.tell(torrent(4), peer(3, 50), PeerStatus::Leecher, 100);
    assert_eq!(joins, Err(Refusal::MemoryLimit));
    shard.map.set_bytes_max(usize::MAX);
    let joins = shard.tell(torrent(4), peer(3, 50), PeerStatus::Leecher, 100);
    assert_eq!(joins, Ok(PeerChange::Added));
    shard.peers.insert((torrent(4), peer(3, 50)), ());
    shard.map.set_bytes_max(shard.map.bytes());
    shard.search(torrent(99), 1);
    assert_eq!(
        left(&shard, 6),
        [0, 1, 3, 4, 5],
        "the youngest that is heavy is number 2"
    );
}

#[test]
fn the_torrent_that_is_wanted_stays() {
    let mut shard = lone(&[2, 2, 2]);
    shard.map.set_bytes_max(0);
    shard.search(torrent(1), 1);
    assert_eq!(left(&shard, 3), [1]);
}

/// A swarm that is itself the flood is not closed to those who come to it.
#[test]
fn a_large_swarm_makes_room_for_its_own_newcomers() {
    let mut shard = Shard::new(64 << 10);
    for port in 1..6_000 {
        shard.announce(torrent(1), peer(1, port), PeerStatus::Leecher, 100);
    }
    let full = shard.map.peers();
    assert!(full < 5_900, "there is no bound");
    for host in 50..250 {
        shard.announce(torrent(1), peer(host, 1), PeerStatus::Leecher, 100);
    }
    let is_newcomer = |host: &u8| shard.peers.contains_key(&(torrent(1), peer(*host, 1)));
    let came = (50..250).filter(is_newcomer).count();
    // Its memory comes and goes in pieces, and a few are refused until there is one.
    assert!(came >= 180, "{came} of 200 came");
    assert!(shard.map.peers() <= full + 10);
    shard.assert_sound();
}

#[test]
fn old_torrents_stay_while_there_are_younger_ones() {
    let mut shard = lone(&[2; 40]);
    shard.map.set_bytes_max(usize::MAX);
    shard.map.all_are_old();
    for number in 40..43 {
        let peer = peer(3, number);
        assert!(
            shard
                .tell(torrent(number), peer, PeerStatus::Leecher, 100)
                .is_ok()
        );
        shard.peers.insert((torrent(number), peer), ());
        shard.room.added(network(&peer));
    }
    shard.map.set_bytes_max(0);
    shard.search(torrent(99), 1);
    let young = left(&shard, 43).into_iter().filter(|number| *number >= 40);
    assert_eq!(young.count(), 0);
    assert_eq!(left(&shard, 40).len(), 40);
    shard.search(torrent(99), 1);
    assert!(left(&shard, 40).len() < 40, "there is nobody else");
}

/// A swarm of many belongs to many: those who are too many there go one by one, whoever else is in
/// it, and nobody is safe in such company.
#[test]
fn a_large_swarm_loses_single_peers_of_who_has_many() {
    let mut shard = Shard::new(64 << 10);
    for port in 1..=100 {
        shard.announce(torrent(1), peer(2, port), PeerStatus::Leecher, 100);
    }
    for host in 3..8 {
        shard.announce(torrent(1), peer(host, 1), PeerStatus::Leecher, 100);
    }
    assert!(shard.room.becomes_scarce(64 << 10));
    shard.clean(0);
    shard.map.set_bytes_max(0);
    for _ in 0..10 {
        shard.search(torrent(99), 1);
    }
    let left = shard.map.peers();
    assert!((5..=95).contains(&left), "{left}");
    let key = shard.map.key(torrent(1));
    let stays = |host: u8| shard.map.peer(&key, &peer(host, 1)).is_some();
    assert!((3..8).all(stays), "those who have little there stay");
}

/// Hosts with so many torrents each, in a map that is full.
fn full(torrents_by_host: &[(u8, usize)]) -> Shard {
    let hosts = torrents_by_host.iter();
    let hosts = hosts.flat_map(|(host, torrents)| std::iter::repeat_n(*host, *torrents));
    lone(&hosts.collect::<Vec<_>>())
}

/// Otherwise two who have about as many would oust each other in turn.
#[test]
fn only_who_has_more_than_twice_as_many_gives_way() {
    for (others, gives_way) in [(60, false), (61, true)] {
        let mut shard = full(&[(1, 30), (2, others)]);
        let least = shard.room.displaces(network(&peer(1, 1))).unwrap();
        let removed = (0..20).map(|_| shard.search(torrent(999), least).removed);
        assert_eq!(removed.sum::<usize>() > 0, gives_way, "{others}");
    }
}

/// Each host has so many torrents; the first ones are there before memory is scarce.
struct Town {
    shard: Shard,
    torrents: u16,
}

impl Town {
    fn new() -> Self {
        Self {
            shard: Shard::new(64 << 10),
            torrents: 0,
        }
    }

    /// A host announces one more torrent: whether it is served.
    fn announces(&mut self, host: u8) -> bool {
        self.torrents += 1;
        let (torrent, peer) = (torrent(self.torrents), peer(host, self.torrents));
        self.shard.announce(torrent, peer, PeerStatus::Leecher, 100);
        self.shard.peers.contains_key(&(torrent, peer))
    }

    /// Until memory is scarce.
    fn is_old(&mut self, hosts: &[u8]) {
        for host in hosts.iter().cycle() {
            self.announces(*host);
            if self.shard.room.count(network(&peer(*host, 1))) > 0 {
                break;
            }
        }
        self.shard.clean(0);
    }

    /// Hosts with so many torrents each, until there is no more room.
    fn is_filled_up(&mut self, torrents: usize) {
        let hosts = (10..100).flat_map(|host| std::iter::repeat_n(host, torrents));
        for host in hosts {
            if self.shard.map.is_full() {
                break;
            }
            self.announces(host);
        }
        assert!(self.shard.map.is_full());
        // Those who have come since the last pass count twice in the next one.
        (0..2).for_each(|_| self.shard.clean(0));
    }

    fn torrents_of(&self, host: u8) -> usize {
        let peers = self.shard.peers.keys();
        let network = network(&peer(host, 1));
        peers
            .filter(|(_, peer)| peer.network() == Some(network))
            .count()
    }
}

/// Those who have come since have more than a few, and not enough to give way: that is no reason
/// to leave a flood alone that was there before.
#[test]
fn an_old_flood_gives_way_while_the_young_dispute() {
    for flood in [&[1][..], &[1, 3, 4, 5]] {
        let mut town = Town::new();
        town.is_old(flood);
        (0..20).for_each(|_| assert!(town.announces(2)));
        town.is_filled_up(12);
        let served = (0..10).filter(|_| town.announces(2)).count();
        assert!(served >= 9, "{served} of 10 were served, {flood:?}");
        town.shard.assert_sound();
    }
}

/// In an old large swarm, too.
#[test]
fn an_old_flood_of_a_large_swarm_gives_way_while_the_young_dispute() {
    let mut town = Town::new();
    for port in 1..=2_000 {
        town.shard
            .announce(torrent(0), peer(1, port), PeerStatus::Leecher, 100);
    }
    town.is_old(&[6]);
    (0..20).for_each(|_| assert!(town.announces(2)));
    town.is_filled_up(12);
    let served = (0..30).filter(|_| town.announces(2)).count();
    assert!(served >= 28, "{served} of 30 were served");
    town.shard.assert_sound();
}

/// A flood from many is refused when each of them has about the same. That somebody old has more,
/// but little of the whole, does not help them, and they are refused without a search.
#[test]
fn who_has_little_of_the_whole_does_not_pay_for_a_dispute_among_the_young() {
    let mut town = Town::new();
    (0..40).for_each(|_| assert!(town.announces(1)));
    let others = (100..u8::MAX).collect::<Vec<_>>();
    town.is_old(&others);
    town.is_filled_up(12);
    town.shard.searches = 0;
    let flood = (10..30).cycle().take(4_000);
    let served = flood.filter(|host| town.announces(*host)).count();
    let (left, searches) = (town.torrents_of(1), town.shard.searches);
    assert!(left >= 36, "{left} of 40 are left, {served} were served");
    assert!(searches <= 500, "{searches} searches");
}

/// Nor does who has little of the large swarms.
#[test]
fn single_peers_do_not_pay_for_a_dispute_among_the_young() {
    let mut town = Town::new();
    for number in 0..1_000_u16 {
        // 40 of one host, and 5 of each other one.
        let other = u8::try_from(50 + number / 5).unwrap();
        let host = if number % 25 == 0 { 1 } else { other };
        town.shard
            .announce(torrent(0), peer(host, 1 + number), PeerStatus::Leecher, 100);
    }
    let others = (100..u8::MAX).collect::<Vec<_>>();
    town.is_old(&others);
    town.is_filled_up(12);
    let flood = (10..30).cycle().take(4_000);
    let served = flood.filter(|host| town.announces(*host)).count();
    let left = town.torrents_of(1);
    assert!(left >= 36, "{left} of 40 are left, {served} were served");
}

/// Who has few takes the place of the young, and finds no old ones: that says nothing about them
/// to who has more.
#[test]
fn those_who_are_served_hide_no_old_flood() {
    let mut town = Town::new();
    town.is_old(&[1]);
    (0..20).for_each(|_| assert!(town.announces(2)));
    town.is_filled_up(24);
    for host in 100..140 {
        assert!(town.announces(host));
    }
    let served = (0..10).filter(|_| town.announces(2)).count();
    assert!(served >= 9, "{served} of 10 were served");
}

/// What a flood's own searches find is true for others, too, who have less.
#[test]
fn an_old_flood_cannot_hide_by_searching() {
    let mut town = Town::new();
    town.is_old(&[1]);
    (0..20).for_each(|_| assert!(town.announces(2)));
    town.is_filled_up(12);
    (0..645).for_each(|_| assert!(!town.announces(1)));
    let served = (0..10).filter(|_| town.announces(2)).count();
    assert!(served >= 9, "{served} of 10 were served");
}
