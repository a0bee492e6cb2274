//! A worker that owns a shard and nothing else (the split arrangement): it answers batches of
//! requests and looks after its swarms.

use std::mem;
use std::thread;
use std::time::Duration;

use aquatic_channel::{Bell, Pacer, Responder, Sleeper, Wait, bell};
use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::Supervisor;
use crossbeam_utils::sync::Parker;

use crate::router::{Shard, answer_all};

/// A swarm worker without its thread. Pure.
pub struct SwarmWorker<S: Shard> {
    shard: S,
    askers: Vec<Responder<S::Batch>>,
}

impl<S: Shard> SwarmWorker<S> {
    /// The owner of `shard`, for everyone who may ask about it.
    #[must_use]
    pub fn new(shard: S, askers: Vec<Responder<S::Batch>>) -> Self {
        Self { shard, askers }
    }

    /// Answers everything that has been asked, and returns how many batches that were.
    pub fn answer(&mut self, now: Now) -> usize {
        let Self { shard, askers } = self;
        askers
            .iter_mut()
            .map(|asker| answer_all(now, shard, asker))
            .sum()
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn background(&mut self, now: Now) -> bool {
        self.shard.background(now)
    }

    /// Whether something has been asked since the last [`Self::answer`].
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.askers.iter().any(Responder::has_requests)
    }

    /// Works for ever.
    fn run(mut self, rest: &Rest, clock: Clock, pauses: Pauses) -> ! {
        let mut pacer = Pacer::new(pauses.batch_wait);
        let mut arrivals = 0;
        loop {
            heartbeat::beat();
            let now = Now::read(clock);
            arrivals += self.answer(now);
            if self.background(now) {
                continue;
            }
            let wait = pacer.wait(now.micros, mem::take(&mut arrivals));
            self.rest(wait, rest, pauses.timeout);
        }
    }

    /// Waits, unless something has been asked since the last [`Self::answer`].
    fn rest(&self, wait: Wait, rest: &Rest, timeout: Duration) {
        match wait {
            // Nothing ends a doze, and socket workers would wait for this worker meanwhile.
            Wait::Doze(_) if self.has_requests() => {}
            Wait::Doze(time) => thread::sleep(time),
            Wait::Sleep => {
                let _drowse = rest.sleeper.drowse();
                if !self.has_requests() {
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
    pub fn start<S>(
        self,
        supervisor: &Supervisor,
        clock: Clock,
        pauses: Pauses,
        workers: Vec<SwarmWorker<S>>,
    ) -> anyhow::Result<()>
    where
        S: Shard<Batch: Send> + Send + 'static,
    {
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
    use aquatic_channel::{Requester, exchange};

    use super::*;
    use crate::router::Batch;

    struct Nothing;

    impl Batch for Nothing {
        fn is_full(&self) -> bool {
            false
        }

        fn is_empty(&self) -> bool {
            false
        }
    }

    impl Shard for Nothing {
        type Batch = Self;

        fn answer(&mut self, _: Now, _: &mut Self) {}

        fn background(&mut self, _: Now) -> bool {
            false
        }
    }

    fn worker() -> (SwarmWorker<Nothing>, Requester<Nothing>) {
        let [to, from] = [(); 2].map(|()| bell(|| ()).1);
        let (requester, responder) = exchange(4, to, from);
        (SwarmWorker::new(Nothing, vec![responder]), requester)
    }

    #[test]
    fn never_waits_while_requests_do() {
        const LONG: Duration = Duration::from_secs(30);
        let (mut worker, mut requester) = worker();
        let rest = Rest::new();
        for wait in [Wait::Doze(LONG), Wait::Sleep] {
            assert!(requester.send(Nothing).is_ok());
            let clock = Clock::start();
            worker.rest(wait, &rest, LONG);
            assert!(clock.micros() < 30_000_000, "{wait:?}");
            assert_eq!(worker.answer(Now::default()), 1);
        }
    }
}
