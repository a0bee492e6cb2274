//! What a shard tells for a snapshot, and takes in of one.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{LivePeer, Refusal, SnapshotVisitor, Told};
use aquatic_swarm_log::{
    BatchBody, CompletedRecord, Contents, Kind, PeerAddress, PeerRecord, Record, RecordBuffer,
};
use aquatic_types::{CompactV4, CompactV6, InfoHash, PeerStatus};

use crate::shard::Shard;
use crate::shard::client_stats::ClientStats;

/// A batch is handed over when its records have so many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// A shard whose torrents can be written down.
pub trait Persistent: Shard {
    /// How many maps of torrents it has.
    const MAPS: usize;

    /// Does a slice of a pass over one of the maps: adds what is there to `records`. Returns
    /// whether the pass is over.
    fn snapshot(&mut self, now: Now, map: usize, budget: usize, records: &mut Records) -> bool;

    /// Gives up all passes.
    fn abandon_snapshot(&mut self);

    /// Whether a file with these contents is of a tracker of this kind.
    fn accepts(contents: Contents) -> bool;

    /// Takes in what was written down.
    fn restore(&mut self, now: Now, entry: Entry) -> Restored;
}

impl<S: Persistent, C: Persistent> Persistent for ClientStats<S, C> {
    const MAPS: usize = S::MAPS;

    fn snapshot(&mut self, now: Now, map: usize, budget: usize, records: &mut Records) -> bool {
        match self {
            Self::Off(shard) => shard.snapshot(now, map, budget, records),
            Self::On(shard) => shard.snapshot(now, map, budget, records),
        }
    }

    fn abandon_snapshot(&mut self) {
        match self {
            Self::Off(shard) => shard.abandon_snapshot(),
            Self::On(shard) => shard.abandon_snapshot(),
        }
    }

    fn accepts(contents: Contents) -> bool {
        S::accepts(contents)
    }

    fn restore(&mut self, now: Now, entry: Entry) -> Restored {
        match self {
            Self::Off(shard) => shard.restore(now, entry),
            Self::On(shard) => shard.restore(now, entry),
        }
    }
}

/// Something that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An IPv4 peer of a torrent.
    PeerV4(InfoHash, Told<CompactV4>),
    /// An IPv6 peer of a torrent.
    PeerV6(InfoHash, Told<CompactV6>),
    /// Downloads of a torrent by IPv4 peers.
    CompletedV4(CompletedRecord),
    /// Downloads of a torrent by IPv6 peers.
    CompletedV6(CompletedRecord),
    /// Downloads of a torrent by WebTorrent peers.
    CompletedWebTorrent(CompletedRecord),
}

/// What became of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is in the shard now.
    Yes,
    /// There was no room for it.
    Refused(Refusal),
    /// A network has as many peers in the swarm as it may.
    NotAdded,
    /// Nothing that was not known already, or that this kind of shard holds.
    Nothing,
}

/// Records of a snapshot that were not handed over yet.
pub struct Records {
    contents: Contents,
    /// How long before now the time is that the records are to be true at.
    pub(super) seconds_ago: u32,
    /// What a buffer had no room for any more.
    full: Vec<BatchBody>,
    peers_v4: RecordBuffer<PeerRecord<CompactV4>>,
    peers_v6: RecordBuffer<PeerRecord<CompactV6>>,
    completed_v4: RecordBuffer<CompletedRecord>,
    completed_v6: RecordBuffer<CompletedRecord>,
    completed_webtorrent: RecordBuffer<CompletedRecord>,
}

impl Records {
    /// None yet, for a file of `contents`.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        Self {
            contents,
            seconds_ago: 0,
            full: Vec::new(),
            peers_v4: RecordBuffer::new(Kind::PEERS_V4),
            peers_v6: RecordBuffer::new(Kind::PEERS_V6),
            completed_v4: RecordBuffer::new(Kind::COMPLETED_V4),
            completed_v6: RecordBuffer::new(Kind::COMPLETED_V6),
            completed_webtorrent: RecordBuffer::new(Kind::COMPLETED_WEBTORRENT),
        }
    }

    /// Where torrents with IPv4 peers go.
    pub fn v4(&mut self) -> impl SnapshotVisitor<CompactV4> {
        Writer {
            with_peers: self.contents == Contents::Swarms,
            seconds_ago: self.seconds_ago,
            peers: &mut self.peers_v4,
            completed: &mut self.completed_v4,
            full: &mut self.full,
        }
    }

    /// Where torrents with IPv6 peers go.
    pub fn v6(&mut self) -> impl SnapshotVisitor<CompactV6> {
        Writer {
            with_peers: self.contents == Contents::Swarms,
            seconds_ago: self.seconds_ago,
            peers: &mut self.peers_v6,
            completed: &mut self.completed_v6,
            full: &mut self.full,
        }
    }

    /// Adds the downloads of a torrent with WebTorrent peers.
    pub fn completed_webtorrent(&mut self, info_hash: &InfoHash, downloads: u32) {
        push_completed(
            &mut self.completed_webtorrent,
            &mut self.full,
            info_hash,
            downloads,
        );
    }

    /// Takes a batch that is large enough to be handed over.
    #[must_use]
    pub fn take_full(&mut self) -> Option<BatchBody> {
        self.take(BATCH_BYTES)
    }

    /// Takes any batch that has records.
    #[must_use]
    pub fn take_rest(&mut self) -> Option<BatchBody> {
        self.take(1)
    }

    fn take(&mut self, bytes_min: usize) -> Option<BatchBody> {
        fn large<R: Record>(buffer: &mut RecordBuffer<R>, bytes_min: usize) -> Option<BatchBody> {
            (buffer.bytes() >= bytes_min).then(|| buffer.take())
        }
        self.full
            .pop()
            .or_else(|| large(&mut self.peers_v4, bytes_min))
            .or_else(|| large(&mut self.peers_v6, bytes_min))
            .or_else(|| large(&mut self.completed_v4, bytes_min))
            .or_else(|| large(&mut self.completed_v6, bytes_min))
            .or_else(|| large(&mut self.completed_webtorrent, bytes_min))
    }
}

/// Writes the records of one IP family.
struct Writer<'a, A> {
    with_peers: bool,
    seconds_ago: u32,
    peers: &'a mut RecordBuffer<PeerRecord<A>>,
    completed: &'a mut RecordBuffer<CompletedRecord>,
    full: &'a mut Vec<BatchBody>,
}

impl<A: PeerAddress> SnapshotVisitor<A> for Writer<'_, A> {
    fn torrent(&mut self, info_hash: &InfoHash, completed: u32) {
        push_completed(self.completed, self.full, info_hash, completed);
    }

    fn peer(&mut self, info_hash: &InfoHash, peer: &LivePeer<A>) {
        if !self.with_peers {
            return;
        }
        let status = if peer.is_seeder {
            PeerStatus::Seeder
        } else {
            PeerStatus::Leecher
        };
        let seconds_left = u32::from(peer.seconds_left).saturating_add(self.seconds_ago);
        let record = PeerRecord {
            info_hash: *info_hash,
            peer: peer.key,
            status,
            has_completed: false,
            is_finished: peer.is_finished,
            seconds_left: u16::try_from(seconds_left).unwrap_or(u16::MAX),
        };
        push(self.peers, self.full, &record);
    }
}

fn push_completed(
    buffer: &mut RecordBuffer<CompletedRecord>,
    full: &mut Vec<BatchBody>,
    info_hash: &InfoHash,
    downloads: u32,
) {
    if downloads > 0 {
        let record = CompletedRecord {
            info_hash: *info_hash,
            downloads,
        };
        push(buffer, full, &record);
    }
}

/// Adds a record, and puts those aside that there is no more room for.
fn push<R: Record>(buffer: &mut RecordBuffer<R>, full: &mut Vec<BatchBody>, record: &R) {
    if !buffer.push(record) {
        full.push(buffer.take());
        let added = buffer.push(record);
        debug_assert!(added, "an empty batch has room");
    }
}
