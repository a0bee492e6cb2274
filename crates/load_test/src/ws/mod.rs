//! Load tester for WebTorrent trackers, plain and over TLS.
//!
//! It plays many browsers, each on a WebSocket of its own, that announce with offers, scrape, and
//! answer each offer that reaches them. It measures what the tracker makes of it: messages per
//! second, latency, late and lost messages, connections that are dropped, and, if the tracker runs
//! on the same machine, the CPU time that each of its messages takes and the memory.
//!
//! ```text
//!  population ── who, what ──▶ writer ──┐              tally ── report
//!                                       ▼                ▲
//!               stream ◀── bytes ── dialogue ◀── frames  │
//!                 │   when              └────────────────┘
//!                 └──────▶ tracker
//! ```
//!
//! Connections, events, and the ways of putting load on a tracker are those of all testers over
//! TCP: see [`stream`](crate::stream). A connection has one announce or scrape at a time that waits
//! for its reply; offers and answers come and go besides.
//!
//! An offer's name tells who made it and when, so nothing is kept about offers: whoever gets one
//! knows how long it took, and so does whoever gets its answer. **An answer is lost** if one
//! browser has sent it and the other has not got it. An offer that a tracker has not forwarded is
//! not counted as lost: there may have been nobody to forward it to.
//!
//! What it is not: a test of whether the tracker is right, nor a WebRTC implementation. Session
//! descriptions are filler of a realistic size.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what the operator may choose |
//! | [`dialogue`] | what a browser asks and hears: **read this first** |
//! | [`writer`] | messages as bytes |
//! | [`frames`] | WebSocket frames |
//! | [`report`] | what is printed |

pub mod config;
pub mod dialogue;
pub mod frames;
pub mod report;
pub mod writer;

use std::sync::Arc;

use crate::core::population::{Population, share};
use crate::stream::Plan;
use crate::ws::config::LoadTestConfig;
use crate::ws::dialogue::Browser;
use crate::ws::report::WsLoadReport;
use crate::ws::writer::MessageWriter;
use aquatic_daemon::cli::App;

/// The program.
pub const APP: App = App {
    name: "aquatic_ws_load_test",
    version: env!("CARGO_PKG_VERSION"),
    about: "Puts load on a WebTorrent tracker, plain or over TLS, and measures it",
    after_help: "",
};

/// Runs the test and prints the report to standard output.
///
/// # Errors
/// If connections cannot be opened, the tracker is not there at first, or cannot be observed.
pub fn run(config: LoadTestConfig) -> anyhow::Result<()> {
    let connections = config.network.connections;
    let population = config.requests.population(connections);
    let population = Arc::new(Population::new(&population, config.run.seed));
    let plan = Plan {
        run: &config.run,
        answers: &config.answers,
        connect: &config.network.connect,
        connections,
        keep_alive: true,
        pipelining_depth: 1,
        mix: config.requests.weights.mix(),
        writer: MessageWriter::new(&config, Arc::clone(&population)),
        dialogue: |number| {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            let members = share(population.number_of_peers(), connections, place);
            let members = members.map(|member| population.peer(member)).collect();
            Browser::new(number, members)
        },
    };
    if config.idle.enabled {
        return config.run.print(&plan.idle(&config.idle)?);
    }
    let report = WsLoadReport::new(&config.run, plan.load()?);
    config.run.print(&report)
}
