//! Worker threads, signals and the end of the process.
//!
//! A worker runs for as long as the process does. If one ends, for whatever reason, the tracker
//! would go on with a part missing; so the process ends instead, with the reason, and whoever
//! supervises it starts it anew.
//!
//! ```text
//!   main thread     waits for the first reason to stop; does nothing else, so nothing delays it
//!   loader          starts the daemon: READY=1; then reloads when asked to: RELOADING=1 … READY=1
//!   signals         stop ──▶ main thread      reload ──▶ loader, at most one ahead
//!   workers         their end ──▶ main thread
//! ```
//!
//! So a signal to stop is obeyed at once, also during a start or a reload that takes long, or hangs
//! in a file that does not come.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use anyhow::{Context, anyhow};

use crate::logging;
use crate::signals::{Signal, Signals};
use crate::systemd::Systemd;

/// Starts workers, and learns of their end.
#[derive(Clone, Debug)]
pub struct Supervisor {
    ends: Sender<End>,
}

/// Why the process ends.
#[derive(Debug)]
enum End {
    Signal,
    StartFailed(anyhow::Error),
    WorkerEnded { name: String, reason: anyhow::Error },
}

impl Supervisor {
    /// Runs a daemon to its end. `start` binds sockets, loads files, starts workers with
    /// [`Self::spawn`], and returns what is to be done at a reload (SIGHUP, SIGUSR1). Both are
    /// called in a thread of their own. Of reloads that are asked for during a reload, one is done.
    ///
    /// Signals are caught from now on, and systemd is told when the daemon is ready, reloads and
    /// stops. (Its socket is found before `start` could change the root directory.)
    ///
    /// Returns `Ok` on SIGTERM or SIGINT, at once: neither `start` nor a reload nor workers are
    /// stopped or waited for. What they know is in memory only, and ends with the process.
    ///
    /// # Errors
    /// If signals cannot be caught, if the start fails, or if a worker has ended: which, and why.
    pub fn run<R: FnMut()>(
        start: impl FnOnce(&Self) -> anyhow::Result<R> + Send + 'static,
    ) -> anyhow::Result<()> {
        let signals = Signals::catch()?;
        let systemd = Arc::new(Systemd::from_environment());
        let (ends, first_end) = channel();
        let (ask_for_reload, reloads) = sync_channel(1);
        let supervisor = Self { ends };
        supervisor.listen(signals, ask_for_reload)?;
        supervisor.load(start, reloads, Arc::clone(&systemd))?;

        let end = first_end.recv().context("no one is left to supervise")?;
        if let End::Signal = end {
            log::info!("stopping, as asked by a signal");
        }
        systemd.stopping();
        match end {
            End::Signal => Ok(()),
            End::StartFailed(reason) => Err(reason),
            End::WorkerEnded { name, reason } => {
                Err(reason.context(format!("worker {name} has ended")))
            }
        }
    }

    /// Starts a worker in a thread of its own. Linux shows the first 15 bytes of the name.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let name = name.into();
        let ends = self.ends.clone();
        let worker = {
            let name = name.clone();
            move || {
                // With `panic = "abort"` a panic ends the process on the spot, after the hook of
                // `logging` has told the reason.
                let reason = match panic::catch_unwind(AssertUnwindSafe(work)) {
                    Ok(Ok(())) => anyhow!("it returned"),
                    Ok(Err(error)) => error,
                    Err(_) => anyhow!("it panicked, as logged above"),
                };
                // Nobody listens any more when the process is ending already.
                let _ = ends.send(End::WorkerEnded { name, reason });
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(worker);
        thread.with_context(|| format!("cannot start the thread {name}"))?;
        Ok(())
    }

    fn listen(&self, signals: Signals, ask_for_reload: SyncSender<()>) -> anyhow::Result<()> {
        let ends = self.ends.clone();
        self.spawn("signals", move || {
            signals.for_each(|signal| match signal {
                // A reload that has been asked for, but has not begun, will do.
                Signal::Reload => drop(ask_for_reload.try_send(())),
                Signal::Stop => drop(ends.send(End::Signal)),
                Signal::Meaningless(name) => log::info!("{name} means nothing here: ignored"),
            });
            Ok(())
        })
    }

    fn load<R: FnMut()>(
        &self,
        start: impl FnOnce(&Self) -> anyhow::Result<R> + Send + 'static,
        reloads: Receiver<()>,
        systemd: Arc<Systemd>,
    ) -> anyhow::Result<()> {
        let supervisor = self.clone();
        self.spawn("loader", move || {
            let mut reload = match start(&supervisor) {
                Ok(reload) => reload,
                Err(reason) => {
                    let _ = supervisor.ends.send(End::StartFailed(reason));
                    return Ok(());
                }
            };
            log::info!("ready");
            // Whoever is told finds in the log how it went.
            logging::flush();
            systemd.ready();
            for () in reloads {
                log::info!("reloading");
                systemd.reloading();
                reload();
                logging::flush();
                systemd.ready();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_worker_to_end_is_named() {
        let end = Supervisor::run(|supervisor| {
            supervisor.spawn("steady", || {
                loop {
                    thread::park();
                }
            })?;
            supervisor.spawn("early", || Ok(()))?;
            Ok(|| ())
        });
        let end = end.unwrap_err();
        assert_eq!(format!("{end:#}"), "worker early has ended: it returned");
    }

    #[test]
    fn a_start_that_fails_ends_with_its_own_reason() {
        let end = Supervisor::run(|_| Err::<fn(), _>(anyhow!("no disk")));
        assert_eq!(format!("{:#}", end.unwrap_err()), "no disk");
    }
}
