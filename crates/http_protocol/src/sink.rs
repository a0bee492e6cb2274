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
    #[inline]
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
pub(crate) fn put_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20]; // as many as u64::MAX has
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// How many decimal digits a number has.
#[inline]
fn decimal_size(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
