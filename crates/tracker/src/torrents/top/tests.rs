use std::sync::mpsc::sync_channel;

use super::super::test_tracker::{Filling, Tracker, info_hash};
use super::*;
use aquatic_types::{CompactAddr, CompactV4, PeerStatus};

/// What shards find together.
fn find(tracker: &mut Tracker, sort_by: SortBy, torrents_max: usize) -> Vec<(InfoHash, Counts)> {
    let shards = tracker.readers.shards();
    let (sender, found) = sync_channel(shards);
    let reading = || -> Box<dyn Reading<_>> {
        Box::new(TopReading::new(sort_by, torrents_max, 7, sender.clone()))
    };
    tracker.readers.post_to_each(reading).unwrap();
    let mut top = Top::new(sort_by, torrents_max);
    let mut shards_left = shards;
    while shards_left > 0 {
        tracker.work();
        for found in found.try_iter() {
            assert_eq!(found.kind, 7);
            top.merge(&found.top);
            shards_left -= 1;
        }
    }
    top.iter()
        .map(|(info_hash, counts)| (*info_hash, counts.total()))
        .collect()
}

/// The same by sorting everything.
fn sorted(
    all: &[(InfoHash, Counts)],
    sort_by: SortBy,
    torrents_max: usize,
) -> Vec<(InfoHash, Counts)> {
    let mut all = all.to_vec();
    all.retain(|(_, counts)| sort_by.of(*counts) > 0);
    all.sort_by_key(|(info_hash, counts)| (Reverse(sort_by.of(*counts)), *info_hash));
    all.truncate(torrents_max);
    all
}

#[test]
fn the_largest_torrents_are_those_of_sorting_all_of_them() {
    for seed in 0..24 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shards = rng.usize(1..=4);
        let mut filling = Filling::new(shards, rng.bool());
        let mut all = Vec::new();
        // Small numbers, so that there are many equals; in half of the cases IPv6 has most.
        let most: [u16; 2] = if rng.bool() { [4, 2] } else { [1, 5] };
        for number in 0..rng.u32(1..1_500) {
            let [v4, v6] = most.map(|most| [rng.u16(0..=most), rng.u16(0..=most)]);
            filling.fill(number, v4, v6);
            let completed = rng.u16(0..3) * u16::from(v4[1] > 0);
            for _ in 0..completed {
                let peer = CompactV4::new([198, 51, 100, 1].into(), 1);
                filling.announce(number, peer, PeerStatus::Leecher, false);
                filling.announce(number, peer, PeerStatus::Seeder, true);
                filling.announce(number, peer, PeerStatus::Stopped, false);
            }
            let counts = Counts {
                seeders: u32::from(v4[0] + v6[0]),
                leechers: u32::from(v4[1] + v6[1]),
                completed: completed.into(),
            };
            all.push((info_hash(number), counts));
        }
        let mut tracker = filling.start();
        for sort_by in SortBy::ALL {
            for torrents_max in [1, 10, TOP_MAX] {
                let found = find(&mut tracker, sort_by, torrents_max);
                let expected = sorted(&all, sort_by, torrents_max);
                assert_eq!(found, expected, "seed {seed}, {sort_by:?}, {torrents_max}");
            }
        }
    }
}

#[test]
fn twenty_thousand_torrents_are_gone_through_in_slices() {
    const TORRENTS: u32 = 20_000;
    let mut filling = Filling::new(1, false);
    for number in 0..TORRENTS {
        filling.fill(number, [u16::from(number % 2_000 == 0) + 1, 0], [0, 0]);
    }
    let mut tracker = filling.start();
    let (sender, found) = sync_channel(1);
    let reading = TopReading::new(SortBy::Peers, 12, 0, sender);
    tracker.readers.post(0, Box::new(reading)).unwrap();
    let mut rounds = 0;
    let top = loop {
        tracker.work();
        rounds += 1;
        if let Ok(found) = found.try_recv() {
            break found.top;
        }
    };
    // One for the map without torrents.
    assert_eq!(rounds, TORRENTS.div_ceil(256) + 1);
    let numbers: Vec<_> = top.iter().map(|(info_hash, _)| *info_hash).collect();
    let large = (0..TORRENTS).step_by(2_000);
    let expected: Vec<_> = large.chain([1, 2]).map(info_hash).collect();
    assert_eq!(
        numbers, expected,
        "of equals those with the lowest info hash"
    );
}

#[test]
fn what_is_said_twice_counts_once() {
    let counts = |seeders| {
        TorrentCounts::Whole(Counts {
            seeders,
            ..Counts::default()
        })
    };
    let mut top = Top::new(SortBy::Seeders, 2);
    for (number, seeders) in [(1, 5), (2, 6), (1, 7), (3, 0), (3, 1), (2, 6)] {
        top.offer(&info_hash(number), counts(seeders));
    }
    let found: Vec<_> = top
        .iter()
        .map(|(hash, it)| (*hash, it.total().seeders))
        .collect();
    assert_eq!(found, [(info_hash(1), 7), (info_hash(2), 6)]);
    assert_eq!(top.values.len(), top.ranks.len());
}
