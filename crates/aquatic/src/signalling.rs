//! WebTorrent, beside the other protocols.

use std::sync::Arc;

use aquatic_cluster::Cluster;
use aquatic_daemon::clock::Now;
use aquatic_daemon::sandbox::Needs;
use aquatic_stream_tracker::{Bound, FrontEndWorkers};
use aquatic_tracker::config::SnapshotPlan;
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::{self, Launch};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::live::LiveTracker;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::swarm_worker::{SwarmWait, wait_handles};
use aquatic_tracker::torrents::WEBTORRENT;
use aquatic_ws::cluster::counters::ClusterCounters;
use aquatic_ws::config::Config;
use aquatic_ws::counters::WebTorrent;
use aquatic_ws::workers::{Building, Workers};

use crate::outputs;
use crate::serve::Served;

/// How its threads are called.
const PREFIX: &str = "ws-";

/// The tracker of WebTorrent, ready to start.
pub(crate) struct Signalling<'a> {
    config: &'a Config,
    bound: Bound<'a>,
    swarm_waits: Vec<SwarmWait>,
    workers: Workers,
    /// What is shared with others, if it is.
    counters: Option<Arc<ClusterCounters>>,
}

impl<'a> Signalling<'a> {
    pub(crate) fn connect(
        config: &'a Config,
        launch: &Launch<'_>,
        bound: Bound<'a>,
        limits: &ClientLimits,
        cluster: Option<&mut Cluster>,
    ) -> anyhow::Result<Self> {
        let swarm_waits = wait_handles(config.topology().swarm_workers());
        let wakers = launch::wakers(bound.wakers(), &swarm_waits);
        let persistence = launch.persistence(config.common().persistence);
        let building = Building {
            config,
            access_list: launch.access_list(),
            tls: bound.tls(),
            wakers: &wakers,
            limits: limits.clone(),
            persistence: persistence.of_protocol(WebTorrent::NAME),
        };
        let (mut workers, counters) = building.build_and_share(cluster, &mut OsEntropy)?;
        for worker in &mut workers.socket_workers {
            worker.require_keys(launch.keys());
            worker.tell_announces(launch.announces());
        }
        Ok(Self {
            config,
            bound,
            swarm_waits,
            workers,
            counters,
        })
    }

    /// Has all shards do what others ask of them. Returns how much that was.
    pub(crate) fn process(&mut self, now: Now) -> usize {
        self.workers.process_for_others(now)
    }

    pub(crate) fn needs(&self) -> [Needs; 3] {
        let output = self.config.common().persistence.map(SnapshotPlan::output);
        let export = self.config.scrape_exports.output();
        [
            self.bound.needs(),
            outputs::needs(output),
            outputs::needs(export),
        ]
    }

    pub(crate) fn snapshotter(&self) -> Option<&Snapshotter> {
        self.workers.snapshotter.as_ref()
    }

    pub(crate) fn start(
        self,
        launch: &mut Launch<'_>,
        live: &LiveTracker,
        served: &mut Served,
    ) -> anyhow::Result<()> {
        let Self {
            config,
            bound,
            swarm_waits,
            mut workers,
            counters,
        } = self;
        if let Some(counters) = counters {
            launch.show_also(move |metrics| counters.write(metrics));
        }
        workers.counted.is_one_of_several = true;
        launch.start_swarm_workers(PREFIX, bound.wait(), workers.swarm_workers, swarm_waits)?;
        launch.start_snapshots(PREFIX, workers.snapshotter)?;
        let exports = &config.scrape_exports;
        launch.show_torrents((PREFIX, WEBTORRENT), workers.readers, exports)?;
        let front_end = FrontEndWorkers {
            socket_workers: workers.socket_workers,
            request_rate: workers.limits.request_rate,
            counted: workers.counted,
            bounds: config.bounds(),
            settings: workers.settings,
            metrics_interval: live.metrics_interval(),
        };
        let started = bound.start(launch, (PREFIX, &[]), front_end)?;
        served.reloads.push(started.reload);
        let follow = started.follow;
        served.follow.push(Box::new(move |config| {
            if let Some(part) = config.ws_part() {
                follow(&part);
            }
        }));
        Ok(())
    }
}
