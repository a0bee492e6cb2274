//! The 20-byte names that strangers choose: of a torrent and of a peer.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

/// Names a torrent: the SHA-1 of its info dictionary, or a truncated SHA-256 (BEP 3, BEP 52).
///
/// Chosen by whoever announces, so a hash table keyed by it needs a secret hash key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// What a client calls itself in one session (BEP 3); its first bytes often name the software
/// (BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// The first eight bytes, which name the client software (BEP 20).
    #[must_use]
    pub fn client_prefix(&self) -> [u8; 8] {
        let [prefix @ .., _, _, _, _, _, _, _, _, _, _, _, _] = self.0;
        prefix
    }
}

/// Why a text is not an info hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseInfoHashError {
    /// It has this many bytes instead of 40.
    Length(usize),
    /// The byte at this place is no hexadecimal digit.
    Digit(usize),
}

impl Display for ParseInfoHashError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => {
                write!(
                    f,
                    "an info hash has 40 hexadecimal digits, this has {bytes} bytes"
                )
            }
            Self::Digit(place) => {
                write!(f, "character {} is not a hexadecimal digit", place + 1)
            }
        }
    }
}

impl std::error::Error for ParseInfoHashError {}

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;

    /// Reads 40 hexadecimal digits, upper or lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(ParseInfoHashError::Length(digits.len()));
        }
        let mut bytes = [0u8; 20];
        for (place, digit) in digits.iter().enumerate() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                b'A'..=b'F' => digit - b'A' + 10,
                _ => return Err(ParseInfoHashError::Digit(place)),
            };
            bytes[place / 2] = (bytes[place / 2] << 4) | value;
        }
        Ok(Self(bytes))
    }
}

fn write_hex(bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl Display for InfoHash {
    /// 40 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl Debug for InfoHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl Debug for PeerId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hash_text_round_trips() {
        let text = "00112233445566778899aabbccddeeff0123abcd";
        let hash: InfoHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<InfoHash>().unwrap(), hash);
    }

    #[test]
    fn bad_info_hash_is_named() {
        assert_eq!("00".parse::<InfoHash>(), Err(ParseInfoHashError::Length(2)));
        let text = "00112233445566778899aabbccddeeff0123abxd";
        assert_eq!(text.parse::<InfoHash>(), Err(ParseInfoHashError::Digit(38)));
        // 40 bytes, but not 40 characters.
        assert!("é".repeat(20).parse::<InfoHash>().is_err());
    }
}
