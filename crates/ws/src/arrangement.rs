//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use anyhow::Context;
use aquatic_access_list::SharedAccessList;
use aquatic_channel::Bell;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_stream::TlsConfig;
use aquatic_swarm::HashKey;
use aquatic_tracker::arrangement::{Workers, shared};
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::limits::peers_per_ip;
use aquatic_tracker::maintenance::Reporting;
use aquatic_tracker::report::ShardReport;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{WebTorrent, WorkerCounters};
use crate::deliveries::Deliveries;
use crate::messages::BATCHES_MAX;
use crate::relay::{self, RelayParts};
use crate::service::{Service, ServiceParts};
use crate::worker::{Worker, WorkerParts};

/// All workers of a tracker, ready to work.
pub type Arrangement = aquatic_tracker_stream::Arrangement<WebTorrent>;

/// Makes all workers. `bells` wake them: first the socket workers, then the swarm workers.
///
/// # Errors
/// If there is no randomness to be had.
pub fn arrange(
    config: &Config,
    access_list: &SharedAccessList,
    tls: Option<&TlsConfig>,
    bells: &[Bell],
    entropy: &mut impl Entropy,
) -> anyhow::Result<Arrangement> {
    let layout = config.layout();
    let counters: Vec<Arc<WorkerCounters>> = shared(layout.workers());
    let reports: Vec<Arc<ShardReport>> = shared(layout.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let offer_key = entropy.key()?;
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);
    let peers_per_ip = peers_per_ip(&config.limits.connections.tracker);

    let mut relays = Vec::new();
    for (report, counters) in reports.iter().zip(counters.iter().skip(layout.owner(0))) {
        let parts = RelayParts {
            hash_key,
            offer_key,
            rng_seed: entropy.number()?,
            reporting: Reporting::new(counters, report),
        };
        relays.push(relay::new(config, parts));
    }
    let workers = Workers::connect(layout, relays, BATCHES_MAX, bells);
    let deliveries = Deliveries::connect(layout.socket_workers, bells);
    let mut socket_workers = Vec::new();
    let ways = workers.routers.into_iter().zip(deliveries).zip(&counters);
    for (index, ((router, deliveries), counters)) in ways.enumerate() {
        let service = ServiceParts {
            access_list: access_list.reader(),
            request_rate: request_rate.clone(),
            counters: Arc::clone(counters),
        };
        let parts = WorkerParts {
            index: u16::try_from(index).context("too many socket workers")?,
            service: Service::new(config, service),
            shard_key,
            router,
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
        swarm_workers: workers.swarm_workers,
        request_rate,
        counters,
        reports,
    })
}
