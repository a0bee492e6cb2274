//! The end of a worker, when the process is about to stop: what is in the batches between workers,
//! and in the outboxes, still leaves.

use std::time::Duration;

use aquatic_daemon::supervisor::Finisher;

use super::Core;

/// So many rounds in which nothing is on its way: the io_uring backend sends what a round has
/// brought in the next one.
const QUIET_ROUNDS: u8 = 3;

/// Finds out when there is nothing left.
#[derive(Debug)]
pub struct LastRounds {
    finisher: Finisher,
    quiet_rounds: u8,
}

impl LastRounds {
    /// For a worker that `finisher` waits for.
    #[must_use]
    pub fn new(finisher: Finisher) -> Self {
        Self {
            finisher,
            quiet_rounds: 0,
        }
    }

    /// To be called in each round of a worker's loop, with the time for which it is going to wait
    /// next and whether answers wait for room. Returns for how long it is to wait.
    pub(super) fn wait(&mut self, core: &mut Core, unsent: bool, timeout: Duration) -> Duration {
        if !self.finisher.is_stopping() {
            return timeout;
        }
        if unsent || core.has_work_on_its_way() {
            self.quiet_rounds = 0;
        } else if self.quiet_rounds == QUIET_ROUNDS {
            self.finisher.finish();
            return timeout;
        } else {
            self.quiet_rounds += 1;
        }
        Duration::ZERO
    }
}
