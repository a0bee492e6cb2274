//! How the memory of a shard is divided. Pure.
//!
//! A part of it is for open offers, beyond those for which every peer has room: so neither can
//! those who fill swarms keep others from answering, nor can those who offer much keep others out
//! of swarms.

use std::num::NonZeroUsize;

use aquatic_types::site_or_client;

use crate::messages::MemberKey;

/// The part of the memory that open offers may take: one of so many.
const OFFERS_PART: usize = 8;

/// What open offers take together, beyond what each peer has room for anyway.
pub(crate) struct OfferMemory {
    bytes: usize,
    bytes_max: usize,
    /// In the present pass of cleaning, lists of open offers are halved.
    halves: bool,
}

impl OfferMemory {
    /// Nothing yet. `None` means no bound.
    pub(crate) fn new(bytes_max: Option<usize>) -> Self {
        Self {
            bytes: 0,
            bytes_max: bytes_max.unwrap_or(usize::MAX),
            halves: false,
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is memory for more than now.
    pub(crate) fn may_grow(&self) -> bool {
        self.bytes < self.bytes_max
    }

    /// Whether there is little left, or was earlier in this pass of cleaning: all are to give room
    /// back, not only those who are met first.
    pub(crate) fn are_many(&mut self) -> bool {
        self.halves |= self.bytes > self.bytes_max / 4 * 3;
        self.halves
    }

    /// A pass of cleaning has ended.
    pub(crate) fn pass_ended(&mut self) {
        self.halves = false;
    }

    /// The open offers of a peer take so many bytes now, and so many before.
    pub(crate) fn change(&mut self, before: usize, now: usize) {
        self.bytes = (self.bytes + now).saturating_sub(before);
    }
}

/// What open offers may take of so many bytes.
pub(crate) fn bytes_for_offers(bytes_max: NonZeroUsize) -> usize {
    bytes_max.get() / OFFERS_PART
}

/// What is left of so many bytes for swarms, and the books of their peers.
pub(crate) fn bytes_for_swarms(bytes_max: NonZeroUsize) -> NonZeroUsize {
    let bytes = bytes_max.get() - bytes_for_offers(bytes_max);
    NonZeroUsize::new(bytes).unwrap_or(bytes_max)
}

/// By what a peer's share of the memory is counted: its IPv4 address, or its IPv6 site.
pub(crate) fn weighed_network(key: &MemberKey) -> u64 {
    site_or_client(key.network_number())
}
