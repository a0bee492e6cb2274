//! A cluster of our trackers on this machine, with a real `nats-server`, and what it does.
//!
//! Each measurement starts a server and nodes of its own in a folder of its own, and ends them. It
//! prints its figures as soon as it has them, and writes each as a line of JSON.
//!
//! | module | contents |
//! |---|---|
//! | `server`, `node`, `metrics` | the processes, and what nodes tell about themselves |
//! | `proxy` | a network that can be cut |
//! | `udp`, `load`, `answers`, `fill`, `browser` | clients |
//! | `steady`, `interruption` | runs that several measurements consist of |
//! | [`visibility`], [`join`], [`outage`], [`partition`], [`browsers`] | what users notice |
//! | [`cost`], [`memory`], [`idle`], [`growth`] | what it takes |
//! | `table` | their figures |

mod answers;
mod browser;
pub mod browsers;
pub mod cost;
mod fill;
pub mod growth;
pub mod idle;
mod interruption;
pub mod join;
mod load;
pub mod memory;
mod metrics;
mod node;
pub mod outage;
pub mod partition;
mod proxy;
mod server;
mod steady;
mod table;
mod udp;
pub mod visibility;

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use tempfile::TempDir;

use crate::child::Interrupt;
use crate::cluster::node::Setup;
use crate::cluster::server::{Log, Server};
use crate::cluster::table::{Output, Table};
use crate::find::Folders;
use crate::materials::{self, RecvBuffers};
use crate::pin;
use crate::trackers::Protocol;

/// How often it is looked whether somebody wants us to end.
const PAUSE: Duration = Duration::from_millis(20);

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
    /// The same while a node is cut off from its server without a word.
    Partition,
    /// How soon an offer of a browser arrives at one of another node, and its answer.
    Browsers,
    /// CPU time per answer in a cluster, and of the same nodes each by itself.
    Cost,
    /// Memory per peer, and beside peers, in a cluster and without.
    Memory,
    /// CPU time and memory of a node that has nothing to do.
    Idle,
    /// CPU time per answer with one, two and four nodes, against a straight line.
    Growth,
}

impl Measurement {
    fn name(self) -> &'static str {
        match self {
            Self::Visibility => "visibility",
            Self::Join => "join",
            Self::Outage => "outage",
            Self::Partition => "partition",
            Self::Browsers => "browsers",
            Self::Cost => "cost",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Growth => "growth",
        }
    }
}

/// Measures a cluster of our trackers on this machine. Needs `nats-server`.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterRun {
    /// What to measure. Without: everything.
    #[arg(value_enum)]
    pub measurements: Vec<Measurement>,
    /// The folder with cluster.jsonl, to which is added.
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
    partition: partition::Options,
    #[command(flatten)]
    browsers: browsers::Options,
    #[command(flatten)]
    cost: cost::Options,
    #[command(flatten)]
    memory: memory::Options,
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
                        output.add_failure(measurement.name(), &error)?;
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
            Measurement::Partition => self.partition.run(context),
            Measurement::Browsers => self.browsers.run(context),
            Measurement::Cost => self.cost.run(context),
            Measurement::Memory => self.memory.run(context),
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
        self.server_with(Log::Kept, context)
    }

    fn server_with(&self, log: Log, context: &Context<'_>) -> anyhow::Result<Server> {
        Server::start(self.folder(), log, context.tester_cpus(), context.interrupt)
    }
}

/// Waits, and gives how long that was.
fn wait(seconds: u32, context: &Context<'_>) -> anyhow::Result<Duration> {
    let clock = Clock::start();
    while clock.elapsed() < Duration::from_secs(seconds.into()) {
        context.interrupt.check()?;
        thread::sleep(PAUSE);
    }
    Ok(clock.elapsed())
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
