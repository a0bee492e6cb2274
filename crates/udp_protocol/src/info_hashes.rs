//! The list of torrents in a scrape request.

use std::fmt::{self, Debug, Formatter};

use aquatic_types::InfoHash;

use crate::INFO_HASH_SIZE;

/// Info hashes in the order in which they are asked for, read in place.
#[derive(Clone, Copy)]
pub struct InfoHashes<'a>(Place<'a>);

/// Where the hashes lie. Safe code cannot see one kind of slice as the other.
#[derive(Clone, Copy)]
enum Place<'a> {
    Packet(&'a [[u8; INFO_HASH_SIZE]]),
    Values(&'a [InfoHash]),
}

impl<'a> InfoHashes<'a> {
    /// Reads hashes that lie one after the other; a partial one at the end is ignored.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        let (hashes, _partial) = bytes.as_chunks();
        Self(Place::Packet(hashes))
    }

    /// How many there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Place::Packet(hashes) => hashes.len(),
            Place::Values(hashes) => hashes.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash at a place, counted from 0.
    #[inline]
    #[must_use]
    pub fn get(&self, place: usize) -> Option<InfoHash> {
        match self.0 {
            Place::Packet(hashes) => hashes.get(place).copied().map(InfoHash),
            Place::Values(hashes) => hashes.get(place).copied(),
        }
    }

    /// All of them, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = InfoHash> + Clone + use<'a> {
        let (packet, values): (&[_], &[_]) = match self.0 {
            Place::Packet(hashes) => (hashes, &[]),
            Place::Values(hashes) => (&[], hashes),
        };
        let packet = packet.iter().copied().map(InfoHash);
        packet.chain(values.iter().copied())
    }

    /// Appends all hashes, one after the other.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self.0 {
            Place::Packet(hashes) => out.extend_from_slice(hashes.as_flattened()),
            Place::Values(hashes) => out.extend(hashes.iter().flat_map(|hash| hash.0)),
        }
    }
}

impl<'a> From<&'a [InfoHash]> for InfoHashes<'a> {
    fn from(hashes: &'a [InfoHash]) -> Self {
        Self(Place::Values(hashes))
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

    const HASHES: [InfoHash; 3] = [InfoHash([1; 20]), InfoHash([2; 20]), InfoHash([3; 20])];

    #[test]
    fn packet_and_values_read_the_same() {
        let mut bytes = Vec::new();
        InfoHashes::from(&HASHES[..]).write(&mut bytes);
        assert_eq!(bytes.len(), 60);
        bytes.extend([9; 19]); // a partial fourth hash

        for hashes in [
            InfoHashes::from(&HASHES[..]),
            InfoHashes::from_bytes(&bytes),
        ] {
            assert_eq!(hashes.len(), 3);
            assert!(!hashes.is_empty());
            assert_eq!(hashes.iter().collect::<Vec<_>>(), HASHES);
            assert_eq!(hashes.get(2), Some(HASHES[2]));
            assert_eq!(hashes.get(3), None);
        }
        assert_eq!(
            InfoHashes::from(&HASHES[..]),
            InfoHashes::from_bytes(&bytes)
        );
        let reordered = [HASHES[1], HASHES[0], HASHES[2]];
        assert_ne!(
            InfoHashes::from(&reordered[..]),
            InfoHashes::from_bytes(&bytes)
        );
        assert_ne!(
            InfoHashes::from(&HASHES[..2]),
            InfoHashes::from_bytes(&bytes)
        );
    }
}
