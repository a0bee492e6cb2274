//! The thread that speaks for a process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aquatic_channel::{SleepGate, WaitHandle};
use aquatic_daemon::clock::{Clock, Now, unix_micros};
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::Finisher;
use tokio::sync::Notify;

use crate::engine::{Engine, Time};
use crate::nats::{AnnounceEnd, Nats};

/// At the end, what shards have to tell and what waits to be published gets so much time.
const LEAVE_MAX: Duration = Duration::from_millis(300);

/// While the bus has no room.
const PAUSE: Duration = Duration::from_millis(5);

/// And announces for a back end, before that, so much more.
const ANNOUNCES_MAX: Duration = Duration::from_secs(5);

/// Where the thread waits; made before it, so that shards know how to wake it.
pub(crate) type Place = WaitHandle<Arc<Notify>>;

pub(crate) fn place() -> Place {
    let notify = Arc::new(Notify::new());
    let source = Arc::clone(&notify);
    WaitHandle::new(source, move || notify.notify_one())
}

/// What the thread runs.
pub(crate) struct Member {
    pub(crate) engine: Engine<Nats>,
    /// Of what publishes announces, if something does.
    pub(crate) announces: Option<AnnounceEnd>,
    pub(crate) clock: Clock,
    pub(crate) notify: Arc<Notify>,
    pub(crate) gate: SleepGate,
}

impl Member {
    /// Works until the process ends.
    ///
    /// # Errors
    /// Never: that there is no connection is none.
    pub(crate) async fn run(mut self, mut finisher: Finisher) -> anyhow::Result<()> {
        while !finisher.is_stopping() {
            heartbeat::beat();
            let next_micros = self.engine.step(self.time());
            self.wait(next_micros).await;
        }
        self.leave().await;
        finisher.finish();
        // The end comes for all threads at once.
        loop {
            heartbeat::beat();
            tokio::time::sleep(heartbeat::INTERVAL).await;
        }
    }

    fn time(&self) -> Time {
        Time {
            now: Now::read(self.clock),
            unix_millis: unix_micros() / 1_000,
        }
    }

    /// Waits for the bus, for shards, or for this time on the daemon's clock.
    async fn wait(&mut self, micros: u64) {
        let until = micros.saturating_sub(self.clock.micros());
        let timeout = Duration::from_micros(until).min(heartbeat::INTERVAL);
        let _asleep = self.gate.prepare_to_sleep();
        if timeout.is_zero() || self.engine.has_pending() {
            // The tasks of the bus need their turn, too.
            tokio::task::yield_now().await;
            return;
        }
        if self.engine.waits_for_shards() {
            // There is something on the bus, for which there is no room.
            let _ = tokio::time::timeout(timeout, self.notify.notified()).await;
            return;
        }
        tokio::select! {
            () = self.notify.notified() => {}
            () = self.engine.bus_mut().ready(timeout) => {}
        }
    }

    /// Waits until the servers have all announces of before, and goes on with everything else.
    async fn finish_announces(&mut self, announces: AnnounceEnd) {
        let mut finished = pin!(announces.finish(ANNOUNCES_MAX));
        loop {
            heartbeat::beat();
            let next_micros = self.engine.step(self.time());
            tokio::select! {
                () = &mut finished => return,
                () = self.wait(next_micros) => {}
            }
        }
    }

    /// Tells the others what they do not know yet, and that this process leaves.
    async fn leave(mut self) {
        if let Some(announces) = self.announces.take() {
            self.finish_announces(announces).await;
        }
        let started = self.clock.elapsed();
        self.engine.collect_at_once();
        loop {
            heartbeat::beat();
            let next_micros = self.engine.step(self.time());
            if self.engine.is_at_rest() || self.clock.elapsed() >= started + LEAVE_MAX {
                break;
            }
            self.wait(next_micros).await;
        }
        // What was published last may leave no room for this.
        let until = self.clock.elapsed() + LEAVE_MAX;
        while !self.engine.leave(self.time()) {
            if self.clock.elapsed() >= until {
                log::debug!("the cluster could not be told that this node leaves");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.engine.into_bus().finish(LEAVE_MAX).await;
    }
}
