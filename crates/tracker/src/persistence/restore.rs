//! Reading a snapshot into shards.

use std::io::{self, Read, Seek};

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_daemon::heartbeat;
use aquatic_swarm::Told;
use aquatic_swarm_log::{
    Batch, BatchError, BatchHeader, Body, FileCheck, FileError, HEADER_BYTES, InvalidRecord,
    PeerRecord, SystemTime, batch_bytes,
};
use aquatic_types::{InfoHash, ShardKey};

use super::persistent::{Entry, Persistent, Restored};

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Peers that are in swarms again.
    pub peers: u64,
    /// Torrents whose downloads are known again, by IP family.
    pub completed: u64,
    /// Peers whose time was over.
    pub expired: u64,
    /// Peers and download counts of torrents that are not allowed any more.
    pub denied: u64,
    /// Peers and download counts beyond a limit.
    pub refused: u64,
    /// How long ago the file was begun.
    pub age_seconds: u64,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum RestoreError {
    /// It cannot be read.
    Read(io::Error),
    /// A part of it was read the second time, when what it holds is taken in.
    ReadInPart(io::Error),
    /// A batch in it is not one, at this place.
    Batch(BatchError, u64),
    /// Its batches are not those of one whole file.
    File(FileError),
    /// It is of another kind of tracker.
    Contents,
    /// Another program has changed it while it was read.
    Changed,
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read it: {error}"),
            Self::ReadInPart(error) => write!(
                f,
                "cannot read it to its end: {error}; what had been taken from it by then stays"
            ),
            Self::Batch(error, offset) => write!(f, "at byte {offset}: {error}"),
            Self::File(error) => error.fmt(f),
            Self::Contents => f.write_str("it was written by a tracker for another protocol"),
            Self::Changed => f.write_str(
                "another program has changed it while it was read; what had been taken from it by \
                 then stays",
            ),
        }
    }
}

impl std::error::Error for RestoreError {}

/// Takes what a file holds into the shards. Reads it twice: nothing is used before it is known that
/// all of it is there.
///
/// # Errors
///
/// When it cannot be used. The shards are as they were then, unless it was
/// [changed](RestoreError::Changed) meanwhile.
pub fn restore<S: Persistent>(
    mut file: impl Read + Seek,
    shards: &mut [S],
    key: &ShardKey,
    access_list: &mut AccessListReader,
    now: Now,
    system: &SystemTime,
    peer_age_seconds_max: u32,
) -> Result<Summary, RestoreError> {
    let mut check = FileCheck::new();
    let mut batches = Batches::new(&mut file);
    while let Some(batch) = batches.next()? {
        check.note(&batch).map_err(RestoreError::File)?;
    }
    let (header, begin) = check.finish().map_err(RestoreError::File)?;
    if !S::accepts(begin.contents) {
        return Err(RestoreError::Contents);
    }
    file.rewind().map_err(RestoreError::Read)?;

    let age_millis = |header_of_batch: &BatchHeader| {
        begin.age_millis(&header, header_of_batch.unix_millis, system)
    };
    let mut restoring = Restoring {
        shards,
        key,
        access_list,
        now,
        peer_age_seconds_max,
        summary: Summary {
            age_seconds: age_millis(&header) / 1_000,
            ..Summary::default()
        },
    };
    // Each shard learns how much memory it may take.
    for shard in &mut *restoring.shards {
        shard.maintain(now);
    }
    let mut again = FileCheck::new();
    let mut batches = Batches::new(&mut file);
    let changed = |error| match error {
        RestoreError::Read(error) => RestoreError::ReadInPart(error),
        _ => RestoreError::Changed,
    };
    while let Some(batch) = batches.next().map_err(changed)? {
        again.note(&batch).map_err(|_| RestoreError::Changed)?;
        if batch.header.process != header.process {
            return Err(RestoreError::Changed);
        }
        restoring.batch(&batch, age_millis(&batch.header) / 1_000);
    }
    if again.finish() != Ok((header, begin)) {
        return Err(RestoreError::Changed);
    }
    Ok(restoring.summary)
}

struct Restoring<'a, S> {
    shards: &'a mut [S],
    key: &'a ShardKey,
    access_list: &'a mut AccessListReader,
    now: Now,
    peer_age_seconds_max: u32,
    summary: Summary,
}

impl<S: Persistent> Restoring<'_, S> {
    fn batch(&mut self, batch: &Batch<'_>, age_seconds: u64) {
        match &batch.body {
            Body::PeersV4(peers) => self.peers(peers.clone(), age_seconds, Entry::PeerV4),
            Body::PeersV6(peers) => self.peers(peers.clone(), age_seconds, Entry::PeerV6),
            Body::CompletedV4(counts) => counts.clone().flatten().for_each(|count| {
                self.completed(&count.info_hash, Entry::CompletedV4(count));
            }),
            Body::CompletedV6(counts) => counts.clone().flatten().for_each(|count| {
                self.completed(&count.info_hash, Entry::CompletedV6(count));
            }),
            Body::CompletedWebTorrent(counts) => counts.clone().flatten().for_each(|count| {
                self.completed(&count.info_hash, Entry::CompletedWebTorrent(count));
            }),
            // Members go with their connections, and so does what they have for each other.
            Body::Members(_) | Body::Letters(_) => {}
            Body::Begin(_) | Body::End(_) | Body::Alive(_) | Body::Leaving | Body::Unknown(_) => {}
        }
    }

    fn peers<A: Copy>(
        &mut self,
        peers: impl Iterator<Item = Result<PeerRecord<A>, InvalidRecord>>,
        age_seconds: u64,
        entry: impl Fn(InfoHash, Told<A>) -> Entry,
    ) {
        for peer in peers.flatten() {
            let left = u64::from(peer.seconds_left).checked_sub(age_seconds);
            let Some(left) = left.and_then(|left| u32::try_from(left).ok()) else {
                self.summary.expired += 1;
                continue;
            };
            let told = Told {
                peer: peer.peer,
                status: peer.status,
                completed: peer.has_completed,
                is_finished: peer.is_finished,
                deadline: self.now.seconds + left.min(self.peer_age_seconds_max),
            };
            if self.entry(&peer.info_hash, entry(peer.info_hash, told)) {
                self.summary.peers += 1;
            }
        }
    }

    fn completed(&mut self, info_hash: &InfoHash, entry: Entry) {
        if self.entry(info_hash, entry) {
            self.summary.completed += 1;
        }
    }

    /// Returns whether it is in its shard now, and was not before.
    fn entry(&mut self, info_hash: &InfoHash, entry: Entry) -> bool {
        if !self.access_list.is_allowed(info_hash) {
            self.summary.denied += 1;
            return false;
        }
        let shard = self.key.shard_of(info_hash, self.shards.len());
        let Some(shard) = self.shards.get_mut(shard) else {
            return false;
        };
        let restored = shard.restore(self.now, entry);
        match restored {
            Restored::Yes | Restored::Nothing => {}
            Restored::Refused(_) | Restored::NotAdded => self.summary.refused += 1,
        }
        restored == Restored::Yes
    }
}

/// The batches of a file, one at a time in a buffer of their own.
struct Batches<R> {
    file: R,
    buffer: Vec<u8>,
    offset: u64,
}

impl<R: Read> Batches<R> {
    fn new(file: R) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            offset: 0,
        }
    }

    /// `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Batch<'_>>, RestoreError> {
        // A service manager gives the start of a tracker as long as it gets on.
        heartbeat::beat();
        let at = self.offset;
        let error = |error| RestoreError::Batch(error, at);
        self.buffer.clear();
        self.fill(HEADER_BYTES)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if let Some(header) = self.buffer.first_chunk() {
            let bytes = batch_bytes(header).map_err(error)?;
            self.fill(bytes)?;
        }
        self.offset += self.buffer.len() as u64;
        let (batch, _) = Batch::parse(&self.buffer).map_err(error)?;
        Ok(Some(batch))
    }

    /// Reads until the buffer has so many bytes, or the file has no more.
    fn fill(&mut self, bytes: usize) -> Result<(), RestoreError> {
        let missing = bytes.saturating_sub(self.buffer.len()) as u64;
        let mut rest = self.file.by_ref().take(missing);
        rest.read_to_end(&mut self.buffer)
            .map_err(RestoreError::Read)?;
        Ok(())
    }
}
