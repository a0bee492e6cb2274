//! The strings of a message: what their characters stand for, and how bytes become characters.

use std::borrow::Cow;

/// What lies between the quotes of a string, escapes and all, known to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl<'a> Text<'a> {
    /// The 20 bytes that it stands for; `None` if it has more or fewer characters, or one above
    /// U+00FF.
    pub(crate) fn bytes_20(self) -> Option<[u8; 20]> {
        let mut rest = self.0.as_bytes();
        let mut decoded = [0; 20];
        for byte in &mut decoded {
            (*byte, rest) = match rest {
                [plain @ (..=b'[' | b']'..=0x7f), rest @ ..] => (*plain, rest),
                // Two bytes of UTF-8: their lowest eight bits. Others are above U+00FF.
                [lead @ (0xc2 | 0xc3), next, rest @ ..] => (lead << 6 | next & 0x3f, rest),
                [b'\\', b'u', b'0', b'0', high, low, rest @ ..] => {
                    (hex_digit(*high)? << 4 | hex_digit(*low)?, rest)
                }
                [b'\\', letter, rest @ ..] => (escaped(*letter)?, rest),
                _ => return None,
            };
        }
        rest.is_empty().then_some(decoded)
    }

    /// The string. Halves of surrogate pairs become U+FFFD.
    pub(crate) fn decoded(self) -> Cow<'a, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(self.0);
        }
        let mut units = Vec::with_capacity(self.0.len());
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                units.extend(character.encode_utf16(&mut [0; 2]).iter());
                continue;
            }
            let letter = characters.next().and_then(|letter| letter.try_into().ok());
            units.push(letter.and_then(escaped).map_or_else(
                || {
                    let (digits, rest) =
                        characters.as_str().split_at_checked(4).unwrap_or_default();
                    characters = rest.chars();
                    u16::from_str_radix(digits, 16).unwrap_or_default()
                },
                u16::from,
            ));
        }
        Cow::Owned(String::from_utf16_lossy(&units))
    }
}

/// What a backslash and a letter stand for, other than `u`.
pub(crate) fn escaped(letter: u8) -> Option<u8> {
    match letter {
        b'"' | b'\\' | b'/' => Some(letter),
        b'b' => Some(0x08),
        b'f' => Some(0x0c),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// How a byte is written in a string: as the character from U+0000 to U+00FF that it stands for. Up
/// to six bytes, then a zero, then their number.
#[inline]
pub(crate) fn written(byte: u8) -> ([u8; 8], usize) {
    let written = WRITTEN.get(usize::from(byte)).copied().unwrap_or_default();
    let [.., size] = written;
    (written, size.into())
}

const WRITTEN: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    loop {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            all[byte as usize] = character_of(byte);
        }
        if byte == u8::MAX {
            break all;
        }
        byte += 1;
    }
};

const fn character_of(byte: u8) -> [u8; 8] {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        ..0x20 => {
            let low = byte & 0x0f;
            let digit = if low < 10 {
                b'0' + low
            } else {
                b'a' + low - 10
            };
            return [b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit, 0, 6];
        }
        0x80.. => return [0xc0 | byte >> 6, 0x80 | byte & 0x3f, 0, 0, 0, 0, 0, 2],
        _ => return [byte, 0, 0, 0, 0, 0, 0, 1],
    };
    [b'\\', letter, 0, 0, 0, 0, 0, 2]
}
