//! Load tester for BitTorrent trackers over UDP.
//!
//! It plays many peers that connect, announce and scrape, and measures what the tracker makes of
//! it: answers per second, latency, late and lost answers, and, if the tracker runs on the same
//! machine, the CPU time that each answer takes and the memory.
//!
//! ```text
//!  population ── who ──┐                                ┌─ tally ── report ── table or JSON
//!  plan ── what, when ─┤                                │
//!                      ▼            requests            │
//!            load (or fill) ──▶ lane ─────────▶ tracker │
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
//! | module | what lives there |
//! |---|---|
//! | [`config`], [`client_ips`] | what the operator may choose |
//! | [`population`] | torrents, peers and their popularity |
//! | [`plan`] | which request comes next, and when |
//! | [`in_flight`] | requests that wait for answers; what is late and what is lost |
//! | [`client`] | requests and answers of one socket, as bytes |
//! | `lane` | the socket itself |
//! | `load`, `fill` | the workers' loops |
//! | [`tally`], [`report`] | counting, and what is printed |
//! | [`process`] | CPU time and memory of a process |

#![forbid(unsafe_code)]

pub mod client;
pub mod client_ips;
pub mod config;
mod fill;
pub mod in_flight;
mod lane;
mod load;
pub mod plan;
pub mod population;
pub mod process;
pub mod report;
pub mod tally;

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use aquatic_daemon::clock::Clock;
use serde::Serialize;

use crate::config::LoadTestConfig;
use crate::fill::{Fill, FillWorker};
use crate::lane::Lane;
use crate::load::{Load, LoadWorker, Pace};
use crate::plan::{Mix, to_f64};
use crate::population::{Population, PopulationOptions};
use crate::process::Usage;
use crate::report::{FillReport, LoadReport};
use crate::tally::Tally;

/// How long a tracker may still tidy up after it was filled, before its memory is looked at.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Runs the test and prints the report to standard output.
///
/// # Errors
/// If sockets cannot be opened, the tracker does not answer at first, or cannot be observed.
pub fn run(config: LoadTestConfig) -> anyhow::Result<()> {
    if config.fill.enabled {
        print(&config, &run_fill(&config)?)
    } else {
        print(&config, &run_load(&config)?)
    }
}

fn run_load(config: &LoadTestConfig) -> anyhow::Result<LoadReport> {
    let requests = &config.requests;
    let population = Arc::new(Population::new(&PopulationOptions {
        torrents: requests.number_of_torrents,
        peers: requests.number_of_peers,
        exponent: requests.torrent_popularity_exponent,
        seeder_probability: requests.seeder_probability,
        seed: config.seed,
    }));
    let clock = Clock::start();
    let lanes = open_lanes(config, clock)?;

    let seconds = |seconds: u32| u64::from(seconds) * 1_000_000;
    let start_micros = clock.micros() + seconds(config.warm_up_seconds);
    let window_micros = start_micros..start_micros + seconds(config.duration_seconds);
    let mut socket = 0..;
    let mut workers = Vec::new();
    for (worker, lanes) in (0u64..).zip(lanes) {
        let load = Load {
            pace: pace(config),
            mix: Mix {
                connect: requests.weight_connect,
                announce: requests.weight_announce,
                scrape: requests.weight_scrape,
            },
            scrape_torrents: requests.scrape_torrents,
            population: Arc::clone(&population),
            window_micros: window_micros.clone(),
            grace_micros: u64::from(config.answers.lost_after_ms) * 1000,
            seed: config.seed.wrapping_add(1 + worker),
        };
        let share = |socket| share(population.len(), config.sockets(), socket);
        let lanes = lanes.into_iter().zip(socket.by_ref().map(share)).collect();
        workers.push(spawn(move || LoadWorker::new(load, clock, lanes).run())?);
    }

    let before = look(config, clock, window_micros.start)?;
    let after = look(config, clock, window_micros.end)?;
    let tally = join(workers, window_micros)?;

    let tracker = (config.server_address, config.rate_per_second);
    let used = |usage: fn(&Look) -> Option<Usage>| {
        let (before, after) = (usage(before.as_ref()?)?, usage(after.as_ref()?)?);
        Some(after.since(&before))
    };
    let (tracker_usage, tester_usage) = (used(|look| look.tracker), used(|look| look.tester));
    let seconds = f64::from(config.duration_seconds);
    Ok(LoadReport::new(
        tracker,
        seconds,
        &tally,
        tracker_usage,
        tester_usage,
    ))
}

fn run_fill(config: &LoadTestConfig) -> anyhow::Result<FillReport> {
    let torrents = config.fill.number_of_torrents;
    let clock = Clock::start();
    let lanes = open_lanes(config, clock)?;

    // It has answered, so it has started up.
    let before = tracker_usage(config)?;
    let start_micros = clock.micros();
    let mut workers = Vec::new();
    for (worker, lanes) in lanes.into_iter().enumerate() {
        let fill = Fill {
            torrents: share(torrents, config.workers, worker),
            peers_per_torrent: config.fill.peers_per_torrent,
            seeder_probability: config.requests.seeder_probability,
            seed: config.seed,
            in_flight_per_socket: config.network.in_flight_per_socket,
        };
        workers.push(spawn(move || FillWorker::new(fill, clock, lanes).run())?);
    }
    let tally = join(workers, 0..u64::MAX)?;
    let seconds = to_f64(clock.micros() - start_micros) / 1e6;

    thread::sleep(SETTLE_TIME);
    let after = tracker_usage(config)?;
    let torrents = u64::from(torrents);
    let peers = torrents * u64::from(config.fill.peers_per_torrent);
    let usages = before.zip(after);
    Ok(FillReport::new(
        config.server_address,
        (torrents, peers),
        seconds,
        &tally,
        usages,
    ))
}

/// The sockets of each worker, each with a connection id.
fn open_lanes(config: &LoadTestConfig, clock: Clock) -> anyhow::Result<Vec<Vec<Lane>>> {
    let per_worker = config.network.sockets_per_worker;
    let mut receiver = lane::receiver();
    let mut open = |number| {
        let mut lane = Lane::open(config, number)?;
        lane.shake_hands(clock, &mut receiver)?;
        Ok(lane)
    };
    let mut lanes_of = |worker| {
        let first = worker * per_worker;
        (first..first + per_worker).map(&mut open).collect()
    };
    (0..config.workers).map(&mut lanes_of).collect()
}

fn pace(config: &LoadTestConfig) -> Pace {
    match config.rate_per_second {
        0 => Pace::InFlight(config.network.in_flight_per_socket),
        rate => {
            let workers = u32::try_from(config.workers).unwrap_or(u32::MAX);
            Pace::Rate(f64::from(rate) / f64::from(workers))
        }
    }
}

/// The part of `total` things that falls to one of several.
fn share(total: u32, parts: usize, part: usize) -> Range<u32> {
    let [parts, part] = [parts, part].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
    let border = |part: u64| {
        let border = u64::from(total).saturating_mul(part) / parts.max(1);
        u32::try_from(border).unwrap_or(total)
    };
    border(part)..border(part + 1)
}

/// What tracker and tester have used up to a moment.
struct Look {
    tracker: Option<Usage>,
    /// Not every system has `/proc`.
    tester: Option<Usage>,
}

/// Waits for the moment. `None` if that is missed, because the machine has too much to do: CPU
/// times of another period than the answers' would mislead.
fn look(config: &LoadTestConfig, clock: Clock, moment_micros: u64) -> anyhow::Result<Option<Look>> {
    let missed_micros = u64::from(config.duration_seconds) * 1_000_000 / 100;
    sleep_until(clock, moment_micros);
    let look = Look {
        tracker: tracker_usage(config)?,
        tester: Usage::of_self().ok(),
    };
    let late_micros = clock.micros().saturating_sub(moment_micros);
    if late_micros > missed_micros {
        log::warn!(
            "CPU times were read {} ms late and are left out: give the tester a core of its own",
            late_micros / 1000
        );
        return Ok(None);
    }
    Ok(Some(look))
}

fn tracker_usage(config: &LoadTestConfig) -> anyhow::Result<Option<Usage>> {
    match config.tracker_pid {
        0 => Ok(None),
        pid => Usage::of_process(pid).map(Some),
    }
}

type Worker = JoinHandle<anyhow::Result<Tally>>;

fn spawn(run: impl FnOnce() -> anyhow::Result<Tally> + Send + 'static) -> anyhow::Result<Worker> {
    let thread = thread::Builder::new().name("worker".to_owned());
    thread.spawn(run).context("cannot start a worker thread")
}

fn join(workers: Vec<Worker>, window_micros: Range<u64>) -> anyhow::Result<Tally> {
    let mut sum = Tally::new(window_micros);
    for worker in workers {
        sum.add(
            &worker
                .join()
                .map_err(|_| anyhow!("a worker has panicked"))??,
        );
    }
    Ok(sum)
}

fn sleep_until(clock: Clock, micros: u64) {
    thread::sleep(Duration::from_micros(micros.saturating_sub(clock.micros())));
}

fn print(config: &LoadTestConfig, report: &(impl Display + Serialize)) -> anyhow::Result<()> {
    let text = if config.print_json {
        serde_json::to_string(report)? + "\n"
    } else {
        report.to_string()
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write the report to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_and_even() {
        let shares: Vec<_> = (0..4).map(|part| share(10, 4, part)).collect();
        assert_eq!(shares, [0..2, 2..5, 5..7, 7..10]);
        assert_eq!(share(u32::MAX, 1, 0), 0..u32::MAX);
    }
}
