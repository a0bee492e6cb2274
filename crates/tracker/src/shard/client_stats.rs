//! How many peers use which client software, without keeping a peer id per peer.
//!
//! A peer is kept with a 2-byte tag that stands for the first 8 bytes of its peer id, which name
//! the software and its version (BEP 20). There are a few hundred of them in the wild. Anyone can
//! invent more, so the number of tags is bounded, and peers beyond it are counted together.

use std::mem;

use aquatic_daemon::clock::Now;
use hashbrown::HashMap;

use crate::shard::Shard;

/// The bytes of a peer id that name the software.
pub type ClientPrefix = [u8; 8];

/// What is kept with a peer to count it: nothing (`()`), or a [`ClientTag`].
pub trait PeerTag: Copy + Send + 'static {
    /// Counts a peer with this prefix.
    fn count(prefix: ClientPrefix, clients: &mut ClientTable) -> Self;

    /// Counts a peer of which nobody knows the client.
    fn count_unknown(clients: &mut ClientTable) -> Self;

    /// Counts a peer less.
    fn discount(self, clients: &mut ClientTable);

    /// The prefix that the peer was counted with, if that is known.
    fn prefix(self, clients: &ClientTable) -> Option<ClientPrefix>;

    /// Counts a peer with this prefix that was counted with another one, or the same.
    fn recount(&mut self, prefix: ClientPrefix, clients: &mut ClientTable) {
        // The new one first, so that a prefix with one peer keeps its tag.
        let before = mem::replace(self, Self::count(prefix, clients));
        before.discount(clients);
    }
}

impl PeerTag for () {
    fn count(_: ClientPrefix, _: &mut ClientTable) -> Self {}

    fn count_unknown(_: &mut ClientTable) -> Self {}

    fn discount(self, _: &mut ClientTable) {}

    fn prefix(self, _: &ClientTable) -> Option<ClientPrefix> {
        None
    }
}

/// Stands for a prefix in the [`ClientTable`] of the shard that the peer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTag(u16);

impl PeerTag for ClientTag {
    fn count(prefix: ClientPrefix, clients: &mut ClientTable) -> Self {
        clients.count(prefix)
    }

    fn count_unknown(clients: &mut ClientTable) -> Self {
        clients.count_with(ClientTable::OVERFLOW)
    }

    fn discount(self, clients: &mut ClientTable) {
        clients.discount(self);
    }

    fn prefix(self, clients: &ClientTable) -> Option<ClientPrefix> {
        let row = clients.rows.get(usize::from(self.0))?;
        (self != ClientTable::OVERFLOW).then_some(row.prefix)
    }
}

/// A shard that counts clients, or one that does not. Tags make every peer larger, so these are two
/// kinds, and the configuration decides between them.
pub enum ClientStats<S, C> {
    /// Keeps no tags.
    Off(S),
    /// Keeps a [`ClientTag`] with each peer.
    On(C),
}

impl<S: Shard, C: Shard> Shard for ClientStats<S, C> {
    fn maintain(&mut self, now: Now) -> bool {
        match self {
            Self::Off(shard) => shard.maintain(now),
            Self::On(shard) => shard.maintain(now),
        }
    }
}

/// The prefixes that have peers, and how many.
#[derive(Debug)]
pub struct ClientTable {
    tags: HashMap<ClientPrefix, ClientTag>,
    /// By tag. The first counts peers for whose prefix there was no tag left, and those of which
    /// nobody knows it.
    rows: Vec<Row>,
    free: Vec<ClientTag>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    prefix: ClientPrefix,
    peers: usize,
}

impl ClientTable {
    /// Stands for all prefixes beyond the bound.
    const OVERFLOW: ClientTag = ClientTag(0);
    /// Where peers are counted whose prefix has no tag of its own.
    const OVERFLOW_PREFIX: ClientPrefix = [0; 8];

    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let overflow = Row {
            prefix: Self::OVERFLOW_PREFIX,
            peers: 0,
        };
        Self {
            tags: HashMap::new(),
            rows: vec![overflow],
            free: Vec::new(),
        }
    }

    fn count(&mut self, prefix: ClientPrefix) -> ClientTag {
        let tag = match self.tags.get(&prefix) {
            Some(tag) => *tag,
            None => self.new_tag(prefix),
        };
        self.count_with(tag)
    }

    fn count_with(&mut self, tag: ClientTag) -> ClientTag {
        if let Some(row) = self.rows.get_mut(usize::from(tag.0)) {
            row.peers += 1;
        }
        tag
    }

    fn new_tag(&mut self, prefix: ClientPrefix) -> ClientTag {
        let row = Row { prefix, peers: 0 };
        let tag = match (self.free.pop(), u16::try_from(self.rows.len())) {
            (Some(tag), _) => {
                if let Some(free) = self.rows.get_mut(usize::from(tag.0)) {
                    *free = row;
                }
                tag
            }
            (None, Ok(next)) => {
                self.rows.push(row);
                ClientTag(next)
            }
            (None, Err(_)) => return Self::OVERFLOW,
        };
        self.tags.insert(prefix, tag);
        tag
    }

    fn discount(&mut self, tag: ClientTag) {
        let Some(row) = self.rows.get_mut(usize::from(tag.0)) else {
            return;
        };
        row.peers = row.peers.saturating_sub(1);
        if row.peers == 0 && tag != Self::OVERFLOW {
            self.tags.remove(&row.prefix);
            self.free.push(tag);
        }
    }

    /// Each prefix that has peers, with their number.
    pub fn iter(&self) -> impl Iterator<Item = (ClientPrefix, usize)> {
        self.rows
            .iter()
            .filter(|row| row.peers > 0)
            .map(|row| (row.prefix, row.peers))
    }
}

impl Default for ClientTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(table: &ClientTable) -> Vec<(ClientPrefix, usize)> {
        let mut counts: Vec<_> = table.iter().collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn peers_are_counted_by_prefix() {
        let mut table = ClientTable::new();
        let first = table.count(*b"-TR4060-");
        assert_eq!(table.count(*b"-TR4060-"), first);
        let other = table.count(*b"-qB4650-");
        assert_eq!(counts(&table), [(*b"-TR4060-", 2), (*b"-qB4650-", 1)]);
        assert_eq!(other.prefix(&table), Some(*b"-qB4650-"));
        assert_eq!(ClientTag::count_unknown(&mut table).prefix(&table), None);
        ClientTable::OVERFLOW.discount(&mut table);

        table.discount(other);
        assert_eq!(counts(&table), [(*b"-TR4060-", 2)]);
        assert_eq!(table.count(*b"-DE2100-"), other, "the tag is used again");
    }

    #[test]
    fn invented_prefixes_are_bounded() {
        let mut table = ClientTable::new();
        let tags: Vec<_> = (0..100_000_u64)
            .map(|number| table.count((number + 1).to_be_bytes()))
            .collect();
        assert_eq!(table.rows.len(), 65_536);
        let overflowed = counts(&table)[0];
        assert_eq!(overflowed, (ClientTable::OVERFLOW_PREFIX, 100_000 - 65_535));
        for tag in tags {
            tag.discount(&mut table);
        }
        assert!(counts(&table).is_empty());
        assert!(table.tags.is_empty());
    }
}
