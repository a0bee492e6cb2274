//! The flood tester's entry point.

#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aquatic_flood_test::catalogue::{self, Protocol};
use aquatic_flood_test::observer::TrackerProcess;
use aquatic_flood_test::run::Plan;
use aquatic_flood_test::soak::plot::Table;
use aquatic_flood_test::{report, soak};
use clap::{Parser, Subcommand, ValueEnum};

/// Attacks a BitTorrent tracker on this machine, and measures what is left for honest clients; or
/// lets many clients use it for long, and looks whether it stays as it is.
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
    /// Prints the first lines of the table of soak tests.
    SoakHead,
    /// Runs a soak test, and prints a row of its table. Exits with 1 if a target is missed.
    Soak(Soak),
    /// Prints an image (SVG) of what soak tests have written. Each file is named as its tracker.
    Plot {
        /// The files (CSV).
        files: Vec<PathBuf>,
    },
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

#[derive(Debug, clap::Args)]
struct Soak {
    /// What the tracker speaks.
    protocol: Protocol,
    /// Where the tracker listens: at an IPv4 loopback address.
    #[arg(long)]
    tracker: SocketAddr,
    /// A file with the process id of the tracker.
    #[arg(long)]
    pid_file: PathBuf,
    /// How long peers come and go. The end takes some more minutes: see --peer-age.
    #[arg(long, default_value_t = 3_600)]
    seconds: u32,
    /// Requests per second.
    #[arg(long)]
    rate: u32,
    /// The tracker's `cleaning.max_peer_age`. Peers announce four times as often.
    #[arg(long, default_value_t = 120)]
    peer_age: u32,
    /// The tracker's `cleaning.torrent_cleaning_interval`.
    #[arg(long, default_value_t = 10)]
    cleaning_interval: u32,
    /// The tracker's `access_list.path`, with `access_list.mode = "deny"`. It is written anew
    /// every ten seconds.
    #[arg(long)]
    access_list: Option<PathBuf>,
    /// The tracker's `prometheus_endpoint_address`.
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Where to write what is seen every ten seconds.
    #[arg(long)]
    csv: PathBuf,
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
        Command::SoakHead => {
            println!("{}", soak::report::HEAD);
            Ok(true)
        }
        Command::Soak(arguments) => soak(arguments),
        Command::Plot { files } => plot(&files).map(|()| true),
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
    Ok(tell(&arguments.flood, &report.missed()))
}

/// Whether nothing was missed.
fn tell(name: &str, missed: &[String]) -> bool {
    for target in missed {
        eprintln!("MISSED {name}: {target}");
    }
    missed.is_empty()
}

/// Whether all targets were met.
fn soak(arguments: Soak) -> anyhow::Result<bool> {
    let plan = soak::Plan {
        protocol: arguments.protocol,
        tracker: arguments.tracker,
        process: TrackerProcess {
            pid_file: arguments.pid_file,
        },
        seconds: arguments.seconds,
        rate: arguments.rate,
        peer_age_seconds: arguments.peer_age,
        cleaning_seconds: arguments.cleaning_interval,
        access_list: arguments.access_list,
        metrics: arguments.metrics,
        csv: arguments.csv,
    };
    let report = plan.run()?;
    println!("{report}");
    Ok(tell("soak", &report.missed()))
}

fn plot(files: &[PathBuf]) -> anyhow::Result<()> {
    let table = |file: &PathBuf| {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Table::parse(&name, &text)
    };
    let tables: anyhow::Result<Vec<Table>> = files.iter().map(table).collect();
    print!("{}", soak::plot::draw(&tables?));
    Ok(())
}
