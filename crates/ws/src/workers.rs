//! Who does what: all workers and their shards, made from the configuration.
//!
//! Nothing here touches a socket or a thread: the simulation arranges workers in the same way.

use std::sync::Arc;

use anyhow::Context;
use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::live::LiveSettings;
use aquatic_keys::SharedKeys;
use aquatic_stream::TlsConfig;
use aquatic_swarm::HashKey;
use aquatic_tracker::admission::{Admission, peer_id_rules};
use aquatic_tracker::dispatch::shard_set::{FrontEnd, ShardSet};
use aquatic_tracker::dispatch::topology::per_worker;
use aquatic_tracker::entropy::Entropy;
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::launch::Counted;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::metrics::report::ShardReport;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::maintenance::Reporting;
use aquatic_tracker::torrents::reading::ShardReaders;
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
    let topology = config.topology();
    let counters: Vec<Arc<WorkerCounters>> = per_worker(topology.workers());
    let reports: Vec<Arc<ShardReport>> = per_worker(topology.shards());

    let shard_key = ShardKey::new(entropy.bytes()?);
    let hash_key = HashKey::new(entropy.key()?);
    let offer_key = entropy.key()?;

    let mut shards = Vec::new();
    for (report, counters) in reports.iter().zip(topology.of_owners(&counters)) {
        let parts = SignallingParts {
            hash_key,
            offer_key,
            rng_seed: entropy.number()?,
            reporting: Reporting::new(&counters.shard, report),
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
    let snapshotter =
        persistence.attach(&mut shards, entropy.number()?, topology.of_owners(wakers));
    let readers = ShardReaders::attach(&mut shards);
    let owners = shards.into_owners();
    let forwarding = Forwarding::connect(topology.socket_workers(), wakers);
    let mut socket_workers = Vec::new();
    let ways = dispatchers.into_iter().zip(owners.socket_workers);
    let ways = ways.zip(forwarding).zip(&counters);
    for (index, (((dispatcher, owner), forwarding), counters)) in ways.enumerate() {
        let admission = Admission {
            access_list: access_list.reader(),
            keys: SharedKeys::off().reader(),
            request_rate: Arc::clone(&limits.request_rate),
            peer_ids: peer_id_rules(&config.access_list),
            scrape_torrents_max: config.protocol.max_scrape_torrents,
            counters: Arc::clone(counters),
            announces: None,
        };
        let parts = SocketWorkerParts {
            index: u16::try_from(index).context("too many socket workers")?,
            service: Service::new(config, admission),
            shard_key,
            dispatcher,
            owner,
            forwarding,
            intervals: announce_intervals(config, &limits, index),
            peers_per_ip: limits.peers_per_ip.clone(),
            tls: tls.cloned(),
            pace_key: entropy.key()?,
            counters: Arc::clone(counters),
        };
        let worker = SocketWorker::new(config, parts);
        socket_workers.push(worker.following(settings.reader()));
    }
    Ok(Workers {
        socket_workers,
        swarm_workers: owners.swarm_workers,
        snapshotter,
        readers,
        limits,
        settings,
        // They follow the same.
        follow: Box::new(|_| ()),
        counted: Counted::of(counters, reports),
    })
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
