//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_swarm::HashKey;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::{bytes_per_shard, peers_per_ip, per_shard_and_address};
use aquatic_tracker::maintenance::{MaintenanceSettings, Reporting};
use aquatic_tracker::registry::{AddressShard, RegistryParts, RegistrySettings};
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::shard_set::ShardSet;
use aquatic_tracker::topology::for_each;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{Http, ResponseTimes, WorkerCounters};
use crate::messages::BATCHES_MAX;
use crate::response_writer::ResponseWriter;
use crate::service::{Service, ServiceParts};
use crate::worker::Worker;

/// All workers of a tracker, ready to work.
pub type Arrangement = aquatic_tracker_stream::Arrangement<Http>;

/// Makes all workers, and what tells how long their answers take, by socket worker. `wakers` wake
/// them: first the socket workers, then the swarm workers.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn arrange(
    config: &Config,
    access_list: &SharedAccessList,
    wakers: &[Waker],
    entropy: &mut impl Entropy,
) -> anyhow::Result<(Arrangement, Vec<Arc<ResponseTimes>>)> {
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = for_each(topology.workers());
    let response_times: Vec<Arc<ResponseTimes>> = for_each(topology.socket_workers());
    let reports: Vec<Arc<ShardReport>> = for_each(topology.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);
    let peers_per_ip = peers_per_ip(&config.limits.connections.tracker);

    let owners = topology.of_owners(&counters);
    let mut shards = Vec::new();
    for (report, counters) in reports.iter().zip(owners) {
        let parts = RegistryParts {
            hash_key,
            rng_seed: entropy.number()?,
            access_list: access_list.reader(),
            peers_per_ip: peers_per_ip.clone(),
            reporting: Reporting::new(counters, report),
        };
        let counts_clients = config.metrics.peer_clients;
        shards.push(AddressShard::new(
            counts_clients,
            registry_settings(config),
            parts,
        ));
    }
    let mut shards = ShardSet::new(shard_key, topology, wakers, shards);
    let dispatchers = shards.connect(wakers, BATCHES_MAX, |shard| {
        let counters = owners.get(shard).cloned().unwrap_or_default();
        ResponseWriter::new(counters, config.intervals())
    });
    let owners = shards.into_owners();
    let socket_workers = dispatchers
        .into_iter()
        .zip(owners.socket_workers)
        .zip(&counters)
        .zip(&response_times)
        .map(|(((dispatcher, owner), counters), response_times)| {
            let parts = ServiceParts {
                access_list: access_list.reader(),
                request_rate: request_rate.clone(),
                counters: Arc::clone(counters),
            };
            Worker::new(
                Service::new(config, parts),
                dispatcher,
                owner,
                Arc::clone(counters),
                Arc::clone(response_times),
            )
        });
    let arrangement = Arrangement {
        socket_workers: socket_workers.collect(),
        swarm_workers: owners.swarm_workers,
        request_rate,
        counted: Counted {
            workers: counters,
            reports,
        },
    };
    Ok((arrangement, response_times))
}

fn registry_settings(config: &Config) -> RegistrySettings {
    let (limits, shards) = (&config.limits, config.topology().shards());
    let tracker = &limits.connections.tracker;
    RegistrySettings {
        limits: per_shard_and_address(
            tracker,
            shards,
            &limits.addresses,
            config.protocol.max_response_peers_per_ip,
        ),
        peer_age_seconds_max: config.cleaning.max_peer_age,
        maintenance: MaintenanceSettings {
            bytes_max: bytes_per_shard(tracker, shards),
            cleaning_interval_seconds: config.cleaning.torrent_cleaning_interval,
            report_interval_seconds: u32::try_from(config.metrics.interval).unwrap_or(u32::MAX),
            peer_histograms: config.metrics.torrent_peer_histograms,
        },
    }
}
