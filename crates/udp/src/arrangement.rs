//! All workers of the tracker, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::{AccessListReader, SharedAccessList};
use aquatic_channel::Waker;
use aquatic_daemon::per_client::PerClient;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_swarm::HashKey;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::{self, bytes_per_shard, per_shard_and_address};
use aquatic_tracker::maintenance::{MaintenanceSettings, Reporting};
use aquatic_tracker::registry::{AddressShard, RegistryParts, RegistrySettings};
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::shard_set::ShardSet;
use aquatic_tracker::swarm_worker::SwarmWorker;
use aquatic_tracker::topology::for_each;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::{Udp, WorkerCounters};
use crate::export::ExportWriter;
use crate::messages::BATCHES_MAX;
use crate::response_writer::ResponseWriter;
use crate::service::{Service, ServiceParts};
use crate::socket_worker::Core;

/// All workers of a tracker, ready to work.
pub struct Arrangement {
    /// One for each socket worker.
    pub cores: Vec<Core>,
    /// One for each swarm worker; none if the socket workers own the swarms.
    pub swarm_workers: Vec<SwarmWorker<AddressShard>>,
    /// What they count, and their shards report.
    pub counted: Counted<Udp>,
    /// Decides, like the kernel, which shard a torrent belongs to.
    pub shard_key: ShardKey,
}

/// What [`arrange`] needs besides the configuration.
pub struct Surroundings {
    /// Which torrents are allowed.
    pub access_list: SharedAccessList,
    /// Wakes each worker: first the socket workers, then the swarm workers.
    pub wakers: Vec<Waker>,
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
pub fn arrange(
    config: &Config,
    surroundings: Surroundings,
    entropy: &mut impl Entropy,
) -> anyhow::Result<Arrangement> {
    let Surroundings {
        access_list,
        wakers,
        export_writers,
        sockets,
        connection_secret,
        unix_micros,
    } = surroundings;
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = for_each(topology.workers());
    let reports: Vec<Arc<ShardReport>> = for_each(topology.shards());
    let connection_secret = match connection_secret {
        Some(secret) => secret,
        None => entropy.key()?,
    };
    let age_seconds = config.cleaning.max_connection_age;
    let connection_ids = ConnectionIds::new(connection_secret, age_seconds, unix_micros);
    let secrets = Secrets::draw(config, connection_ids, entropy)?;

    let owners = topology.of_owners(&counters);
    let mut shards = Vec::new();
    for (report, counters) in reports.iter().zip(owners) {
        let reporting = Reporting::new(counters, report);
        let parts = secrets.registry_parts(access_list.reader(), reporting, entropy)?;
        let counts_clients = config.statistics.metrics.peer_clients;
        shards.push(AddressShard::new(
            counts_clients,
            registry_settings(config),
            parts,
        ));
    }
    let mut shards = ShardSet::new(secrets.shard_key, topology, &wakers, shards);
    let dispatchers = shards.connect(&wakers, BATCHES_MAX, |shard| ResponseWriter {
        counters: owners.get(shard).cloned().unwrap_or_default(),
        announce_interval_seconds: config.protocol.peer_announce_interval,
        sockets,
    });
    for (shard, writer) in export_writers.into_iter().enumerate() {
        shards.attach(shard, Box::new(writer));
    }
    let owners = shards.into_owners();
    let cores = dispatchers.into_iter().zip(owners.socket_workers);
    let core = |((dispatcher, owner), counters)| {
        let parts = secrets.service_parts(access_list.reader(), counters);
        let service = Service::new(config, parts);
        Core::new(service, dispatcher, owner, sockets, Arc::clone(counters))
    };
    Ok(Arrangement {
        cores: cores.zip(&counters).map(core).collect(),
        swarm_workers: owners.swarm_workers,
        shard_key: secrets.shard_key,
        counted: Counted {
            workers: counters,
            reports,
        },
    })
}

fn registry_settings(config: &Config) -> RegistrySettings {
    let (limits, shards) = (&config.limits, config.topology().shards());
    let metrics = &config.statistics.metrics;
    RegistrySettings {
        limits: per_shard_and_address(
            &limits.tracker,
            shards,
            &limits.addresses,
            config.protocol.max_response_peers_per_ip,
        ),
        peer_age_seconds_max: config.cleaning.max_peer_age,
        maintenance: MaintenanceSettings {
            bytes_max: bytes_per_shard(&limits.tracker, shards),
            cleaning_interval_seconds: config.cleaning.torrent_cleaning_interval,
            report_interval_seconds: u32::try_from(metrics.interval).unwrap_or(u32::MAX),
            peer_histograms: metrics.torrent_peer_histograms,
        },
    }
}

/// What all workers share.
struct Secrets {
    hash_key: HashKey,
    shard_key: ShardKey,
    connection_ids: ConnectionIds,
    request_rate: Option<Arc<RequestRate>>,
    peers_per_ip: Option<Arc<PerClient>>,
}

impl Secrets {
    fn service_parts(
        &self,
        access_list: AccessListReader,
        counters: &Arc<WorkerCounters>,
    ) -> ServiceParts {
        ServiceParts {
            connection_ids: self.connection_ids.clone(),
            access_list,
            request_rate: self.request_rate.clone(),
            counters: Arc::clone(counters),
        }
    }

    fn registry_parts(
        &self,
        access_list: AccessListReader,
        reporting: Reporting,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<RegistryParts> {
        Ok(RegistryParts {
            hash_key: self.hash_key,
            rng_seed: entropy.number()?,
            access_list,
            peers_per_ip: self.peers_per_ip.clone(),
            reporting,
        })
    }

    fn draw(
        config: &Config,
        connection_ids: ConnectionIds,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            hash_key: HashKey::new(entropy.key()?),
            shard_key: ShardKey::new(entropy.bytes()?),
            connection_ids,
            request_rate: RequestRate::from_config(&config.limits.tracker, entropy.key()?),
            peers_per_ip: limits::peers_per_ip(&config.limits.tracker),
        })
    }
}
