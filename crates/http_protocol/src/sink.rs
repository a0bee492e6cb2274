//! Where a message goes: into a buffer, or nowhere, to learn its size first.
//!
//! The body of an answer is described once, as a function over any [`Sink`]. It runs twice: its
//! size has to be known before its first byte can be written, since `Content-Length` comes first.

use std::fmt::{self, Arguments};
use std::io;

/// Takes the bytes of a message in order.
pub(crate) trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a number in decimal digits.
    fn put_decimal(&mut self, number: u64);

    /// Appends formatted text.
    fn put_text(&mut self, text: Arguments<'_>);

    /// Appends a bencoded byte string.
    #[inline]
    fn put_string(&mut self, bytes: &[u8]) {
        self.put_string_size(bytes.len());
        self.put(bytes);
    }

    /// Appends what comes before the bytes of a bencoded byte string.
    #[inline]
    fn put_string_size(&mut self, size: usize) {
        self.put_decimal(u64::try_from(size).unwrap_or(u64::MAX));
        self.put(b":");
    }

    /// Appends a key as it stands, with what starts an integer (`8:intervali`), the integer and
    /// what ends it.
    #[inline(always)] // for the size of `key` to be known
    fn put_integer(&mut self, key: &[u8], number: u32) {
        self.put(key);
        self.put_decimal(number.into());
        self.put(b"e");
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_decimal(&mut self, number: u64) {
        put_decimal(number, self);
    }

    fn put_text(&mut self, text: Arguments<'_>) {
        // Only memory could fail here, and that ends the program.
        let _: io::Result<()> = io::Write::write_fmt(self, text);
    }
}

/// Counts bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl Sink for Size {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn put_decimal(&mut self, number: u64) {
        self.0 += decimal_size(number);
    }

    fn put_text(&mut self, text: Arguments<'_>) {
        let _: fmt::Result = fmt::Write::write_fmt(self, text);
    }
}

impl fmt::Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// What has a body that follows the head of an answer.
pub(crate) trait Body {
    /// Appends the body.
    fn put(&self, sink: &mut impl Sink);
}

/// Appends a number in decimal digits.
#[inline]
pub(crate) fn put_decimal(number: u64, out: &mut Vec<u8>) {
    if number >= EIGHT_DIGITS {
        return put_long_decimal(number, out);
    }
    let digits = eight_digits(number);
    // One digit stays in any case. The first ones lie in the lowest bytes.
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    let text = (digits + ASCII_ZEROS) >> (8 * zeros);
    // A piece of fixed size and then a cut: quicker than a piece of which the size is not known.
    out.extend_from_slice(&text.to_le_bytes());
    out.truncate(out.len() - zeros as usize);
}

#[cold]
fn put_long_decimal(number: u64, out: &mut Vec<u8>) {
    put_decimal(number / EIGHT_DIGITS, out);
    let text = eight_digits(number % EIGHT_DIGITS) + ASCII_ZEROS;
    out.extend_from_slice(&text.to_le_bytes());
}

const EIGHT_DIGITS: u64 = 100_000_000;

const ASCII_ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// The eight digits of a number below [`EIGHT_DIGITS`], the first one in the lowest byte.
///
/// The word is split into two lanes of four digits, these into four of two, these into eight of
/// one. The divisions are multiplications, whose results are right for as many digits as a lane
/// has.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let lanes = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((lanes * 5243) >> 19) & 0x0000_007f_0000_007f;
    let lanes = hundreds | ((lanes - hundreds * 100) << 16);
    let tens = ((lanes * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((lanes - tens * 10) << 8)
}

/// How many decimal digits a number has.
#[inline]
fn decimal_size(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_those_of_the_standard_library() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        let edges = powers.flat_map(|power| [power - 1, power, power + 1, power.wrapping_mul(9)]);
        let small = 0..20_000;
        for number in small
            .chain(edges)
            .chain([u64::MAX, u64::MAX - 1, u32::MAX.into()])
        {
            let mut written = b"before".to_vec();
            put_decimal(number, &mut written);
            let expected = format!("before{number}");
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            let mut size = Size::default();
            size.put_decimal(number);
            assert_eq!(size.0, expected.len() - 6, "{number}");
        }
    }
}
