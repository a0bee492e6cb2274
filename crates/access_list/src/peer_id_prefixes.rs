//! Which software is served: prefixes of peer ids.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use aquatic_types::PeerId;
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// Bytes of a peer id.
const PEER_ID_BYTES: usize = 20;

/// What stands before bytes that are written in hexadecimal digits.
const HEX: &str = "hex:";

/// Prefixes of peer ids, as they stand in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdPrefixes(Vec<PeerIdPrefix>);

/// The first bytes of peer ids, 1 to 20.
///
/// Written as text (`-XL`), or, if they are no printable ASCII, as hexadecimal digits
/// (`hex:2d584c`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerIdPrefix(Vec<u8>);

/// Why a text is no prefix of peer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerIdPrefixError {
    /// It has no byte, so all peer ids begin with it.
    Empty,
    /// It has more bytes than a peer id, which is this many.
    TooLong(usize),
    /// It has a character that is not printable ASCII.
    NotAscii,
    /// What follows `hex:` is not pairs of hexadecimal digits.
    NotHex,
}

impl FromStr for PeerIdPrefix {
    type Err = PeerIdPrefixError;

    fn from_str(text: &str) -> Result<Self, PeerIdPrefixError> {
        let bytes = match text.strip_prefix(HEX) {
            Some(digits) => parse_hex(digits).ok_or(PeerIdPrefixError::NotHex)?,
            None if text.bytes().all(is_printable) => text.as_bytes().to_vec(),
            None => return Err(PeerIdPrefixError::NotAscii),
        };
        match bytes.len() {
            0 => Err(PeerIdPrefixError::Empty),
            1..=PEER_ID_BYTES => Ok(Self(bytes)),
            size => Err(PeerIdPrefixError::TooLong(size)),
        }
    }
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    bytes.collect()
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' '
}

impl Display for PeerIdPrefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = str::from_utf8(&self.0).ok();
        let text = text.filter(|it| it.bytes().all(is_printable) && !it.starts_with(HEX));
        if let Some(text) = text {
            return f.write_str(text);
        }
        f.write_str(HEX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Display for PeerIdPrefixError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "is empty, and all peer ids begin with nothing: write the first characters of \
                 some, for example \"-XL\"",
            ),
            Self::TooLong(size) => write!(
                f,
                "has {size} bytes, and a peer id has {PEER_ID_BYTES}: write its first ones"
            ),
            Self::NotAscii => f.write_str(
                "has a character that is not printable ASCII: write all bytes in hexadecimal \
                 digits, for example \"hex:2d584c\"",
            ),
            Self::NotHex => f.write_str(
                "has to have pairs of hexadecimal digits after \"hex:\", for example \
                 \"hex:2d584c\"",
            ),
        }
    }
}

impl std::error::Error for PeerIdPrefixError {}

impl FromIterator<PeerIdPrefix> for PeerIdPrefixes {
    fn from_iter<I: IntoIterator<Item = PeerIdPrefix>>(prefixes: I) -> Self {
        Self(prefixes.into_iter().collect())
    }
}

impl PeerIdPrefixes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for PeerIdPrefixes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(PeerIdPrefix::to_string))
    }
}

impl<'de> Deserialize<'de> for PeerIdPrefixes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let prefixes = texts.iter().map(|text| {
            let refusal = |error: PeerIdPrefixError| D::Error::custom(format!("{text:?} {error}"));
            text.parse().map_err(refusal)
        });
        prefixes.collect()
    }
}

/// Decides by peer id who is served. Each worker has its own.
///
/// Where nothing is configured, a question costs one comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdRules(Option<Box<Rules>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    deny: PrefixSet,
    /// If not empty, only these are served.
    allow: PrefixSet,
}

impl PeerIdRules {
    /// Denies peer ids that begin with one of `deny`, and if `allow` is not empty, also those that
    /// begin with none of `allow`.
    #[must_use]
    pub fn new(deny: &PeerIdPrefixes, allow: &PeerIdPrefixes) -> Self {
        if deny.is_empty() && allow.is_empty() {
            return Self::default();
        }
        Self(Some(Box::new(Rules {
            deny: PrefixSet::new(deny),
            allow: PrefixSet::new(allow),
        })))
    }

    /// Whether a peer with this id is served.
    #[inline]
    #[must_use]
    pub fn allow(&self, peer_id: &PeerId) -> bool {
        match &self.0 {
            None => true,
            Some(rules) => rules.allow(peer_id),
        }
    }
}

impl Rules {
    fn allow(&self, peer_id: &PeerId) -> bool {
        let Self { deny, allow } = self;
        !deny.has_prefix_of(peer_id) && (allow.is_empty() || allow.has_prefix_of(peer_id))
    }
}

/// Prefixes of which none begins with another one, in order. So the only one with which an id can
/// begin is the last one that is not behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PrefixSet(Vec<PeerIdPrefix>);

impl PrefixSet {
    fn new(prefixes: &PeerIdPrefixes) -> Self {
        let mut prefixes = prefixes.0.clone();
        prefixes.sort_unstable();
        // In this order, what begins with a prefix follows it at once.
        prefixes.dedup_by(|next, before| next.0.starts_with(&before.0));
        Self(prefixes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has_prefix_of(&self, peer_id: &PeerId) -> bool {
        let PeerId(id) = peer_id;
        let behind = self.0.partition_point(|prefix| prefix.0.as_slice() <= id);
        let before = behind.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|prefix| id.starts_with(&prefix.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn prefixes(texts: &[&str]) -> PeerIdPrefixes {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn id(start: &[u8]) -> PeerId {
        let mut id = [b'x'; PEER_ID_BYTES];
        id[..start.len()].copy_from_slice(start);
        PeerId(id)
    }

    #[test]
    fn denied_are_the_listed_and_if_some_are_allowed_all_others() {
        let none = PeerIdPrefixes::default();
        let rules = PeerIdRules::new(&none, &none);
        assert!(rules.allow(&id(b"-XL0012-")));

        let rules = PeerIdRules::new(&prefixes(&["-XL", "hex:00ff"]), &none);
        assert!(!rules.allow(&id(b"-XL0012-")) && !rules.allow(&id(b"\x00\xff")));
        assert!(rules.allow(&id(b"-XM0012-")) && rules.allow(&id(b"\x00\xfe")));

        let rules = PeerIdRules::new(&prefixes(&["-TR2"]), &prefixes(&["-TR", "-qB"]));
        assert!(rules.allow(&id(b"-TR4030-")) && rules.allow(&id(b"-qB4500-")));
        assert!(!rules.allow(&id(b"-TR2940-")) && !rules.allow(&id(b"-DE2110-")));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, hint) in [
            ("", "-XL"),
            ("hex:", "-XL"),
            ("-XL0012-0123456789012", "21 bytes"),
            ("hex:2d5", "hex:2d584c"),
            ("hex:zz", "hex:2d584c"),
            ("hex:+1", "hex:2d584c"),
            ("-é", "hexadecimal"),
            ("-\n", "hexadecimal"),
        ] {
            let error = text.parse::<PeerIdPrefix>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decided_is_what_the_lists_say(
            deny in vec(vec(0..3_u8, 1..4), 0..6),
            allow in vec(vec(0..3_u8, 1..4), 0..6),
            start in vec(0..3_u8, 4),
        ) {
            let id = id(&start);
            let names = |list: &[Vec<u8>]| list.iter().any(|prefix| id.0.starts_with(prefix));
            let expected = !names(&deny) && (allow.is_empty() || names(&allow));
            let of = |list: Vec<Vec<u8>>| list.into_iter().map(PeerIdPrefix).collect();
            let rules = PeerIdRules::new(&of(deny), &of(allow));
            prop_assert_eq!(rules.allow(&id), expected);
        }

        #[test]
        fn a_prefix_reads_what_it_writes(bytes in vec(any::<u8>(), 1..=PEER_ID_BYTES)) {
            let prefix = PeerIdPrefix(bytes);
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
    }
}
