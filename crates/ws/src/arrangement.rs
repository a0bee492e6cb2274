//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use anyhow::Context;
use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::TlsConfig;
use aquatic_swarm::HashKey;
use aquatic_tracker::admission::Admission;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::peers_per_ip;
use aquatic_tracker::maintenance::Reporting;
use aquatic_tracker::report::ShardReport;
use aquatic_tracker::shard_set::ShardSet;
use aquatic_tracker::topology::for_each;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{WebTorrent, WorkerCounters};
use crate::deliveries::Deliveries;
use crate::messages::BATCHES_MAX;
use crate::relay::{self, RelayParts, Signalling};
use crate::service::Service;
use crate::worker::{Worker, WorkerParts};

/// All workers of a tracker, ready to work.
pub type Arrangement = aquatic_tracker_stream::Arrangement<WebTorrent>;

/// Makes all workers. `wakers` wake them: first the socket workers, then the swarm workers.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn arrange(
    config: &Config,
    access_list: &SharedAccessList,
    tls: Option<&TlsConfig>,
    wakers: &[Waker],
    entropy: &mut impl Entropy,
) -> anyhow::Result<Arrangement> {
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = for_each(topology.workers());
    let reports: Vec<Arc<ShardReport>> = for_each(topology.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let offer_key = entropy.key()?;
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);
    let peers_per_ip = peers_per_ip(&config.limits.connections.tracker);

    let mut relays = Vec::new();
    for (report, counters) in reports.iter().zip(topology.of_owners(&counters)) {
        let parts = RelayParts {
            hash_key,
            offer_key,
            rng_seed: entropy.number()?,
            reporting: Reporting::new(counters, report),
        };
        relays.push(relay::new(config, parts));
    }
    let mut shards = ShardSet::new(shard_key, topology, wakers, relays);
    let dispatchers = shards.connect(wakers, BATCHES_MAX, |_| Signalling);
    let owners = shards.into_owners();
    let deliveries = Deliveries::connect(topology.socket_workers(), wakers);
    let mut socket_workers = Vec::new();
    let ways = dispatchers
        .into_iter()
        .zip(owners.socket_workers)
        .zip(deliveries)
        .zip(&counters);
    for (index, (((dispatcher, owner), deliveries), counters)) in ways.enumerate() {
        let admission = Admission {
            access_list: access_list.reader(),
            request_rate: request_rate.clone(),
            counters: Arc::clone(counters),
        };
        let parts = WorkerParts {
            index: u16::try_from(index).context("too many socket workers")?,
            service: Service::new(config, admission),
            shard_key,
            dispatcher,
            owner,
            deliveries,
            peers_per_ip: peers_per_ip.clone(),
            tls: tls.cloned(),
            pace_key: entropy.key()?,
            counters: Arc::clone(counters),
        };
        socket_workers.push(Worker::new(config, parts));
    }
    Ok(Arrangement {
        socket_workers,
        swarm_workers: owners.swarm_workers,
        request_rate,
        counted: Counted {
            workers: counters,
            reports,
        },
    })
}
