//! What the [replica](super::replica) says to the owners of shards, and they to it.

use std::ops::Range;

use aquatic_cluster::nodes::NodeIndex;
use aquatic_swarm_log::MemberRecord;
use aquatic_tracker::shard;
use aquatic_types::{InfoHash, IpFamily, PeerId, Seconds};
use aquatic_ws_protocol::OfferId;
use thin_vec::ThinVec;

use crate::messages::{ConnectionRef, Receiver};

/// Messages after which a batch takes no more.
const MESSAGES_MAX: usize = 2_048;

/// Bytes of offers and answers after which a batch takes no more.
const TEXT_BYTES_MAX: usize = 256 * 1_024;

/// Room that an empty batch keeps: for so many messages or records, and so many bytes of offers and
/// answers. There are many batches, of which few are in use most of the time.
const KEPT: usize = 32;
const TEXT_BYTES_KEPT: usize = 8 * 1_024;

/// Batches that can be on their way to a shard. Half of them take in whatever fits into one message
/// of the bus.
pub const CLUSTER_BATCHES_MAX: usize = 32;

/// Records that a batch brings back.
pub(crate) const RECORDS_MAX: usize = 4_096;

/// For one shard, in the order in which it came. It travels to the shard's owner and back.
#[derive(Debug, Default)]
pub struct ClusterBatch {
    /// The shard.
    pub(crate) shard: usize,
    /// It is to bring back what others are to be told.
    pub(crate) collects: bool,
    /// What other nodes have told.
    pub(crate) messages: Vec<RemoteMessage>,
    /// By message, once it is processed.
    pub(crate) outcomes: Vec<Outcome>,
    /// What others are to be told.
    pub(crate) records: Vec<MemberRecord>,
    /// The second as of which they are.
    pub(crate) since: Seconds,
    /// Records that were dropped, since nobody fetched them.
    pub(crate) dropped: usize,
    /// There is more to be brought back.
    pub(crate) has_more: bool,
    /// Offers and answers: JSON that has been checked.
    text: String,
}

/// Something that another node has told.
#[derive(Clone, Debug)]
pub(crate) struct RemoteMessage {
    /// The node.
    pub(crate) node: NodeIndex,
    pub(crate) info_hash: InfoHash,
    pub(crate) kind: RemoteKind,
}

#[derive(Clone, Debug)]
pub(crate) enum RemoteKind {
    /// Of a member, which is believed to be there until this second.
    Member {
        record: MemberRecord,
        connection: ConnectionRef,
        until: Seconds,
        /// It was told just now, and so is newer than what is known. Else it comes out of the
        /// log, or late, or for the second time.
        is_live: bool,
    },
    Offer(ArrivedOffer),
    Answer(ArrivedAnswer),
    /// An offer of a client of this node has not come to its receiver.
    Withdrawal(Receiver),
}

/// An offer for a client of this node.
#[derive(Clone, Debug)]
pub(crate) struct ArrivedOffer {
    pub(crate) offer_id: OfferId,
    pub(crate) offerer: ConnectionRef,
    pub(crate) peer_id: PeerId,
    pub(crate) family: IpFamily,
    pub(crate) network: u64,
    /// Nobody knows yet whether it is here; by a name that the offer has at the other node.
    pub(crate) receiver: Receiver,
    pub(crate) json: Range<usize>,
}

/// An answer to an offer of a client of this node.
#[derive(Clone, Debug)]
pub(crate) struct ArrivedAnswer {
    pub(crate) offer_id: OfferId,
    pub(crate) offerer: PeerId,
    pub(crate) answerer: ConnectionRef,
    pub(crate) peer_id: PeerId,
    pub(crate) siblings: ThinVec<PeerId>,
    pub(crate) family: IpFamily,
    pub(crate) network: u64,
    pub(crate) json: Range<usize>,
}

/// What has become of a [`RemoteMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Of a member: it is known now.
    Applied,
    /// Of a member: nothing new.
    Known,
    /// Of a member: there is no room.
    Full,
    /// Of an offer: it is open, by this name among those that the receiver may answer.
    Opened(u64),
    /// Of an answer: where the offer came from. It is closed.
    AnswerTo(ConnectionRef),
    /// Of a withdrawal: the offer is closed.
    Closed,
    /// Of an offer, an answer or a withdrawal: there is no such receiver, or no such offer.
    Refused,
}

impl ClusterBatch {
    /// Keeps an offer or answer. Returns where it is.
    pub(crate) fn keep(&mut self, json: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(json);
        start..self.text.len()
    }

    /// An offer or answer that is [kept](Self::keep).
    pub(crate) fn json(&self, place: Range<usize>) -> &str {
        self.text.get(place).unwrap_or("null")
    }

    /// Takes everything out, and gives room back.
    pub(crate) fn clear(&mut self) {
        self.collects = false;
        self.has_more = false;
        self.dropped = 0;
        self.messages.clear();
        self.messages.shrink_to(KEPT);
        self.outcomes.clear();
        self.outcomes.shrink_to(KEPT);
        self.records.clear();
        self.records.shrink_to(KEPT);
        self.text.clear();
        self.text.shrink_to(TEXT_BYTES_KEPT);
    }
}

impl shard::Batch for ClusterBatch {
    fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES_MAX || self.text.len() >= TEXT_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        !self.collects && self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use aquatic_swarm_log::Member;
    use aquatic_tracker::shard::Batch as _;

    use super::*;

    /// Bytes that a batch has room for.
    fn bytes(batch: &ClusterBatch) -> usize {
        batch.messages.capacity() * size_of::<RemoteMessage>()
            + batch.outcomes.capacity() * size_of::<Outcome>()
            + batch.records.capacity() * size_of::<MemberRecord>()
            + batch.text.capacity()
    }

    #[test]
    fn an_empty_batch_keeps_little_room() {
        let member = Member {
            peer_id: PeerId([1; 20]),
            worker: 0,
            connection: 0,
            network: 7,
        };
        let record = MemberRecord {
            info_hash: InfoHash([2; 20]),
            member,
            family: IpFamily::V4,
            status: aquatic_types::PeerStatus::Leecher,
            has_completed: false,
            is_finished: false,
            seconds_left: 9,
        };
        let receiver = Receiver::of_member(NodeIndex::HERE, &member, 3).unwrap();
        let mut batch = ClusterBatch::default();
        for _ in 0..2 {
            while !batch.is_full() {
                batch.messages.push(RemoteMessage {
                    node: NodeIndex(1),
                    info_hash: record.info_hash,
                    kind: RemoteKind::Withdrawal(receiver),
                });
                batch.outcomes.push(Outcome::Closed);
            }
            batch.keep(&"x".repeat(1_000_000));
            batch.records = vec![record; RECORDS_MAX];
            assert!(bytes(&batch) > 1_000_000);
            batch.clear();
            assert!(batch.is_empty());
            assert!(
                bytes(&batch) * CLUSTER_BATCHES_MAX < 1 << 20,
                "{}",
                bytes(&batch)
            );
        }
    }
}
