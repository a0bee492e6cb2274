//! A single torrent.

use std::sync::mpsc::SyncSender;

use aquatic_daemon::clock::Now;
use aquatic_types::InfoHash;

use super::readable::{Readable, TorrentCounts, TorrentPeer};
use super::reading::{Progress, Reading};

/// Peers that are shown of a torrent at most: in one slice, some ten microseconds.
pub const PEERS_MAX: usize = 1_000;

/// What a shard knows about a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleTorrent {
    /// How large its swarms are.
    pub counts: TorrentCounts,
    /// Some of its peers.
    pub peers: Vec<TorrentPeer>,
}

/// Looks a torrent up.
pub struct SingleReading {
    info_hash: InfoHash,
    peers_max: usize,
    found: SyncSender<SingleTorrent>,
}

impl SingleReading {
    /// Sends to `found` once, with up to [`PEERS_MAX`] peers.
    #[must_use]
    pub fn new(info_hash: InfoHash, peers_max: usize, found: SyncSender<SingleTorrent>) -> Self {
        Self {
            info_hash,
            peers_max: peers_max.min(PEERS_MAX),
            found,
        }
    }
}

impl<S: Readable> Reading<S> for SingleReading {
    fn slice(&mut self, now: Now, shard: &mut S) -> Progress {
        let mut peers = Vec::new();
        if self.peers_max > 0 {
            shard.peers(now, &self.info_hash, self.peers_max, |peer| {
                peers.push(peer);
            });
        }
        let counts = shard.counts(&self.info_hash);
        // Whoever has asked may have given up.
        let _ = self.found.try_send(SingleTorrent { counts, peers });
        Progress::Over
    }
}
