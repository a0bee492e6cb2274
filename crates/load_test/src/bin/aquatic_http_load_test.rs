//! The load tester's entry point.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use aquatic_daemon::cli;

fn main() -> ExitCode {
    let app = cli::App {
        name: "aquatic_http_load_test",
        version: env!("CARGO_PKG_VERSION"),
        about: "Puts load on a BitTorrent tracker over HTTP or HTTPS, and measures it",
        after_help: "",
    };
    cli::run(app, aquatic_load_test::http::run)
}
