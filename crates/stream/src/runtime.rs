//! Which event loop a worker runs.

use std::net::TcpListener;
use std::time::Duration;

use ::mio::Poll;
use anyhow::Context;
use aquatic_channel::WaitHandle;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Finisher;

use crate::config::Runtime;
use crate::glommio::{self, Signal};
use crate::handler::Handler;
use crate::hub::Hub;
use crate::mio;

/// An event loop that works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenRuntime {
    /// See [`crate::mio`].
    Mio,
    /// See [`crate::glommio`].
    Glommio,
}

impl ChosenRuntime {
    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::Glommio => "glommio",
        }
    }
}

impl Runtime {
    /// Makes sure that what the operator has asked for works, with so many workers.
    ///
    /// # Errors
    /// With the reason, if it does not.
    pub fn choose(self, workers: usize) -> anyhow::Result<ChosenRuntime> {
        match self {
            Self::Auto | Self::Mio => Ok(ChosenRuntime::Mio),
            Self::Glommio => glommio::check(workers)
                .map(|()| ChosenRuntime::Glommio)
                .context("`network.runtime` is glommio, which does not work here; auto does"),
        }
    }
}

/// What a worker waits at.
pub enum EventSource {
    /// In [`crate::mio`].
    Mio(Poll),
    /// In [`crate::glommio`].
    Glommio(Signal),
}

impl ChosenRuntime {
    /// A place for a worker to wait.
    ///
    /// # Errors
    /// If a file descriptor cannot be allocated.
    pub fn wait_handle(self) -> anyhow::Result<WaitHandle<EventSource>> {
        match self {
            Self::Mio => mio::wait_handle().map(|handle| handle.map(EventSource::Mio)),
            Self::Glommio => glommio::wait_handle().map(|handle| handle.map(EventSource::Glommio)),
        }
    }
}

/// Runs the event loop of a worker; returns only on a fatal error. `batch_wait` is how long it may
/// wait for a batch while it is busy; `finisher` says when it is to end its connections, and waits
/// for that.
///
/// # Errors
/// If it cannot wait at all. No client has this effect.
pub fn run<H: Handler + 'static>(
    hub: Hub<H>,
    listeners: Vec<TcpListener>,
    handle: WaitHandle<EventSource>,
    clock: Clock,
    batch_wait: Duration,
    finisher: Option<Finisher>,
) -> anyhow::Result<()> {
    let WaitHandle { source, gate, .. } = handle;
    match source {
        EventSource::Mio(poll) => {
            mio::run(hub, listeners, (poll, gate), clock, batch_wait, finisher)
        }
        EventSource::Glommio(signal) => {
            glommio::run(hub, listeners, (signal, gate), clock, batch_wait, finisher)
        }
    }
}
