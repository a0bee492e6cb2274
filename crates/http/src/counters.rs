//! Everything that is counted about requests, in one list.
//!
//! What is counted about connections is [`aquatic_stream`]'s; what is counted about swarms, and the
//! counters themselves, are [`aquatic_tracker`]'s.

use aquatic_daemon::counter::Counter;
use aquatic_daemon::labels;
use aquatic_tracker::metrics::counters::{self, Protocol};

/// The BitTorrent tracker protocol over HTTP.
#[derive(Clone, Copy, Debug)]
pub enum Http {}

impl Protocol for Http {
    type Request = RequestKind;
    type Response = ResponseKind;
    type Reason = Reason;
    const NAME: &'static str = "http";
    const PAYLOAD: &'static str = "TCP payload";
}

/// What a worker counts about requests and swarms.
pub type WorkerCounters = counters::WorkerCounters<Http>;

/// What a worker counts about the requests of one IP family.
pub type TrafficCounters = counters::TrafficCounters<Http>;

labels! {
    /// `aquatic_requests_by_type_total{type}`.
    pub enum RequestKind {
        /// Announce.
        Announce = "announce",
        /// Scrape.
        Scrape = "scrape",
    }
}

labels! {
    /// `aquatic_responses_total{type}`.
    pub enum ResponseKind {
        /// Announce.
        Announce = "announce",
        /// Scrape.
        Scrape = "scrape",
        /// A refusal: a failure reason, or a status other than 200.
        Error = "error",
    }
}

labels! {
    /// Why a request was not served, or an answer not sent: `aquatic_refused_total{reason}` for
    /// what got a refusal, `aquatic_dropped_total{reason}` for what got nothing.
    pub enum Reason {
        /// Dropped: the connection was gone before the answer was ready.
        ConnectionGone = "connection_gone",
        /// Refused with 400: this is no HTTP, or no whole request.
        Malformed = "malformed",
        /// Refused with 408: the request was begun, and did not come whole in
        /// `network.request_timeout`.
        TimedOut = "timed_out",
        /// Refused with 400: a request with a body.
        RequestBody = "request_body",
        /// Refused with 404: this is no path of a tracker.
        Path = "path",
        /// Refused with 405: the method is neither GET nor HEAD.
        Method = "method",
        /// Refused with 431: the request head is too large.
        HeadTooLarge = "head_too_large",
        /// Refused: `info_hash` is missing or does not have 20 bytes.
        InfoHash = "info_hash",
        /// Refused: `peer_id` is missing or does not have 20 bytes.
        PeerId = "peer_id",
        /// Refused: `port` is missing, or no client can be reached at it.
        Port = "port",
        /// Refused: a scrape that names no torrent.
        FullScrape = "full_scrape",
        /// Refused: for a client in the list of `access_list.networks_deny_path`, by way of a
        /// reverse proxy. (Others are not even accepted.)
        NetworkDenied = "network_denied",
        /// Refused: the reverse proxy has not told who the client is.
        ProxyHeader = "proxy_header",
        /// Refused: not sent by one of `network.trusted_proxies`.
        UntrustedProxy = "untrusted_proxy",
        /// Refused: more requests than `limits.requests_per_second_per_ip`.
        RequestRate = "request_rate",
        /// Refused: the worker that owns the torrent does not keep up.
        QueueFull = "queue_full",
        /// Refused: the access list does not allow the torrent.
        InfoHashDenied = "info_hash_denied",
        /// Refused: clients need a key (`keys.mode`), and the announce URL has none.
        KeyMissing = "key_missing",
        /// Refused: the key is not in the file of keys.
        KeyUnknown = "key_unknown",
        /// Refused: the key is past its end date.
        KeyExpired = "key_expired",
        /// Refused: the key has as many peers as it may have.
        KeyPeerLimit = "key_peer_limit",
        /// Refused: `access_list.peer_id_prefixes_deny` and `peer_id_prefixes_allow`.
        PeerIdDenied = "peer_id_denied",
        /// Refused: `limits.max_torrents`.
        TorrentLimit = "torrent_limit",
        /// Refused: `limits.max_peers`.
        PeerLimit = "peer_limit",
        /// Refused: `limits.max_swarm_memory`.
        MemoryLimit = "memory_limit",
        /// Refused: `limits.max_peers_per_ip`.
        PeersPerIp = "peers_per_ip",
        /// Answered, but the peer was not kept: `limits.max_peers_per_ip_and_torrent`.
        PeersPerIpAndTorrent = "peers_per_ip_and_torrent",
    }
}

impl counters::ReasonLabel for Reason {
    fn is_refusal(self) -> bool {
        self != Self::ConnectionGone
    }
}

/// How long requests wait for their answers, from the round of receiving that brought them to the
/// one that writes the answers.
#[derive(Debug, Default)]
pub struct ResponseTimes {
    /// By the smallest bound that they are not above.
    buckets: [Counter; Self::BOUNDS_MICROS.len()],
    /// Above all bounds.
    longer: Counter,
    /// Of all together.
    pub sum_micros: Counter,
}

impl ResponseTimes {
    /// Upper bounds of the buckets, in microseconds.
    pub const BOUNDS_MICROS: [u64; 12] = [
        50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
    ];

    /// Counts a request.
    pub fn add(&self, micros: u64) {
        let mut bounds = Self::BOUNDS_MICROS.iter().zip(&self.buckets);
        let bucket = bounds.find(|(bound, _)| micros <= **bound);
        bucket.map_or(&self.longer, |(_, bucket)| bucket).add(1);
        self.sum_micros
            .add(usize::try_from(micros).unwrap_or(usize::MAX));
    }

    /// For each bound how many requests did not take longer, and how many there are in all.
    #[must_use]
    pub fn totals(&self) -> ([u64; Self::BOUNDS_MICROS.len()], u64) {
        let mut sum = 0;
        let totals = self.buckets.each_ref().map(|bucket| {
            sum += bucket.get();
            sum
        });
        (totals, sum + self.longer.get())
    }
}
