//! The entry point of all trackers.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aquatic_daemon::cli;

fn main() -> ExitCode {
    cli::run_one_of(aquatic::APP, aquatic::commands())
}
