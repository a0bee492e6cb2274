//! The end of a worker, when the process is about to stop: what is in the batches between workers,
//! and in the outboxes, still leaves. Nothing more is received: it waits in the kernel for the next
//! process if the sockets are [kept](aquatic_daemon::kept_sockets), and its client asks again if
//! they are not.

use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::{FINISH_MAX, Finisher};

use super::SocketWorker;

/// So many rounds in which nothing is on its way: the io_uring backend sends what a round has
/// brought in the next one.
const QUIET_ROUNDS: u8 = 3;

/// Other workers need some time for what they have.
const ROUND_INTERVAL: Duration = Duration::from_millis(1);

/// What a worker does when its loop is over.
#[derive(Debug)]
pub struct LastRounds(Finisher);

impl LastRounds {
    /// For a worker that `finisher` waits for.
    #[must_use]
    pub fn new(finisher: Finisher) -> Self {
        Self(finisher)
    }

    /// Whether it is time for them. To be asked in each round of the loop.
    pub(super) fn have_come(&self) -> bool {
        self.0.is_stopping()
    }

    /// Has everything sent that is on its way, and waits for the end of the process. `send` sends
    /// what the outboxes hold, and says whether some of it waits for room.
    ///
    /// # Errors
    /// Those of `send`.
    pub(super) fn run(
        mut self,
        worker: &mut SocketWorker,
        clock: Clock,
        mut send: impl FnMut(&mut SocketWorker) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        worker.withdraw();
        self.finish(worker, clock, FINISH_MAX, &mut send)?;
        // Its swarms may have to be written down, and others may still have batches for it.
        loop {
            let more = round(worker, clock, &mut send)?;
            if !more {
                thread::sleep(ROUND_INTERVAL);
            }
        }
    }

    /// Until nothing is on its way any more, or it is too late for it.
    fn finish(
        &mut self,
        worker: &mut SocketWorker,
        clock: Clock,
        time_max: Duration,
        send: &mut impl FnMut(&mut SocketWorker) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let until = clock.elapsed() + time_max;
        let mut quiet_rounds = 0;
        while quiet_rounds < QUIET_ROUNDS && clock.elapsed() < until {
            let unsent = send_round(worker, clock, send)?;
            quiet_rounds = match unsent || worker.has_work_on_its_way() {
                true => 0,
                false => quiet_rounds + 1,
            };
            thread::sleep(ROUND_INTERVAL);
        }
        self.0.finish();
        Ok(())
    }
}

/// Processes what others have sent, and sends. Returns whether something waits for room.
fn send_round(
    worker: &mut SocketWorker,
    clock: Clock,
    send: &mut impl FnMut(&mut SocketWorker) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    heartbeat::beat();
    worker.finish(Now::read(clock));
    send(worker)
}

/// The same, and looks after the swarms. Returns whether there is more to do at once.
fn round(
    worker: &mut SocketWorker,
    clock: Clock,
    send: &mut impl FnMut(&mut SocketWorker) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    send_round(worker, clock, send)?;
    Ok(worker.maintain(Now::read(clock)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{announce, connect, split};
    use super::*;

    /// An announce that is in a batch of this worker, and one that another worker has already.
    #[test]
    fn what_is_in_the_batches_is_sent() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        let id = connect(worker);
        announce(worker, id);
        worker.finish(Now::default());
        announce(worker, id);
        let mut last_rounds = LastRounds::new(Finisher::of_a_stop());
        assert!(last_rounds.have_come());
        let (mut rounds, mut sent) = (0, 0);
        let mut send = |worker: &mut SocketWorker| {
            rounds += 1;
            // The other worker is late, and the system has no room at first.
            if rounds == 10 {
                workers.swarm_workers[0].process(Now::default());
            }
            if rounds < 20 {
                return Ok(false);
            }
            sent += worker.outboxes()[0].len();
            worker.outboxes()[0].clear();
            Ok(false)
        };
        // Rounds are what counts here, however long they take.
        let time_max = Duration::from_secs(60);
        last_rounds
            .finish(worker, Clock::start(), time_max, &mut send)
            .unwrap();
        assert_eq!(sent, 2);
    }
}
