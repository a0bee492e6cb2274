//! The course of a run: workers start, the load warms the tracker up, a window is measured, a
//! report is printed.

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Range;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use aquatic_daemon::clock::Clock;
use serde::Serialize;

use crate::core::config::RunConfig;
use crate::core::kind::Kind;
use crate::core::process::Usage;
use crate::core::tally::Tally;

/// When a run measures.
#[derive(Clone, Debug)]
pub struct Window {
    clock: Clock,
    micros: Range<u64>,
}

/// What was used within a window: CPU times, and memory at its end.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// By the tracker, if its process is known.
    pub tracker: Option<Usage>,
    /// By this process. Not every system has `/proc`.
    pub tester: Option<Usage>,
}

impl Window {
    /// The warm-up begins now.
    #[must_use]
    pub fn open(config: &RunConfig, clock: Clock) -> Self {
        let micros = |seconds: u32| u64::from(seconds) * 1_000_000;
        let start = clock.micros() + micros(config.warm_up_seconds);
        Self {
            clock,
            micros: start..start + micros(config.duration_seconds),
        }
    }

    /// When it begins and ends, by the run's clock.
    #[must_use]
    pub fn micros(&self) -> Range<u64> {
        self.micros.clone()
    }

    /// Waits until the window is over, and tells what was used in it.
    ///
    /// # Errors
    /// If the tracker cannot be observed.
    pub fn observe(&self, config: &RunConfig) -> anyhow::Result<Used> {
        let before = self.look(config, self.micros.start)?;
        let after = self.look(config, self.micros.end)?;
        let used = |usage: fn(&Look) -> Option<Usage>| {
            let (before, after) = (usage(before.as_ref()?)?, usage(after.as_ref()?)?);
            Some(after.since(&before))
        };
        Ok(Used {
            tracker: used(|look| look.tracker),
            tester: used(|look| look.tester),
        })
    }

    /// Waits for the moment. `None` if that is missed, because the machine has too much to do: CPU
    /// times of another period than the answers' would mislead.
    fn look(&self, config: &RunConfig, moment_micros: u64) -> anyhow::Result<Option<Look>> {
        let missed_micros = u64::from(config.duration_seconds) * 1_000_000 / 100;
        let wait_micros = moment_micros.saturating_sub(self.clock.micros());
        thread::sleep(Duration::from_micros(wait_micros));
        let look = Look {
            tracker: config.tracker_usage()?,
            tester: Usage::of_self().ok(),
        };
        let late_micros = self.clock.micros().saturating_sub(moment_micros);
        if late_micros > missed_micros {
            log::warn!(
                "CPU times were read {} ms late and are left out: give the tester a core of its \
                 own",
                late_micros / 1000
            );
            return Ok(None);
        }
        Ok(Some(look))
    }
}

/// What tracker and tester have used up to a moment.
struct Look {
    tracker: Option<Usage>,
    tester: Option<Usage>,
}

impl RunConfig {
    /// What the tracker has used so far; `None` if its process is not known.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn tracker_usage(&self) -> anyhow::Result<Option<Usage>> {
        match self.tracker_pid {
            0 => Ok(None),
            pid => Usage::of_process(pid).map(Some),
        }
    }

    /// Prints a report to standard output.
    ///
    /// # Errors
    /// If nobody takes it.
    pub fn print(&self, report: &(impl Display + Serialize)) -> anyhow::Result<()> {
        let text = if self.print_json {
            serde_json::to_string(report)? + "\n"
        } else {
            report.to_string()
        };
        io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the report to standard output")
    }
}

/// Threads that each count in a tally of their own.
#[derive(Debug)]
pub struct Workers<T> {
    threads: Vec<JoinHandle<anyhow::Result<T>>>,
}

impl<T: Send + 'static> Workers<T> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            threads: Vec::new(),
        }
    }

    /// Starts one more.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub fn spawn(
        &mut self,
        run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = thread::Builder::new().name("worker".to_owned()).spawn(run);
        self.threads
            .push(thread.context("cannot start a worker thread")?);
        Ok(())
    }

    /// Waits for all, and gives back what each has found.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn join(self) -> anyhow::Result<Vec<T>> {
        let join = |thread: JoinHandle<_>| {
            let result = thread.join();
            result.map_err(|_| anyhow!("a worker has panicked"))?
        };
        self.threads.into_iter().map(join).collect()
    }
}

impl<T: Send + 'static> Default for Workers<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The tallies of all workers in one.
#[must_use]
pub fn sum<R: Kind, E: Kind>(
    window_micros: Range<u64>,
    tallies: impl IntoIterator<Item = Tally<R, E>>,
) -> Tally<R, E> {
    let mut sum = Tally::new(window_micros);
    for tally in tallies {
        sum.add(&tally);
    }
    sum
}
