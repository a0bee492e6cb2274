//! Everything that is counted, in one list.
//!
//! Each worker counts for itself, in atomics that only it writes: adding costs a plain load and a
//! plain store. The statistics thread reads them all.

use std::sync::atomic::{AtomicU64, Ordering};

use aquatic_types::{IpFamily, PerFamily};

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. To be called by the one writer only: two would lose additions.
    pub fn add(&self, amount: usize) {
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        self.0
            .store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces the number: for gauges.
    pub fn set(&self, value: usize) {
        self.0
            .store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares an enum of label values: the enum, all its values, and their labels.
macro_rules! labels {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$value_doc:meta])* $value:ident = $label:literal, )+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$value_doc])* $value, )+ }

        impl $name {
            /// All of them, in the order in which they are reported.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The value of the metric label.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$value => $label),+ }
            }
        }
    };
}

labels! {
    /// `aquatic_requests_total`, by type.
    RequestKind {
        /// Connect.
        Connect = "connect",
        /// Announce.
        Announce = "announce",
        /// Scrape.
        Scrape = "scrape",
    }
}

labels! {
    /// `aquatic_responses_total{type}`.
    ResponseKind {
        /// Connect.
        Connect = "connect",
        /// Announce.
        Announce = "announce",
        /// Scrape.
        Scrape = "scrape",
        /// A refusal.
        Error = "error",
    }
}

labels! {
    /// Why a request was not served, or an answer not sent: `aquatic_dropped_total{reason}` for
    /// what got no answer, `aquatic_refused_total{reason}` for what got an error.
    Reason {
        /// Dropped: shorter than what it claims to be.
        TooShort = "too_short",
        /// Dropped: longer than any request, so it was cut off.
        TooLong = "too_long",
        /// Dropped: neither connect nor announce nor scrape.
        UnknownAction = "unknown_action",
        /// Dropped: action 0 without the protocol's magic number.
        NotConnect = "not_connect",
        /// Dropped: something is wrong with it, and its connection id is not valid either.
        Unconnected = "unconnected",
        /// Dropped: nothing could be sent to port 0.
        SourcePortZero = "source_port_zero",
        /// Dropped: more requests than `limits.requests_per_second_per_ip`.
        RequestRate = "request_rate",
        /// Dropped: the worker that owns the torrent does not keep up.
        QueueFull = "queue_full",
        /// Dropped: the kernel refused to send the answer (no route, firewall).
        SendFailed = "send_failed",
        /// Dropped: the send buffer was full, and so was the resend buffer.
        SendBufferFull = "send_buffer_full",
        /// Refused: the connection id is unknown or has expired.
        ConnectionId = "connection_id",
        /// Refused: a client cannot be reached at port 0.
        PortZero = "port_zero",
        /// Refused: a scrape of nothing.
        NoInfoHash = "no_info_hash",
        /// Refused: the access list does not allow the torrent.
        InfoHashDenied = "info_hash_denied",
        /// Refused: `limits.max_torrents`.
        TorrentLimit = "torrent_limit",
        /// Refused: `limits.max_peers`.
        PeerLimit = "peer_limit",
        /// Refused: `limits.max_peers_per_ip`.
        PeersPerIp = "peers_per_ip",
    }
}

impl Reason {
    /// Whether the client was told.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        match self {
            Self::TooShort
            | Self::TooLong
            | Self::UnknownAction
            | Self::NotConnect
            | Self::Unconnected
            | Self::SourcePortZero
            | Self::RequestRate
            | Self::QueueFull
            | Self::SendFailed
            | Self::SendBufferFull => false,
            Self::ConnectionId
            | Self::PortZero
            | Self::NoInfoHash
            | Self::InfoHashDenied
            | Self::TorrentLimit
            | Self::PeerLimit
            | Self::PeersPerIp => true,
        }
    }
}

const REQUEST_KINDS: usize = RequestKind::ALL.len();
const RESPONSE_KINDS: usize = ResponseKind::ALL.len();
const REASONS: usize = Reason::ALL.len();

/// What one worker counts about the datagrams of one IP family. Totals since the start.
#[derive(Debug, Default)]
pub struct TrafficCounters {
    /// Requests that could be read.
    requests: [Counter; REQUEST_KINDS],
    /// Answers that were sent, or are about to be.
    responses: [Counter; RESPONSE_KINDS],
    reasons: [Counter; REASONS],
    /// Bytes of payload received.
    pub received_bytes: Counter,
    /// Bytes of payload sent.
    pub sent_bytes: Counter,
}

impl TrafficCounters {
    /// Requests of a kind.
    #[must_use]
    pub fn requests(&self, kind: RequestKind) -> &Counter {
        #[expect(clippy::indexing_slicing, reason = "one counter per value of the enum")]
        &self.requests[kind as usize]
    }

    /// Answers of a kind.
    #[must_use]
    pub fn responses(&self, kind: ResponseKind) -> &Counter {
        #[expect(clippy::indexing_slicing, reason = "one counter per value of the enum")]
        &self.responses[kind as usize]
    }

    /// What was dropped or refused for a reason.
    #[must_use]
    pub fn reason(&self, reason: Reason) -> &Counter {
        #[expect(clippy::indexing_slicing, reason = "one counter per value of the enum")]
        &self.reasons[reason as usize]
    }
}

/// Gauges of one shard and IP family.
#[derive(Debug, Default)]
pub struct SwarmGauges {
    /// Torrents that have been announced.
    pub torrents: Counter,
    /// Peers, over all torrents.
    pub peers: Counter,
}

/// What one worker counts. A worker that is only one half of the tracker leaves the other half at
/// zero.
#[derive(Debug, Default)]
#[repr(align(128))] // No other worker's writes disturb this worker's cache lines.
pub struct WorkerCounters {
    traffic: PerFamily<TrafficCounters>,
    swarms: PerFamily<SwarmGauges>,
    /// Batches on their way to other workers and back.
    pub batches_in_flight: Counter,
    /// How long the last complete cleaning took, in microseconds, from its first slice to its last.
    pub cleaning_micros: Counter,
}

impl WorkerCounters {
    /// What concerns datagrams of a family.
    #[must_use]
    pub fn traffic(&self, family: IpFamily) -> &TrafficCounters {
        self.traffic.get(family)
    }

    /// What concerns swarms of a family.
    #[must_use]
    pub fn swarms(&self, family: IpFamily) -> &SwarmGauges {
        self.swarms.get(family)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_distinct() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn each_reason_has_its_own_counter() {
        let counters = WorkerCounters::default();
        for (times, reason) in Reason::ALL.iter().enumerate() {
            counters.traffic(IpFamily::V6).reason(*reason).add(times);
        }
        for (times, reason) in Reason::ALL.iter().enumerate() {
            let count = counters.traffic(IpFamily::V6).reason(*reason).get();
            assert_eq!(count, u64::try_from(times).unwrap());
            assert_eq!(counters.traffic(IpFamily::V4).reason(*reason).get(), 0);
        }
    }
}
