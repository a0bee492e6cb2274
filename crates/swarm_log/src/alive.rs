//! What trackers tell each other about themselves.

use crate::batch::{BatchHeader, write_batch};
use crate::fields::Fields;

/// A process is alive, and has written so many batches: whoever has got fewer lacks some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// The sequence number of the last batch of peers.
    pub peers: u64,
    /// The sequence number of the last batch of WebTorrent members.
    pub members: u64,
    /// Seconds within which it tells again of every peer that it serves; 0: it does not say.
    pub told_within: u32,
}

impl Alive {
    pub(crate) const KIND: u8 = 5;

    /// Appends the batch.
    pub fn write(&self, out: &mut Vec<u8>, header: &BatchHeader) {
        write_batch(out, Self::KIND, header, |body| {
            body.extend_from_slice(&self.peers.to_be_bytes());
            body.extend_from_slice(&self.members.to_be_bytes());
            body.extend_from_slice(&self.told_within.to_be_bytes());
        });
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let alive = Self {
            peers: fields.take_u64()?,
            members: fields.take_u64()?,
            told_within: fields.take_u32().unwrap_or_default(),
        };
        // Later versions may say more.
        Some(alive)
    }
}

/// A process leaves: what it has told of its connections holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving;

impl Leaving {
    pub(crate) const KIND: u8 = 6;

    /// Appends the batch.
    pub fn write(self, out: &mut Vec<u8>, header: &BatchHeader) {
        write_batch(out, Self::KIND, header, |_| ());
    }
}
