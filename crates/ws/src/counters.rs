//! Everything that is counted about messages, in one list.
//!
//! What is counted about connections is [`aquatic_stream`]'s; what is counted about swarms, and the
//! counters themselves, are [`aquatic_tracker`]'s.

use aquatic_daemon::labels;
use aquatic_tracker::metrics::counters::{self, LimitNote, Protocol};
use aquatic_ws_protocol::RequestErrorKind;

/// The WebTorrent tracker protocol.
#[derive(Clone, Copy, Debug)]
pub enum WebTorrent {}

impl Protocol for WebTorrent {
    type Request = RequestKind;
    type Response = ResponseKind;
    type Reason = Reason;
    const NAME: &'static str = "ws";
    const PAYLOAD: &'static str = "TCP payload";
}

/// What a worker counts about messages and swarms.
pub type WorkerCounters = counters::WorkerCounters<WebTorrent>;

/// What a worker counts about the messages of one IP family.
pub type TrafficCounters = counters::TrafficCounters<WebTorrent>;

labels! {
    /// `aquatic_requests_by_type_total{type}`.
    pub enum RequestKind {
        /// Announce, with or without offers.
        Announce = "announce",
        /// Answer to an offer.
        Answer = "answer",
        /// Scrape.
        Scrape = "scrape",
    }
}

labels! {
    /// `aquatic_responses_total{type}`: everything that is sent to clients, also what other clients
    /// have for them.
    pub enum ResponseKind {
        /// Reply to an announce.
        Announce = "announce",
        /// Another peer's offer.
        Offer = "offer",
        /// Another peer's answer to an offer.
        Answer = "answer",
        /// Reply to a scrape.
        Scrape = "scrape",
        /// A refusal, over the WebSocket or instead of it.
        Error = "error",
    }
}

labels! {
    /// Why a message was not served, or not sent: `aquatic_refused_total{reason}` for what got a
    /// refusal, `aquatic_dropped_total{reason}` for what got nothing.
    pub enum Reason {
        /// Dropped: the connection was gone before the message for it was ready.
        ConnectionGone = "connection_gone",
        /// Dropped: an offer or answer for a connection of a worker that does not keep up.
        DeliveryFull = "delivery_full",
        /// Dropped: an offer or answer for a client that does not read: a quarter of
        /// `network.websocket_write_buffer_size` waits for it already.
        ReceiverFull = "receiver_full",
        /// Dropped: an offer for a client that gets
        /// `protocol.max_offers_per_second_per_receiver` already.
        OfferRate = "offer_rate",
        /// Dropped: an offer larger than `protocol.max_offer_size`.
        OfferSize = "offer_size",
        /// Refused: an answer larger than `protocol.max_offer_size`.
        AnswerSize = "answer_size",
        /// Refused with 4xx: no HTTP, or an HTTP request that does not ask for a WebSocket.
        NotWebSocket = "not_websocket",
        /// Refused with 408 or a close frame: a request or message that was begun, and did not come
        /// whole in `network.request_timeout`.
        TimedOut = "timed_out",
        /// Refused with 403: not one of `network.allowed_origins`.
        Origin = "origin",
        /// Refused with 403: not sent by one of `network.trusted_proxies`.
        UntrustedProxy = "untrusted_proxy",
        /// Refused with 403: for a client in the list of `access_list.networks_deny_path`, by way
        /// of a reverse proxy. (Others are not even accepted.)
        NetworkDenied = "network_denied",
        /// Refused with 400: the reverse proxy has not told who the client is.
        ProxyHeader = "proxy_header",
        /// Refused, with a closed connection: bytes that are no WebSocket frame of a client.
        Frame = "frame",
        /// Refused, with a closed connection: a message or frame larger than allowed.
        MessageSize = "message_size",
        /// Refused: not a JSON object in UTF-8, or nested too deep.
        Json = "json",
        /// Refused: `action` is missing or unknown.
        Action = "action",
        /// Refused: `info_hash` is missing or does not stand for 20 bytes.
        InfoHash = "info_hash",
        /// Refused: `peer_id` is missing or does not stand for 20 bytes.
        PeerId = "peer_id",
        /// Refused: an answer without `to_peer_id`, `offer_id` or `answer`.
        Answer = "answer",
        /// Refused: an answer to an offer that the answerer has not got, or too late.
        OfferUnknown = "offer_unknown",
        /// Refused: an answer by a peer that is not in the swarm over this connection.
        NotInSwarm = "not_in_swarm",
        /// Refused: more torrents than `protocol.max_torrents_per_connection`, or more than eight
        /// peer ids in one of them.
        TorrentsPerConnection = "torrents_per_connection",
        /// Refused: more messages than `limits.requests_per_second_per_ip`.
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
        !matches!(
            self,
            Self::ConnectionGone
                | Self::DeliveryFull
                | Self::ReceiverFull
                | Self::OfferRate
                | Self::OfferSize
        )
    }

    fn limit(self) -> Option<LimitNote> {
        match self {
            Self::DeliveryFull => Some(LimitNote::new(
                "offers and answers lost, since the worker of their receiver does not keep up",
                "see `socket_workers`",
            )),
            Self::ReceiverFull => Some(LimitNote::new(
                "offers and answers lost, since their receiver does not read",
                "see `network.websocket_write_buffer_size`",
            )),
            Self::OfferRate => Some(LimitNote::new(
                "offers lost, whose receiver gets too many",
                "see `protocol.max_offers_per_second_per_receiver`",
            )),
            Self::OfferSize => Some(LimitNote::new(
                "offers not passed on, since they are too large",
                "see `protocol.max_offer_size`",
            )),
            Self::AnswerSize => Some(LimitNote::new(
                "answers to offers refused, since they are too large",
                "see `protocol.max_offer_size`",
            )),
            Self::Origin => Some(LimitNote::new(
                "pages of other sites turned away",
                "see `network.allowed_origins`",
            )),
            Self::MessageSize => Some(LimitNote::new(
                "connections closed, whose client sent too large a message",
                "see `network.websocket_max_message_size`",
            )),
            Self::TorrentsPerConnection => Some(LimitNote::new(
                "announces refused, whose connection has too many torrents",
                "see `protocol.max_torrents_per_connection`",
            )),
            _ => None,
        }
    }
}

impl From<RequestErrorKind> for Reason {
    fn from(kind: RequestErrorKind) -> Self {
        match kind {
            RequestErrorKind::Utf8 | RequestErrorKind::Json | RequestErrorKind::Depth => Self::Json,
            RequestErrorKind::ActionMissing | RequestErrorKind::ActionUnknown => Self::Action,
            RequestErrorKind::InfoHashMissing | RequestErrorKind::InfoHashSize => Self::InfoHash,
            RequestErrorKind::PeerIdMissing | RequestErrorKind::PeerIdSize => Self::PeerId,
            RequestErrorKind::ToPeerIdMissing
            | RequestErrorKind::ToPeerIdSize
            | RequestErrorKind::OfferIdMissing
            | RequestErrorKind::OfferIdSize
            | RequestErrorKind::AnswerMissing => Self::Answer,
            RequestErrorKind::AnswerSize => Self::AnswerSize,
        }
    }
}
