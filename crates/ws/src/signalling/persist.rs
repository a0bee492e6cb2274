//! Writing down how many downloads there were. Peers live no longer than their connections, so they
//! are not written down.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{LivePeer, SnapshotVisitor};
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

    fn restore(&mut self, now: Now, entry: Entry) -> Restored {
        let Entry::CompletedWebTorrent(count) = entry else {
            return Restored::No;
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
