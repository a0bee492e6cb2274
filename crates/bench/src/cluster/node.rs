//! A tracker of the cluster that is measured.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::process::Usage;

use crate::child::{Child, Interrupt};
use crate::cluster::metrics::Metrics;
use crate::cluster::server::Log;
use crate::contest::answers;
use crate::find::Folders;
use crate::materials;
use crate::trackers::{Protocol, Tracker};

/// How long a node may take until it serves, besides what it is told to wait for.
const READY_MAX: Duration = Duration::from_secs(30);

/// For how long a node is asked for its metrics, until it tells them.
const METRICS_MAX: Duration = Duration::from_secs(20);

/// How long a node may take until its metrics are as they should be, if nobody says more.
const AS_EXPECTED_MAX: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(10);

const PEERS: &str = "aquatic_peers";

/// How a node is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) program: PathBuf,
    pub(crate) protocol: Protocol,
    /// `None`: it is in no cluster.
    pub(crate) server: Option<String>,
    /// Seconds (`cluster.refresh_interval`); 0: the default.
    pub(crate) refresh_interval: u32,
    /// Seconds (`cluster.start_complete_within`).
    pub(crate) complete_within: u32,
    pub(crate) cpus: Option<Vec<usize>>,
}

/// A node that serves. It is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    name: String,
    setup: Setup,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
}

impl Setup {
    /// That of a node in no cluster.
    pub(crate) fn new(
        folders: &Folders,
        protocol: Protocol,
        cpus: Option<Vec<usize>>,
    ) -> anyhow::Result<Self> {
        let tracker = Tracker {
            program: format!("aquatic_{protocol}"),
            ..Tracker::default()
        };
        let program = folders.tracker(&tracker);
        Ok(Self {
            program: program.map_err(|reason| anyhow::anyhow!(reason))?,
            protocol,
            server: None,
            refresh_interval: 0,
            complete_within: 0,
            cpus,
        })
    }

    fn config(&self, name: &str, address: SocketAddr, metrics: SocketAddr) -> String {
        // One section has another name over UDP.
        let (section, socket, of_protocol) = match self.protocol {
            Protocol::Udp => (
                "statistics",
                "socket_recv_buffer_size = 8000000\n",
                "max_response_peers = 30\nmax_response_peers_per_ip = 0\n",
            ),
            Protocol::Http => ("metrics", "", "max_response_peers_per_ip = 0\n"),
            Protocol::Ws => ("metrics", "", "max_offers_per_second_per_receiver = 0\n"),
        };
        let connections = match self.protocol {
            Protocol::Udp => "",
            Protocol::Http | Protocol::Ws => "max_connections_per_ip = 0\n",
        };
        let mut text = format!(
            "log_level = \"info\"\n[network]\naddress = [\"{address}\"]\n{socket}\
             [protocol]\n{of_protocol}[limits]\n{connections}max_peers_per_ip_and_torrent = 0\n\
             [{section}]\ninterval = 1\nrun_prometheus_endpoint = true\n\
             prometheus_endpoint_address = \"{metrics}\"\n"
        );
        if let Some(server) = &self.server {
            let (refresh, within) = (self.refresh_interval, self.complete_within);
            text += &format!(
                "[cluster]\nservers = [\"{server}\"]\nnode = \"{name}\"\n\
                 refresh_interval = {refresh}\nstart_complete_within = {within}\n"
            );
        }
        text
    }

    /// Starts a node of this name, and waits until it serves.
    pub(crate) fn start(
        &self,
        folder: &Path,
        name: &str,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Node> {
        let address = materials::address(self.protocol)?;
        let metrics = materials::address(Protocol::Http)?;
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, self.config(name, address, metrics))?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&config).current_dir(folder);
        let log = folder.join(format!("{name}.log"));
        let child = Child::start(command, self.cpus.as_deref(), None, &log)?;
        let mut node = Node {
            child,
            name: name.to_owned(),
            setup: self.clone(),
            log,
            address,
            metrics,
        };
        node.wait_until_ready(interrupt)?;
        Ok(node)
    }

    /// Starts so many nodes. Those of a cluster have found each other then.
    pub(crate) fn start_all(
        &self,
        folder: &Path,
        count: usize,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Vec<Node>> {
        let nodes = (0..count).map(|number| {
            let name = format!("node-{number}");
            self.start(folder, &name, interrupt)
        });
        let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
        if self.server.is_some() {
            wait_until_met(&nodes, Log::Kept, interrupt)?;
        }
        Ok(nodes)
    }
}

/// Waits until all of these hear each other, and know all swarms if there is a log to tell that by.
pub(crate) fn wait_until_met(
    nodes: &[Node],
    log: Log,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let what = "all nodes are complete and hear each other";
    nodes.iter().try_for_each(|node| {
        node.wait_until(what, interrupt, |it| {
            let complete = it.sum("aquatic_cluster_complete");
            let heard = it.sum("aquatic_cluster_nodes").map(to_count);
            let is_complete = log == Log::Absent || complete >= Some(1.0);
            is_complete && heard >= Some(nodes.len())
        })
    })
}

impl Node {
    fn wait_until_ready(&mut self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let max = READY_MAX + Duration::from_secs(self.setup.complete_within.into());
        let clock = Clock::start();
        while !answers(self.setup.protocol, self.address) {
            interrupt.check()?;
            self.child.require_running()?;
            if clock.elapsed() > max {
                bail!("{} does not serve{}", self.name, self.child.last_words());
            }
            thread::sleep(PAUSE);
        }
        self.child.require_running()
    }

    /// Kills it, and starts it again under its name.
    pub(crate) fn restart(self, folder: &Path, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let Self {
            child, name, setup, ..
        } = self;
        child.kill();
        setup.start(folder, &name, interrupt)
    }

    pub(crate) fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::fetch(self.metrics, METRICS_MAX).with_context(|| self.name.clone())
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of_process(self.child.pid())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn is_in_cluster(&self) -> bool {
        self.setup.server.is_some()
    }

    /// How many peers it knows, by its last count: it counts once a second. `None`: it has not done
    /// so yet.
    pub(crate) fn counted_peers(&self) -> anyhow::Result<Option<f64>> {
        Ok(self.metrics()?.sum(PEERS))
    }

    /// The same of a node that has run for some seconds.
    pub(crate) fn peers(&self) -> anyhow::Result<f64> {
        self.metrics()?.require(PEERS)
    }

    /// What it has logged since its start.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.log).context("the log of a node")
    }

    /// Waits until its metrics are as they should be.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        interrupt: &Interrupt,
        is_so: impl Fn(&Metrics) -> bool,
    ) -> anyhow::Result<()> {
        let clock = Clock::start();
        loop {
            let metrics = self.metrics()?;
            if is_so(&metrics) {
                return Ok(());
            }
            interrupt.check()?;
            if clock.elapsed() > AS_EXPECTED_MAX {
                let words = self.child.last_words();
                bail!("{}: waited in vain until {what}{words}", self.name);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// A gauge that counts.
pub(crate) fn to_count(value: f64) -> usize {
    format!("{value:.0}").parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(protocol: Protocol, server: Option<&str>) -> toml::Table {
        let setup = Setup {
            program: PathBuf::new(),
            protocol,
            server: server.map(str::to_owned),
            refresh_interval: 32,
            complete_within: 7,
            cpus: None,
        };
        let [address, metrics] = ["127.0.0.1:1", "127.0.0.1:2"].map(|it| it.parse().unwrap());
        setup.config("node-1", address, metrics).parse().unwrap()
    }

    #[test]
    fn nodes_are_told_where_to_listen_and_whom_to_join() {
        let udp = config(Protocol::Udp, Some("nats://127.0.0.1:3"));
        assert_eq!(udp["network"]["address"][0].as_str(), Some("127.0.0.1:1"));
        let metrics = &udp["statistics"]["prometheus_endpoint_address"];
        assert_eq!(metrics.as_str(), Some("127.0.0.1:2"));
        let cluster = &udp["cluster"];
        assert_eq!(cluster["servers"][0].as_str(), Some("nats://127.0.0.1:3"));
        assert_eq!(cluster["node"].as_str(), Some("node-1"));
        assert_eq!(cluster["refresh_interval"].as_integer(), Some(32));
        assert_eq!(cluster["start_complete_within"].as_integer(), Some(7));
        assert!(!config(Protocol::Ws, None).contains_key("cluster"));
    }

    #[test]
    fn gauges_count() {
        assert_eq!((to_count(3.0), to_count(0.0), to_count(-1.0)), (3, 0, 0));
    }
}
