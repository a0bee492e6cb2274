//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_cluster::Cluster;
use aquatic_daemon::live::LiveSettings;
use aquatic_keys::SharedKeys;
use aquatic_tracker::admission::{Admission, peer_id_rules};
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::dispatch::topology::per_worker;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressShardParts, AddressShards, FinishedShards,
};

use crate::config::Config;
use crate::counters::{Http, ResponseTimes};
use crate::messages::BATCHES_MAX;
use crate::response_writer::ResponseWriter;
use crate::service::Service;
use crate::socket_worker::SocketWorker;

/// All workers of a tracker, ready to work.
pub type Workers = aquatic_stream_tracker::Workers<Http>;

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
}

/// Socket workers that are connected with all shards, but own none yet.
pub struct ConnectedWorkers {
    /// In order.
    pub socket_workers: Vec<SocketWorker>,
    /// What they count.
    pub counted: Counted<Http>,
    /// How long their answers take, by socket worker.
    pub response_times: Vec<Arc<ResponseTimes>>,
}

impl ConnectedWorkers {
    /// Gives each worker the shard that belongs to its thread, if one does.
    pub fn own(&mut self, owners: Vec<Option<Box<ShardOwner<AddressShard>>>>) {
        for (worker, owner) in self.socket_workers.iter_mut().zip(owners) {
            worker.own(owner);
        }
    }
}

/// Makes all workers of a tracker that serves nothing but HTTP, and what tells how long their
/// answers take, by socket worker. `wakers` wake them: first the socket workers, then the swarm
/// workers. `persistence` says what becomes of the swarms, which are shared with the `cluster`.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn build_workers(
    config: &Config,
    access_list: &SharedAccessList,
    wakers: &[Waker],
    persistence: Persistence,
    cluster: Option<&mut Cluster>,
    entropy: &mut impl Entropy,
) -> anyhow::Result<(Workers, Vec<Arc<ResponseTimes>>)> {
    let topology = config.topology();
    let limits = ClientLimits::from_config(&config.limits.connections.tracker, entropy)?;
    let parts = AddressShardParts {
        topology,
        wakers,
        access_list,
        peers_per_ip: limits.peers_per_ip.clone(),
        persistence,
        sharing: cluster.as_deref().map(Cluster::refresh),
    };
    let shard_config = config.address_shards();
    let mut shards = shard_config.build(parts, entropy)?;
    let live_shards = shards.follow(&shard_config);
    if let Some(cluster) = cluster {
        cluster.share_addresses(&mut shards);
    }
    let settings = LiveSettings::new(Arc::new(config.clone()));
    let parts = FrontEndParts {
        front_end: FrontEnd {
            wakers: topology.of_socket_workers(wakers),
            is_at_home: true,
        },
        access_list,
        limits: &limits,
        settings: &settings,
    };
    let mut connected = connect_workers(config, &mut shards, &parts);
    let FinishedShards {
        owners,
        snapshotter,
        readers,
    } = shards.finish();
    connected.own(owners.socket_workers);
    let workers = Workers {
        socket_workers: connected.socket_workers,
        swarm_workers: owners.swarm_workers,
        snapshotter,
        readers,
        limits,
        settings,
        follow: Box::new(move |config: &Config| live_shards.set(&config.address_shards())),
        counted: connected.counted,
    };
    Ok((workers, connected.response_times))
}

/// Makes the socket workers, and connects them with all shards.
pub fn connect_workers(
    config: &Config,
    shards: &mut AddressShards,
    parts: &FrontEndParts<'_>,
) -> ConnectedWorkers {
    let (protocol, peer_age_seconds) = (&config.protocol, config.cleaning.max_peer_age);
    let mut seeds = 0..;
    let connected = shards.connect(parts.front_end, BATCHES_MAX, |counters| {
        let settings = parts.settings.reader();
        let intervals = AnnounceIntervals::new(
            Http::NAME,
            protocol.peer_announce_interval,
            &protocol.intervals,
            &parts.limits.stretch,
            seeds.next().unwrap_or_default(),
        );
        let min_seconds = config.intervals().min_seconds;
        ResponseWriter::new(counters, intervals, min_seconds, peer_age_seconds, settings)
    });
    let (counted, dispatchers) = (connected.counted, connected.dispatchers);
    let response_times: Vec<Arc<ResponseTimes>> = per_worker(dispatchers.len());
    let workers = dispatchers.into_iter().zip(&counted.workers);
    let workers = workers.zip(&response_times);
    let socket_workers = workers.map(|((dispatcher, counters), response_times)| {
        let admission = Admission {
            access_list: parts.access_list.reader(),
            keys: SharedKeys::off().reader(),
            request_rate: Arc::clone(&parts.limits.request_rate),
            peer_ids: peer_id_rules(&config.access_list),
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            counters: Arc::clone(counters),
            announces: None,
        };
        SocketWorker::new(
            Service::new(config, admission),
            dispatcher,
            Arc::clone(counters),
            Arc::clone(response_times),
        )
        .following(parts.settings.reader())
    });
    ConnectedWorkers {
        socket_workers: socket_workers.collect(),
        counted,
        response_times,
    }
}
