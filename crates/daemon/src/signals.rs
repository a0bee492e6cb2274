//! The signals that a daemon acts on, and those that must not end it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What a daemon says about signals on `--help`.
pub const HELP: &str = "\
Signals:
  TERM, INT    Stop, with exit code 0. The next one ends connections at once, and one after
               that ends the program although it is writing its swarms down
  HUP, USR1    Read the configuration file again, and the files that it names (access list, keys,
               certificate); apply what needs no restart, and log what does
  QUIT         End at once, and leave a core dump if the system is set up for it
  USR2, ALRM, VTALRM, XFSZ, PIPE, WINCH
               Nothing
All others, such as TSTP and CONT, do what they do to any program.";

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP or SIGUSR1: read configuration, access list and certificates again.
    Reload,
    /// One that would end a program that does not know it. Here it only leaves a line in the log.
    Meaningless(&'static str),
}

/// Signals that have arrived since this was made, and those to come.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// The end that the signal handler writes to.
    entry: Arc<UnixStream>,
}

/// Ends the wait for signals.
#[derive(Clone, Debug)]
pub struct SignalWaker(Arc<UnixStream>);

impl SignalWaker {
    /// Ends the present wait, or the next one.
    pub fn wake(&self) {
        // If there is no room for it, there is enough to wake anybody.
        let _ = (&*self.0).write(&[0]);
    }
}

impl Signals {
    /// From now on the signals are kept here instead of ending the process. `wait_max` is how long
    /// one [`wait`](Self::wait) takes.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch(wait_max: Duration) -> anyhow::Result<Self> {
        // Whoever writes more to a file than RLIMIT_FSIZE allows gets this signal, and, if that has
        // not ended the program, an error that is dealt with where it occurs. Nothing is logged
        // about the signal: the log may be that file.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .context("cannot catch SIGXFSZ")?;
        Self::open_pipe(wait_max).context("cannot catch signals")
    }

    fn open_pipe(wait_max: Duration) -> std::io::Result<Self> {
        let (exit, entry) = UnixStream::pair()?;
        exit.set_read_timeout(Some(wait_max))?;
        let own_entry = entry.try_clone()?;
        own_entry.set_nonblocking(true)?;
        let caught = [
            SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM,
        ];
        Ok(Self {
            delivery: SignalDelivery::with_pipe(exit, entry, SignalOnly, caught)?,
            entry: Arc::new(own_entry),
        })
    }

    /// What ends a [`wait`](Self::wait) from another thread.
    #[must_use]
    pub fn waker(&self) -> SignalWaker {
        SignalWaker(Arc::clone(&self.entry))
    }

    /// The signals that have arrived. Does not wait.
    pub fn arrived(&mut self) -> Vec<Signal> {
        self.delivery.pending().map(meaning).collect()
    }

    /// Waits for signals. Returns without any when the time is over, or when woken.
    pub fn wait(&mut self) -> Vec<Signal> {
        let mut has_signals = |exit: &mut UnixStream| match exit.read(&mut [0]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        };
        match self.delivery.poll_pending(&mut has_signals) {
            Ok(pending) => pending.into_iter().flatten().map(meaning).collect(),
            // This does not happen to a socket of our own.
            Err(error) => {
                log::error!("cannot wait for signals: {error}");
                vec![Signal::Stop]
            }
        }
    }
}

fn meaning(number: i32) -> Signal {
    match number {
        SIGHUP | SIGUSR1 => Signal::Reload,
        SIGUSR2 => Signal::Meaningless("SIGUSR2"),
        SIGALRM => Signal::Meaningless("SIGALRM"),
        SIGVTALRM => Signal::Meaningless("SIGVTALRM"),
        _ => Signal::Stop,
    }
}
