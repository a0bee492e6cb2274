//! What clients are told whose messages are not served: every refusal in one list. Pure.

use std::borrow::Cow;

use aquatic_types::InfoHash;
use aquatic_ws_protocol::{Action, FailureResponse, RequestError};

use crate::counters::{Reason, ResponseKind, TrafficCounters};
use crate::frames;

/// Why a message is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is counted under.
    pub reason: Reason,
    text: &'static str,
}

impl Refusal {
    /// An answer to an offer that the answerer has not got, or too late.
    pub const OFFER_UNKNOWN: Self = Self::new(
        Reason::OfferUnknown,
        "offer_id names no open offer of to_peer_id to you",
    );
    /// An answer by a peer that is not in the swarm over this connection.
    pub const NOT_IN_SWARM: Self = Self::new(
        Reason::NotInSwarm,
        "peer_id is not in this swarm: announce first",
    );
    /// More torrents than `protocol.max_torrents_per_connection`.
    pub const TORRENTS_PER_CONNECTION: Self = Self::new(
        Reason::TorrentsPerConnection,
        "too many torrents over one connection",
    );
    /// More messages than `limits.requests_per_second_per_ip`.
    pub const REQUEST_RATE: Self =
        Self::new(Reason::RequestRate, "too many messages from your address");
    /// The worker that owns the torrent does not keep up.
    pub const QUEUE_FULL: Self = Self::new(Reason::QueueFull, "tracker is overloaded");
    /// The access list does not allow the torrent.
    pub const INFO_HASH_DENIED: Self =
        Self::new(Reason::InfoHashDenied, "torrent not allowed here");
    /// More peers than `limits.max_peers_per_ip`.
    pub const PEERS_PER_IP: Self =
        Self::new(Reason::PeersPerIp, "too many peers from your address");

    const fn new(reason: Reason, text: &'static str) -> Self {
        Self { reason, text }
    }

    /// About a message of this kind, and this torrent if there is one.
    #[must_use]
    pub fn about(self, action: Action, info_hash: Option<InfoHash>) -> Failure {
        Failure {
            refusal: self,
            action,
            info_hash,
        }
    }
}

impl From<aquatic_swarm::Refusal> for Refusal {
    fn from(refusal: aquatic_swarm::Refusal) -> Self {
        match refusal {
            aquatic_swarm::Refusal::TorrentLimit => Self::new(
                Reason::TorrentLimit,
                "tracker is full: no new torrents for now",
            ),
            aquatic_swarm::Refusal::PeerLimit => {
                Self::new(Reason::PeerLimit, "tracker is full: no new peers for now")
            }
            aquatic_swarm::Refusal::NotAdmitted => Self::PEERS_PER_IP,
        }
    }
}

/// A refusal, with what a client needs to know which of its messages it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub refusal: Refusal,
    /// What was asked.
    pub action: Action,
    /// The torrent, if it was readable.
    pub info_hash: Option<InfoHash>,
}

impl Failure {
    /// Appends a WebSocket message, and counts it.
    pub fn write(&self, traffic: &TrafficCounters, out: &mut Vec<u8>) {
        traffic.reason(self.refusal.reason).add(1);
        traffic.responses(ResponseKind::Error).add(1);
        let response = FailureResponse {
            action: self.action,
            reason: Cow::Borrowed(self.refusal.text),
            info_hash: self.info_hash,
        };
        frames::write_text(&response, out);
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let refusal = Refusal::new(error.kind.into(), error.kind.reason());
        refusal.about(error.action, error.info_hash)
    }
}
