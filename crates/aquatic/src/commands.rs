//! The command line.

use aquatic_daemon::cli::{App, Subcommand};
use aquatic_daemon::signals;

/// The program.
pub const APP: App = App {
    name: "aquatic",
    version: env!("CARGO_PKG_VERSION"),
    about: "BitTorrent trackers",
    after_help: "'aquatic COMMAND --help' tells more about each.",
};

/// What it can be told to be.
#[must_use]
pub fn commands() -> Vec<Subcommand> {
    let app = |name, about| App {
        name,
        about,
        after_help: signals::HELP,
        ..APP
    };
    let serve = app(
        "aquatic serve",
        "Trackers over UDP, HTTP and WebSocket in one process; one swarm for UDP and HTTP",
    );
    let udp = app("aquatic udp", "BitTorrent tracker over UDP, as aquatic_udp");
    let http = app(
        "aquatic http",
        "BitTorrent tracker over HTTP and HTTPS, as aquatic_http",
    );
    let ws = app("aquatic ws", "WebTorrent tracker, as aquatic_ws");
    vec![
        Subcommand::new("serve", serve, crate::run),
        Subcommand::new("udp", udp, aquatic_udp::run),
        Subcommand::new("http", http, aquatic_http::run),
        Subcommand::new("ws", ws, aquatic_ws::run),
    ]
}
