//! Writing down how many downloads there were. Peers live no longer than their connections, so they
//! are not written down.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{LivePeer, SnapshotVisitor};
use aquatic_swarm_log::Contents;
use aquatic_tracker::persistence::persistent::{Entry, Persistent, Records, Restored};
use aquatic_tracker::shard::client_stats::PeerTag;
use aquatic_types::InfoHash;

use super::SignallingSwarms;
use crate::messages::MemberKey;

/// For so many seconds a torrent without peers is kept for the sake of its count: browsers have
/// connected again by then, or will not.
const KEPT_SECONDS: u32 = 3_600;

impl<V: PeerTag> Persistent for SignallingSwarms<V> {
    const MAPS: usize = 1;

    fn snapshot(&mut self, now: Now, _: usize, budget: usize, records: &mut Records) -> bool {
        let swarms = &mut self.members.swarms;
        swarms.snapshot(now.seconds, budget, &mut Counts(records))
    }

    fn abandon_snapshot(&mut self) {
        self.members.swarms.abandon_snapshot();
    }

    fn accepts(contents: Contents) -> bool {
        contents == Contents::CompletedWebTorrent
    }

    fn restore(&mut self, now: Now, entry: Entry) -> Restored {
        let Entry::CompletedWebTorrent(count) = entry else {
            return Restored::Nothing;
        };
        let (swarms, until) = (&mut self.members.swarms, now.seconds + KEPT_SECONDS);
        match swarms.apply_completed(count.info_hash, count.downloads, until) {
            Ok(()) => Restored::Yes,
            Err(refusal) => Restored::Refused(refusal),
        }
    }
}

struct Counts<'a>(&'a mut Records);

impl SnapshotVisitor<MemberKey> for Counts<'_> {
    fn torrent(&mut self, info_hash: &InfoHash, completed: u32) {
        self.0.completed_webtorrent(info_hash, completed);
    }

    fn peer(&mut self, _: &InfoHash, _: &LivePeer<MemberKey>) {}
}

#[cfg(test)]
mod tests {
    use aquatic_swarm_log::CompletedRecord;
    use aquatic_types::{PeerId, PeerStatus};

    use super::super::tests::{Fixture, TORRENT};
    use super::*;
    use crate::membership::MembershipChange;
    use crate::messages::{Announce, RequestKind};
    use crate::signalling::{ClientStats, SignallingShard};

    /// What a snapshot of the shard holds: how many records.
    fn written(shard: &mut SignallingShard, contents: Contents) -> Vec<usize> {
        let mut records = Records::new(contents);
        assert!(shard.snapshot(Now::default(), 0, usize::MAX, &mut records));
        let batches = std::iter::from_fn(|| records.take_rest());
        batches.map(|batch| batch.records()).collect()
    }

    #[test]
    fn downloads_are_written_down_and_peers_are_not() {
        let mut fixture = Fixture::new();
        fixture.announce(1, 1, 0, 0).unwrap();
        assert!(written(&mut fixture.shard, Contents::Swarms).is_empty());
        let announce = Announce {
            peer_id: PeerId([1; 20]),
            status: PeerStatus::Seeder,
            completed: true,
            offers: 0..0,
            skipped: None,
            asked: MembershipChange::Renewed,
        };
        fixture.ask(1, RequestKind::Announce(announce), Vec::new());
        assert_eq!(
            written(&mut fixture.shard, Contents::CompletedWebTorrent),
            [1]
        );

        let mut shard = Fixture::new().shard;
        let count = CompletedRecord {
            info_hash: TORRENT,
            downloads: 7,
        };
        let of_webtorrent = shard.restore(Now::default(), Entry::CompletedWebTorrent(count));
        let of_addresses = shard.restore(Now::default(), Entry::CompletedV4(count));
        assert_eq!(
            (of_webtorrent, of_addresses),
            (Restored::Yes, Restored::Nothing)
        );
        let ClientStats::On(swarms) = &shard else {
            unreachable!("it counts clients");
        };
        let swarms = &swarms.members.swarms;
        assert_eq!(swarms.scrape(&swarms.key(TORRENT)).completed, 7);
    }
}
