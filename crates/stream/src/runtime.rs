//! Which event loop a worker runs.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use aquatic_channel::Bell;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Finisher;

use crate::glommio::{self, GlommioPost};
use crate::mio::{self, MioPost};
use crate::{Handler, Hub, Runtime};

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

/// Where a worker will wait; made before its thread, so that others know how to wake it.
pub enum Post {
    /// For [`crate::mio`].
    Mio(MioPost),
    /// For [`crate::glommio`].
    Glommio(GlommioPost),
}

impl Post {
    /// # Errors
    /// If the system has no more files.
    pub fn new(runtime: ChosenRuntime) -> anyhow::Result<Self> {
        match runtime {
            ChosenRuntime::Mio => MioPost::new().map(Self::Mio),
            ChosenRuntime::Glommio => GlommioPost::new().map(Self::Glommio),
        }
    }

    /// What wakes this worker.
    #[must_use]
    pub fn bell(&self) -> Bell {
        match self {
            Self::Mio(post) => post.bell(),
            Self::Glommio(post) => post.bell(),
        }
    }

    /// Says when the worker is to end its connections, and waits for that.
    pub fn finish_for(&mut self, finisher: Finisher) {
        match self {
            Self::Mio(post) => post.finish_for(finisher),
            Self::Glommio(post) => post.finish_for(finisher),
        }
    }

    /// Runs a worker for ever. `batch_wait` is how long it may wait for a batch while it is busy.
    ///
    /// # Errors
    /// If it cannot wait at all. No client has this effect.
    pub fn run<H: Handler + 'static>(
        self,
        hub: Hub<H>,
        listeners: Vec<TcpListener>,
        clock: Clock,
        batch_wait: Duration,
    ) -> anyhow::Result<()> {
        match self {
            Self::Mio(post) => mio::run(hub, listeners, post, clock, batch_wait),
            Self::Glommio(post) => glommio::run(hub, listeners, post, clock, batch_wait),
        }
    }
}
