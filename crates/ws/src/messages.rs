//! What socket workers and the owners of shards say to each other.

use std::ops::Range;

use aquatic_cluster::nodes::NodeIndex;
use aquatic_stream::ConnectionKey;
use aquatic_swarm::{Counts, PeerKey};
use aquatic_swarm_log::Member;
use aquatic_tracker::shard;
use aquatic_types::{InfoHash, IpFamily, PeerId, PeerStatus};
use aquatic_ws_protocol::{OfferId, SkippedOffers};
use thin_vec::ThinVec;

use crate::connection_ref::Packed;
use crate::membership::MembershipChange;
use crate::refusal::Refusal;

pub use crate::connection_ref::ConnectionRef;

/// Requests that a batch holds at most.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// Bytes of offers and answers after which a batch takes no more.
pub const BATCH_TEXT_BYTES_MAX: usize = 256 * 1_024;

/// Batches that can be on their way between two workers: some 2,000 announces with ten offers.
pub const BATCHES_MAX: usize = 16;

/// What names a peer within a swarm: its connection and its peer id. Peer ids alone are names that
/// anybody can give themselves. And the network of the connection, which does not change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberKey([u8; 38]);

impl MemberKey {
    /// `network` is the [`client_network`](aquatic_types::client_network) of the connection.
    pub(crate) fn new(member: ConnectionRef, network: u64, peer_id: &PeerId) -> Self {
        let mut bytes = [0; 38];
        let (name, place) = bytes.split_at_mut(20);
        name.copy_from_slice(&peer_id.0);
        let (connection, of_network) = place.split_at_mut(10);
        connection.copy_from_slice(&member.packed().0);
        of_network.copy_from_slice(&network.to_be_bytes());
        Self(bytes)
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        let (peer_id, _) = self.0.split_first_chunk().unwrap_or((&[0; 20], &[]));
        PeerId(*peer_id)
    }

    /// As the one that is handed an offer of this name.
    pub(crate) fn receiver(&self, hash: u64) -> Receiver {
        Receiver {
            member: self.member(),
            network: self.network_number(),
            peer_id: self.peer_id(),
            hash,
        }
    }

    pub(crate) fn member(&self) -> ConnectionRef {
        self.packed().unpacked()
    }

    /// The process that the connection is one of.
    pub(crate) fn node(&self) -> NodeIndex {
        self.packed().node()
    }

    /// Whether the connection is one of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.node() == NodeIndex::HERE
    }

    /// Whether both are peers of one connection.
    pub(crate) fn has_connection_of(&self, other: &Self) -> bool {
        self.packed() == other.packed()
    }

    fn packed(&self) -> Packed {
        let (_, place) = self.0.split_first_chunk::<20>().unwrap_or((&[0; 20], &[]));
        let (packed, _) = place.split_first_chunk().unwrap_or((&[0; 10], &[]));
        Packed(*packed)
    }

    pub(crate) fn network_number(&self) -> u64 {
        let (_, network) = self.0.split_last_chunk().unwrap_or((&[], &[0; 8]));
        u64::from_be_bytes(*network)
    }

    /// Of another process, with some bits of that.
    fn connection_bits(&self) -> u64 {
        let [.., c0, c1, c2, c3, c4, c5, c6, c7, _, _, _, _, _, _, _, _] = self.0;
        u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7])
    }
}

impl PeerKey for MemberKey {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The IPv4 address, or the /64 network of IPv6.
    fn network(&self) -> Option<u64> {
        Some(self.network_number())
    }

    /// The connection, and the end of the peer id: clients begin theirs alike.
    fn within_network(&self) -> u64 {
        let PeerId([.., p0, p1, p2, p3, p4, p5, p6, p7]) = self.peer_id();
        let name = u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        self.connection_bits().rotate_left(32) ^ name
    }
}

/// What a client asks about one torrent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks, in the socket worker that the batch comes from.
    pub connection: ConnectionKey,
    /// The client's family.
    pub family: IpFamily,
    /// The client's [`client_network`](aquatic_types::client_network).
    pub network: u64,
    /// The torrent.
    pub info_hash: InfoHash,
    /// What it is.
    pub kind: RequestKind,
}

/// Kinds of [`Request`].
#[derive(Clone, Debug)]
pub enum RequestKind {
    /// A peer announces.
    Announce(Announce),
    /// A peer answers an offer.
    Answer(Answer),
    /// One torrent of a scrape.
    Scrape {
        /// Its row in the response.
        row: u16,
    },
    /// A peer leaves without having said so.
    Leave {
        /// The peer.
        peer_id: PeerId,
    },
    /// Is a peer, which may have had to [give way](Batch::evicted), still there?
    Check {
        /// The peer.
        peer_id: PeerId,
    },
    /// An offer has not come to its receiver, which cannot answer it. Comes from any worker.
    Withdraw(Receiver),
}

/// A peer announces, and the announce has passed all checks of the socket worker.
#[derive(Clone, Debug)]
pub struct Announce {
    /// The peer.
    pub peer_id: PeerId,
    /// Seeder, leecher or leaving.
    pub status: PeerStatus,
    /// The download has just finished.
    pub completed: bool,
    /// Its [`Batch::offers`].
    pub offers: Range<usize>,
    /// What it has offered besides, and could not be passed on.
    pub skipped: Option<SkippedOffers>,
    /// What it is to the connection's [`Membership`](crate::membership::Membership).
    pub asked: MembershipChange,
}

/// What a shard decides about a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Of an announce.
    Accepted {
        /// How large the swarm is now.
        counts: Counts,
        /// Whether the peer is in it by this connection.
        is_in_swarm: bool,
    },
    /// Of an announce or an answer: nothing has changed.
    Refused(Refusal),
    /// Of an answer: where the offer came from.
    AnswerTo(ConnectionRef),
    /// Of one torrent of a scrape.
    Scraped(Counts),
    /// Of a check: whether the peer is in the swarm.
    IsInSwarm(bool),
    /// Of what is told, and not asked.
    Noted,
}

/// An offer, for whomever the shard chooses.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its name.
    pub offer_id: OfferId,
    /// Its JSON, in [`Batch::text`].
    pub json: Range<usize>,
}

/// The peer that an offer is handed to, and what is to be known to withdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its connection.
    pub member: ConnectionRef,
    /// The network of that.
    pub network: u64,
    /// Its peer id.
    pub peer_id: PeerId,
    /// What the offer is called among those that the peer may answer.
    pub(crate) hash: u64,
}

impl Receiver {
    /// A member of a node, and the name of an offer for it. `None` if there can be no such member.
    pub(crate) fn of_member(node: NodeIndex, member: &Member, hash: u64) -> Option<Self> {
        Some(Self {
            member: ConnectionRef::of_member(node, member)?,
            network: member.network,
            peer_id: member.peer_id,
            hash,
        })
    }
}

/// An offer that a peer may answer.
#[derive(Clone, Copy, Debug)]
pub struct HandedOffer {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer.
    pub receiver: Receiver,
    /// Where it comes from, if that is another process.
    pub origin: Option<Origin>,
}

/// An offer came from another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// That process.
    pub node: NodeIndex,
    /// What it calls the offer.
    pub(crate) name: u64,
}

/// A peer that has had to give way. Its connection does not know it yet.
#[derive(Clone, Copy, Debug)]
pub struct Evicted {
    /// Its connection, of any worker.
    pub member: ConnectionRef,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer.
    pub peer_id: PeerId,
}

/// A peer answers an offer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The peer.
    pub peer_id: PeerId,
    /// Other peers of its connection in the same torrent. An offer does not name the one that it
    /// is for, so whichever answers, the offer may have been opened for one of these.
    pub siblings: ThinVec<PeerId>,
    /// Who has made the offer.
    pub to_peer_id: PeerId,
    /// Which offer it is.
    pub offer_id: OfferId,
    /// The JSON of the answer, in [`Batch::text`].
    pub json: Range<usize>,
}

/// Requests for one shard, in the order in which they came. It travels to the shard's owner, which
/// writes its decisions into it, and back (see [`aquatic_channel`]).
#[derive(Debug, Default)]
pub struct Batch {
    /// The socket worker that asks.
    pub worker: u16,
    /// What is asked.
    pub requests: Vec<Request>,
    /// Offers of all announces.
    pub offers: Vec<Offer>,
    /// By request, once it is processed.
    pub decisions: Vec<Decision>,
    /// By offer, once its announce is processed: whom it goes to. `None` = nobody: the swarm is too
    /// small.
    pub receivers: Vec<Option<Receiver>>,
    /// Peers that have had to give way to those that announce here, or before.
    pub evicted: Vec<Evicted>,
    /// Offers and answers, as JSON that was valid where it came from.
    text: String,
}

impl Batch {
    /// Keeps an offer or answer. Returns where it is.
    pub fn keep(&mut self, json: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(json);
        start..self.text.len()
    }

    /// An offer or answer that is [kept](Self::keep).
    #[must_use]
    pub fn json(&self, place: Range<usize>) -> &str {
        self.text.get(place).unwrap_or("null")
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.offers.clear();
        self.decisions.clear();
        self.receivers.clear();
        self.evicted.clear();
        self.evicted.shrink_to(BATCH_REQUESTS_MAX);
        self.text.clear();
        // One large message may come on top of the bound.
        self.text.shrink_to(2 * BATCH_TEXT_BYTES_MAX);
    }
}

impl shard::Batch for Batch {
    fn is_full(&self) -> bool {
        self.requests.len() >= BATCH_REQUESTS_MAX || self.text.len() >= BATCH_TEXT_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_who_it_is() {
        let connection = ConnectionKey::from_bits(0x0304_0506_0708_090a);
        let member = ConnectionRef::here(0x0102, connection);
        let key = MemberKey::new(member, 0x0b0c_0d0e_0f10_1112, &PeerId([7; 20]));
        assert_eq!((key.member(), key.peer_id()), (member, PeerId([7; 20])));
        assert_eq!(key.network(), Some(0x0b0c_0d0e_0f10_1112));
        assert_eq!(key.as_bytes()[20..], *(1..=18).collect::<Vec<u8>>());
    }
}
