//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Bell;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_swarm::HashKey;
use aquatic_tracker::arrangement::{Workers, shared};
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::limits::peers_per_ip;
use aquatic_tracker::maintenance::Reporting;
use aquatic_tracker::registry::RegistryParts;
use aquatic_tracker::report::ShardReport;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{Http, ResponseTimes, WorkerCounters};
use crate::messages::BATCHES_MAX;
use crate::service::{Service, ServiceParts};
use crate::shard;
use crate::worker::Worker;

/// All workers of a tracker, ready to work.
pub type Arrangement = aquatic_tracker_stream::Arrangement<Http>;

/// Makes all workers, and what tells how long their answers take, by socket worker. `bells` wake
/// them: first the socket workers, then the swarm workers.
///
/// # Errors
/// If there is no randomness to be had.
pub fn arrange(
    config: &Config,
    access_list: &SharedAccessList,
    bells: &[Bell],
    entropy: &mut impl Entropy,
) -> anyhow::Result<(Arrangement, Vec<Arc<ResponseTimes>>)> {
    let layout = config.layout();
    let counters: Vec<Arc<WorkerCounters>> = shared(layout.workers());
    let response_times: Vec<Arc<ResponseTimes>> = shared(layout.socket_workers);
    let reports: Vec<Arc<ShardReport>> = shared(layout.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);
    let peers_per_ip = peers_per_ip(&config.limits.connections.tracker);

    let mut shards = Vec::new();
    for (report, counters) in reports.iter().zip(counters.iter().skip(layout.owner(0))) {
        let parts = RegistryParts {
            hash_key,
            rng_seed: entropy.number()?,
            access_list: access_list.reader(),
            peers_per_ip: peers_per_ip.clone(),
            reporting: Reporting::new(counters, report),
        };
        shards.push(shard::new(config, parts, Arc::clone(counters)));
    }
    let workers = Workers::connect(layout, shards, BATCHES_MAX, bells);
    let routers = workers.routers.into_iter();
    let socket_workers =
        routers
            .zip(&counters)
            .zip(&response_times)
            .map(|((router, counters), response_times)| {
                let parts = ServiceParts {
                    access_list: access_list.reader(),
                    request_rate: request_rate.clone(),
                    counters: Arc::clone(counters),
                };
                Worker::new(
                    Service::new(config, parts),
                    shard_key,
                    router,
                    Arc::clone(counters),
                    Arc::clone(response_times),
                )
            });
    let arrangement = Arrangement {
        socket_workers: socket_workers.collect(),
        swarm_workers: workers.swarm_workers,
        request_rate,
        counters,
        reports,
    };
    Ok((arrangement, response_times))
}
