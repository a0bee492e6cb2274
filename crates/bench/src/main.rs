//! The benchmark's entry point.

#![forbid(unsafe_code)]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aquatic_bench::bounds::Bounds;
use aquatic_bench::child::Interrupt;
use aquatic_bench::cluster::ClusterRun;
use aquatic_bench::compare::Comparison;
use aquatic_bench::find::{self, Folders};
use aquatic_bench::plan::Plan;
use aquatic_bench::run::Runner;
use aquatic_bench::{report, trackers};
use clap::{Parser, Subcommand};

/// Measures BitTorrent trackers side by side, and writes tables (Markdown) and plots (SVG).
///
/// Use a machine with two CPUs or more that does nothing else meanwhile.
#[derive(Debug, Parser)]
#[command(name = "aquatic_bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The folder of our trackers and load testers. Without: that of this program.
    #[arg(long, global = true)]
    own_dir: Option<PathBuf>,
    /// A folder with other trackers, such as `cargo install --root DIR` fills.
    #[arg(long, global = true)]
    trackers_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs plans, and writes results, tables and plots.
    Run {
        /// Names of plans, as `list` prints them, or TOML files.
        #[arg(required = true)]
        plans: Vec<String>,
        /// The folder to write to.
        #[arg(long, default_value = "documents/performance/results")]
        output: PathBuf,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Prints which trackers are here, in which version, and which plans there are.
    List,
    /// Writes tables and plots anew from results (PLAN.jsonl), beside them.
    Report {
        /// The results.
        #[arg(required = true)]
        results: Vec<PathBuf>,
    },
    /// Compares two programs under one load, A B A B ...: CPU time per answer, and its ratio.
    Compare(Comparison),
    /// Measures a cluster of our trackers on this machine, with a NATS server.
    Cluster(Box<ClusterRun>),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aquatic_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let own = match arguments.own_dir {
        Some(folder) => folder,
        None => {
            let program = env::current_exe().context("cannot tell where this program is")?;
            program.parent().unwrap_or(&program).to_owned()
        }
    };
    let absolute = |folder: PathBuf| {
        let path = folder.canonicalize();
        path.with_context(|| format!("there is no folder {}", folder.display()))
    };
    let folders = Folders {
        own: absolute(own)?,
        others: arguments.trackers_dir.map(absolute).transpose()?,
    };
    match arguments.command {
        Command::Run {
            plans,
            output,
            bounds,
        } => {
            let plans: anyhow::Result<Vec<_>> = plans.iter().map(|plan| Plan::open(plan)).collect();
            let plans = plans?;
            let seconds = plans.iter().map(|(_, plan)| plan.total_seconds());
            let total_seconds = seconds.sum::<anyhow::Result<u64>>()?;
            let words: Vec<String> = env::args().skip(1).collect();
            let runner = Runner {
                folders,
                output,
                bounds,
                total_seconds,
                command: format!("aquatic_bench {}", words.join(" ")),
                interrupt: Interrupt::on_signals()?,
            };
            let mut plans = plans.into_iter();
            plans.try_for_each(|(name, plan)| runner.run(&name, &plan))
        }
        Command::List => list(&folders),
        Command::Report { results } => {
            let mut results = results.iter();
            results.try_for_each(|path| report::write(path))
        }
        Command::Cluster(cluster) => cluster.run(&folders, &Interrupt::on_signals()?),
        Command::Compare(comparison) => comparison.run(&folders, &Interrupt::on_signals()?),
    }
}

fn list(folders: &Folders) -> anyhow::Result<()> {
    for tracker in trackers::built_in() {
        let found = match folders.tracker(tracker) {
            Ok(program) => {
                let version = find::version(&program, &tracker.version);
                format!("{version}, {}", program.display())
            }
            Err(reason) => format!("missing: {reason}"),
        };
        let protocols: Vec<_> = tracker.protocols.iter().map(ToString::to_string).collect();
        let (name, protocols) = (&tracker.name, protocols.join("+"));
        println!("{name:<20} {protocols:<12} {found}");
    }
    println!();
    for name in Plan::names() {
        let (_, plan) = Plan::open(name)?;
        let minutes = plan.total_seconds()?.div_ceil(60);
        println!("plan {name:<15} {minutes:>4} min  {}", plan.title);
    }
    Ok(())
}
