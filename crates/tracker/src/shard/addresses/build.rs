//! All shards of a tracker, made from its configuration, and connected with its front ends.

use std::mem;
use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_config::LimitsConfig;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_swarm::HashKey;
use aquatic_types::ShardKey;

use super::outbox::SharedRefreshInterval;
use super::{AddressShard, AddressSwarmsParts, AddressSwarmsSettings, LiveAddressShards};
use crate::config::{AddressLimitsConfig, MetricsConfig};
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::shard_set::{FrontEnd, Owners, ShardSet};
use crate::dispatch::topology::{Topology, per_worker};
use crate::entropy::Entropy;
use crate::launch::Counted;
use crate::limits::{bytes_per_shard, per_shard_and_address};
use crate::metrics::counters::{Protocol, ShardCounters, WorkerCounters};
use crate::metrics::report::ShardReport;
use crate::persistence::Persistence;
use crate::persistence::snapshotter::Snapshotter;
use crate::shard::maintenance::{MaintenanceSettings, Reporting};
use crate::shard::{BatchProcessor, ShardSource};
use crate::torrents::reading::ShardReaders;

/// The keys that concern the shards of a tracker whose peers are addresses.
#[derive(Clone, Copy, Debug)]
pub struct AddressShardConfig<'a> {
    /// The section `limits`.
    pub limits: &'a LimitsConfig,
    /// The same section, as far as it is about addresses.
    pub addresses: &'a AddressLimitsConfig,
    /// The section `metrics`.
    pub metrics: &'a MetricsConfig,
    /// `protocol.max_response_peers_per_ip`.
    pub response_peers_per_ip_max: u8,
    /// `cleaning.max_peer_age`, in seconds.
    pub peer_age_seconds_max: u32,
    /// `cleaning.torrent_cleaning_interval`, in seconds.
    pub cleaning_interval_seconds: u32,
}

/// What shards need besides the configuration.
pub struct AddressShardParts<'a> {
    /// Who will own them.
    pub topology: Topology,
    /// Wakes each worker of the topology: first the socket workers, then the swarm workers.
    pub wakers: &'a [Waker],
    /// Which torrents stay.
    pub access_list: &'a SharedAccessList,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// What is to be done about swarms that outlive the process.
    pub persistence: Persistence,
    /// When other trackers are told again of peers; `None`: they are told nothing.
    pub sharing: Option<SharedRefreshInterval>,
}

/// All shards of a tracker whose peers are addresses, until they go to their owners. Meanwhile
/// front ends are [connected](Self::connect) with them, of one protocol or several: all of them
/// serve the same swarms.
pub struct AddressShards {
    set: ShardSet<AddressShard>,
    key: ShardKey,
    topology: Topology,
    /// By shard.
    counters: Vec<Arc<ShardCounters>>,
    /// By shard.
    reports: Vec<Arc<ShardReport>>,
    has_front_end: bool,
    persistence: Persistence,
    /// A random number.
    process: u64,
    /// By shard.
    owner_wakers: Vec<Waker>,
}

/// A front end's ways to all shards.
pub struct Connected<P: BatchProcessor, T: Protocol> {
    /// One for each socket worker.
    pub dispatchers: Vec<Dispatcher<P>>,
    /// What its workers count. The first front end shows what the shards report.
    pub counted: Counted<T>,
}

/// What [`AddressShards`] becomes.
pub struct FinishedShards {
    /// Shards with their owners.
    pub owners: Owners<AddressShard>,
    /// Writes the swarms down, if they are to be.
    pub snapshotter: Option<Snapshotter>,
    /// Read the torrents.
    pub readers: ShardReaders<AddressShard>,
}

impl AddressShardConfig<'_> {
    /// Makes the shards, and takes in what has been written down about them.
    ///
    /// # Errors
    /// If the source of randomness fails.
    pub fn build(
        &self,
        parts: AddressShardParts<'_>,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<AddressShards> {
        let AddressShardParts {
            topology,
            wakers,
            access_list,
            peers_per_ip,
            persistence,
            sharing,
        } = parts;
        let counters: Vec<Arc<ShardCounters>> = per_worker(topology.shards());
        let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());
        let hash_key = HashKey::new(entropy.key()?);
        let key = ShardKey::new(entropy.bytes()?);
        let settings = self.settings(topology.shards());
        let mut shards = Vec::new();
        for (report, counters) in reports.iter().zip(&counters) {
            let parts = AddressSwarmsParts {
                hash_key,
                rng_seed: entropy.number()?,
                access_list: access_list.reader(),
                peers_per_ip: peers_per_ip.clone(),
                reporting: Reporting::new(counters, report),
            };
            let counts_clients = self.metrics.peer_clients;
            let sharing = sharing.clone();
            shards.push(AddressShard::new(counts_clients, sharing, settings, parts));
        }
        persistence.restore(&mut shards, &key, access_list, self.peer_age_seconds_max);
        Ok(AddressShards {
            set: ShardSet::new(key, topology, wakers, shards),
            key,
            topology,
            counters,
            reports,
            has_front_end: false,
            persistence,
            process: entropy.number()?,
            owner_wakers: topology.of_owners(wakers).to_vec(),
        })
    }

    pub(super) fn settings(&self, shards: usize) -> AddressSwarmsSettings {
        let of_address = self.response_peers_per_ip_max;
        AddressSwarmsSettings {
            limits: per_shard_and_address(self.limits, shards, self.addresses, of_address),
            peer_age_seconds_max: self.peer_age_seconds_max,
            maintenance: MaintenanceSettings {
                bytes_max: bytes_per_shard(self.limits, shards),
                cleaning_interval_seconds: self.cleaning_interval_seconds,
                report_interval_seconds: u32::try_from(self.metrics.interval).unwrap_or(u32::MAX),
                peer_histograms: self.metrics.torrent_peer_histograms,
            },
        }
    }
}

impl AddressShards {
    /// Decides, like the kernel, which shard a torrent belongs to.
    #[must_use]
    pub fn key(&self) -> ShardKey {
        self.key
    }

    /// Downloads until then are in the counts that were [restored](Persistence::counted_until).
    #[must_use]
    pub fn counted_until(&self) -> Option<i64> {
        self.persistence.counted_until()
    }

    /// Connects a front end, by exchanges of `batches_max` batches. `processor` makes what
    /// processes its requests in the thread of a shard's owner, and counts there: each worker of
    /// the front end counts for itself, and so does each owner that is none of them.
    pub fn connect<P, T: Protocol>(
        &mut self,
        front_end: FrontEnd<'_>,
        batches_max: usize,
        mut processor: impl FnMut(Arc<WorkerCounters<T>>) -> P,
    ) -> Connected<P, T>
    where
        P: BatchProcessor<Shard = AddressShard>,
    {
        let has_swarms = !mem::replace(&mut self.has_front_end, true);
        let of_owner = |shard: &Arc<ShardCounters>| match has_swarms {
            true => Arc::new(WorkerCounters::of_owner(shard)),
            false => Arc::default(),
        };
        let shard_of = |worker| front_end.shard_of(worker, self.topology);
        let mut workers: Vec<Arc<WorkerCounters<T>>> = (0..front_end.wakers.len())
            .map(|worker| {
                let shard = shard_of(worker).and_then(|shard| self.counters.get(shard));
                shard.map_or_else(Arc::default, of_owner)
            })
            .collect();
        let mut by_shard = Vec::new();
        for (shard, counters) in self.counters.iter().enumerate() {
            let at_home = (0..front_end.wakers.len()).find(|it| shard_of(*it) == Some(shard));
            let counted = at_home.and_then(|worker| workers.get(worker)).cloned();
            let counted = counted.unwrap_or_else(|| {
                let counted = of_owner(counters);
                workers.push(Arc::clone(&counted));
                counted
            });
            by_shard.push(counted);
        }
        let dispatchers = self.set.connect(front_end, batches_max, |shard| {
            processor(by_shard.get(shard).cloned().unwrap_or_default())
        });
        Connected {
            dispatchers,
            counted: Counted {
                workers,
                reports: match has_swarms {
                    true => self.reports.clone(),
                    false => Vec::new(),
                },
                has_swarms,
                is_one_of_several: false,
            },
        }
    }

    /// Connects somebody who is no front end, and counts for himself: the thread that `waker`
    /// wakes.
    pub fn connect_apart<P>(
        &mut self,
        waker: &Waker,
        batches_max: usize,
        processor: impl FnMut(usize) -> P,
    ) -> Dispatcher<P>
    where
        P: BatchProcessor<Shard = AddressShard>,
    {
        self.set.connect_apart(waker, batches_max, processor)
    }

    /// Lets the shards go by other settings later. They have been built with those of `config`.
    #[must_use]
    pub fn follow(&mut self, config: &AddressShardConfig<'_>) -> LiveAddressShards {
        LiveAddressShards::attach(config, &mut self.set)
    }

    /// Adds somebody who works with a shard.
    pub fn attach(&mut self, shard: usize, source: Box<dyn ShardSource<AddressShard>>) {
        self.set.attach(shard, source);
    }

    /// Gives the shards to their owners.
    #[must_use]
    pub fn finish(mut self) -> FinishedShards {
        let persistence = self.persistence;
        let snapshotter = persistence.attach(&mut self.set, self.process, &self.owner_wakers);
        FinishedShards {
            readers: ShardReaders::attach(&mut self.set),
            owners: self.set.into_owners(),
            snapshotter,
        }
    }
}
