//! Load tester for BitTorrent trackers over UDP.
//!
//! It plays many peers that connect, announce and scrape, and measures what the tracker makes of
//! it: answers per second, latency, late and lost answers, and, if the tracker runs on the same
//! machine, the CPU time that each answer takes and the memory.
//!
//! ```text
//!  population ── who ──┐                                ┌─ tally ── report ── table or JSON
//!  mix ── what, when ──┤                                │
//!                      ▼            requests            │
//!            load (or fill) ──▶ socket ───────▶ tracker │
//!                    a worker    socket, ◀─────────     │
//!                                client ── in_flight ───┘
//! ```
//!
//! There are two ways of putting load on a tracker (`rate_per_second`): *at its own pace*, each
//! socket keeping some requests in flight, which shows how much it can do; and *at a fixed rate*,
//! whether answers come or not, which shows how long strangers would wait. In the second way a
//! request's latency counts from the time at which it was due, even if the tester is behind.
//! A third way (`[fill]`) announces a known population once, to see how much memory that takes.
//!
//! What it is not: a test of whether the tracker is right. Answers are checked as far as it is
//! cheap: transaction id, kind, number of entries.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | what the operator may choose |
//! | [`in_flight`] | requests that wait for answers; what is late and what is lost |
//! | [`client`] | requests and answers of one socket, as bytes |
//! | `socket_client` | the socket itself |
//! | `load`, `fill` | the workers' loops |
//! | [`report`] | what is printed after filling |
//!
//! Population, counting and reports are those of all load testers: see
//! [`core`](crate::core).

pub mod client;
pub mod config;
mod fill;
pub mod in_flight;
mod load;
pub mod report;
mod socket_client;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_daemon::cli::App;
use aquatic_daemon::clock::Clock;
use fastrand::Rng;

use crate::core::kind::{Fault, Mix, RequestKind};
use crate::core::population::{Population, share};
use crate::core::progress::Progress;
use crate::core::report::{LoadReport, to_f64};
use crate::core::run::{self, Window};
use crate::core::tally::Tally;
use crate::udp::config::LoadTestConfig;
use crate::udp::fill::{Fill, FillWorker};
use crate::udp::load::LoadWorker;
use crate::udp::report::FillReport;
use crate::udp::socket_client::Sockets;

/// The program.
pub const APP: App = App {
    name: "aquatic_udp_load_test",
    version: env!("CARGO_PKG_VERSION"),
    about: "Puts load on a BitTorrent tracker over UDP, and measures it",
    after_help: "",
};

/// The requests of BEP 15, in the order in which they are reported.
const KINDS: &[RequestKind] = &[
    RequestKind::Connect,
    RequestKind::Announce,
    RequestKind::Scrape,
];

/// What can go wrong over UDP, as it is reported.
const FAULTS: &[Fault] = &[
    Fault::Duplicate,
    Fault::UnknownTransaction,
    Fault::MalformedDatagram,
    Fault::WrongKind,
    Fault::WrongCount,
    Fault::SendFailure,
];

/// How long a tracker may still tidy up after it was filled, before its memory is looked at.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Runs the test and prints the report to standard output.
///
/// # Errors
/// If sockets cannot be opened, the tracker does not answer at first, or cannot be observed.
pub fn run(config: LoadTestConfig) -> anyhow::Result<()> {
    let config = Arc::new(config);
    if config.fill.enabled {
        config.run.print(&run_fill(&config)?)
    } else {
        config.run.print(&run_load(&config)?)
    }
}

fn run_load(config: &Arc<LoadTestConfig>) -> anyhow::Result<LoadReport> {
    let requests = &config.requests;
    let population = Arc::new(Population::new(&requests.population, config.run.seed));
    let clock = Clock::start();
    let sockets = open_sockets(config, clock)?;

    let window = Window::open(&config.run, clock);
    let progress = Progress::start(&config.run, clock, window.micros());
    let mut workers = Vec::new();
    for ((worker, number), sockets) in (0..).zip(0u64..).zip(sockets) {
        let mut tally = Tally::new(window.micros(), config.answers.late_after_micros());
        tally.progress = progress.reporter(worker);
        let worker = LoadWorker {
            config: Arc::clone(config),
            mix: Mix::new(&[
                (RequestKind::Connect, requests.weight_connect),
                (RequestKind::Announce, requests.weight_announce),
                (RequestKind::Scrape, requests.weight_scrape),
            ]),
            population: Arc::clone(&population),
            start_micros: window.opened_micros(),
            end_micros: window.micros().end,
            clock,
            sockets,
            rng: Rng::with_seed(config.run.seed.wrapping_add(1 + number)),
            tally,
            torrents: Vec::new(),
        };
        workers.push(run::spawn(move || worker.run())?);
    }

    let used = window.observe(&config.run)?;
    let tally: Tally = run::join(workers)?.into_iter().sum();
    let known = (KINDS, FAULTS);
    Ok(LoadReport::new(&config.run, known, &tally, &used))
}

fn run_fill(config: &Arc<LoadTestConfig>) -> anyhow::Result<FillReport> {
    let torrents = config.fill.number_of_torrents;
    let clock = Clock::start();
    let sockets = open_sockets(config, clock)?;

    // It has answered, so it has started up.
    let before = config.run.tracker_usage()?;
    let start_micros = clock.micros();
    let progress = Progress::start(&config.run, clock, start_micros..u64::MAX);
    let mut workers = Vec::new();
    for (worker, sockets) in sockets.into_iter().enumerate() {
        let fill = Fill {
            torrents: share(torrents, config.run.workers, worker),
            config: Arc::clone(config),
        };
        let worker = FillWorker::new(fill, clock, sockets, progress.reporter(worker));
        workers.push(run::spawn(move || worker.run())?);
    }
    let tally: Tally = run::join(workers)?.into_iter().sum();
    let seconds = to_f64(clock.micros() - start_micros) / 1e6;

    thread::sleep(SETTLE_TIME);
    let after = config.run.tracker_usage()?;
    let torrents = u64::from(torrents);
    let peers = torrents * u64::from(config.fill.peers_per_torrent);
    let usages = before.zip(after);
    Ok(FillReport::new(
        config.run.server_address,
        (torrents, peers),
        seconds,
        &tally,
        usages,
    ))
}

/// The sockets of each worker.
fn open_sockets(config: &LoadTestConfig, clock: Clock) -> anyhow::Result<Vec<Sockets>> {
    let workers = 0..config.run.workers;
    workers
        .map(|worker| Sockets::open(config, worker, clock))
        .collect()
}
