//! UDP and HTTP, which have one swarm.

use std::sync::Arc;

use aquatic_channel::Waker;
use aquatic_cluster::Cluster;
use aquatic_daemon::clock::Now;
use aquatic_daemon::live::LiveSettings;
use aquatic_daemon::sandbox::Needs;
use aquatic_http::config as http;
use aquatic_http::counters::Http;
use aquatic_http::guest::make_guest;
use aquatic_http::statistics::{extend_figures, write_response_times};
use aquatic_http::workers::{self as http_workers, ConnectedWorkers};
use aquatic_stream_tracker::{self as stream_tracker, FrontEndWorkers};
use aquatic_tracker::config::SnapshotPlan;
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::guest::MakeGuest;
use aquatic_tracker::launch::{self, Launch};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::live::LiveTracker;
use aquatic_tracker::metrics::counters::Protocol as _;
use aquatic_tracker::persistence::snapshotter::Snapshotter;
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressShardParts, AddressShards, FinishedShards, LiveAddressShards,
};
use aquatic_tracker::shard::swarm_worker::{SwarmWait, WaitSettings, wait_handles};
use aquatic_tracker::torrents::BITTORRENT;
use aquatic_tracker::torrents::export::ScrapeExportsConfig;
use aquatic_udp::front_end as udp_front_end;
use aquatic_udp::statistics;

use crate::config::Config;
use crate::outputs;
use crate::serve::{Parts, Served};

/// How the threads of each protocol are called.
const UDP: &str = "udp-";
const HTTP: &str = "http-";

/// What both have bound.
type Bound<'a> = (
    Option<udp_front_end::Bound>,
    Option<stream_tracker::Bound<'a>>,
);

/// Both front ends with their shards, ready to start.
pub(crate) struct Addresses<'a> {
    udp: Option<udp_front_end::Connected>,
    http: Option<HttpFrontEnd<'a>>,
    shards: FinishedShards,
    swarm_waits: Vec<SwarmWait>,
    wait: WaitSettings,
    output: Option<SnapshotPlan<'a>>,
    exports: &'a ScrapeExportsConfig,
    live: LiveAddressShards,
}

struct HttpFrontEnd<'a> {
    bound: stream_tracker::Bound<'a>,
    workers: ConnectedWorkers,
    settings: LiveSettings<Arc<http::Config>>,
    /// Wake the workers of UDP that have one of these as a guest: the first ones of both.
    hosts: Vec<Waker>,
}

/// What wakes the socket workers of both.
struct Wakers {
    udp: Vec<Waker>,
    http: Vec<Waker>,
    /// Those of UDP whose threads are shared with workers of HTTP.
    hosts: Vec<Waker>,
}

impl Wakers {
    fn new(topology: Topology, (udp, http): &Bound<'_>) -> Self {
        let of_udp: Vec<_> = udp.iter().flat_map(|bound| bound.wakers()).collect();
        let mut of_http: Vec<_> = http.iter().flat_map(|bound| bound.wakers()).collect();
        let can_be_guests = http.as_ref().is_some_and(|bound| bound.can_be_guests());
        let hosts = match topology {
            Topology::Fused { .. } if can_be_guests => of_udp.clone(),
            _ => Vec::new(),
        };
        // A guest is woken by what wakes its host.
        for (guest, host) in of_http.iter_mut().zip(&hosts) {
            guest.clone_from(host);
        }
        Self {
            udp: of_udp,
            http: of_http,
            hosts,
        }
    }
}

impl<'a> Addresses<'a> {
    pub(crate) fn connect(
        config: &'a Config,
        topology: Topology,
        parts: &'a Parts,
        launch: &Launch<'_>,
        bound: Bound<'a>,
        limits: &ClientLimits,
        cluster: Option<&mut Cluster>,
    ) -> anyhow::Result<Self> {
        let wakers = Wakers::new(topology, &bound);
        let (udp, http) = bound;
        let wait = match (&parts.udp, &http) {
            (Some(part), _) => udp_front_end::wait(part),
            (None, http) => http.as_ref().map(|bound| bound.wait()).unwrap_or_default(),
        };
        let swarm_waits = wait_handles(topology.swarm_workers());
        let of_owners = match &udp {
            Some(_) => &wakers.udp,
            None => &wakers.http,
        };
        let all_wakers = launch::wakers(of_owners.iter().cloned(), &swarm_waits);
        let shard_parts = AddressShardParts {
            topology,
            wakers: &all_wakers,
            access_list: launch.access_list(),
            peers_per_ip: limits.peers_per_ip.clone(),
            persistence: launch.persistence(config.persistence.plan()),
            sharing: cluster.as_deref().map(Cluster::refresh),
        };
        let shard_limits = config.address_limits();
        let shard_config = config.address_shards(&shard_limits);
        let mut shards = shard_config.build(shard_parts, &mut OsEntropy)?;
        let live = shards.follow(&shard_config);
        if let Some(cluster) = cluster {
            cluster.share_addresses(&mut shards);
        }
        let udp = match udp {
            Some(bound) => Some(connect_udp(bound, &wakers, launch, limits, &mut shards)?),
            None => None,
        };
        let is_at_home = udp.is_none() || !wakers.hosts.is_empty();
        let http = http.zip(parts.http.as_ref()).map(|(bound, part)| {
            let settings = LiveSettings::new(Arc::new(part.clone()));
            let parts = http_workers::FrontEndParts {
                front_end: FrontEnd {
                    wakers: &wakers.http,
                    is_at_home,
                },
                access_list: launch.access_list(),
                limits,
                settings: &settings,
            };
            let mut workers = http_workers::connect_workers(part, &mut shards, &parts);
            for worker in &mut workers.socket_workers {
                worker.require_keys(launch.keys());
                worker.tell_announces(launch.announces());
            }
            HttpFrontEnd {
                bound,
                workers,
                settings,
                hosts: wakers.hosts,
            }
        });
        Ok(Self {
            udp,
            http,
            shards: shards.finish(),
            swarm_waits,
            wait,
            output: config.persistence.plan(),
            exports: &config.scrape_exports,
            live,
        })
    }

    pub(crate) fn snapshotter(&self) -> Option<&Snapshotter> {
        self.shards.snapshotter.as_ref()
    }

    pub(crate) fn needs(&self) -> Vec<Needs> {
        let udp = self.udp.iter().map(udp_front_end::Connected::needs);
        let http = self.http.iter().map(|http| http.bound.needs());
        let output = outputs::needs(self.output.map(SnapshotPlan::output));
        // The front end of UDP has it among its own.
        let export = self.exports.output().filter(|_| self.udp.is_none());
        let export = outputs::needs(export);
        udp.chain(http).chain([output, export]).collect()
    }

    /// Has shards process what others have sent, before they have threads. Returns how much that
    /// was.
    pub(crate) fn process(&mut self, now: Now) -> usize {
        self.shards.owners.process(now)
    }

    pub(crate) fn start(
        mut self,
        launch: &mut Launch<'_>,
        parts: &Parts,
        limits: &ClientLimits,
        live: &LiveTracker,
        served: &mut Served,
    ) -> anyhow::Result<()> {
        let owners = std::mem::take(&mut self.shards.owners.socket_workers);
        match (&mut self.udp, &mut self.http) {
            (Some(udp), _) => udp.own(owners),
            (None, Some(http)) => http.workers.own(owners),
            (None, None) => {}
        }
        let FinishedShards {
            owners,
            snapshotter,
            readers,
        } = self.shards;
        launch.start_swarm_workers("", self.wait, owners.swarm_workers, self.swarm_waits)?;
        let live_shards = self.live;
        served.follow.push(Box::new(move |config: &Config| {
            let limits = config.address_limits();
            live_shards.set(&config.address_shards(&limits));
        }));
        let mut guests = Vec::new();
        if let (Some(http), Some(part)) = (self.http, &parts.http) {
            guests = http.start(part, launch, limits, live, served)?;
        }
        if let (Some(mut udp), Some(part)) = (self.udp, &parts.udp) {
            udp.counted_mut().is_one_of_several = true;
            let front_end = udp.live().clone();
            served.follow.push(Box::new(move |config: &Config| {
                if let Some(part) = config.udp_part() {
                    front_end.set(&part);
                }
            }));
            let counted = udp.start(launch, UDP, guests)?;
            let (metrics, interval) = (&part.statistics.metrics, live.metrics_interval());
            statistics::start(launch.supervisor(), UDP, metrics, interval, counted)?;
        }
        launch.show_torrents(("", BITTORRENT), readers, self.exports)?;
        launch.start_snapshots("", snapshotter)
    }
}

fn connect_udp(
    bound: udp_front_end::Bound,
    wakers: &Wakers,
    launch: &Launch<'_>,
    limits: &ClientLimits,
    shards: &mut AddressShards,
) -> anyhow::Result<udp_front_end::Connected> {
    let front_end = FrontEnd {
        wakers: &wakers.udp,
        is_at_home: true,
    };
    bound.connect(launch, shards, front_end, limits, &mut OsEntropy)
}

impl HttpFrontEnd<'_> {
    fn start(
        self,
        config: &aquatic_http::config::Config,
        launch: &mut Launch<'_>,
        limits: &ClientLimits,
        live: &LiveTracker,
        served: &mut Served,
    ) -> anyhow::Result<Vec<MakeGuest<AddressShard>>> {
        let ConnectedWorkers {
            socket_workers,
            mut counted,
            response_times,
        } = self.workers;
        counted.is_one_of_several = true;
        extend_figures(launch, &response_times);
        launch.show_also(move |text| {
            write_response_times(&response_times, Some(("protocol", Http::NAME)), text);
        });
        let workers = FrontEndWorkers {
            socket_workers,
            request_rate: Arc::clone(&limits.request_rate),
            counted,
            bounds: config.bounds(),
            settings: self.settings,
            metrics_interval: live.metrics_interval(),
        };
        let started = self.bound.start(launch, (HTTP, &self.hosts), workers)?;
        served.reloads.push(started.reload);
        let follow = started.follow;
        served.follow.push(Box::new(move |config: &Config| {
            if let Some(part) = config.http_part() {
                follow(&part);
            }
        }));
        Ok(started.guests.into_iter().map(make_guest).collect())
    }
}
