//! The list of torrents in a scrape.

use std::fmt::{self, Debug, Formatter};

use aquatic_types::InfoHash;

use crate::RequestErrorKind;
use crate::json::Value;
use crate::message::Sink;

/// Info hashes in the order in which they are asked for, decoded when they are looked at.
#[derive(Clone, Copy)]
pub struct InfoHashes<'a>(Place<'a>);

/// Where the hashes lie.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// In a message whose hashes have been found to be whole: a string or an array of strings.
    Message(Value<'a>),
    Values(&'a [InfoHash]),
}

impl<'a> InfoHashes<'a> {
    /// The value of `info_hash`: one, a list of them, or nothing.
    pub(crate) fn read(value: Option<Value<'a>>) -> Result<Self, RequestErrorKind> {
        let Some(value) = value else {
            return Ok(Self(Place::Values(&[])));
        };
        let is_list_of_hashes = value.is_array() && value.elements().all(is_info_hash);
        if is_list_of_hashes || is_info_hash(value) {
            return Ok(Self(Place::Message(value)));
        }
        Err(RequestErrorKind::InfoHashSize)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All of them, in order. Repeated ones are repeated.
    pub fn iter(&self) -> impl Iterator<Item = InfoHash> + Clone + use<'a> {
        let (value, values): (Option<Value<'a>>, &[_]) = match self.0 {
            Place::Message(value) => (Some(value), &[]),
            Place::Values(values) => (None, values),
        };
        let alone = value.filter(|value| !value.is_array());
        let listed = value.into_iter().flat_map(Value::elements);
        let decoded = alone.into_iter().chain(listed).flat_map(Value::bytes_20);
        decoded.map(InfoHash).chain(values.iter().copied())
    }

    pub(crate) fn put(&self, sink: &mut impl Sink) {
        let mut before = "[\"";
        for info_hash in self.iter() {
            sink.put_bytes_20(before, &info_hash.0);
            before = ",\"";
        }
        sink.put(if self.is_empty() { "[]" } else { "]" });
    }
}

fn is_info_hash(value: Value<'_>) -> bool {
    value.bytes_20().is_some()
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
