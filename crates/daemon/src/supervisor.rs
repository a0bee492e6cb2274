//! Worker threads, signals and the end of the process.
//!
//! A worker runs for as long as the process does. If one ends, for whatever reason, the tracker
//! would go on with a part missing; so the process ends instead, with the reason, and whoever
//! supervises it starts it anew. A worker that hangs is as good as one that has ended.
//!
//! ```text
//!   main thread     waits for signals, and for the first reason to stop; nothing delays it
//!   loader          starts the daemon: READY=1; then reloads when asked to: RELOADING=1 … READY=1
//!   watchdog        a thread is silent ──▶ main thread      all live: WATCHDOG=1
//!   workers         their end ──▶ main thread
//! ```
//!
//! So a signal to stop is obeyed at once, also during a start or a reload that takes long, or hangs
//! in a file that does not come. Workers get [a moment](FINISH_MAX) to finish what they have begun.

use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::clock::Clock;
use crate::finishing::Finishing;
use crate::signals::{Signal, SignalWaker, Signals};
use crate::systemd::Systemd;
use crate::{heartbeat, logging, watchdog};

pub use crate::finishing::{FINISH_MAX, Finisher, LAST_MAX};

/// How often the main thread looks whether all workers have finished.
const FINISH_LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// How long the watchdog leaves the end to the main thread, which may be the one that hangs.
const END_MAX: Duration = Duration::from_secs(2);

/// Starts workers, and learns of their end.
#[derive(Clone, Debug)]
pub struct Supervisor {
    events: Sender<Event>,
    waker: SignalWaker,
    finishing: Arc<Finishing>,
    /// Of those who begin when all others have finished.
    last: Arc<Finishing>,
}

/// What the main thread is told by others.
enum Event {
    /// Why the process has to end.
    Failure(anyhow::Error),
    /// Something that has to be done in this very thread.
    Task(Box<dyn FnOnce() + Send>),
}

impl Supervisor {
    /// Runs a daemon to its end. `start` binds sockets, loads files, starts workers with
    /// [`Self::spawn`], and returns what is to be done at a reload (SIGHUP, SIGUSR1). Both are
    /// called in a thread of their own. Of reloads that are asked for during a reload, one is done.
    ///
    /// Signals are caught from now on, and systemd is told when the daemon is ready, reloads and
    /// stops. (Its socket is found before `start` could change the root directory.)
    ///
    /// A thread that shows [no sign of life](heartbeat) for `hang_timeout`, when the start is over,
    /// ends the process; zero: never.
    ///
    /// Returns `Ok` on SIGTERM or SIGINT: neither `start` nor a reload are stopped or waited for,
    /// and workers only for a [moment](FINISH_MAX). What they know is in memory only, and ends with
    /// the process, unless [somebody](Self::last_finisher) writes it down.
    ///
    /// # Errors
    /// If signals cannot be caught, if the start fails, or if a worker has ended: which, and why.
    pub fn run<R: FnMut()>(
        hang_timeout: Duration,
        start: impl FnOnce(&Self) -> anyhow::Result<R> + Send + 'static,
    ) -> anyhow::Result<()> {
        heartbeat::Unborn::new("main").begin();
        let signals = Signals::catch(heartbeat::INTERVAL)?;
        let systemd = Arc::new(Systemd::from_environment());
        let (events, told) = channel();
        let (ask_for_reload, reloads) = sync_channel(1);
        let supervisor = Self {
            events,
            waker: signals.waker(),
            finishing: Arc::default(),
            last: Arc::default(),
        };
        supervisor.load(start, reloads, Arc::clone(&systemd), hang_timeout)?;
        let end = wait_for_end(signals, &told, &ask_for_reload);
        if end.is_ok() {
            log::info!("stopping, as asked by a signal");
        }
        systemd.stopping();
        if end.is_ok() {
            supervisor.let_finish();
        }
        end
    }

    /// Starts a worker in a thread of its own. Linux shows the first 15 bytes of the name. It has
    /// to show [signs of life](heartbeat).
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let name = name.into();
        let heart = heartbeat::Unborn::new(&name);
        let supervisor = self.clone();
        let worker = {
            let name = name.clone();
            move || {
                heart.begin();
                // With `panic = "abort"` a panic ends the process on the spot, after the hook of
                // `logging` has told the reason.
                let reason = match panic::catch_unwind(AssertUnwindSafe(work)) {
                    Ok(Ok(())) => anyhow!("it returned"),
                    Ok(Err(error)) => error,
                    Err(_) => anyhow!("it panicked, as logged above"),
                };
                supervisor.fail(reason.context(format!("worker {name} has ended")));
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(worker);
        thread.with_context(|| format!("cannot start the thread {name}"))?;
        Ok(())
    }

    /// For a worker that has something to finish when the daemon stops. `wake` ends its sleep.
    pub fn finisher(&self, wake: impl Fn() + Send + 'static) -> Finisher {
        self.finishing.join(Box::new(wake))
    }

    /// For a worker that has something to do when all others have finished, and is given more time
    /// for it: [`LAST_MAX`]. `wake` ends its sleep.
    pub fn last_finisher(&self, wake: impl Fn() + Send + 'static) -> Finisher {
        self.last.join(Box::new(wake))
    }

    /// Does something in each thread that was there before the start: the main thread, and the one
    /// that writes the log; then in this one. Threads that are started afterwards inherit from this
    /// one what the system keeps for each thread.
    ///
    /// Waits until it has been done; but the log may be in a pipe that nobody reads, and the thread
    /// that writes it does this only when it goes on.
    pub(crate) fn in_all_threads(&self, work: impl Fn() + Send + Sync + 'static) {
        let work = Arc::new(work);
        let (sender, done) = channel::<()>();
        let task = || -> Box<dyn FnOnce() + Send> {
            let (work, sender) = (Arc::clone(&work), sender.clone());
            Box::new(move || {
                work();
                drop(sender);
            })
        };
        let _ = self.events.send(Event::Task(task()));
        self.waker.wake();
        logging::send_writer_on(task());
        work();
        drop(sender);
        // Nothing is sent: this ends when all senders have gone, be it because the work was done,
        // or because there is no such thread.
        let _ = done.recv_timeout(logging::FLUSH_MAX);
    }

    /// Lets workers finish what they have begun, and then those who wait for that.
    fn let_finish(&self) {
        wait_for(&self.finishing, FINISH_MAX);
        if !self.last.is_over() && !wait_for(&self.last, LAST_MAX) {
            log::error!("ending, though not everything was written within {LAST_MAX:?}");
        }
    }

    /// Has the process end for this reason.
    fn fail(&self, reason: anyhow::Error) {
        // Nobody listens any more when the process is ending already.
        let _ = self.events.send(Event::Failure(reason));
        self.waker.wake();
    }

    fn load<R: FnMut()>(
        &self,
        start: impl FnOnce(&Self) -> anyhow::Result<R> + Send + 'static,
        reloads: Receiver<()>,
        systemd: Arc<Systemd>,
        hang_timeout: Duration,
    ) -> anyhow::Result<()> {
        let supervisor = self.clone();
        self.spawn("loader", move || {
            let mut reload = match heartbeat::outside(|| start(&supervisor)) {
                Ok(reload) => reload,
                Err(reason) => {
                    supervisor.fail(reason);
                    return Ok(());
                }
            };
            supervisor.watch(hang_timeout, Arc::clone(&systemd))?;
            log::info!("ready");
            // Whoever is told finds in the log how it went.
            logging::flush();
            heartbeat::outside(|| systemd.ready());
            loop {
                heartbeat::beat();
                match reloads.recv_timeout(heartbeat::INTERVAL) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
                log::info!("reloading");
                heartbeat::outside(|| {
                    systemd.reloading();
                    reload();
                    logging::flush();
                    systemd.ready();
                });
            }
        })
    }

    fn watch(&self, hang_timeout: Duration, systemd: Arc<Systemd>) -> anyhow::Result<()> {
        let supervisor = self.clone();
        self.spawn("watchdog", move || {
            watchdog::run(hang_timeout, &systemd, |names| {
                let what = format!(
                    "worker {} hangs: no sign of life for {hang_timeout:?}",
                    names.join(", ")
                );
                let last_words = format!("{what}\n");
                let log_hangs = names.iter().any(|name| name == logging::THREAD);
                supervisor.fail(anyhow!("{what} (see hang_timeout)"));
                if log_hangs {
                    logging::write_past_queue(&last_words);
                }
                thread::sleep(END_MAX);
                // The main thread should have ended the process by now.
                if !log_hangs {
                    logging::write_past_queue(&last_words);
                }
                process::exit(1);
            })
        })
    }
}

/// Says that it is time to finish, and waits until all have done so, but no longer than this.
/// Returns whether they have.
fn wait_for(finishing: &Finishing, time_max: Duration) -> bool {
    finishing.begin();
    let clock = Clock::start();
    while !finishing.is_over() {
        if clock.elapsed() >= time_max {
            return false;
        }
        heartbeat::beat();
        thread::sleep(FINISH_LOOK_INTERVAL);
    }
    true
}

/// Passes signals on, and runs tasks, until there is a reason to end: a signal, or a failure.
fn wait_for_end(
    mut signals: Signals,
    told: &Receiver<Event>,
    ask_for_reload: &SyncSender<()>,
) -> anyhow::Result<()> {
    loop {
        heartbeat::beat();
        for signal in signals.wait() {
            match signal {
                // A reload that has been asked for, but has not begun, will do.
                Signal::Reload => drop(ask_for_reload.try_send(())),
                Signal::Stop => return Ok(()),
                Signal::Meaningless(name) => log::info!("{name} means nothing here: ignored"),
            }
        }
        for event in told.try_iter() {
            match event {
                Event::Failure(reason) => return Err(reason),
                Event::Task(work) => work(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_worker_to_end_is_named() {
        let end = Supervisor::run(Duration::ZERO, |supervisor| {
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
    fn last_words_come_when_all_others_have_finished() {
        let finishing = Supervisor {
            events: channel().0,
            waker: Signals::catch(heartbeat::INTERVAL).unwrap().waker(),
            finishing: Arc::default(),
            last: Arc::default(),
        };
        let mut first = finishing.finisher(|| ());
        let mut last = finishing.last_finisher(|| ());
        thread::scope(|scope| {
            let order = scope.spawn(move || {
                while !first.is_stopping() {
                    thread::yield_now();
                }
                let was_early = last.is_stopping();
                first.finish();
                while !last.is_stopping() {
                    thread::yield_now();
                }
                last.finish();
                was_early
            });
            finishing.let_finish();
            assert!(!order.join().unwrap());
        });
    }

    #[test]
    fn a_start_that_fails_ends_with_its_own_reason() {
        let end = Supervisor::run(Duration::ZERO, |_| Err::<fn(), _>(anyhow!("no disk")));
        assert_eq!(format!("{:#}", end.unwrap_err()), "no disk");
    }
}
