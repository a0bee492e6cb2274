//! What a shard tells others when peers announce to it.

use std::num::{NonZeroU16, NonZeroUsize};

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_daemon::clock::Now;
use aquatic_swarm::{HashKey, Limits, Told};
use aquatic_swarm_log::{Batch, BatchHeader, Body};
use aquatic_types::PeerStatus::{Leecher, Seeder, Stopped};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash};

use super::*;
use crate::shard::addresses::{
    AddressSwarms, AddressSwarmsParts, AddressSwarmsSettings, Shared, Taken,
};
use crate::shard::maintenance::{MaintenanceSettings, Reporting};

const AGE: u32 = 1_200;
const INTERVAL: u32 = 512;

/// A shard at some time.
struct Fixture {
    swarms: AddressSwarms<Shared<()>>,
    interval: SharedRefreshInterval,
    now: u32,
}

/// What was told of a peer: its port, how it is, whether it has completed, and how long it lives.
type Record = (u16, PeerStatus, bool, u16);

impl Fixture {
    fn new(limits: Limits) -> Self {
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let settings = AddressSwarmsSettings {
            limits,
            peer_age_seconds_max: AGE,
            maintenance: MaintenanceSettings {
                bytes_max: None,
                cleaning_interval_seconds: 60,
                report_interval_seconds: 5,
                peer_histograms: false,
            },
        };
        let parts = AddressSwarmsParts {
            hash_key: HashKey::new([1, 2]),
            rng_seed: 3,
            access_list: access_list.reader(),
            peers_per_ip: None,
            reporting: Reporting::default(),
        };
        let interval = SharedRefreshInterval::new(RefreshInterval::new(INTERVAL).unwrap());
        let outbox = Outbox::new(interval.clone());
        let mut fixture = Self {
            swarms: AddressSwarms::new(settings, parts, outbox),
            interval,
            now: 10_000,
        };
        fixture.take();
        fixture
    }

    fn announces(&mut self, port: u16, status: PeerStatus, completed: bool) -> bool {
        let peer = CompactV4::new([192, 0, 2, 1].into(), port);
        self.announces_as(peer, status, completed)
    }

    fn announces_as<K: PeerAddr>(&mut self, peer: K, status: PeerStatus, completed: bool) -> bool {
        let announce = Announce {
            peer,
            status,
            completed,
            num_want: 0,
        };
        let key = self.swarms.key(InfoHash([7; 20]));
        let deadline = Seconds(self.now + AGE);
        let answered = self
            .swarms
            .announce(deadline, &key, [0; 8], &announce, |_| ());
        answered.is_ok()
    }

    fn hears(&mut self, port: u16, status: PeerStatus, deadline: u32) -> Taken {
        let told = Told {
            peer: CompactV4::new([192, 0, 2, 1].into(), port),
            status,
            completed: false,
            is_finished: false,
            deadline: Seconds(deadline),
        };
        let key = self.swarms.key(InfoHash([7; 20]));
        let now = Now::from_micros(u64::from(self.now) * 1_000_000);
        self.swarms.apply(now, &key, &told)
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.swarms.outbox().unwrap()
    }

    /// What was told since this was asked last: records of IPv4 with the second from which their
    /// lives are counted, and why.
    fn take(&mut self) -> (Vec<(Record, Seconds)>, OutboxCounts) {
        let now = Now::from_micros(u64::from(self.now) * 1_000_000);
        let mut told = Vec::new();
        let counts = self.outbox().take(now, |body, since| {
            let records = read(&body)
                .into_iter()
                .map(|record| (record, since.seconds));
            told.extend(records);
        });
        (told, counts)
    }

    /// The same, as it should be: one record.
    fn takes_one(&mut self) -> (Record, TellReason) {
        let (told, counts) = self.take();
        let [(record, _)] = <[_; 1]>::try_from(told).expect("one record");
        assert_eq!((counts.told.iter().sum::<usize>(), counts.dropped), (1, 0));
        let mut why = TellReason::ALL.iter().zip(counts.told);
        let why = why.find(|(_, count)| *count == 1);
        (record, *why.unwrap().0)
    }
}

fn read(body: &BatchBody) -> Vec<Record> {
    let header = BatchHeader {
        process: 1,
        sequence: 1,
        unix_millis: 0,
    };
    let mut bytes = Vec::new();
    body.write(&mut bytes, &header);
    let Body::PeersV4(records) = Batch::parse(&bytes).unwrap().0.body else {
        return Vec::new();
    };
    let records = records.map(Result::unwrap).map(|record| {
        let port = record.peer.socket_addr().port();
        (
            port,
            record.status,
            record.has_completed,
            record.seconds_left,
        )
    });
    records.collect()
}

#[test]
fn others_are_told_what_changes_and_why() {
    let mut fixture = Fixture::new(Limits::default());
    for (status, completed, told) in [
        (Leecher, false, Some((TellReason::Added, false))),
        (Leecher, false, None),
        (Leecher, true, Some((TellReason::Changed, true))),
        (Leecher, true, None),
        (Seeder, false, Some((TellReason::Changed, false))),
        (Seeder, true, None),
        (Leecher, false, Some((TellReason::Changed, false))),
        (Seeder, true, Some((TellReason::Changed, false))),
        (Stopped, false, Some((TellReason::Left, false))),
        (Stopped, false, None),
        (Seeder, false, Some((TellReason::Added, false))),
        (Stopped, true, Some((TellReason::Left, false))),
        (Leecher, true, Some((TellReason::Added, true))),
    ] {
        assert!(fixture.announces(1, status, completed));
        match told {
            None => assert!(fixture.take().0.is_empty(), "{status:?} {completed}"),
            Some((why, has_completed)) => {
                let record = (1, status, has_completed, 1_200);
                assert_eq!(fixture.takes_one(), (record, why));
            }
        }
    }
}

#[test]
fn who_stays_is_told_of_once_in_each_interval() {
    let mut fixture = Fixture::new(Limits::default());
    fixture.announces(1, Leecher, false);
    assert_eq!(fixture.takes_one().1, TellReason::Added);
    let mut told_at = Vec::new();
    for _ in 0..100 {
        fixture.now += 120;
        fixture.announces(1, Leecher, false);
        let (told, counts) = fixture.take();
        if let [((port, status, completed, left), since)] = told[..] {
            assert_eq!((port, status, completed), (1, Leecher, false));
            assert_eq!(u32::from(left) + since.0, fixture.now + AGE);
            assert_eq!(counts.told[TellReason::Refreshed.index()], 1);
            told_at.push(fixture.now);
        } else {
            assert!(told.is_empty());
        }
    }
    assert!((22..=25).contains(&told_at.len()), "{}", told_at.len());
    let pauses = told_at.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(pauses.max().unwrap() < INTERVAL + 120);
}

/// Otherwise all nodes would tell of everybody.
#[test]
fn what_others_have_told_is_not_told_on_and_counts_like_an_announce() {
    let mut fixture = Fixture::new(Limits::default());
    let deadline = fixture.now + AGE;
    assert_eq!(fixture.hears(1, Leecher, deadline), Taken::Applied);
    assert_eq!(fixture.hears(1, Seeder, deadline), Taken::Applied);
    assert_eq!(fixture.take(), (Vec::new(), OutboxCounts::default()));
    fixture.announces(1, Seeder, false);
    assert!(fixture.take().0.is_empty(), "others know it");
    fixture.announces(1, Leecher, false);
    assert_eq!(fixture.takes_one().1, TellReason::Changed);
    // Another node has told of it whenever it has announced here before.
    for _ in 0..50 {
        fixture.now += 120;
        let deadline = fixture.now + AGE;
        assert_eq!(fixture.hears(1, Leecher, deadline), Taken::Applied);
        fixture.announces(1, Leecher, false);
        assert!(fixture.take().0.is_empty());
    }
    assert_eq!(fixture.hears(1, Stopped, fixture.now + AGE), Taken::Applied);
    assert!(fixture.take().0.is_empty());
    fixture.announces(1, Leecher, false);
    assert_eq!(fixture.takes_one().1, TellReason::Added);
}

#[test]
fn who_does_not_come_in_is_not_told_of() {
    let mut fixture = Fixture::new(Limits {
        max_peers: NonZeroUsize::new(3),
        max_peers_per_network: NonZeroU16::new(2),
        ..Limits::default()
    });
    for (port, is_served) in [(1, true), (2, true), (3, true)] {
        assert_eq!(fixture.announces(port, Leecher, false), is_served);
    }
    let told: Vec<u16> = fixture.take().0.iter().map(|it| it.0.0).collect();
    assert_eq!(told, [1, 2], "one network has two at most");
    let others = [198, 203].map(|first| CompactV4::new([first, 0, 2, 1].into(), 5));
    assert!(fixture.announces_as(others[0], Leecher, false));
    assert!(!fixture.announces_as(others[1], Leecher, false));
    assert_eq!(fixture.takes_one().1, TellReason::Added);
}

/// It is fetched now and then, and a batch has one time for all of its records.
#[test]
fn lives_are_counted_from_when_the_outbox_was_fetched_before() {
    let mut fixture = Fixture::new(Limits::default());
    fixture.announces(1, Leecher, false);
    fixture.now += 7;
    fixture.announces(2, Leecher, false);
    let since = Seconds(10_000);
    let (told, _) = fixture.take();
    assert_eq!(
        told,
        [
            ((1, Leecher, false, 1_200), since),
            ((2, Leecher, false, 1_207), since)
        ]
    );
    fixture.now += 3;
    fixture.announces(3, Leecher, false);
    let since = Seconds(10_007);
    assert_eq!(fixture.take().0, [((3, Leecher, false, 1_203), since)]);
    // Nobody has fetched it for a day.
    fixture.now += 86_400;
    fixture.announces(4, Leecher, false);
    let since = Seconds(10_010);
    assert_eq!(fixture.take().0, [((4, Leecher, false, u16::MAX), since)]);
}

/// With the same clock for batches that were put aside.
#[test]
fn what_nobody_fetches_is_dropped_the_oldest_first() {
    let per_batch = BATCH_BYTES.div_ceil(29);
    let mut fixture = Fixture::new(Limits::default());
    let batches = 3 * BATCHES_MAX;
    let all = batches * per_batch + 5;
    for number in 0..all {
        let [a, b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
        let peer = CompactV4([a, b, c, d, 0, 1]);
        assert!(fixture.announces_as(peer, Leecher, false));
        fixture.now += u32::from(number % 100_000 == 0);
    }
    let peer = CompactV6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 1);
    fixture.announces_as(peer, Leecher, false);
    let mut sizes = Vec::new();
    let mut first = None;
    let now = Now::from_micros(u64::from(fixture.now) * 1_000_000);
    let counts = fixture.outbox().take(now, |body, since| {
        assert_eq!(since.seconds, Seconds(10_000));
        let mut bytes = Vec::new();
        let header = BatchHeader {
            process: 1,
            sequence: 1,
            unix_millis: 0,
        };
        body.write(&mut bytes, &header);
        if let Body::PeersV4(mut records) = Batch::parse(&bytes).unwrap().0.body {
            let peer = records.next().unwrap().unwrap().peer;
            first.get_or_insert(peer);
        }
        sizes.push(body.records());
    });
    let mut expected = vec![per_batch; BATCHES_MAX];
    expected.extend([5, 1]);
    assert_eq!(sizes, expected);
    let dropped = (batches - BATCHES_MAX) * per_batch;
    let [a, b, c, d] = u32::try_from(dropped).unwrap().to_be_bytes();
    assert_eq!(first, Some(CompactV4([a, b, c, d, 0, 1])));
    assert_eq!(counts.dropped, dropped);
    assert_eq!(counts.told[TellReason::Added.index()], all + 1);
    assert_eq!(fixture.take(), (Vec::new(), OutboxCounts::default()));
}

#[test]
fn another_interval_holds_from_the_next_time_that_it_is_fetched() {
    let mut fixture = Fixture::new(Limits::default());
    fixture.announces(1, Leecher, false);
    fixture.take();
    fixture.interval.set(RefreshInterval::new(64).unwrap());
    assert_eq!(fixture.interval.get().seconds(), 64);
    let mut told = [0, 0];
    for (told, fetches) in told.iter_mut().zip([false, true]) {
        if fetches {
            fixture.take();
        }
        for _ in 0..32 {
            fixture.now += 60;
            fixture.announces(1, Leecher, false);
            if fetches {
                *told += fixture.take().0.len();
            }
        }
        if !fetches {
            *told += fixture.take().0.len();
        }
    }
    // 1,920 s, in windows of 512 and of 64.
    assert!((3..=4).contains(&told[0]), "{told:?}");
    assert!((29..=31).contains(&told[1]), "{told:?}");
}
