//! The lists in a tracker's answers: peers and swarm sizes.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;

use aquatic_types::{CompactAddr, CompactV4, CompactV6, IpFamily, PerFamily};

use crate::SCRAPE_ROW_SIZE;

/// The peers in an announce response, read in place.
///
/// The packet does not say how long its rows are: whoever sent the request knows over which family
/// it was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerRows<'a> {
    bytes: &'a [u8],
    family: IpFamily,
}

impl<'a> PeerRows<'a> {
    /// Rows of 6 (IPv4) or 18 bytes (IPv6) that lie one after the other; a partial one at the end
    /// is ignored.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8], family: IpFamily) -> Self {
        Self { bytes, family }
    }

    /// How many peers there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.family {
            IpFamily::V4 => self.bytes.len() / CompactV4::SIZE,
            IpFamily::V6 => self.bytes.len() / CompactV6::SIZE,
        }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The peers' addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + Clone + use<'a> {
        let (v4, v6) = match self.family {
            IpFamily::V4 => (self.bytes, &[][..]),
            IpFamily::V6 => (&[][..], self.bytes),
        };
        PerFamily { v4, v6 }.socket_addrs()
    }

    /// The bytes as they came, with a partial row if there is one.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl Debug for PeerRows<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The size of one swarm: a row of a scrape response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeRow {
    /// Peers that have everything.
    pub seeders: u32,
    /// How often a download was completed.
    pub completed: u32,
    /// Peers that lack something.
    pub leechers: u32,
}

impl ScrapeRow {
    /// The row in wire form.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SCRAPE_ROW_SIZE] {
        let mut bytes = [0; SCRAPE_ROW_SIZE];
        bytes.copy_from_slice(self.words().as_flattened());
        bytes
    }

    /// Appends the row.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.words().as_flattened());
    }

    #[inline]
    fn words(&self) -> [[u8; 4]; 3] {
        [self.seeders, self.completed, self.leechers].map(u32::to_be_bytes)
    }

    #[inline]
    fn from_words(words: [[u8; 4]; 3]) -> Self {
        let [seeders, completed, leechers] = words.map(u32::from_be_bytes);
        Self {
            seeders,
            completed,
            leechers,
        }
    }
}

/// The swarm sizes in a scrape response, in the order in which they were asked for; read in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ScrapeRows<'a>(&'a [[[u8; 4]; 3]]);

impl<'a> ScrapeRows<'a> {
    /// Rows of 12 bytes that lie one after the other; a partial one at the end is ignored.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0.as_chunks().0)
    }

    /// How many there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ScrapeRow> + Clone + use<'a> {
        self.0.iter().copied().map(ScrapeRow::from_words)
    }

    /// The bytes of the whole rows.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_flattened().as_flattened()
    }
}

impl Debug for ScrapeRows<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
