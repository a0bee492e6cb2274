//! Load tester for BitTorrent trackers over HTTP and HTTPS.
//!
//! It plays many peers that announce and scrape, and measures what the tracker makes of it: answers
//! per second, latency, late and lost answers, connections that end too early, and, if the tracker
//! runs on the same machine, the CPU time that each answer takes and the memory.
//!
//! ```text
//!  population ── who, what ──▶ requests ──┐            tally ── report
//!                                         ▼              ▲
//!               stream ◀── bytes ── dialogue ────────────┘
//!                 │   when
//!                 └──────▶ tracker
//! ```
//!
//! Connections, events, and the ways of putting load on a tracker are those of all testers over
//! TCP: see [`stream`](crate::stream).
//!
//! What it is not: a test of whether the tracker is right. Answers are checked as far as it is
//! cheap: status, kind, number of entries.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what the operator may choose |
//! | [`requests`] | requests as bytes |
//! | [`dialogue`] | what one connection asks and hears |

pub mod config;
pub mod dialogue;
pub mod requests;

use std::sync::Arc;

use crate::core::kind::RequestKind;
use crate::core::population::{Population, share};
use crate::http::config::LoadTestConfig;
use crate::http::dialogue::HttpDialogue;
use crate::http::requests::RequestWriter;
use crate::stream::Plan;
use aquatic_daemon::cli::App;

/// The program.
pub const APP: App = App {
    name: "aquatic_http_load_test",
    version: env!("CARGO_PKG_VERSION"),
    about: "Puts load on a BitTorrent tracker over HTTP or HTTPS, and measures it",
    after_help: "",
};

/// Runs the test and prints the report to standard output.
///
/// # Errors
/// If connections cannot be opened, the tracker is not there at first, or cannot be observed.
pub fn run(config: LoadTestConfig) -> anyhow::Result<()> {
    let population = Population::new(&config.requests.population, config.run.seed);
    let peers = population.number_of_peers();
    let network = &config.network;
    let plan = Plan {
        run: &config.run,
        answers: &config.answers,
        connect: &network.connect,
        connections: network.connections,
        keep_alive: network.keep_alive,
        pipelining_depth: network.pipelining_depth,
        mix: config.requests.weights.mix(),
        writer: RequestWriter::new(&config, Arc::new(population)),
        dialogue: |client| {
            let client = usize::try_from(client).unwrap_or(usize::MAX);
            HttpDialogue::new(share(peers, network.connections, client))
        },
    };
    if config.idle.enabled {
        return config.run.print(&plan.idle(&config.idle)?);
    }
    let kinds = [RequestKind::Announce, RequestKind::Scrape];
    config.run.print(&plan.load()?.report(&config.run, &kinds))
}
