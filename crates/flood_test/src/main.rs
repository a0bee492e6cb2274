//! The flood tester's entry point.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aquatic_flood_test::catalogue::{self, Protocol};
use aquatic_flood_test::observer::TrackerProcess;
use aquatic_flood_test::report;
use aquatic_flood_test::run::Plan;
use clap::{Parser, Subcommand, ValueEnum};

/// Attacks a BitTorrent tracker on this machine, and measures what is left for honest clients.
#[derive(Debug, Parser)]
#[command(name = "aquatic_flood_test", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints all floods: protocol, name, whether over TLS, and settings that the tracker needs.
    List,
    /// Prints the first lines of the table.
    Head,
    /// Runs a flood, and prints a row of the table. Exits with 1 if a target is missed.
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// What the tracker speaks.
    protocol: Protocol,
    /// Name of the flood, as `list` prints it.
    flood: String,
    /// Where the tracker listens: at an IPv4 loopback address.
    #[arg(long)]
    tracker: SocketAddr,
    /// A file with the process id of the tracker. Whoever restarts it writes the new one there.
    #[arg(long)]
    pid_file: PathBuf,
    /// How long it takes.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Datagrams, messages or connections per second, instead of the flood's own rate.
    #[arg(long)]
    rate: Option<u64>,
    /// The most memory that the tracker is to take, in MiB; 0 = any.
    #[arg(long, default_value_t = 0)]
    memory_max: u64,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List => {
            list();
            Ok(true)
        }
        Command::Head => {
            println!("{}", report::HEAD);
            Ok(true)
        }
        Command::Run(arguments) => run(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aquatic_flood_test: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for flood in catalogue::all() {
        let protocol = flood.protocol.to_possible_value();
        let protocol = protocol.as_ref().map_or("", |it| it.get_name());
        let tls = if flood.is_tls { "tls" } else { "plain" };
        println!(
            "{protocol} {} {tls} {}",
            flood.name,
            flood.settings.join("; ")
        );
    }
}

/// Whether all targets were met.
fn run(arguments: &Run) -> anyhow::Result<bool> {
    let flood = catalogue::find(arguments.protocol, &arguments.flood).with_context(|| {
        format!(
            "there is no flood {:?}: see `aquatic_flood_test list`",
            arguments.flood
        )
    })?;
    let plan = Plan {
        flood,
        tracker: arguments.tracker,
        process: TrackerProcess {
            pid_file: arguments.pid_file.clone(),
        },
        seconds: arguments.seconds,
        rate: arguments.rate,
        memory_mib_max: arguments.memory_max,
    };
    let report = plan.run()?;
    println!("{report}");
    let missed = report.missed();
    for target in &missed {
        eprintln!("MISSED {}: {target}", arguments.flood);
    }
    Ok(missed.is_empty())
}
