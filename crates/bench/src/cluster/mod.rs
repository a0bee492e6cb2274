//! A cluster of our trackers on this machine, with a real `nats-server`, and what it does.
//!
//! Each measurement starts a server and nodes of its own in a folder of its own, and ends them. It
//! prints its figures as soon as it has them, and writes each as a line of JSON.
//!
//! | module | contents |
//! |---|---|
//! | `server`, `node`, `metrics` | the processes, and what nodes tell about themselves |
//! | `udp`, `load`, `browser` | clients |
//! | [`visibility`], [`join`], [`outage`], [`browsers`] | the measurements: what users notice |
//! | [`cost`], [`growth`], [`idle`] | the measurements: what it takes |
//! | `table` | their figures |

mod browser;
pub mod browsers;
pub mod cost;
pub mod growth;
pub mod idle;
pub mod join;
mod load;
mod metrics;
mod node;
pub mod outage;
mod server;
mod table;
mod udp;
pub mod visibility;

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::child::Interrupt;
use crate::cluster::load::{Demand, Load};
use crate::cluster::node::{Node, Setup};
use crate::cluster::server::Server;
use crate::cluster::table::{Output, Table};
use crate::find::Folders;
use crate::materials::{self, RecvBuffers};
use crate::pin;
use crate::trackers::Protocol;

pub(crate) const MEBIBYTE: f64 = 1_048_576.0;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measurement {
    /// How soon a peer that has announced at one node is known at another, under load.
    Visibility,
    /// How soon a node is complete that joins, or comes back after SIGKILL.
    Join,
    /// What clients notice while the server is gone, and how soon all is known after.
    Outage,
    /// How soon an offer of a browser arrives at one of another node, and its answer.
    Browsers,
    /// CPU time per answer in a cluster, and of the same nodes each by itself.
    Cost,
    /// CPU time and memory of a node that has nothing to do.
    Idle,
    /// CPU time per answer with one, two and four nodes, against a straight line.
    Growth,
}

/// Measures a cluster of our trackers on this machine. Needs `nats-server`.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterRun {
    /// What to measure. Without: everything.
    #[arg(value_enum)]
    pub measurements: Vec<Measurement>,
    /// The folder to write cluster.jsonl to.
    #[arg(long, default_value = "documents/performance/results")]
    pub output: PathBuf,
    /// CPUs of the trackers, such as 0 or 0,2-3. Empty: all.
    #[arg(short, long, default_value = "", value_parser = parse_cpus)]
    pub cpus: Cpus,
    /// CPUs of the server, load testers and probes. Empty: all.
    #[arg(long, default_value = "", value_parser = parse_cpus)]
    pub tester_cpus: Cpus,
    #[command(flatten)]
    visibility: visibility::Options,
    #[command(flatten)]
    join: join::Options,
    #[command(flatten)]
    outage: outage::Options,
    #[command(flatten)]
    browsers: browsers::Options,
    #[command(flatten)]
    cost: cost::Options,
    #[command(flatten)]
    idle: idle::Options,
    #[command(flatten)]
    growth: growth::Options,
}

/// A list of CPUs. `None`: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(Option<Vec<usize>>);

fn parse_cpus(list: &str) -> Result<Cpus, String> {
    pin::parse(list).map(Cpus)
}

/// What all measurements have in common.
pub(crate) struct Context<'a> {
    folders: &'a Folders,
    interrupt: &'a Interrupt,
    cpus: &'a Cpus,
    tester_cpus: &'a Cpus,
}

/// A folder for one measurement.
pub(crate) struct Place(TempDir);

impl ClusterRun {
    /// Measures, and prints.
    ///
    /// # Errors
    /// If programs are missing, or one of the measurements cannot be made: the others are made
    /// nevertheless.
    pub fn run(&self, folders: &Folders, interrupt: &Interrupt) -> anyhow::Result<()> {
        let words: Vec<String> = env::args().skip(1).collect();
        let command = format!("aquatic_bench {}", words.join(" "));
        let mut output = Output::create(&self.output, command)?;
        let _buffers = RecvBuffers::raise();
        let context = Context {
            folders,
            interrupt,
            cpus: &self.cpus,
            tester_cpus: &self.tester_cpus,
        };
        let all = <Measurement as clap::ValueEnum>::value_variants();
        let chosen = match self.measurements.as_slice() {
            [] => all,
            some => some,
        };
        let mut failures = 0;
        // Probes and loads are threads of this process.
        pin::with_cpus(self.tester_cpus.0.as_deref(), || {
            for measurement in chosen {
                let done = self.measure(*measurement, &context);
                interrupt.check()?;
                match done {
                    Ok(table) => output.add(&table)?,
                    Err(error) => {
                        failures += 1;
                        eprintln!("{measurement:?} has failed: {error:#}");
                    }
                }
            }
            Ok(())
        })?;
        anyhow::ensure!(failures == 0, "{failures} of {} have failed", chosen.len());
        Ok(())
    }

    fn measure(&self, measurement: Measurement, context: &Context<'_>) -> anyhow::Result<Table> {
        match measurement {
            Measurement::Visibility => self.visibility.run(context),
            Measurement::Join => self.join.run(context),
            Measurement::Outage => self.outage.run(context),
            Measurement::Browsers => self.browsers.run(context),
            Measurement::Cost => self.cost.run(context),
            Measurement::Idle => self.idle.run(context),
            Measurement::Growth => self.growth.run(context),
        }
    }
}

impl Context<'_> {
    fn place(&self) -> anyhow::Result<Place> {
        materials::folder().map(Place)
    }

    fn setup(&self, protocol: Protocol) -> anyhow::Result<Setup> {
        Setup::new(self.folders, protocol, self.cpus.0.clone())
    }

    fn tester_cpus(&self) -> Option<&[usize]> {
        self.tester_cpus.0.as_deref()
    }
}

impl Place {
    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn server(&self, context: &Context<'_>) -> anyhow::Result<Server> {
        Server::start(self.folder(), context.tester_cpus(), context.interrupt)
    }
}

/// A load of new peers at each node, whose peers are at addresses of their own.
fn load_all(nodes: &[Node], rate: u32) -> anyhow::Result<Vec<Load>> {
    loads(nodes, rate, 0..u32::MAX)
}

fn loads(nodes: &[Node], rate: u32, peers: std::ops::Range<u32>) -> anyhow::Result<Vec<Load>> {
    let loads = nodes.iter().zip(1u8..).map(|(node, number)| {
        let demand = Demand {
            rate,
            peers: peers.clone(),
            from: Ipv4Addr::new(127, 0, 1, number),
        };
        Load::start(node.address, demand)
    });
    loads.collect()
}

fn per_second(count: u64, time: Duration) -> f64 {
    to_f64(count) / time.as_secs_f64()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Counts stay far below where that would not be exact.
fn to_f64(count: u64) -> f64 {
    aquatic_load_test::core::report::to_f64(count)
}
