//! Load tester for BitTorrent trackers over HTTP and HTTPS.
//!
//! It plays many peers that announce and scrape, and measures what the tracker makes of it: answers
//! per second, latency, late and lost answers, connections that end too early, and, if the tracker
//! runs on the same machine, the CPU time that each answer takes and the memory.
//!
//! ```text
//!  population, arrivals ── who, what, when ──┐          tally ── report
//!                                            ▼            ▲
//!                  load (or idle) ── requests ── bytes ───│──────┐
//!                       │                                 │      ▼
//!                     worker ◀── events ── client ── exchange, transport ◀──▶ tracker
//!                                                                 └ tls
//! ```
//!
//! There are two ways of putting load on a tracker (`rate_per_second`): *at its own pace*, each
//! connection keeping some requests waiting, which shows how much it can do; and *at a fixed rate*,
//! whether answers come or not, which shows how long strangers would wait. In the second way a
//! request's latency counts from the time at which it was due, even if it had to wait for a
//! connection. A third way (`[idle]`) opens connections that announce once and are kept, to see how
//! much memory that takes.
//!
//! What it is not: a test of whether the tracker is right. Answers are checked as far as it is
//! cheap: status, kind, number of entries.
//!
//! | module | what lives there |
//! |---|---|
//! | [`config`] | what the operator may choose |
//! | [`kinds`] | kinds of requests and of errors |
//! | [`requests`] | requests as bytes |
//! | [`exchange`] | what one connection asks and hears |
//! | `client` | one connection after the other, from one address |
//! | `transport`, `tls` | a connection as bytes |
//! | `worker` | one thread's clients and their events |
//! | `load`, `idle` | what to send, and when |
//! | [`report`] | what is printed |

#![forbid(unsafe_code)]

mod client;
pub mod config;
pub mod exchange;
mod idle;
pub mod kinds;
mod load;
pub mod report;
pub mod requests;
mod tls;
mod transport;
mod worker;

use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use aquatic_load::client_ips;
use aquatic_load::population::{Population, share};
use aquatic_load::report::{LoadReport, to_f64};
use aquatic_load::run::{self, Window, Workers};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::Client;
use crate::config::LoadTestConfig;
use crate::kinds::Tally;
use crate::load::{LoadWorker, Pace};
use crate::report::{HttpLoadReport, IdleReport};
use crate::requests::RequestWriter;
use crate::tls::TlsClient;
use crate::worker::{Rules, Worker};

/// How often, and how long, a tracker is tried that may only just have been started.
const CONNECT_ATTEMPTS: u32 = 20;
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Files that the tester has open besides its connections.
const OTHER_FILES: u64 = 100;

/// Runs the test and prints the report to standard output.
///
/// # Errors
/// If connections cannot be opened, the tracker is not there at first, or cannot be observed.
pub fn run(config: LoadTestConfig) -> anyhow::Result<()> {
    raise_file_limit(&config)?;
    wait_for_tracker(&config)?;
    if config.idle.enabled {
        config.run.print(&run_idle(&config)?)
    } else {
        config.run.print(&run_load(&config)?)
    }
}

fn run_load(config: &LoadTestConfig) -> anyhow::Result<HttpLoadReport> {
    let setup = Setup::new(config)?;
    let window = Window::open(&config.run, setup.clock);
    let mut workers = Workers::new();
    for number in 0..config.run.workers {
        let worker = setup.worker(number, window.micros())?;
        let load = LoadWorker {
            pace: match config.run.rate_per_second {
                0 => Pace::AsAnswered,
                _ => Pace::Rate(config.run.rate_per_worker()),
            },
            window_micros: window.micros(),
            grace_micros: setup.rules.lost_after_micros,
            lost_after_micros: setup.rules.lost_after_micros,
            in_flight_max: worker.clients.len() * config.network.pipelining_depth,
            worker,
        };
        workers.spawn(move || load.run())?;
    }
    let used = window.observe(&config.run)?;
    let (tallies, counts): (Vec<_>, Vec<_>) = workers.join()?.into_iter().unzip();
    let tally = run::sum(window.micros(), tallies);
    Ok(HttpLoadReport {
        load: LoadReport::new(&config.run, &tally, &used),
        connections: counts.into_iter().sum(),
    })
}

fn run_idle(config: &LoadTestConfig) -> anyhow::Result<IdleReport> {
    let setup = Setup::new(config)?;
    let before = config.run.tracker_usage()?;
    let start_micros = setup.clock.micros();
    let (filled, when_filled) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Workers::new();
    for number in 0..config.run.workers {
        let worker = setup.worker(number, 0..u64::MAX)?;
        let (filled, stop) = (filled.clone(), Arc::clone(&stop));
        workers.spawn(move || idle::run(worker, &filled, &stop))?;
    }
    drop(filled);
    // Ends early if a worker fails: `join` tells why.
    let are_filled = (0..config.run.workers).all(|_| when_filled.recv().is_ok());
    let seconds = to_f64(setup.clock.micros() - start_micros) / 1e6;
    if are_filled {
        thread::sleep(Duration::from_secs(config.idle.hold_seconds.into()));
    }
    let after = config.run.tracker_usage();
    stop.store(true, Ordering::Relaxed);
    let idled = workers.join()?;
    let open = idled.iter().map(|idled| idled.open).sum();
    let counts = idled.iter().map(|idled| idled.counts).sum();
    let tally = run::sum(0..u64::MAX, idled.into_iter().map(|idled| idled.tally));
    Ok(IdleReport::new(
        config.run.server_address,
        open,
        seconds,
        (&tally, counts),
        before.zip(after?),
    ))
}

/// What all workers are made of.
struct Setup<'a> {
    config: &'a LoadTestConfig,
    clock: Clock,
    rules: Rules,
    requests: RequestWriter,
    tls: Option<TlsClient>,
    peers: u32,
}

impl<'a> Setup<'a> {
    fn new(config: &'a LoadTestConfig) -> anyhow::Result<Self> {
        let population = Population::new(&config.requests.population, config.run.seed);
        let network = &config.network;
        let micros = |ms: u32| u64::from(ms) * 1000;
        Ok(Self {
            config,
            peers: population.len(),
            requests: RequestWriter::new(config, Arc::new(population)),
            tls: (network.enable_tls)
                .then(|| TlsClient::new(network))
                .transpose()?,
            rules: Rules {
                server: config.run.server_address,
                keep_alive: network.keep_alive,
                pipelining_depth: network.pipelining_depth,
                late_after_micros: micros(config.answers.late_after_ms),
                lost_after_micros: micros(config.answers.lost_after_ms),
            },
            clock: Clock::start(),
        })
    }

    /// The worker of a number, with its share of the connections.
    fn worker(&self, number: usize, window_micros: Range<u64>) -> anyhow::Result<Worker> {
        let network = &self.config.network;
        let connections = u32::try_from(network.connections).unwrap_or(u32::MAX);
        let clients = share(connections, self.config.run.workers, number).map(|client| {
            let client = usize::try_from(client).unwrap_or(usize::MAX);
            let ip = client_ips::of_socket(&network.client_ips, client);
            let peers = share(self.peers, network.connections, client);
            let tls = self.tls.as_ref().map(|tls| tls.another(network));
            Client::new(ip, peers, tls, &self.rules)
        });
        let seed = u64::try_from(number).unwrap_or(0);
        let seed = self.config.run.seed.wrapping_add(1 + seed);
        Worker::new(
            self.rules,
            clients.collect(),
            self.requests.clone(),
            (self.clock, Tally::new(window_micros), seed),
        )
    }
}

/// Each connection is an open file.
fn raise_file_limit(config: &LoadTestConfig) -> anyhow::Result<()> {
    let connections = u64::try_from(config.network.connections).unwrap_or(u64::MAX);
    let files = connections.saturating_add(OTHER_FILES);
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit on open files")?;
    if soft >= files {
        return Ok(());
    }
    if hard < files {
        bail!(
            "network.connections: {connections} connections need {files} open files, but the \
             limit is {hard} (ulimit -n)"
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).context("cannot raise the limit on open files")
}

fn wait_for_tracker(config: &LoadTestConfig) -> anyhow::Result<()> {
    let server = config.run.server_address;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match TcpStream::connect_timeout(&server, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) if attempts == CONNECT_ATTEMPTS => {
                return Err(error).with_context(|| {
                    format!("cannot connect to {server}: is a tracker running there?")
                });
            }
            Err(_) => thread::sleep(CONNECT_PAUSE),
        }
    }
}
