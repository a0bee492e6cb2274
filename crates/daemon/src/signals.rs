//! The signals that a daemon acts on.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGUSR1: read access list and certificates again.
    Reload,
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
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1])
            .map(Self)
            .context("cannot catch signals")
    }

    /// Calls `act` for each signal, for as long as it returns `true`; sleeps in between.
    pub fn for_each(mut self, mut act: impl FnMut(Signal) -> bool) {
        for number in self.0.forever() {
            let signal = if number == SIGUSR1 {
                Signal::Reload
            } else {
                Signal::Stop
            };
            if !act(signal) {
                return;
            }
        }
    }
}
