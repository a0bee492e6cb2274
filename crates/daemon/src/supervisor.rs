//! Worker threads, signals and the end of the process.
//!
//! A worker runs for as long as the process does. If one ends, for whatever reason, the tracker
//! would go on with a part missing; so the process ends instead, with the reason, and whoever
//! supervises it starts it anew.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, anyhow};

use crate::signals::{Signal, Signals};
use crate::systemd::Systemd;

/// Starts workers and waits, without polling, for the first reason to stop.
#[derive(Debug)]
pub struct Supervisor {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    signals: Signals,
    systemd: Systemd,
}

#[derive(Debug)]
enum Event {
    Signal(Signal),
    WorkerEnded { name: String, reason: anyhow::Error },
}

impl Supervisor {
    /// Catches signals and connects to systemd. To be made before privileges are dropped: inside
    /// a chroot systemd is out of reach. Signals that arrive from now on wait for [`Self::wait`].
    ///
    /// # Errors
    /// If signals cannot be caught.
    pub fn new() -> anyhow::Result<Self> {
        let (sender, receiver) = channel();
        let systemd = Systemd::from_environment();
        Ok(Self {
            sender,
            receiver,
            signals: Signals::catch()?,
            systemd,
        })
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
        let events = self.sender.clone();
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
                let _ = events.send(Event::WorkerEnded { name, reason });
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(worker);
        thread.with_context(|| format!("cannot start the thread {name}"))?;
        Ok(())
    }

    /// Tells systemd that the daemon is ready, then waits. Calls `on_reload` at each SIGUSR1.
    ///
    /// Returns `Ok` on SIGTERM or SIGINT. Workers are not stopped and not waited for: what they
    /// know is in memory only, and ends with the process.
    ///
    /// # Errors
    /// If a worker has ended: which, and why.
    pub fn wait(self, mut on_reload: impl FnMut()) -> anyhow::Result<()> {
        let Self {
            sender,
            receiver,
            signals,
            systemd,
        } = self;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || signals.for_each(|signal| sender.send(Event::Signal(signal)).is_ok()))
            .context("cannot start the thread signals")?;

        log::info!("ready");
        systemd.ready();
        let end = loop {
            match receiver.recv().context("no one is left to supervise")? {
                Event::Signal(Signal::Reload) => {
                    log::info!("reloading");
                    systemd.reloading();
                    on_reload();
                    systemd.ready();
                }
                Event::Signal(Signal::Stop) => {
                    log::info!("stopping, as asked by a signal");
                    break Ok(());
                }
                Event::WorkerEnded { name, reason } => {
                    break Err(reason.context(format!("worker {name} has ended")));
                }
            }
        };
        systemd.stopping();
        end
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::{SIGTERM, SIGUSR1};
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn signals_that_come_before_the_wait_are_kept() {
        let supervisor = Supervisor::new().unwrap();
        raise(SIGUSR1).unwrap();
        let (told, reloaded) = channel();
        supervisor
            .spawn("idle", move || {
                // The two signals could otherwise be delivered in either order.
                reloaded.recv()?;
                raise(SIGTERM)?;
                thread::park();
                Ok(())
            })
            .unwrap();
        let mut reloads = 0;
        let end = supervisor.wait(|| {
            reloads += 1;
            told.send(()).unwrap();
        });
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(reloads, 1);
    }

    #[test]
    fn the_first_worker_to_end_is_named() {
        let supervisor = Supervisor::new().unwrap();
        supervisor
            .spawn("steady", || {
                loop {
                    thread::park();
                }
            })
            .unwrap();
        supervisor.spawn("early", || Ok(())).unwrap();
        let end = supervisor.wait(|| ()).unwrap_err();
        assert_eq!(format!("{end:#}"), "worker early has ended: it returned");
    }
}
