//! The list of torrents in a scrape.

use std::fmt::{self, Debug, Formatter};
use std::iter;

use aquatic_types::InfoHash;

use crate::RequestError;
use crate::parameters::{Key, Parameters, encode};

/// Info hashes in the order in which they are asked for, decoded when they are looked at.
#[derive(Clone, Copy)]
pub struct InfoHashes<'a>(Place<'a>);

/// Where the hashes lie.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// In a query whose hashes have been found to be whole.
    Query(&'a [u8]),
    Values(&'a [InfoHash]),
}

impl<'a> InfoHashes<'a> {
    /// The info hashes of a query.
    pub(crate) fn parse(query: &'a [u8]) -> Result<Self, RequestError> {
        let mut values = info_hash_values(query);
        if values.any(|value| value.is_none()) {
            return Err(RequestError::InfoHashSize);
        }
        Ok(Self(Place::Query(query)))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All of them, in order. Repeated ones are repeated.
    pub fn iter(&self) -> impl Iterator<Item = InfoHash> + Clone + use<'a> {
        let (query, values): (&[u8], &[_]) = match self.0 {
            Place::Query(query) => (query, &[]),
            Place::Values(values) => (&[], values),
        };
        let decoded = info_hash_values(query).flatten();
        decoded.chain(values.iter().copied())
    }

    /// Appends the query that asks for them, without the `?` before it.
    pub(crate) fn write_query(&self, out: &mut Vec<u8>) {
        for (place, info_hash) in self.iter().enumerate() {
            let key: &[u8] = if place == 0 {
                b"info_hash="
            } else {
                b"&info_hash="
            };
            out.extend_from_slice(key);
            encode(&info_hash.0, out);
        }
    }
}

/// The info hashes of a query; `None` for one that does not have 20 bytes.
fn info_hash_values(query: &[u8]) -> impl Iterator<Item = Option<InfoHash>> + Clone {
    let mut parameters = Parameters(query);
    iter::from_fn(move || {
        while !parameters.is_empty() {
            if parameters.key() == Key::InfoHash {
                return Some(parameters.bytes_20().map(InfoHash));
            }
            parameters.word();
        }
        None
    })
}

impl<'a> From<&'a [InfoHash]> for InfoHashes<'a> {
    fn from(values: &'a [InfoHash]) -> Self {
        Self(Place::Values(values))
    }
}

/// Equal if the same hashes are asked for in the same order, wherever they lie.
impl PartialEq for InfoHashes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for InfoHashes<'_> {}

impl Debug for InfoHashes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_hashes_in_the_same_order_are_equal_wherever_they_lie() {
        let [a, b] = [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])];
        let query = format!("info_hash={}&info_hash={}", "a".repeat(20), "b".repeat(20));
        let parsed = InfoHashes::parse(query.as_bytes()).unwrap();
        assert_eq!(parsed, InfoHashes::from(&[a, b][..]));
        for others in [&[b, a][..], &[a], &[a, b, b], &[]] {
            assert_ne!(parsed, InfoHashes::from(others));
        }
    }
}
