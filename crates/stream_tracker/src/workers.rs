//! A tracker, as a list of parts.

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::{Bounds, Handler};
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::metrics::counters::Protocol;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_tracker::torrents::readable::Readable;
use aquatic_tracker::torrents::reading::ShardReaders;

use crate::CommonConfig;

/// A tracker over TCP: what differs by protocol.
pub trait StreamTracker: Protocol {
    /// What an operator can set.
    type Config: aquatic_config::Config + Clone + Send + Sync + 'static;
    /// What a socket worker does with its connections.
    type SocketWorker: Handler + MayOwnShard + Send + 'static;
    /// Swarms, and what is answered about them.
    type Shard: Readable;
    /// What they are called.
    const SWARMS: &'static str;

    /// What clients are told in TLS that is spoken here. Who offers only others is turned away.
    const ALPN_PROTOCOLS: &'static [&'static [u8]];
    /// How the tracker's URLs begin, without TLS and with it.
    const SCHEMES: [&'static str; 2];
    /// How they end, after the address.
    const PATH: &'static str;
    /// What an operator can do if connections are closed because clients do not read what is sent
    /// to them, if anything.
    const OUTPUT_ADVICE: Option<&'static str>;

    /// What all these trackers have.
    fn common(config: &Self::Config) -> CommonConfig<'_>;
}

/// A socket worker that owns a shard, or none.
pub trait MayOwnShard {
    /// Has that shard process what others have sent, before this worker has a thread. Returns how
    /// much that was.
    fn process_for_others(&mut self, now: Now) -> usize;
}

/// The socket workers of a front end, ready to work.
pub struct FrontEndWorkers<T: StreamTracker> {
    /// In order.
    pub socket_workers: Vec<T::SocketWorker>,
    /// `limits.requests_per_second_per_ip`.
    pub request_rate: Arc<RequestRate>,
    /// What they count.
    pub counted: Counted<T>,
    /// What holds for each connection.
    pub bounds: Bounds,
    /// What they follow.
    pub settings: LiveSettings<Arc<T::Config>>,
    /// How often metrics are updated.
    pub metrics_interval: LiveSettings<Duration>,
}

/// Has the workers go by another configuration from now on, as far as that does not need a restart
/// ([`aquatic_config::reloading`]).
pub type Follow<C> = Box<dyn Fn(&C)>;

/// All workers of a tracker, ready to work.
pub struct Workers<T: StreamTracker> {
    /// One for each socket worker.
    pub socket_workers: Vec<T::SocketWorker>,
    /// One for each swarm worker; none if the socket workers own the swarms.
    pub swarm_workers: Vec<SwarmWorker<T::Shard>>,
    /// Writes down what outlives the process, if anything does.
    pub snapshotter: Option<Snapshotter>,
    /// Read the torrents.
    pub readers: ShardReaders<T::Shard>,
    /// What a client may have and do.
    pub limits: ClientLimits,
    /// What the workers follow: they have been made with the same.
    pub settings: LiveSettings<Arc<T::Config>>,
    /// Changes what the shards go by, besides.
    pub follow: Follow<T::Config>,
    /// What they count, and their shards report.
    pub counted: Counted<T>,
}

impl<T: StreamTracker> Workers<T> {
    /// Has all shards process what others have sent, before the workers have threads. Returns how
    /// much that was.
    pub fn process_for_others(&mut self, now: Now) -> usize {
        let socket_workers = self.socket_workers.iter_mut();
        let owned = socket_workers.map(|worker| worker.process_for_others(now));
        let swarm_workers = self.swarm_workers.iter_mut();
        let other = swarm_workers.map(|worker| worker.process(now));
        owned.chain(other).sum()
    }
}
