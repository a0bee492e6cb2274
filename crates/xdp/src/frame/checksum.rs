//! The checksum of the Internet protocols (RFC 1071).

/// A sum of 16-bit words in one's complement.
///
/// The words are added as they are in memory, eight bytes at a time: whatever the byte order of the
/// machine is, the sum is right if it is written back as it was read (RFC 1071, 2 B).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    /// First and second halves of words of eight bytes: the carries stay in the upper halves, which
    /// no frame is long enough to fill.
    halves: [u64; 2],
}

impl Sum {
    /// Adds bytes, filled up by a zero if they are odd: only the last ones may be that.
    #[inline]
    #[must_use]
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let (words, mut rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add_word(u64::from_ne_bytes(*word));
        }
        // Where the length is known, as that of headers is, nothing of this is left to be decided.
        if let Some((word, after)) = rest.split_first_chunk::<4>() {
            self.add_word(u32::from_ne_bytes(*word).into());
            rest = after;
        }
        if let Some((word, after)) = rest.split_first_chunk::<2>() {
            self.add_word(u16::from_ne_bytes(*word).into());
            rest = after;
        }
        if let [last] = rest {
            self.add_word(u16::from_ne_bytes([*last, 0]).into());
        }
        self
    }

    #[inline]
    fn add_word(&mut self, word: u64) {
        // Two sums that do not wait for a carry: compilers make vector instructions of them.
        self.halves[0] += word & u64::from(u32::MAX);
        self.halves[1] += word >> 32;
    }

    /// The sum in 16 bits, in the byte order of the machine.
    #[inline]
    #[must_use]
    pub(super) fn fold(self) -> u16 {
        let [first, second] = self.halves.map(|half| (half >> 32) + (half & 0xffff_ffff));
        let mut sum = first + second;
        // Of at most 34 bits, then 19, then 17, then 16.
        for _ in 0..3 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::try_from(sum & 0xffff).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As it is defined, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for word in bytes.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([word[0], low]));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::try_from(sum).unwrap()
    }

    fn fold(bytes: &[u8]) -> u16 {
        u16::from_be_bytes(Sum::default().add(bytes).fold().to_ne_bytes())
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(&bytes), 0xddf2);
    }

    #[test]
    fn the_largest_sums_carry_all_the_way() {
        for len in [1, 2, 7, 8, 9, 1_500, 65_535] {
            let bytes = vec![0xff; len];
            assert_eq!(fold(&bytes), naive(&bytes), "{len}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_all_words(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(&bytes), naive(&bytes));
        }

        #[test]
        fn parts_add_up(
            first in prop::collection::vec(any::<[u8; 2]>(), 0..50),
            second in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let first = first.concat();
            let sum = Sum::default().add(&first).add(&second).fold();
            let whole = [first, second].concat();
            prop_assert_eq!(u16::from_be_bytes(sum.to_ne_bytes()), naive(&whole));
        }
    }
}
