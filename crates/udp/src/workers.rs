//! All workers of the tracker, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_swarm::HashKey;
use aquatic_tracker::admission::Admission;
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::dispatch::topology::per_worker;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::metrics::report::ShardReport;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::{Udp, WorkerCounters};
use crate::export::ExportWriter;
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
}

/// What [`build_workers`] needs besides the configuration.
pub struct Dependencies {
    /// Which torrents are allowed.
    pub access_list: SharedAccessList,
    /// Wakes each worker: first the socket workers, then the swarm workers.
    pub wakers: Vec<Waker>,
    /// What is to be done about swarms that outlive the process.
    pub persistence: Persistence,
    /// For scrape exports, one for each shard, if enabled.
    pub export_writers: Vec<ExportWriter>,
    /// Sockets of each socket worker.
    pub sockets: usize,
    /// What connection ids are made with; `None`: a secret of this process.
    pub connection_secret: Option<[u64; 2]>,
    /// What the system's clock says at the zero of the daemon's, in microseconds since 1970.
    pub unix_micros: u64,
}

/// Makes all workers.
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
        export_writers,
        sockets,
        connection_secret,
        unix_micros,
    } = dependencies;
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = per_worker(topology.workers());
    let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());
    let connection_secret = match connection_secret {
        Some(secret) => secret,
        None => entropy.key()?,
    };
    let age_seconds = config.cleaning.max_connection_age;
    let connection_ids = ConnectionIds::new(connection_secret, age_seconds, unix_micros);
    let hash_key = HashKey::new(entropy.key()?);
    let shard_key = ShardKey::new(entropy.bytes()?);
    let request_rate = RequestRate::from_config(&config.limits.tracker, entropy.key()?);

    let owners = topology.of_owners(&counters);
    let shard_config = config.address_shards();
    let mut shards = shard_config.shards(owners, &reports, &access_list, hash_key, entropy)?;
    let peer_age_seconds_max = shard_config.peer_age_seconds_max;
    persistence.restore(&mut shards, &shard_key, &access_list, peer_age_seconds_max);
    let mut shards = ShardSet::new(shard_key, topology, &wakers, shards);
    let dispatchers = shards.connect(&wakers, BATCHES_MAX, |shard| ResponseWriter {
        counters: owners.get(shard).cloned().unwrap_or_default(),
        announce_interval_seconds: config.protocol.peer_announce_interval,
        sockets,
    });
    for (shard, writer) in export_writers.into_iter().enumerate() {
        shards.attach(shard, Box::new(writer));
    }
    let of_owners = topology.of_owners(&wakers);
    let snapshotter = persistence.attach(&mut shards, entropy.number()?, of_owners);
    let owners = shards.into_owners();
    let socket_workers = dispatchers.into_iter().zip(owners.socket_workers);
    let core = |((dispatcher, owner), counters)| {
        let admission = Admission {
            access_list: access_list.reader(),
            request_rate: request_rate.clone(),
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            counters: Arc::clone(counters),
        };
        let service = Service::new(config, connection_ids.clone(), admission);
        SocketWorker::new(service, dispatcher, owner, sockets, Arc::clone(counters))
    };
    Ok(Workers {
        socket_workers: socket_workers.zip(&counters).map(core).collect(),
        swarm_workers: owners.swarm_workers,
        snapshotter,
        shard_key,
        counted: Counted {
            workers: counters,
            reports,
        },
    })
}
