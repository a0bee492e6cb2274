//! All workers of the tracker, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::live::LiveSettings;
use aquatic_keys::SharedKeys;
use aquatic_tracker::admission::{Admission, peer_id_rules};
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressShardParts, AddressShards, FinishedShards, LiveAddressShards,
};
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::Udp;
use crate::live::LiveFrontEnd;
use crate::messages::BATCHES_MAX;
use crate::response_writer::ResponseWriter;
use crate::service::Service;
use crate::socket_worker::SocketWorker;

/// All workers of a tracker, ready to work.
pub struct Workers {
    /// One for each socket worker.
    pub socket_workers: Vec<SocketWorker>,
    /// One for each swarm worker; none if the socket workers own the swarms.
    pub swarm_workers: Vec<SwarmWorker<AddressShard>>,
    /// What they count, and their shards report.
    pub counted: Counted<Udp>,
    /// Writes the swarms down, if they are to be.
    pub snapshotter: Option<Snapshotter>,
    /// Decides, like the kernel, which shard a torrent belongs to.
    pub shard_key: ShardKey,
    /// Change what the workers, and what the shards go by.
    pub live: (LiveFrontEnd, LiveAddressShards),
}

/// What [`build_workers`] needs besides the configuration.
pub struct Dependencies {
    /// Which torrents are allowed.
    pub access_list: SharedAccessList,
    /// Wakes each worker: first the socket workers, then the swarm workers.
    pub wakers: Vec<Waker>,
    /// What is to be done about swarms that outlive the process.
    pub persistence: Persistence,
    /// Sockets of each socket worker.
    pub sockets: usize,
    /// What connection ids are made with; `None`: a secret of this process.
    pub connection_secret: Option<[u64; 2]>,
    /// What the system's clock says at the zero of the daemon's, in microseconds since 1970.
    pub unix_micros: u64,
}

/// What [`connect_workers`] needs besides the configuration.
pub struct FrontEndParts<'a> {
    /// Where the workers will run.
    pub front_end: FrontEnd<'a>,
    /// Which torrents are allowed.
    pub access_list: &'a SharedAccessList,
    /// How much a client may ask, and when it is told to come again.
    pub limits: &'a ClientLimits,
    /// What the workers follow: they are made with the same.
    pub settings: &'a LiveSettings<Arc<Config>>,
    /// Sockets of each socket worker.
    pub sockets: usize,
    /// What connection ids are made with; `None`: a secret of this process.
    pub connection_secret: Option<[u64; 2]>,
    /// What the system's clock says at the zero of the daemon's, in microseconds since 1970.
    pub unix_micros: u64,
}

/// Makes all workers of a tracker that serves nothing but UDP.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn build_workers(
    config: &Config,
    dependencies: Dependencies,
    entropy: &mut impl Entropy,
) -> anyhow::Result<Workers> {
    let Dependencies {
        access_list,
        wakers,
        persistence,
        sockets,
        connection_secret,
        unix_micros,
    } = dependencies;
    let topology = config.topology();
    let limits = ClientLimits::from_config(&config.limits.tracker, entropy)?;
    let parts = AddressShardParts {
        topology,
        wakers: &wakers,
        access_list: &access_list,
        peers_per_ip: limits.peers_per_ip.clone(),
        persistence,
        sharing: None,
    };
    let shard_config = config.address_shards();
    let mut shards = shard_config.build(parts, entropy)?;
    let live = (LiveFrontEnd::new(config), shards.follow(&shard_config));
    let shard_key = shards.key();
    let parts = FrontEndParts {
        front_end: FrontEnd {
            wakers: topology.of_socket_workers(&wakers),
            is_at_home: true,
        },
        access_list: &access_list,
        limits: &limits,
        settings: &live.0.settings,
        sockets,
        connection_secret,
        unix_micros,
    };
    let (mut socket_workers, counted) = connect_workers(config, &mut shards, parts, entropy)?;
    let FinishedShards {
        owners,
        snapshotter,
        readers: _,
    } = shards.finish();
    for (worker, owner) in socket_workers.iter_mut().zip(owners.socket_workers) {
        worker.own(owner);
    }
    Ok(Workers {
        socket_workers,
        swarm_workers: owners.swarm_workers,
        snapshotter,
        live,
        shard_key,
        counted,
    })
}

/// Makes the socket workers, which own no shard yet, and connects them with all shards.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn connect_workers(
    config: &Config,
    shards: &mut AddressShards,
    parts: FrontEndParts<'_>,
    entropy: &mut impl Entropy,
) -> anyhow::Result<(Vec<SocketWorker>, Counted<Udp>)> {
    let FrontEndParts {
        front_end,
        access_list,
        limits,
        settings,
        sockets,
        connection_secret,
        unix_micros,
    } = parts;
    let connection_secret = match connection_secret {
        Some(secret) => secret,
        None => entropy.key()?,
    };
    let age_seconds = config.cleaning.max_connection_age;
    let connection_ids = ConnectionIds::new(connection_secret, age_seconds, unix_micros);
    let mut seeds = 0..;
    let connected = shards.connect(front_end, BATCHES_MAX, |counters| ResponseWriter {
        counters,
        intervals: AnnounceIntervals::new(
            Udp::NAME,
            config.protocol.peer_announce_interval,
            &config.protocol.intervals,
            &limits.stretch,
            seeds.next().unwrap_or_default(),
        ),
        peer_age_seconds: config.cleaning.max_peer_age,
        settings: settings.reader(),
        sockets,
    });
    let counted = connected.counted;
    let workers = connected.dispatchers.into_iter().zip(&counted.workers);
    let workers = workers.map(|(dispatcher, counters)| {
        let admission = Admission {
            access_list: access_list.reader(),
            keys: SharedKeys::off().reader(),
            request_rate: Arc::clone(&limits.request_rate),
            peer_ids: peer_id_rules(&config.access_list),
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            counters: Arc::clone(counters),
            announces: None,
        };
        let service = Service::new(config, connection_ids.clone(), admission);
        let counters = Arc::clone(counters);
        let worker = SocketWorker::new(service, dispatcher, sockets, counters);
        worker.following(settings.reader())
    });
    Ok((workers.collect(), counted))
}
