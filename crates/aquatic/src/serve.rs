//! The start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aquatic_cluster::Cluster;
use aquatic_daemon::config_file::ConfigFile;
use aquatic_daemon::kept_sockets::KeptSockets;
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::sandbox::Needs;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_http::config as http;
use aquatic_http::counters::Http;
use aquatic_stream_tracker::{self as stream_tracker, Follow};
use aquatic_tracker::entropy::OsEntropy;
use aquatic_tracker::launch::{self, Launch, LaunchConfig, Reload};
use aquatic_tracker::limits::{self, ClientLimits};
use aquatic_tracker::live::LiveTracker;
use aquatic_udp::config as udp;
use aquatic_udp::front_end as udp_front_end;
use aquatic_ws::config as ws;
use aquatic_ws::counters::WebTorrent;

use crate::addresses::Addresses;
use crate::config::Config;
use crate::outputs;
use crate::signalling::Signalling;

/// Runs all trackers that are enabled until the process is told to stop. `file` is where the
/// configuration came from.
///
/// # Errors
/// If it cannot start, or if a worker ends.
pub fn run(mut config: Config, file: ConfigFile) -> anyhow::Result<()> {
    let hang_timeout = Duration::from_secs(config.hang_timeout);
    Supervisor::run(hang_timeout, move |supervisor| {
        let reloader = Reloader::new(file, config.clone(), &config.privileges);
        limits::settle_memory(&mut config.limits.connections.tracker);
        start(supervisor, &config, reloader)
    })
}

/// The configurations of the protocols that are enabled.
pub(crate) struct Parts {
    pub(crate) udp: Option<Arc<udp::Config>>,
    pub(crate) http: Option<http::Config>,
    pub(crate) ws: Option<ws::Config>,
}

/// What has been bound for them.
struct Bound<'a> {
    udp: Option<udp_front_end::Bound>,
    http: Option<stream_tracker::Bound<'a>>,
    ws: Option<stream_tracker::Bound<'a>>,
    /// Whoever does may not read then what root may, which has to be seen at the start: TLS is
    /// loaded after that. If nobody does, all that can fail comes before a program is attached.
    drops_privileges: bool,
}

/// What can be done about protocols that are served.
#[derive(Default)]
pub(crate) struct Served {
    /// Read files again.
    pub(crate) reloads: Vec<Reload>,
    /// Have them go by another configuration.
    pub(crate) follow: Vec<Follow<Config>>,
}

/// Returns what is done at a reload.
fn start(
    supervisor: &Supervisor,
    config: &Config,
    reloader: Reloader<Config>,
) -> anyhow::Result<Reload> {
    let parts = Parts::of(config);
    let settings = launch_config(config);
    let bind = || parts.bind_all(config, supervisor.kept_sockets());
    let (mut launch, (mut bound, mut cluster)) =
        Launch::prepare(supervisor, settings, bind, |(bound, _)| bound.attach())?;
    launch.tell_announces(cluster.as_ref().and_then(Cluster::announces));
    bound.load_the_rest()?;
    let (socket_workers, swarm_workers) = config.threads();
    launch::advise_workers(socket_workers, swarm_workers);
    let limits = ClientLimits::from_config(&config.limits.connections.tracker, &mut OsEntropy)?;
    let mut signalling = match (&parts.ws, bound.ws.take()) {
        (Some(part), Some(bound)) => {
            let cluster = cluster.as_mut();
            Some(Signalling::connect(part, &launch, bound, &limits, cluster)?)
        }
        _ => None,
    };
    let mut addresses = match config.address_topology() {
        Some(topology) => {
            let bound = (bound.udp, bound.http);
            let cluster = cluster.as_mut();
            Some(Addresses::connect(
                config, topology, &parts, &launch, bound, &limits, cluster,
            )?)
        }
        None => None,
    };
    let page = config.metrics.tables.output("metrics.html_file_path");
    // The front end of UDP looks after it if there is one.
    let page = page.filter(|_| parts.udp.is_none());
    let of_file = reloader.file().needs(&config.privileges);
    let needs = addresses.iter().flat_map(Addresses::needs);
    let needs = needs.chain(signalling.iter().flat_map(Signalling::needs));
    let needs = needs.chain(cluster.iter().map(Cluster::needs));
    let needs = needs.chain([of_file, outputs::needs(page)]);
    launch.enter_sandbox(needs.fold(Needs::default(), Needs::and));
    let mut served = Served::default();
    if let Some(cluster) = cluster {
        let swarms = (&mut addresses, &mut signalling);
        start_cluster(cluster, &mut launch, swarms, &mut served)?;
    }

    let snapshotters = addresses.iter().filter_map(Addresses::snapshotter);
    let snapshotters = snapshotters.chain(signalling.iter().filter_map(Signalling::snapshotter));
    let live = LiveTracker::new(limits.clone(), &config.metrics, snapshotters);
    if let Some(addresses) = addresses {
        addresses.start(&mut launch, &parts, &limits, &live, &mut served)?;
    }
    if let Some(signalling) = signalling {
        signalling.start(&mut launch, &live, &mut served)?;
    }
    launch.control_intervals(&limits.stretch, socket_workers + swarm_workers, true);
    let export_interval = launch.export_interval();
    let mut reload = launch.serve(live.metrics_interval())?;
    let Served {
        mut reloads,
        follow,
    } = served;
    let follow = move |config: &Config| {
        follow.iter().for_each(|follow| follow(config));
        export_interval.set(config.scrape_exports.interval());
        let limits = &config.limits.connections.tracker;
        live.set(limits, &config.metrics, config.persistence.plan());
    };
    let reload_files = move || {
        reload();
        reloads.iter_mut().for_each(|reload| reload());
    };
    Ok(reloader.into_reload(follow, reload_files))
}

fn launch_config(config: &Config) -> LaunchConfig<'_> {
    LaunchConfig {
        metrics: &config.metrics,
        privileges: &config.privileges,
        access_list: &config.access_list,
        keys: &config.keys,
    }
}

fn prepare_cluster(config: &Config, bound: &Bound<'_>) -> anyhow::Result<Option<Cluster>> {
    let port = bound.addresses().first().map_or(0, SocketAddr::port);
    let listener = ("serve", port);
    Cluster::prepare(&config.cluster, config.lives(), listener, config.lists())
}

/// Takes part in the cluster, before clients are served.
fn start_cluster(
    cluster: Cluster,
    launch: &mut Launch<'_>,
    (addresses, signalling): (&mut Option<Addresses<'_>>, &mut Option<Signalling<'_>>),
    served: &mut Served,
) -> anyhow::Result<()> {
    let cluster = cluster.start(launch, |now| {
        let addresses = addresses.iter_mut().map(|it| it.process(now));
        let signalling = signalling.iter_mut().map(|it| it.process(now));
        addresses.chain(signalling).sum()
    })?;
    let follow = move |config: &Config| cluster.set_lives(config.lives());
    served.follow.push(Box::new(follow));
    Ok(())
}

impl Bound<'_> {
    fn attach(&mut self) -> anyhow::Result<()> {
        if !self.drops_privileges {
            self.load_tls()?;
        }
        match &mut self.udp {
            Some(bound) => bound.attach().context("[udp]"),
            None => Ok(()),
        }
    }

    fn load_the_rest(&mut self) -> anyhow::Result<()> {
        match self.drops_privileges {
            true => self.load_tls(),
            false => Ok(()),
        }
    }

    fn load_tls(&mut self) -> anyhow::Result<()> {
        if let Some(bound) = &mut self.http {
            bound.load_tls::<Http>()?;
        }
        if let Some(bound) = &mut self.ws {
            bound.load_tls::<WebTorrent>()?;
        }
        Ok(())
    }

    /// Where clients are served, in order of the protocols.
    fn addresses(&self) -> Vec<SocketAddr> {
        let over_udp = self.udp.iter().flat_map(udp_front_end::Bound::addresses);
        let over_tcp = self.http.iter().chain(&self.ws);
        let over_tcp = over_tcp.filter_map(|bound| bound.addresses().ok());
        over_udp.chain(over_tcp.flatten()).collect()
    }
}

impl Parts {
    fn of(config: &Config) -> Self {
        Self {
            udp: config.udp_part().map(Arc::new),
            http: config.http_part(),
            ws: config.ws_part(),
        }
    }

    fn bind_all<'a>(
        &'a self,
        config: &Config,
        kept: &KeptSockets,
    ) -> anyhow::Result<(Bound<'a>, Option<Cluster>)> {
        let bound = self.bind(config, kept)?;
        let cluster = prepare_cluster(config, &bound)?;
        Ok((bound, cluster))
    }

    fn bind<'a>(&'a self, config: &Config, kept: &KeptSockets) -> anyhow::Result<Bound<'a>> {
        let bind = |common| {
            let common = config.in_this_process(common);
            stream_tracker::Bound::bind(common, kept)
        };
        let udp = self.udp.as_ref();
        let udp = udp.map(|config| udp_front_end::Bound::bind(config, kept).context("[udp]"));
        let http = self.http.as_ref();
        let http = http.map(|part| bind(part.common()).context("[http]"));
        let ws = self.ws.as_ref();
        let ws = ws.map(|part| bind(part.common()).context("[ws]"));
        Ok(Bound {
            udp: udp.transpose()?,
            http: http.transpose()?,
            ws: ws.transpose()?,
            drops_privileges: config.privileges.drop_privileges,
        })
    }
}
