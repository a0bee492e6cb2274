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
use crate::core::process::Usage;

/// When a run measures.
#[derive(Clone, Debug)]
pub struct Window {
    clock: Clock,
    opened_micros: u64,
    micros: Range<u64>,
}

/// What was used so far, or within a window: CPU times, and memory at its end.
#[derive(Clone, Copy, Debug, Default)]
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
        let opened_micros = clock.micros();
        let start = opened_micros + micros(config.warm_up_seconds);
        Self {
            clock,
            opened_micros,
            micros: start..start + micros(config.duration_seconds),
        }
    }

    /// When the warm-up began, by the run's clock.
    #[must_use]
    pub fn opened_micros(&self) -> u64 {
        self.opened_micros
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
        let used = |before: Option<Usage>, after: Option<Usage>| Some(after?.since(&before?));
        Ok(Used {
            tracker: used(before.tracker, after.tracker),
            tester: used(before.tester, after.tester),
        })
    }

    /// Waits for the moment. Nothing is known if that is missed, because the machine has too much
    /// to do: CPU times of another period than the answers' would mislead.
    fn look(&self, config: &RunConfig, moment_micros: u64) -> anyhow::Result<Used> {
        let missed_micros = u64::from(config.duration_seconds) * 1_000_000 / 100;
        let wait_micros = moment_micros.saturating_sub(self.clock.micros());
        thread::sleep(Duration::from_micros(wait_micros));
        let used = Used {
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
            return Ok(Used::default());
        }
        Ok(used)
    }
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

/// Starts a worker thread.
///
/// # Errors
/// If the system has no room for a thread.
pub fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    let thread = thread::Builder::new().name("worker".to_owned()).spawn(run);
    thread.context("cannot start a worker thread")
}

/// Waits for all workers, and gives back what each has found.
///
/// # Errors
/// If one of them fails.
pub fn join<T>(workers: Vec<JoinHandle<anyhow::Result<T>>>) -> anyhow::Result<Vec<T>> {
    let join = |worker: JoinHandle<_>| {
        let result = worker.join();
        result.map_err(|_| anyhow!("a worker has panicked"))?
    };
    workers.into_iter().map(join).collect()
}
