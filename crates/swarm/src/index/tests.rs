use super::*;

impl Keys for Vec<u64> {
    type Key = u64;

    fn key(&self, position: u32) -> Option<u64> {
        self.get(position as usize).copied()
    }

    fn hash(&self, key: &u64) -> u64 {
        *key
    }
}

/// Positions `0..hashes.len()` as an index sees them, with removal as `Segments` does it.
fn remove(index: &mut Index, hashes: &mut Vec<u64>, position: u32) {
    let last = u32::try_from(hashes.len() - 1).unwrap();
    index.remove(hashes.hash_at(position), position, hashes);
    if position != last {
        index.reposition(hashes.hash_at(last), last, position);
    }
    hashes.swap_remove(position as usize);
}

fn insert(index: &mut Index, hashes: &mut Vec<u64>, hash: u64) {
    let position = u32::try_from(hashes.len()).unwrap();
    hashes.push(hash);
    index.insert(hash, position, hashes);
}

fn part(buckets: usize, len: usize) -> Part {
    let buckets = vec![Bucket::NEW; buckets].into();
    Part { buckets, len }
}

#[test]
fn the_load_decides_when_a_part_is_rebuilt() {
    let (most, least) = (BUCKET_LEN * LOAD_PERCENT_MAX, BUCKET_LEN * LOAD_PERCENT_MIN);
    let is_full = |len| part(100, len).is_full();
    assert_eq!((is_full(most - 1), is_full(most)), (false, true));
    let is_sparse = |len| part(100, len).is_sparse();
    assert_eq!((is_sparse(least - 1), is_sparse(least)), (true, false));
    assert!(!part(1, 0).is_sparse(), "it cannot be smaller");
}

/// Else networks would share counters that need not.
#[test]
fn tags_are_spread_over_all_counters() {
    for buckets in [1, 3, 64, 128] {
        let part = part(buckets, 0);
        let mut tags = vec![0_usize; buckets * COUNTS_LEN];
        for tag in 0..=u8::MAX {
            let (bucket, counter) = part.counter(tag);
            assert!(counter < COUNTS_LEN);
            tags[bucket * COUNTS_LEN + counter] += 1;
        }
        let (least, most) = (256 / tags.len(), 256_usize.div_ceil(tags.len()));
        assert!(tags.iter().all(|tags| (least..=most).contains(tags)));
    }
}

/// What has overflowed the counter is not known, so it is not counted down.
#[test]
fn an_overflow_that_cannot_be_counted_stays() {
    let hash = 1 << 40;
    let last = u32::try_from(BUCKET_LEN).unwrap();
    let mut part = part(10, 0);
    (0..=last).for_each(|position| part.place(hash, position));
    let home = part.home(hash);
    assert_eq!(part.buckets[home].overflow, 1);
    part.buckets[home].overflow = u16::MAX;
    assert!(part.remove(hash, last));
    assert_eq!(part.buckets[home].overflow, u16::MAX);
}

#[test]
fn grows_and_shrinks() {
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut index, mut hashes) = (Index::new(), Vec::new());
    for round in 0..120_000 {
        let growing = (round / 30_000) % 2 == 0;
        if hashes.is_empty() || rng.u8(..10) < if growing { 8 } else { 2 } {
            insert(&mut index, &mut hashes, rng.u64(..));
        } else {
            let position = rng.u32(..u32::try_from(hashes.len()).unwrap());
            remove(&mut index, &mut hashes, position);
        }
        if round % 500 == 0 {
            index.assert_sound(&hashes);
        }
    }
    index.assert_sound(&hashes);
    for (position, hash) in hashes.iter().enumerate() {
        let found = index.find(*hash, |found| found as usize == position);
        assert_eq!(found, u32::try_from(position).ok());
        let absent = hash ^ (1 << 63);
        assert_eq!(
            index.find(absent, |found| hashes[found as usize] == absent),
            None
        );
    }
    while !hashes.is_empty() {
        remove(&mut index, &mut hashes, 0);
    }
    index.assert_sound(&hashes);
    assert_eq!(
        index.parts.len(),
        1,
        "all memory but one small part is given back"
    );
    assert_eq!(index.parts[0].buckets.len(), 1);
}

#[test]
fn there_are_as_many_parts_as_entries_need() {
    let mut rng = fastrand::Rng::with_seed(6);
    let (mut index, mut hashes) = (Index::new(), Vec::new());
    for len in 1..5_000_usize {
        insert(&mut index, &mut hashes, rng.u64(..));
        assert_eq!(index.parts.len(), len.div_ceil(SPLIT_MEAN), "{len} entries");
    }
    let most = index.parts.len();
    while !hashes.is_empty() {
        remove(&mut index, &mut hashes, 0);
        let parts = hashes.len() / MERGE_MEAN + 1;
        assert_eq!(
            index.parts.len(),
            most.min(parts),
            "{} entries",
            hashes.len()
        );
    }
}

#[test]
fn a_part_grows_when_it_is_full_and_shrinks_when_it_is_sparse() {
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut index, mut hashes) = (Index::new(), Vec::new());
    let buckets = |index: &Index| index.parts[0].buckets.len();
    let percent = |entries: usize, buckets: usize| entries * 100 / (buckets * BUCKET_LEN);
    let made_for = |entries: usize| (entries * 100).div_ceil(BUCKET_LEN * 80);
    for len in 1..=SPLIT_MEAN {
        let before = buckets(&index);
        insert(&mut index, &mut hashes, rng.u64(..));
        let is_full = len * 100 > before * BUCKET_LEN * 94;
        let expected = if is_full { made_for(len) } else { before };
        assert_eq!(buckets(&index), expected, "{len} entries");
    }
    for len in (0..SPLIT_MEAN).rev() {
        let before = buckets(&index);
        remove(&mut index, &mut hashes, 0);
        let is_sparse = before > 1 && len * 100 < before * BUCKET_LEN * 40;
        let expected = if is_sparse {
            made_for(len).max(1)
        } else {
            before
        };
        assert_eq!(buckets(&index), expected, "{len} entries");
        assert!(before == 1 || percent(len, buckets(&index)) >= 39);
    }
}

#[test]
fn a_guess_is_right_nearly_always() {
    let mut rng = fastrand::Rng::with_seed(8);
    let (mut index, mut hashes) = (Index::new(), Vec::new());
    (0..5_000).for_each(|_| insert(&mut index, &mut hashes, rng.u64(..)));
    let is_right =
        |(position, hash): &(u32, &u64)| index.probable_position(**hash) == Some(*position);
    let right = (0..).zip(&hashes).filter(is_right).count();
    assert!(right > 4_000, "{right}");
}

#[test]
fn survives_hashes_that_are_all_the_same() {
    let (mut index, mut hashes) = (Index::new(), Vec::new());
    for _ in 0..1_500 {
        insert(&mut index, &mut hashes, 42);
    }
    index.assert_sound(&hashes);
    assert_eq!(index.find(42, |position| position == 1_234), Some(1_234));
    assert_eq!(index.find(42, |_| false), None);
    while !hashes.is_empty() {
        let middle = u32::try_from(hashes.len() / 2).unwrap();
        remove(&mut index, &mut hashes, middle);
    }
    index.assert_sound(&hashes);
}

#[test]
fn parts_are_split_in_turn() {
    assert!((1..8).map(buddy).eq([0, 0, 1, 0, 1, 2, 3]));
    for parts in 1..100 {
        for hash in 0..1_000 {
            let address = address(hash, parts);
            assert!(address < parts);
            // One more part takes from its buddy only.
            let next = super::address(hash, parts + 1);
            assert!(next == address || (next == parts && address == buddy(parts)));
        }
    }
}
