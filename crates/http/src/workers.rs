//! Who does what: all workers and their shards, made from the configuration.
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
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{Http, ResponseTimes, WorkerCounters};
use crate::messages::BATCHES_MAX;
use crate::response_writer::ResponseWriter;
use crate::service::Service;
use crate::socket_worker::SocketWorker;

/// All workers of a tracker, ready to work.
pub type Workers = aquatic_stream_tracker::Workers<Http>;

/// Makes all workers, and what tells how long their answers take, by socket worker. `wakers` wake
/// them: first the socket workers, then the swarm workers. `persistence` says what becomes of the
/// swarms.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn build_workers(
    config: &Config,
    access_list: &SharedAccessList,
    wakers: &[Waker],
    persistence: Persistence,
    entropy: &mut impl Entropy,
) -> anyhow::Result<(Workers, Vec<Arc<ResponseTimes>>)> {
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = per_worker(topology.workers());
    let response_times: Vec<Arc<ResponseTimes>> = per_worker(topology.socket_workers());
    let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);

    let owners = topology.of_owners(&counters);
    let shard_config = config.address_shards();
    let mut shards = shard_config.shards(owners, &reports, access_list, hash_key, entropy)?;
    let peer_age_seconds_max = shard_config.peer_age_seconds_max;
    persistence.restore(&mut shards, &shard_key, access_list, peer_age_seconds_max);
    let mut shards = ShardSet::new(shard_key, topology, wakers, shards);
    let dispatchers = shards.connect(wakers, BATCHES_MAX, |shard| {
        let counters = owners.get(shard).cloned().unwrap_or_default();
        ResponseWriter::new(counters, config.intervals())
    });
    let of_owners = topology.of_owners(wakers);
    let snapshotter = persistence.attach(&mut shards, entropy.number()?, of_owners);
    let owners = shards.into_owners();
    let socket_workers = dispatchers
        .into_iter()
        .zip(owners.socket_workers)
        .zip(&counters)
        .zip(&response_times)
        .map(|(((dispatcher, owner), counters), response_times)| {
            let admission = Admission {
                access_list: access_list.reader(),
                request_rate: request_rate.clone(),
                scrape_torrents_max: config.protocol.max_scrape_torrents,
                counters: Arc::clone(counters),
            };
            SocketWorker::new(
                Service::new(config, admission),
                dispatcher,
                owner,
                Arc::clone(counters),
                Arc::clone(response_times),
            )
        });
    let workers = Workers {
        socket_workers: socket_workers.collect(),
        swarm_workers: owners.swarm_workers,
        snapshotter,
        request_rate,
        counted: Counted {
            workers: counters,
            reports,
        },
    };
    Ok((workers, response_times))
}
