//! Swarms of WebTorrent, as an operator sees them.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{Counts, WalkCursor};
use aquatic_tracker::shard::client_stats::PeerTag;
use aquatic_tracker::torrents::readable::{Readable, TorrentCounts, TorrentPeer};
use aquatic_types::{InfoHash, IpFamily};

use super::SignallingSwarms;
use crate::members::NO_DEADLINE;

impl<V: PeerTag> Readable for SignallingSwarms<V> {
    const MAPS: usize = 1;

    /// As metrics have it, which count torrents of no family with those of IPv4.
    fn family(_: usize) -> IpFamily {
        IpFamily::V4
    }

    fn walk(
        &self,
        _: usize,
        cursor: &mut WalkCursor,
        budget: usize,
        show: impl FnMut(&InfoHash, Counts),
    ) -> bool {
        self.members.swarms.walk(cursor, budget, show)
    }

    fn counts(&self, info_hash: &InfoHash) -> TorrentCounts {
        let swarms = &self.members.swarms;
        TorrentCounts::Whole(swarms.scrape(&swarms.key(*info_hash)))
    }

    fn counts_besides(&self, _: usize, _: &InfoHash, counts: Counts) -> TorrentCounts {
        TorrentCounts::Whole(counts)
    }

    fn peers(
        &self,
        _: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        mut show: impl FnMut(TorrentPeer),
    ) {
        let swarms = &self.members.swarms;
        let key = swarms.key(*info_hash);
        swarms.show_peers_of(&key, NO_DEADLINE, peers_max, |peer, kept| {
            show(TorrentPeer {
                family: kept.family,
                address: None,
                is_seeder: kept.is_seeder,
                client: Some(peer.key.peer_id().client_prefix()),
                seconds_left: None,
            });
        });
    }
}
