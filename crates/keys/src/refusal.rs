//! Why a client with this key, or without one, is not served.

use std::fmt::{self, Display, Formatter};
use std::num::NonZeroU32;

use crate::EndDate;

/// Why a request is refused. The text is for the client's user, and names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// The announce URL has none.
    Missing,
    /// The list does not have it.
    Unknown,
    /// It is past its end date.
    Ended(EndDate),
    /// It has as many peers as it may have, and this one would be new.
    PeerLimit(NonZeroU32),
}

impl Display for KeyRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the announce URL has no key, and this tracker wants one"),
            Self::Unknown => f.write_str("unknown key in the announce URL"),
            Self::Ended(end) => write!(f, "this key has ended on {end}"),
            Self::PeerLimit(max) if max.get() == 1 => f.write_str("this key has 1 peer already"),
            Self::PeerLimit(max) => write!(f, "this key has {max} peers already"),
        }
    }
}

impl std::error::Error for KeyRefusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_for_users() {
        let limit = |max| KeyRefusal::PeerLimit(NonZeroU32::new(max).unwrap());
        let end = EndDate::parse("2027-01-31").unwrap();
        for (refusal, text) in [
            (KeyRefusal::Unknown, "unknown key in the announce URL"),
            (
                KeyRefusal::Missing,
                "the announce URL has no key, and this tracker wants one",
            ),
            (KeyRefusal::Ended(end), "this key has ended on 2027-01-31"),
            (limit(1), "this key has 1 peer already"),
            (limit(20), "this key has 20 peers already"),
        ] {
            assert_eq!(refusal.to_string(), text);
        }
    }
}
