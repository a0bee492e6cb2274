use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Cursor};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_swarm::{Announce, Counts, HashKey, Limits, LivePeer, SnapshotVisitor as _};
use aquatic_swarm_log::{Batch, BatchError, Body, Contents, End, FileError, SystemTime};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus, ShardKey};

use super::metrics::Gauges;
use super::persistent::Records;
use super::restore::{RestoreError, Summary, restore};
use super::simulation::SimulatedSnapshotter;
use super::snapshotter::{SnapshotSettings, Snapshotter, system_time};
use crate::shard::ShardSource;
use crate::shard::addresses::kinds::in_each;
use crate::shard::addresses::{AddressShard, AddressSwarmsParts, AddressSwarmsSettings, PeerAddr};
use crate::shard::maintenance::{MaintenanceSettings, Reporting};

const BOOT_ID: [u8; 16] = [7; 16];
const PEER_AGE_SECONDS: u32 = 1_200;

/// All shards of a tracker, without workers.
struct Tracker {
    shards: Vec<AddressShard>,
    key: ShardKey,
    access_list: SharedAccessList,
}

impl Tracker {
    fn new(shards: usize, counts_clients: bool, limits: Limits, peers_per_ip: usize) -> Self {
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let peers_per_ip =
            NonZeroUsize::new(peers_per_ip).map(|max| Arc::new(PerClientLimit::new(max)));
        let settings = AddressSwarmsSettings {
            limits,
            peer_age_seconds_max: PEER_AGE_SECONDS,
            maintenance: MaintenanceSettings {
                bytes_max: None,
                cleaning_interval_seconds: 120,
                report_interval_seconds: 5,
                peer_histograms: false,
            },
        };
        let parts = |seed| AddressSwarmsParts {
            hash_key: HashKey::new([1, seed]),
            rng_seed: seed,
            access_list: access_list.reader(),
            peers_per_ip: peers_per_ip.clone(),
            reporting: Reporting::default(),
        };
        let seeds = 0..shards as u64;
        let key = std::array::from_fn(|at| u8::try_from((at * 37 + shards) % 256).unwrap());
        Self {
            shards: seeds
                .map(|seed| AddressShard::new(counts_clients, None, settings, parts(seed)))
                .collect(),
            key: ShardKey::new(key),
            access_list,
        }
    }

    fn plain(shards: usize) -> Self {
        Self::new(shards, false, Limits::default(), 0)
    }

    fn announce<K: PeerAddr>(&mut self, torrent: u16, peer: K, status: PeerStatus) {
        let announce = Announce {
            peer,
            status,
            completed: status == PeerStatus::Seeder,
            num_want: 0,
        };
        let info_hash = info_hash(torrent);
        let shard = self.key.shard_of(&info_hash, self.shards.len());
        let deadline = Now::default().seconds + PEER_AGE_SECONDS;
        in_each!(&mut self.shards[shard], swarms => {
            let key = swarms.key(info_hash);
            let outcome = swarms.announce(deadline, &key, *b"-TR4060-", &announce, |_| ());
            outcome.unwrap();
        });
    }

    /// Torrents of zero to 119 peers, half of them with some of IPv6.
    fn fill(&mut self) {
        for torrent in 0..600 {
            for number in 0..torrent % 120 {
                let status = [PeerStatus::Seeder, PeerStatus::Leecher][usize::from(number % 2)];
                self.announce(torrent, v4(number), status);
                if torrent % 2 == 0 {
                    self.announce(torrent, v6(number), status);
                }
            }
        }
    }

    fn counts(&self) -> BTreeMap<(u16, IpFamily), Counts> {
        let mut counts = BTreeMap::new();
        for torrent in 0..600 {
            let info_hash = info_hash(torrent);
            let shard = &self.shards[self.key.shard_of(&info_hash, self.shards.len())];
            for family in IpFamily::ALL {
                let found = in_each!(shard, swarms => {
                    swarms.scrape(family, &swarms.key(info_hash))
                });
                counts.insert((torrent, family), found);
            }
        }
        counts
    }

    /// The bytes of a file.
    fn snapshot(&mut self, contents: Contents) -> (Vec<u8>, End) {
        let (snapshotter, mut sources) = self.snapshotter(contents, PathBuf::new());
        // One that is given up when some of it has come leaves nothing behind for the next one.
        for (shard, source) in self.shards.iter_mut().zip(&mut sources) {
            source.step(Now::default(), shard);
        }
        assert_eq!(snapshotter.snapshot(|_| (), || true).unwrap(), None);
        for (shard, source) in self.shards.iter_mut().zip(&mut sources) {
            for _ in 0..9 {
                source.step(Now::default(), shard);
            }
        }
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            let snapshot = scope.spawn(move || {
                let mut bytes = Vec::new();
                let write = |piece: &[u8]| bytes.extend_from_slice(piece);
                let end = snapshotter.snapshot(write, || false).unwrap();
                is_over.store(true, Ordering::Relaxed);
                (bytes, end.unwrap())
            });
            while !is_over.load(Ordering::Relaxed) {
                for (shard, source) in self.shards.iter_mut().zip(&mut sources) {
                    source.step(Now::default(), shard);
                }
            }
            snapshot.join().unwrap()
        })
    }

    fn snapshotter(
        &self,
        contents: Contents,
        path: PathBuf,
    ) -> (Snapshotter, Vec<super::source::SnapshotSource>) {
        let settings = SnapshotSettings {
            contents,
            path,
            interval: Duration::ZERO,
            gauges: Gauges::default(),
        };
        let clocks = (Clock::start(), BOOT_ID);
        let wakers = self.shards.iter().map(|_| waker_pair(|| ()).1);
        Snapshotter::new(settings, clocks, 3, wakers.collect())
    }

    fn restore(&mut self, bytes: &[u8], seconds_later: u64) -> Result<Summary, RestoreError> {
        let now = system_time(BOOT_ID);
        let system = SystemTime {
            boot_millis: now.boot_millis + seconds_later * 1_000,
            ..now
        };
        let now = Now::from_micros(5_000_000);
        let (key, shards) = (&self.key, &mut self.shards);
        let list = &mut self.access_list.reader();
        let file = Cursor::new(bytes);
        restore(file, shards, key, list, now, &system, PEER_AGE_SECONDS)
    }
}

fn info_hash(torrent: u16) -> InfoHash {
    let [high, low] = torrent.to_be_bytes();
    let mut hash = [high; 20];
    hash[0] = low;
    InfoHash(hash)
}

fn v4(number: u16) -> CompactV4 {
    let [high, low] = number.to_be_bytes();
    CompactV4::new([10, high, low, 1].into(), 6_881)
}

fn v6(number: u16) -> CompactV6 {
    CompactV6::new([0x2001, 0xdb8, 0, number, 0, 0, 0, 1].into(), 6_881)
}

#[test]
fn swarms_come_back_whatever_the_number_of_shards() {
    for (shards, shards_after) in [(1, 1), (1, 3), (4, 2)] {
        for counts_clients in [false, true] {
            let tracker = || |shards| Tracker::new(shards, counts_clients, Limits::default(), 0);
            let mut before = tracker()(shards);
            before.fill();
            let (bytes, end) = before.snapshot(Contents::Swarms);
            let mut after = tracker()(shards_after);
            let summary = after.restore(&bytes, 100).unwrap();
            assert_eq!(after.counts(), before.counts());
            assert_eq!(
                (summary.peers, summary.completed),
                (end.peers, end.completed)
            );
            assert_eq!(summary.age_seconds, 100);
            let none = (summary.expired, summary.denied, summary.refused);
            assert_eq!(none, (0, 0, 0));
        }
    }
}

/// The bytes that an operator has to reckon with.
#[test]
fn a_peer_takes_29_bytes_and_a_torrent_24() {
    let mut tracker = Tracker::plain(1);
    for torrent in 0..600 {
        for number in 0..10 {
            tracker.announce(torrent, v4(number), PeerStatus::Seeder);
        }
    }
    let (bytes, end) = tracker.snapshot(Contents::Swarms);
    assert_eq!((end.peers, end.completed), (6_000, 600));
    let payload = 6_000 * 29 + 600 * 24;
    assert!(
        (payload..payload + 1_000).contains(&bytes.len()),
        "{}",
        bytes.len()
    );
}

#[test]
fn counts_alone_name_nobody() {
    let mut before = Tracker::plain(2);
    before.fill();
    let (bytes, end) = before.snapshot(Contents::Completed);
    assert_eq!(end.peers, 0);
    let mut after = Tracker::plain(2);
    let summary = after.restore(&bytes, 0).unwrap();
    assert_eq!((summary.peers, summary.completed), (0, end.completed));
    for (place, counts) in after.counts() {
        assert_eq!(counts.completed, before.counts()[&place].completed);
        assert_eq!(counts.peers(), 0);
    }
}

#[test]
fn nobody_lives_longer_than_without_a_restart() {
    let mut before = Tracker::plain(1);
    before.announce(1, v4(1), PeerStatus::Seeder);
    let (bytes, _) = before.snapshot(Contents::Swarms);
    let life = u64::from(PEER_AGE_SECONDS);
    for (later, lives) in [
        (life - 10, true),
        (life + 3, false),
        (u64::from(u32::MAX), false),
    ] {
        let mut after = Tracker::plain(1);
        let summary = after.restore(&bytes, later).unwrap();
        assert_eq!(
            (summary.peers, summary.expired),
            (u64::from(lives), u64::from(!lives))
        );
    }
}

#[test]
fn what_is_denied_meanwhile_stays_away() {
    let mut before = Tracker::plain(1);
    before.announce(1, v4(1), PeerStatus::Seeder);
    before.announce(2, v4(1), PeerStatus::Seeder);
    let (bytes, _) = before.snapshot(Contents::Swarms);
    let mut after = Tracker::plain(1);
    let list = format!("{}\n", info_hash(1));
    after
        .access_list
        .replace(AccessList::parse(list.as_bytes()).unwrap());
    let summary = after.restore(&bytes, 0).unwrap();
    // A peer, and a download count.
    assert_eq!(
        (summary.peers, summary.completed, summary.denied),
        (1, 1, 2)
    );
    assert_eq!(after.counts()[&(1, IpFamily::V4)], Counts::default());
}

#[test]
fn limits_hold() {
    let mut before = Tracker::plain(1);
    for torrent in 0..9 {
        before.announce(torrent, v4(1), PeerStatus::Leecher);
    }
    let (bytes, _) = before.snapshot(Contents::Swarms);
    let mut few_per_address = Tracker::new(1, false, Limits::default(), 5);
    let summary = few_per_address.restore(&bytes, 0).unwrap();
    assert_eq!((summary.peers, summary.refused), (5, 4));
    let limits = Limits {
        max_peers: NonZeroUsize::new(6),
        ..Limits::default()
    };
    let mut few = Tracker::new(1, false, limits, 0);
    let summary = few.restore(&bytes, 0).unwrap();
    assert_eq!((summary.peers, summary.refused), (6, 3));
}

#[test]
fn a_file_that_is_not_whole_restores_nothing() {
    let mut before = Tracker::plain(1);
    before.fill();
    let (bytes, _) = before.snapshot(Contents::Swarms);
    let mut after = Tracker::plain(1);
    let mut refuse = |bytes: &[u8]| {
        let error = after.restore(bytes, 0).unwrap_err();
        assert!(
            after
                .counts()
                .values()
                .all(|counts| *counts == Counts::default())
        );
        error
    };
    let torn = refuse(&bytes[..bytes.len() / 2]);
    assert!(
        matches!(torn, RestoreError::Batch(BatchError::Torn, at) if at > 0),
        "{torn}"
    );
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    let changed = refuse(&changed);
    assert!(
        matches!(changed, RestoreError::Batch(BatchError::Checksum, _)),
        "{changed}"
    );
    let foreign = refuse(b"PK\x03\x04");
    assert!(
        matches!(foreign, RestoreError::Batch(BatchError::Foreign, 0)),
        "{foreign}"
    );
    let twice = refuse(&[bytes.as_slice(), &bytes].concat());
    assert!(
        matches!(twice, RestoreError::File(FileError::AfterEnd)),
        "{twice}"
    );
    let empty = refuse(b"");
    assert!(
        matches!(empty, RestoreError::File(FileError::NoBegin)),
        "{empty}"
    );
}

#[test]
fn a_file_is_loaded_or_set_aside() {
    let folder = std::env::temp_dir().join(format!("aquatic-swarms-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("swarms.aqs");
    let unusable = folder.join("swarms.aqs.unusable");
    let load = |tracker: &mut Tracker| {
        let clocks = (Clock::start(), BOOT_ID);
        let list = &mut tracker.access_list.reader();
        let Tracker { shards, key, .. } = tracker;
        super::file::load(&path, shards, key, list, clocks, PEER_AGE_SECONDS)
    };
    let mut before = Tracker::plain(1);
    before.fill();
    // There is none yet.
    load(&mut before);
    fs::write(&path, before.snapshot(Contents::Swarms).0).unwrap();
    let mut after = Tracker::plain(1);
    load(&mut after);
    assert_eq!(after.counts(), before.counts());
    assert!(path.exists());

    fs::write(&path, "no swarms").unwrap();
    load(&mut Tracker::plain(1));
    assert!(!path.exists());
    assert_eq!(fs::read(&unusable).unwrap(), b"no swarms");

    fs::create_dir(&path).unwrap();
    fs::remove_file(&unusable).unwrap();
    let at_path = load(&mut Tracker::plain(1));
    assert!(path.is_dir() && !unusable.exists());
    at_path.0.check(&path).unwrap_err();
    // An operator has put back what could not be read, and will restart.
    fs::remove_dir(&path).unwrap();
    fs::write(&path, before.snapshot(Contents::Swarms).0).unwrap();
    at_path.0.check(&path).unwrap_err();
    fs::remove_file(&path).unwrap();
    at_path.0.check(&path).unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

/// However long the disk lets a snapshot wait: all lives are counted from the same time.
#[test]
fn records_that_wait_for_the_disk_keep_their_deadlines() {
    let mut tracker = Tracker::plain(1);
    for number in 0..2_000 {
        tracker.announce(1, v4(number), PeerStatus::Leecher);
    }
    let (snapshotter, mut sources) = tracker.snapshotter(Contents::Swarms, PathBuf::new());
    let mut snapshots = SimulatedSnapshotter::new(snapshotter);
    let system = system_time(BOOT_ID);
    snapshots.begin(Now::default(), &system);
    let file = (0..).find_map(|turn| {
        let now = Now::from_micros(turn * 7_300_000);
        sources[0].step(now, &mut tracker.shards[0]);
        snapshots.step(now, usize::MAX).unwrap()
    });
    let file = file.unwrap();
    let (mut rest, mut deadlines) = (file.as_slice(), BTreeSet::new());
    while !rest.is_empty() {
        let (batch, after) = Batch::parse(rest).unwrap();
        rest = after;
        if let Body::PeersV4(peers) = batch.body {
            let seconds = (batch.header.unix_millis - system.unix_millis) / 1_000;
            let deadline = |left| seconds + u64::from(left);
            deadlines.extend(peers.map(|peer| deadline(peer.unwrap().seconds_left)));
        }
    }
    assert_eq!(deadlines, BTreeSet::from([u64::from(PEER_AGE_SECONDS) | 1]));
}

#[test]
fn without_one_of_the_shards_there_is_no_file() {
    let mut tracker = Tracker::plain(2);
    tracker.fill();
    let (snapshotter, mut sources) = tracker.snapshotter(Contents::Swarms, PathBuf::new());
    sources.pop();
    let snapshot = snapshotter.snapshot(|_| (), || false);
    assert_eq!(snapshot.unwrap_err().to_string(), "a worker has ended");
}

#[test]
fn a_file_of_another_kind_of_tracker_is_not_taken() {
    let mut tracker = Tracker::plain(1);
    tracker.fill();
    let (bytes, _) = tracker.snapshot(Contents::CompletedWebTorrent);
    let refused = Tracker::plain(1).restore(&bytes, 0).unwrap_err();
    assert!(matches!(refused, RestoreError::Contents), "{refused}");
}

/// Changes while it is read.
struct Changing {
    first: Cursor<Vec<u8>>,
    second: Option<Vec<u8>>,
}

impl io::Read for Changing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.first.read(buffer)
    }
}

impl io::Seek for Changing {
    fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
        self.first = Cursor::new(self.second.take().unwrap());
        Ok(0)
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let mut tracker = Tracker::plain(1);
    tracker.fill();
    let (whole, _) = tracker.snapshot(Contents::Swarms);
    let (other, _) = Tracker::plain(1).snapshot(Contents::Swarms);
    for second in [whole[..whole.len() / 2].to_vec(), Vec::new(), other] {
        let file = Changing {
            first: Cursor::new(whole.clone()),
            second: Some(second),
        };
        let mut after = Tracker::plain(1);
        let list = &mut after.access_list.reader();
        let (system, now) = (system_time(BOOT_ID), Now::default());
        let (shards, key) = (&mut after.shards, &after.key);
        let noticed = restore(file, shards, key, list, now, &system, PEER_AGE_SECONDS);
        assert!(matches!(noticed, Err(RestoreError::Changed)), "{noticed:?}");
    }
}

/// More peers in one slice than a batch has room for.
#[test]
fn records_that_a_batch_has_no_room_for_go_into_the_next() {
    let mut records = Records::new(Contents::Swarms);
    let live = LivePeer {
        key: v4(1),
        is_seeder: true,
        is_finished: true,
        seconds_left: 9,
    };
    for _ in 0..100_000 {
        records.v4().peer(&info_hash(1), &live);
    }
    let batches = std::iter::from_fn(|| records.take_rest());
    assert_eq!(batches.map(|batch| batch.records()).sum::<usize>(), 100_000);
}
