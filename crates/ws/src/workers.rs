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
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::dispatch::topology::per_worker;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::peers_per_ip;
use aquatic_tracker::metrics::report::ShardReport;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::maintenance::Reporting;
use aquatic_types::ShardKey;

use crate::config::Config;
use crate::counters::{WebTorrent, WorkerCounters};
use crate::forwarding::Forwarding;
use crate::messages::BATCHES_MAX;
use crate::service::Service;
use crate::signalling::{self, Signalling, SignallingParts};
use crate::socket_worker::{SocketWorker, SocketWorkerParts};

/// All workers of a tracker, ready to work.
pub type Workers = aquatic_stream_tracker::Workers<WebTorrent>;

/// Makes all workers. `wakers` wake them: first the socket workers, then the swarm workers.
///
/// # Errors
/// If the operating system's source of randomness fails.
pub fn build_workers(
    config: &Config,
    access_list: &SharedAccessList,
    tls: Option<&TlsConfig>,
    wakers: &[Waker],
    persistence: Persistence,
    entropy: &mut impl Entropy,
) -> anyhow::Result<Workers> {
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = per_worker(topology.workers());
    let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let offer_key = entropy.key()?;
    let request_rate = RequestRate::from_config(&config.limits.connections.tracker, entropy.key()?);
    let peers_per_ip = peers_per_ip(&config.limits.connections.tracker);

    let mut shards = Vec::new();
    for (report, counters) in reports.iter().zip(topology.of_owners(&counters)) {
        let parts = SignallingParts {
            hash_key,
            offer_key,
            rng_seed: entropy.number()?,
            reporting: Reporting::new(counters, report),
        };
        shards.push(signalling::new(config, parts));
    }
    // Peers are not written down, so none has an age.
    persistence.restore(&mut shards, &shard_key, access_list, 0);
    let mut shards = ShardSet::new(shard_key, topology, wakers, shards);
    let dispatchers = shards.connect(wakers, BATCHES_MAX, |_| Signalling);
    let of_owners = topology.of_owners(wakers);
    let snapshotter = persistence.attach(&mut shards, entropy.number()?, of_owners);
    let owners = shards.into_owners();
    let forwarding = Forwarding::connect(topology.socket_workers(), wakers);
    let mut socket_workers = Vec::new();
    let ways = dispatchers
        .into_iter()
        .zip(owners.socket_workers)
        .zip(forwarding)
        .zip(&counters);
    for (index, (((dispatcher, owner), forwarding), counters)) in ways.enumerate() {
        let admission = Admission {
            access_list: access_list.reader(),
            request_rate: request_rate.clone(),
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            counters: Arc::clone(counters),
        };
        let parts = SocketWorkerParts {
            index: u16::try_from(index).context("too many socket workers")?,
            service: Service::new(config, admission),
            shard_key,
            dispatcher,
            owner,
            forwarding,
            peers_per_ip: peers_per_ip.clone(),
            tls: tls.cloned(),
            pace_key: entropy.key()?,
            counters: Arc::clone(counters),
        };
        socket_workers.push(SocketWorker::new(config, parts));
    }
    Ok(Workers {
        socket_workers,
        swarm_workers: owners.swarm_workers,
        snapshotter,
        request_rate,
        counted: Counted {
            workers: counters,
            reports,
        },
    })
}
