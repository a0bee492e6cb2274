//! What stands here in a build without glommio: nothing can be run with it, and whoever asks for it
//! is told why.

use std::net::TcpListener;
use std::time::Duration;

use aquatic_channel::{SleepGate, WaitHandle};
use aquatic_daemon::clock::Clock;
use aquatic_daemon::supervisor::Finisher;

use crate::handler::Handler;
use crate::hub::Hub;

/// There is none.
pub enum Signal {}

/// A place for a worker to wait.
///
/// # Errors
/// Always.
pub fn wait_handle() -> anyhow::Result<WaitHandle<Signal>> {
    Err(absence())
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

/// Never runs, since there is nothing to wait at.
///
/// # Errors
/// None.
pub fn run<H: Handler + 'static>(
    _hub: Hub<H>,
    _listeners: Vec<TcpListener>,
    (signal, _): (Signal, SleepGate),
    _clock: Clock,
    _batch_wait: Duration,
    _finisher: Option<Finisher>,
) -> anyhow::Result<()> {
    match signal {}
}
