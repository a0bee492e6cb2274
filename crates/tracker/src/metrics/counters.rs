//! What the workers of any tracker count.
//!
//! Each worker counts for itself, in atomics that only it writes. The statistics thread reads them
//! all. What kinds of requests, responses and failures there are is up to the [`Protocol`].

use std::sync::Arc;

pub use aquatic_daemon::counter::{Counter, Counts, Label};
pub use aquatic_daemon::limit_watch::LimitNote;
use aquatic_types::{IpFamily, PerFamily};

/// What a tracker's requests, responses and failures are called in its metrics.
pub trait Protocol: Send + Sync + 'static {
    /// `aquatic_requests_by_type_total{type}`.
    type Request: Label;
    /// `aquatic_responses_total{type}`.
    type Response: Label;
    /// Why a request was not served.
    type Reason: ReasonLabel;
    /// `protocol`, in the metrics of a process that serves several: `udp`.
    const NAME: &'static str;
    /// What traffic is measured in, for people: `UDP payload`.
    const PAYLOAD: &'static str;
    /// Whether the kernel can drop and answer some of its requests itself.
    const IS_PARTLY_IN_KERNEL: bool = false;
}

/// Why a request was not served, or an answer not sent: `aquatic_dropped_total{reason}` for what
/// got no answer, `aquatic_refused_total{reason}` for what got an error.
pub trait ReasonLabel: Label {
    /// Whether the client was told.
    fn is_refusal(self) -> bool;

    /// If it is a limit of this protocol alone that an operator can change: what to tell when it
    /// was met. Those that others have too are told of [elsewhere](crate::limit_notes). Not for
    /// what clients do wrong by themselves, and not for torrents that an operator has forbidden.
    fn limit(self) -> Option<LimitNote> {
        None
    }
}

/// What one worker counts about the clients of one IP family. Totals since the start.
pub struct TrafficCounters<P: Protocol> {
    pub(crate) requests: Counts<P::Request>,
    pub(crate) responses: Counts<P::Response>,
    pub(crate) reasons: Counts<P::Reason>,
    /// Bytes of payload received.
    pub received_bytes: Counter,
    /// Bytes of payload sent.
    pub sent_bytes: Counter,
    /// Requests that the kernel has dropped or answered, all of them counted above as well.
    pub in_kernel: Counter,
}

impl<P: Protocol> TrafficCounters<P> {
    /// Requests of a kind that could be read.
    #[must_use]
    pub fn requests(&self, kind: P::Request) -> &Counter {
        self.requests.of(kind)
    }

    /// Answers of a kind that were sent, or are about to be.
    #[must_use]
    pub fn responses(&self, kind: P::Response) -> &Counter {
        self.responses.of(kind)
    }

    /// What was dropped or refused for a reason.
    #[must_use]
    pub fn reason(&self, reason: P::Reason) -> &Counter {
        self.reasons.of(reason)
    }
}

impl<P: Protocol> Default for TrafficCounters<P> {
    fn default() -> Self {
        Self {
            requests: Counts::default(),
            responses: Counts::default(),
            reasons: Counts::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            in_kernel: Counter::default(),
        }
    }
}

/// What is in the swarms of one shard and IP family.
#[derive(Debug, Default)]
pub struct SwarmGauges {
    /// Torrents that have been announced.
    pub torrents: Counter,
    /// Peers, over all torrents.
    pub peers: Counter,
    /// Those of them that have everything.
    pub seeders: Counter,
    /// Downloads that peers have announced to be finished, since the start.
    pub completed: Counter,
    /// Peers that had to give way to others at `limits.max_swarm_memory`, since the start.
    pub evicted: Counter,
}

/// What the owner of a shard counts about it.
#[derive(Debug, Default)]
#[repr(align(128))] // As below.
pub struct ShardCounters {
    /// What is in the swarms.
    pub swarms: PerFamily<SwarmGauges>,
    /// How long the last complete cleaning took, in microseconds, from its first slice to its last.
    pub cleaning_micros: Counter,
}

/// What one worker counts. A worker that is only one half of the tracker leaves the other half at
/// zero.
#[repr(align(128))] // No other worker's writes disturb this worker's cache lines.
pub struct WorkerCounters<P: Protocol> {
    traffic: PerFamily<TrafficCounters<P>>,
    /// What concerns the shard that this worker owns, whatever the protocol.
    pub shard: Arc<ShardCounters>,
    /// Batches on their way to other workers and back.
    pub batches_in_flight: Counter,
}

impl<P: Protocol> WorkerCounters<P> {
    /// Of a worker that owns a shard, about which `shard` is counted.
    #[must_use]
    pub fn of_owner(shard: &Arc<ShardCounters>) -> Self {
        Self {
            shard: Arc::clone(shard),
            ..Self::default()
        }
    }

    /// What concerns the clients of a family.
    #[must_use]
    pub fn traffic(&self, family: IpFamily) -> &TrafficCounters<P> {
        self.traffic.get(family)
    }

    /// What concerns swarms of a family.
    #[must_use]
    pub fn swarms(&self, family: IpFamily) -> &SwarmGauges {
        self.shard.swarms.get(family)
    }
}

impl<P: Protocol> Default for WorkerCounters<P> {
    fn default() -> Self {
        Self {
            traffic: PerFamily::default(),
            shard: Arc::default(),
            batches_in_flight: Counter::default(),
        }
    }
}

/// A protocol for tests.
#[cfg(test)]
pub(crate) mod test_protocol {
    use aquatic_daemon::labels;

    use super::{Protocol, ReasonLabel};

    /// BitTorrent over bees.
    pub(crate) enum Bees {}

    impl Protocol for Bees {
        type Request = RequestKind;
        type Response = ResponseKind;
        type Reason = Reason;
        const NAME: &'static str = "bees";
        const PAYLOAD: &'static str = "honey";
    }

    labels! {
        /// What bees ask.
        pub(crate) enum RequestKind {
            /// Announce.
            Announce = "announce",
            /// Scrape.
            Scrape = "scrape",
        }
    }

    labels! {
        /// What bees are told.
        pub(crate) enum ResponseKind {
            /// Announce.
            Announce = "announce",
            /// A refusal.
            Error = "error",
        }
    }

    labels! {
        /// Why bees are not served.
        pub(crate) enum Reason {
            /// Dropped: shorter than what it claims to be.
            TooShort = "too_short",
            /// Refused: too many bees.
            PeerLimit = "peer_limit",
        }
    }

    impl ReasonLabel for Reason {
        fn is_refusal(self) -> bool {
            self == Self::PeerLimit
        }
    }
}
