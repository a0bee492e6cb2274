//! A tracker, as a list of parts.

use std::sync::Arc;

use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::Handler;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::counters::Protocol;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::Shard;
use aquatic_tracker::shard::swarm_worker::SwarmWorker;

/// A tracker over TCP: what differs by protocol.
pub trait StreamTracker: Protocol {
    /// What a socket worker does with its connections.
    type SocketWorker: Handler + Send + 'static;
    /// Swarms, and what is answered about them.
    type Shard: Shard;

    /// What clients are told in TLS that is spoken here. Who offers only others is turned away.
    const ALPN_PROTOCOLS: &'static [&'static [u8]];
    /// How the tracker's URLs begin, without TLS and with it.
    const SCHEMES: [&'static str; 2];
    /// How they end, after the address.
    const PATH: &'static str;
    /// What an operator can do if connections are closed because clients do not read what is sent
    /// to them, if anything.
    const OUTPUT_ADVICE: Option<&'static str>;
}

/// All workers of a tracker, ready to work.
pub struct Workers<T: StreamTracker> {
    /// One for each socket worker.
    pub socket_workers: Vec<T::SocketWorker>,
    /// One for each swarm worker; none if the socket workers own the swarms.
    pub swarm_workers: Vec<SwarmWorker<T::Shard>>,
    /// Writes down what outlives the process, if anything does.
    pub snapshotter: Option<Snapshotter>,
    /// `limits.requests_per_second_per_ip`, if requests are limited.
    pub request_rate: Option<Arc<RequestRate>>,
    /// What they count, and their shards report.
    pub counted: Counted<T>,
}
