//! Shards, and what is told to them and by them; the test is the owner of the shards.

use std::sync::Arc;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::counter::Counter;
use aquatic_swarm::{Announce, Counts, HashKey, Limits, RefreshInterval};
use aquatic_swarm_log::{Batch as LogBatch, BatchHeader, Kind, RecordBuffer};
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::shard::addresses::outbox::{SharedRefreshInterval, TellReason};
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressSwarmsParts, AddressSwarmsSettings, Shared,
};
use aquatic_tracker::shard::maintenance::{MaintenanceSettings, Reporting};
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::{CompactAddr, IpFamily, ShardKey};

use super::*;
use crate::nodes::NodeIndex;
use crate::replica::ECHOES_MAX;
use crate::times::{PeerAges, Times};

mod room;

const AGE: u32 = 1_200;

const SECOND: u64 = 1_000_000;
const TORRENT: InfoHash = InfoHash([7; 20]);

type Swarms = AddressSwarms<Shared<()>>;

struct Fixture {
    replica: AddressReplica,
    times: SharedTimes,
    /// What is heard comes after what was published later.
    is_late: bool,
    /// What is read in the log was heard before.
    is_repeated: bool,
    workers: Vec<SwarmWorker<AddressShard>>,
    access_list: SharedAccessList,
    counters: Arc<Counters>,
    wanted: Arc<std::sync::Mutex<Wanted>>,
    micros: u64,
}

/// What is to be done in shards, and what was seen there.
#[derive(Default)]
struct Wanted {
    announces: Vec<(InfoHash, Announce<CompactV4>)>,
    announces_v6: Vec<(InfoHash, Announce<CompactV6>)>,
    /// Who is known of the torrent, and for how long.
    seen: Vec<(u16, u16)>,
    counts: PerFamily<Counts>,
}

/// Does what is wanted of a shard.
struct WantedSource(Arc<std::sync::Mutex<Wanted>>, usize, ShardKey, usize);

impl aquatic_tracker::shard::ShardSource<AddressShard> for WantedSource {
    fn process(&mut self, now: Now, shard: &mut AddressShard) -> usize {
        let AddressShard::Shared(swarms) = shard else {
            panic!("others hear of it");
        };
        let Self(wanted, number, key, shards) = self;
        let is_here = |hash: &InfoHash| key.shard_of(hash, *shards) == *number;
        let mut wanted = wanted.lock().unwrap();
        let wanted = &mut *wanted;
        for (hash, announce) in wanted.announces.extract_if(.., |it| is_here(&it.0)) {
            say(now, swarms, hash, &announce);
        }
        for (hash, announce) in wanted.announces_v6.extract_if(.., |it| is_here(&it.0)) {
            say(now, swarms, hash, &announce);
        }
        if is_here(&TORRENT) {
            let key = swarms.key(TORRENT);
            wanted.seen.clear();
            let seen = &mut wanted.seen;
            let v4 = &swarms.swarms().v4;
            v4.show_peers_of(&key, now.seconds, usize::MAX, |peer, _| {
                seen.push((peer.key.socket_addr().port(), peer.seconds_left));
            });
            seen.sort_unstable();
            wanted.counts = PerFamily::new(|family| swarms.scrape(family, &key));
        }
        0
    }
}

fn say<K: PeerAddr>(now: Now, swarms: &mut Swarms, hash: InfoHash, announce: &Announce<K>) {
    let key = swarms.key(hash);
    let deadline = now.seconds + AGE;
    let said = swarms.announce(deadline, &key, [0; 8], announce, |_| ());
    assert!(said.is_ok());
}

fn remembered_for(seconds: u32) -> Times {
    Times {
        ages: PeerAges {
            min_seconds: seconds,
            max_seconds: seconds,
        },
        ..Times::default()
    }
}

impl Fixture {
    fn new(shards: usize) -> Self {
        let waker = || waker_pair(|| ()).1;
        let topology = Topology::Split {
            socket_workers: 0,
            swarm_workers: shards,
        };
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let sharing = SharedRefreshInterval::new(RefreshInterval::longest(120, AGE));
        let all = (0..shards).map(|_| {
            let parts = AddressSwarmsParts {
                hash_key: HashKey::new([1, 2]),
                rng_seed: 3,
                access_list: access_list.reader(),
                peers_per_ip: None,
                reporting: Reporting::default(),
            };
            AddressShard::new(false, Some(sharing.clone()), shard_settings(), parts)
        });
        let all = all.collect();
        let wakers: Vec<_> = (0..shards).map(|_| waker()).collect();
        let key = ShardKey::new([5; 52]);
        let mut set = ShardSet::new(key, topology, &wakers, all);
        let dispatcher = set.connect_apart(&waker(), BATCHES_MAX, |_| RemoteProcessor);
        let wanted = Arc::default();
        for shard in 0..shards {
            let source = WantedSource(Arc::clone(&wanted), shard, key, shards);
            set.attach(shard, Box::new(source));
        }
        let counters = Arc::<Counters>::default();
        let times = SharedTimes::new(remembered_for(AGE));
        Self {
            times: times.clone(),
            is_late: false,
            is_repeated: false,
            replica: AddressReplica::new(dispatcher, times.clone(), Arc::clone(&counters)),
            workers: set.into_owners().swarm_workers,
            access_list,
            counters,
            wanted,
            micros: 5_000 * SECOND,
        }
    }

    fn now(&self) -> Now {
        Now::from_micros(self.micros)
    }

    fn works(&mut self) -> usize {
        let now = self.now();
        self.workers.iter_mut().map(|it| it.process(now)).sum()
    }

    /// Everything that is on its way arrives.
    fn rests(&mut self) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        let now = self.now();
        for _ in 0..1_000 {
            self.replica.finish(now, &mut |it| outgoing.push(it));
            let worked = self.works();
            self.replica.finish(now, &mut |it| outgoing.push(it));
            if worked == 0 && self.replica.waiting_records == 0 && !self.replica.has_pending() {
                return outgoing;
            }
        }
        panic!("it never rests");
    }

    /// Another node has told of these peers, so many seconds ago.
    fn hears(&mut self, age_seconds: u32, is_logged: bool, records: &[PeerRecord<CompactV4>]) {
        let mut buffer = RecordBuffer::new(Kind::PEERS_V4);
        for record in records {
            assert!(buffer.push(record));
        }
        let mut bytes = Vec::new();
        let header = BatchHeader {
            process: 1,
            sequence: 1,
            unix_millis: 0,
        };
        buffer.take().write(&mut bytes, &header);
        let (batch, _) = LogBatch::parse(&bytes).unwrap();
        let received = Received {
            from: NodeIndex(1),
            name: "a",
            age_millis: u64::from(age_seconds) * 1_000,
            is_logged,
            is_late: self.is_late,
            is_repeated: self.is_repeated,
            body: batch.body,
        };
        self.replica.receive(self.now(), &received);
    }

    fn hears_one(&mut self, record: PeerRecord<CompactV4>) {
        self.hears(0, false, &[record]);
    }

    fn passes(&mut self, micros: u64, is_reading_log: bool) {
        self.micros += micros;
        self.replica.settle(self.now(), is_reading_log);
        self.rests();
    }

    /// Who is known: ports, and seconds left to live.
    fn known(&mut self) -> Vec<(u16, u16)> {
        self.rests();
        self.works();
        self.wanted.lock().unwrap().seen.clone()
    }

    fn ports(&mut self) -> Vec<u16> {
        self.known().into_iter().map(|it| it.0).collect()
    }

    fn counts(&mut self) -> PerFamily<Counts> {
        self.known();
        self.wanted.lock().unwrap().counts
    }

    fn taken(&self, outcome: Taken) -> u64 {
        Counters::of(&self.counters.taken, outcome).get()
    }
}

fn shard_settings() -> AddressSwarmsSettings {
    AddressSwarmsSettings {
        limits: Limits::default(),
        peer_age_seconds_max: AGE,
        maintenance: MaintenanceSettings {
            bytes_max: None,
            cleaning_interval_seconds: 60,
            report_interval_seconds: 5,
            peer_histograms: false,
        },
    }
}

fn peer(port: u16, status: PeerStatus, seconds_left: u16) -> PeerRecord<CompactV4> {
    PeerRecord {
        info_hash: TORRENT,
        peer: CompactV4::new([192, 0, 2, 1].into(), port),
        status,
        has_completed: false,
        is_finished: false,
        seconds_left,
    }
}

fn arrival(port: u16, seconds_left: u16) -> PeerRecord<CompactV4> {
    peer(port, PeerStatus::Leecher, seconds_left)
}

fn departure(port: u16, seconds_left: u16) -> PeerRecord<CompactV4> {
    peer(port, PeerStatus::Stopped, seconds_left)
}

fn announce<K: PeerAddr>(peer: K, status: PeerStatus, completed: bool) -> Announce<K> {
    Announce {
        peer,
        status,
        completed,
        num_want: 0,
    }
}

#[test]
fn what_others_tell_is_known_for_as_long_as_it_holds() {
    let mut fixture = Fixture::new(2);
    fixture.hears(0, false, &[arrival(1, 1_000), arrival(2, 60)]);
    fixture.hears(
        100,
        true,
        &[arrival(3, 1_000), arrival(4, 100), arrival(5, 99)],
    );
    fixture.hears(0, false, &[arrival(6, 0)]);
    // For as long as peers are remembered here; the last second is one of two.
    assert_eq!(fixture.known(), [(1, 1_201), (2, 1_201), (3, 1_101)]);
    assert_eq!(fixture.taken(Taken::Applied), 3);
    assert_eq!(fixture.taken(Taken::Known), 3, "too old");
    fixture.passes(1_102 * SECOND, false);
    assert_eq!(fixture.ports(), [1, 2]);
}

/// Nobody wakes the thread for them when everything has come back.
#[test]
fn more_than_shards_take_at_a_time_waits_for_nothing_else() {
    const TIMES: usize = 3;
    let mut fixture = Fixture::new(1);
    let ports = (1..).take(RECORDS_MAX);
    let many: Vec<_> = ports.map(|port| arrival(port, 1_200)).collect();
    for _ in 0..TIMES * BATCHES_MAX {
        fixture.hears(0, false, &many);
    }
    let mut rounds = 0;
    while fixture.replica.has_pending() {
        fixture.replica.finish(fixture.now(), &mut |_| ());
        fixture.works();
        rounds += 1;
    }
    assert_eq!(rounds, 2 * TIMES, "one to send, and one to take back");
    assert_eq!(fixture.replica.waiting_records, 0);
}

/// Neither what waits nor what is on its way there or back is in the shards.
#[test]
fn a_mark_is_passed_when_all_before_it_is_in_the_shards() {
    let mut fixture = Fixture::new(2);
    assert!(fixture.replica.has_passed_mark());
    fixture.hears_one(arrival(1, 1_000));
    fixture.replica.mark();
    assert!(!fixture.replica.has_passed_mark());
    let now = fixture.now();
    for _ in 0..3 {
        fixture.replica.finish(now, &mut |_| ());
        assert!(!fixture.replica.has_passed_mark());
    }
    fixture.works();
    assert!(!fixture.replica.has_passed_mark());
    fixture.replica.finish(now, &mut |_| ());
    assert!(fixture.replica.has_passed_mark());
    fixture.hears_one(arrival(2, 1_000));
    fixture.replica.finish(now, &mut |_| ());
    assert!(fixture.replica.has_passed_mark(), "it came after the mark");
}

/// It is counted from when the batch was begun, and for as long as here, however long the other
/// node remembers peers; after a reload, for as long as from then on.
#[test]
fn everybody_lives_as_long_as_here() {
    let mut fixture = Fixture::new(1);
    fixture.hears(0, false, &[arrival(1, u16::MAX)]);
    fixture.hears(30, false, &[arrival(2, 1_230), arrival(3, 1_229)]);
    fixture.hears(30, false, &[arrival(4, u16::MAX)]);
    assert_eq!(
        fixture.known(),
        [(1, 1_201), (2, 1_171), (3, 1_171), (4, 1_171)]
    );
    fixture.times.set(remembered_for(600));
    fixture.hears(0, false, &[arrival(5, u16::MAX)]);
    fixture.hears(100, true, &[arrival(6, u16::MAX)]);
    assert_eq!(fixture.known()[4..], [(5, 601), (6, 501)]);
}

#[test]
fn shards_tell_of_both_families() {
    let mut fixture = Fixture::new(2);
    let v6 = CompactV6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 9);
    let mut wanted = fixture.wanted.lock().unwrap();
    for hash in 0..10 {
        let v4 = CompactV4::new([192, 0, 2, 1].into(), 9);
        let hash = InfoHash([hash; 20]);
        wanted
            .announces
            .push((hash, announce(v4, PeerStatus::Seeder, false)));
        wanted
            .announces_v6
            .push((hash, announce(v6, PeerStatus::Leecher, false)));
    }
    drop(wanted);
    fixture.rests();
    fixture.works();
    assert!(fixture.rests().is_empty(), "nobody has asked");
    fixture.replica.collect();
    let outgoing = fixture.rests();
    assert_eq!(outgoing.len(), 4, "two shards, two families");
    let records: usize = outgoing.iter().map(|it| it.body.records()).sum();
    assert_eq!(records, 20);
    let all = Destination::All(Channel::Peers);
    assert!(
        outgoing
            .iter()
            .all(|it| it.to == all && it.body.holds_peers())
    );
    let added = Counters::of(&fixture.counters.published, TellReason::Added);
    assert_eq!(added.get(), 20);
    // And another node takes it in.
    let mut other = Fixture::new(1);
    for outgoing in outgoing {
        let mut bytes = Vec::new();
        let header = BatchHeader {
            process: 1,
            sequence: 1,
            unix_millis: 0,
        };
        outgoing.body.write(&mut bytes, &header);
        let (batch, _) = LogBatch::parse(&bytes).unwrap();
        let received = Received {
            from: NodeIndex(1),
            name: "a",
            age_millis: 0,
            is_logged: false,
            is_late: false,
            is_repeated: false,
            body: batch.body,
        };
        other.replica.receive(other.now(), &received);
    }
    let counts = other.counts();
    assert_eq!((counts.v4.seeders, counts.v4.leechers), (1, 0));
    assert_eq!((counts.v6.seeders, counts.v6.leechers), (0, 1));
    assert_eq!(IpFamily::ALL.len(), 2);
}

/// Two nodes have told, and what is older has come later.
#[test]
fn an_arrival_does_not_undo_the_departure_that_followed_it() {
    let mut fixture = Fixture::new(1);
    fixture.hears_one(departure(1, 1_200));
    fixture.passes(SECOND, false);
    fixture.hears(6, false, &[arrival(1, 1_200)]);
    assert_eq!(fixture.ports(), [1]);
    fixture.passes(4 * SECOND - 1, false);
    assert_eq!(fixture.ports(), [1]);
    fixture.passes(1, false);
    assert!(fixture.ports().is_empty());
    fixture.hears_one(arrival(1, 1_200));
    fixture.passes(60 * SECOND, false);
    assert_eq!(fixture.ports(), [1], "it has come back");
}

/// It was paused and went on, or its client was started anew.
#[test]
fn who_comes_back_at_once_stays() {
    for (left, came) in [
        (1_200, 1_200),
        (1_200, 1_199),
        (1_199, 1_199),
        (1_199, 1_198),
    ] {
        let mut fixture = Fixture::new(1);
        fixture.hears_one(arrival(1, 1_100));
        fixture.hears_one(departure(1, left));
        assert!(fixture.ports().is_empty());
        fixture.hears_one(arrival(1, came));
        assert_eq!(fixture.ports(), [1]);
        fixture.passes(10 * SECOND, false);
        assert_eq!(fixture.ports(), [1], "{left}, {came}");
    }
}

#[test]
fn departures_that_are_heard_while_the_log_is_read_are_told_again_after_that() {
    let mut fixture = Fixture::new(2);
    fixture.hears_one(departure(1, 1_200));
    for _ in 0..60 {
        fixture.passes(SECOND, true);
    }
    fixture.hears(100, true, &[arrival(1, 1_200), arrival(2, 1_200)]);
    assert_eq!(fixture.ports(), [1, 2]);
    fixture.passes(SECOND, true);
    assert_eq!(fixture.ports(), [1, 2]);
    fixture.passes(SECOND, false);
    assert_eq!(fixture.ports(), [2]);
}

/// The log has its own in order, and many of them.
#[test]
fn departures_in_the_log_do_not_crowd_out_those_that_are_heard() {
    let mut fixture = Fixture::new(1);
    let many: Vec<_> = (1..=10_000).map(|port| departure(port, 1_200)).collect();
    for _ in 0..=ECHOES_MAX / many.len() {
        fixture.hears(100, true, &many);
        fixture.rests();
    }
    fixture.hears_one(departure(20_000, 1_200));
    fixture.hears(100, true, &[arrival(20_000, 1_200)]);
    assert_eq!(fixture.ports(), [20_000]);
    fixture.passes(5 * SECOND, false);
    assert!(fixture.ports().is_empty());
    assert_eq!(fixture.replica.departures.len(), 0);
}

#[test]
fn not_more_departures_are_remembered_than_some() {
    let mut fixture = Fixture::new(1);
    let many: Vec<_> = (1..=10_000).map(|port| departure(port, 1_200)).collect();
    for _ in 0..=ECHOES_MAX / many.len() {
        fixture.hears(0, false, &many);
        fixture.rests();
    }
    assert_eq!(fixture.replica.departures.len(), ECHOES_MAX);
}

#[test]
fn a_download_is_counted_once() {
    let completed = |port, is_finished| PeerRecord {
        has_completed: true,
        is_finished,
        status: PeerStatus::Seeder,
        ..arrival(port, 1_200)
    };
    let mut fixture = Fixture::new(1);
    // Of a node that has just started, what the log says has not been counted.
    fixture.hears(
        300,
        true,
        &[arrival(1, 1_200), completed(1, false), departure(1, 1_200)],
    );
    assert_eq!(fixture.counts().v4.completed, 1);
    fixture.passes(60 * SECOND, false);
    // One is known, the other one comes as a seeder.
    fixture.hears_one(arrival(2, 1_200));
    for _ in 0..2 {
        fixture.hears(0, false, &[completed(2, false), completed(3, false)]);
    }
    assert_eq!(fixture.counts().v4.completed, 3);
    // They leave, and then something is missing and the log is read again.
    fixture.hears(0, false, &[departure(2, 1_200), departure(3, 1_200)]);
    assert!(fixture.ports().is_empty());
    fixture.passes(8 * SECOND, false);
    fixture.is_repeated = true;
    for _ in 0..2 {
        let again = [arrival(2, 1_200), completed(2, false), completed(3, false)];
        fixture.hears(8, true, &again);
        fixture.hears(8, true, &[departure(2, 1_200), departure(3, 1_200)]);
    }
    assert_eq!(fixture.counts().v4.completed, 3);
    // What was missed counts.
    fixture.is_repeated = false;
    fixture.hears_one(arrival(4, 1_200));
    fixture.hears(1, true, &[completed(4, false)]);
    assert_eq!(fixture.counts().v4.completed, 4);
}

#[test]
fn what_is_not_allowed_is_not_taken_in() {
    let mut fixture = Fixture::new(1);
    fixture.access_list.replace([TORRENT].into_iter().collect());
    fixture.works();
    let now = fixture.now();
    fixture.workers[0].maintain(now);
    fixture.hears(0, false, &[arrival(1, 1_200), departure(2, 1_200)]);
    assert!(fixture.ports().is_empty());
    assert_eq!(fixture.taken(Taken::Forbidden), 2);
}

/// It was lost at first, and is published again.
#[test]
fn what_is_late_counts_like_what_the_log_has() {
    let mut fixture = Fixture::new(1);
    fixture.times.set(Times {
        ages: PeerAges {
            min_seconds: 600,
            max_seconds: AGE,
        },
        ..fixture.times.get()
    });
    for (is_late, port, left) in [(false, 1, 1_201), (true, 2, 601)] {
        fixture.is_late = is_late;
        fixture.hears_one(arrival(port, 1_200));
        let seen = fixture.known();
        assert!(seen.contains(&(port, left)), "{seen:?}");
    }
}
