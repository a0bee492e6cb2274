//! A worker that owns a shard and nothing else (the split topology): it answers batches of
//! requests and looks after its swarms.

use std::time::Duration;

use aquatic_channel::{IdleStrategy, Wait, WaitHandle};
use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::Supervisor;
use crossbeam_utils::sync::Parker;

use crate::shard::{Shard, ShardOwner};

/// A swarm worker without its thread. Pure.
pub struct SwarmWorker<S> {
    owner: ShardOwner<S>,
}

impl<S: Shard> SwarmWorker<S> {
    /// A worker that owns a shard.
    #[must_use]
    pub fn new(owner: ShardOwner<S>) -> Self {
        Self { owner }
    }

    /// Processes everything that others have sent, and returns how many batches that were.
    pub fn process(&mut self, now: Now) -> usize {
        self.owner.process(now)
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn maintain(&mut self, now: Now) -> bool {
        self.owner.maintain(now)
    }

    /// Whether others have sent something since the last [`Self::process`].
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.owner.has_pending()
    }

    /// Works for ever.
    fn run(mut self, handle: &SwarmWait, clock: Clock, settings: WaitSettings) -> ! {
        let mut idle = IdleStrategy::new(settings.batch_wait);
        loop {
            heartbeat::beat();
            let now = Now::read(clock);
            idle.note(self.process(now));
            if !self.maintain(now) {
                self.wait(idle.decide(now.micros), handle, settings.timeout);
            }
        }
    }

    /// Waits, unless something has been asked since the last [`Self::process`].
    fn wait(&self, wait: Wait, handle: &SwarmWait, timeout: Duration) {
        let timeout = wait.coalesce(timeout, || self.has_pending());
        let WaitHandle { source, gate, .. } = handle;
        gate.sleep(
            timeout,
            || self.has_pending(),
            |time| source.park_timeout(time),
        );
    }
}

/// How long a worker waits when it has nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitSettings {
    /// When it looks after its timers, if nobody wakes it before.
    pub timeout: Duration,
    /// How long it may be deaf to gather a batch, while it is busy.
    pub batch_wait: Duration,
}

/// Where a swarm worker will wait.
pub type SwarmWait = WaitHandle<Parker>;

/// Places for so many workers to wait.
#[must_use]
pub fn wait_handles(workers: usize) -> Vec<SwarmWait> {
    (0..workers).map(|_| wait_handle()).collect()
}

fn wait_handle() -> SwarmWait {
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    WaitHandle::new(parker, move || unparker.unpark())
}

/// Starts a thread for each of `workers`, of which there must be as many as `handles`. They are
/// called `swarm-0` and so on, after the `prefix`.
///
/// # Errors
/// If the system has no room for a thread.
pub fn start<S: Shard>(
    supervisor: &Supervisor,
    clock: Clock,
    prefix: &str,
    settings: WaitSettings,
    workers: Vec<SwarmWorker<S>>,
    handles: Vec<SwarmWait>,
) -> anyhow::Result<()> {
    for (index, (worker, handle)) in workers.into_iter().zip(handles).enumerate() {
        supervisor.spawn(format!("{prefix}swarm-{index}"), move || {
            worker.run(&handle, clock, settings)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::shard::ShardSource;

    struct Nothing;

    impl Shard for Nothing {
        fn maintain(&mut self, _: Now) -> bool {
            false
        }
    }

    /// Has something as long as nobody has looked at it.
    struct Letter(Arc<AtomicBool>);

    impl ShardSource<Nothing> for Letter {
        fn process(&mut self, _: Now, _: &mut Nothing) -> usize {
            usize::from(self.0.swap(false, Ordering::Relaxed))
        }

        fn has_pending(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn never_waits_while_requests_do() {
        const LONG: Duration = Duration::from_secs(30);
        let letter = Arc::new(AtomicBool::new(false));
        let source = Box::new(Letter(Arc::clone(&letter)));
        let mut worker = SwarmWorker::new(ShardOwner::new(Nothing, vec![source]));
        let handle = wait_handle();
        for wait in [Wait::Coalesce(LONG), Wait::Sleep] {
            letter.store(true, Ordering::Relaxed);
            let clock = Clock::start();
            worker.wait(wait, &handle, LONG);
            assert!(clock.micros() < 30_000_000, "{wait:?}");
            assert_eq!(worker.process(Now::default()), 1);
        }
    }
}
