//! Snapshots, and what is applied of them, against a model that is too simple to be wrong.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};
use proptest::prelude::*;

use crate::{
    Announce, Applied, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits, LivePeer,
    Refusal, SnapshotVisitor, Told, TorrentMap,
};

const PEER_AGE_SECONDS: u32 = 300;
/// Near the point where 16-bit deadlines wrap.
const START: u32 = 0xffff - 200;

fn peer(number: u16) -> CompactV4 {
    let [high, low] = number.to_be_bytes();
    CompactV4([10, high, low, 1, 0x1a, 0xe1])
}

fn info_hash(torrent: u8) -> InfoHash {
    InfoHash([torrent; 20])
}

#[derive(Clone, Debug)]
enum Operation {
    /// Of these peers, each.
    Announce(u8, std::ops::Range<u16>, PeerStatus, bool),
    Apply(u8, u16, PeerStatus, (bool, bool), u32),
    Wait(u32),
    CleanSlice(usize),
    SnapshotSlice(usize),
    AbandonSnapshot,
}

fn operation() -> impl Strategy<Value = Operation> {
    let torrent = || prop_oneof![3 => 0..2_u8, 1 => 0..30_u8];
    let peer = || prop_oneof![1 => 0..6_u16, 2 => 0..200_u16];
    let status = || {
        prop_oneof![
            3 => Just(PeerStatus::Leecher),
            3 => Just(PeerStatus::Seeder),
            1 => Just(PeerStatus::Stopped),
        ]
    };
    prop_oneof![
        20 => (torrent(), peer(), status(), any::<bool>()).prop_map(
            |(torrent, peer, status, completed)| {
                Operation::Announce(torrent, peer..peer + 1, status, completed)
            }
        ),
        3 => (torrent(), peer(), 1..120_u16, status()).prop_map(|(torrent, first, many, status)| {
            Operation::Announce(torrent, first..first + many, status, false)
        }),
        10 => (torrent(), peer(), status(), any::<(bool, bool)>(), 0..400_u32).prop_map(
            |(torrent, peer, status, completed, life)| {
                Operation::Apply(torrent, peer, status, completed, life)
            }
        ),
        2 => (0..100_u32).prop_map(Operation::Wait),
        3 => (0..150_usize).prop_map(Operation::CleanSlice),
        20 => (0..60_usize).prop_map(Operation::SnapshotSlice),
        1 => Just(Operation::AbandonSnapshot),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelPeer {
    is_seeder: bool,
    is_finished: bool,
    deadline: u32,
}

type ModelKey = (InfoHash, CompactV4);

/// A snapshot that is on its way.
#[derive(Default)]
struct Pass {
    /// Who was there when it began, and has been there ever since.
    stayed: HashSet<ModelKey>,
    shown: HashMap<ModelKey, LivePeer<CompactV4>>,
    /// Torrents, with the downloads that were shown.
    torrents: HashMap<InfoHash, u32>,
}

struct World {
    map: TorrentMap<CompactV4>,
    model: HashMap<ModelKey, ModelPeer>,
    completed: HashMap<InfoHash, u32>,
    pass: Option<Pass>,
    cursor: CleaningCursor,
    now: u32,
    rng: fastrand::Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            map: TorrentMap::new(HashKey::new([seed, !seed]), Limits::default()),
            model: HashMap::new(),
            completed: HashMap::new(),
            pass: None,
            cursor: CleaningCursor::default(),
            now: START,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Announce(torrent, peers, status, completed) => {
                peers.for_each(|it| self.announce(info_hash(torrent), peer(it), status, completed));
            }
            Operation::Apply(torrent, number, status, (completed, is_finished), life) => {
                let told = Told {
                    peer: peer(number),
                    status,
                    completed,
                    is_finished,
                    deadline: Seconds(self.now + life),
                };
                self.apply(info_hash(torrent), &told);
            }
            Operation::Wait(seconds) => self.wait(seconds),
            Operation::CleanSlice(budget) => self.clean(budget),
            Operation::SnapshotSlice(budget) => self.snapshot(budget),
            Operation::AbandonSnapshot => {
                self.map.abandon_snapshot();
                self.pass = None;
            }
        }
    }

    fn wait(&mut self, seconds: u32) {
        self.now += seconds;
        if let Some(pass) = &mut self.pass {
            // Whoever is not alive when it is its turn need not be shown, even if it comes back.
            let is_alive = |key: &ModelKey| self.model[key].deadline / 2 >= self.now / 2;
            pass.stayed.retain(is_alive);
        }
    }

    fn left(&mut self, key: &ModelKey) {
        self.model.remove(key);
        if let Some(pass) = &mut self.pass {
            pass.stayed.remove(key);
        }
    }

    fn announce(&mut self, hash: InfoHash, peer: CompactV4, status: PeerStatus, completed: bool) {
        let announce = Announce {
            peer,
            status,
            completed,
            num_want: 0,
        };
        let key = self.map.key(hash);
        let deadline = Seconds(self.now + PEER_AGE_SECONDS);
        let outcome = self.map.announce(
            &key,
            &announce,
            deadline,
            &mut Keep(()),
            &mut self.rng,
            |_, ()| (),
        );
        outcome.unwrap();
        if status == PeerStatus::Stopped {
            return self.left(&(hash, peer));
        }
        let is_seeder = status == PeerStatus::Seeder;
        let was_finished = self
            .model
            .get(&(hash, peer))
            .is_some_and(|it| it.is_finished);
        if completed && !was_finished {
            *self.completed.entry(hash).or_default() += 1;
        }
        let known = ModelPeer {
            is_seeder,
            is_finished: was_finished || is_seeder || completed,
            deadline: deadline.0,
        };
        self.model.insert((hash, peer), known);
    }

    fn apply(&mut self, hash: InfoHash, told: &Told<CompactV4>) {
        let key = self.map.key(hash);
        let applied = self.map.apply(Seconds(self.now), &key, told, &mut Keep(()));
        let key = (hash, told.peer);
        let is_seeder = told.status == PeerStatus::Seeder;
        let is_finished = told.is_finished || told.completed || is_seeder;
        let has_left = told.status == PeerStatus::Stopped;
        let expected = match self.model.get_mut(&key) {
            None if has_left => Applied::Nothing,
            None => {
                let known = ModelPeer {
                    is_seeder,
                    is_finished,
                    deadline: told.deadline.0,
                };
                self.model.insert(key, known);
                if told.completed && !told.is_finished {
                    *self.completed.entry(hash).or_default() += 1;
                }
                Applied::Added
            }
            // Deadlines have steps of two seconds.
            Some(known) if has_left && known.deadline / 2 <= told.deadline.0 / 2 => {
                self.left(&key);
                Applied::Removed(())
            }
            Some(known) => {
                if told.completed && !known.is_finished {
                    *self.completed.entry(hash).or_default() += 1;
                }
                known.is_finished |= is_finished;
                if known.deadline / 2 <= told.deadline.0 / 2 {
                    known.deadline = told.deadline.0;
                    known.is_seeder = is_seeder;
                    Applied::Updated
                } else {
                    Applied::Nothing
                }
            }
        };
        assert_eq!(applied, Ok(expected), "{told:?}");
    }

    fn clean(&mut self, budget: usize) {
        let now = Seconds(self.now);
        self.map.clean(&mut self.cursor, now, budget, &mut Nobody);
        let is_known = |key: &ModelKey| self.map.peer(&self.map.key(key.0), &key.1).is_some();
        let all = self.model.iter();
        let gone: Vec<_> = all
            .filter(|(key, _)| !is_known(key))
            .map(|(key, known)| (*key, *known))
            .collect();
        for (key, known) in gone {
            assert!(
                known.deadline / 2 < now.0 / 2,
                "{key:?} went before its time"
            );
            self.left(&key);
        }
        // Downloads of a torrent that is forgotten are forgotten with it.
        let map = &self.map;
        let known = |hash: &InfoHash| map.position(&map.key(*hash)).is_some();
        self.completed.retain(|hash, _| known(hash));
    }

    fn snapshot(&mut self, budget: usize) {
        let now = self.now;
        let model = &self.model;
        let is_alive = |(_, known): &(&ModelKey, &ModelPeer)| known.deadline / 2 >= now / 2;
        let pass = self.pass.get_or_insert_with(|| Pass {
            stayed: model.iter().filter(is_alive).map(|(key, _)| *key).collect(),
            ..Pass::default()
        });
        let mut seen = Seen::default();
        let is_over = self.map.snapshot(Seconds(now), budget, &mut seen);
        for (hash, completed) in seen.torrents {
            assert_eq!(completed, self.completed.get(&hash).copied().unwrap_or(0));
            pass.torrents.insert(hash, completed);
        }
        for (key, shown) in seen.peers {
            let known = model[&key];
            let left = (known.deadline | 1).checked_sub(now);
            assert_eq!(Some(u32::from(shown.seconds_left)), left, "{key:?}");
            assert_eq!(shown.is_seeder, known.is_seeder);
            assert_eq!(shown.is_finished, known.is_finished);
            assert!(pass.torrents.contains_key(&key.0));
            pass.shown.insert(key, shown);
        }
        if is_over {
            let pass = self.pass.take().unwrap();
            for key in pass.stayed {
                // One whose time was over when it was its turn need not be shown.
                let is_alive = self.model[&key].deadline / 2 >= now / 2;
                assert!(
                    !is_alive || pass.shown.contains_key(&key),
                    "{key:?} was missed"
                );
            }
        }
    }
}

/// Does not care what becomes of anybody.
struct Nobody;

impl CleaningVisitor<CompactV4, ()> for Nobody {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        assert!(counts.peers() > 0);
    }
}

#[derive(Default)]
struct Seen {
    torrents: Vec<(InfoHash, u32)>,
    peers: Vec<(ModelKey, LivePeer<CompactV4>)>,
}

impl SnapshotVisitor<CompactV4> for Seen {
    fn torrent(&mut self, info_hash: &InfoHash, completed: u32) {
        self.torrents.push((*info_hash, completed));
    }

    fn peer(&mut self, info_hash: &InfoHash, peer: &LivePeer<CompactV4>) {
        self.peers.push(((*info_hash, peer.key), *peer));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn a_snapshot_misses_nobody_and_invents_nobody(
        seed in any::<u64>(),
        operations in prop::collection::vec(operation(), 1..300),
    ) {
        let mut world = World::new(seed);
        for operation in operations {
            world.perform(operation);
        }
        world.map.assert_sound();
        for ((hash, peer), known) in &world.model {
            let key = world.map.key(*hash);
            assert!(world.map.peer(&key, peer).is_some(), "{known:?}");
        }
        for (hash, completed) in &world.completed {
            assert_eq!(world.map.scrape(&world.map.key(*hash)).completed, *completed);
        }
    }
}

/// All that a snapshot in one slice shows.
fn shown(map: &mut TorrentMap<CompactV4>, now: u32) -> Seen {
    let mut seen = Seen::default();
    assert!(map.snapshot(Seconds(now), usize::MAX, &mut seen));
    seen
}

#[test]
fn what_was_written_comes_back() {
    let mut world = World::new(1);
    for torrent in 0..20 {
        let peers = 0..u16::from(torrent) * 10;
        world.perform(Operation::Announce(
            torrent,
            peers.clone(),
            PeerStatus::Leecher,
            false,
        ));
        world.perform(Operation::Announce(
            torrent,
            0..peers.end / 2,
            PeerStatus::Seeder,
            true,
        ));
    }
    let mut again = TorrentMap::new(HashKey::new([5, 6]), Limits::default());
    let seen = shown(&mut world.map, START + 100);
    for (info_hash, completed) in &seen.torrents {
        again
            .apply_completed(*info_hash, *completed, Seconds(900))
            .unwrap();
    }
    // Else deadlines, in steps of two seconds, would be rounded otherwise.
    let began = Seconds((START + 100) % 2);
    for ((info_hash, peer), live) in &seen.peers {
        let told = Told {
            peer: *peer,
            status: if live.is_seeder {
                PeerStatus::Seeder
            } else {
                PeerStatus::Leecher
            },
            completed: false,
            is_finished: live.is_finished,
            deadline: began + u32::from(live.seconds_left),
        };
        let key = again.key(*info_hash);
        let applied = again.apply(began, &key, &told, &mut Keep(()));
        assert_eq!(applied, Ok(Applied::Added));
    }
    again.assert_sound();
    assert_eq!(again.peers(), world.map.peers());
    assert_eq!(again.seeders(), world.map.seeders());
    let sort = |mut seen: Seen| {
        seen.peers.sort_unstable_by_key(|(key, _)| (key.0, key.1));
        seen.torrents.sort_unstable();
        (seen.torrents, seen.peers)
    };
    assert!(sort(shown(&mut again, began.0)) == sort(seen));
}

fn tell(map: &mut TorrentMap<CompactV4>, peer: CompactV4) -> Result<Applied, Refusal> {
    let told = Told {
        peer,
        status: PeerStatus::Seeder,
        completed: false,
        is_finished: true,
        deadline: Seconds(100),
    };
    let key = map.key(info_hash(1));
    map.apply(Seconds(50), &key, &told, &mut Keep(()))
}

#[test]
fn limits_hold_for_what_is_applied() {
    let one = std::num::NonZeroUsize::new(1);
    let limits = |max_torrents, max_peers, max_peers_per_network| Limits {
        max_torrents,
        max_peers,
        max_peers_per_network,
        ..Limits::default()
    };
    let map = |limits| TorrentMap::new(HashKey::new([1, 2]), limits);

    let mut full = map(limits(None, one, None));
    assert_eq!(tell(&mut full, peer(1)), Ok(Applied::Added));
    assert_eq!(tell(&mut full, peer(2)), Err(Refusal::PeerLimit));
    assert_eq!(tell(&mut full, peer(1)), Ok(Applied::Updated));

    let mut full = map(limits(one, None, None));
    assert_eq!(full.apply_completed(info_hash(2), 7, Seconds(9)), Ok(()));
    assert_eq!(tell(&mut full, peer(1)), Err(Refusal::TorrentLimit));
    let refused = full.apply_completed(info_hash(3), 7, Seconds(9));
    assert_eq!(refused, Err(Refusal::TorrentLimit));
    assert_eq!(full.apply_completed(info_hash(2), 8, Seconds(9)), Ok(()));

    let mut closed = map(limits(None, None, NonZeroU16::new(1)));
    assert_eq!(tell(&mut closed, peer(1)), Ok(Applied::Added));
    let neighbour = CompactV4([10, 0, 1, 1, 0x1a, 0xe2]);
    assert_eq!(tell(&mut closed, neighbour), Ok(Applied::NotAdded));

    let mut full = map(Limits::default());
    full.set_bytes_max(0);
    assert_eq!(tell(&mut full, peer(1)), Err(Refusal::MemoryLimit));
    let refused = full.apply_completed(info_hash(3), 7, Seconds(9));
    assert_eq!(refused, Err(Refusal::MemoryLimit));
}

#[test]
fn a_peer_whose_time_is_over_does_not_come_back() {
    let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
    let told = Told {
        peer: peer(1),
        status: PeerStatus::Leecher,
        completed: false,
        is_finished: false,
        deadline: Seconds(100),
    };
    let key = map.key(info_hash(1));
    let late = map.apply(Seconds(103), &key, &told, &mut Keep(()));
    assert_eq!((late, map.torrents()), (Ok(Applied::Nothing), 0));
}

#[test]
fn what_was_never_written_down_is_forgotten_with_its_peers() {
    let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
    let key = map.key(info_hash(1));
    let mut rng = fastrand::Rng::with_seed(1);
    for status in [PeerStatus::Seeder, PeerStatus::Stopped] {
        let announce = Announce {
            peer: peer(1),
            status,
            completed: true,
            num_want: 0,
        };
        let deadline = Seconds(PEER_AGE_SECONDS);
        let select = |_: &CompactV4, (): &()| ();
        let outcome = map.announce(&key, &announce, deadline, &mut Keep(()), &mut rng, select);
        outcome.unwrap();
    }
    assert_eq!(map.scrape(&key).completed, 1);
    // Even in the very first second of the process.
    map.clean(
        &mut CleaningCursor::default(),
        Seconds(0),
        usize::MAX,
        &mut Nobody,
    );
    assert_eq!((map.scrape(&key).completed, map.torrents()), (0, 0));
}

#[test]
fn counts_stay_for_a_while_and_are_never_lowered() {
    let mut map: TorrentMap<CompactV4> = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
    map.apply_completed(info_hash(1), 7, Seconds(900)).unwrap();
    map.apply_completed(info_hash(1), 5, Seconds(900)).unwrap();
    let key = map.key(info_hash(1));
    let mut clean = |now: u32| {
        let mut cursor = CleaningCursor::default();
        assert!(map.clean(&mut cursor, Seconds(now), usize::MAX, &mut Nobody));
        map.scrape(&key).completed
    };
    assert_eq!([clean(0), clean(900), clean(901)], [7, 7, 0]);
}
