//! A vector in segments, so that growing never copies more than one of them.
//!
//! A plain `Vec` of 10 million torrents stops its owner for a good part of a second when it
//! doubles, and holds up to twice the memory that it needs. Here only the last segment ever grows.

/// Bytes of a full segment at most. Small enough that copying one takes a few microseconds and that
/// it stays below the size from which malloc maps each block separately (128 KiB in glibc).
const SEGMENT_BYTES_MAX: usize = 32 * 1024;

/// Free places are made this many at a time at least.
const GROWTH_MIN: usize = 4;

/// Items at positions `0..len()`, each position a `u32`.
pub(crate) struct Segments<T> {
    /// All full but the last, which is never empty.
    segments: Vec<Vec<T>>,
    len: u32,
}

impl<T> Segments<T> {
    /// A full segment holds `1 << SHIFT` items.
    const SHIFT: u32 = (SEGMENT_BYTES_MAX / size_of::<T>()).ilog2();
    const SEGMENT_LEN: usize = 1 << Self::SHIFT;

    pub(crate) fn new() -> Self {
        Self {
            segments: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes that this many items take, with the free places behind them: a little more rather than
    /// less. Follows from their number alone, so that each item that goes makes room for another.
    pub(crate) fn bytes(&self) -> usize {
        // A vector of segments has twice the room that it needs at most, and each segment is a
        // block of its own.
        const PER_SEGMENT: usize = 2 * size_of::<Vec<u8>>() + 16;
        let len = as_usize(self.len);
        let places = len + self.growth().min(Self::SEGMENT_LEN);
        let segments = places.div_ceil(Self::SEGMENT_LEN);
        places * size_of::<T>() + segments * PER_SEGMENT
    }

    pub(crate) fn get(&self, position: u32) -> Option<&T> {
        let (segment, offset) = Self::split(position);
        self.segments.get(segment)?.get(offset)
    }

    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        let (segment, offset) = Self::split(position);
        self.segments.get_mut(segment)?.get_mut(offset)
    }

    /// Appends `item` and returns its position; `None` when there are 2^32 - 1 items already.
    pub(crate) fn push(&mut self, item: T) -> Option<u32> {
        let position = self.len;
        let len = position.checked_add(1)?;
        if self
            .segments
            .last()
            .is_none_or(|last| last.len() == Self::SEGMENT_LEN)
        {
            self.segments.push(Vec::new());
        }
        let growth = self.growth();
        let last = self.segments.last_mut()?;
        if last.len() == last.capacity() {
            last.reserve_exact(growth.min(Self::SEGMENT_LEN - last.len()));
        }
        last.push(item);
        self.len = len;
        Some(position)
    }

    /// Takes the last item away.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let growth = self.growth();
        let last = self.segments.last_mut()?;
        let item = last.pop()?;
        self.len -= 1;
        if last.is_empty() {
            self.segments.pop();
        } else if last.capacity() - last.len() > 2 * growth {
            last.shrink_to(last.len() + growth);
        }
        Some(item)
    }

    /// Takes the item at `position` away and puts the last one in its place.
    pub(crate) fn swap_remove(&mut self, position: u32) -> Option<T> {
        self.swap(position, self.len.checked_sub(1)?);
        self.pop()
    }

    /// Exchanges two items; does nothing if there is none at one of the positions.
    pub(crate) fn swap(&mut self, a: u32, b: u32) {
        let ((segment_a, a), (segment_b, b)) = (Self::split(a), Self::split(b));
        if segment_a == segment_b {
            if let Some(segment) = self.segments.get_mut(segment_a)
                && a.max(b) < segment.len()
            {
                segment.swap(a, b);
            }
        } else if let Ok([segment_a, segment_b]) =
            self.segments.get_disjoint_mut([segment_a, segment_b])
            && let (Some(a), Some(b)) = (segment_a.get_mut(a), segment_b.get_mut(b))
        {
            std::mem::swap(a, b);
        }
    }

    /// How many places to add to the last segment when it is full: an eighth of all, so that small
    /// vectors waste little and large ones are not copied often.
    fn growth(&self) -> usize {
        (as_usize(self.len) / 8).max(GROWTH_MIN)
    }

    fn split(position: u32) -> (usize, usize) {
        let position = as_usize(position);
        (position >> Self::SHIFT, position & (Self::SEGMENT_LEN - 1))
    }
}

/// A position as the index of a slice. Never truncates: aquatic needs 32-bit pointers at least.
pub(crate) fn as_usize(position: u32) -> usize {
    position as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_vector() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut segments = Segments::new();
        let mut plain = Vec::new();
        // Grows to some 30,000 items (four segments) and shrinks to nothing, twice.
        for round in 0..200_000_u64 {
            let growing = (round / 50_000) % 2 == 0;
            let last = u32::try_from(plain.len()).unwrap();
            if plain.is_empty() || rng.u8(..10) < if growing { 8 } else { 2 } {
                assert_eq!(segments.push(round), Some(last));
                plain.push(round);
            } else {
                let position = rng.u32(..last);
                assert_eq!(
                    segments.swap_remove(position),
                    Some(plain.swap_remove(as_usize(position)))
                );
            }
            if !plain.is_empty() {
                let last = u32::try_from(plain.len()).unwrap();
                let (a, b) = (rng.u32(..last), rng.u32(..last));
                segments.swap(a, b);
                plain.swap(as_usize(a), as_usize(b));
                assert_eq!(segments.get(a), plain.get(as_usize(a)));
                assert_eq!(segments.get(last), None);
            }
            if round % 1_000 == 0 {
                assert_same(&segments, &plain);
            }
        }
        assert_same(&segments, &plain);
    }

    fn assert_same(segments: &Segments<u64>, plain: &[u64]) {
        assert_eq!(as_usize(segments.len()), plain.len());
        assert!((0..segments.len()).all(|at| segments.get(at) == plain.get(as_usize(at))));
    }

    #[test]
    fn memory_follows_the_number_of_items() {
        let mut segments = Segments::new();
        let capacity =
            |segments: &Segments<u64>| segments.segments.iter().map(Vec::capacity).sum::<usize>();
        let mut grown = 0;
        for item in 0..20_000 {
            let before = capacity(&segments);
            segments.push(item);
            grown += u32::from(capacity(&segments) != before);
            let len = as_usize(segments.len());
            assert!(capacity(&segments) <= len + len / 8 + GROWTH_MIN);
            let last = segments.segments.last().unwrap();
            assert!(last.capacity() <= Segments::<u64>::SEGMENT_LEN);
        }
        assert!(grown < 100, "{grown}: nothing is copied at each step");
        loop {
            let (growth, before) = (segments.growth(), capacity(&segments));
            if segments.pop().is_none() {
                break;
            }
            let len = as_usize(segments.len());
            assert!(capacity(&segments) <= len + len.max(32) / 4 + 2 * GROWTH_MIN);
            // There is room to grow again, and memory is not given back at each step.
            let last = segments.segments.last().filter(|last| last.len() < 4_096);
            if let Some(last) = last {
                let free = last.capacity() - last.len();
                let is_kept = capacity(&segments) == before;
                assert!(if is_kept {
                    free <= 2 * growth
                } else {
                    free == growth
                });
                assert!(is_kept || before - len > 2 * growth);
            }
        }
        assert_eq!(capacity(&segments), 0);
    }

    #[test]
    fn swapping_outside_changes_nothing() {
        let mut segments = Segments::new();
        segments.push(1);
        segments.push(2);
        segments.swap(0, 2);
        segments.swap(0, 1 << 20);
        assert_eq!((segments.get(0), segments.get(1)), (Some(&1), Some(&2)));
    }
}
