//! What other nodes tell a shard: of their members, and what these have for members here. Pure.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{PREFETCH_BATCH, PeerChange, TorrentKey};
use aquatic_swarm_log::MemberRecord;
use aquatic_tracker::shard::BatchProcessor;
use aquatic_tracker::shard::client_stats::{ClientStats, PeerTag};
use aquatic_types::{PeerId, PeerStatus, Seconds};

use super::{SignallingShard, SignallingSwarms, network_hash, offer_hash};
use crate::cluster::batch::{
    ArrivedAnswer, ArrivedOffer, ClusterBatch, Outcome, RECORDS_MAX, RemoteKind, RemoteMessage,
};
use crate::members::{Newcomer, Until};
use crate::memory::weighed_network;
use crate::messages::{ConnectionRef, MemberKey, Receiver};
use crate::open_offers::OpenOffer;

/// How a [`SignallingShard`] hears from other nodes, and is asked what they are to be told.
///
/// - A member of another node is one for as long as that says, unless it says before that the
///   member leaves. What comes late, or twice, or out of order changes nothing: what holds longest
///   counts. If its node has gone, the next cleaning, which is soon then, removes it.
/// - An offer of such a member is for a member here, and opened like any other; by that, the answer
///   finds its way to the other node. That closes the offer there: it is open with the member that
///   may answer at both.
pub struct ClusterSignalling;

impl BatchProcessor for ClusterSignalling {
    type Shard = SignallingShard;
    type Batch = ClusterBatch;

    fn process(&mut self, now: Now, shard: &mut SignallingShard, batch: &mut ClusterBatch) {
        match shard {
            ClientStats::Off(shard) => shard.process_cluster(now, batch),
            ClientStats::On(shard) => shard.process_cluster(now, batch),
        }
    }
}

impl<V: PeerTag> SignallingSwarms<V> {
    fn process_cluster(&mut self, now: Now, batch: &mut ClusterBatch) {
        for messages in batch.messages.chunks(PREFETCH_BATCH) {
            let swarms = &self.members.swarms;
            let keys = swarms.keys(messages.iter().map(|it| it.info_hash));
            swarms.prefetch(&keys);
            for (message, key) in messages.iter().zip(&keys) {
                let outcome = self.hear(now, key, message);
                batch.outcomes.push(outcome);
            }
        }
        debug_assert_eq!(batch.outcomes.len(), batch.messages.len(), "one for each");
        batch.since = now.seconds;
        if batch.collects
            && let Some(sharing) = &mut self.members.counts.sharing
        {
            (batch.dropped, batch.has_more) =
                sharing.fetch(now.seconds, RECORDS_MAX, &mut batch.records);
        }
    }

    fn hear(&mut self, now: Now, key: &TorrentKey, message: &RemoteMessage) -> Outcome {
        match &message.kind {
            RemoteKind::Member {
                record,
                connection,
                until,
                is_live,
            } => {
                let until = (*until, *is_live);
                self.hear_of_member(now, key, record, *connection, until)
            }
            RemoteKind::Offer(offer) => self.open_arrived(now, key, offer),
            RemoteKind::Answer(answer) => self.close_arrived(now, key, answer),
            RemoteKind::Withdrawal(receiver) => {
                let it = MemberKey::new(receiver.member, receiver.network, &receiver.peer_id);
                match self.close(now, key, &it, receiver.hash) {
                    Some(Some(_)) => Outcome::Closed,
                    Some(None) | None => Outcome::Refused,
                }
            }
        }
    }

    /// A node tells of one of its members.
    fn hear_of_member(
        &mut self,
        now: Now,
        key: &TorrentKey,
        record: &MemberRecord,
        connection: ConnectionRef,
        (until, is_live): (Seconds, bool),
    ) -> Outcome {
        let member = &record.member;
        let it = MemberKey::new(connection, member.network, &member.peer_id);
        let known = self.members.swarms.peer(key, &it);
        // A node tells in order, but of two things in one second, the latter may seem to hold for a
        // second less: by and by, it is better known what the node's clock says.
        let as_new_as = until + u32::from(is_live);
        let is_outdated = known.is_some_and(|known| known.until.is_after(as_new_as));
        let sharing = &self.members.counts.sharing;
        let is_believed = sharing
            .as_ref()
            .is_some_and(|it| !it.has_gone(connection.node));
        if is_outdated || !is_believed || until < now.seconds {
            return Outcome::Known;
        }
        if record.status == PeerStatus::Stopped {
            let was_known = known.is_some();
            self.leave(now, key, &it);
            return match was_known {
                true => Outcome::Applied,
                false => Outcome::Known,
            };
        }
        let was_finished = known.is_some_and(|known| known.is_finished);
        let told = aquatic_swarm::Announce {
            peer: it,
            status: record.status,
            completed: record.has_completed && !was_finished,
            num_want: 0,
        };
        let newcomer = Newcomer {
            family: record.family,
            status: record.status,
            is_finished: record.is_finished
                || record.has_completed
                || record.status == PeerStatus::Seeder,
            client: member.peer_id.client_prefix(),
            until: Until::new(until),
        };
        match self.note(now, key, &told, newcomer).announced {
            Ok(announced) if matches!(announced.change, PeerChange::NotAdded) => Outcome::Full,
            Ok(_) => Outcome::Applied,
            Err(_) => Outcome::Full,
        }
    }

    /// An offer for a member here, which may answer it from now on.
    fn open_arrived(&mut self, now: Now, key: &TorrentKey, offer: &ArrivedOffer) -> Outcome {
        let Receiver {
            member,
            network,
            peer_id,
            ..
        } = offer.receiver;
        let receiver = MemberKey::new(member, network, &peer_id);
        let hasher = self.offer_hasher;
        let offerer = MemberKey::new(offer.offerer, offer.network, &offer.peer_id);
        let of_network = network_hash(hasher, weighed_network(&offerer));
        let hash = offer_hash(hasher, &offer.offer_id, &offer.peer_id);
        let deadline = now.seconds + self.offer_age_seconds_max;
        let counts = &mut self.members.counts;
        let (memory, sharing) = (&mut counts.offers, counts.sharing.as_deref());
        let has_gone = |node| sharing.is_some_and(|it| it.has_gone(node));
        let Some(peer) = self.members.swarms.peer_mut(key, &receiver) else {
            return Outcome::Refused;
        };
        let opened = OpenOffer::new(hash, offer.offerer, of_network, deadline);
        let bytes = peer.open_offers.bytes();
        let may_grow = memory.may_grow();
        peer.open_offers
            .open(now.seconds, opened, may_grow, has_gone);
        memory.change(bytes, peer.open_offers.bytes());
        Outcome::Opened(hash)
    }

    /// A member of another node answers an offer of a client of this one.
    fn close_arrived(&mut self, now: Now, key: &TorrentKey, answer: &ArrivedAnswer) -> Outcome {
        let name = |peer_id: &PeerId| MemberKey::new(answer.answerer, answer.network, peer_id);
        let hash = offer_hash(self.offer_hasher, &answer.offer_id, &answer.offerer);
        let answerers = [answer.peer_id]
            .into_iter()
            .chain(answer.siblings.iter().copied());
        let mut closed = answerers.filter_map(|it| self.close(now, key, &name(&it), hash));
        match closed.find_map(|offerer| offerer) {
            Some(offerer) => Outcome::AnswerTo(offerer),
            None => Outcome::Refused,
        }
    }
}

#[cfg(test)]
mod tests;
