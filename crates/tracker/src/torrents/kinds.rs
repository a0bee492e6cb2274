//! All kinds of swarms that a process serves, whatever their peers are.

use std::sync::mpsc::SyncSender;

use aquatic_types::InfoHash;

use super::readable::Readable;
use super::reading::{NotTaken, ShardReaders};
use super::single::{SingleReading, SingleTorrent};
use super::top::{Found, SortBy, TOP_MAX, TopReading};

/// The torrents of one kind. They can be asked for without knowing what their shards are.
pub(super) trait Kind: Send + Sync {
    /// How operators call it.
    fn protocol(&self) -> &'static str;

    /// How many shards will tell of their largest torrents.
    fn shards(&self) -> usize;

    /// Has each shard send its largest torrents, once.
    fn find_top(
        &self,
        sort_by: SortBy,
        kind: usize,
        found: &SyncSender<Found>,
    ) -> Result<(), NotTaken>;

    /// Has the owner of a torrent send what it knows, once.
    fn find_single(
        &self,
        info_hash: InfoHash,
        peers_max: usize,
        found: SyncSender<SingleTorrent>,
    ) -> Result<(), NotTaken>;
}

/// The shards of one kind.
pub(super) struct Shards<S> {
    pub(super) protocol: &'static str,
    pub(super) readers: ShardReaders<S>,
}

impl<S: Readable> Kind for Shards<S> {
    fn protocol(&self) -> &'static str {
        self.protocol
    }

    fn shards(&self) -> usize {
        self.readers.shards()
    }

    fn find_top(
        &self,
        sort_by: SortBy,
        kind: usize,
        found: &SyncSender<Found>,
    ) -> Result<(), NotTaken> {
        self.readers
            .post_to_each(|| Box::new(TopReading::new(sort_by, TOP_MAX, kind, found.clone())))
    }

    fn find_single(
        &self,
        info_hash: InfoHash,
        peers_max: usize,
        found: SyncSender<SingleTorrent>,
    ) -> Result<(), NotTaken> {
        let reading = SingleReading::new(info_hash, peers_max, found);
        let shard = self.readers.shard_of(&info_hash);
        self.readers.post(shard, Box::new(reading))
    }
}
