//! What batches hold.

use std::fmt::{self, Display, Formatter};

use aquatic_types::{CompactV4, CompactV6, InfoHash, PeerStatus};

use crate::fields::Fields;

/// Something of which a batch holds many, each of the same size.
pub trait Record: Copy {
    /// Bytes of one record.
    const BYTES: usize;

    /// Appends the [`Self::BYTES`] bytes of the record.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a record from its [`Self::BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// When no tracker can have meant this.
    fn read(bytes: &[u8]) -> Result<Self, InvalidRecord>;
}

/// Why a record of a sound batch cannot be used. The others of the batch can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRecord {
    /// It has too few bytes.
    TooShort,
    /// A peer at port 0, where nobody can be reached.
    PortZero,
}

impl Display for InvalidRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the record is too short",
            Self::PortZero => "the record names a peer at port 0",
        })
    }
}

impl std::error::Error for InvalidRecord {}

/// An address as it stands in a [`PeerRecord`]: that of its compact form.
///
/// Implemented by [`CompactV4`] and [`CompactV6`].
pub trait PeerAddress: Copy {
    /// Bytes of address and port.
    const BYTES: usize;

    /// Address and port, as they go over the wire.
    fn bytes(&self) -> &[u8];

    /// Reads [`Self::BYTES`] bytes; `None` if there are more or fewer.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! peer_address {
    ($address:ident, $bytes:literal) => {
        impl PeerAddress for $address {
            const BYTES: usize = $bytes;

            fn bytes(&self) -> &[u8] {
                &self.0
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }
    };
}

peer_address!(CompactV4, 6);
peer_address!(CompactV6, 18);

/// A peer of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRecord<A> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the peer can be reached.
    pub peer: A,
    /// Seeder, leecher, or no longer in the swarm.
    pub status: PeerStatus,
    /// It has just completed its download, which counts one more.
    pub has_completed: bool,
    /// Its download was counted before, or it has been a seeder: what it completes from now on
    /// counts no more.
    pub is_finished: bool,
    /// For how many seconds after the batch was written the peer is alive, if it announces no more.
    pub seconds_left: u16,
}

pub(crate) const SEEDER: u8 = 1;
pub(crate) const LEFT: u8 = 2;
pub(crate) const COMPLETED: u8 = 4;
pub(crate) const FINISHED: u8 = 8;

impl<A: PeerAddress> Record for PeerRecord<A> {
    const BYTES: usize = 20 + A::BYTES + 1 + 2;

    fn write(&self, out: &mut Vec<u8>) {
        let status = match self.status {
            PeerStatus::Seeder => SEEDER,
            PeerStatus::Leecher => 0,
            PeerStatus::Stopped => LEFT,
        };
        let completed = if self.has_completed { COMPLETED } else { 0 };
        let finished = if self.is_finished { FINISHED } else { 0 };
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(self.peer.bytes());
        out.push(status | completed | finished);
        out.extend_from_slice(&self.seconds_left.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let mut fields = Fields(bytes);
        let mut read = || {
            let info_hash = InfoHash(fields.take()?);
            let peer = A::from_bytes(fields.take_slice(A::BYTES)?)?;
            let flags = fields.take_u8()?;
            Some(Self {
                info_hash,
                peer,
                status: match (flags & LEFT != 0, flags & SEEDER != 0) {
                    (true, _) => PeerStatus::Stopped,
                    (false, true) => PeerStatus::Seeder,
                    (false, false) => PeerStatus::Leecher,
                },
                has_completed: flags & COMPLETED != 0,
                is_finished: flags & FINISHED != 0,
                seconds_left: fields.take_u16()?,
            })
        };
        let record = read().ok_or(InvalidRecord::TooShort)?;
        if record.peer.bytes().ends_with(&[0, 0]) {
            return Err(InvalidRecord::PortZero);
        }
        Ok(record)
    }
}

/// How many downloads of a torrent were completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedRecord {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Downloads since the torrent became known.
    pub downloads: u32,
}

impl Record for CompletedRecord {
    const BYTES: usize = 24;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(&self.downloads.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let mut fields = Fields(bytes);
        let mut read = || {
            Some(Self {
                info_hash: InfoHash(fields.take()?),
                downloads: fields.take_u32()?,
            })
        };
        read().ok_or(InvalidRecord::TooShort)
    }
}
