//! Which backend moves the datagrams of this process.
//!
//! `auto` takes io_uring where it works and mio where it does not
//! (`documents/decisions/backends.md`). Whether it works shows only when it is used: a container
//! may forbid it, or the memory that may be locked may suffice for one ring and not for four, and
//! that only as the user that the process has become. So each socket worker makes its ring, and
//! then all agree: either everybody has one, or nobody uses one.

use std::io;
#[cfg(target_os = "linux")]
use std::sync::{Arc, Barrier, OnceLock};

use anyhow::Context;
use aquatic_channel::WaitHandle;
use aquatic_daemon::clock::Clock;
use aquatic_udp_socket::UdpSocket;
#[cfg(target_os = "linux")]
use aquatic_uring::{Ring, Unsupported, Waker as RingWaker};

use crate::config::{Backend, Config, NetworkConfig};
use crate::socket_worker::frames::Queues;
use crate::socket_worker::host::Host;
use crate::socket_worker::last_rounds::LastRounds;
use crate::socket_worker::{self, SocketWorker};

/// What was chosen at the start.
pub(crate) enum Chosen {
    /// `None`: because it was asked for. Otherwise why io_uring was not taken.
    Mio(Option<String>),
    /// Queues of interfaces, and mio for sockets.
    Frames,
    /// Asked for by name, so that it is io_uring or nothing.
    #[cfg(target_os = "linux")]
    IoUring,
    /// io_uring, if all workers get a ring.
    #[cfg(target_os = "linux")]
    Auto(Arc<Agreement>),
}

impl Chosen {
    /// Looks at what is wanted and, in passing, at what works.
    ///
    /// # Errors
    /// If io_uring is asked for by name and does not work; with the reason.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        match config.network.backend {
            Backend::Mio => Ok(Self::Mio(None)),
            #[cfg(target_os = "linux")]
            Backend::Auto => Ok(match aquatic_uring::probe() {
                Ok(()) => Self::Auto(Agreement::new(config.topology().socket_workers())),
                Err(reason) => Self::Mio(Some(reason.to_string())),
            }),
            #[cfg(target_os = "linux")]
            Backend::IoUring => aquatic_uring::probe()
                .map(|()| Self::IoUring)
                .context("`network.backend` is io_uring"),
            #[cfg(not(target_os = "linux"))]
            Backend::Auto => Ok(Self::Mio(None)),
            #[cfg(not(target_os = "linux"))]
            Backend::IoUring => {
                anyhow::bail!("`network.backend` is io_uring, which only Linux has")
            }
        }
    }

    /// Whether socket workers make rings of io_uring.
    pub(crate) fn may_use_io_uring(&self) -> bool {
        !matches!(self, Self::Mio(_) | Self::Frames)
    }

    /// Waits until the socket workers have agreed, and says in words what is used. To be called
    /// once, when all of them have been started.
    pub(crate) fn settle(&self) -> String {
        match self {
            Self::Mio(None) => "mio".into(),
            Self::Mio(Some(reason)) => format!("mio ({reason})"),
            Self::Frames => "AF_XDP, and mio for sockets".into(),
            #[cfg(target_os = "linux")]
            Self::IoUring => "io_uring".into(),
            #[cfg(target_os = "linux")]
            Self::Auto(agreement) => match agreement.reach(None) {
                None => "io_uring".into(),
                Some(reason) => format!("mio ({reason})"),
            },
        }
    }
}

/// Where the socket workers, and the thread that has started them, decide together.
#[cfg(target_os = "linux")]
pub(crate) struct Agreement {
    barrier: Barrier,
    /// Why the first worker that failed has no ring.
    failure: OnceLock<String>,
}

#[cfg(target_os = "linux")]
impl Agreement {
    fn new(socket_workers: usize) -> Arc<Self> {
        Arc::new(Self {
            barrier: Barrier::new(socket_workers + 1),
            failure: OnceLock::new(),
        })
    }

    /// Waits for all. Gives back why io_uring is not used, if it is not.
    fn reach(&self, failure: Option<String>) -> Option<&str> {
        if let Some(failure) = failure {
            self.failure.get_or_init(|| failure);
        }
        self.barrier.wait();
        self.failure.get().map(String::as_str)
    }
}

/// Where a socket worker will wait.
pub(crate) type SocketWait = WaitHandle<Waiting>;

/// What it will wait at, as far as that is known.
pub(crate) enum Waiting {
    Mio(mio::Poll),
    #[cfg(target_os = "linux")]
    IoUring(RingWaker),
    #[cfg(target_os = "linux")]
    Auto(RingWaker, Arc<Agreement>),
}

/// What a worker waits at, when all have agreed.
#[cfg_attr(
    target_os = "linux",
    expect(clippy::large_enum_variant, reason = "there is one per worker, once")
)]
enum Settled {
    Mio(mio::Poll),
    #[cfg(target_os = "linux")]
    IoUring(Ring),
}

impl Waiting {
    fn settle(self, sockets: &[UdpSocket], config: &NetworkConfig) -> anyhow::Result<Settled> {
        Ok(match self {
            Self::Mio(poll) => Settled::Mio(poll),
            #[cfg(target_os = "linux")]
            Self::IoUring(waker) => {
                Settled::IoUring(socket_worker::uring::ring(sockets, &waker, config)?)
            }
            #[cfg(target_os = "linux")]
            Self::Auto(waker, agreement) => {
                let ring = socket_worker::uring::ring(sockets, &waker, config);
                match agreed(ring, &agreement) {
                    Some(ring) => Settled::IoUring(ring),
                    None => Settled::Mio(socket_worker::mio::poll_with(&waker)?),
                }
            }
        })
    }
}

/// A place for each worker to wait.
///
/// # Errors
/// If the process has too many open files.
pub(crate) fn wait_handles(backend: &Chosen, workers: usize) -> anyhow::Result<Vec<SocketWait>> {
    (0..workers).map(|_| wait_handle(backend)).collect()
}

fn wait_handle(backend: &Chosen) -> anyhow::Result<SocketWait> {
    match backend {
        Chosen::Mio(_) | Chosen::Frames => {
            let poll = mio::Poll::new().context("cannot make a poll")?;
            let waker = mio::Waker::new(poll.registry(), socket_worker::mio::WAKER)
                .context("cannot make a waker")?;
            let wake = move || log_wake_error(waker.wake());
            Ok(WaitHandle::new(Waiting::Mio(poll), wake))
        }
        #[cfg(target_os = "linux")]
        Chosen::IoUring => at_ring(Waiting::IoUring),
        #[cfg(target_os = "linux")]
        Chosen::Auto(agreement) => at_ring(|waker| Waiting::Auto(waker, Arc::clone(agreement))),
    }
}

#[cfg(target_os = "linux")]
fn at_ring(waiting: impl FnOnce(RingWaker) -> Waiting) -> anyhow::Result<SocketWait> {
    let waker = RingWaker::new().context("cannot make a waker")?;
    let other_end = waker.clone();
    let wake = move || log_wake_error(other_end.wake());
    Ok(WaitHandle::new(waiting(waker), wake))
}

/// Runs the event loop of a worker, and of its guest; returns only on a fatal error.
///
/// # Errors
/// If its sockets cannot be used at all.
pub(crate) fn run(
    handle: SocketWait,
    worker: (SocketWorker, Host),
    (sockets, queues): (&[UdpSocket], Queues),
    clock: Clock,
    config: &NetworkConfig,
    last_rounds: LastRounds,
) -> anyhow::Result<()> {
    let WaitHandle { source, gate, .. } = handle;
    match source.settle(sockets, config)? {
        Settled::Mio(poll) => {
            let traffic = (sockets, queues);
            socket_worker::mio::run(worker, traffic, poll, &gate, clock, config, last_rounds)
        }
        #[cfg(target_os = "linux")]
        Settled::IoUring(ring) => {
            socket_worker::uring::run(worker, ring, sockets, &gate, clock, config, last_rounds)
        }
    }
}

/// This worker's ring, if all workers have one.
#[cfg(target_os = "linux")]
fn agreed(ring: Result<Ring, Unsupported>, agreement: &Agreement) -> Option<Ring> {
    let (ring, failure) = match ring {
        Ok(ring) => (Some(ring), None),
        Err(reason) => (None, Some(reason.to_string())),
    };
    match agreement.reach(failure) {
        None => ring,
        Some(_) => None,
    }
}

fn log_wake_error(result: io::Result<()>) {
    if let Err(error) = result {
        log::error!("cannot wake a worker: {error}");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;

    fn agree(failures: &[Option<&str>]) -> (Vec<bool>, String) {
        let agreement = Agreement::new(failures.len());
        let chosen = Chosen::Auto(Arc::clone(&agreement));
        thread::scope(|scope| {
            let workers: Vec<_> = failures
                .iter()
                .map(|failure| scope.spawn(|| agreement.reach(failure.map(Into::into)).is_none()))
                .collect();
            let told = chosen.settle();
            let took = workers.into_iter().map(|it| it.join().unwrap());
            (took.collect(), told)
        })
    }

    #[test]
    fn either_all_workers_take_io_uring_or_none_does() {
        assert_eq!(agree(&[None]), (vec![true], "io_uring".into()));
        assert_eq!(agree(&[None; 3]), (vec![true; 3], "io_uring".into()));
        let one_without = agree(&[None, Some("no memory"), None]);
        assert_eq!(one_without, (vec![false; 3], "mio (no memory)".into()));
    }
}
