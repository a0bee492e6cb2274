//! The tracker's entry point.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aquatic_daemon::cli::{self, App};
use aquatic_daemon::signals;

fn main() -> ExitCode {
    let app = App {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        about: "BitTorrent tracker over UDP",
        after_help: signals::HELP,
    };
    cli::run(app, aquatic_udp::run)
}
