//! Who does what: workers, their shards and the ways between them, made from the configuration.
//!
//! | | split | fused |
//! |---|---|---|
//! | `swarm_workers` | 1 or more | 0 |
//! | shards belong to | swarm workers | socket workers |
//! | an [exchange] connects | each socket worker with each swarm worker | each socket worker with each other |
//! | a request reaches its shard | by an exchange | by the kernel's steering; the rest by an exchange |
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use aquatic_access_list::{AccessListReader, SharedAccessList};
use aquatic_channel::{Bell, Requester, Responder, exchange};
use aquatic_swarm::HashKey;
use aquatic_udp_socket::steering::SteeringKey;

use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::WorkerCounters;
use crate::export::ExportWriter;
use crate::limits::{PeersPerIp, RequestRate};
use crate::messages::{BATCHES_MAX, Batch};
use crate::report::ShardReport;
use crate::service::{Service, ServiceParts};
use crate::shard::{Shard, ShardParts};
use crate::socket_worker::{Core, Placement};
use crate::swarm_worker::SwarmWorker;

/// Where everything secret or random comes from: a source of random bytes. The daemon's is the
/// operating system, a simulation's is seeded.
pub trait Entropy {
    /// Random bytes.
    ///
    /// # Errors
    /// If the source fails.
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]>;

    /// A random number.
    ///
    /// # Errors
    /// If the source fails.
    fn number(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_ne_bytes(self.bytes()?))
    }
}

/// All workers of a tracker, ready to work.
pub struct Arrangement {
    /// One for each socket worker.
    pub cores: Vec<Core>,
    /// One for each swarm worker; none if the socket workers own the swarms.
    pub swarm_workers: Vec<SwarmWorker>,
    /// What the workers count: first the socket workers, then the swarm workers.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// What the shards report.
    pub reports: Vec<Arc<ShardReport>>,
    /// Decides, like the kernel, which shard a torrent belongs to.
    pub steering_key: SteeringKey,
}

/// What [`arrange`] needs besides the configuration.
pub struct Surroundings {
    /// Which torrents are allowed.
    pub access_list: SharedAccessList,
    /// Wakes each worker: first the socket workers, then the swarm workers.
    pub bells: Vec<Bell>,
    /// For scrape exports, one for each shard, if enabled.
    pub export_writers: Vec<ExportWriter>,
    /// Sockets of each socket worker.
    pub sockets: usize,
}

/// Makes all workers.
///
/// # Errors
/// If there is no randomness to be had.
pub fn arrange(
    config: &Config,
    surroundings: Surroundings,
    entropy: &mut impl Entropy,
) -> anyhow::Result<Arrangement> {
    let Surroundings {
        access_list,
        bells,
        export_writers,
        sockets,
    } = surroundings;
    let socket_workers = config.socket_worker_count();
    let workers = socket_workers + config.swarm_workers;
    let counters: Vec<_> = (0..workers)
        .map(|_| Arc::new(WorkerCounters::default()))
        .collect();
    let reports: Vec<_> = (0..config.shard_count())
        .map(|_| Arc::new(ShardReport::default()))
        .collect();
    let secrets = Secrets::draw(config, entropy)?;

    let owners_start = if config.swarm_workers == 0 {
        0
    } else {
        socket_workers
    };
    let mut ways = Ways::new(socket_workers, owners_start, reports.len(), &bells);
    let mut shards = Vec::new();
    let mut export_writers = export_writers.into_iter();
    for (report, counters) in reports.iter().zip(counters.iter().skip(owners_start)) {
        let access_list = access_list.reader();
        let parts = secrets.shard_parts(
            access_list,
            counters,
            report,
            export_writers.next(),
            entropy,
        )?;
        shards.push(Shard::new(config, parts));
    }
    let mut shards = shards.into_iter();

    let mut cores = Vec::new();
    for (index, counters) in counters.iter().take(socket_workers).enumerate() {
        let parts = secrets.service_parts(access_list.reader(), counters);
        let own = if owners_start == 0 {
            shards.next()
        } else {
            None
        };
        let placement = Placement {
            key: secrets.steering_key,
            shards: u32::try_from(reports.len())?,
            askers: own.as_ref().map_or_else(Vec::new, |_| ways.askers(index)),
            own: own.map(|shard| (index, Box::new(shard))),
            owners: ways.owners(index),
        };
        let service = Service::new(config, parts);
        cores.push(Core::new(service, placement, sockets, Arc::clone(counters)));
    }
    let swarm_workers = (0..)
        .zip(shards)
        .map(|(index, shard)| SwarmWorker::new(shard, ways.askers(index)))
        .collect();
    let steering_key = secrets.steering_key;
    Ok(Arrangement {
        cores,
        swarm_workers,
        counters,
        reports,
        steering_key,
    })
}

/// What all workers share.
struct Secrets {
    hash_key: HashKey,
    steering_key: SteeringKey,
    connection_ids: ConnectionIds,
    request_rate: Option<Arc<RequestRate>>,
    peers_per_ip: Option<Arc<PeersPerIp>>,
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

    fn shard_parts(
        &self,
        access_list: AccessListReader,
        counters: &Arc<WorkerCounters>,
        report: &Arc<ShardReport>,
        export: Option<ExportWriter>,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<ShardParts> {
        Ok(ShardParts {
            hash_key: self.hash_key,
            rng_seed: entropy.number()?,
            access_list,
            peers_per_ip: self.peers_per_ip.clone(),
            counters: Arc::clone(counters),
            report: Arc::clone(report),
            export,
        })
    }

    fn draw(config: &Config, entropy: &mut impl Entropy) -> anyhow::Result<Self> {
        let connection_key = [entropy.number()?, entropy.number()?];
        let rate_key = [entropy.number()?, entropy.number()?];
        let limits = &config.limits;
        Ok(Self {
            hash_key: HashKey::new([entropy.number()?, entropy.number()?]),
            steering_key: SteeringKey::new(entropy.bytes()?),
            connection_ids: ConnectionIds::new(connection_key, config.cleaning.max_connection_age),
            request_rate: NonZeroU32::new(limits.requests_per_second_per_ip)
                .map(|rate| Arc::new(RequestRate::new(rate, rate_key))),
            peers_per_ip: NonZeroUsize::new(limits.max_peers_per_ip)
                .map(|max| Arc::new(PeersPerIp::new(max))),
        })
    }
}

/// The exchanges between socket workers and the owners of shards, until they are given out.
struct Ways {
    /// By socket worker, then by shard. None from a worker to itself.
    requesters: Vec<Vec<Option<Requester<Batch>>>>,
    /// By shard.
    responders: Vec<Vec<Responder<Batch>>>,
}

impl Ways {
    /// The shard `n` belongs to worker `owners_start + n`.
    fn new(socket_workers: usize, owners_start: usize, shards: usize, bells: &[Bell]) -> Self {
        let mut responders: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        let requesters = (0..socket_workers)
            .map(|worker| {
                let mut to = |(shard, responders): (usize, &mut Vec<_>)| {
                    let owner = owners_start + shard;
                    let (owner_bell, bell) = (bells.get(owner)?, bells.get(worker)?);
                    let (requester, responder) = (owner != worker)
                        .then(|| exchange(BATCHES_MAX, owner_bell.clone(), bell.clone()))?;
                    responders.push(responder);
                    Some(requester)
                };
                responders.iter_mut().enumerate().map(&mut to).collect()
            })
            .collect();
        Self {
            requesters,
            responders,
        }
    }

    fn owners(&mut self, worker: usize) -> Vec<Option<Requester<Batch>>> {
        self.requesters
            .get_mut(worker)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn askers(&mut self, shard: usize) -> Vec<Responder<Batch>> {
        self.responders
            .get_mut(shard)
            .map(std::mem::take)
            .unwrap_or_default()
    }
}
