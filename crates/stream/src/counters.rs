//! What is counted about connections.

use aquatic_daemon::counter::{Counter, Counts};
use aquatic_daemon::labels;
use aquatic_types::PerFamily;

labels! {
    /// Why a connection was refused before its first request.
    pub enum Refused {
        /// There are [`max_connections`](crate::StreamConfig::max_connections) already.
        TooMany = "max_connections",
        /// Its client has [`max_connections_per_ip`](crate::StreamConfig::max_connections_per_ip)
        /// already.
        TooManyOfClient = "max_connections_per_ip",
        /// Its client sends more than
        /// [`requests_per_second_per_ip`](aquatic_config::LimitsConfig::requests_per_second_per_ip)
        /// allows, new connections and TLS handshakes included.
        RequestRate = "requests_per_second_per_ip",
        /// Its address is not one of `trusted_proxies`, and only they may open connections.
        UntrustedProxy = "untrusted_proxy",
        /// Its client is in the list of
        /// [`networks_deny_path`](aquatic_config::AccessListConfig::networks_deny_path).
        NetworkDenied = "network_denied",
    }
}

labels! {
    /// Why a connection has ended.
    pub enum Closed {
        /// The client closed it, or vanished.
        ByClient = "client",
        /// The session closed it, and everything was sent.
        BySession = "session",
        /// The process is about to stop.
        Restart = "restart",
        /// The PROXY header or the TLS handshake took too long.
        HandshakeDeadline = "handshake_deadline",
        /// A request took too long to arrive.
        RequestDeadline = "request_deadline",
        /// Nothing came for too long.
        IdleDeadline = "idle_deadline",
        /// The client did not read what was sent to it for too long.
        SendDeadline = "send_deadline",
        /// More was to be sent than may wait.
        OutputFull = "output_full",
        /// The PROXY header is not one.
        ProxyHeader = "proxy_header",
        /// The client that the PROXY header names, or its TLS handshake, was [refused](Refused).
        Refused = "refused",
        /// The list of denied networks has been replaced, and its client is in the new one.
        NetworkDenied = "network_denied",
        /// There was no room for another connection, and this one gave way.
        Evicted = "evicted",
        /// All connections together held more memory than they may, and this one held most.
        Memory = "max_connection_memory",
        /// The TLS handshake failed, or a record was not genuine.
        Tls = "tls",
    }
}

labels! {
    /// How a TLS handshake ended.
    pub enum Handshake {
        /// With a new secret, which costs a signature.
        Full = "full",
        /// With the secret of an earlier connection.
        Resumed = "resumed",
        /// It did not: the client is no TLS client, or does not accept what we have.
        Failed = "failed",
    }
}

/// What one worker counts about its connections. Totals since the start, but for `active` and
/// `held_bytes`.
#[derive(Debug, Default)]
#[repr(align(128))] // No other worker's writes disturb this worker's cache lines.
pub struct StreamCounters {
    /// Connections that are open now, by the family of the client.
    pub active: PerFamily<Counter>,
    /// Connections that were accepted, by the family of the client.
    pub accepted: PerFamily<Counter>,
    /// Connections that were refused.
    pub refused: Counts<Refused>,
    /// Connections that were accepted and have ended.
    pub closed: Counts<Closed>,
    /// TLS handshakes.
    pub handshakes: Counts<Handshake>,
    /// Bytes received, as they came over the wire above TCP.
    pub received_bytes: PerFamily<Counter>,
    /// Bytes sent, likewise.
    pub sent_bytes: PerFamily<Counter>,
    /// Bytes that connections hold now, together: see
    /// [`max_connection_memory`](crate::StreamConfig::max_connection_memory).
    pub held_bytes: Counter,
    /// Times that no connection could be accepted, for want of files, say.
    pub accept_failures: Counter,
    /// Those of them that were for want of files.
    pub accepts_without_files: Counter,
}
