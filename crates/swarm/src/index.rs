//! From hashes to positions: the index of a [`Segments`](crate::segments::Segments).
//!
//! A hash table that holds positions instead of keys, 5⅓ bytes per place, and that grows without a
//! pause. Two levels:
//!
//! - **Parts** of 512 entries on average. When the mean is exceeded, one part is split in two, in
//!   turn: linear hashing (W. Litwin, 1980). So growing rehashes one part of about 1,000 entries at
//!   a time, however large the whole is.
//! - Each part is a table of cache-line [`Bucket`]s. An entry lies in its home bucket or, if that
//!   is full, in the next one that is not. Each bucket counts the entries that passed it by, so an
//!   unsuccessful search ends at once in most cases and a removal leaves no tombstone.
//!
//! The bits of a hash: 0–23 choose the part, 24–31 are the tag, 32–63 choose the bucket. So entries
//! whose hashes have the same lower half are all in one part, under one tag, and can be counted
//! there ([`Index::has_as_many`]).
//!
//! The index does not hold the hashes. Who calls gives the [`Keys`], from which they are computed
//! again when a part is rebuilt; they are asked only for positions that are in the index.

use arrayvec::ArrayVec;

use crate::bucket::{BUCKET_LEN, Bucket, COUNTS_LEN};

/// Entries per part, on average, above which a part is split. The largest part has about twice as
/// many: it is about to be split, while others have been.
const SPLIT_MEAN: usize = 512;

/// Entries per part below which two parts become one.
const MERGE_MEAN: usize = 256;

/// A part that is fuller than this grows. Higher saves memory and makes searches longer: between
/// these two loads one entry in six lies one or more buckets from home. At 87 and 72 % one in
/// fourteen would, for 0.6 bytes more per entry.
const LOAD_PERCENT_MAX: usize = 94;

/// A part is made for this load: a sixth of room to grow into.
const LOAD_PERCENT_NEW: usize = 80;

/// A part that is emptier than this shrinks.
const LOAD_PERCENT_MIN: usize = 40;

/// Keys that are read together when a part is rebuilt, so that the memory is asked for all of them
/// before the first one is hashed. They lie anywhere: one by one, the waiting would add up.
const KEYS_AT_ONCE: usize = 32;

/// What the positions of an index stand for.
pub(crate) trait Keys {
    /// What is hashed.
    type Key: Copy;

    /// The key at a position.
    fn key(&self, position: u32) -> Option<Self::Key>;

    /// Its hash.
    fn hash(&self, key: &Self::Key) -> u64;

    /// The hash of the key at a position.
    fn hash_at(&self, position: u32) -> u64 {
        self.key(position).map_or(0, |key| self.hash(&key))
    }
}

/// A set of positions, each findable by the hash of what is there.
pub(crate) struct Index {
    parts: Vec<Part>,
    len: usize,
    /// Buckets of all parts.
    buckets: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            parts: vec![Part::new(0)],
            len: 0,
            buckets: 1,
        }
    }

    /// Bytes that it takes: a little more rather than less.
    pub(crate) fn bytes(&self) -> usize {
        // A vector of parts has twice the room that it needs at most, and cache lines cost what
        // lies before the first of them.
        const PER_PART: usize = 2 * size_of::<Part>() + size_of::<Bucket>();
        self.parts.len() * PER_PART + self.buckets * size_of::<Bucket>()
    }

    /// The position under `hash` for which `matches` holds.
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        self.part(hash)?.find(hash, matches)
    }

    /// Whether there are `many` entries or more whose hashes have the same lower half as this one,
    /// and for which `is_one` holds.
    ///
    /// Each part counts its entries by tag, as far as there are [counters](Bucket::counts) for
    /// that: several tags may share one. So a counter says for certain that there are few. That is
    /// the answer nearly always, from one cache line; otherwise all entries of the part under the
    /// tag are looked at. A collision costs time, and never makes the answer wrong.
    pub(crate) fn has_as_many(&self, hash: u64, many: usize, is_one: impl Fn(u32) -> bool) -> bool {
        let Some(part) = self.part(hash) else {
            return false;
        };
        let tag = tag(hash);
        if usize::from(part.count(tag)) < many.min(usize::from(u8::MAX)) {
            return false;
        }
        let candidates = part
            .buckets
            .iter()
            .flat_map(|bucket| bucket.candidates(tag));
        let found = candidates.filter(|position| is_one(*position));
        found.take(many).count() >= many
    }

    /// Where the entry probably is, from one cache line alone: for prefetching.
    pub(crate) fn probable_position(&self, hash: u64) -> Option<u32> {
        let part = self.part(hash)?;
        part.buckets
            .get(part.home(hash))?
            .candidates(tag(hash))
            .next()
    }

    /// Reads the cache line where a search for `hash` begins.
    pub(crate) fn prefetch(&self, hash: u64) -> u32 {
        let part = self.part(hash);
        let bucket = part.and_then(|part| part.buckets.get(part.home(hash)));
        bucket.map_or(0, |bucket| u32::from(bucket.overflow))
    }

    /// Adds `position`, which must not be here yet.
    pub(crate) fn insert(&mut self, hash: u64, position: u32, keys: &impl Keys) {
        if self.len >= self.parts.len() * SPLIT_MEAN {
            self.split(keys);
        }
        let address = address(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(address) {
            if part.is_full() {
                self.buckets -= part.buckets.len();
                part.rebuild(part.len + 1, keys);
                self.buckets += part.buckets.len();
            }
            part.place(hash, position);
            self.len += 1;
        }
    }

    /// Removes `position`, which is here under `hash`.
    pub(crate) fn remove(&mut self, hash: u64, position: u32, keys: &impl Keys) {
        let address = address(hash, self.parts.len());
        debug_assert!(self.len > 0, "nothing is removed that is not here");
        if let Some(part) = self.parts.get_mut(address)
            && part.remove(hash, position)
        {
            self.len -= 1;
            if part.is_sparse() {
                self.buckets -= part.buckets.len();
                part.rebuild(part.len, keys);
                self.buckets += part.buckets.len();
            }
        }
        if self.len < (self.parts.len() - 1) * MERGE_MEAN {
            self.merge(keys);
        }
    }

    /// What is under `hash` has moved from position `old` to `new`.
    pub(crate) fn reposition(&mut self, hash: u64, old: u32, new: u32) {
        let address = address(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(address)
            && let Some((bucket, lane)) = part.locate(hash, old)
            && let Some(bucket) = part.buckets.get_mut(bucket)
        {
            bucket.set(lane, tag(hash), new);
        } else {
            debug_assert!(false, "what moves is here");
        }
    }

    fn part(&self, hash: u64) -> Option<&Part> {
        self.parts.get(address(hash, self.parts.len()))
    }

    /// Moves half of one part to a new part behind all others.
    fn split(&mut self, keys: &impl Keys) {
        let new = self.parts.len();
        let Some(old) = self.parts.get_mut(buddy(new)) else {
            return;
        };
        let is_moving = |(hash, _): &(u64, u32)| address(*hash, new + 1) == new;
        self.buckets -= old.buckets.len();
        // In place: vectors that grow would leave gaps in the heap.
        let mut entries = old.take(keys);
        entries.sort_unstable_by_key(is_moving);
        let staying = entries.partition_point(|entry| !is_moving(entry));
        let (staying, moving) = entries.split_at(staying);
        *old = Part::with_entries(staying);
        let new = Part::with_entries(moving);
        self.buckets += old.buckets.len() + new.buckets.len();
        self.parts.push(new);
    }

    /// The reverse of [`Self::split`].
    fn merge(&mut self, keys: &impl Keys) {
        let last = self.parts.pop();
        let buddy = buddy(self.parts.len());
        if let (Some(mut last), Some(old)) = (last, self.parts.get_mut(buddy)) {
            self.buckets -= old.buckets.len() + last.buckets.len();
            let mut entries = old.take(keys);
            entries.append(&mut last.take(keys));
            *old = Part::with_entries(&entries);
            self.buckets += old.buckets.len();
        }
    }
}

/// Which of `parts` parts holds a hash: the low bits, one bit fewer for parts not split yet.
fn address(hash: u64, parts: usize) -> usize {
    let bits = (hash & 0xff_ffff) as usize;
    let mask = parts.next_power_of_two() - 1;
    let address = bits & mask;
    if address < parts {
        address
    } else {
        bits & (mask >> 1)
    }
}

/// The part that is split to make part number `new`, counted from 0.
fn buddy(new: usize) -> usize {
    new.checked_ilog2().map_or(0, |bits| new - (1 << bits))
}

fn tag(hash: u64) -> u8 {
    Bucket::tag((hash >> 24 & 0xff) as u8)
}

struct Part {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Part {
    /// An empty part, made for `entries`.
    fn new(entries: usize) -> Self {
        let buckets = (entries * 100)
            .div_ceil(BUCKET_LEN * LOAD_PERCENT_NEW)
            .max(1);
        Self {
            buckets: vec![Bucket::NEW; buckets].into_boxed_slice(),
            len: 0,
        }
    }

    fn with_entries(entries: &[(u64, u32)]) -> Self {
        let mut part = Self::new(entries.len());
        for (hash, position) in entries {
            part.place(*hash, *position);
        }
        part
    }

    fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        for at in self.probes(hash) {
            let bucket = self.buckets.get(at)?;
            if let Some(found) = bucket.candidates(tag).find(|position| matches(*position)) {
                return Some(found);
            }
            if bucket.overflow == 0 {
                return None;
            }
        }
        None
    }

    /// The bucket and the lane of an entry.
    fn locate(&self, hash: u64, position: u32) -> Option<(usize, usize)> {
        let tag = tag(hash);
        self.probes(hash).find_map(|at| {
            let lane = self.buckets.get(at)?.lane_of(tag, position)?;
            Some((at, lane))
        })
    }

    /// Stores an entry; there is room, as the load stays below [`LOAD_PERCENT_MAX`].
    fn place(&mut self, hash: u64, position: u32) {
        if let Some(count) = self.count_mut(tag(hash)) {
            *count = count.saturating_add(1);
        }
        for at in self.probes(hash) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                return;
            };
            if bucket.insert(tag(hash), position) {
                self.len += 1;
                return;
            }
            bucket.overflow = bucket.overflow.saturating_add(1);
        }
        debug_assert!(false, "a part grows before it is full");
    }

    /// Removes an entry; `false` if it was not here.
    fn remove(&mut self, hash: u64, position: u32) -> bool {
        let Some((found, lane)) = self.locate(hash, position) else {
            debug_assert!(false, "what is removed is here");
            return false;
        };
        for at in self.probes(hash) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                return false;
            };
            if at == found {
                bucket.clear(lane);
                break;
            }
            if bucket.overflow < u16::MAX {
                bucket.overflow -= 1;
            }
        }
        if let Some(count) = self.count_mut(tag(hash))
            && *count < u8::MAX
        {
            *count -= 1;
        }
        self.len -= 1;
        true
    }

    /// Moves all entries to as many buckets as `entries` need.
    fn rebuild(&mut self, entries: usize, keys: &impl Keys) {
        let all = self.take(keys);
        *self = Self::new(entries);
        for (hash, position) in all {
            self.place(hash, position);
        }
    }

    /// Takes all entries out and frees the buckets, so that whatever takes their place can use the
    /// same memory. In these steps the heap of a large index stays free of most gaps.
    fn take(&mut self, keys: &impl Keys) -> Vec<(u64, u32)> {
        let empty = Self {
            buckets: Box::default(),
            len: 0,
        };
        let Self { buckets, len } = std::mem::replace(self, empty);
        debug_assert_eq!(buckets.iter().flat_map(Bucket::positions).count(), len);
        let mut entries = Vec::with_capacity(len);
        let mut positions = buckets.iter().flat_map(Bucket::positions);
        while entries.len() < len {
            let some = positions.by_ref().take(KEYS_AT_ONCE);
            let some = some.map(|position| (position, keys.key(position)));
            let some: ArrayVec<_, KEYS_AT_ONCE> = some.collect();
            debug_assert!(some.iter().all(|(_, key)| key.is_some()), "each has a key");
            let hash = |key: &Option<_>| key.as_ref().map_or(0, |key| keys.hash(key));
            entries.extend(some.iter().map(|(position, key)| (hash(key), *position)));
        }
        entries
    }

    /// At least as many entries are here under `tag`, if it is not [`u8::MAX`].
    fn count(&self, tag: u8) -> u8 {
        let (bucket, counter) = self.counter(tag);
        let bucket = self.buckets.get(bucket);
        let count = bucket.and_then(|bucket| bucket.counts.get(counter));
        count.copied().unwrap_or(u8::MAX)
    }

    fn count_mut(&mut self, tag: u8) -> Option<&mut u8> {
        let (bucket, counter) = self.counter(tag);
        self.buckets.get_mut(bucket)?.counts.get_mut(counter)
    }

    /// Which bucket, and which of its counters, counts a tag: the tag as a fraction of them all.
    fn counter(&self, tag: u8) -> (usize, usize) {
        let counter = (usize::from(tag) * self.buckets.len() * COUNTS_LEN) >> u8::BITS;
        (counter / COUNTS_LEN, counter % COUNTS_LEN)
    }

    fn is_full(&self) -> bool {
        (self.len + 1) * 100 > self.buckets.len() * BUCKET_LEN * LOAD_PERCENT_MAX
    }

    fn is_sparse(&self) -> bool {
        self.buckets.len() > 1
            && self.len * 100 < self.buckets.len() * BUCKET_LEN * LOAD_PERCENT_MIN
    }

    /// The bucket where a search for `hash` begins: its upper half as a fraction of all buckets.
    fn home(&self, hash: u64) -> usize {
        let buckets = self.buckets.len() as u64;
        (((hash >> 32) * buckets) >> 32) as usize
    }

    /// All buckets, from home on and round.
    fn probes(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let home = self.home(hash);
        (home..self.buckets.len()).chain(0..home)
    }
}

#[cfg(test)]
impl Index {
    /// Checks everything that the operations rely on; `hashes` is what must be in here, by
    /// position.
    pub(crate) fn assert_sound(&self, hashes: &[u64]) {
        assert_eq!(self.len, hashes.len());
        let buckets = self.parts.iter().map(|part| part.buckets.len());
        assert_eq!(self.buckets, buckets.sum::<usize>());
        let mut found = vec![false; hashes.len()];
        for (number, part) in self.parts.iter().enumerate() {
            assert!(part.len * 100 <= part.buckets.len() * BUCKET_LEN * LOAD_PERCENT_MAX);
            let mut overflow = vec![0; part.buckets.len()];
            let mut counts = vec![[0; COUNTS_LEN]; part.buckets.len()];
            let mut len = 0;
            for (at, bucket) in part.buckets.iter().enumerate() {
                for position in bucket.positions() {
                    let hash = hashes[position as usize];
                    assert!(bucket.lane_of(tag(hash), position).is_some());
                    assert_eq!(address(hash, self.parts.len()), number);
                    assert!(!std::mem::replace(&mut found[position as usize], true));
                    let (bucket, counter) = part.counter(tag(hash));
                    counts[bucket][counter] += 1;
                    for passed in part.probes(hash).take_while(|probe| *probe != at) {
                        overflow[passed] += 1;
                    }
                    len += 1;
                }
            }
            assert_eq!(part.len, len);
            let counted = part.buckets.iter().map(|bucket| bucket.overflow);
            assert!(counted.eq(overflow), "part {number}");
            for (bucket, counts) in part.buckets.iter().zip(counts) {
                for (counted, count) in bucket.counts.iter().zip(counts) {
                    assert!(*counted == u8::MAX || u32::from(*counted) == count);
                }
            }
        }
        assert!(found.iter().all(|found| *found));
    }
}

#[cfg(test)]
mod tests;
