//! A batch: header, records of one kind, checksum.

use std::fmt::{self, Debug, Display, Formatter};
use std::marker::PhantomData;
use std::slice::ChunksExact;

use aquatic_types::{CompactV4, CompactV6};

use crate::alive::{Alive, Leaving};
use crate::fields::Fields;
use crate::file::{Begin, End};
use crate::letter::Letters;
use crate::member::MemberRecord;
use crate::record::{CompletedRecord, InvalidRecord, PeerRecord, Record};

/// Bytes of a batch before its body.
pub const HEADER_BYTES: usize = 32;

/// The most bytes that a batch has, with header and checksum: what message brokers take by default.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

const MAGIC: [u8; 2] = *b"AQ";
const VERSION: u8 = 1;
/// Where the length of the body stands.
const LENGTH_OFFSET: usize = 4;
const CHECKSUM_BYTES: usize = 4;
pub(crate) const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX - HEADER_BYTES - CHECKSUM_BYTES;
/// The kind of a batch of letters, which are no records: they differ in size.
pub(crate) const LETTERS: u8 = 4;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// A random number that each process draws at its start.
    pub process: u64,
    /// From 1; one more than that of the batch before. A gap shows that batches were lost.
    pub sequence: u64,
    /// When it was written: milliseconds since 1970.
    pub unix_millis: u64,
}

/// A kind of batch that holds records `R`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind<R> {
    number: u8,
    records: PhantomData<R>,
}

impl<R> Kind<R> {
    const fn new(number: u8) -> Self {
        Self {
            number,
            records: PhantomData,
        }
    }
}

impl Kind<PeerRecord<CompactV4>> {
    /// IPv4 peers.
    pub const PEERS_V4: Self = Self::new(1);
}

impl Kind<PeerRecord<CompactV6>> {
    /// IPv6 peers.
    pub const PEERS_V6: Self = Self::new(2);
}

impl Kind<MemberRecord> {
    /// Members of WebTorrent swarms.
    pub const MEMBERS: Self = Self::new(3);
}

impl Kind<CompletedRecord> {
    /// Downloads by IPv4 peers.
    pub const COMPLETED_V4: Self = Self::new(7);
    /// Downloads by IPv6 peers.
    pub const COMPLETED_V6: Self = Self::new(8);
    /// Downloads by WebTorrent peers.
    pub const COMPLETED_WEBTORRENT: Self = Self::new(9);
}

/// A batch whose checksum is right.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// What it says about itself.
    pub header: BatchHeader,
    /// What is in it.
    pub body: Body<'a>,
}

/// What is in a batch.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// IPv4 peers.
    PeersV4(Records<'a, PeerRecord<CompactV4>>),
    /// IPv6 peers.
    PeersV6(Records<'a, PeerRecord<CompactV6>>),
    /// Members of WebTorrent swarms.
    Members(Records<'a, MemberRecord>),
    /// What members of WebTorrent swarms have for those of another process.
    Letters(Letters<'a>),
    /// Downloads by IPv4 peers.
    CompletedV4(Records<'a, CompletedRecord>),
    /// Downloads by IPv6 peers.
    CompletedV6(Records<'a, CompletedRecord>),
    /// Downloads by WebTorrent peers.
    CompletedWebTorrent(Records<'a, CompletedRecord>),
    /// A process is alive.
    Alive(Alive),
    /// A process leaves.
    Leaving,
    /// A file begins.
    Begin(Begin),
    /// A file is at its end.
    End(End),
    /// Something that a later version of this crate may know, of this kind.
    Unknown(u8),
}

/// The records of a batch.
#[derive(Clone)]
pub struct Records<'a, R> {
    bytes: ChunksExact<'a, u8>,
    kind: PhantomData<R>,
}

impl<R: Record> Iterator for Records<'_, R> {
    type Item = Result<R, InvalidRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.bytes.next().map(R::read)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.bytes.size_hint()
    }
}

impl<R: Record> ExactSizeIterator for Records<'_, R> {}

impl<R: Record + Debug> Debug for Records<'_, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Why bytes are not a batch that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// They begin otherwise than a batch.
    Foreign,
    /// Of this version of the format, which is not known here.
    Version(u8),
    /// It claims a body of this many bytes, more than any batch has.
    TooLarge(u32),
    /// The bytes end before the batch does.
    Torn,
    /// Some bytes are not those that were written.
    Checksum,
    /// The body of a batch of this kind cannot have this many bytes.
    BodyLength {
        /// The kind.
        kind: u8,
        /// The bytes.
        bytes: usize,
    },
}

impl Display for BatchError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("this is not a batch of swarm records"),
            Self::Version(version) => write!(
                f,
                "version {version} of the format is not known here, only version {VERSION}"
            ),
            Self::TooLarge(bytes) => write!(
                f,
                "a batch claims a body of {bytes} bytes; the limit is {BODY_BYTES_MAX}"
            ),
            Self::Torn => f.write_str("the bytes end in the middle of a batch"),
            Self::Checksum => f.write_str("a checksum is wrong"),
            Self::BodyLength { kind, bytes } => {
                write!(f, "a batch of kind {kind} has a body of {bytes} bytes")
            }
        }
    }
}

impl std::error::Error for BatchError {}

/// Bytes of the whole batch that begins with these [`HEADER_BYTES`], for whoever has to read the
/// rest of it from somewhere.
///
/// # Errors
///
/// When no batch begins like this.
pub fn batch_bytes(header: &[u8; HEADER_BYTES]) -> Result<usize, BatchError> {
    let mut fields = Fields(header);
    start(&mut fields).map(|start| HEADER_BYTES + start.body_bytes + CHECKSUM_BYTES)
}

/// The first fields of a batch.
struct Start {
    kind: u8,
    body_bytes: usize,
}

fn start(fields: &mut Fields<'_>) -> Result<Start, BatchError> {
    let torn = BatchError::Torn;
    let magic = fields.0.iter().zip(&MAGIC);
    if magic.into_iter().any(|(byte, expected)| byte != expected) {
        return Err(BatchError::Foreign);
    }
    fields.take::<2>().ok_or(torn)?;
    let version = fields.take_u8().ok_or(torn)?;
    if version != VERSION {
        return Err(BatchError::Version(version));
    }
    let kind = fields.take_u8().ok_or(torn)?;
    let claimed = fields.take_u32().ok_or(torn)?;
    let body_bytes = usize::try_from(claimed).unwrap_or(usize::MAX);
    if body_bytes > BODY_BYTES_MAX {
        return Err(BatchError::TooLarge(claimed));
    }
    Ok(Start { kind, body_bytes })
}

impl<'a> Batch<'a> {
    /// Reads the batch at the beginning of `bytes`, and returns what follows it.
    ///
    /// # Errors
    ///
    /// When there is none that can be used.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let torn = BatchError::Torn;
        let mut fields = Fields(bytes);
        let Start { kind, body_bytes } = start(&mut fields)?;
        let header = BatchHeader {
            process: fields.take_u64().ok_or(torn)?,
            sequence: fields.take_u64().ok_or(torn)?,
            unix_millis: fields.take_u64().ok_or(torn)?,
        };
        let body = fields.take_slice(body_bytes).ok_or(torn)?;
        let checksum = fields.take_u32().ok_or(torn)?;
        let covered = bytes.get(..HEADER_BYTES + body_bytes).ok_or(torn)?;
        if crc32fast::hash(covered) != checksum {
            return Err(BatchError::Checksum);
        }
        let bad_length = BatchError::BodyLength {
            kind,
            bytes: body_bytes,
        };
        let body = Body::parse(kind, body).ok_or(bad_length)?;
        Ok((Self { header, body }, fields.0))
    }
}

impl<'a> Body<'a> {
    /// `None` if a body of this kind cannot have this length.
    fn parse(kind: u8, body: &'a [u8]) -> Option<Self> {
        const PEERS_V4: u8 = Kind::PEERS_V4.number;
        const PEERS_V6: u8 = Kind::PEERS_V6.number;
        const MEMBERS: u8 = Kind::MEMBERS.number;
        const COMPLETED_V4: u8 = Kind::COMPLETED_V4.number;
        const COMPLETED_V6: u8 = Kind::COMPLETED_V6.number;
        const COMPLETED_WEBTORRENT: u8 = Kind::COMPLETED_WEBTORRENT.number;
        match kind {
            PEERS_V4 => records(body).map(Self::PeersV4),
            PEERS_V6 => records(body).map(Self::PeersV6),
            MEMBERS => records(body).map(Self::Members),
            LETTERS => Letters::new(body).map(Self::Letters),
            COMPLETED_V4 => records(body).map(Self::CompletedV4),
            COMPLETED_V6 => records(body).map(Self::CompletedV6),
            COMPLETED_WEBTORRENT => records(body).map(Self::CompletedWebTorrent),
            Alive::KIND => Alive::read(body).map(Self::Alive),
            Leaving::KIND => Some(Self::Leaving),
            Begin::KIND => Begin::read(body).map(Self::Begin),
            End::KIND => End::read(body).map(Self::End),
            unknown => Some(Self::Unknown(unknown)),
        }
    }
}

fn records<R: Record>(body: &[u8]) -> Option<Records<'_, R>> {
    let bytes = body.chunks_exact(R::BYTES);
    bytes.remainder().is_empty().then_some(Records {
        bytes,
        kind: PhantomData,
    })
}

/// Records that will be a batch.
#[derive(Clone, Debug)]
pub struct RecordBuffer<R> {
    kind: Kind<R>,
    bytes: Vec<u8>,
}

impl<R: Record> RecordBuffer<R> {
    /// So many records fit into a batch.
    pub const RECORDS_MAX: usize = BODY_BYTES_MAX / R::BYTES;

    /// No records yet.
    #[must_use]
    pub const fn new(kind: Kind<R>) -> Self {
        Self {
            kind,
            bytes: Vec::new(),
        }
    }

    /// Adds a record. Returns whether there was room for it.
    pub fn push(&mut self, record: &R) -> bool {
        let has_room = self.bytes.len() + R::BYTES <= BODY_BYTES_MAX;
        if has_room {
            record.write(&mut self.bytes);
        }
        has_room
    }

    /// Bytes of the records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the records out, as the body of a batch.
    #[must_use]
    pub fn take(&mut self) -> BatchBody {
        let bytes = std::mem::take(&mut self.bytes);
        BatchBody::new(self.kind.number, bytes.len() / R::BYTES, bytes)
    }
}

/// A batch that only lacks its header: who writes it, and when, is decided by whoever writes the
/// batches of several sources in one order.
#[derive(Clone, Debug)]
pub struct BatchBody {
    kind: u8,
    records: usize,
    bytes: Vec<u8>,
}

impl BatchBody {
    pub(crate) fn new(kind: u8, records: usize, bytes: Vec<u8>) -> Self {
        Self {
            kind,
            records,
            bytes,
        }
    }

    /// How many records there are, or letters.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of the records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Moves its bytes to memory that has no more room than these need, and that this thread has
    /// asked for: for one that is to wait.
    ///
    /// An allocator may keep memory apart by the threads that have asked for it (glibc does). What
    /// waits is published from memory of this thread; if it waited in that of others, all of it
    /// would be there twice, once free.
    pub fn settle(&mut self) {
        self.bytes = self.bytes.as_slice().to_vec();
    }

    /// Whether the records are peers, as opposed to download counts.
    #[must_use]
    pub fn holds_peers(&self) -> bool {
        [Kind::PEERS_V4.number, Kind::PEERS_V6.number].contains(&self.kind)
    }

    /// Appends the batch.
    pub fn write(&self, out: &mut Vec<u8>, header: &BatchHeader) {
        write_batch(out, self.kind, header, |body| {
            body.extend_from_slice(&self.bytes);
        });
    }
}

/// Appends a whole batch with this body.
pub(crate) fn write_batch(
    out: &mut Vec<u8>,
    kind: u8,
    header: &BatchHeader,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = begin(out, kind, header);
    body(out);
    end(out, start);
}

/// Appends the header of a batch, with an empty body, and returns where it begins.
fn begin(out: &mut Vec<u8>, kind: u8, header: &BatchHeader) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind, 0, 0, 0, 0]);
    for number in [header.process, header.sequence, header.unix_millis] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    debug_assert_eq!(out.len() - start, HEADER_BYTES);
    start
}

/// Fills in the length of the batch that began at `start`, and appends its checksum.
fn end(out: &mut Vec<u8>, start: usize) {
    let Some(batch) = out.get_mut(start..) else {
        return;
    };
    let body_bytes = batch.len().saturating_sub(HEADER_BYTES);
    debug_assert!(body_bytes <= BODY_BYTES_MAX);
    let length = u32::try_from(body_bytes).unwrap_or(u32::MAX);
    if let Some(field) = batch.get_mut(LENGTH_OFFSET..LENGTH_OFFSET + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    let checksum = crc32fast::hash(batch);
    out.extend_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests;
