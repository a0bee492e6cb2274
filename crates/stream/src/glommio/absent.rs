//! What stands here in a build without glommio: nothing can be run with it, and whoever asks for it
//! is told why.

use std::net::TcpListener;
use std::time::Duration;

use aquatic_channel::Bell;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Finisher;

use crate::{Handler, Hub};

/// There is none.
pub enum GlommioPost {}

impl GlommioPost {
    /// # Errors
    /// Always.
    pub fn new() -> anyhow::Result<Self> {
        Err(absence())
    }

    /// Says when the worker is to end its connections, and waits for that.
    pub fn finish_for(&mut self, _finisher: Finisher) {
        match *self {}
    }

    /// What wakes this worker.
    #[must_use]
    pub fn bell(&self) -> Bell {
        match *self {}
    }
}

/// Whether glommio can be used, by so many executors.
///
/// # Errors
/// Always.
pub fn check(_executors: usize) -> anyhow::Result<()> {
    Err(absence())
}

fn absence() -> anyhow::Error {
    if cfg!(target_os = "linux") {
        anyhow::anyhow!("this program was built without it (cargo feature `glommio`)")
    } else {
        anyhow::anyhow!("it needs Linux")
    }
}

/// Never runs, since there is no post.
///
/// # Errors
/// None.
pub fn run<H: Handler + 'static>(
    _hub: Hub<H>,
    _listeners: Vec<TcpListener>,
    post: GlommioPost,
    _clock: Clock,
    _batch_wait: Duration,
) -> anyhow::Result<()> {
    match post {}
}
