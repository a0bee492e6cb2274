//! The flood tester's entry point.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use aquatic_flood_test::soak::plot::Table;
use aquatic_flood_test::{catalogue, report, run, soak};
use clap::{Parser, Subcommand};

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
    Run(run::Plan),
    /// Prints the first lines of the table of soak tests.
    SoakHead,
    /// Runs a soak test, and prints a row of its table. Exits with 1 if a target is missed.
    Soak(soak::Plan),
    /// Prints an image (SVG) of what soak tests have written. Each file is named as its tracker.
    Plot {
        /// The files (CSV).
        files: Vec<PathBuf>,
    },
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
        Command::Run(plan) => plan
            .run()
            .map(|report| tell(&plan.flood, &report, &report.missed())),
        Command::SoakHead => {
            println!("{}", soak::report::HEAD);
            Ok(true)
        }
        Command::Soak(plan) => plan
            .run()
            .map(|report| tell("soak", &report, &report.missed())),
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
        let (protocol, name) = (flood.protocol, flood.name);
        let tls = if flood.is_tls { "tls" } else { "plain" };
        println!("{protocol} {name} {tls} {}", flood.settings.join("; "));
    }
}

/// Prints a report, and what was missed. Whether nothing was.
fn tell(name: &str, report: &impl Display, missed: &[String]) -> bool {
    println!("{report}");
    for target in missed {
        eprintln!("MISSED {name}: {target}");
    }
    missed.is_empty()
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
