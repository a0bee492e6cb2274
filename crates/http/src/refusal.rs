//! What clients are told that are not served: every refusal in one list. Pure.

use std::borrow::Cow;

use aquatic_http_protocol::{FailureResponse, Framing, HeadError, RequestError, Retry, Status};
use aquatic_keys::KeyRefusal;
use aquatic_stream::ProxyRefusal;
use aquatic_tracker::admission::{NETWORK_DENIED, PEER_ID_DENIED};

use crate::config::Intervals;
use crate::counters::{Reason, ResponseKind, TrafficCounters};

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is counted under.
    pub reason: Reason,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// For whoever does not speak the protocol.
    Status(Status),
    /// For clients, which throw away what comes with any other status than 200.
    Failure(&'static str, Option<Retry>),
    /// The same, about the key in the announce URL.
    Key(KeyRefusal),
}

/// The limit that was met is looked at anew with each request.
const SOON: Option<Retry> = Some(Retry::AfterMinutes(1));

impl Refusal {
    /// The request head is larger than [`crate::config::HEAD_BYTES_MAX`].
    pub const HEAD_TOO_LARGE: Self = Self::status(Reason::HeadTooLarge, Status::HeadTooLarge);
    /// The client has ended its request in the middle.
    pub const CUT_OFF: Self = Self::status(Reason::Malformed, Status::BadRequest);
    /// The client has begun a request and not finished it in time.
    pub const TIMED_OUT: Self = Self::status(Reason::TimedOut, Status::RequestTimeout);
    /// A scrape that names no torrent.
    pub const FULL_SCRAPE: Self = Self::failure(
        Reason::FullScrape,
        "info_hash is missing: full scrapes are not served",
        Some(Retry::Never),
    );
    /// Another connection than one of a trusted proxy.
    pub const UNTRUSTED_PROXY: Self = Self::failure(
        Reason::UntrustedProxy,
        "this tracker can only be reached by way of its proxy",
        None,
    );
    /// The proxy has not said who the client is.
    pub const PROXY_HEADER: Self = Self::failure(
        Reason::ProxyHeader,
        "the tracker's proxy does not tell it your address",
        None,
    );
    /// More requests than `limits.requests_per_second_per_ip`.
    pub const REQUEST_RATE: Self = Self::failure(
        Reason::RequestRate,
        "too many requests from your address",
        SOON,
    );
    /// The worker that owns the torrent does not keep up.
    pub const QUEUE_FULL: Self = Self::failure(Reason::QueueFull, "tracker is overloaded", SOON);
    /// The access list does not allow the torrent.
    pub const INFO_HASH_DENIED: Self = Self::failure(
        Reason::InfoHashDenied,
        "torrent not allowed here",
        Some(Retry::Never),
    );

    /// The software of the peer is not served.
    pub const PEER_ID_DENIED: Self =
        Self::failure(Reason::PeerIdDenied, PEER_ID_DENIED, Some(Retry::Never));
    /// Clients of this network are not served, and this one has come by way of a proxy.
    pub const NETWORK_DENIED: Self =
        Self::failure(Reason::NetworkDenied, NETWORK_DENIED, Some(Retry::Never));

    const fn status(reason: Reason, status: Status) -> Self {
        let answer = Answer::Status(status);
        Self { reason, answer }
    }

    const fn failure(reason: Reason, text: &'static str, retry: Option<Retry>) -> Self {
        let answer = Answer::Failure(text, retry);
        Self { reason, answer }
    }

    /// Appends a whole HTTP response, and counts it. `intervals` are those of clients that are
    /// served.
    pub fn write(
        self,
        intervals: Intervals,
        framing: Framing,
        traffic: &TrafficCounters,
        out: &mut Vec<u8>,
    ) {
        traffic.reason(self.reason).add(1);
        traffic.responses(ResponseKind::Error).add(1);
        let (text, retry) = match self.answer {
            Answer::Status(status) => return status.write(framing, out),
            Answer::Failure(text, retry) => (Cow::Borrowed(text), retry),
            // Not "never": an operator may add the key, or lengthen its time.
            Answer::Key(refusal) => (Cow::Owned(refusal.to_string()), None),
        };
        let Intervals {
            announce_seconds,
            min_seconds,
        } = intervals_of_failure(intervals, retry);
        let failure = FailureResponse {
            reason: text.as_bytes(),
            interval_seconds: Some(announce_seconds),
            min_interval_seconds: min_seconds,
            retry,
        };
        failure.write(framing, out);
    }
}

/// What is said beside `retry in`: not all clients know that one, but rTorrent and libtorrent read
/// `interval` and `min interval` in failures as in other answers. Whoever can only be refused again
/// comes no more often than others.
fn intervals_of_failure(served: Intervals, retry: Option<Retry>) -> Intervals {
    match retry {
        Some(Retry::AfterMinutes(minutes)) => {
            let seconds = minutes.saturating_mul(60);
            Intervals {
                announce_seconds: seconds,
                min_seconds: served.min_seconds.map(|min| min.min(seconds)),
            }
        }
        Some(Retry::Never) | None => served,
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let reason = match error {
            HeadError::Malformed => Reason::Malformed,
            HeadError::Method => Reason::Method,
            HeadError::Body => Reason::RequestBody,
            HeadError::TooManyHeaders => Reason::HeadTooLarge,
        };
        Self::status(reason, error.status())
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let reason = match error {
            RequestError::UnknownPath => return Self::status(Reason::Path, Status::NotFound),
            RequestError::InfoHashMissing | RequestError::InfoHashSize => Reason::InfoHash,
            RequestError::PeerIdMissing | RequestError::PeerIdSize => Reason::PeerId,
            RequestError::PortMissing | RequestError::PortInvalid => Reason::Port,
        };
        Self::failure(reason, error.reason(), None)
    }
}

impl From<ProxyRefusal> for Refusal {
    fn from(refusal: ProxyRefusal) -> Self {
        match refusal {
            ProxyRefusal::Untrusted => Self::UNTRUSTED_PROXY,
            ProxyRefusal::Header => Self::PROXY_HEADER,
        }
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
        let answer = Answer::Key(refusal);
        Self { reason, answer }
    }
}

impl From<aquatic_swarm::Refusal> for Refusal {
    fn from(refusal: aquatic_swarm::Refusal) -> Self {
        let (reason, text) = match refusal {
            aquatic_swarm::Refusal::TorrentLimit => (
                Reason::TorrentLimit,
                "tracker is full: no new torrents for now",
            ),
            aquatic_swarm::Refusal::PeerLimit => {
                (Reason::PeerLimit, "tracker is full: no new peers for now")
            }
            aquatic_swarm::Refusal::MemoryLimit => (
                Reason::MemoryLimit,
                "tracker is out of memory: nothing new for now",
            ),
            aquatic_swarm::Refusal::NotAdmitted => {
                (Reason::PeersPerIp, "too many peers from your address")
            }
        };
        Self::failure(reason, text, SOON)
    }
}
