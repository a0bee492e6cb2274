//! A file: a beginning, batches, an end.

use std::fmt::{self, Display, Formatter};

use crate::batch::{Batch, BatchBody, BatchHeader, Body, write_batch};
use crate::fields::Fields;

/// What a file holds, and of which kind of tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Peers and download counts of a tracker whose peers are addresses (UDP, HTTP).
    Swarms,
    /// Download counts only, of the same kind of tracker.
    Completed,
    /// Download counts of a WebTorrent tracker.
    CompletedWebTorrent,
}

/// What the clocks of a system say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemTime {
    /// Milliseconds since 1970. Anyone may set this clock at any moment.
    pub unix_millis: u64,
    /// Names the time that this system has run; another after each boot. Zeros: unknown.
    pub boot_id: [u8; 16],
    /// Milliseconds since boot, with those of sleep. No one can set this clock.
    pub boot_millis: u64,
}

/// The first batch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What the file is for.
    pub contents: Contents,
    /// Names the time that the system had run: see [`SystemTime::boot_id`].
    pub boot_id: [u8; 16],
    /// Milliseconds since boot: see [`SystemTime::boot_millis`].
    pub boot_millis: u64,
}

impl Begin {
    pub(crate) const KIND: u8 = 16;

    /// Appends the batch.
    pub fn write(&self, out: &mut Vec<u8>, header: &BatchHeader) {
        let contents = match self.contents {
            Contents::Swarms => 1,
            Contents::Completed => 2,
            Contents::CompletedWebTorrent => 3,
        };
        write_batch(out, Self::KIND, header, |body| {
            body.push(contents);
            body.extend_from_slice(&self.boot_id);
            body.extend_from_slice(&self.boot_millis.to_be_bytes());
        });
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            contents: match fields.take_u8()? {
                1 => Contents::Swarms,
                2 => Contents::Completed,
                3 => Contents::CompletedWebTorrent,
                _ => return None,
            },
            boot_id: fields.take()?,
            boot_millis: fields.take_u64()?,
        })
    }

    /// For how many milliseconds a batch of this file, written at `batch_unix_millis`, has been
    /// written `now`. `header` is that of the file's first batch.
    ///
    /// As long as the system was not booted meanwhile, the clock that no one can set tells, so that
    /// peers live for as long as they should even if the other clock was set. After a boot only
    /// that other one is left. If it says that the file was written in the future, no time has
    /// passed.
    ///
    /// All batches of a file carry Unix time that was computed by one steady clock, so the
    /// difference between two of them is right in any case.
    #[must_use]
    pub fn age_millis(
        &self,
        header: &BatchHeader,
        batch_unix_millis: u64,
        now: &SystemTime,
    ) -> u64 {
        let is_same_boot = self.boot_id == now.boot_id && self.boot_id != [0; 16];
        let file_age = if is_same_boot {
            now.boot_millis.saturating_sub(self.boot_millis)
        } else {
            now.unix_millis.saturating_sub(header.unix_millis)
        };
        // What a batch holds may have been so shortly before the file was begun.
        let age_of_batch = file_age.saturating_add(header.unix_millis);
        age_of_batch.saturating_sub(batch_unix_millis)
    }
}

/// The last batch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Peers in the file.
    pub peers: u64,
    /// Download counts in the file.
    pub completed: u64,
}

impl End {
    pub(crate) const KIND: u8 = 17;

    /// Appends the batch.
    pub fn write(&self, out: &mut Vec<u8>, header: &BatchHeader) {
        write_batch(out, Self::KIND, header, |body| {
            body.extend_from_slice(&self.peers.to_be_bytes());
            body.extend_from_slice(&self.completed.to_be_bytes());
        });
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            peers: fields.take_u64()?,
            completed: fields.take_u64()?,
        })
    }
}

/// Writes the batches of a file, in order.
#[derive(Debug)]
pub struct FileWriter {
    process: u64,
    last_sequence: u64,
    written: End,
}

impl FileWriter {
    /// Appends the first batch of a file to `out`. `process` is a random number.
    #[must_use]
    pub fn begin(process: u64, begin: &Begin, unix_millis: u64, out: &mut Vec<u8>) -> Self {
        let mut writer = Self {
            process,
            last_sequence: 0,
            written: End::default(),
        };
        begin.write(out, &writer.next_header(unix_millis));
        writer
    }

    /// Appends a batch of records that were true at `unix_millis`.
    pub fn append(&mut self, body: &BatchBody, unix_millis: u64, out: &mut Vec<u8>) {
        body.write(out, &self.next_header(unix_millis));
        let records = body.records() as u64;
        if body.holds_peers() {
            self.written.peers += records;
        } else {
            self.written.completed += records;
        }
    }

    /// Appends the last batch. Returns how many records the file has.
    pub fn end(mut self, unix_millis: u64, out: &mut Vec<u8>) -> End {
        let header = self.next_header(unix_millis);
        self.written.write(out, &header);
        self.written
    }

    fn next_header(&mut self, unix_millis: u64) -> BatchHeader {
        self.last_sequence += 1;
        BatchHeader {
            process: self.process,
            sequence: self.last_sequence,
            unix_millis,
        }
    }
}

/// Why sound batches are not a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The first batch is not a [`Begin`].
    NoBegin,
    /// A second [`Begin`], or a batch of another process: pieces of several files.
    Mixed,
    /// A batch is missing, or stands in the wrong place.
    Gap {
        /// The sequence number that should be there.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// There are batches behind the [`End`].
    AfterEnd,
    /// The file ends without an [`End`].
    NoEnd,
    /// There are not as many records as the [`End`] says.
    Records {
        /// What it says.
        expected: End,
        /// What is there.
        found: End,
    },
}

impl Display for FileError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBegin => f.write_str("the file does not begin as a snapshot does"),
            Self::Mixed => f.write_str("the file consists of pieces of several ones"),
            Self::Gap { expected, found } => {
                write!(f, "batch {found} stands where batch {expected} should be")
            }
            Self::AfterEnd => f.write_str("the file goes on after its end"),
            Self::NoEnd => f.write_str("the end of the file is missing"),
            Self::Records { expected, found } => write!(
                f,
                "the file has {} peers and {} download counts where it should have {} and {}",
                found.peers, found.completed, expected.peers, expected.completed
            ),
        }
    }
}

impl std::error::Error for FileError {}

/// Looks at the batches of a file, in order, and says in the end whether they are all there.
///
/// A file must not be used before: [`Self::finish`] alone knows that it is whole.
#[derive(Debug, Default)]
pub struct FileCheck {
    begin: Option<(BatchHeader, Begin)>,
    last_sequence: u64,
    found: End,
    end: Option<End>,
}

impl FileCheck {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next batch.
    ///
    /// # Errors
    ///
    /// When it cannot stand here. The file is of no use then.
    pub fn note(&mut self, batch: &Batch<'_>) -> Result<(), FileError> {
        if self.end.is_some() {
            return Err(FileError::AfterEnd);
        }
        let begin = match (&self.begin, &batch.body) {
            (None, Body::Begin(begin)) => self.begin.insert((batch.header, *begin)),
            (None, _) => return Err(FileError::NoBegin),
            (Some(_), Body::Begin(_)) => return Err(FileError::Mixed),
            (Some(begin), _) => begin,
        };
        if batch.header.process != begin.0.process {
            return Err(FileError::Mixed);
        }
        let (expected, found) = (self.last_sequence + 1, batch.header.sequence);
        if expected != found {
            return Err(FileError::Gap { expected, found });
        }
        self.last_sequence = expected;
        match &batch.body {
            Body::PeersV4(peers) => self.found.peers += peers.len() as u64,
            Body::PeersV6(peers) => self.found.peers += peers.len() as u64,
            Body::CompletedV4(counts)
            | Body::CompletedV6(counts)
            | Body::CompletedWebTorrent(counts) => self.found.completed += counts.len() as u64,
            Body::End(end) => self.end = Some(*end),
            // Nobody writes those into a file.
            Body::Members(_) | Body::Letters(_) | Body::Alive(_) | Body::Leaving => {}
            Body::Begin(_) | Body::Unknown(_) => {}
        }
        Ok(())
    }

    /// The file has no more bytes. Returns its first batch.
    ///
    /// # Errors
    ///
    /// When something is missing.
    pub fn finish(self) -> Result<(BatchHeader, Begin), FileError> {
        let begin = self.begin.ok_or(FileError::NoBegin)?;
        let expected = self.end.ok_or(FileError::NoEnd)?;
        if expected != self.found {
            let found = self.found;
            return Err(FileError::Records { expected, found });
        }
        Ok(begin)
    }
}

#[cfg(test)]
mod tests;
