//! Everything that is counted about datagrams, in one list.

use aquatic_daemon::labels;
pub use aquatic_tracker::metrics::counters::{Counter, Label, LimitNote, Protocol, ReasonLabel};

/// The protocol, as far as counting goes.
pub enum Udp {}

impl Protocol for Udp {
    type Request = RequestKind;
    type Response = ResponseKind;
    type Reason = Reason;
    const NAME: &'static str = "udp";
    const PAYLOAD: &'static str = "UDP payload";
    const IS_PARTLY_IN_KERNEL: bool = true;
}

/// What one worker counts.
pub type WorkerCounters = aquatic_tracker::metrics::counters::WorkerCounters<Udp>;

/// What one worker counts about the datagrams of one IP family.
pub type TrafficCounters = aquatic_tracker::metrics::counters::TrafficCounters<Udp>;

labels! {
    /// `aquatic_requests_by_type_total{type}`.
    pub enum RequestKind {
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
    pub enum ResponseKind {
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
    pub enum Reason {
        /// Dropped: shorter than what it claims to be.
        TooShort = "too_short",
        /// Dropped: a frame of AF_XDP (`network.xdp`) with a checksum or lengths that are wrong. Of
        /// those in the network stack nobody hears.
        Damaged = "damaged",
        /// Dropped: longer than any request, so it was cut off.
        TooLong = "too_long",
        /// Dropped: neither connect nor announce nor scrape.
        UnknownAction = "unknown_action",
        /// Dropped: action 0 without the protocol's magic number.
        NotConnect = "not_connect",
        /// Dropped: something is wrong with it, and its connection id is not valid either.
        Unconnected = "unconnected",
        /// Dropped in the kernel (`network.socket_filter`, `network.xdp`): a connection id that
        /// nobody was given, after others in the same second. A filter without counters drops for
        /// other reasons as well, and a full receive buffer.
        ForgedId = "forged_id",
        /// Dropped: nothing could be sent to port 0.
        SourcePortZero = "source_port_zero",
        /// Dropped: sent from a network in the list of `access_list.networks_deny_path`.
        NetworkDenied = "network_denied",
        /// Dropped: more requests than `limits.requests_per_second_per_ip`.
        RequestRate = "request_rate",
        /// Dropped by a program in the kernel: connect requests, more than
        /// `network.xdp_answers_per_second`.
        AnswerRate = "answer_rate",
        /// Dropped by the kernel: the socket's receive buffer was full, or a queue of AF_XDP (which
        /// counts as IPv4, since nobody has looked). The only reason that is about datagrams which
        /// nobody has looked at: not all of them need be requests.
        ReceiveBufferFull = "receive_buffer_full",
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

impl ReasonLabel for Reason {
    fn is_refusal(self) -> bool {
        match self {
            Self::TooShort
            | Self::Damaged
            | Self::TooLong
            | Self::UnknownAction
            | Self::NotConnect
            | Self::Unconnected
            | Self::ForgedId
            | Self::SourcePortZero
            | Self::NetworkDenied
            | Self::RequestRate
            | Self::AnswerRate
            | Self::ReceiveBufferFull
            | Self::QueueFull
            | Self::SendFailed
            | Self::SendBufferFull => false,
            Self::ConnectionId
            | Self::PortZero
            | Self::NoInfoHash
            | Self::InfoHashDenied
            | Self::KeyMissing
            | Self::KeyUnknown
            | Self::KeyExpired
            | Self::KeyPeerLimit
            | Self::PeerIdDenied
            | Self::TorrentLimit
            | Self::PeerLimit
            | Self::MemoryLimit
            | Self::PeersPerIp
            | Self::PeersPerIpAndTorrent => true,
        }
    }

    fn limit(self) -> Option<LimitNote> {
        match self {
            Self::ReceiveBufferFull => Some(LimitNote::new(
                "datagrams lost, since a receive buffer was full",
                "see `network.socket_recv_buffer_size` (with `network.xdp = \"full\"`: more \
                 queues) and `socket_workers`",
            )),
            Self::AnswerRate => Some(LimitNote::new(
                "connect requests not answered by the program in front of the network stack",
                "see `network.xdp_answers_per_second`",
            )),
            Self::SendBufferFull => Some(LimitNote::new(
                "answers lost, since a send buffer was full",
                "see `network.socket_send_buffer_size`",
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use aquatic_types::IpFamily;

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
