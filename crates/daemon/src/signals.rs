//! The signals that a daemon acts on, and those that must not end it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ};

/// What a daemon says about signals on `--help`.
pub const HELP: &str = "\
Signals:
  TERM, INT    Stop, with exit code 0
  HUP, USR1    Read the files that the configuration names (access list, certificate) again
  QUIT         End at once, and leave a core dump if the system is set up for it
  USR2, ALRM, VTALRM, XFSZ, PIPE, WINCH
               Nothing
All others, such as TSTP and CONT, do what they do to any program.";

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP or SIGUSR1: read access list and certificates again.
    Reload,
    /// One that would end a program that does not know it. Here it only leaves a line in the log.
    Meaningless(&'static str),
}

/// Signals that have arrived since this was made, and those to come.
#[derive(Debug)]
pub struct Signals(signal_hook::iterator::Signals);

impl Signals {
    /// From now on the signals are kept here instead of ending the process.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch() -> anyhow::Result<Self> {
        // Whoever writes more to a file than RLIMIT_FSIZE allows gets this signal, and, if that has
        // not ended the program, an error that is dealt with where it occurs. Nothing is logged
        // about the signal: the log may be that file.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .context("cannot catch SIGXFSZ")?;
        signal_hook::iterator::Signals::new([
            SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM,
        ])
        .map(Self)
        .context("cannot catch signals")
    }

    /// Calls `act` for each signal, for ever; sleeps in between.
    pub fn for_each(mut self, mut act: impl FnMut(Signal)) {
        for number in self.0.forever() {
            act(meaning(number));
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
