//! The parameters of a query: `key=value`, joined by `&`, percent-encoded.
//!
//! Announce URLs are copied by people and put together by programs, so what joins the parameters is
//! not always a single `&`:
//!
//! * `?` does it as well, but for one among the 20 bytes of an id: a client that appends
//!   `?info_hash=…` to `/announce?passkey=a` makes `passkey=a?info_hash=…`;
//! * so does `&amp;`, from an announce URL that was copied out of a page's source.
//!
//! `;` does not: as in forms (WHATWG URL, 5.1), it is a byte of the value.

/// What a parameter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    InfoHash,
    PeerId,
    Port,
    Uploaded,
    Downloaded,
    Left,
    NumWant,
    Compact,
    Event,
    /// Something that means nothing to a tracker.
    Unknown,
}

impl Key {
    /// The key with this name, of which any character may be percent-encoded (`info%5fhash`).
    fn decoded(name: &[u8]) -> Self {
        let names: [(&[u8], Self); 9] = [
            (b"info_hash", Self::InfoHash),
            (b"peer_id", Self::PeerId),
            (b"port", Self::Port),
            (b"uploaded", Self::Uploaded),
            (b"downloaded", Self::Downloaded),
            (b"left", Self::Left),
            (b"numwant", Self::NumWant),
            (b"compact", Self::Compact),
            (b"event", Self::Event),
        ];
        let is_it = |known: &[u8]| strip_decoded(name, known).is_some_and(<[u8]>::is_empty);
        let found = names.into_iter().find(|(known, _)| is_it(known));
        found.map_or(Self::Unknown, |(_, key)| key)
    }
}

/// Reads a query from its start to its end: a key, then its value, then the next key.
///
/// Each way of reading a value takes all of it, whether it makes sense or not, and the separator
/// after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters<'a>(pub(crate) &'a [u8]);

impl<'a> Parameters<'a> {
    /// Whether nothing is left.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the key that comes next, with the `=` after it. To try a few known ones is quicker
    /// than to look for the end of an unknown one.
    #[inline]
    pub(crate) fn key(&mut self) -> Key {
        if self.take(b"info_hash=") {
            Key::InfoHash
        } else if self.take(b"peer_id=") {
            Key::PeerId
        } else if self.take(b"port=") {
            Key::Port
        } else if self.take(b"uploaded=") {
            Key::Uploaded
        } else if self.take(b"downloaded=") {
            Key::Downloaded
        } else if self.take(b"left=") {
            Key::Left
        } else if self.take(b"numwant=") {
            Key::NumWant
        } else if self.take(b"compact=") {
            Key::Compact
        } else if self.take(b"event=") {
            Key::Event
        } else {
            self.unusual_key()
        }
    }

    #[inline]
    fn unusual_key(&mut self) -> Key {
        if self.0.starts_with(b"amp;") {
            return self.key_after_entity();
        }
        let is_end = |byte: &u8| matches!(byte, b'=' | b'&' | b'?' | b'%');
        let size = self.0.iter().position(is_end);
        let (_, rest) = self.0.split_at(size.unwrap_or(self.0.len()));
        if rest.starts_with(b"%") {
            return self.encoded_key();
        }
        // The `=` is skipped with the value, which nobody looks at.
        self.0 = rest;
        Key::Unknown
    }

    /// What `&amp;` leaves before a key when `&` has been taken.
    #[cold]
    fn key_after_entity(&mut self) -> Key {
        while let Some(rest) = self.0.strip_prefix(b"amp;") {
            self.0 = rest;
        }
        self.key()
    }

    #[cold]
    fn encoded_key(&mut self) -> Key {
        let is_end = |byte: &u8| matches!(byte, b'=' | b'&' | b'?');
        let size = self.0.iter().position(is_end);
        let (name, rest) = self.0.split_at(size.unwrap_or(self.0.len()));
        match rest {
            [b'=', value @ ..] => {
                self.0 = value;
                Key::decoded(name)
            }
            _ => {
                self.0 = rest;
                Key::Unknown
            }
        }
    }

    /// Takes this key, which ends with `=`, so that it is not taken for the start of a longer one.
    #[inline]
    fn take<const N: usize>(&mut self, key: &[u8; N]) -> bool {
        match self.0.split_first_chunk() {
            Some((start, value)) if start == key => {
                self.0 = value;
                true
            }
            _ => false,
        }
    }

    /// The value as it stands.
    #[inline]
    pub(crate) fn word(&mut self) -> &'a [u8] {
        // Not worth a call to memchr: most are a few bytes long.
        let is_separator = |byte: &u8| matches!(byte, b'&' | b'?');
        let size = self.0.iter().position(is_separator);
        let (value, rest) = self.0.split_at(size.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        value
    }

    /// A number, `u64::MAX` if it is larger than that; `None` if the value is none, or is negative.
    #[inline]
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        let mut rest = self.0;
        while let [digit @ b'0'..=b'9', after @ ..] = rest {
            number = append_digit(number, *digit);
            rest = after;
        }
        let is_number = rest.len() < self.0.len();
        self.0 = rest;
        (self.end_value() && is_number).then_some(number)
    }

    /// The 20 bytes that the value stands for; `None` if it has more or fewer.
    ///
    /// As in HTML forms, `+` stands for a space: curl, Python and Go write it so unless told
    /// otherwise. A `%` that two hexadecimal digits do not follow stands for itself.
    #[inline]
    pub(crate) fn bytes_20(&mut self) -> Option<[u8; 20]> {
        // Most peer ids need no decoding; to look at all bytes at once is quicker.
        let is_plain = |bytes: &[u8; 20]| {
            let special = bytes
                .iter()
                .fold(false, |any, byte| any | is_special(*byte));
            !special
        };
        let decoded = match self.0.split_first_chunk() {
            Some((plain, rest)) if is_plain(plain) => {
                self.0 = rest;
                Some(*plain)
            }
            _ => {
                let decoded = decode_20(self.0);
                self.0 = decoded.map_or(self.0, |(_, rest)| rest);
                decoded.map(|(bytes, _)| bytes)
            }
        };
        let is_all = self.end_value();
        decoded.filter(|_| is_all)
    }

    /// Takes what is left of a value and the separator after it; whether nothing was left.
    #[inline]
    fn end_value(&mut self) -> bool {
        match self.0 {
            [] => true,
            [b'&' | b'?', next @ ..] => {
                self.0 = next;
                true
            }
            _ => {
                self.word();
                false
            }
        }
    }
}

/// What `number` becomes with another decimal digit after it; `u64::MAX` if that is too large.
#[inline]
pub(crate) fn append_digit(number: u64, digit: u8) -> u64 {
    let digit = digit.wrapping_sub(b'0').into();
    number.saturating_mul(10).saturating_add(digit)
}

/// Whether a byte of a value does not stand for itself.
#[inline]
fn is_special(byte: u8) -> bool {
    // Without branches: this runs over many bytes at once.
    (byte == b'%') | (byte == b'+') | (byte == b'&')
}

/// The first 20 bytes that a value stands for, and what follows them; `None` if the value is
/// shorter.
fn decode_20(mut value: &[u8]) -> Option<([u8; 20], &[u8])> {
    let mut decoded = [0; 20];
    for byte in &mut decoded {
        (*byte, value) = match value {
            [b'%', high, low, rest @ ..] if is_hex(*high, *low) => (hex(*high, *low), rest),
            [b'+', rest @ ..] => (b' ', rest),
            [b'&', ..] | [] => return None,
            [plain, rest @ ..] => (*plain, rest),
        };
    }
    Some((decoded, value))
}

/// What follows `name` at the start of `text`, in which any character of the name may be
/// percent-encoded.
pub(crate) fn strip_decoded<'a>(mut text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for expected in name {
        let (byte, rest) = match text {
            [b'%', high, low, rest @ ..] if is_hex(*high, *low) => (hex(*high, *low), rest),
            [plain, rest @ ..] => (*plain, rest),
            [] => return None,
        };
        if byte != *expected {
            return None;
        }
        text = rest;
    }
    Some(text)
}

#[inline]
fn is_hex(high: u8, low: u8) -> bool {
    (hex_digit(high) | hex_digit(low)) < 16
}

#[inline]
fn hex(high: u8, low: u8) -> u8 {
    (hex_digit(high) << 4) | hex_digit(low)
}

/// The value of a hexadecimal digit; 255 if it is none.
#[inline]
fn hex_digit(digit: u8) -> u8 {
    HEX_DIGITS.get(usize::from(digit)).copied().unwrap_or(255)
}

const HEX_DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
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
