//! How clients write their version into a peer id.

use std::fmt::{self, Debug, Display, Formatter};

/// A version number of two to four parts, each below 256.
///
/// Marks for beta, nightly and the like are not kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Those that are not there are 0.
    parts: [u8; 4],
    /// How many of the parts are there: 2, 3 or 4.
    len: u8,
    /// Whether the second part is shown with two digits, as in 2.02.
    padded_minor: bool,
}

// Each constructor is one custom. `None`: the bytes do not follow it.
impl Version {
    /// One character per part, letters above 9: `13F0` is 1.3.15. The fourth character usually
    /// tells the kind of build: it is part of the version only if it is a digit other than 0.
    pub(crate) fn characters([major, minor, patch, build]: [u8; 4]) -> Option<Self> {
        let build = match build {
            b'1'..=b'9' => build - b'0',
            _ => 0,
        };
        let [major, minor, patch] = [major, minor, patch].map(|part| digit(part, 36));
        let len = if build == 0 { 3 } else { 4 };
        Some(Self::new([major?, minor?, patch?, build], len))
    }

    /// As [`Self::characters`], but the second half is about the build: `33D1` is 3.3.
    pub(crate) fn two_characters([major, minor, ..]: [u8; 4]) -> Option<Self> {
        Some(Self::two_parts(digit(major, 36)?, digit(minor, 36)?))
    }

    /// Two decimal digits per part: `0102` is 1.2.
    pub(crate) fn digit_pairs([a, b, c, d]: [u8; 4]) -> Option<Self> {
        Some(Self::two_parts(decimal(&[a, b])?, decimal(&[c, d])?))
    }

    /// Two decimal digits per part, and people write both of the second: `0202` is 2.02.
    pub(crate) fn padded_digit_pairs(digits: [u8; 4]) -> Option<Self> {
        Some(Self::digit_pairs(digits)?.with_padded_minor())
    }

    /// Transmission: `2940` was 2.94 up to version 3, then `4060` is 4.0.6. (Before 1.0, not read
    /// here, there was a third way.)
    pub(crate) fn transmission(characters: [u8; 4]) -> Option<Self> {
        match characters {
            [b'0', ..] => None,
            [major @ b'1'..=b'3', a, b, _] => {
                let version = Self::two_parts(digit(major, 10)?, decimal(&[a, b])?);
                Some(version.with_padded_minor())
            }
            _ => Self::characters(characters),
        }
    }

    /// Three decimal numbers, each followed by a dash: `1-36-0-` is 1.36.0. More may follow.
    pub(crate) fn dashed(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.split(|byte| *byte == b'-').map(decimal);
        let parts = [numbers.next()??, numbers.next()??, numbers.next()??, 0];
        Some(Self::new(parts, 3))
    }

    fn two_parts(major: u8, minor: u8) -> Self {
        Self::new([major, minor, 0, 0], 2)
    }

    fn new(parts: [u8; 4], len: u8) -> Self {
        Self {
            parts,
            len,
            padded_minor: false,
        }
    }

    fn with_padded_minor(self) -> Self {
        Self {
            padded_minor: true,
            ..self
        }
    }
}

/// `radix` is at most 36; letters of either case are digits above 9.
fn digit(byte: u8, radix: u32) -> Option<u8> {
    char::from(byte).to_digit(radix)?.try_into().ok()
}

/// A decimal number below 256.
fn decimal(digits: &[u8]) -> Option<u8> {
    let (first, rest) = digits.split_first()?;
    rest.iter().try_fold(digit(*first, 10)?, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(*byte, 10)?)
    })
}

impl Display for Version {
    /// Numbers and dots, such as `4.6.5`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [major, minor, more @ ..] = self.parts;
        if self.padded_minor {
            write!(f, "{major}.{minor:02}")?;
        } else {
            write!(f, "{major}.{minor}")?;
        }
        let more = more.iter().take(usize::from(self.len).saturating_sub(2));
        more.into_iter().try_for_each(|part| write!(f, ".{part}"))
    }
}

impl Debug for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_256() {
        assert_eq!(decimal(b"255"), Some(255));
        assert_eq!(decimal(b"00255"), Some(255));
        for bytes in [&b"256"[..], b"999", b"", b"+1", b"1a", b"-1"] {
            assert_eq!(decimal(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn later_versions_are_greater() {
        let versions = [*b"4650", *b"4660", *b"46A0", *b"5000"].map(Version::characters);
        assert!(versions.is_sorted());
        assert!(versions.iter().all(Option::is_some));
    }
}
