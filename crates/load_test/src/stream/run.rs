//! From a plan to what was counted.

use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;
use fastrand::Rng;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::core::client_ips;
use crate::core::config::{AnswersConfig, RunConfig};
use crate::core::kind::{Fault, Mix, RequestKind};
use crate::core::population::share;
use crate::core::progress::Progress;
use crate::core::report::{LoadReport, to_f64};
use crate::core::run::{self, Used, Window};
use crate::core::tally::Tally;
use crate::stream::client::Client;
use crate::stream::client_options::ClientOptions;
use crate::stream::config::{ConnectConfig, IdleConfig};
use crate::stream::dialogue::{Dialogue, Shared};
use crate::stream::idle;
use crate::stream::load::LoadWorker;
use crate::stream::report::IdleReport;
use crate::stream::tls::TlsClient;
use crate::stream::worker::Worker;

/// How often, and how long, a tracker is tried that may only just have been started.
const CONNECT_ATTEMPTS: u32 = 20;
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Files that the tester has open besides its connections.
const OTHER_FILES: u64 = 100;

/// What can go wrong over TCP, as it is reported.
pub(crate) const FAULTS: &[Fault] = &[
    Fault::ConnectFailed,
    Fault::ClosedEarly,
    Fault::NotClosed,
    Fault::Malformed,
    Fault::WrongKind,
    Fault::WrongCount,
];

/// What a tester wants to be done. `dialogue` makes that of the client of a number.
#[derive(Debug)]
pub struct Plan<'a, D: Dialogue, F: Fn(u32) -> D> {
    /// How the run goes.
    pub run: &'a RunConfig,
    /// When an answer is late or lost.
    pub answers: &'a AnswersConfig,
    /// How connections are made.
    pub connect: &'a ConnectConfig,
    /// How many there are, all workers together; at a time, if they are not kept.
    pub connections: usize,
    /// Keep connections open. Otherwise, each request gets a connection of its own.
    pub keep_alive: bool,
    /// Requests of each connection that may wait for their answers.
    pub pipelining_depth: usize,
    /// What is asked how often.
    pub mix: Mix,
    /// Writes requests; each worker gets a copy.
    pub writer: D::Writer,
    /// Speaks for a client.
    pub dialogue: F,
}

/// What was counted under load.
#[derive(Debug)]
pub struct Loaded {
    /// About requests and connections.
    pub tally: Tally,
    /// About the processes.
    pub used: Used,
}

impl Loaded {
    /// Sums up a run of a tester that knows these kinds of requests.
    #[must_use]
    pub fn report(&self, config: &RunConfig, kinds: &[RequestKind]) -> LoadReport {
        LoadReport {
            connections: Some(self.tally.connections),
            ..LoadReport::new(config, (kinds, FAULTS), &self.tally, &self.used)
        }
    }
}

impl<D: Dialogue, F: Fn(u32) -> D> Plan<'_, D, F> {
    /// Puts load on the tracker.
    ///
    /// # Errors
    /// If connections cannot be opened, the tracker is not there at first, or cannot be observed.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let setup = self.set_up()?;
        let window = Window::open(self.run, setup.clock);
        let progress = Progress::start(self.run, setup.clock, window.micros());
        let mut workers = Vec::new();
        for number in 0..self.run.workers {
            let mut worker = self.worker(&setup, number, window.micros())?;
            worker.shared.tally.progress = progress.reporter(number);
            let load = LoadWorker {
                rate_per_second: self.run.rate_per_worker(),
                start_micros: window.opened_micros(),
                window_micros: window.micros(),
                lost_after_micros: setup.options.lost_after_micros,
                in_flight_max: worker.clients.len() * self.pipelining_depth,
                worker,
            };
            workers.push(run::spawn(move || load.run())?);
        }
        let used = window.observe(self.run)?;
        let tally = run::join(workers)?.into_iter().sum();
        Ok(Loaded { tally, used })
    }

    /// Keeps connections that have announced once.
    ///
    /// # Errors
    /// If connections cannot be opened, the tracker is not there at first, cannot be observed, or
    /// falls silent.
    pub fn idle(&self, config: &IdleConfig) -> anyhow::Result<IdleReport> {
        let setup = self.set_up()?;
        let before = self.run.tracker_usage()?;
        let start_micros = setup.clock.micros();
        let progress = Progress::start(self.run, setup.clock, start_micros..u64::MAX);
        let (filled, when_filled) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for number in 0..self.run.workers {
            let mut worker = self.worker(&setup, number, 0..u64::MAX)?;
            worker.shared.tally.progress = progress.reporter(number);
            let (filled, stop) = (filled.clone(), Arc::clone(&stop));
            workers.push(run::spawn(move || idle::run(worker, &filled, &stop))?);
        }
        drop(filled);
        // Ends early if a worker fails: `join` tells why.
        let are_filled = (0..self.run.workers).all(|_| when_filled.recv().is_ok());
        let seconds = to_f64(setup.clock.micros() - start_micros) / 1e6;
        if are_filled {
            thread::sleep(Duration::from_secs(config.hold_seconds.into()));
        }
        let after = self.run.tracker_usage();
        stop.store(true, Ordering::Relaxed);
        let idled = run::join(workers)?;
        let open = idled.iter().map(|idled| idled.open).sum();
        let tally: Tally = idled.into_iter().map(|idled| idled.tally).sum();
        Ok(IdleReport::new(
            self.run.server_address,
            (open, seconds),
            &tally,
            before.zip(after?),
        ))
    }

    fn set_up(&self) -> anyhow::Result<Setup> {
        raise_file_limit(self.connections)?;
        wait_for_tracker(self.run.server_address)?;
        let tls = self.connect.enable_tls;
        Ok(Setup {
            tls: tls.then(|| TlsClient::new(self.connect)).transpose()?,
            options: ClientOptions {
                server: self.run.server_address,
                keep_alive: self.keep_alive,
                pipelining_depth: self.pipelining_depth,
                late_after_micros: self.answers.late_after_micros(),
                lost_after_micros: self.answers.lost_after_micros(),
            },
            clock: Clock::start(),
        })
    }

    /// The worker of a number, with its share of the connections.
    fn worker(
        &self,
        setup: &Setup,
        number: usize,
        window_micros: Range<u64>,
    ) -> anyhow::Result<Worker<D>> {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let clients = share(connections, self.run.workers, number).map(|client| {
            let place = usize::try_from(client).unwrap_or(usize::MAX);
            let ip = client_ips::of_socket(&self.connect.client_ips, place);
            let tls = setup.tls.as_ref().map(|tls| tls.another(self.connect));
            Client::new((self.dialogue)(client), ip, tls)
        });
        let seed = u64::try_from(number).unwrap_or(0);
        let shared = Shared {
            writer: self.writer.clone(),
            mix: self.mix.clone(),
            rng: Rng::with_seed(self.run.seed.wrapping_add(1 + seed)),
            tally: Tally::new(window_micros, setup.options.late_after_micros),
            out: Vec::new(),
        };
        Worker::new(setup.options, clients.collect(), shared, setup.clock)
    }
}

/// What all workers of a run have in common.
struct Setup {
    clock: Clock,
    options: ClientOptions,
    tls: Option<TlsClient>,
}

/// Each connection is an open file.
fn raise_file_limit(connections: usize) -> anyhow::Result<()> {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
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

fn wait_for_tracker(server: SocketAddr) -> anyhow::Result<()> {
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
