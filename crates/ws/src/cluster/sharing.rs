//! What a shard tells other nodes of its members, and for how long it believes what it is told of
//! theirs. Pure.
//!
//! A member is told of when it comes, changes or leaves; and once in [`refresh_seconds`] while it
//! stays, since what is told holds for [little more than twice that](MemberLives::life). The
//! latter takes no timer and no memory: each cleaning meets every member, and tells of those whose
//! turn it was since the cleaning before. If these are many, it waits until they are fetched; so
//! nothing that is new is ever dropped for the sake of what others know.
//!
//! [`refresh_seconds`]: super::ClusterParts::refresh_seconds

use std::collections::VecDeque;

use aquatic_access_list::AccessListReader;
use aquatic_cluster::config::MemberLives;
use aquatic_cluster::nodes::{NodeIndex, NodeState, NodeStates};
use aquatic_swarm::PeerKey as _;
use aquatic_swarm_log::MemberRecord;
use aquatic_types::{InfoHash, IpFamily, PeerStatus, Seconds};

use crate::messages::MemberKey;

/// Records of what is new that wait until they are fetched.
const NEWS_MAX: usize = 65_536;

/// If so many wait of members that are still there, a cleaning goes on when some are fetched:
/// together with a slice of it, they are more than can be fetched at once.
const REFRESHES_ENOUGH: usize = 8_192;

/// So many of these wait at most.
const REFRESHES_MAX: usize = 2 * REFRESHES_ENOUGH;

/// Seconds after which a cleaning goes on although nothing is fetched: the thread that does it is
/// stuck. Without a cleaning, what other nodes have told would hold for ever.
const PATIENCE_SECONDS: u32 = 10;

/// Records that the outbox keeps room for.
const OUTBOX_KEPT: usize = 1_024;

/// See the [module](self).
pub struct Sharing {
    pub(crate) nodes: NodeStates,
    access_list: AccessListReader,
    lives: MemberLives,
    /// Members are told of in this cleaning whose turn came after the first second, and no later
    /// than in the second one.
    turns: (Seconds, Seconds),
    is_cleaning: bool,
    outbox: VecDeque<Noted>,
    /// Records in it of members that are still there.
    refreshes: usize,
    dropped: usize,
    /// When records were fetched last.
    fetched: Seconds,
    /// Members of other nodes, by these.
    of_nodes: Vec<usize>,
    others: usize,
}

/// A record, and when it was made.
struct Noted {
    since: Seconds,
    is_refresh: bool,
    record: MemberRecord,
}

/// What is told of a member beside its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    pub(crate) family: IpFamily,
    pub(crate) status: PeerStatus,
    /// It has just completed its download, which was counted.
    pub(crate) has_completed: bool,
    pub(crate) is_finished: bool,
}

impl Sharing {
    /// Of a shard without members.
    #[must_use]
    pub fn new(nodes: NodeStates, access_list: AccessListReader, refresh_seconds: u32) -> Self {
        Self {
            nodes,
            access_list,
            lives: MemberLives {
                refresh: refresh_seconds.max(1),
                cleaning_interval: 0,
            },
            turns: (Seconds(0), Seconds(0)),
            is_cleaning: false,
            outbox: VecDeque::new(),
            refreshes: 0,
            dropped: 0,
            fetched: Seconds(0),
            of_nodes: Vec::new(),
            others: 0,
        }
    }

    /// So many seconds are between two cleanings. What is told never holds for a shorter time than
    /// before: who leaves would seem to have done so before it was last told of.
    pub(crate) fn set_cleaning_interval(&mut self, seconds: u32) {
        let interval = &mut self.lives.cleaning_interval;
        *interval = seconds.max(*interval);
    }

    /// Others are to be told that a member of this node has come, changed or left.
    pub(crate) fn note(
        &mut self,
        now: Seconds,
        info_hash: InfoHash,
        key: &MemberKey,
        presence: Presence,
    ) {
        while self.outbox.len() - self.refreshes >= NEWS_MAX
            && let Some(oldest) = self.outbox.pop_front()
        {
            self.refreshes -= usize::from(oldest.is_refresh);
            self.dropped += 1;
        }
        self.push(now, info_hash, key, presence, false);
    }

    /// Others are to be told that a member of this node is still there.
    pub(crate) fn refresh(
        &mut self,
        now: Seconds,
        info_hash: InfoHash,
        key: &MemberKey,
        presence: Presence,
    ) {
        if self.refreshes < REFRESHES_MAX {
            self.refreshes += 1;
            self.push(now, info_hash, key, presence, true);
        } else {
            self.dropped += 1;
        }
    }

    fn push(
        &mut self,
        since: Seconds,
        info_hash: InfoHash,
        key: &MemberKey,
        presence: Presence,
        is_refresh: bool,
    ) {
        let life = self.lives.life();
        let record = MemberRecord {
            info_hash,
            member: key.member().member(key.peer_id(), key.network_number()),
            family: presence.family,
            status: presence.status,
            has_completed: presence.has_completed,
            is_finished: presence.is_finished,
            seconds_left: u16::try_from(life).unwrap_or(u16::MAX),
        };
        self.outbox.push_back(Noted {
            since,
            is_refresh,
            record,
        });
    }

    /// Takes up to so many records out, the oldest first, as of this second. Returns how many were
    /// dropped before, and whether there are more.
    pub(crate) fn fetch(
        &mut self,
        now: Seconds,
        max: usize,
        records: &mut Vec<MemberRecord>,
    ) -> (usize, bool) {
        let count = self.outbox.len().min(max);
        self.fetched = now;
        let refreshes = &mut self.refreshes;
        let fetched = self.outbox.drain(..count).filter_map(|noted| {
            *refreshes -= usize::from(noted.is_refresh);
            let waited = now.0.saturating_sub(noted.since.0);
            let waited = u16::try_from(waited).unwrap_or(u16::MAX);
            let mut record = noted.record;
            record.seconds_left = record.seconds_left.checked_sub(waited)?;
            Some(record)
        });
        records.extend(fetched);
        if self.outbox.is_empty() {
            self.outbox.shrink_to(OUTBOX_KEPT);
        }
        (std::mem::take(&mut self.dropped), !self.outbox.is_empty())
    }

    /// Whether there is room for what a slice of a cleaning finds.
    pub(crate) fn may_clean(&self, now: Seconds) -> bool {
        self.refreshes < REFRESHES_ENOUGH || now > self.fetched + PATIENCE_SECONDS
    }

    /// A slice of a cleaning begins.
    pub(crate) fn cleans(&mut self, now: Seconds) {
        self.access_list.refresh();
        if !self.is_cleaning {
            self.is_cleaning = true;
            let (_, last) = self.turns;
            self.turns = (last, now);
        }
    }

    /// A cleaning has ended.
    pub(crate) fn has_cleaned(&mut self) {
        self.is_cleaning = false;
    }

    /// Whether it is the turn of a member of this node, which is met in a cleaning.
    pub(crate) fn is_turn_of(&self, key: &MemberKey) -> bool {
        /// Spreads what members are told apart by over the upper half.
        const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
        let scattered = key.within_network().wrapping_mul(GOLDEN_RATIO) >> 32;
        let period = u64::from(self.lives.refresh);
        let phase = scattered % period;
        let (after, until) = self.turns;
        let turns = |time: Seconds| (u64::from(time.0) + phase) / period;
        turns(after) != turns(until)
    }

    /// Whether the members of a torrent that are told of by other nodes are wanted here.
    pub(crate) fn allows(&mut self, info_hash: &InfoHash) -> bool {
        self.access_list.is_allowed(info_hash)
    }

    /// Whether a member can be sent anything.
    pub(crate) fn reaches(&self, key: &MemberKey) -> bool {
        self.nodes.get(key.node()) == NodeState::Alive
    }

    /// Whether what a node has told holds no more.
    pub(crate) fn has_gone(&self, node: NodeIndex) -> bool {
        self.nodes.get(node) == NodeState::Gone
    }

    /// A member of another node comes.
    pub(crate) fn other_added(&mut self, node: NodeIndex) {
        let at = usize::from(node.0);
        if self.of_nodes.len() <= at {
            self.of_nodes.resize(at + 1, 0);
        }
        if let Some(count) = self.of_nodes.get_mut(at) {
            *count += 1;
            self.others += 1;
        }
    }

    /// A member of another node goes.
    pub(crate) fn other_removed(&mut self, node: NodeIndex) {
        if let Some(count) = self.of_nodes.get_mut(usize::from(node.0)) {
            *count = count.saturating_sub(1);
            self.others = self.others.saturating_sub(1);
        }
    }

    /// Members of other nodes.
    pub(crate) fn others(&self) -> usize {
        self.others
    }

    /// Whether there are members of nodes that have gone.
    pub(crate) fn is_to_sweep(&self) -> bool {
        let nodes = (0..).map(NodeIndex).zip(&self.of_nodes);
        let mut with_members = nodes.filter(|(_, count)| **count > 0);
        with_members.any(|(node, _)| self.has_gone(node))
    }
}

#[cfg(test)]
mod tests;
