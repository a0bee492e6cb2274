//! A worker that owns a shard and nothing else (the split arrangement): it answers batches of
//! requests and looks after its swarms.

use std::mem;
use std::thread;
use std::time::Duration;

use aquatic_channel::{Bell, Pacer, Sleeper, Wait, bell};
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
    fn run(mut self, rest: &Rest, clock: Clock, pauses: Pauses) -> ! {
        let mut pacer = Pacer::new(pauses.batch_wait);
        let mut arrivals = 0;
        loop {
            heartbeat::beat();
            let now = Now::read(clock);
            arrivals += self.process(now);
            if self.maintain(now) {
                continue;
            }
            let wait = pacer.wait(now.micros, mem::take(&mut arrivals));
            self.rest(wait, rest, pauses.timeout);
        }
    }

    /// Waits, unless something has been asked since the last [`Self::process`].
    fn rest(&self, wait: Wait, rest: &Rest, timeout: Duration) {
        match wait {
            // Nothing ends a doze, and socket workers would wait for this worker meanwhile.
            Wait::Doze(_) if self.has_pending() => {}
            Wait::Doze(time) => thread::sleep(time),
            Wait::Sleep => {
                let _drowse = rest.sleeper.drowse();
                if !self.has_pending() {
                    rest.parker.park_timeout(timeout);
                }
            }
        }
    }
}

/// How long a worker waits when it has nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// When it looks after its timers, if nobody wakes it before.
    pub timeout: Duration,
    /// How long it may be deaf to gather a batch, while it is busy.
    pub batch_wait: Duration,
}

/// Where the swarm workers of a tracker will wait, made before their threads so that others know
/// how to wake them.
pub struct SwarmWorkers(Vec<Rest>);

struct Rest {
    parker: Parker,
    sleeper: Sleeper,
    bell: Bell,
}

impl SwarmWorkers {
    /// Places for so many workers.
    #[must_use]
    pub fn prepare(workers: usize) -> Self {
        Self((0..workers).map(|_| Rest::new()).collect())
    }

    /// What wakes the workers, in order.
    pub fn bells(&self) -> impl Iterator<Item = Bell> {
        self.0.iter().map(|rest| rest.bell.clone())
    }

    /// Starts a thread for each of `workers`, of which there must be as many as places.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub fn start<S: Shard>(
        self,
        supervisor: &Supervisor,
        clock: Clock,
        pauses: Pauses,
        workers: Vec<SwarmWorker<S>>,
    ) -> anyhow::Result<()> {
        for (index, (worker, rest)) in workers.into_iter().zip(self.0).enumerate() {
            supervisor.spawn(format!("swarm-{index}"), move || {
                worker.run(&rest, clock, pauses)
            })?;
        }
        Ok(())
    }
}

impl Rest {
    fn new() -> Self {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let (sleeper, bell) = bell(move || unparker.unpark());
        Self {
            parker,
            sleeper,
            bell,
        }
    }
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
        let rest = Rest::new();
        for wait in [Wait::Doze(LONG), Wait::Sleep] {
            letter.store(true, Ordering::Relaxed);
            let clock = Clock::start();
            worker.rest(wait, &rest, LONG);
            assert!(clock.micros() < 30_000_000, "{wait:?}");
            assert_eq!(worker.process(Now::default()), 1);
        }
    }
}
