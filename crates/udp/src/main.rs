//! The tracker's entry point.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aquatic_daemon::cli;

fn main() -> ExitCode {
    cli::run_daemon(aquatic_udp::APP, aquatic_udp::run)
}
