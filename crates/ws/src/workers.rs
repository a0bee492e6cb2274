//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use anyhow::Context;
use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_cluster::Cluster;
use aquatic_daemon::live::LiveSettings;
use aquatic_keys::SharedKeys;
use aquatic_stream::TlsConfig;
use aquatic_swarm::HashKey;
use aquatic_tracker::admission::{Admission, peer_id_rules};
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::shard_set::{FrontEnd, ShardSet};
use aquatic_tracker::dispatch::topology::per_worker;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::metrics::report::ShardReport;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::maintenance::Reporting;
use aquatic_tracker::torrents::reading::ShardReaders;
use aquatic_types::ShardKey;

use crate::cluster::ClusterParts;
use crate::cluster::counters::ClusterCounters;
use crate::cluster::replica::MemberReplica;
use crate::config::Config;
use crate::connection_ref::WORKERS_MAX;
use crate::counters::{WebTorrent, WorkerCounters};
use crate::forwarding::Forwarding;
use crate::messages::BATCHES_MAX;
use crate::service::Service;
use crate::signalling::{self, Signalling, SignallingParts, SignallingShard};
use crate::socket_worker::{SocketWorker, SocketWorkerParts};

/// All workers of a tracker, ready to work.
pub type Workers = aquatic_stream_tracker::Workers<WebTorrent>;

/// Makes all workers. `wakers` wake them: first the socket workers, then the swarm workers.
/// `limits` hold for each client.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn build_workers(
    config: &Config,
    access_list: &SharedAccessList,
    tls: Option<&TlsConfig>,
    wakers: &[Waker],
    limits: ClientLimits,
    persistence: Persistence,
    entropy: &mut impl Entropy,
) -> anyhow::Result<Workers> {
    let building = Building {
        config,
        access_list,
        tls,
        wakers,
        limits,
        persistence,
    };
    building.build(None, entropy).map(|(workers, _)| workers)
}

/// What workers are made from.
pub struct Building<'a> {
    /// What an operator has set.
    pub config: &'a Config,
    /// Which torrents are allowed.
    pub access_list: &'a SharedAccessList,
    /// The certificate, if connections are encrypted.
    pub tls: Option<&'a TlsConfig>,
    /// Wake the workers: first the socket workers, then the swarm workers.
    pub wakers: &'a [Waker],
    /// Hold for each client.
    pub limits: ClientLimits,
    /// What is to be done about what outlives the process.
    pub persistence: Persistence,
}

impl Building<'_> {
    /// Makes all workers, whose swarms are shared with the `cluster`. Returns also what is counted
    /// about that.
    ///
    /// # Errors
    /// If the operating system's source of randomness fails.
    pub fn build_and_share(
        self,
        cluster: Option<&mut Cluster>,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<(Workers, Option<Arc<ClusterCounters>>)> {
        let Some(cluster) = cluster else {
            let (workers, _) = self.build(None, entropy)?;
            return Ok((workers, None));
        };
        let counters = Arc::new(ClusterCounters::default());
        let parts = ClusterParts {
            waker: cluster.waker(),
            nodes: cluster.states(),
            refresh_seconds: self.config.member_lives().refresh,
            counters: Arc::clone(&counters),
        };
        let (workers, replica) = self.build(Some(parts), entropy)?;
        if let Some(replica) = replica {
            cluster.share(replica);
        }
        Ok((workers, Some(counters)))
    }

    /// Makes all workers, and the replica if their swarms are shared with other nodes.
    ///
    /// # Errors
    /// If the operating system's source of randomness fails.
    pub fn build(
        self,
        cluster: Option<ClusterParts>,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<(Workers, Option<MemberReplica>)> {
        let Self {
            config,
            access_list,
            tls,
            wakers,
            limits,
            persistence,
        } = self;
        let topology = config.topology();
        let counters: Vec<Arc<WorkerCounters>> = per_worker(topology.workers());
        let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());

        let shard_key = ShardKey::new(entropy.bytes()?);
        let hash_key = HashKey::new(entropy.key()?);
        let offer_key = entropy.key()?;

        let mut shards = Vec::new();
        for (report, counters) in reports.iter().zip(topology.of_owners(&counters)) {
            let sharing = cluster.as_ref().map(|it| it.sharing(access_list.reader()));
            let parts = SignallingParts {
                hash_key,
                offer_key,
                rng_seed: entropy.number()?,
                reporting: Reporting::new(&counters.shard, report),
                sharing,
            };
            shards.push(signalling::new(config, parts));
        }
        // Peers are not written down, so none has an age.
        persistence.restore(&mut shards, &shard_key, access_list, 0);
        let mut shards = ShardSet::new(shard_key, topology, wakers, shards);
        let settings = LiveSettings::new(Arc::new(config.clone()));
        signalling::follow(&mut shards, &settings);
        let front_end = FrontEnd {
            wakers: topology.of_socket_workers(wakers),
            is_at_home: true,
        };
        let dispatchers = shards.connect(front_end, BATCHES_MAX, |_| Signalling);
        let cluster_waker = cluster.as_ref().map(|it| &it.waker);
        let mut forwarding = Forwarding::connect(front_end.wakers, cluster_waker);
        let replica = match (cluster, persistence.counted_until()) {
            (Some(cluster), counted) => {
                let own = forwarding.pop().context("the cluster thread has no ways")?;
                Some(cluster.replica((config, &settings), access_list, &mut shards, own, counted))
            }
            (None, _) => None,
        };
        let snapshotter =
            persistence.attach(&mut shards, entropy.number()?, topology.of_owners(wakers));
        let readers = ShardReaders::attach(&mut shards);
        let owners = shards.into_owners();
        let making = MakingSocketWorkers {
            config,
            access_list,
            tls,
            limits: &limits,
            shard_key,
            counters: &counters,
            settings: &settings,
        };
        let ways = dispatchers.into_iter().zip(owners.socket_workers);
        let socket_workers = making.make(ways.zip(forwarding), entropy)?;
        let workers = Workers {
            socket_workers,
            swarm_workers: owners.swarm_workers,
            snapshotter,
            readers,
            limits,
            settings,
            // They follow the same.
            follow: Box::new(|_| ()),
            counted: Counted::of(counters, reports),
        };
        Ok((workers, replica))
    }
}

/// What all socket workers have.
struct MakingSocketWorkers<'a> {
    config: &'a Config,
    access_list: &'a SharedAccessList,
    tls: Option<&'a TlsConfig>,
    limits: &'a ClientLimits,
    shard_key: ShardKey,
    counters: &'a [Arc<WorkerCounters>],
    settings: &'a LiveSettings<Arc<Config>>,
}

/// The ways of a socket worker to the shards, the shard that it owns, and its ways to the others.
type Ways = (
    (
        Dispatcher<Signalling>,
        Option<Box<ShardOwner<SignallingShard>>>,
    ),
    Forwarding,
);

impl MakingSocketWorkers<'_> {
    fn make(
        &self,
        ways: impl Iterator<Item = Ways>,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<Vec<SocketWorker>> {
        let (config, limits) = (self.config, self.limits);
        let mut socket_workers = Vec::new();
        let ways = ways.zip(self.counters).enumerate();
        for (index, (((dispatcher, owner), forwarding), counters)) in ways {
            let admission = Admission {
                access_list: self.access_list.reader(),
                keys: SharedKeys::off().reader(),
                request_rate: Arc::clone(&limits.request_rate),
                peer_ids: peer_id_rules(&config.access_list),
                scrape_torrents_max: config.protocol.max_scrape_torrents,
                counters: Arc::clone(counters),
                announces: None,
            };
            let is_possible = |index: &u16| *index < WORKERS_MAX;
            let index = u16::try_from(index).ok().filter(is_possible);
            let index = index.context("too many socket workers")?;
            let parts = SocketWorkerParts {
                index,
                service: Service::new(config, admission),
                shard_key: self.shard_key,
                dispatcher,
                owner,
                forwarding,
                intervals: announce_intervals(config, limits, index.into()),
                peers_per_ip: limits.peers_per_ip.clone(),
                tls: self.tls.cloned(),
                pace_key: entropy.key()?,
                counters: Arc::clone(counters),
            };
            let worker = SocketWorker::new(config, parts);
            socket_workers.push(worker.following(self.settings.reader()));
        }
        Ok(socket_workers)
    }
}

/// What this socket worker tells clients.
fn announce_intervals(config: &Config, limits: &ClientLimits, worker: usize) -> AnnounceIntervals {
    AnnounceIntervals::new(
        WebTorrent::NAME,
        config.protocol.peer_announce_interval,
        &config.protocol.intervals,
        &limits.stretch,
        u64::try_from(worker).unwrap_or_default(),
    )
}
