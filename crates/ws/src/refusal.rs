//! What clients are told whose messages are not served: every refusal in one list. Pure.

use std::borrow::Cow;

use aquatic_keys::KeyRefusal;
use aquatic_tracker::admission::PEER_ID_DENIED;
use aquatic_types::InfoHash;
use aquatic_ws_protocol::{Action, FailureResponse, Request, RequestError, RequestErrorKind};

use crate::counters::{Reason, ResponseKind, TrafficCounters};
use crate::frames;

/// When a client is to try again whose announce may be served then: no later than this, in seconds,
/// and no later than clients that are served.
const RETRY_SECONDS_MAX: u32 = 60;

/// Why a message is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is counted under.
    pub reason: Reason,
    text: Text,
    /// The same may be served a little later.
    may_pass: bool,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Fixed(&'static str),
    /// About the key in the URL to which the client has connected.
    Key(KeyRefusal),
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
    pub const TORRENTS_PER_CONNECTION: Self = Self::for_now(
        Reason::TorrentsPerConnection,
        "too many torrents over one connection",
    );
    /// More peer ids than [a page needs](crate::membership::PEERS_PER_TORRENT_MAX) in one torrent.
    pub const PEERS_PER_TORRENT: Self = Self::for_now(
        Reason::TorrentsPerConnection,
        "too many peer ids in one torrent over one connection",
    );
    /// More messages than `limits.requests_per_second_per_ip`.
    pub const REQUEST_RATE: Self =
        Self::for_now(Reason::RequestRate, "too many messages from your address");
    /// The worker that owns the torrent does not keep up.
    pub const QUEUE_FULL: Self = Self::for_now(Reason::QueueFull, "tracker is overloaded");
    /// The access list does not allow the torrent.
    pub const INFO_HASH_DENIED: Self =
        Self::new(Reason::InfoHashDenied, "torrent not allowed here");
    /// The software of the peer is not served.
    pub const PEER_ID_DENIED: Self = Self::new(Reason::PeerIdDenied, PEER_ID_DENIED);
    /// More peers than `limits.max_peers_per_ip`.
    pub const PEERS_PER_IP: Self = Self::for_now(
        Reason::PeersPerIp,
        aquatic_swarm::Refusal::NotAdmitted.text(),
    );

    const fn new(reason: Reason, text: &'static str) -> Self {
        Self {
            reason,
            text: Text::Fixed(text),
            may_pass: false,
        }
    }

    /// One whose cause may be gone a little later.
    const fn for_now(reason: Reason, text: &'static str) -> Self {
        Self {
            reason,
            text: Text::Fixed(text),
            may_pass: true,
        }
    }

    /// Whether it is about a message that is not UTF-8.
    #[must_use]
    pub fn is_about_encoding(self) -> bool {
        self == RequestErrorKind::Utf8.into()
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

    /// About this request.
    #[must_use]
    pub fn about_request(self, request: &Request<'_>) -> Failure {
        let (action, info_hash) = match request {
            Request::Announce(announce) => (Action::Announce, Some(announce.info_hash)),
            Request::Answer(answer) => (Action::Announce, Some(answer.info_hash)),
            Request::Scrape(_) => (Action::Scrape, None),
        };
        self.about(action, info_hash)
    }
}

impl From<KeyRefusal> for Refusal {
    fn from(refusal: KeyRefusal) -> Self {
        let reason = match refusal {
            KeyRefusal::Missing => Reason::KeyMissing,
            KeyRefusal::Unknown => Reason::KeyUnknown,
            KeyRefusal::Ended(_) => Reason::KeyExpired,
            KeyRefusal::PeerLimit(_) => Reason::KeyPeerLimit,
        };
        Self {
            reason,
            text: Text::Key(refusal),
            may_pass: false,
        }
    }
}

impl From<aquatic_swarm::Refusal> for Refusal {
    fn from(refusal: aquatic_swarm::Refusal) -> Self {
        let reason = match refusal {
            aquatic_swarm::Refusal::TorrentLimit => Reason::TorrentLimit,
            aquatic_swarm::Refusal::PeerLimit => Reason::PeerLimit,
            aquatic_swarm::Refusal::MemoryLimit => Reason::MemoryLimit,
            aquatic_swarm::Refusal::NotAdmitted => Reason::PeersPerIp,
        };
        Self::for_now(reason, refusal.text())
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
    /// Appends a WebSocket message, and counts it. `interval_seconds` is that of clients that are
    /// served.
    pub fn write(&self, interval_seconds: u32, traffic: &TrafficCounters, out: &mut Vec<u8>) {
        traffic.reason(self.refusal.reason).add(1);
        traffic.responses(ResponseKind::Error).add(1);
        let response = FailureResponse {
            action: self.action,
            reason: match self.refusal.text {
                Text::Fixed(text) => Cow::Borrowed(text),
                Text::Key(refusal) => Cow::Owned(refusal.to_string()),
            },
            info_hash: self.info_hash,
            retry_seconds: (self.refusal.may_pass)
                .then_some(interval_seconds.min(RETRY_SECONDS_MAX)),
        };
        frames::write_text(&response, out);
    }
}

impl From<RequestErrorKind> for Refusal {
    fn from(kind: RequestErrorKind) -> Self {
        Self::new(kind.into(), kind.reason())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Refusal::from(error.kind).about(error.action, error.info_hash)
    }
}
