use std::sync::Arc;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_cluster::nodes::{NodeIndex, NodeState, NodeStates};
use aquatic_config::MemoryLimit;
use aquatic_stream::ConnectionKey;
use aquatic_swarm::{Counts, HashKey};
use aquatic_swarm_log::Member;
use aquatic_tracker::shard::Shard as _;
use aquatic_tracker::shard::maintenance::Reporting;
use aquatic_types::{InfoHash, IpFamily};

use super::*;
use crate::cluster::sharing::Sharing;
use crate::config::Config;
use crate::counters::WorkerCounters;
use crate::membership::MembershipChange;
use crate::messages::{Announce, Batch, Decision, Request, RequestKind};
use crate::signalling::{Signalling, SignallingParts, new};

const NODE: NodeIndex = NodeIndex(2);

/// A shard that hears from one other node.
struct Fixture {
    shard: SignallingShard,
    nodes: NodeStates,
    now: Now,
}

impl Fixture {
    fn new(bytes_max: MemoryLimit) -> Self {
        let counters = Arc::<WorkerCounters>::default();
        let nodes = NodeStates::default();
        nodes.set(NODE, NodeState::Alive);
        let access_list = SharedAccessList::new(AccessListMode::Off, [].into_iter().collect());
        let parts = SignallingParts {
            hash_key: HashKey::new([1, 2]),
            offer_key: [3, 4],
            rng_seed: 5,
            reporting: Reporting::new(&counters.shard, &Arc::default()),
            sharing: Some(Sharing::new(nodes.clone(), access_list.reader(), 64)),
        };
        let mut config = Config::default();
        config.metrics.peer_clients = false;
        config.limits.connections.tracker.max_swarm_memory = bytes_max;
        Self {
            shard: new(&config, parts),
            nodes,
            now: Now::from_micros(1_000_000_000),
        }
    }

    /// The other node tells of a member, for so many seconds from now.
    fn hear(&mut self, record: MemberRecord, seconds: u32) -> Outcome {
        self.hear_now_or_before(record, seconds, true)
    }

    fn hear_now_or_before(
        &mut self,
        mut record: MemberRecord,
        seconds: u32,
        is_live: bool,
    ) -> Outcome {
        record.seconds_left = 0;
        let kind = RemoteKind::Member {
            record,
            connection: ConnectionRef::of_member(NODE, &record.member).unwrap(),
            until: self.now.seconds + seconds,
            is_live,
        };
        let mut batch = ClusterBatch::default();
        batch.messages.push(RemoteMessage {
            node: NODE,
            info_hash: record.info_hash,
            kind,
        });
        ClusterSignalling.process(self.now, &mut self.shard, &mut batch);
        assert_eq!(batch.outcomes.len(), 1);
        batch.outcomes[0]
    }

    fn counts(&self) -> Counts {
        let ClientStats::Off(shard) = &self.shard else {
            unreachable!("it counts no clients");
        };
        let swarms = &shard.members.swarms;
        swarms.scrape(&swarms.key(torrent(1)))
    }

    /// A client here comes to a torrent.
    fn announce(&mut self, info_hash: InfoHash, worker: u16) -> Batch {
        self.announce_by(info_hash, worker, ConnectionKey::default(), worker.into())
    }

    fn announce_by(
        &mut self,
        info_hash: InfoHash,
        worker: u16,
        connection: ConnectionKey,
        network: u64,
    ) -> Batch {
        let announce = Announce {
            peer_id: PeerId([b'h'; 20]),
            status: PeerStatus::Leecher,
            completed: false,
            offers: 0..0,
            skipped: None,
            asked: MembershipChange::Joined,
        };
        let mut batch = Batch::default();
        batch.worker = worker;
        batch.requests.push(Request {
            connection,
            family: IpFamily::V4,
            network,
            info_hash,
            kind: RequestKind::Announce(announce),
        });
        Signalling.process(self.now, &mut self.shard, &mut batch);
        batch
    }

    /// So many clients here come to one torrent, and others are told of them.
    fn crowd(&mut self, members: u32) {
        for number in 0..members {
            let connection = ConnectionKey::from_bits(number.into());
            let batch = self.announce_by(torrent(1), 1, connection, number.into());
            assert!(matches!(batch.decisions[..], [Decision::Accepted { .. }]));
            if number % 10_000 == 0 {
                self.fetch_all();
            }
        }
        self.fetch_all();
    }

    /// Others are told what there is to tell: how many records, and how many were dropped.
    fn fetch_all(&mut self) -> (usize, usize) {
        let (mut records, mut dropped) = (0, 0);
        loop {
            let mut batch = ClusterBatch::default();
            batch.collects = true;
            ClusterSignalling.process(self.now, &mut self.shard, &mut batch);
            records += batch.records.len();
            dropped += batch.dropped;
            if !batch.has_more {
                return (records, dropped);
            }
        }
    }

    /// So much time passes, in which the shard does what is due as often as it can.
    fn pass(&mut self, millis: u64) {
        self.now = Now::from_micros(self.now.micros + millis * 1_000);
        while self.shard.maintain(self.now) {}
    }
}

fn torrent(number: u16) -> InfoHash {
    let mut info_hash = [7; 20];
    info_hash[..2].copy_from_slice(&number.to_be_bytes());
    InfoHash(info_hash)
}

fn record(status: PeerStatus) -> MemberRecord {
    MemberRecord {
        info_hash: torrent(1),
        member: Member {
            peer_id: PeerId([b'r'; 20]),
            worker: 900,
            connection: 7,
            network: 9_999,
        },
        family: IpFamily::V6,
        status,
        has_completed: false,
        is_finished: false,
        seconds_left: 0,
    }
}

const LEECHER: PeerStatus = PeerStatus::Leecher;

/// What was told before, and comes late, changes nothing that was told since.
#[test]
fn what_holds_longest_counts() {
    let mut fixture = Fixture::new(MemoryLimit::Off);
    assert_eq!(
        fixture.hear(record(PeerStatus::Seeder), 200),
        Outcome::Applied
    );
    for late in [LEECHER, PeerStatus::Stopped] {
        // What is told now is not so late: seconds begin at other times elsewhere.
        assert_eq!(fixture.hear(record(late), 198), Outcome::Known);
        let logged = fixture.hear_now_or_before(record(late), 199, false);
        assert_eq!(logged, Outcome::Known);
        let counts = fixture.counts();
        assert_eq!((counts.seeders, counts.leechers), (1, 0), "{late:?}");
    }
    // In the same second, what comes later is later.
    let logged = fixture.hear_now_or_before(record(LEECHER), 200, false);
    assert_eq!(logged, Outcome::Applied);
    assert_eq!(fixture.counts().leechers, 1);
    assert_eq!(
        fixture.hear(record(PeerStatus::Seeder), 199),
        Outcome::Applied
    );
    assert_eq!(fixture.hear(record(LEECHER), 200), Outcome::Applied);
    assert_eq!(fixture.counts().leechers, 1);
    let left = record(PeerStatus::Stopped);
    assert_eq!(fixture.hear(left, 200), Outcome::Applied);
    assert_eq!(fixture.hear(left, 200), Outcome::Known, "twice");
    assert_eq!(fixture.counts().peers(), 0);
}

/// The node has gone since the replica has passed it on.
#[test]
fn a_node_that_has_gone_is_not_believed() {
    let mut fixture = Fixture::new(MemoryLimit::Off);
    fixture.nodes.set(NODE, NodeState::Gone);
    assert_eq!(fixture.hear(record(LEECHER), 200), Outcome::Known);
    assert_eq!(fixture.counts().peers(), 0);
    fixture.nodes.set(NODE, NodeState::Silent);
    assert_eq!(fixture.hear(record(LEECHER), 200), Outcome::Applied);
}

/// Nor was it one before this shard was told of it.
#[test]
fn a_download_that_was_counted_is_not_counted_again() {
    let mut fixture = Fixture::new(MemoryLimit::Off);
    let finished = MemberRecord {
        is_finished: true,
        ..record(LEECHER)
    };
    assert_eq!(fixture.hear(finished, 200), Outcome::Applied);
    let completed = MemberRecord {
        has_completed: true,
        ..record(PeerStatus::Seeder)
    };
    assert_eq!(fixture.hear(completed, 201), Outcome::Applied);
    assert_eq!(
        (fixture.counts().seeders, fixture.counts().completed),
        (1, 0)
    );
    let mut other = completed;
    other.member.connection += 1;
    for _ in 0..2 {
        assert_eq!(fixture.hear(other, 200), Outcome::Applied);
    }
    assert_eq!(
        (fixture.counts().seeders, fixture.counts().completed),
        (2, 1)
    );
}

/// Workers here know nothing of them.
#[test]
fn members_of_other_nodes_give_way_without_a_word() {
    let mut fixture = Fixture::new(MemoryLimit::Bytes(1 << 20));
    let mut number = 0;
    loop {
        let flood = MemberRecord {
            info_hash: torrent(number),
            ..record(LEECHER)
        };
        if fixture.hear(flood, 200) == Outcome::Full {
            break;
        }
        number += 1;
        assert!(number < 20_000, "there is no bound");
    }
    for worker in 1..50 {
        let batch = fixture.announce(torrent(30_000 + worker), worker);
        assert!(matches!(batch.decisions[..], [Decision::Accepted { .. }]));
        assert!(batch.evicted.is_empty());
    }
}

/// A cleaning meets more members whose turn it is than can wait to be told of.
#[test]
fn all_of_a_large_swarm_are_told_of_again() {
    const MEMBERS: u32 = 300_000;

    let mut fixture = Fixture::new(MemoryLimit::Off);
    // Turns are counted from now on.
    fixture.pass(0);
    fixture.crowd(MEMBERS);
    let (mut told, mut lost) = (0, 0);
    for _ in 0..1_000 {
        fixture.pass(100);
        let (records, dropped) = fixture.fetch_all();
        (told, lost) = (told + records, lost + dropped);
    }
    assert_eq!(lost, 0);
    // 100 seconds are more than one period of 64, and less than two.
    let once = usize::try_from(MEMBERS).unwrap();
    assert!((once..2 * once).contains(&told), "{told}");
}

/// Nobody fetches what there is to tell, and the shard is to be in order all the same.
#[test]
fn a_cleaning_does_not_wait_for_ever() {
    let mut fixture = Fixture::new(MemoryLimit::Off);
    fixture.crowd(100_000);
    let gone = record(LEECHER);
    assert_eq!(fixture.hear(gone, 20), Outcome::Applied);
    for _ in 0..70 {
        fixture.pass(1_000);
    }
    assert_eq!(fixture.counts().peers(), 100_000);
    let (_, dropped) = fixture.fetch_all();
    assert!(dropped > 0);
}
