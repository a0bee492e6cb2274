//! The load tester's entry point.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aquatic_daemon::cli;

fn main() -> ExitCode {
    cli::run(aquatic_load_test::http::APP, |config, _| {
        aquatic_load_test::http::run(config)
    })
}
