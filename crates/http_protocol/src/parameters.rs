//! The parameters of a query: `key=value`, joined by `&` or `;`, percent-encoded.

use memchr::memchr2;

/// The parameters of a query in order, still encoded. Empty ones are left out; one without `=` has
/// an empty value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let size = memchr2(b'&', b';', self.0).unwrap_or(self.0.len());
            let (parameter, rest) = self.0.split_at_checked(size)?;
            self.0 = rest.get(1..).unwrap_or_default();
            if parameter.is_empty() {
                continue;
            }
            // Keys are short.
            let key_size = parameter.iter().position(|byte| *byte == b'=');
            let (key, value) = parameter.split_at_checked(key_size.unwrap_or(parameter.len()))?;
            return Some((key, value.get(1..).unwrap_or_default()));
        }
        None
    }
}

/// The 20 bytes that a value stands for; `None` if it has more or fewer.
///
/// As in HTML forms, `+` stands for a space: curl, Python and Go write it so unless told otherwise.
/// A `%` that two hexadecimal digits do not follow stands for itself.
#[inline]
pub(crate) fn decode_20(mut value: &[u8]) -> Option<[u8; 20]> {
    let mut decoded = [0; 20];
    for byte in &mut decoded {
        (*byte, value) = match value {
            [b'%', high, low, rest @ ..] => match hex_pair(*high, *low) {
                Some(escaped) => (escaped, rest),
                None => (b'%', value.get(1..)?),
            },
            [b'+', rest @ ..] => (b' ', rest),
            [plain, rest @ ..] => (*plain, rest),
            [] => return None,
        };
    }
    value.is_empty().then_some(decoded)
}

#[inline]
fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let pair = hex_digit(high) << 4 | hex_digit(low);
    u8::try_from(pair).ok()
}

/// The value of a digit; more than a byte can hold, wherever it is shifted to, if it is none.
#[inline]
fn hex_digit(digit: u8) -> u16 {
    HEX_DIGITS.get(usize::from(digit)).copied().unwrap_or(0xf00)
}

const HEX_DIGITS: [u16; 256] = {
    let mut digits = [0xf00; 256];
    let mut value = 0;
    while value < 16 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            digits[b"0123456789abcdef"[value as usize] as usize] = value;
            digits[b"0123456789ABCDEF"[value as usize] as usize] = value;
        }
        value += 1;
    }
    digits
};

/// A number, `u64::MAX` if it is larger than that; `None` if the value is none, or is negative.
#[inline]
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number.saturating_mul(10).saturating_add(digit.into()))
    })
}

/// Appends bytes, percent-encoded but for the characters that never need it (RFC 3986, 2.3).
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
