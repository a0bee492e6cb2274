use std::ops::Range;
use std::sync::Arc;

use aquatic_config::MemoryLimit;
use aquatic_stream::ConnectionKey;
use aquatic_types::InfoHash;

use super::*;
use crate::counters::WorkerCounters;
use crate::membership::MembershipChange;
use crate::open_offers::KEPT_BYTES;

pub(super) const TORRENT: InfoHash = InfoHash([1; 20]);

/// A shard, and the connection that everyone has: peers differ by their worker.
pub(super) struct Fixture {
    pub(super) shard: SignallingShard,
    counters: Arc<WorkerCounters>,
    now_seconds: u32,
    torrent: InfoHash,
    /// Everybody is in a network of its own; of this IPv6 site, if there is one.
    site: Option<u64>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with_memory(MemoryLimit::Off)
    }

    fn with_memory(bytes_max: MemoryLimit) -> Self {
        let counters = Arc::<WorkerCounters>::default();
        let parts = SignallingParts {
            hash_key: HashKey::new([1, 2]),
            offer_key: [3, 4],
            rng_seed: 5,
            reporting: Reporting::new(&counters.shard, &Arc::default()),
            sharing: None,
        };
        let mut config = Config::default();
        config.metrics.peer_clients = true;
        config.limits.connections.tracker.max_swarm_memory = bytes_max;
        Self {
            shard: new(&config, parts),
            counters,
            now_seconds: 1,
            torrent: TORRENT,
            site: None,
        }
    }

    /// What swarms, books and open offers take, without and with what offers take beyond the room
    /// that there is for those of every peer.
    fn bytes(&mut self) -> (usize, usize) {
        let ClientStats::On(shard) = &mut self.shard else {
            unreachable!("it counts clients");
        };
        shard.share_memory();
        let peers = shard.members.swarms.peers() * (64 + KEPT_BYTES);
        let offers = shard.members.counts.offers.bytes();
        (shard.members.swarms.bytes() + peers, offers)
    }

    fn now(&self) -> Now {
        Now::from_micros(u64::from(self.now_seconds) * 1_000_000)
    }

    pub(super) fn ask(&mut self, worker: u16, kind: RequestKind, offers: Vec<Offer>) -> Batch {
        let mut batch = Batch::default();
        batch.worker = worker;
        batch.offers = offers;
        batch.requests.push(Request {
            connection: ConnectionKey::default(),
            family: IpFamily::V6,
            network: self.site.unwrap_or(1) + u64::from(worker),
            info_hash: self.torrent,
            kind,
        });
        let now = self.now();
        Signalling.process(now, &mut self.shard, &mut batch);
        batch
    }

    /// Announces with so many offers, numbered from `first`. Returns which workers get them.
    pub(super) fn announce(
        &mut self,
        worker: u16,
        peer_id: u8,
        first: u8,
        offers: u8,
    ) -> Result<Vec<u16>, Decision> {
        self.announce_as(PeerStatus::Leecher, worker, peer_id, first..first + offers)
    }

    fn announce_as(
        &mut self,
        status: PeerStatus,
        worker: u16,
        peer_id: u8,
        offers: Range<u8>,
    ) -> Result<Vec<u16>, Decision> {
        let offer = |number| Offer {
            offer_id: OfferId([number; 20]),
            json: 0..0,
        };
        let offers: Vec<_> = offers.map(offer).collect();
        let announce = Announce {
            peer_id: PeerId([peer_id; 20]),
            status,
            completed: false,
            offers: 0..offers.len(),
            skipped: None,
            asked: MembershipChange::Joined,
        };
        let batch = self.ask(worker, RequestKind::Announce(announce), offers);
        let decision = batch.decisions[0];
        let Decision::Accepted { is_in_swarm, .. } = decision else {
            return Err(decision);
        };
        assert_eq!(is_in_swarm, status != PeerStatus::Stopped);
        let to = batch.receivers.iter().flatten();
        Ok(to.map(|to| to.member.worker).collect())
    }

    fn answer(&mut self, worker: u16, by: u8, to: u8, offer: u8) -> Result<u16, Refusal> {
        self.answer_with(&[], worker, by, to, offer)
    }

    fn answer_with(
        &mut self,
        siblings: &[u8],
        worker: u16,
        by: u8,
        to: u8,
        offer: u8,
    ) -> Result<u16, Refusal> {
        let answer = Answer {
            peer_id: PeerId([by; 20]),
            siblings: siblings.iter().map(|it| PeerId([*it; 20])).collect(),
            to_peer_id: PeerId([to; 20]),
            offer_id: OfferId([offer; 20]),
            json: 0..0,
        };
        let batch = self.ask(worker, RequestKind::Answer(answer), Vec::new());
        match batch.decisions[0] {
            Decision::AnswerTo(to) => Ok(to.worker),
            Decision::Refused(refusal) => Err(refusal),
            other => unreachable!("{other:?}"),
        }
    }

    fn leave(&mut self, worker: u16, peer_id: u8) {
        let peer_id = PeerId([peer_id; 20]);
        self.ask(worker, RequestKind::Leave { peer_id }, Vec::new());
    }

    fn peers(&mut self) -> u64 {
        let now = self.now();
        while self.shard.maintain(now) {}
        // Counts what is left after that.
        self.shard.maintain(now);
        self.counters.swarms(IpFamily::V6).peers.get()
    }

    /// Ever more torrents, beginning with this one, get a peer each, until there are so many or
    /// there is no room. Returns the number of the next one.
    fn fill(&mut self, from: u16, until: u16, worker: impl Fn(u16) -> u16) -> u16 {
        for number in from..until {
            self.torrent = torrent(number);
            if self.announce(worker(number), b'a', 0, 0).is_err() {
                return number;
            }
            self.bytes();
        }
        until
    }

    /// Each looks for a torrent of its own: whether all are served.
    fn serves(&mut self, newcomers: Range<u16>) -> bool {
        let mut newcomers = newcomers;
        newcomers.all(|number| {
            self.torrent = torrent(60_000 + number);
            self.announce(number, b'b', 0, 0).is_ok()
        })
    }

    fn has_peers(&self, info_hash: InfoHash) -> bool {
        let ClientStats::On(shard) = &self.shard else {
            unreachable!("it counts clients");
        };
        let swarms = &shard.members.swarms;
        swarms.scrape(&swarms.key(info_hash)).peers() > 0
    }

    /// Whether peers are counted.
    fn is_scarce(&mut self) -> bool {
        let ClientStats::On(shard) = &mut self.shard else {
            unreachable!("it counts clients");
        };
        shard.maintenance.room.count(2) > 0
    }

    /// Time for some cleanings.
    fn clean(&mut self) {
        for _ in 0..5 {
            self.now_seconds += 600;
            self.peers();
        }
    }
}

fn torrent(number: u16) -> InfoHash {
    let mut info_hash = [7; 20];
    info_hash[..2].copy_from_slice(&number.to_be_bytes());
    InfoHash(info_hash)
}

/// With room for some thousand torrents.
fn small() -> Fixture {
    Fixture::with_memory(MemoryLimit::Bytes(1 << 20))
}

#[test]
fn an_offer_is_answered_once_by_who_got_it() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.announce(1, b'a', 0, 3), Ok(vec![]));
    assert_eq!(fixture.announce(2, b'b', 10, 3), Ok(vec![1]));
    let mut receivers = fixture.announce(3, b'c', 20, 3).unwrap();
    receivers.sort_unstable();
    assert_eq!(receivers, [1, 2]);

    assert_eq!(
        fixture.answer(3, b'c', b'b', 10),
        Err(Refusal::OFFER_UNKNOWN)
    );
    assert_eq!(
        fixture.answer(1, b'a', b'b', 11),
        Err(Refusal::OFFER_UNKNOWN)
    );
    assert_eq!(
        fixture.answer(3, b'a', b'b', 10),
        Err(Refusal::NOT_IN_SWARM)
    );
    assert_eq!(fixture.answer(1, b'a', b'b', 10), Ok(2));
    assert_eq!(
        fixture.answer(1, b'a', b'b', 10),
        Err(Refusal::OFFER_UNKNOWN)
    );
}

#[test]
fn an_offer_is_open_for_a_time() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    for (seconds, expected) in [(120, Ok(2)), (121, Err(Refusal::OFFER_UNKNOWN))] {
        assert_eq!(fixture.announce(2, b'b', 10, 1), Ok(vec![1]));
        fixture.now_seconds += seconds;
        assert_eq!(fixture.answer(1, b'a', b'b', 10), expected);
    }
}

#[test]
fn seeders_meet_seeders() {
    let mut fixture = Fixture::new();
    let seeder = PeerStatus::Seeder;
    assert_eq!(fixture.announce_as(seeder, 1, b'a', 0..0), Ok(vec![]));
    assert_eq!(fixture.announce_as(seeder, 2, b'b', 0..3), Ok(vec![1]));
    assert_eq!(fixture.answer(1, b'a', b'b', 0), Ok(2));
}

#[test]
fn a_peer_belongs_to_its_connection() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    assert_eq!(fixture.announce(2, b'b', 10, 1), Ok(vec![1]));
    assert_eq!(
        fixture.answer(3, b'a', b'b', 10),
        Err(Refusal::NOT_IN_SWARM)
    );
    fixture.leave(3, b'a');
    assert_eq!(fixture.peers(), 2, "nobody else can say goodbye for it");
    fixture.leave(1, b'a');
    assert_eq!(fixture.peers(), 1);
}

#[test]
fn one_peer_id_at_two_connections_is_two_peers_that_do_not_meet() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    assert_eq!(fixture.announce(2, b'a', 0, 2), Ok(vec![]), "its own twin");
    assert_eq!(fixture.peers(), 2);
    let mut receivers = fixture.announce(3, b'c', 10, 3).unwrap();
    receivers.sort_unstable();
    assert_eq!(receivers, [1, 2], "both are met");
    for (first, twin) in [(20, 1), (30, 2)] {
        assert_eq!(fixture.announce(twin, b'a', first, 2), Ok(vec![3]));
    }
    // Answers go where each offer came from, and each twin answers for itself.
    assert_eq!(fixture.answer(3, b'c', b'a', 30), Ok(2));
    assert_eq!(fixture.answer(3, b'c', b'a', 20), Ok(1));
    let by_twins = [10, 11].map(|offer| {
        [1, 2]
            .map(|twin| fixture.answer(twin, b'a', b'c', offer))
            .iter()
            .flatten()
            .count()
    });
    assert_eq!(by_twins, [1, 1], "each offer is for one of them");
    fixture.leave(1, b'a');
    assert_eq!(
        fixture.announce(3, b'c', 40, 3),
        Ok(vec![2]),
        "the other one stays"
    );
}

#[test]
fn two_peer_ids_at_one_connection_are_two_peers() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    assert_eq!(fixture.announce(1, b'b', 10, 2), Ok(vec![1]));
    assert_eq!(fixture.answer(1, b'a', b'b', 10), Ok(1));
    assert_eq!(fixture.announce(2, b'c', 20, 3), Ok(vec![1, 1]));
    // Nobody has told that connection which offer is for which of them.
    for (siblings, offer) in [(&b"b"[..], 20), (b"yb", 21)] {
        assert_eq!(fixture.answer_with(siblings, 1, b'a', b'c', offer), Ok(2));
    }
    fixture.leave(1, b'a');
    assert_eq!(fixture.announce(2, b'c', 30, 3), Ok(vec![1]));
}

#[test]
fn peers_stay_until_they_leave_and_torrents_go_with_the_last_one() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    fixture.announce(2, b'b', 0, 0).unwrap();
    let torrents = |fixture: &Fixture| fixture.counters.swarms(IpFamily::V4).torrents.get();
    // More than swarms remember, and each at another place of the circle of their times.
    for _ in 0..10 {
        fixture.now_seconds += 20_011;
        assert_eq!((fixture.peers(), torrents(&fixture)), (2, 1));
    }
    fixture.leave(1, b'a');
    fixture.now_seconds += 31;
    assert_eq!((fixture.peers(), torrents(&fixture)), (1, 1));
    fixture.leave(2, b'b');
    fixture.now_seconds += 31;
    assert_eq!((fixture.peers(), torrents(&fixture)), (0, 0));
}

/// A name for each, nearly.
fn peer(worker: u16) -> u8 {
    u8::try_from(worker % 251).unwrap()
}

/// With no room for further peers. Returns how many there are, all in one torrent.
fn full() -> (Fixture, u16) {
    let mut fixture = small();
    fixture.torrent = torrent(1);
    for worker in 0..20 {
        fixture.announce(worker, peer(worker), 0, 0).unwrap();
    }
    fixture.torrent = TORRENT;
    let mut workers = 0;
    while fixture.announce(workers, peer(workers), 0, 0).is_ok() {
        workers += 1;
        fixture.bytes();
        assert!(workers < 20_000, "there is no bound");
    }
    (fixture, workers)
}

/// The attack: fill the memory, so that nobody can answer more than a few offers.
#[test]
fn where_swarms_are_full_offers_can_be_answered() {
    let (mut fixture, _) = full();
    fixture.torrent = torrent(1);
    let mut handed = Vec::new();
    for first in [0, 10, 20, 30, 40] {
        for worker in 0..20 {
            let to = fixture.announce(worker, peer(worker), first, 10).unwrap();
            let numbered = (first..).zip(to);
            handed.extend(numbered.map(|(offer, to)| (worker, offer, to)));
        }
    }
    assert_eq!(handed.len(), 5 * 20 * 10);
    for (worker, offer, to) in handed {
        let answered = fixture.answer(to, peer(to), peer(worker), offer);
        assert_eq!(answered, Ok(worker));
    }
}

/// The attack: fill the memory, and then let peers that are known already offer and offer.
#[test]
fn open_offers_have_a_share_of_memory_and_no_more() {
    const BYTES_MAX: usize = 1 << 20;
    const SHARE: usize = BYTES_MAX / 8;
    let (mut fixture, workers) = full();
    let (full, _) = fixture.bytes();
    let make = |fixture: &mut Fixture| {
        for round in 0..20 {
            for worker in 0..workers {
                fixture.announce(worker, peer(worker), round, 10).unwrap();
            }
        }
    };
    make(&mut fixture);
    let (bytes, offers) = fixture.bytes();
    assert!(offers <= SHARE + 10 * 1_024, "{offers}");
    assert!(bytes + offers <= BYTES_MAX, "{bytes} + {offers}");
    assert!(full > BYTES_MAX / 10 * 7, "{full}");
    // They do not hold it for ever.
    fixture.peers();
    fixture.now_seconds += 40;
    fixture.peers();
    let (_, offers) = fixture.bytes();
    assert!(offers <= SHARE / 8 * 5, "{offers}");
    make(&mut fixture);
    assert!(fixture.bytes().1 > SHARE / 10 * 9, "others can have it");
}

#[test]
fn offers_that_nobody_can_answer_any_more_are_cleaned_away() {
    let mut fixture = Fixture::new();
    for worker in 0..20 {
        fixture.announce(worker, peer(worker), 0, 0).unwrap();
    }
    for worker in 0..20 {
        fixture.announce(worker, peer(worker), 0, 10).unwrap();
    }
    let (_, offers) = fixture.bytes();
    assert!(offers > 20 * 4 * 24, "{offers}");
    fixture.now_seconds += 121;
    fixture.peers();
    assert_eq!(fixture.bytes().1, 0);
}

/// Whoever has to give way is named to the worker that can tell its connection.
#[test]
fn who_gives_way_is_told_of() {
    let mut fixture = small();
    fixture.fill(0, u16::MAX, |_| 1);
    let mut evicted = Vec::new();
    for worker in 2..12 {
        fixture.torrent = TORRENT;
        let announce = Announce {
            peer_id: PeerId([b'b'; 20]),
            status: PeerStatus::Leecher,
            completed: false,
            offers: 0..0,
            skipped: None,
            asked: MembershipChange::Joined,
        };
        let batch = fixture.ask(worker, RequestKind::Announce(announce), Vec::new());
        evicted.extend(batch.evicted);
    }
    assert!(!evicted.is_empty());
    for it in &evicted {
        assert_eq!((it.member.worker, it.peer_id), (1, PeerId([b'a'; 20])));
        fixture.torrent = it.info_hash;
        let check = RequestKind::Check {
            peer_id: it.peer_id,
        };
        let batch = fixture.ask(1, check, Vec::new());
        assert_eq!(batch.decisions, [Decision::IsInSwarm(false)]);
    }
}

/// Who is there again since it had to give way, or was never gone.
#[test]
fn who_is_asked_for_and_is_there_stays() {
    let mut fixture = Fixture::new();
    fixture.announce(1, b'a', 0, 0).unwrap();
    for (worker, expected) in [(1, true), (2, false)] {
        let check = RequestKind::Check {
            peer_id: PeerId([b'a'; 20]),
        };
        let batch = fixture.ask(worker, check, Vec::new());
        assert_eq!(batch.decisions, [Decision::IsInSwarm(expected)]);
    }
}

#[test]
fn whoever_leaves_takes_its_open_offers_along() {
    let mut fixture = Fixture::new();
    for first in [0, 10] {
        for worker in 0..20 {
            fixture.announce(worker, peer(worker), first, 10).unwrap();
        }
    }
    assert!(fixture.bytes().1 > 0);
    for worker in 0..20 {
        let stopped = PeerStatus::Stopped;
        fixture
            .announce_as(stopped, worker, peer(worker), 0..0)
            .unwrap();
    }
    assert_eq!(fixture.bytes().1, 0);
}

/// The attack: make offers from the beginning, so that there is less room for peers.
#[test]
fn open_offers_take_no_room_from_swarms() {
    const BYTES_MAX: usize = 1 << 20;
    let peers = |offers| {
        let (mut fixture, mut refused) = (small(), 0);
        for worker in 0..20_000 {
            let first = peer(worker % 20) * 10;
            let announced = fixture.announce(worker, peer(worker), first, offers);
            refused += usize::from(announced.is_err());
            let (bytes, offers) = fixture.bytes();
            assert!(bytes + offers <= BYTES_MAX / 100 * 102);
            if refused > 200 {
                break;
            }
        }
        assert!(refused > 200, "there is no bound");
        fixture.peers()
    };
    assert_eq!(peers(10), peers(0));
}

/// The networks of a site of IPv6 count as one.
#[test]
fn who_floods_from_all_networks_of_a_site_gives_way() {
    let mut fixture = small();
    fixture.site = Some(0x2a00_0001_0001_0000);
    fixture.fill(0, u16::MAX, |number| number);
    fixture.site = None;
    assert!(fixture.serves(1..100));
}

/// The attack: offer from so many networks of a site that each has fewer open offers than anybody.
#[test]
fn open_offers_of_a_site_close_none_but_its_own() {
    const RECEIVER: u16 = 1;
    const HONEST: u16 = 2;
    let mut fixture = Fixture::new();
    fixture.announce(RECEIVER, peer(RECEIVER), 0, 0).unwrap();
    for offer in 0..10 {
        let to = fixture.announce(HONEST, peer(HONEST), offer, 1);
        assert_eq!(to, Ok(vec![RECEIVER]));
    }
    // So that only one is left to offer to.
    fixture.leave(HONEST, peer(HONEST));
    fixture.site = Some(0x2a00_0001_0001_0000);
    for offerer in 1_000..1_250 {
        let me = 252;
        assert_eq!(fixture.announce(offerer, me, 100, 1), Ok(vec![RECEIVER]));
        fixture.leave(offerer, me);
    }
    fixture.site = None;
    for offer in 0..10 {
        let answered = fixture.answer(RECEIVER, peer(RECEIVER), peer(HONEST), offer);
        assert_eq!(answered, Ok(HONEST));
    }
}

/// Cleaning counts anew whose peers there are.
#[test]
fn who_stays_counts_and_who_has_left_does_not_for_long() {
    const FLOOD: u16 = 1;
    const FICKLE: u16 = 2;
    let mut fixture = small();
    let mut next = 0;
    while !fixture.is_scarce() {
        next = fixture.fill(next, next + 1, |_| FLOOD);
    }
    fixture.torrent = TORRENT;
    for _ in 0..10_000 {
        fixture.announce(FICKLE, b'c', 0, 0).unwrap();
        fixture.leave(FICKLE, b'c');
    }
    next = fixture.fill(next, u16::MAX, |_| FLOOD);
    assert!(!fixture.serves(FICKLE..FICKLE + 1), "it seems to have most");
    fixture.clean();
    fixture.fill(next, u16::MAX, |_| FLOOD);
    assert!(fixture.serves(FICKLE..100));
}

/// Those that were there before memory became scarce stay as long as there are others that have
/// many, even if those have less.
#[test]
fn the_old_stay_while_younger_ones_can_go() {
    const SEEDBOX: u16 = 1;
    const TORRENTS: u16 = 800;
    let mut fixture = small();
    assert_eq!(fixture.fill(0, TORRENTS, |_| SEEDBOX), TORRENTS);
    fixture.fill(TORRENTS, u16::MAX, |number| 100 + number % 30);
    fixture.clean();
    assert!(fixture.serves(1_000..1_300));
    let left = (0..TORRENTS).filter(|number| fixture.has_peers(torrent(*number)));
    let left = left.count();
    assert!(left >= 780, "{left} of {TORRENTS}");
}
