//! A worker that owns a shard and nothing else (the split arrangement): it answers batches of
//! requests and looks after its swarms.

use std::time::Duration;

use aquatic_channel::{Pacer, Responder, Sleeper, Wait};
use aquatic_daemon::clock::Clock;
use crossbeam_utils::sync::Parker;

use crate::Now;
use crate::config::NetworkConfig;
use crate::messages::Batch;
use crate::shard::Shard;
use crate::socket_worker::answer_all;

/// A swarm worker without its thread. Pure.
pub struct SwarmWorker {
    shard: Shard,
    askers: Vec<Responder<Batch>>,
}

impl SwarmWorker {
    /// The owner of `shard`, for everyone who may ask about it.
    #[must_use]
    pub fn new(shard: Shard, askers: Vec<Responder<Batch>>) -> Self {
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
    pub fn run(
        mut self,
        parker: &Parker,
        sleeper: &Sleeper,
        clock: Clock,
        config: &NetworkConfig,
    ) -> ! {
        let timeout = Duration::from_millis(config.poll_timeout_ms);
        let mut pacer = Pacer::new(Duration::from_micros(config.batch_wait_us));
        loop {
            let now = Now::read(clock);
            let answered = self.answer(now);
            if self.background(now) {
                continue;
            }
            match pacer.wait(now.micros, answered) {
                Wait::Doze(time) => std::thread::sleep(time),
                Wait::Sleep => {
                    let _drowse = sleeper.drowse();
                    if !self.has_requests() {
                        parker.park_timeout(timeout);
                    }
                }
            }
        }
    }
}
