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
//! in a file that does not come. Workers get [a moment](FINISH_MAX) to finish what they have begun,
//! or as long as they have [asked for](Supervisor::finisher_within). Another signal cuts that
//! short.

use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::clock::Clock;
use crate::finishing::Finishing;
use crate::heartbeat::Heart;
use crate::kept_sockets::KeptSockets;
use crate::patience::Patience;
use crate::reload_report::{self, ReloadReport};
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
    kept_sockets: Arc<KeptSockets>,
    /// The start is over.
    is_started: Arc<AtomicBool>,
    is_stopping: Arc<AtomicBool>,
    at_end: Arc<AtEnd>,
}

/// What a daemon does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does not serve yet.
    Starting,
    /// It serves.
    Serving,
    /// It finishes what it has begun.
    Stopping,
}

/// What is done last.
#[derive(Default)]
struct AtEnd(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for AtEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtEnd").finish_non_exhaustive()
    }
}

/// Asks the loader for a reload, and where to say what has come of it, if somebody wants to know.
type ReloadOrder = Option<Sender<ReloadReport>>;

/// What the main thread is told by others.
enum Event {
    /// Why the process has to end.
    Failure(anyhow::Error),
    /// A reload that somebody waits for.
    Reload(Sender<ReloadReport>),
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
    /// and workers only for a [moment](FINISH_MAX), unless they have asked for
    /// [more](Self::finisher_within). What they know is in memory only, and ends with the process,
    /// unless [somebody](Self::last_finisher) writes it down. The next signal ends the wait for
    /// workers, and the one after that the wait for what is written.
    ///
    /// systemd is asked for more time while the start gets on, which shows in signs of life of its
    /// thread, and during the stop, which takes no longer than [`LAST_MAX`].
    ///
    /// # Errors
    /// If signals cannot be caught, if the start fails, or if a worker has ended: which, and why.
    pub fn run<R: FnMut()>(
        hang_timeout: Duration,
        start: impl FnOnce(&Self) -> anyhow::Result<R> + Send + 'static,
    ) -> anyhow::Result<()> {
        heartbeat::Unborn::new("main").begin();
        let mut signals = Signals::catch(heartbeat::INTERVAL)?;
        let systemd = Arc::new(Systemd::from_environment());
        let (events, told) = channel();
        let (ask_for_reload, reloads) = sync_channel(1);
        let supervisor = Self {
            events,
            waker: signals.waker(),
            finishing: Arc::default(),
            last: Arc::default(),
            kept_sockets: Arc::new(KeptSockets::new(Arc::clone(&systemd))),
            is_started: Arc::default(),
            is_stopping: Arc::default(),
            at_end: Arc::default(),
        };
        let loader = supervisor.load(start, reloads, Arc::clone(&systemd), hang_timeout)?;
        let clock = Clock::start();
        let mut patience = Patience::new(&systemd);
        let end = wait_for_end(&mut signals, &told, &ask_for_reload, || {
            if !supervisor.is_started.load(Ordering::Acquire) {
                patience.ask_if_alive(clock.elapsed(), &loader);
            }
        });
        if end.is_ok() {
            log::info!("stopping, as asked by a signal");
        }
        supervisor.is_stopping.store(true, Ordering::Release);
        systemd.stopping();
        if end.is_ok() {
            let is_urged = || signals.arrived().contains(&Signal::Stop);
            supervisor.let_finish(is_urged, &mut Patience::new(&systemd));
        }
        supervisor.do_last_things();
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
        self.spawn_with_heart(heartbeat::Unborn::new(&name), name, work)
    }

    fn spawn_with_heart(
        &self,
        heart: heartbeat::Unborn,
        name: String,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
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

    /// What the daemon does at present.
    #[must_use]
    pub fn life(&self) -> Life {
        if self.is_stopping.load(Ordering::Acquire) {
            Life::Stopping
        } else if self.is_started.load(Ordering::Acquire) {
            Life::Serving
        } else {
            Life::Starting
        }
    }

    /// Has a reload done, as a signal does, and waits for its end. `None` if that cannot be done
    /// now: the daemon starts or stops, or another reload has been asked for that has not begun.
    #[must_use]
    pub fn reload(&self) -> Option<ReloadReport> {
        if self.life() != Life::Serving {
            return None;
        }
        let (sender, report) = channel();
        self.events.send(Event::Reload(sender)).ok()?;
        self.waker.wake();
        report.recv().ok()
    }

    /// Has `work` done at the very end, by the main thread.
    pub fn at_end(&self, work: impl FnOnce() + Send + 'static) {
        let mut all = self.at_end.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Box::new(work));
    }

    fn do_last_things(&self) {
        let mut all = self.at_end.0.lock().unwrap_or_else(PoisonError::into_inner);
        for work in all.drain(..) {
            work();
        }
    }

    /// Sockets that an earlier process has left, and those that this one will leave.
    #[must_use]
    pub fn kept_sockets(&self) -> &KeptSockets {
        &self.kept_sockets
    }

    /// For a worker that has something to finish when the daemon stops. `wake` ends its sleep.
    pub fn finisher(&self, wake: impl Fn() + Send + 'static) -> Finisher {
        self.finisher_within(FINISH_MAX, wake)
    }

    /// The same for one that may need as long as this. Those that need longest are told first, and
    /// the others when these have finished, or when it would be too late otherwise.
    pub fn finisher_within(
        &self,
        time_max: Duration,
        wake: impl Fn() + Send + 'static,
    ) -> Finisher {
        self.finishing.join(time_max, Box::new(wake))
    }

    /// For a worker that has something to do when all others have finished, and is given what they
    /// have left of [`LAST_MAX`] for it. `wake` ends its sleep.
    pub fn last_finisher(&self, wake: impl Fn() + Send + 'static) -> Finisher {
        self.last.join(LAST_MAX, Box::new(wake))
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

    /// Lets workers finish what they have begun, and then those who wait for that. Either wait ends
    /// when the operator urges, which is asked again and again.
    fn let_finish(&self, mut is_urged: impl FnMut() -> bool, patience: &mut Patience<'_>) {
        let clock = Clock::start();
        let mut urged = 0;
        let mut wait_for = |finishing: &Finishing, since: Duration, urges_max: u32| {
            loop {
                let elapsed = clock.elapsed();
                if finishing.go_on(elapsed.saturating_sub(since)) || elapsed >= LAST_MAX {
                    return Waited::Enough;
                }
                urged += u32::from(is_urged());
                if urged >= urges_max {
                    return Waited::UntilSignal;
                }
                heartbeat::beat();
                patience.ask(elapsed);
                thread::sleep(FINISH_LOOK_INTERVAL);
            }
        };
        if wait_for(&self.finishing, Duration::ZERO, 1) == Waited::UntilSignal {
            log::warn!("ending connections at once, as asked by another signal");
        }
        // What is written down is worth more than connections.
        let waited = wait_for(&self.last, clock.elapsed(), 2);
        if !self.last.is_over() {
            let why = match waited {
                Waited::Enough => format!("within {LAST_MAX:?}"),
                Waited::UntilSignal => "when another signal came".to_owned(),
            };
            log::error!("ending, though not everything was written {why}");
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
        reloads: Receiver<ReloadOrder>,
        systemd: Arc<Systemd>,
        hang_timeout: Duration,
    ) -> anyhow::Result<Arc<Heart>> {
        let supervisor = self.clone();
        let unborn = heartbeat::Unborn::new("loader");
        let heart = unborn.heart();
        self.spawn_with_heart(unborn, "loader".to_owned(), move || {
            let mut reload = match heartbeat::outside(|| start(&supervisor)) {
                Ok(reload) => reload,
                Err(reason) => {
                    supervisor.fail(reason);
                    return Ok(());
                }
            };
            supervisor.watch(hang_timeout, Arc::clone(&systemd))?;
            supervisor.is_started.store(true, Ordering::Release);
            log::info!("ready");
            // Whoever is told finds in the log how it went.
            logging::flush();
            heartbeat::outside(|| systemd.ready());
            loop {
                heartbeat::beat();
                let report_to = match reloads.recv_timeout(heartbeat::INTERVAL) {
                    Ok(report_to) => report_to,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                };
                log::info!("reloading");
                heartbeat::outside(|| {
                    systemd.reloading();
                    let report = reload_report::of(&mut reload);
                    logging::flush();
                    systemd.ready();
                    if let Some(sender) = report_to {
                        // Who has asked may have gone.
                        let _ = sender.send(report);
                    }
                });
            }
        })?;
        Ok(heart)
    }

    fn watch(&self, hang_timeout: Duration, systemd: Arc<Systemd>) -> anyhow::Result<()> {
        let supervisor = self.clone();
        self.spawn("watchdog", move || {
            watchdog::run(hang_timeout, &systemd, |names| {
                let what = format!(
                    "worker {} hangs: no sign of life for {hang_timeout:?}",
                    names.join(", ")
                );
                supervisor.fail(anyhow!("{what} (see hang_timeout)"));
                thread::sleep(END_MAX);
                // The main thread should have ended the process by now.
                logging::write_past_queue(&format!("{what}\n"));
                process::exit(1);
            })
        })
    }
}

/// Why a wait for workers is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// They have finished, or have had their time.
    Enough,
    /// The operator does not want to wait.
    UntilSignal,
}

/// Passes signals on, and runs tasks, until there is a reason to end: a signal, or a failure.
/// `look` is called at least once in each [`heartbeat::INTERVAL`].
fn wait_for_end(
    signals: &mut Signals,
    told: &Receiver<Event>,
    ask_for_reload: &SyncSender<ReloadOrder>,
    mut look: impl FnMut(),
) -> anyhow::Result<()> {
    loop {
        heartbeat::beat();
        look();
        for signal in signals.wait() {
            match signal {
                // A reload that has been asked for, but has not begun, will do.
                Signal::Reload => drop(ask_for_reload.try_send(None)),
                Signal::Stop => return Ok(()),
                Signal::Meaningless(name) => log::info!("{name} means nothing here: ignored"),
            }
        }
        for event in told.try_iter() {
            match event {
                Event::Failure(reason) => return Err(reason),
                // If it has no room, who has asked learns of it by the end of the channel.
                Event::Reload(sender) => drop(ask_for_reload.try_send(Some(sender))),
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

    fn idle_supervisor() -> Supervisor {
        Supervisor {
            events: channel().0,
            waker: Signals::catch(heartbeat::INTERVAL).unwrap().waker(),
            finishing: Arc::default(),
            last: Arc::default(),
            kept_sockets: Arc::default(),
            is_started: Arc::default(),
            is_stopping: Arc::default(),
            at_end: Arc::default(),
        }
    }

    #[test]
    fn last_words_come_when_all_others_have_finished() {
        let finishing = idle_supervisor();
        let systemd = Systemd::default();
        let mut first = finishing.finisher_within(LAST_MAX, || ());
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
            finishing.let_finish(|| false, &mut Patience::new(&systemd));
            assert!(!order.join().unwrap());
        });
    }

    /// Once for those who finish, and once more for those who write down.
    #[test]
    fn nobody_is_waited_for_longer_than_the_operator_likes() {
        let supervisor = idle_supervisor();
        let first = supervisor.finisher_within(LAST_MAX, || ());
        let last = supervisor.last_finisher(|| ());
        let mut asked = Vec::new();
        let is_urged = || {
            asked.push((first.is_stopping(), last.is_stopping()));
            asked.len() % 3 == 0
        };
        supervisor.let_finish(is_urged, &mut Patience::new(&Systemd::default()));
        let expected = [[(true, false); 3], [(true, true); 3]];
        assert_eq!(asked, expected.concat());
    }

    /// Somebody who presses Ctrl-C twice has not said that the swarms are to be lost.
    #[test]
    fn one_more_signal_does_not_end_what_is_written() {
        let supervisor = idle_supervisor();
        let last = supervisor.last_finisher(|| ());
        let mut asked = 0;
        let is_urged = || {
            asked += 1;
            asked == 1 || asked == 5
        };
        supervisor.let_finish(is_urged, &mut Patience::new(&Systemd::default()));
        assert!(last.is_stopping());
        assert_eq!(asked, 5);
    }

    #[test]
    fn a_start_that_fails_ends_with_its_own_reason() {
        let end = Supervisor::run(Duration::ZERO, |_| Err::<fn(), _>(anyhow!("no disk")));
        assert_eq!(format!("{:#}", end.unwrap_err()), "no disk");
    }
}
