//! One cache line of an index: twelve positions, each with a tag of eight hash bits.

/// Entries that a bucket has room for: as many as one cache line of 64 bytes holds.
pub(crate) const BUCKET_LEN: usize = 12;

/// Counters that a bucket has room for.
pub(crate) const COUNTS_LEN: usize = 2;

/// The tag of a lane that holds nothing.
const EMPTY: u8 = 0;

/// Lane by lane a tag and a position. All twelve tags are compared at once, so that a look-up reads
/// one cache line here and (but for one wrong guess in about 25) one entry that the line leads to.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    tags: [u8; BUCKET_LEN],
    /// Entries whose home is this bucket or an earlier one, and which had to go to a later one.
    /// While it is 0, nothing that is not here can be further on. Once it is [`u16::MAX`], it
    /// stays so.
    pub(crate) overflow: u16,
    /// Entries of this table under some tags, which need not be those in here: see
    /// [`Index::has_as_many`](crate::index::Index::has_as_many). Once it is [`u8::MAX`], it stays
    /// so.
    pub(crate) counts: [u8; COUNTS_LEN],
    positions: [u32; BUCKET_LEN],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    pub(crate) const NEW: Self = Self {
        tags: [EMPTY; BUCKET_LEN],
        overflow: 0,
        counts: [0; COUNTS_LEN],
        positions: [0; BUCKET_LEN],
    };

    /// The tag that stands for a hash whose tag bits are `bits`.
    pub(crate) fn tag(bits: u8) -> u8 {
        bits.max(EMPTY + 1)
    }

    /// The positions that are kept under `tag`.
    pub(crate) fn candidates(&self, tag: u8) -> impl Iterator<Item = u32> + '_ {
        self.lanes(tag)
            .filter_map(|lane| self.positions.get(lane).copied())
    }

    /// All positions.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        let occupied = self
            .tags
            .iter()
            .zip(&self.positions)
            .filter(|(tag, _)| **tag != EMPTY);
        occupied.map(|(_, position)| *position)
    }

    /// The lane that keeps `position` under `tag`.
    pub(crate) fn lane_of(&self, tag: u8, position: u32) -> Option<usize> {
        self.lanes(tag)
            .find(|lane| self.positions.get(*lane) == Some(&position))
    }

    /// Stores an entry; `false` if the bucket is full.
    pub(crate) fn insert(&mut self, tag: u8, position: u32) -> bool {
        let Some(lane) = self.lanes(EMPTY).next() else {
            return false;
        };
        self.set(lane, tag, position);
        true
    }

    pub(crate) fn clear(&mut self, lane: usize) {
        self.set(lane, EMPTY, 0);
    }

    pub(crate) fn set(&mut self, lane: usize, tag: u8, position: u32) {
        if let (Some(old_tag), Some(old_position)) =
            (self.tags.get_mut(lane), self.positions.get_mut(lane))
        {
            *old_tag = tag;
            *old_position = position;
        }
    }

    /// The lanes whose tag is `tag`, found by arithmetic on all of them at once.
    fn lanes(&self, tag: u8) -> Lanes {
        const ONES: u128 = u128::from_ne_bytes([0x01; 16]);
        const LOW: u128 = u128::from_ne_bytes([0x7f; 16]);
        const TOP_BITS: u128 = !LOW & (u128::MAX >> (128 - 8 * BUCKET_LEN));

        let mut bytes = [0; 16];
        bytes[..BUCKET_LEN].copy_from_slice(&self.tags);
        // A byte of `difference` is zero where the tag matches. Adding 0x7f to its low seven bits
        // reaches the top bit, and never the next byte, unless they are zero.
        let difference = u128::from_le_bytes(bytes) ^ (ONES * u128::from(tag));
        let nonzero = ((difference & LOW) + LOW) | difference;
        Lanes(!nonzero & TOP_BITS)
    }
}

/// A set of lanes: the top bit of each one's byte.
struct Lanes(u128);

impl Iterator for Lanes {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some((bit / 8) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_those_with_the_tag() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..100_000 {
            let mut bucket = Bucket::NEW;
            // Neighbouring and extreme values, the ones that careless arithmetic mixes up.
            for tag in &mut bucket.tags {
                *tag = [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff][rng.usize(..8)];
            }
            for tag in [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff] {
                let expected = (0..BUCKET_LEN).filter(|lane| bucket.tags[*lane] == tag);
                assert!(bucket.lanes(tag).eq(expected), "{tag} in {:?}", bucket.tags);
            }
        }
    }

    #[test]
    fn a_tag_is_that_of_its_bits_and_never_that_of_nothing() {
        assert_eq!(Bucket::tag(0), 1);
        assert!((1..=u8::MAX).all(|bits| Bucket::tag(bits) == bits));
        assert_eq!(Bucket::NEW.positions().count(), 0);
    }

    #[test]
    fn holds_twelve() {
        let mut bucket = Bucket::NEW;
        for position in 0..12 {
            assert!(bucket.insert(7, position));
        }
        assert!(!bucket.insert(7, 12));
        assert!(bucket.candidates(7).eq(0..12));
        bucket.clear(bucket.lane_of(7, 5).unwrap());
        assert_eq!(bucket.lane_of(7, 5), None);
        assert!(bucket.insert(9, 12));
        assert!(bucket.candidates(9).eq([12]));
        assert_eq!(bucket.positions().count(), 12);
    }
}
