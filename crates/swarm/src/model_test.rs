//! The torrent map against a model that is too simple to be wrong.

use std::collections::HashMap;
use std::num::{NonZeroU8, NonZeroU16, NonZeroUsize};

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};
use proptest::prelude::*;

use crate::hash::HashKey;
use crate::{
    Announce, Announced, CleaningCursor, CleaningVisitor, Counts, Limits, PeerChange, PeerPolicy,
    Previous, Refusal, Told, TorrentMap, WalkCursor,
};

mod operations;
mod told;

use self::operations::{Operation, operation};

#[derive(Clone, Copy, Debug, PartialEq)]
struct ModelPeer {
    seeder: bool,
    is_finished: bool,
    deadline: u32,
    value: u64,
}

#[derive(Default)]
struct ModelTorrent {
    peers: HashMap<CompactV4, ModelPeer>,
    completed: u32,
}

impl ModelTorrent {
    fn counts(&self) -> Counts {
        let seeders = self.peers.values().filter(|peer| peer.seeder).count();
        Counts {
            seeders: u32::try_from(seeders).unwrap(),
            leechers: u32::try_from(self.peers.len() - seeders).unwrap(),
            completed: self.completed,
        }
    }
}

/// The map under test beside the model. `now` starts near the point where 16-bit deadlines wrap.
struct World {
    map: TorrentMap<CompactV4, u64>,
    model: HashMap<InfoHash, ModelTorrent>,
    limits: (usize, usize),
    /// Peers of one network in a swarm, and in an answer; 0 = any number.
    network_limits: (u16, u8),
    forbidden: Option<InfoHash>,
    cursor: CleaningCursor,
    now: u32,
    next_value: u64,
    /// Downloads that peers have announced here, over all torrents there have been.
    completed: usize,
    rng: fastrand::Rng,
}

const PEER_AGE_SECONDS: u32 = 300;

fn info_hash(torrent: u8) -> InfoHash {
    InfoHash([torrent; 20])
}

fn address(peer: u16) -> CompactV4 {
    let [high, low] = peer.to_be_bytes();
    // Networks of up to eight peers.
    CompactV4([10, 0, high, low & 0xf8, 0x1a, low & 0x07])
}

fn network(peer: &CompactV4) -> [u8; 4] {
    let [network @ .., _, _] = peer.0;
    network
}

/// What the map asks, and is told, while a peer announces.
struct Policy {
    peer: CompactV4,
    value: u64,
    deadline: Seconds,
    asked: u32,
    /// What was kept with the peer before.
    updated: Option<u64>,
    /// What was known of it.
    previous: Option<Previous>,
}

impl PeerPolicy<CompactV4, u64> for Policy {
    fn admit(&mut self, peer: &CompactV4) -> Option<u64> {
        assert_eq!(*peer, self.peer);
        self.asked += 1;
        is_welcome(*peer).then_some(self.value)
    }

    fn update(&mut self, value: &mut u64) {
        assert_eq!(self.updated, None);
        self.updated = Some(std::mem::replace(value, self.value));
    }

    fn replaces(&mut self, previous: Previous) {
        assert!(self.previous.is_none());
        self.previous = Some(previous);
    }
}

/// What `admit` says: some peers are refused.
fn is_welcome(peer: CompactV4) -> bool {
    (peer.0[3] | peer.0[5]) % 16 != 15
}

impl World {
    fn new(seed: u64, limits: (usize, usize), network_limits: (u16, u8)) -> Self {
        let map_limits = Limits {
            max_torrents: NonZeroUsize::new(limits.0),
            max_peers: NonZeroUsize::new(limits.1),
            max_peers_per_network: NonZeroU16::new(network_limits.0),
            max_response_peers_per_network: NonZeroU8::new(network_limits.1),
        };
        Self {
            map: TorrentMap::new(HashKey::new([seed, !seed]), map_limits),
            model: HashMap::new(),
            limits,
            network_limits,
            forbidden: None,
            cursor: CleaningCursor::default(),
            now: 0xffff - 500,
            next_value: 0,
            completed: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Announce {
                torrent,
                peer,
                status,
                completed,
                wanted,
            } => {
                self.announce(torrent, address(peer), status, completed, wanted);
            }
            Operation::Crowd {
                torrent,
                peers,
                status,
            } => {
                peers.for_each(|peer| self.announce(torrent, address(peer), status, false, 3));
            }
            Operation::Apply {
                torrent,
                peer,
                status,
                completed,
                is_finished,
                seconds_left,
            } => {
                let told = Told {
                    peer: address(peer),
                    status,
                    completed,
                    is_finished,
                    // Some of it is over.
                    deadline: Seconds(self.now + seconds_left - PEER_AGE_SECONDS / 4),
                };
                told::apply(self, info_hash(torrent), &told);
            }
            Operation::RemovePeer { torrent, peer } => {
                let (torrent, peer) = (info_hash(torrent), address(peer));
                let removed = self.map.remove_peer(&self.map.key(torrent), &peer);
                let torrent = self.model.get_mut(&torrent);
                let expected = torrent.and_then(|torrent| torrent.peers.remove(&peer));
                assert_eq!(removed, expected.map(|peer| peer.value));
            }
            Operation::Wait { seconds } => self.now += seconds,
            Operation::CleanSlice { budget } => {
                self.clean_slice(budget);
            }
            Operation::Forbid { torrent } => self.forbidden = Some(info_hash(torrent)),
            Operation::Allow => self.forbidden = None,
        }
    }

    fn announce(
        &mut self,
        torrent: u8,
        peer: CompactV4,
        status: PeerStatus,
        completed: bool,
        wanted: u16,
    ) {
        self.next_value += 1;
        let announce = Announce {
            peer,
            status,
            completed,
            num_want: wanted,
        };
        let info_hash = info_hash(torrent);
        if self.next_value.is_multiple_of(16) {
            self.check_availability(info_hash, peer, status);
        }
        let mut answer = Vec::new();
        let mut policy = Policy {
            peer,
            value: self.next_value,
            deadline: Seconds(self.now + PEER_AGE_SECONDS),
            asked: 0,
            updated: None,
            previous: None,
        };
        let key = self.map.key(info_hash);
        self.map.prefetch(&[key]);
        self.map.prefetch_peers(&[key], [peer]);
        let outcome = self.map.announce(
            &key,
            &announce,
            policy.deadline,
            &mut policy,
            &mut self.rng,
            |key, value| answer.push((*key, *value)),
        );
        let asked = policy.asked;

        if status == PeerStatus::Stopped {
            assert_eq!((asked, answer.len()), (0, 0));
            self.expect_departure(info_hash, peer, outcome.unwrap());
        } else if self.is_closed_to(info_hash, peer) {
            assert_eq!(asked, 0);
            let outcome = outcome.unwrap();
            assert_eq!(outcome.change, PeerChange::NotAdded);
            assert_eq!(outcome.counts, self.model[&info_hash].counts());
            self.expect_peers(info_hash, &announce, outcome.surplus, answer);
        } else if let Some(refusal) = self.expected_refusal(info_hash, peer, asked) {
            assert_eq!((outcome, answer.len()), (Err(refusal), 0));
        } else {
            self.expect_answer(info_hash, &announce, &policy, outcome.unwrap(), answer);
        }
    }

    /// What somebody would get: this peer, and one that cannot be in the map.
    fn check_availability(&mut self, info_hash: InfoHash, peer: CompactV4, to: PeerStatus) {
        let key = self.map.key(info_hash);
        let model = self.model.get(&info_hash);
        let peers = || model.into_iter().flat_map(|torrent| &torrent.peers);
        let eligible = |other: &ModelPeer| match to {
            PeerStatus::Leecher => true,
            PeerStatus::Seeder => !other.seeder,
            PeerStatus::Stopped => false,
        };
        let others = peers().filter(|(key, other)| **key != peer && eligible(other));
        let available = self.map.available(&key, to, Some(&peer));
        assert_eq!(available as usize, others.count());

        let all: Vec<_> = peers().filter(|(_, other)| eligible(other)).collect();
        let available = self.map.available(&key, to, None);
        assert_eq!(available as usize, all.len());
        for wanted in [0, all.len() / 2, all.len(), usize::MAX] {
            let mut answer = Vec::new();
            let mut note = |key: &CompactV4, value: &u64| answer.push((*key, *value));
            self.map
                .select_peers(&key, (to, None), wanted, &mut self.rng, &mut note);
            assert!(answer.iter().all(|(key, value)| {
                let known = model.and_then(|torrent| torrent.peers.get(key));
                known.is_some_and(|known| eligible(known) && known.value == *value)
            }));
            assert_eq!(answer.len(), wanted.min(all.len()));
            answer.sort_unstable();
            answer.dedup();
            assert_eq!(answer.len(), wanted.min(all.len()), "twice the same peer");
        }
    }

    fn is_closed_to(&self, info_hash: InfoHash, peer: CompactV4) -> bool {
        let of_network = |torrent: &ModelTorrent| {
            let peers = torrent.peers.keys();
            let others = peers.filter(|other| network(other) == network(&peer));
            others.count()
        };
        let torrent = self.model.get(&info_hash);
        let torrent = torrent.filter(|torrent| !torrent.peers.contains_key(&peer));
        let max = usize::from(self.network_limits.0);
        max > 0 && torrent.is_some_and(|torrent| of_network(torrent) >= max)
    }

    fn expect_departure(&mut self, info_hash: InfoHash, peer: CompactV4, outcome: Announced<u64>) {
        let mut expected = Announced {
            counts: Counts::default(),
            change: PeerChange::Absent,
            surplus: 0,
        };
        if let Some(torrent) = self.model.get_mut(&info_hash) {
            if let Some(known) = torrent.peers.remove(&peer) {
                expected.change = PeerChange::Removed(known.value);
            }
            expected.counts = torrent.counts();
        }
        assert_eq!(outcome, expected);
    }

    fn expected_refusal(
        &self,
        info_hash: InfoHash,
        peer: CompactV4,
        asked: u32,
    ) -> Option<Refusal> {
        let torrent = self.model.get(&info_hash);
        if torrent.is_some_and(|torrent| torrent.peers.contains_key(&peer)) {
            assert_eq!(asked, 0);
            return None;
        }
        if torrent.is_none() && self.model.len() >= self.limits.0 {
            Some(Refusal::TorrentLimit)
        } else if self.peers() >= self.limits.1 {
            Some(Refusal::PeerLimit)
        } else {
            assert_eq!(asked, 1);
            (!is_welcome(peer)).then_some(Refusal::NotAdmitted)
        }
    }

    fn expect_answer(
        &mut self,
        info_hash: InfoHash,
        announce: &Announce<CompactV4>,
        policy: &Policy,
        outcome: Announced<u64>,
        answer: Vec<(CompactV4, u64)>,
    ) {
        let seeder = announce.status == PeerStatus::Seeder;
        let torrent = self.model.entry(info_hash).or_default();
        let known = torrent.peers.get(&announce.peer);
        let was_finished = known.is_some_and(|known| known.is_finished);
        let peer = ModelPeer {
            seeder,
            is_finished: was_finished || seeder || announce.completed,
            deadline: policy.deadline.0 | 1,
            value: policy.value,
        };
        let known = torrent.peers.insert(announce.peer, peer);
        assert_eq!(policy.updated, known.map(|known| known.value));
        let key = self.map.key(info_hash);
        told::compare_previous(&key, policy, known);
        torrent.completed += u32::from(announce.completed && !was_finished);
        self.completed += usize::from(announce.completed && !was_finished);
        let expected = Announced {
            counts: torrent.counts(),
            change: known.map_or(PeerChange::Added, |_| PeerChange::Updated),
            surplus: outcome.surplus,
        };
        assert_eq!(outcome, expected);
        self.expect_peers(info_hash, announce, outcome.surplus, answer);
    }

    fn expect_peers(
        &self,
        info_hash: InfoHash,
        announce: &Announce<CompactV4>,
        surplus: u32,
        mut answer: Vec<(CompactV4, u64)>,
    ) {
        let torrent = &self.model[&info_hash];
        let seeder = announce.status == PeerStatus::Seeder;
        let pool =
            |key: &CompactV4, other: &ModelPeer| *key != announce.peer && !(seeder && other.seeder);
        let available = torrent
            .peers
            .iter()
            .filter(|(key, other)| pool(key, other))
            .count();
        let expected_len = usize::from(announce.num_want).min(available);
        assert_eq!(answer.len(), expected_len);
        for (key, value) in &answer {
            assert!(pool(key, &torrent.peers[key]));
            assert_eq!(torrent.peers[key].value, *value);
        }
        let peers = torrent.peers.iter();
        let pool = peers.filter(|(key, other)| pool(key, other));
        let shares_left = self.shares(pool.map(|(key, _)| key));
        let shares = self.shares(answer.iter().map(|(key, _)| key));
        match usize::try_from(surplus).unwrap() {
            0 => assert!(shares == answer.len() || expected_len == available),
            surplus => {
                assert_eq!(answer.len() - surplus, shares);
                assert_eq!(shares, shares_left, "others were to be had");
                let restrained = answer.iter().take(shares);
                assert_eq!(self.shares(restrained.map(|(key, _)| key)), shares);
            }
        }
        answer.sort_unstable();
        answer.dedup();
        assert_eq!(answer.len(), expected_len, "twice the same peer");
    }

    /// How many of some peers can be in an answer if no network has more than its share.
    fn shares<'a>(&self, peers: impl Iterator<Item = &'a CompactV4>) -> usize {
        let mut networks = HashMap::<_, usize>::new();
        peers.for_each(|peer| *networks.entry(network(peer)).or_default() += 1);
        let max = match self.network_limits.1 {
            0 => usize::MAX,
            max => max.into(),
        };
        networks.into_values().map(|count| count.min(max)).sum()
    }

    /// Lets the model follow what the slice did, after checking that it had a right to.
    fn clean_slice(&mut self, budget: usize) -> bool {
        let now = Seconds(self.now);
        let mut follower = Follower {
            world: (&mut self.model, self.forbidden),
            now,
            current: None,
        };
        let finished = self.map.clean(&mut self.cursor, now, budget, &mut follower);
        // The visitor does not hear of torrents that go without peers.
        let map = &self.map;
        self.model.retain(|info_hash, torrent| {
            let stays = map.position(&map.key(*info_hash)).is_some();
            assert!(stays || torrent.peers.is_empty());
            stays
        });
        finished
    }

    /// A whole pass without disturbance leaves nothing behind that should go.
    fn clean_all(&mut self) {
        self.cursor = CleaningCursor::default();
        while !self.clean_slice(40) {}
        for (info_hash, torrent) in &self.model {
            assert_ne!(Some(*info_hash), self.forbidden);
            assert!(!torrent.peers.is_empty());
            assert!(torrent.peers.values().all(|peer| peer.deadline >= self.now));
        }
    }

    fn peers(&self) -> usize {
        self.model.values().map(|torrent| torrent.peers.len()).sum()
    }

    fn seeders(&self) -> usize {
        let torrents = self.model.values();
        let peers = torrents.flat_map(|torrent| torrent.peers.values());
        peers.filter(|peer| peer.seeder).count()
    }

    fn compare(&mut self) {
        self.map.assert_sound();
        assert_eq!(self.map.torrents(), self.model.len());
        assert_eq!(self.map.peers(), self.peers());
        assert_eq!(self.map.seeders(), self.seeders());
        assert_eq!(self.map.completed(), self.completed);
        for (info_hash, torrent) in &self.model {
            let key = self.map.key(*info_hash);
            assert_eq!(self.map.scrape(&key), torrent.counts());
            for (peer, known) in &torrent.peers {
                assert_eq!(self.map.peer(&key, peer), Some(&known.value));
                assert_eq!(
                    self.map.peer_mut(&key, peer),
                    Some(&mut known.value.clone())
                );
            }
        }
        let mut walked = HashMap::new();
        let mut cursor = WalkCursor::default();
        while !self.map.walk(&mut cursor, 7, |info_hash, counts| {
            assert_eq!(walked.insert(*info_hash, counts), None);
        }) {}
        assert_eq!(walked.len(), self.model.len());
        assert!(
            walked
                .iter()
                .all(|(info_hash, counts)| self.model[info_hash].counts() == *counts)
        );
    }
}

/// Removes from the model what the map says it removed.
struct Follower<'a> {
    world: (&'a mut HashMap<InfoHash, ModelTorrent>, Option<InfoHash>),
    now: Seconds,
    current: Option<InfoHash>,
}

impl CleaningVisitor<CompactV4, u64> for Follower<'_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        assert!(self.world.0.contains_key(info_hash));
        self.current = Some(*info_hash);
        self.world.1 != Some(*info_hash)
    }

    fn peer_removed(&mut self, peer: &CompactV4, value: u64) {
        let torrent = self.current.unwrap();
        let torrents = &mut self.world.0;
        let known = torrents.get_mut(&torrent).unwrap();
        let removed = known.peers.remove(peer).unwrap();
        assert_eq!(removed.value, value);
        assert!(removed.deadline < self.now.0 || self.world.1 == Some(torrent));
    }

    fn torrent_remains(&mut self, info_hash: &InfoHash, counts: Counts) {
        assert_eq!(self.current, Some(*info_hash));
        assert_eq!(self.world.0[info_hash].counts(), counts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn agrees_with_the_model(
        seed in any::<u64>(),
        limits in prop_oneof![Just((usize::MAX, usize::MAX)), (1..30_usize, 1..250_usize)],
        network_limits in (prop_oneof![Just(0), 1..9_u16], prop_oneof![Just(0), 1..9_u8]),
        operations in prop::collection::vec(operation(), 1..400),
    ) {
        let mut world = World::new(seed, limits, network_limits);
        for operation in operations {
            world.apply(operation);
            world.compare();
        }
        world.clean_all();
        world.compare();
    }
}

/// Larger than proptest can afford: thousands of torrents and peers, so that indexes split and
/// merge and segments come and go.
#[test]
fn agrees_with_the_model_at_size() {
    let mut world = World::new(6, (usize::MAX, usize::MAX), (6, 1));
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        for _ in 0..6_000 {
            let status = match rng.u8(..10) {
                0..5 => PeerStatus::Leecher,
                5..8 => PeerStatus::Seeder,
                _ => PeerStatus::Stopped,
            };
            // One huge swarm, some middling ones.
            let torrent = if rng.bool() { 0 } else { rng.u8(..) };
            world.announce(torrent, address(rng.u16(..9_000)), status, rng.bool(), 50);
            if rng.u8(..20) == 0 {
                world.now += 1;
                world.clean_slice(200);
            }
        }
        world.compare();
        if round % 4 == 3 {
            world.now += PEER_AGE_SECONDS - 20;
            world.clean_all();
            world.compare();
        }
    }
    world.now += PEER_AGE_SECONDS + 2;
    world.clean_all();
    world.compare();
    assert_eq!(world.map.torrents(), 0);
}
